//! Limits: lines, messages, errors, timeouts and shutdown.

use super::{Fixture, MAIL, MemoryBudget, SessionConfig, TIMEOUTS, codes, config};
use crate::protocol::StreamProtocol as _;
use crate::smtp::server::Reservation;
use std::sync::Arc;
use std::time::Duration;

#[test]
fn recipients_lines_and_errors_are_limited() {
    let mut harness = Fixture::greeted(config());
    harness.send("EHLO me\r\nMAIL FROM:<a@x>\r\n");
    let output = harness.send("RCPT TO:<a@x>\r\n".repeat(4));
    assert_eq!(codes(&output), ["250", "250", "250", "452"]);
    let mut harness = Fixture::greeted(config());
    let line = |length: usize| format!("NOOP {}\r\n", "x".repeat(length - 7));
    assert_eq!(codes(&harness.send(line(2_048))), ["250"]);
    assert_eq!(codes(&harness.send(line(2_050))), ["500"]);
    let login = |length: usize| format!("AUTH X {}\r\n", "x".repeat(length - 9));
    assert_eq!(codes(&harness.send(login(12_288))), ["502"]);
    assert_eq!(codes(&harness.send(login(12_290))), ["500"]);
    for _ in 0..100 {
        harness.send("x".repeat(20_000));
    }
    assert_eq!(codes(&harness.send("\r\nNOOP\r\n")), ["500", "250"]);
    let output = Fixture::greeted(config()).send(format!("POST /{}", "a".repeat(20_000)));
    assert!(output.starts_with("421") && output.ends_with("<close>"), "{output}");
    let output = Fixture::greeted(config()).send("XYZ\r\n".repeat(50));
    assert_eq!(
        (codes(&output).len(), output.ends_with("421 4.7.0 too many errors, closing connection\r\n<close>")),
        (21, true),
        "{output}"
    );
}

#[test]
fn a_message_that_is_too_large_is_read_to_its_end_and_rejected() {
    for (length, code) in [(1_000, "250"), (1_001, "552"), (500_000, "552")] {
        let mut harness = Fixture::greeted(config());
        let body = "x".repeat(length - 2) + "\r\n.\r\n";
        let output = harness.send(format!("{MAIL}DATA\r\n{body}NOOP\r\n"));
        assert_eq!(codes(&output)[3..], ["354", code, "250"], "{length}");
        let mut harness = Fixture::greeted(config());
        let output = harness.send(format!("{MAIL}BDAT {length} LAST\r\n{}NOOP\r\n", "x".repeat(length)));
        assert_eq!(codes(&output)[3..], [code, "250"], "{length}");
    }
}

#[test]
fn a_chunk_size_of_any_magnitude_is_handled() {
    for size in ["18446744073709551615", "18446744073709551614", "99999999999"] {
        let mut harness = Fixture::greeted(config());
        harness.send(format!("{MAIL}BDAT 1\r\nx"));
        assert_eq!(harness.send(format!("BDAT {size} LAST\r\n{}", "x".repeat(5_000))), "");
        let transaction = harness.server.session.transaction_mut().expect("the chunk is not complete");
        assert!(transaction.chunks.is_empty(), "{size}: a message that is too large is not buffered");
        assert!(Reservation::new(&harness.sink.config.memory_budget).resize(9_000), "its reservation is returned");
    }
}

#[test]
fn unread_replies_do_not_accumulate() {
    let mut harness = Fixture::greeted(config());
    let input = "EHLO x\r\n".repeat(10_000);
    let consumed = harness.server.received(input.as_bytes(), harness.now, &mut harness.actions);
    let queued = harness.actions.queued_bytes();
    assert!(consumed < input.len() && queued < 70_000, "{consumed} {queued}");
}

#[test]
fn all_messages_together_are_limited() {
    let config = SessionConfig { memory_budget: Arc::new(MemoryBudget::new(500)), ..config() };
    let mut harness = Fixture::greeted(config.clone());
    let body = "x".repeat(500) + "\r\n.\r\n";
    assert_eq!(codes(&harness.send(format!("{MAIL}DATA\r\n{body}{}", &MAIL[9..])))[3..], ["354", "452", "250", "250"]);
    assert_eq!(codes(&harness.send("BDAT 500 LAST\r\n".to_owned() + &"x".repeat(500))), ["452"]);
    assert!(Reservation::new(&config.memory_budget).resize(500), "all memory was returned");
    let recipients = format!("RCPT TO:<{}@x.test>\r\n", "x".repeat(60)).repeat(4);
    let output = harness.send("MAIL FROM:<>\r\n".to_owned() + &recipients);
    assert!(codes(&output).contains(&"452"), "recipients count against the budget: {output}");
    harness.send("RSET\r\n");
    assert!(Reservation::new(&config.memory_budget).resize(500), "all memory was returned");
}

#[test]
fn every_wait_has_a_timeout() {
    let second = Duration::from_secs(1);
    let almost = |timeout: Duration| timeout.saturating_sub(second);
    let mut harness = Fixture::greeted(config());
    assert_eq!(harness.advance_time(almost(TIMEOUTS.command)), "");
    harness.send("NO");
    assert!(harness.advance_time(second).starts_with("421 4.4.2"), "single bytes do not extend the command timeout");
    assert_eq!(harness.events, ["failed: timed out before EHLO"]);
    let mut harness = Fixture::greeted(config());
    harness.send(format!("{MAIL}DATA\r\n"));
    for _ in 0..10 {
        assert_eq!(harness.advance_time(almost(TIMEOUTS.body)), "");
        harness.send("x");
    }
    assert!(harness.advance_time(TIMEOUTS.body).ends_with("<close>"));
    assert_eq!(harness.events.last().map(String::as_str), Some("failed: timed out during the transaction"));
    let mut harness = Fixture::greeted(config());
    let mut output = String::new();
    for _ in 0..13 {
        output += &harness.advance_time(almost(TIMEOUTS.command));
        output += &harness.send("NOOP\r\n");
    }
    assert!(output.contains("421 4.4.2 session time limit") && output.ends_with("<close>"), "{output}");
}

#[test]
fn shutdown_waits_for_the_end_of_a_transaction_and_for_quit() {
    let mut harness = Fixture::greeted(config());
    harness.server.draining(harness.now, &mut harness.actions);
    assert!(harness.take_output().starts_with("421 4.3.2"));
    let mut harness = Fixture::greeted(config());
    harness.send(format!("{MAIL}DATA\r\nx\r\n"));
    harness.server.draining(harness.now, &mut harness.actions);
    assert_eq!(harness.take_output(), "");
    assert_eq!(codes(&harness.send(".\r\n")), ["250"]);
    assert_eq!(harness.advance_time(Duration::from_millis(900)), "");
    assert_eq!(harness.send("QUIT\r\n"), "221 2.0.0 bye\r\n<close>");
    let mut harness = Fixture::greeted(config());
    harness.send(format!("{MAIL}DATA\r\n.\r\n"));
    harness.server.draining(harness.now, &mut harness.actions);
    assert!(harness.advance_time(Duration::from_secs(1)).starts_with("421"));
}
