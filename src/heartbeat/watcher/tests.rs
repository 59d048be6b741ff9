//! A watcher and the datagrams that reach it.

use super::Watcher;
use crate::conversation::{Datagram, DatagramActions, DatagramProtocol as _};
use crate::heartbeat::beat::{Beat, Kind, Line};
use crate::heartbeat::fact::{Fact, Refusal, State};
use crate::heartbeat::kept::{Kept, KeptSender, VERSION};
use crate::heartbeat::rules::Rules;
use crate::seal::MacKey;
use crate::time::Moment;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

const START: Moment = Moment::new(Duration::from_secs(1_000), Duration::from_secs(1_764_000_000));
const SECOND: Duration = Duration::from_secs(1);

pub fn rules() -> Rules {
    Rules::strict(START)
}

fn peer(port: u16) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)
}

struct Bench {
    watcher: Watcher,
    post: DatagramActions<Fact>,
    now: Moment,
}

impl Bench {
    fn new(rules: Rules, expected: &[&str]) -> Self {
        let expected: Vec<Arc<str>> = expected.iter().map(|name| Arc::from(*name)).collect();
        Self { watcher: Watcher::new(rules, &expected, START), post: DatagramActions::new(true), now: START }
    }

    /// Lets the loop run until then, woken whenever it asks to be.
    fn until(&mut self, second: f64) {
        let end = START + Duration::from_secs_f64(second);
        while let Some(wake) = self.watcher.wake_at().filter(|wake| *wake <= end) {
            self.now = wake.max(self.now);
            self.watcher.woken(self.now, &mut self.post);
        }
        self.now = end;
    }

    fn hear(&mut self, bytes: &[u8]) {
        self.hear_from(peer(5_000), self.now, bytes);
    }

    /// A datagram with the kernel's stamp `at`, read now.
    fn hear_from(&mut self, peer: SocketAddr, at: Moment, bytes: &[u8]) {
        let truncated = bytes.len() > 512;
        let datagram = Datagram { truncated, ..Datagram::timestamped(peer, at, bytes) };
        self.watcher.received(&datagram, self.now, &mut self.post);
    }

    fn beat(&mut self, name: &str, seq: u64) {
        let line = format!("BEAT {name} 1 {seq} {} 1000 3", self.now.wall().as_millis());
        self.hear(line.as_bytes());
    }

    fn facts(&mut self) -> Vec<Fact> {
        self.post.events().filter(|fact| !matches!(fact, Fact::Beat { .. })).collect()
    }

    fn changes(&mut self) -> Vec<(String, State)> {
        let change = |fact| if let Fact::State { name, to, .. } = fact { Some((name.to_string(), to)) } else { None };
        self.facts().into_iter().filter_map(change).collect()
    }

    fn kept(&self) -> Kept {
        let mut records: Vec<_> = self.watcher.crowd().iter().map(|(_, record)| record).collect();
        records.sort_by_key(|record| record.name.clone());
        let senders = records.into_iter().filter_map(KeptSender::of).collect();
        Kept { version: VERSION, saved_ms: 0, senders, missed: Vec::new() }
    }
}

#[test]
fn each_sender_has_a_life_of_its_own() {
    let mut bench = Bench::new(rules(), &["b", "c"]);
    bench.beat("a", 1);
    bench.beat("b", 1);
    bench.until(1.0);
    bench.beat("a", 2);
    bench.until(3.2);
    assert_eq!(
        bench.changes(),
        [
            ("a".to_owned(), State::Up),
            ("b".to_owned(), State::Up),
            ("b".to_owned(), State::Late),
            ("a".to_owned(), State::Late),
            ("b".to_owned(), State::Down),
        ]
    );
    bench.until(10.1);
    assert_eq!(bench.changes(), [("a".to_owned(), State::Down), ("c".to_owned(), State::Down)]);
    assert_eq!((bench.watcher.senders(), bench.watcher.in_state(State::Down)), (3, 3));
}

