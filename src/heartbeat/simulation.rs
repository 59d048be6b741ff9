//! Simulation of senders and a watcher in virtual time, with a seeded impairment between them.
//!
//! Ten minutes take milliseconds and are the same in every run. The effects of the impairment are known
//! exactly, so the watcher must report them exactly.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::{
    BeatSender, BeatSenderConfig, DetectionMethod, FailureDetector, Lifetime, SenderReport, SenderStatus, Watcher,
    WatcherConfig, WatcherEvent,
};
use crate::impair::{CopyOutcome, DecisionKind, Distribution, Impairment, Jitter, PathState, SeededRandom};
use crate::protocol::{Datagram, DatagramActions, DatagramProtocol};
use crate::time::Moment;

const START: Moment = Moment::new(Duration::from_secs(50), Duration::from_secs(1_764_000_000));
const SECOND: Duration = Duration::from_secs(1);

fn failure_detector(method: DetectionMethod) -> FailureDetector {
    FailureDetector { method, slack: Duration::ZERO, rise: 1, fall: 1 }
}

fn config(failure_detector: FailureDetector) -> WatcherConfig {
    WatcherConfig {
        failure_detector,
        forget_after: 86_400 * SECOND,
        max_senders: 10_000,
        ..WatcherConfig::strict(START)
    }
}

/// Sender and its network path to the watcher.
struct SimulatedSender {
    sender: BeatSender,
    actions: DatagramActions<super::BeatEvent>,
    path: PathState,
    /// Sequence numbers that reached the watcher.
    arrived: BTreeSet<u64>,
    duplicates: u64,
    sent: u64,
}

/// Time of arrival, order of sending, index of the sender, and content of a packet.
type InFlightPacket = (Moment, u64, usize, Vec<u8>);

struct Simulation {
    senders: Vec<SimulatedSender>,
    impairment: Impairment,
    watcher: Watcher,
    actions: DatagramActions<WatcherEvent>,
    in_flight: BinaryHeap<Reverse<InFlightPacket>>,
    next_order: u64,
    events: Vec<(Moment, WatcherEvent)>,
}

impl Simulation {
    fn new(
        senders: u32,
        multiplier: u8,
        beats: u64,
        impairment: Impairment,
        failure_detector: FailureDetector,
    ) -> Self {
        let simulated = |number: u32| {
            let config = BeatSenderConfig {
                name: format!("s{number}").into(),
                incarnation: number.into(),
                interval: SECOND,
                multiplier,
                wants_echo: false,
                encoding: super::packet::BeatEncoding::Beat,
                key: None,
            };
            let start = START + Duration::from_millis(u64::from(number) * 7 % 1_000);
            let lifetime = Lifetime::Count(Some(beats));
            SimulatedSender {
                sender: BeatSender::new(config, lifetime, number.into(), start),
                actions: DatagramActions::new(false),
                path: impairment.path_state(number),
                arrived: BTreeSet::new(),
                duplicates: 0,
                sent: 0,
            }
        };
        Self {
            senders: (1..=senders).map(simulated).collect(),
            impairment,
            watcher: Watcher::new(config(failure_detector), &[], START),
            actions: DatagramActions::new(true),
            in_flight: BinaryHeap::new(),
            next_order: 0,
            events: Vec::new(),
        }
    }

