//! Tests of [`Watcher`] with single datagrams in virtual time.

use super::Watcher;
use crate::heartbeat::event::{RejectReason, SenderStatus, WatcherEvent};
use crate::heartbeat::packet::{BeatPacket, Packet, PacketKind};
use crate::heartbeat::snapshot::{SNAPSHOT_VERSION, SenderSnapshot, Snapshot};
use crate::heartbeat::watcher_config::WatcherConfig;
use crate::mac::MacKey;
use crate::protocol::{Datagram, DatagramActions, DatagramProtocol as _};
use crate::time::Moment;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

const START: Moment = Moment::new(Duration::from_secs(1_000), Duration::from_secs(1_764_000_000));
const SECOND: Duration = Duration::from_secs(1);

pub(super) fn config() -> WatcherConfig {
    WatcherConfig::strict(START)
}

fn peer(port: u16) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)
}

struct Fixture {
    watcher: Watcher,
    actions: DatagramActions<WatcherEvent>,
    now: Moment,
}

impl Fixture {
    fn new(config: WatcherConfig, expected: &[&str]) -> Self {
        let expected: Vec<Arc<str>> = expected.iter().map(|name| Arc::from(*name)).collect();
        Self { watcher: Watcher::new(config, &expected, START), actions: DatagramActions::new(true), now: START }
    }

    /// Runs the watcher until `second`, waking it at each of its timers.
    fn run_until(&mut self, second: f64) {
        let end = START + Duration::from_secs_f64(second);
        while let Some(wake) = self.watcher.wake_at().filter(|wake| *wake <= end) {
            self.now = wake.max(self.now);
            self.watcher.woken(self.now, &mut self.actions);
        }
        self.now = end;
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.receive_from(peer(5_000), self.now, bytes);
    }

    /// Delivers a datagram with the kernel timestamp `received_at`, read now.
    fn receive_from(&mut self, peer: SocketAddr, received_at: Moment, bytes: &[u8]) {
        let truncated = bytes.len() > 512;
        let datagram = Datagram { truncated, ..Datagram::timestamped(peer, received_at, bytes) };
        self.watcher.received(&datagram, self.now, &mut self.actions);
    }

    fn receive_beat(&mut self, name: &str, seq: u64) {
        let line = format!("BEAT {name} 1 {seq} {} 1000 3", self.now.wall().as_millis());
        self.receive(line.as_bytes());
    }

    fn events(&mut self) -> Vec<WatcherEvent> {
        self.actions.events().filter(|event| !matches!(event, WatcherEvent::Beat { .. })).collect()
    }

    fn changes(&mut self) -> Vec<(String, SenderStatus)> {
        let change =
            |event| if let WatcherEvent::State { name, to, .. } = event { Some((name.to_string(), to)) } else { None };
        self.events().into_iter().filter_map(change).collect()
    }

    fn snapshot(&self) -> Snapshot {
        let mut records: Vec<_> = self.watcher.sender_table().iter().map(|(_, record)| record).collect();
        records.sort_by_key(|record| record.name.clone());
        let senders = records.into_iter().filter_map(SenderSnapshot::of).collect();
        Snapshot { version: SNAPSHOT_VERSION, saved_ms: 0, senders, missed: Vec::new() }
    }
}

#[test]
fn each_sender_has_its_own_state() {
    let mut bench = Fixture::new(config(), &["b", "c"]);
    bench.receive_beat("a", 1);
    bench.receive_beat("b", 1);
    bench.run_until(1.0);
    bench.receive_beat("a", 2);
    bench.run_until(3.2);
    assert_eq!(
        bench.changes(),
        [
            ("a".to_owned(), SenderStatus::Up),
            ("b".to_owned(), SenderStatus::Up),
            ("b".to_owned(), SenderStatus::Late),
            ("a".to_owned(), SenderStatus::Late),
            ("b".to_owned(), SenderStatus::Down),
        ]
    );
    bench.run_until(10.1);
    assert_eq!(bench.changes(), [("a".to_owned(), SenderStatus::Down), ("c".to_owned(), SenderStatus::Down)]);
    assert_eq!((bench.watcher.sender_count(), bench.watcher.count_in_state(SenderStatus::Down)), (3, 3));
}