#[test]
fn a_watcher_that_was_stopped_takes_nobody_for_dead() {
    let mut bench = Bench::new(rules(), &[]);
    bench.beat("a", 1);
    bench.beat("b", 1);
    bench.until(0.9);
    // Stopped for ten seconds; the socket kept what a sent, b sends nothing any more.
    let woke = START + 11 * SECOND;
    bench.now = woke;
    for second in 1..=10_u32 {
        let line = format!("BEAT a 1 {} {} 1000 3", second + 1, (START.wall() + SECOND * second).as_millis());
        bench.hear_from(peer(5_000), START + SECOND * second, line.as_bytes());
    }
    bench.watcher.woken(woke, &mut bench.post);
    let facts = bench.facts();
    let stalls: Vec<_> = facts.iter().filter(|fact| matches!(fact, Fact::MonitorStall { .. })).collect();
    assert!(
        matches!(stalls[..], [Fact::MonitorStall { gap }] if *gap > 10 * SECOND && *gap < 11 * SECOND),
        "{facts:?}"
    );
    assert!(!facts.iter().any(|fact| matches!(fact, Fact::State { to: State::Down | State::Late, .. })), "{facts:?}");
    bench.until(15.0);
    let changes = bench.changes();
    assert!(changes.contains(&("b".to_owned(), State::Down)), "{changes:?}");
}

#[test]
fn a_stall_without_anything_in_the_socket_shifts_the_deadlines() {
    let mut bench = Bench::new(rules(), &["never"]);
    bench.beat("a", 1);
    bench.until(1.0);
    bench.now = START + 101 * SECOND;
    bench.watcher.woken(bench.now, &mut bench.post);
    assert!(matches!(bench.facts()[1..], [Fact::MonitorStall { .. }]));
    bench.until(101.4);
    assert_eq!(bench.changes(), []);
    bench.until(120.0);
    let downs = bench.changes().iter().filter(|change| change.1 == State::Down).count();
    assert_eq!((downs, bench.watcher.tally().stalls), (2, 1));
}

#[test]
fn a_short_stall_is_one_to_who_beats_quickly() {
    for (interval, is_stall) in [(10, true), (1_000, false)] {
        let mut bench = Bench::new(rules(), &[]);
        bench.hear(format!("BEAT a 1 1 {} {interval} 3", START.wall().as_millis()).as_bytes());
        bench.now = START + Duration::from_millis(60);
        bench.watcher.woken(bench.now, &mut bench.post);
        let facts = bench.facts();
        let stalls = facts.iter().filter(|fact| matches!(fact, Fact::MonitorStall { .. })).count();
        assert_eq!(stalls, usize::from(is_stall), "{facts:?}");
        assert!(!facts.iter().any(|fact| matches!(fact, Fact::State { to: State::Down, .. })), "{facts:?}");
    }
}

#[test]
fn our_own_wall_clock_may_be_set() {
    let mut bench = Bench::new(rules(), &[]);
    for second in 0..20_u32 {
        bench.until(second.into());
        let wall = if second > 10 { Duration::from_secs(1_500_000_000) } else { bench.now.wall() };
        bench.now = Moment::new(bench.now.since_start(), wall);
        let line = format!("BEAT a 1 {} {} 1000 3", second + 1, (START.wall() + SECOND * second).as_millis());
        bench.hear(line.as_bytes());
    }
    assert_eq!(bench.changes(), [("a".to_owned(), State::Up)]);
}

#[test]
fn garbage_is_counted_and_told_once_a_second() {
    let mut bench = Bench::new(rules(), &[]);
    for millis in 0..2_500_u64 {
        bench.now = START + Duration::from_millis(millis);
        bench.hear(b"\x1b[2J garbage");
    }
    let told: Vec<_> = bench
        .facts()
        .into_iter()
        .filter_map(|fact| if let Fact::Refused { count, .. } = fact { Some(count) } else { None })
        .collect();
    assert_eq!(told, [1, 1_000, 1_000]);
    assert_eq!(bench.watcher.tally().refused, 2_500);
    assert_eq!(bench.watcher.senders(), 0);
}

#[test]
fn what_counts_for_nobody_has_its_reason() {
    let mut bench = Bench::new(rules(), &[]);
    bench.beat("a", 1);
    for (line, reason) in [
        (&b"ECHO a 1 1 1 1000 3 echo"[..], Refusal::Stray),
        (b"BYE nobody 1 1 1 1000 3", Refusal::Stray),
        (b"nonsense", Refusal::Malformed),
        (&[b'x'; 600], Refusal::Oversize),
        (b"BEAT a 1 2 1 1000 3 00112233445566778899aabbccddeeff", Refusal::Unauthentic),
    ] {
        let before = bench.watcher.tally().by_reason;
        bench.hear(line);
        assert_eq!(bench.watcher.tally().by_reason[reason as usize], before[reason as usize] + 1, "{reason:?}");
    }
}

