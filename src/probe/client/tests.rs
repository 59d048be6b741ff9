//! Tests of how the ping client classifies replies and errors.

mod schedule;

use std::io::{Error, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::{PingClient, PingConfig};
use crate::probe::encoding::ProbeEncoding;
use crate::probe::event::{ForeignReason, PingEvent, RttClock};
use crate::protocol::{Datagram, DatagramActions, DatagramProtocol, TransmitError};
use crate::time::Moment;

const START: Moment = Moment::new(Duration::from_secs(100), Duration::from_secs(1_700_000_000));

fn server() -> SocketAddr {
    SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 12_000)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

struct Fixture {
    sender: PingClient,
    actions: DatagramActions<PingEvent>,
    now: Moment,
}

impl Fixture {
    fn new(config: PingConfig, encoding: ProbeEncoding) -> Self {
        let sender = PingClient::new(config, encoding, server(), START);
        Self { sender, actions: DatagramActions::new(true), now: START }
    }

    fn textbook() -> Self {
        Self::new(PingConfig::textbook(), ProbeEncoding::TEXTBOOK)
    }

    /// Runs an event-loop turn at `time` ms and returns the sent datagrams as (socket, payload).
    fn turn_at(&mut self, time: u64) -> Vec<(u64, Vec<u8>)> {
        self.now = START + millis(time);
        self.sender.woken(self.now, &mut self.actions);
        let sent = self.actions.transmits().map(|(out, bytes)| (out.socket, bytes.to_vec())).collect();
        self.actions.clear();
        sent
    }

    /// Runs a turn that sends exactly one probe.
    fn probe(&mut self, time: u64) -> Vec<u8> {
        let mut sent = self.turn_at(time);
        assert_eq!(sent.len(), 1, "at {time} ms");
        sent.remove(0).1
    }

    fn reply(&mut self, time: u64, bytes: &[u8]) {
        self.reply_from(server(), 0, time, bytes);
    }

    fn reply_from(&mut self, peer: SocketAddr, socket: u64, time: u64, bytes: &[u8]) {
        let at = START + millis(time);
        let datagram = Datagram { socket, ..Datagram::plain(peer, at, bytes) };
        self.sender.received(&datagram, at, &mut self.actions);
    }

    fn events(&mut self) -> Vec<PingEvent> {
        let is_not_sent = |event: &PingEvent| !matches!(event, PingEvent::Sent { .. });
        self.actions.events().filter(is_not_sent).collect()
    }
}

#[test]
fn ten_probes_are_sent_a_second_apart_and_then_the_client_is_finished() {
    let mut bench = Fixture::textbook();
    for i in 0..10 {
        assert_eq!(bench.sender.wake_at(), Some(START + millis(i * 1_000)));
        let probe = bench.probe(i * 1_000);
        assert_eq!(probe, format!("Ping {} {}", i + 1, 1_700_000_000_000 + i * 1_000).as_bytes());
        bench.reply(i * 1_000 + 10, &probe.to_ascii_uppercase());
    }
    assert!(bench.sender.is_finished());
    let report = bench.sender.statistics();
    assert_eq!((report.sent, report.received, report.loss), (10, 10, Some(0.0)));
    assert_eq!(report.rtt.expect("ten").p50, millis(10));
    assert_eq!(bench.sender.wake_at(), None);
}

#[test]
fn a_reply_after_its_timeout_is_late_and_never_matches_the_next_probe() {
    let mut bench = Fixture::textbook();
    let first = bench.probe(0);
    bench.probe(1_000);
    assert!(matches!(bench.events()[..], [PingEvent::Lost { seq: 1 }]));
    bench.reply(1_200, &first);
    assert!(matches!(bench.events()[..], [PingEvent::Late { seq: 1, .. }]));
    bench.reply(1_300, &first);
    assert!(matches!(bench.events()[..], [PingEvent::Duplicate { seq: 1 }]));
    let report = bench.sender.statistics();
    assert_eq!((report.late, report.lost, report.waiting, report.rtt), (1, 0, 1, None));
}

#[test]
fn a_reply_after_the_linger_time_is_still_late() {
    let mut bench = Fixture::textbook();
    let first = bench.probe(0);
    for time in [1_000, 2_000] {
        bench.probe(time);
    }
    bench.events();
    bench.reply(2_001, &first);
    assert!(matches!(bench.events()[..], [PingEvent::Late { seq: 1, rtt, .. }] if rtt == millis(2_001)));
    assert_eq!((bench.sender.statistics().lost, bench.sender.statistics().late), (1, 1));
}

#[test]
fn an_unrelated_datagram_is_foreign_and_an_altered_reply_is_corrupt() {
    let mut bench = Fixture::textbook();
    let probe = bench.probe(0);
    let elsewhere = SocketAddr::new(Ipv4Addr::new(127, 0, 0, 2).into(), 12_000);
    bench.reply_from(elsewhere, 0, 1, &probe);
    bench.reply(1, b"hello");
    bench.reply(1, b"Ping 99 1700000000000");
    bench.reply(1, b"Ping 1 1700000000001");
    bench.reply(1, &probe);
    let events = bench.events();
    let reasons = [ForeignReason::Peer, ForeignReason::Content, ForeignReason::NeverSent];
    for (event, expected) in events.iter().zip(reasons) {
        assert!(matches!(event, PingEvent::Foreign { reason, .. } if *reason == expected), "{event:?}");
    }
    assert!(matches!(events[3..], [PingEvent::Corrupt { seq: 1, .. }, PingEvent::Reply { seq: 1, .. }]));
    assert_eq!((bench.sender.statistics().foreign, bench.sender.statistics().corrupt), (3, 1));
}

#[test]
fn fixed_messages_are_matched_by_their_port() {
    let encoding = ProbeEncoding::FixedMessage { message: b"ping".to_vec() };
    let mut bench = Fixture::new(PingConfig::textbook().stop_and_wait(), encoding);
    assert_eq!(bench.turn_at(0), [(1, b"ping".to_vec())]);
    assert_eq!(bench.turn_at(1_000), [(2, b"ping".to_vec())]);
    bench.reply_from(server(), 1, 1_100, b"PING");
    bench.reply_from(server(), 2, 1_150, b"PING");
    bench.reply_from(server(), 1, 1_160, b"PING");
    assert!(matches!(
        bench.events()[..],
        [
            PingEvent::Lost { seq: 1 },
            PingEvent::Late { seq: 1, .. },
            PingEvent::Reply { seq: 2, .. },
            PingEvent::Duplicate { seq: 1 }
        ]
    ));
}

#[test]
fn the_port_of_a_fixed_message_is_closed_after_sixteen_further_replies() {
    let encoding = ProbeEncoding::FixedMessage { message: b"ping".to_vec() };
    let mut bench = Fixture::new(PingConfig { count: None, ..PingConfig::textbook().stop_and_wait() }, encoding);
    for (seq, time) in (1..=18).zip(0..) {
        assert_eq!(bench.turn_at(time), [(seq, b"ping".to_vec())]);
        bench.reply_from(server(), seq, time, b"PING");
        let retired: &[u64] = if seq > 16 { &[seq - 16] } else { &[] };
        assert_eq!(bench.actions.retired(), retired);
    }
}

#[test]
fn the_loss_ratio_excludes_probes_whose_timeout_has_not_passed() {
    let config = PingConfig { count: None, interval: millis(100), ..PingConfig::textbook() };
    let mut bench = Fixture::new(config, ProbeEncoding::TEXTBOOK);
    for number in 0..25 {
        let probe = bench.probe(number * 100);
        if number % 2 == 0 {
            bench.reply(number * 100, &probe);
        }
    }
    let report = bench.sender.statistics();
    // The timeout of the first fifteen has passed; every other one of the rest is still unanswered.
    assert_eq!((report.waiting, report.lost, report.received), (5, 7, 13));
    assert_eq!(report.loss, Some(7.0 / 15.0));
}

#[test]
fn nothing_is_sent_at_the_deadline_or_before_the_minimum_interval() {
    let config = PingConfig {
        count: None,
        deadline: Some(START + millis(10)),
        min_interval: millis(2),
        ..PingConfig::textbook()
    };
    let mut bench = Fixture::new(config.stop_and_wait(), ProbeEncoding::TEXTBOOK);
    for time in [0, 2, 4, 6, 8] {
        let probe = bench.probe(time);
        bench.reply(time, &probe);
        assert!(bench.turn_at(time + 1).is_empty());
    }
    assert!(bench.turn_at(10).is_empty());
}

#[test]
fn an_unreachable_error_after_the_timeout_counts_as_refused() {
    let mut bench = Fixture::textbook();
    let probe = bench.probe(0);
    bench.turn_at(1_000);
    let error = &Error::from(ErrorKind::HostUnreachable);
    let failure = TransmitError::Unreachable { socket: 0, error, bytes: &probe };
    bench.sender.failed(&failure, START + millis(1_500), &mut bench.actions);
    let report = bench.sender.statistics();
    assert_eq!((report.lost, report.refused), (0, 1));
}

#[test]
fn a_reply_received_in_time_while_the_process_was_stopped_is_in_time() {
    let mut bench = Fixture::textbook();
    let probe = bench.probe(0);
    let datagram = Datagram::timestamped(server(), START + millis(20), &probe);
    bench.sender.transmitted(1, START + millis(1));
    bench.sender.received(&datagram, START + millis(5_000), &mut bench.actions);
    let events = bench.events();
    assert!(
        matches!(events[..], [PingEvent::Reply { seq: 1, rtt, clock: RttClock::Kernel, .. }] if rtt == millis(19)),
        "{events:?}"
    );
    let report = serde_json::to_value(bench.sender.statistics()).expect("plain data");
    assert_eq!(report["clock"], "kernel");
}

#[test]
fn a_wall_clock_step_is_reported_and_changes_no_round_trip_time() {
    let mut bench = Fixture::textbook();
    let probe = bench.probe(0);
    let later = Moment::new(Duration::from_millis(100_050), Duration::from_secs(1_600_000_000));
    let datagram = Datagram::timestamped(server(), later, &probe);
    bench.sender.received(&datagram, later, &mut bench.actions);
    bench.sender.woken(later, &mut bench.actions);
    let events = bench.events();
    assert!(matches!(events[0], PingEvent::Reply { rtt, clock_step: true, .. } if rtt == millis(50)));
    assert!(matches!(events[1], PingEvent::ClockStep { step_ns } if step_ns < 0));
}

#[test]
fn an_unreachable_error_ends_the_quoted_probe_and_is_not_loss() {
    let mut bench = Fixture::textbook();
    let first = bench.probe(0);
    bench.probe(1_000);
    let error = &Error::from(ErrorKind::ConnectionRefused);
    let second = b"Ping 2 1700000001000";
    bench.sender.failed(&TransmitError::Unreachable { socket: 0, error, bytes: second }, bench.now, &mut bench.actions);
    bench.sender.failed(&TransmitError::Unreachable { socket: 0, error, bytes: second }, bench.now, &mut bench.actions);
    let report = bench.sender.statistics();
    assert_eq!((report.refused, report.lost, report.loss), (1, 1, Some(0.5)));
    bench.reply(1_100, &first);
    assert_eq!(bench.sender.statistics().late, 1);
}

#[test]
fn a_probe_the_system_would_not_send_is_a_send_error() {
    let mut bench = Fixture::textbook();
    bench.probe(0);
    let failure = TransmitError::NotSent { ticket: 1, error: &Error::from(ErrorKind::PermissionDenied) };
    bench.sender.failed(&failure, bench.now, &mut bench.actions);
    assert!(matches!(bench.events()[..], [PingEvent::SendError { seq: 1, .. }]));
    let report = bench.sender.statistics();
    assert_eq!((report.send_errors, report.waiting), (1, 0));
    assert_eq!((report.loss, report.loss_ci95), (None, None), "a probe that was not sent cannot be lost");
}