#[test]
fn a_suspended_watcher_reports_no_sender_down() {
    let mut bench = Fixture::new(config(), &[]);
    bench.receive_beat("a", 1);
    bench.receive_beat("b", 1);
    bench.run_until(0.9);
    // The watcher is suspended for ten seconds; the socket holds the beats of a, and b sends no more.
    let resumed = START + 11 * SECOND;
    bench.now = resumed;
    for second in 1..=10_u32 {
        let line = format!("BEAT a 1 {} {} 1000 3", second + 1, (START.wall() + SECOND * second).as_millis());
        bench.receive_from(peer(5_000), START + SECOND * second, line.as_bytes());
    }
    bench.watcher.woken(resumed, &mut bench.actions);
    let events = bench.events();
    let stalls: Vec<_> = events.iter().filter(|event| matches!(event, WatcherEvent::MonitorStall { .. })).collect();
    assert!(
        matches!(stalls[..], [WatcherEvent::MonitorStall { gap }] if *gap > 10 * SECOND && *gap < 11 * SECOND),
        "{events:?}"
    );
    assert!(
        !events
            .iter()
            .any(|event| matches!(event, WatcherEvent::State { to: SenderStatus::Down | SenderStatus::Late, .. })),
        "{events:?}"
    );
    bench.run_until(15.0);
    let changes = bench.changes();
    assert!(changes.contains(&("b".to_owned(), SenderStatus::Down)), "{changes:?}");
}

#[test]
fn a_stall_with_an_empty_socket_extends_the_deadlines() {
    let mut bench = Fixture::new(config(), &["never"]);
    bench.receive_beat("a", 1);
    bench.run_until(1.0);
    bench.now = START + 101 * SECOND;
    bench.watcher.woken(bench.now, &mut bench.actions);
    assert!(matches!(bench.events()[1..], [WatcherEvent::MonitorStall { .. }]));
    bench.run_until(101.4);
    assert_eq!(bench.changes(), []);
    bench.run_until(120.0);
    let downs = bench.changes().iter().filter(|change| change.1 == SenderStatus::Down).count();
    assert_eq!((downs, bench.watcher.counters().stalls), (2, 1));
}

#[test]
fn the_stall_threshold_follows_the_shortest_interval() {
    for (interval, is_stall) in [(10, true), (1_000, false)] {
        let mut bench = Fixture::new(config(), &[]);
        bench.receive(format!("BEAT a 1 1 {} {interval} 3", START.wall().as_millis()).as_bytes());
        bench.now = START + Duration::from_millis(60);
        bench.watcher.woken(bench.now, &mut bench.actions);
        let events = bench.events();
        let stalls = events.iter().filter(|event| matches!(event, WatcherEvent::MonitorStall { .. })).count();
        assert_eq!(stalls, usize::from(is_stall), "{events:?}");
        assert!(
            !events.iter().any(|event| matches!(event, WatcherEvent::State { to: SenderStatus::Down, .. })),
            "{events:?}"
        );
    }
}

#[test]
fn a_step_of_our_own_wall_clock_changes_no_state() {
    let mut bench = Fixture::new(config(), &[]);
    for second in 0..20_u32 {
        bench.run_until(second.into());
        let wall = if second > 10 { Duration::from_secs(1_500_000_000) } else { bench.now.wall() };
        bench.now = Moment::new(bench.now.since_start(), wall);
        let line = format!("BEAT a 1 {} {} 1000 3", second + 1, (START.wall() + SECOND * second).as_millis());
        bench.receive(line.as_bytes());
    }
    assert_eq!(bench.changes(), [("a".to_owned(), SenderStatus::Up)]);
}

#[test]
fn malformed_datagrams_are_counted_and_reported_once_a_second() {
    let mut bench = Fixture::new(config(), &[]);
    for millis in 0..2_500_u64 {
        bench.now = START + Duration::from_millis(millis);
        bench.receive(b"\x1b[2J garbage");
    }
    let reported: Vec<_> = bench
        .events()
        .into_iter()
        .filter_map(|event| if let WatcherEvent::Rejected { count, .. } = event { Some(count) } else { None })
        .collect();
    assert_eq!(reported, [1, 1_000, 1_000]);
    assert_eq!(bench.watcher.counters().rejected, 2_500);
    assert_eq!(bench.watcher.sender_count(), 0);
}

#[test]
fn every_rejected_datagram_has_a_reason() {
    let mut bench = Fixture::new(config(), &[]);
    bench.receive_beat("a", 1);
    for (line, reason) in [
        (&b"ECHO a 1 1 1 1000 3 echo"[..], RejectReason::Stray),
        (b"BYE unknown 1 1 1 1000 3", RejectReason::Stray),
        (b"nonsense", RejectReason::Malformed),
        (&[b'x'; 600], RejectReason::Oversize),
        (b"BEAT a 1 2 1 1000 3 00112233445566778899aabbccddeeff", RejectReason::Unauthentic),
    ] {
        let before = bench.watcher.counters().by_reason;
        bench.receive(line);
        assert_eq!(bench.watcher.counters().by_reason[reason as usize], before[reason as usize] + 1, "{reason:?}");
    }
}

