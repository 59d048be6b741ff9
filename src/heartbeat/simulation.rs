//! Senders and a watcher in virtual time, with seeded weather between them.
//!
//! Ten minutes take milliseconds and come out the same every time. What the weather did is known
//! exactly, so what the watcher says of it must be exact as well.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::{
    BeatSender, BeatSenderConfig, DetectionMethod, FailureDetector, Lifetime, Liveness, SenderReport, Watcher,
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

/// A sender and its way to the watcher.
struct SimulatedSender {
    sender: BeatSender,
    actions: DatagramActions<super::BeatEvent>,
    path: PathState,
    /// The numbers that reached the watcher.
    arrived: BTreeSet<u64>,
    duplicates: u64,
    sent: u64,
}

/// When it arrives, its order, on which way, and what it is.
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
        let way = |number: u32| {
            let promise = BeatSenderConfig {
                name: format!("s{number}").into(),
                incarnation: number.into(),
                interval: SECOND,
                multiplier,
                wants_echo: false,
                key: None,
            };
            let start = START + Duration::from_millis(u64::from(number) * 7 % 1_000);
            let lifetime = Lifetime::Count(Some(beats));
            SimulatedSender {
                sender: BeatSender::new(promise, lifetime, number.into(), start),
                actions: DatagramActions::new(false),
                path: impairment.path_state(number),
                arrived: BTreeSet::new(),
                duplicates: 0,
                sent: 0,
            }
        };
        Self {
            senders: (1..=senders).map(way).collect(),
            impairment,
            watcher: Watcher::new(config(failure_detector), &[], START),
            actions: DatagramActions::new(true),
            in_flight: BinaryHeap::new(),
            next_order: 0,
            events: Vec::new(),
        }
    }

    /// Lets it all happen until nobody says anything and nothing is on its way.
    fn run(&mut self) {
        let mut now = START;
        while now < START + 100_000 * SECOND {
            self.send_due(now);
            while let Some(Reverse((at, _, way, bytes))) =
                self.in_flight.peek().filter(|carried| carried.0.0 <= now).cloned()
            {
                self.in_flight.pop();
                let peer = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 10_000 + u16::try_from(way).expect("few"));
                let datagram = Datagram::timestamped(peer, at, &bytes);
                self.watcher.received(&datagram, now, &mut self.actions);
            }
            self.watcher.woken(now, &mut self.actions);
            self.events.extend(self.actions.events().map(|fact| (now, fact)));
            let senders = self.senders.iter().filter_map(|way| way.sender.wake_at()).min();
            let next = [senders, self.in_flight.peek().map(|carried| carried.0.0)].into_iter().flatten().min();
            let Some(next) = next else { return };
            now = next.min(self.watcher.wake_at().expect("it ticks")).max(now);
        }
        panic!("it does not end");
    }

    fn send_due(&mut self, now: Moment) {
        for (number, way) in self.senders.iter_mut().enumerate() {
            if way.sender.wake_at().is_none_or(|wake| wake > now) {
                continue;
            }
            way.sender.woken(now, &mut way.actions);
            for (outgoing, bytes) in way.actions.transmits() {
                // The last word gets through: what is lost before it can be counted then.
                let is_bye = bytes.starts_with(b"BYE");
                let verdict = self.impairment.decide(&mut way.path, now, bytes.len());
                let passed = verdict.copies().filter_map(|fate| match fate {
                    CopyOutcome::Delivered(passage) => Some(passage.inbound.delay),
                    CopyOutcome::Dropped(_) => None,
                });
                let last = self.impairment.delay + self.impairment.jitter.spread + Duration::from_millis(50);
                let delays: Vec<Duration> = if is_bye { vec![last] } else { passed.collect() };
                way.sent += u64::from(!is_bye);
                if !is_bye && !delays.is_empty() {
                    way.arrived.insert(outgoing.ticket);
                    way.duplicates += delays.len() as u64 - 1;
                }
                for delay in delays {
                    self.next_order += 1;
                    self.in_flight.push(Reverse((now + delay, self.next_order, number, bytes.to_vec())));
                }
            }
            way.actions.clear();
        }
    }

    fn reports(&self) -> BTreeMap<String, SenderReport> {
        let report =
            |(_, record): (usize, &super::sender_state::SenderState)| (record.name.to_string(), record.report(START));
        self.watcher.sender_table().iter().map(report).collect()
    }

    fn down_count(&self) -> usize {
        self.events.iter().filter(|(_, fact)| matches!(fact, WatcherEvent::State { to: Liveness::Down, .. })).count()
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
    let mut world =
        Simulation::new(40, 5, 600, heavy_impairment(3), failure_detector(DetectionMethod::Multiplier(None)));
    world.run();
    let reports = world.reports();
    for (number, way) in (1..).zip(&world.senders) {
        let counts = reports[&format!("s{number}")].counts;
        let arrived = way.arrived.len() as u64;
        assert_eq!((way.sent, counts.beats, counts.lost), (600, arrived, 600 - arrived), "s{number}: {counts:?}");
        assert_eq!((counts.duplicates, counts.too_late), (way.duplicates, 0), "s{number}");
        assert!(counts.lost > 120 && counts.reordered > 0 && counts.duplicates > 0, "{counts:?}");
    }
    assert!(reports.values().all(|report| report.state == Liveness::Stopped));
}

