//! Senders and a watcher in virtual time, with seeded weather between them.
//!
//! Ten minutes take milliseconds and come out the same every time. What the weather did is known
//! exactly, so what the watcher says of it must be exact as well.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::{Beater, Detect, Fact, Lifetime, Patience, Promise, Rules, SenderReport, State, Watcher};
use crate::conversation::{Datagram, DatagramActions, DatagramProtocol};
use crate::impair::{CopyOutcome, DecisionKind, Distribution, Impairment, Jitter, PathState, SeededRandom};
use crate::time::Moment;

const START: Moment = Moment::new(Duration::from_secs(50), Duration::from_secs(1_764_000_000));
const SECOND: Duration = Duration::from_secs(1);

fn patience(detect: Detect) -> Patience {
    Patience { detect, slack: Duration::ZERO, rise: 1, fall: 1 }
}

fn rules(patience: Patience) -> Rules {
    Rules { patience, forget: 86_400 * SECOND, most: 10_000, ..Rules::strict(START) }
}

/// A sender and its way to the watcher.
struct Way {
    beater: Beater,
    post: DatagramActions<super::BeatFact>,
    path: PathState,
    /// The numbers that reached the watcher.
    arrived: BTreeSet<u64>,
    copies: u64,
    sent: u64,
}

/// When it arrives, its order, on which way, and what it is.
type Carried = (Moment, u64, usize, Vec<u8>);

struct World {
    ways: Vec<Way>,
    weather: Impairment,
    watcher: Watcher,
    post: DatagramActions<Fact>,
    sky: BinaryHeap<Reverse<Carried>>,
    order: u64,
    facts: Vec<(Moment, Fact)>,
}

impl World {
    fn new(senders: u32, multiplier: u8, beats: u64, weather: Impairment, patience: Patience) -> Self {
        let way = |number: u32| {
            let promise = Promise {
                name: format!("s{number}").into(),
                incarnation: number.into(),
                interval: SECOND,
                multiplier,
                echo: false,
                key: None,
            };
            let start = START + Duration::from_millis(u64::from(number) * 7 % 1_000);
            let lifetime = Lifetime::Count(Some(beats));
            Way {
                beater: Beater::new(promise, lifetime, number.into(), start),
                post: DatagramActions::new(false),
                path: weather.path_state(number),
                arrived: BTreeSet::new(),
                copies: 0,
                sent: 0,
            }
        };
        Self {
            ways: (1..=senders).map(way).collect(),
            weather,
            watcher: Watcher::new(rules(patience), &[], START),
            post: DatagramActions::new(true),
            sky: BinaryHeap::new(),
            order: 0,
            facts: Vec::new(),
        }
    }

    /// Lets it all happen until nobody says anything and nothing is on its way.
    fn run(&mut self) {
        let mut now = START;
        while now < START + 100_000 * SECOND {
            self.send(now);
            while let Some(Reverse((at, _, way, bytes))) = self.sky.peek().filter(|carried| carried.0.0 <= now).cloned()
            {
                self.sky.pop();
                let peer = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 10_000 + u16::try_from(way).expect("few"));
                let datagram = Datagram::timestamped(peer, at, &bytes);
                self.watcher.received(&datagram, now, &mut self.post);
            }
            self.watcher.woken(now, &mut self.post);
            self.facts.extend(self.post.events().map(|fact| (now, fact)));
            let senders = self.ways.iter().filter_map(|way| way.beater.wake_at()).min();
            let next = [senders, self.sky.peek().map(|carried| carried.0.0)].into_iter().flatten().min();
            let Some(next) = next else { return };
            now = next.min(self.watcher.wake_at().expect("it ticks")).max(now);
        }
        panic!("it does not end");
    }

    fn send(&mut self, now: Moment) {
        for (number, way) in self.ways.iter_mut().enumerate() {
            if way.beater.wake_at().is_none_or(|wake| wake > now) {
                continue;
            }
            way.beater.woken(now, &mut way.post);
            for (outgoing, bytes) in way.post.transmits() {
                // The last word gets through: what is lost before it can be counted then.
                let is_bye = bytes.starts_with(b"BYE");
                let verdict = self.weather.decide(&mut way.path, now, bytes.len());
                let passed = verdict.copies().filter_map(|fate| match fate {
                    CopyOutcome::Delivered(passage) => Some(passage.inbound.delay),
                    CopyOutcome::Dropped(_) => None,
                });
                let last = self.weather.delay + self.weather.jitter.spread + Duration::from_millis(50);
                let delays: Vec<Duration> = if is_bye { vec![last] } else { passed.collect() };
                way.sent += u64::from(!is_bye);
                if !is_bye && !delays.is_empty() {
                    way.arrived.insert(outgoing.ticket);
                    way.copies += delays.len() as u64 - 1;
                }
                for delay in delays {
                    self.order += 1;
                    self.sky.push(Reverse((now + delay, self.order, number, bytes.to_vec())));
                }
            }
            way.post.clear();
        }
    }

    fn reports(&self) -> BTreeMap<String, SenderReport> {
        let report = |(_, record): (usize, &super::record::Record)| (record.name.to_string(), record.report(START));
        self.watcher.crowd().iter().map(report).collect()
    }

    fn downs(&self) -> usize {
        self.facts.iter().filter(|(_, fact)| matches!(fact, Fact::State { to: State::Down, .. })).count()
    }
}