    /// Runs until all senders have finished and nothing is in flight.
    fn run(&mut self) {
        let mut now = START;
        while now < START + 100_000 * SECOND {
            self.send_due(now);
            while let Some(Reverse((at, _, sender, bytes))) =
                self.in_flight.peek().filter(|packet| packet.0.0 <= now).cloned()
            {
                self.in_flight.pop();
                let peer = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 10_000 + u16::try_from(sender).expect("few"));
                let datagram = Datagram::timestamped(peer, at, &bytes);
                self.watcher.received(&datagram, now, &mut self.actions);
            }
            self.watcher.woken(now, &mut self.actions);
            self.events.extend(self.actions.events().map(|event| (now, event)));
            let senders = self.senders.iter().filter_map(|simulated| simulated.sender.wake_at()).min();
            let next = [senders, self.in_flight.peek().map(|packet| packet.0.0)].into_iter().flatten().min();
            let Some(next) = next else { return };
            now = next.min(self.watcher.wake_at().expect("a timer")).max(now);
        }
        panic!("the simulation does not end");
    }

    fn send_due(&mut self, now: Moment) {
        for (number, simulated) in self.senders.iter_mut().enumerate() {
            if simulated.sender.wake_at().is_none_or(|wake| wake > now) {
                continue;
            }
            simulated.sender.woken(now, &mut simulated.actions);
            for (outgoing, bytes) in simulated.actions.transmits() {
                // Stop messages always arrive, so that losses before them can be counted.
                let is_bye = bytes.starts_with(b"BYE");
                let verdict = self.impairment.decide(&mut simulated.path, now, bytes.len());
                let delivered = verdict.copies().filter_map(|outcome| match outcome {
                    CopyOutcome::Delivered(effects) => Some(effects.inbound.delay),
                    CopyOutcome::Dropped(_) => None,
                });
                let last = self.impairment.delay + self.impairment.jitter.spread + Duration::from_millis(50);
                let delays: Vec<Duration> = if is_bye { vec![last] } else { delivered.collect() };
                simulated.sent += u64::from(!is_bye);
                if !is_bye && !delays.is_empty() {
                    simulated.arrived.insert(outgoing.ticket);
                    simulated.duplicates += delays.len() as u64 - 1;
                }
                for delay in delays {
                    self.next_order += 1;
                    self.in_flight.push(Reverse((now + delay, self.next_order, number, bytes.to_vec())));
                }
            }
            simulated.actions.clear();
        }
    }

    fn reports(&self) -> BTreeMap<String, SenderReport> {
        let report =
            |(_, record): (usize, &super::sender_state::SenderState)| (record.name.to_string(), record.report(START));
        self.watcher.sender_table().iter().map(report).collect()
    }

    fn down_count(&self) -> usize {
        self.events
            .iter()
            .filter(|(_, event)| matches!(event, WatcherEvent::State { to: SenderStatus::Down, .. }))
            .count()
    }
}

fn heavy_impairment(seed: u64) -> Impairment {
    Impairment {
        loss: "30%".parse().expect("a model"),
        duplicate: "5%".parse().expect("a probability"),
        reorder: "10%".parse().expect("a probability"),
        delay: 2 * SECOND,
        jitter: Jitter { spread: Duration::from_millis(1_900), distribution: Distribution::Uniform },
        ..Impairment::none(seed)
    }
}

#[test]
fn ten_minutes_of_heavy_impairment_are_counted_exactly() {
    let mut simulation =
        Simulation::new(40, 5, 600, heavy_impairment(3), failure_detector(DetectionMethod::Multiplier(None)));
    simulation.run();
    let reports = simulation.reports();
    for (number, simulated) in (1..).zip(&simulation.senders) {
        let counts = reports[&format!("s{number}")].counts;
        let arrived = simulated.arrived.len() as u64;
        assert_eq!((simulated.sent, counts.beats, counts.lost), (600, arrived, 600 - arrived), "s{number}: {counts:?}");
        assert_eq!((counts.duplicates, counts.too_late), (simulated.duplicates, 0), "s{number}");
        assert!(counts.lost > 120 && counts.reordered > 0 && counts.duplicates > 0, "{counts:?}");
    }
    assert!(reports.values().all(|report| report.state == SenderStatus::Stopped));
}

