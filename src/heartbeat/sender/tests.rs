//! A sender of beats under virtual time.

use super::{BeatEvent, BeatSender, BeatSenderConfig, GOODBYE_COUNT, Lifetime};
use crate::heartbeat::packet::{BeatPacket, Packet, PacketKind, make_echo};
use crate::protocol::{Datagram, DatagramActions, DatagramProtocol as _};
use crate::time::Moment;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

const START: Moment = Moment::new(Duration::from_secs(50), Duration::from_secs(1_764_000_000));
const SECOND: Duration = Duration::from_secs(1);

fn config() -> BeatSenderConfig {
    BeatSenderConfig {
        name: "web".into(),
        incarnation: 7,
        interval: SECOND,
        multiplier: 3,
        wants_echo: true,
        key: None,
    }
}

struct Fixture {
    sender: BeatSender,
    actions: DatagramActions<BeatEvent>,
}

impl Fixture {
    fn new(lifetime: Lifetime) -> Self {
        Self { sender: BeatSender::new(config(), lifetime, 1, START), actions: DatagramActions::new(true) }
    }

    fn wake(&mut self, now: Moment) -> Vec<String> {
        self.sender.woken(now, &mut self.actions);
        let sent = self.actions.transmits().map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned()).collect();
        self.actions.clear();
        sent
    }

    /// Lets it run until it has nothing more to say.
    fn run(&mut self) -> Vec<(Duration, String)> {
        let mut said = Vec::new();
        while let Some(now) = self.sender.wake_at() {
            said.extend(self.wake(now).into_iter().map(|line| (now - START, line)));
        }
        said
    }
}

#[test]
fn the_next_beat_comes_within_the_interval_and_not_much_earlier() {
    let said = Fixture::new(Lifetime::Count(Some(500))).run();
    let beats: Vec<Duration> = said.iter().filter(|(_, line)| line.starts_with("BEAT")).map(|beat| beat.0).collect();
    assert_eq!((beats.len(), beats[0]), (500, Duration::ZERO));
    let apart: Vec<f64> = beats.windows(2).map(|pair| pair[1].saturating_sub(pair[0]).as_secs_f64()).collect();
    assert!(apart.iter().all(|apart| (0.9..=1.0).contains(apart)));
    assert!(apart.iter().copied().fold(0.0, f64::max) > 0.97 && apart.iter().copied().fold(1.0, f64::min) < 0.93);
    // Errors do not add up.
    assert!((beats[499].as_secs_f64() - 499.0 * 0.95).abs() <= 0.05);
}

#[test]
fn a_count_ends_in_three_goodbyes_with_the_last_number() {
    let mut bench = Fixture::new(Lifetime::Count(Some(2)));
    let said = bench.run();
    let byes: Vec<_> = said.iter().filter(|(_, line)| line.starts_with("BYE web 0000000000000007 2 ")).collect();
    assert_eq!((said.len(), byes.len()), (5, 3));
    assert_eq!(GOODBYE_COUNT, 3);
    assert_eq!(bench.actions.events().filter(|fact| matches!(fact, BeatEvent::Bye { seq: 2, exit: None })).count(), 1);
    assert!(bench.sender.is_finished());
}

#[test]
fn a_goodbye_carries_the_exit_code() {
    let mut bench = Fixture::new(Lifetime::Count(None));
    bench.wake(START);
    bench.sender.stop(Some(3), START);
    assert!(bench.run().iter().all(|(_, line)| line.ends_with(" 1000 3 exit=3")));
}

#[test]
fn beats_missed_while_suspended_are_skipped_and_reported() {
    let mut bench = Fixture::new(Lifetime::Count(None));
    bench.wake(START);
    let late = START + SECOND * 10 + SECOND / 2;
    assert_eq!(bench.wake(late).len(), 1);
    assert!(bench.actions.events().any(|fact| fact == BeatEvent::Skipped { count: 10 }));
    assert!(bench.sender.wake_at() > Some(late));
    assert_eq!(bench.sender.report().sent, 2);
}

#[test]
fn an_echo_is_timed_once_and_only_ours() {
    let mut bench = Fixture::new(Lifetime::Count(None));
    let mut echo = bench.wake(START).remove(0).into_bytes();
    make_echo(&mut echo, None);
    let now = START + Duration::from_millis(5);
    let mut hear = |bytes: &[u8]| {
        let peer = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 1);
        let datagram = Datagram::plain(peer, now, bytes);
        bench.sender.received(&datagram, now, &mut bench.actions);
    };
    let Ok(Packet::Beat(ours)) = Packet::parse(&echo, None) else { panic!("an echo") };
    let write = |beat: BeatPacket<'_>| {
        let mut line = Vec::new();
        beat.encode(None, &mut line);
        line
    };
    hear(&write(BeatPacket { incarnation: 8, ..ours }));
    hear(&write(BeatPacket { kind: PacketKind::Beat, ..ours }));
    hear(b"hello");
    hear(&echo);
    hear(&echo);
    let report = bench.sender.report();
    assert_eq!((report.echoes, report.last_rtt), (1, Some(Duration::from_millis(5))));
}

#[test]
fn once_is_one_beat_without_a_goodbye() {
    let said = Fixture::new(Lifetime::Once(29_400_000)).run();
    assert_eq!(said.len(), 1);
    assert!(said[0].1.starts_with("BEAT web 0000000000000007 29400000 "));
}

#[test]
fn the_schedule_survives_a_slot_index_wrap() {
    let mut bench = Fixture::new(Lifetime::Count(None));
    let mut last = START;
    for _ in 0..200_000 {
        let now = bench.sender.wake_at().expect("it beats");
        assert!(now - last <= SECOND);
        bench.wake(now);
        last = now;
    }
    let passed = (last - START).as_secs_f64() / 0.95;
    assert!((199_998.0..=200_000.0).contains(&passed), "{passed}");
}