fn storm(seed: u64) -> Impairment {
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
fn ten_minutes_of_storm_are_accounted_for_exactly() {
    let mut world = World::new(40, 5, 600, storm(3), patience(Detect::Times(None)));
    world.run();
    let reports = world.reports();
    for (number, way) in (1..).zip(&world.ways) {
        let counts = reports[&format!("s{number}")].counts;
        let arrived = way.arrived.len() as u64;
        assert_eq!((way.sent, counts.beats, counts.lost), (600, arrived, 600 - arrived), "s{number}: {counts:?}");
        assert_eq!((counts.duplicates, counts.too_late), (way.copies, 0), "s{number}");
        assert!(counts.lost > 120 && counts.reordered > 0 && counts.duplicates > 0, "{counts:?}");
    }
    assert!(reports.values().all(|report| report.state == State::Stopped));
}

#[test]
fn nobody_is_declared_dead_beyond_what_chance_allows() {
    let jitter = Jitter { spread: Duration::from_millis(90), distribution: Distribution::Uniform };
    let weather =
        Impairment { delay: Duration::from_millis(100), jitter, reorder: "0".parse().expect("none"), ..storm(4) };
    let mut world = World::new(40, 5, 600, weather, patience(Detect::Times(None)));
    world.run();
    // Two beats that reach the watcher with four lost ones between them are less than five intervals
    // and the jitter apart; only a longer row of losses is a death.
    let rows = |way: &Way| {
        let mut row = 0;
        (1..=600_u64)
            .filter(|number| {
                row = if way.arrived.contains(number) { 0 } else { row + 1 };
                row == 5
            })
            .count()
    };
    let allowed: usize = world.ways.iter().map(rows).sum();
    assert_eq!(world.downs(), allowed);
    // 0.7 · 0.3⁵ of 24,000 beats begin such a row.
    assert!((15..70).contains(&allowed), "{allowed}");
}

#[test]
fn without_loss_nobody_is_late_let_alone_dead() {
    let jitter = Jitter { spread: Duration::from_millis(90), distribution: Distribution::Uniform };
    let weather =
        Impairment { loss: "0".parse().expect("a model"), delay: Duration::from_millis(100), jitter, ..storm(5) };
    for detect in [Detect::Times(None), Detect::Times(Some(2)), Detect::phi(8.0)] {
        let mut world = World::new(40, 3, 600, weather.clone(), patience(detect));
        world.run();
        assert_eq!(world.downs(), 0, "{detect:?}");
        assert!(world.reports().values().all(|report| report.counts.lost == 0));
    }
}

#[test]
fn the_same_seed_makes_the_same_ten_minutes() {
    let facts = || {
        let mut world = World::new(5, 3, 600, storm(6), patience(Detect::Times(None)));
        world.run();
        world.facts
    };
    assert_eq!(facts(), facts());
}

#[test]
fn a_killed_sender_is_dead_at_its_deadline_and_not_before() {
    let mut world = World::new(1, 3, 10, Impairment::none(1), patience(Detect::Times(None)));
    // Killed: its goodbyes never reach anybody.
    let way = &mut world.ways[0];
    way.beater.woken(START + SECOND, &mut way.post);
    let line = way.post.transmits().next().expect("its first beat").1.to_vec();
    let at = START + SECOND;
    world.ways.clear();
    world.sky.push(Reverse((at, 0, 0, line)));
    world.run();
    let mut now = at;
    while world.watcher.in_state(State::Down) == 0 {
        now = world.watcher.wake_at().expect("it ticks");
        world.watcher.woken(now, &mut world.post);
    }
    assert_eq!(now - at, 3 * SECOND);
}

#[test]
fn a_watcher_and_a_sender_survive_any_octets() {
    let dice = SeededRandom::new(4, 1);
    let mut world = World::new(1, 3, 1, Impairment::none(1), patience(Detect::Times(None)));
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
        world.watcher.received(&datagram, now, &mut world.post);
        let answered: usize = world.post.transmits().map(|(_, echo)| echo.len()).sum();
        assert!(answered <= bytes.len());
        world.post.clear();
        world.watcher.woken(now, &mut world.post);
        let way = &mut world.ways[0];
        way.beater.received(&datagram, now, &mut way.post);
    }
    assert_eq!(world.watcher.tally().received, 30_000);
}