#[test]
fn an_echo_goes_back_to_whoever_asks_and_is_as_long() {
    let key = MacKey::new(b"sesame");
    let mut bench = Bench::new(Rules { key: Some(key.clone()), ..rules() }, &[]);
    let mut line = Vec::new();
    let beat = Beat {
        kind: Kind::Beat,
        name: "a",
        incarnation: 1,
        seq: 1,
        sent: START.wall(),
        interval: SECOND,
        multiplier: 3,
        wants_echo: true,
        exit: None,
    };
    beat.write(Some(&key), &mut line);
    bench.hear(&line);
    let (envelope, echo) = bench.post.transmits().next().expect("an echo");
    assert_eq!((envelope.to, echo.len()), (Some(peer(5_000)), line.len()));
    assert_eq!(Line::read(echo, Some(&key)), Ok(Line::Beat(Beat { kind: Kind::Echo, ..beat })));
    bench.post.clear();
    // Replayed, it gets no answer.
    bench.hear(&line);
    assert_eq!(bench.post.transmits().count(), 0);
}

#[test]
fn textbook_beats_belong_to_their_address() {
    let mut bench = Bench::new(rules(), &[]);
    for (port, seq) in [(5_001, 1), (5_002, 1), (5_001, 2)] {
        let line = format!("Heartbeat {seq} {}", bench.now.wall().as_secs_f64());
        bench.hear_from(peer(port), bench.now, line.as_bytes());
    }
    assert_eq!(bench.watcher.senders(), 2);
    assert_eq!(bench.changes(), [("127.0.0.1:5001".to_owned(), State::Up), ("127.0.0.1:5002".to_owned(), State::Up)]);
}

#[test]
fn the_next_watcher_announces_nobody_again_and_forgets_no_downtime() {
    let mut bench = Bench::new(rules(), &[]);
    for name in ["up", "down", "gone"] {
        bench.beat(name, 1);
    }
    bench.hear(b"BYE gone 1 1 1 1000 3 exit=4");
    for second in 1..10_u32 {
        bench.until(second.into());
        bench.beat("up", (second + 1).into());
    }
    let written = serde_json::to_string(&bench.kept()).expect("plain data");

    let kept: Kept = serde_json::from_str(&written).expect("what was written");
    let mut next = Bench::new(rules(), &["down"]);
    next.now = START + 60 * SECOND;
    next.watcher = Watcher::new(rules(), &["down".into()], next.now);
    assert_eq!(next.watcher.restore_all(&kept, next.now), 0);
    assert_eq!(next.kept(), kept);
    // Sixty beats later; nobody watched meanwhile, so nothing is known to be lost.
    next.beat("up", 61);
    assert_eq!(next.facts(), []);
    next.until(60.5);
    let report = |name: &str| {
        let found = next.watcher.crowd().iter().find(|(_, record)| &*record.name == name);
        found.map(|(_, record)| record.report(next.now)).expect("known")
    };
    assert_eq!((report("up").counts.lost, report("up").counts.beats), (0, 11));
    assert_eq!((report("down").state, report("down").expected), (State::Down, true));
    let down_since = Duration::from_millis(report("down").since_ms).saturating_sub(START.wall());
    assert_eq!(down_since, 3 * SECOND);
    assert_eq!((report("gone").state, report("gone").exit), (State::Stopped, Some(4)));
    next.until(70.0);
    assert_eq!(next.changes(), [("up".to_owned(), State::Late), ("up".to_owned(), State::Down)]);
}

#[test]
fn what_was_written_down_wrong_is_left_out() {
    let mut bench = Bench::new(rules(), &[]);
    bench.beat("a", 1);
    let written = serde_json::to_string(&bench.kept()).expect("plain data");
    let wrong = written.replace("\"interval_ms\":1000", "\"interval_ms\":0");
    let kept: Kept = serde_json::from_str(&wrong).expect("the right form");
    assert_eq!(bench.watcher.restore_all(&kept, bench.now), 1);
}

#[test]
fn a_hundred_thousand_made_up_names_stay_within_the_table() {
    let mut bench = Bench::new(rules(), &["expected"]);
    for name in ["live", "expected"] {
        bench.beat(name, 1);
        bench.beat(name, 2);
    }
    for number in 0..100_000 {
        bench.beat(&format!("made-up-{number}"), 1);
    }
    assert_eq!(bench.watcher.senders(), 100);
    for name in ["live", "expected"] {
        assert!(bench.watcher.crowd().iter().any(|(_, record)| &*record.name == name), "{name}");
    }
}