#[test]
fn false_down_reports_match_the_loss_runs_exactly() {
    let jitter = Jitter { spread: Duration::from_millis(90), distribution: Distribution::Uniform };
    let weather = Impairment {
        delay: Duration::from_millis(100),
        jitter,
        reorder: "0".parse().expect("none"),
        ..heavy_impairment(4)
    };
    let mut world = Simulation::new(40, 5, 600, weather, failure_detector(DetectionMethod::Multiplier(None)));
    world.run();
    // Two beats that reach the watcher with four lost ones between them are less than five intervals
    // and the jitter apart; only a longer row of losses is a death.
    let rows = |way: &SimulatedSender| {
        let mut row = 0;
        (1..=600_u64)
            .filter(|number| {
                row = if way.arrived.contains(number) { 0 } else { row + 1 };
                row == 5
            })
            .count()
    };
    let allowed: usize = world.senders.iter().map(rows).sum();
    assert_eq!(world.down_count(), allowed);
    // 0.7 · 0.3⁵ of 24,000 beats begin such a row.
    assert!((15..70).contains(&allowed), "{allowed}");
}

#[test]
fn without_loss_no_sender_is_reported_down() {
    let jitter = Jitter { spread: Duration::from_millis(90), distribution: Distribution::Uniform };
    let weather = Impairment {
        loss: "0".parse().expect("a model"),
        delay: Duration::from_millis(100),
        jitter,
        ..heavy_impairment(5)
    };
    for detect in [DetectionMethod::Multiplier(None), DetectionMethod::Multiplier(Some(2)), DetectionMethod::phi(8.0)] {
        let mut world = Simulation::new(40, 3, 600, weather.clone(), failure_detector(detect));
        world.run();
        assert_eq!(world.down_count(), 0, "{detect:?}");
        assert!(world.reports().values().all(|report| report.counts.lost == 0));
    }
}

#[test]
fn the_same_seed_makes_the_same_ten_minutes() {
    let facts = || {
        let mut world =
            Simulation::new(5, 3, 600, heavy_impairment(6), failure_detector(DetectionMethod::Multiplier(None)));
        world.run();
        world.events
    };
    assert_eq!(facts(), facts());
}

#[test]
fn a_killed_sender_is_down_exactly_at_its_deadline() {
    let mut world = Simulation::new(1, 3, 10, Impairment::none(1), failure_detector(DetectionMethod::Multiplier(None)));
    // Killed: its goodbyes never reach anybody.
    let way = &mut world.senders[0];
    way.sender.woken(START + SECOND, &mut way.actions);
    let line = way.actions.transmits().next().expect("its first beat").1.to_vec();
    let at = START + SECOND;
    world.senders.clear();
    world.in_flight.push(Reverse((at, 0, 0, line)));
    world.run();
    let mut now = at;
    while world.watcher.count_in_state(Liveness::Down) == 0 {
        now = world.watcher.wake_at().expect("it ticks");
        world.watcher.woken(now, &mut world.actions);
    }
    assert_eq!(now - at, 3 * SECOND);
}

#[test]
fn a_watcher_and_a_sender_survive_any_bytes() {
    let dice = SeededRandom::new(4, 1);
    let mut world = Simulation::new(1, 3, 1, Impairment::none(1), failure_detector(DetectionMethod::Multiplier(None)));
    let line = b"BEAT s1 0000000000000001 7 1764000000000 1000 3 echo".to_vec();
    for number in 0..30_000_u64 {
        // A damaged copy of a real beat gets further than noise would.
        let throw = dice.draw(DecisionKind::CORRUPT_BIT, number);
        let mut bytes = line.clone();
        let at = usize::try_from(throw % bytes.len() as u64).expect("small");
        bytes[at] = throw.to_le_bytes()[7];
        bytes.truncate(usize::try_from(throw >> 32 & 63).expect("small"));
        let now = START + Duration::from_millis(number);
        let peer = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 9);
        let datagram = Datagram::timestamped(peer, now, &bytes);
        world.watcher.received(&datagram, now, &mut world.actions);
        let answered: usize = world.actions.transmits().map(|(_, echo)| echo.len()).sum();
        assert!(answered <= bytes.len());
        world.actions.clear();
        world.watcher.woken(now, &mut world.actions);
        let way = &mut world.senders[0];
        way.sender.received(&datagram, now, &mut way.actions);
    }
    assert_eq!(world.watcher.counters().received, 30_000);
}