#[test]
fn false_down_reports_match_the_loss_runs_exactly() {
    let jitter = Jitter { spread: Duration::from_millis(90), distribution: Distribution::Uniform };
    let impairment = Impairment {
        delay: Duration::from_millis(100),
        jitter,
        reorder: "0".parse().expect("none"),
        ..heavy_impairment(4)
    };
    let mut simulation = Simulation::new(40, 5, 600, impairment, failure_detector(DetectionMethod::Multiplier(None)));
    simulation.run();
    // Two beats with four lost ones between them arrive less than five intervals plus the jitter apart, so only
    // a longer run of losses makes a sender down.
    let down_runs = |simulated: &SimulatedSender| {
        let mut run_length = 0;
        (1..=600_u64)
            .filter(|number| {
                run_length = if simulated.arrived.contains(number) { 0 } else { run_length + 1 };
                run_length == 5
            })
            .count()
    };
    let allowed: usize = simulation.senders.iter().map(down_runs).sum();
    assert_eq!(simulation.down_count(), allowed);
    // 0.7 · 0.3⁵ of 24,000 beats start such a run.
    assert!((15..70).contains(&allowed), "{allowed}");
}

#[test]
fn without_loss_no_sender_is_reported_down() {
    let jitter = Jitter { spread: Duration::from_millis(90), distribution: Distribution::Uniform };
    let impairment = Impairment {
        loss: "0".parse().expect("a model"),
        delay: Duration::from_millis(100),
        jitter,
        ..heavy_impairment(5)
    };
    for method in [DetectionMethod::Multiplier(None), DetectionMethod::Multiplier(Some(2))] {
        let mut simulation = Simulation::new(40, 3, 600, impairment.clone(), failure_detector(method));
        simulation.run();
        assert_eq!(simulation.down_count(), 0, "{method:?}");
        assert!(simulation.reports().values().all(|report| report.counts.lost == 0));
    }
}

#[test]
fn the_same_seed_makes_the_same_ten_minutes() {
    let events = || {
        let mut simulation =
            Simulation::new(5, 3, 600, heavy_impairment(6), failure_detector(DetectionMethod::Multiplier(None)));
        simulation.run();
        simulation.events
    };
    assert_eq!(events(), events());
}

#[test]
fn a_killed_sender_is_down_exactly_at_its_deadline() {
    let mut simulation =
        Simulation::new(1, 3, 10, Impairment::none(1), failure_detector(DetectionMethod::Multiplier(None)));
    // Killed: no stop message reaches the watcher.
    let simulated = &mut simulation.senders[0];
    simulated.sender.woken(START + SECOND, &mut simulated.actions);
    let line = simulated.actions.transmits().next().expect("its first beat").1.to_vec();
    let at = START + SECOND;
    simulation.senders.clear();
    simulation.in_flight.push(Reverse((at, 0, 0, line)));
    simulation.run();
    let mut now = at;
    while simulation.watcher.count_in_state(SenderStatus::Down) == 0 {
        now = simulation.watcher.wake_at().expect("a timer");
        simulation.watcher.woken(now, &mut simulation.actions);
    }
    assert_eq!(now - at, 3 * SECOND);
}

#[test]
fn corrupted_beats_never_make_a_watcher_or_a_sender_panic() {
    let random = SeededRandom::new(4, 1);
    let mut simulation =
        Simulation::new(1, 3, 1, Impairment::none(1), failure_detector(DetectionMethod::Multiplier(None)));
    let line = b"BEAT s1 0000000000000001 7 1764000000000 1000 3 echo".to_vec();
    for number in 0..30_000_u64 {
        // A corrupted copy of a real beat gets further than noise would.
        let draw = random.draw(DecisionKind::CORRUPT_BIT, number);
        let mut bytes = line.clone();
        let at = usize::try_from(draw % bytes.len() as u64).expect("small");
        bytes[at] = draw.to_le_bytes()[7];
        bytes.truncate(usize::try_from(draw >> 32 & 63).expect("small"));
        let now = START + Duration::from_millis(number);
        let peer = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 9);
        let datagram = Datagram::timestamped(peer, now, &bytes);
        simulation.watcher.received(&datagram, now, &mut simulation.actions);
        let echoed: usize = simulation.actions.transmits().map(|(_, echo)| echo.len()).sum();
        assert!(echoed <= bytes.len());
        simulation.actions.clear();
        simulation.watcher.woken(now, &mut simulation.actions);
        let simulated = &mut simulation.senders[0];
        simulated.sender.received(&datagram, now, &mut simulated.actions);
    }
    assert_eq!(simulation.watcher.counters().received, 30_000);
}
