//! Tests of [`BeatSender`] in virtual time.

use super::{BYE_COUNT, BeatEvent, BeatSender, BeatSenderConfig, Lifetime};
use crate::heartbeat::packet::{BeatEncoding, BeatPacket, Packet, PacketKind, make_echo};
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
        encoding: BeatEncoding::Beat,
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

    /// Runs the sender to its end and returns each packet with the time since the start.
    fn run(&mut self) -> Vec<(Duration, String)> {
        let mut sent = Vec::new();
        while let Some(now) = self.sender.wake_at() {
            sent.extend(self.wake(now).into_iter().map(|packet| (now - START, packet)));
        }
        sent
    }
}

#[test]
fn beats_are_90_to_100_percent_of_the_interval_apart() {
    let sent = Fixture::new(Lifetime::Count(Some(500))).run();
    let beats: Vec<Duration> =
        sent.iter().filter(|(_, packet)| packet.starts_with("BEAT")).map(|beat| beat.0).collect();
    assert_eq!((beats.len(), beats[0]), (500, Duration::ZERO));
    let gaps: Vec<f64> = beats.windows(2).map(|pair| pair[1].saturating_sub(pair[0]).as_secs_f64()).collect();
    assert!(gaps.iter().all(|gap| (0.9..=1.0).contains(gap)));
    assert!(gaps.iter().copied().fold(0.0, f64::max) > 0.97 && gaps.iter().copied().fold(1.0, f64::min) < 0.93);
    // Errors do not add up.
    assert!((beats[499].as_secs_f64() - 499.0 * 0.95).abs() <= 0.05);
}

#[test]
fn a_count_ends_in_three_stop_messages_with_the_last_sequence_number() {
    let mut bench = Fixture::new(Lifetime::Count(Some(2)));
    let sent = bench.run();
    let byes: Vec<_> = sent.iter().filter(|(_, packet)| packet.starts_with("BYE web 0000000000000007 2 ")).collect();
    assert_eq!((sent.len(), byes.len()), (5, 3));
    assert_eq!(BYE_COUNT, 3);
    assert_eq!(
        bench.actions.events().filter(|event| matches!(event, BeatEvent::Bye { seq: 2, exit: None })).count(),
        1
    );
    assert!(bench.sender.is_finished());
}

#[test]
fn a_stop_message_carries_the_exit_code() {
    let mut bench = Fixture::new(Lifetime::Count(None));
    bench.wake(START);
    bench.sender.stop(Some(3), START);
    assert!(bench.run().iter().all(|(_, packet)| packet.ends_with(" 1000 3 exit=3")));
}

#[test]
fn beats_missed_while_suspended_are_skipped_and_reported() {
    let mut bench = Fixture::new(Lifetime::Count(None));
    bench.wake(START);
    let late = START + SECOND * 10 + SECOND / 2;
    assert_eq!(bench.wake(late).len(), 1);
    assert!(bench.actions.events().any(|event| event == BeatEvent::Skipped { count: 10 }));
    assert!(bench.sender.wake_at() > Some(late));
    assert_eq!(bench.sender.report().sent, 2);
}

#[test]
fn only_the_first_echo_of_our_own_beat_is_measured() {
    let mut bench = Fixture::new(Lifetime::Count(None));
    let mut echo = bench.wake(START).remove(0).into_bytes();
    make_echo(&mut echo, None);
    let now = START + Duration::from_millis(5);
    let mut receive = |bytes: &[u8]| {
        let peer = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 1);
        let datagram = Datagram::plain(peer, now, bytes);
        bench.sender.received(&datagram, now, &mut bench.actions);
    };
    let Ok(Packet::Beat(ours)) = Packet::parse(&echo, None) else { panic!("an echo") };
    let encoded = |beat: BeatPacket<'_>| {
        let mut packet = Vec::new();
        beat.encode(None, &mut packet);
        packet
    };
    receive(&encoded(BeatPacket { incarnation: 8, ..ours }));
    receive(&encoded(BeatPacket { kind: PacketKind::Beat, ..ours }));
    receive(b"hello");
    receive(&echo);
    receive(&echo);
    let report = bench.sender.report();
    assert_eq!((report.echoes, report.last_rtt), (1, Some(Duration::from_millis(5))));
}

#[test]
fn once_is_one_beat_without_a_stop_message() {
    let sent = Fixture::new(Lifetime::Once(29_400_000)).run();
    assert_eq!(sent.len(), 1);
    assert!(sent[0].1.starts_with("BEAT web 0000000000000007 29400000 "));
}

#[test]
fn the_schedule_survives_a_slot_index_wrap() {
    let mut bench = Fixture::new(Lifetime::Count(None));
    let mut last = START;
    for _ in 0..200_000 {
        let now = bench.sender.wake_at().expect("the next beat");
        assert!(now - last <= SECOND);
        bench.wake(now);
        last = now;
    }
    let intervals = (last - START).as_secs_f64() / 0.95;
    assert!((199_998.0..=200_000.0).contains(&intervals), "{intervals}");
}

#[test]
fn textbook_beats_are_a_number_and_the_time_without_a_stop_message() {
    let config = BeatSenderConfig { encoding: BeatEncoding::Text, wants_echo: false, ..config() };
    let sender = BeatSender::new(config, Lifetime::Count(Some(2)), 1, START);
    let sent = Fixture { sender, actions: DatagramActions::new(true) }.run();
    assert_eq!((sent.len(), sent[0].1.as_str()), (2, "Heartbeat 1 1764000000.000000"));
    assert!(matches!(Packet::parse(sent[1].1.as_bytes(), None), Ok(Packet::Textbook { seq: 2, .. })));
}
