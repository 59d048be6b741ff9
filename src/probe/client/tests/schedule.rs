//! Tests of when the ping client sends and when it finishes.

use super::{Fixture, START, millis};
use std::io::{Error, ErrorKind};

use crate::probe::client::PROBES_PER_TURN;
use crate::probe::encoding::ProbeEncoding;
use crate::probe::event::PingEvent;
use crate::probe::ledger::MAX_TRACKED;
use crate::probe::schedule::PingConfig;
use crate::protocol::{DatagramProtocol as _, TransmitError};

#[test]
fn a_slipped_probe_is_sent_late_and_none_is_skipped() {
    let config = PingConfig { interval: millis(10), ..PingConfig::textbook() };
    let mut bench = Fixture::new(config, ProbeEncoding::TEXTBOOK);
    bench.probe(0);
    assert_eq!(bench.turn_at(35).len(), 3, "the probes due at 10, 20 and 30 ms");
    assert_eq!(bench.sender.wake_at(), Some(START + millis(40)), "the schedule is kept");
    assert_eq!(bench.sender.statistics().slip.expect("four").max, millis(25));
}

#[test]
fn a_stopped_process_resumes_without_a_burst() {
    let mut bench = Fixture::textbook();
    bench.probe(0);
    bench.probe(1_000);
    bench.events();
    assert_eq!(bench.turn_at(6_500).len(), 1);
    assert!(bench.events().contains(&PingEvent::ClockGap { gap: millis(4_500) }));
    assert_eq!(bench.sender.wake_at(), Some(START + millis(7_500)));
}

#[test]
fn a_flood_keeps_its_window_full_and_continues_slowly_without_replies() {
    let config = PingConfig { count: None, ..PingConfig::textbook() }.flood(8);
    let mut bench = Fixture::new(config, ProbeEncoding::TEXTBOOK);
    let sent = bench.turn_at(0);
    assert_eq!(sent.len(), 8);
    bench.reply(1, &sent[0].1);
    bench.reply(1, &sent[5].1);
    assert_eq!(bench.turn_at(1).len(), 2);
    assert_eq!(bench.sender.wake_at(), Some(START + millis(11)));
    assert_eq!(bench.turn_at(11).len(), 1);
}

#[test]
fn an_unlimited_flood_continues_after_a_loss_beyond_the_tracked_probes() {
    let config = PingConfig { count: None, ..PingConfig::textbook() }.flood(64);
    let mut bench = Fixture::new(config, ProbeEncoding::TEXTBOOK);
    let mut lost = false;
    for turn in 0..4_000 {
        let sent = bench.turn_at(turn);
        assert!(sent.len() <= PROBES_PER_TURN);
        for (_, probe) in &sent {
            if std::mem::replace(&mut lost, true) {
                bench.reply(turn, probe);
            }
        }
        bench.actions.events().for_each(drop);
    }
    let report = bench.sender.statistics();
    assert!(report.sent > 2 * MAX_TRACKED as u64, "{}", report.sent);
    assert_eq!(report.lost, 1);
}

#[test]
fn a_flood_with_send_errors_does_not_spin() {
    let config = PingConfig { count: None, ..PingConfig::textbook() };
    let mut bench = Fixture::new(config.stop_and_wait(), ProbeEncoding::TEXTBOOK);
    for turn in 0..5 {
        assert_eq!(bench.turn_at(turn * 10).len(), 1);
        let error = &Error::from(ErrorKind::NetworkUnreachable);
        let ticket = turn + 1;
        let failure = TransmitError::NotSent { ticket, error };
        bench.sender.failed(&failure, bench.now, &mut bench.actions);
        assert!(bench.turn_at(turn * 10 + 9).is_empty());
    }
    assert_eq!(bench.sender.statistics().send_errors, 5);
}

#[test]
fn the_client_waits_for_the_last_probe_until_its_linger_time_ends() {
    let mut bench = Fixture::new(PingConfig { count: Some(1), ..PingConfig::textbook() }, ProbeEncoding::TEXTBOOK);
    bench.probe(0);
    bench.turn_at(1_000);
    assert!(!bench.sender.is_finished());
    assert_eq!(bench.sender.wake_at(), Some(START + millis(2_000)));
    bench.turn_at(2_000);
    assert!(bench.sender.is_finished());
    let report = serde_json::to_value(bench.sender.statistics()).expect("plain data");
    assert_eq!(report["loss"], 1.0);
    assert!(report["rtt"].is_null() && report["jitter_ns"].is_null());
}

#[test]
fn stop_and_wait_sends_when_the_last_probe_is_answered_or_timed_out() {
    let mut bench = Fixture::new(PingConfig::textbook().stop_and_wait(), ProbeEncoding::TEXTBOOK);
    let first = bench.probe(0);
    assert_eq!(bench.sender.wake_at(), Some(START + millis(1_000)));
    assert!(bench.turn_at(400).is_empty());
    bench.reply(400, &first);
    bench.probe(400);
    assert!(bench.turn_at(1_399).is_empty());
    bench.probe(1_400);
    assert!(bench.events().iter().all(|event| !matches!(event, PingEvent::ClockGap { .. })));
}