#[test]
fn an_echo_goes_back_to_the_requesting_sender_with_the_same_length() {
    let key = MacKey::new(b"sesame");
    let mut bench = Fixture::new(WatcherConfig { key: Some(key.clone()), ..config() }, &[]);
    let mut line = Vec::new();
    let beat = BeatPacket {
        kind: PacketKind::Beat,
        name: "a",
        incarnation: 1,
        seq: 1,
        sent_at: START.wall(),
        interval: SECOND,
        multiplier: 3,
        requests_echo: true,
        exit_code: None,
    };
    beat.encode(Some(&key), &mut line);
    bench.receive(&line);
    let (envelope, echo) = bench.actions.transmits().next().expect("an echo");
    assert_eq!((envelope.to, echo.len()), (Some(peer(5_000)), line.len()));
    assert_eq!(Packet::parse(echo, Some(&key)), Ok(Packet::Beat(BeatPacket { kind: PacketKind::Echo, ..beat })));
    bench.actions.clear();
    // A replayed beat gets no echo.
    bench.receive(&line);
    assert_eq!(bench.actions.transmits().count(), 0);
}

#[test]
fn textbook_beats_are_keyed_by_address() {
    let mut bench = Fixture::new(config(), &[]);
    for (port, seq) in [(5_001, 1), (5_002, 1), (5_001, 2)] {
        let line = format!("Heartbeat {seq} {}", bench.now.wall().as_secs_f64());
        bench.receive_from(peer(port), bench.now, line.as_bytes());
    }
    assert_eq!(bench.watcher.sender_count(), 2);
    assert_eq!(
        bench.changes(),
        [("127.0.0.1:5001".to_owned(), SenderStatus::Up), ("127.0.0.1:5002".to_owned(), SenderStatus::Up)]
    );
}

#[test]
fn a_restored_watcher_repeats_no_event_and_keeps_the_downtime() {
    let mut bench = Fixture::new(config(), &[]);
    for name in ["up", "down", "stopped"] {
        bench.receive_beat(name, 1);
    }
    bench.receive(b"BYE stopped 1 1 1 1000 3 exit=4");
    for second in 1..10_u32 {
        bench.run_until(second.into());
        bench.receive_beat("up", (second + 1).into());
    }
    let written = serde_json::to_string(&bench.snapshot()).expect("plain data");

    let snapshot: Snapshot = serde_json::from_str(&written).expect("a snapshot");
    let mut next = Fixture::new(config(), &["down"]);
    next.now = START + 60 * SECOND;
    next.watcher = Watcher::new(config(), &["down".into()], next.now);
    assert_eq!(next.watcher.restore_snapshot(&snapshot, next.now), 0);
    assert_eq!(next.snapshot(), snapshot);
    // Sixty beats later: no watcher was running, so none of them counts as lost.
    next.receive_beat("up", 61);
    assert_eq!(next.events(), []);
    next.run_until(60.5);
    let report = |name: &str| {
        let found = next.watcher.sender_table().iter().find(|(_, record)| &*record.name == name);
        found.map(|(_, record)| record.report(next.now)).expect("known")
    };
    assert_eq!((report("up").counts.lost, report("up").counts.beats), (0, 11));
    assert_eq!((report("down").state, report("down").expected), (SenderStatus::Down, true));
    let down_since = Duration::from_millis(report("down").since_ms).saturating_sub(START.wall());
    assert_eq!(down_since, 3 * SECOND);
    assert_eq!((report("stopped").state, report("stopped").exit), (SenderStatus::Stopped, Some(4)));
    next.run_until(70.0);
    assert_eq!(next.changes(), [("up".to_owned(), SenderStatus::Late), ("up".to_owned(), SenderStatus::Down)]);
}

#[test]
fn invalid_snapshot_entries_are_left_out() {
    let mut bench = Fixture::new(config(), &[]);
    bench.receive_beat("a", 1);
    let written = serde_json::to_string(&bench.snapshot()).expect("plain data");
    let invalid = written.replace("\"interval_ms\":1000", "\"interval_ms\":0");
    let snapshot: Snapshot = serde_json::from_str(&invalid).expect("the right form");
    assert_eq!(bench.watcher.restore_snapshot(&snapshot, bench.now), 1);
}

#[test]
fn a_hundred_thousand_forged_names_stay_within_the_table() {
    let mut bench = Fixture::new(config(), &["expected"]);
    for name in ["regular", "expected"] {
        bench.receive_beat(name, 1);
        bench.receive_beat(name, 2);
    }
    for number in 0..100_000 {
        bench.receive_beat(&format!("forged-{number}"), 1);
    }
    assert_eq!(bench.watcher.sender_count(), 100);
    for name in ["regular", "expected"] {
        assert!(bench.watcher.sender_table().iter().any(|(_, record)| &*record.name == name), "{name}");
    }
}
