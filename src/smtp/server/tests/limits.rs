//! What has an end: lines, messages, errors, patience, and the server itself.

use super::{Harness, MAIL, MemoryBudget, SessionConfig, TIMEOUTS, codes, config};
use crate::protocol::StreamProtocol as _;
use crate::smtp::server::Reservation;
use std::sync::Arc;
use std::time::Duration;

#[test]
fn recipients_lines_and_errors_have_their_limits() {
    let mut bench = Harness::greeted(config());
    bench.send("EHLO me\r\nMAIL FROM:<a@x>\r\n");
    let did = bench.send("RCPT TO:<a@x>\r\n".repeat(4));
    assert_eq!(codes(&did), ["250", "250", "250", "452"]);
    let mut bench = Harness::greeted(config());
    let line = |length: usize| format!("NOOP {}\r\n", "x".repeat(length - 7));
    assert_eq!(codes(&bench.send(line(2_048))), ["250"]);
    assert_eq!(codes(&bench.send(line(2_050))), ["500"]);
    let login = |length: usize| format!("AUTH X {}\r\n", "x".repeat(length - 9));
    assert_eq!(codes(&bench.send(login(12_288))), ["502"]);
    assert_eq!(codes(&bench.send(login(12_290))), ["500"]);
    for _ in 0..100 {
        bench.send("x".repeat(20_000));
    }
    assert_eq!(codes(&bench.send("\r\nNOOP\r\n")), ["500", "250"]);
    let did = Harness::greeted(config()).send(format!("POST /{}", "a".repeat(20_000)));
    assert!(did.starts_with("421") && did.ends_with("<close>"), "{did}");
    let did = Harness::greeted(config()).send("XYZ\r\n".repeat(50));
    assert_eq!(
        (codes(&did).len(), did.ends_with("421 4.7.0 too many errors, closing\r\n<close>")),
        (21, true),
        "{did}"
    );
}

#[test]
fn what_is_too_large_is_read_to_its_end_and_refused() {
    for (length, code) in [(1_000, "250"), (1_001, "552"), (500_000, "552")] {
        let mut bench = Harness::greeted(config());
        let body = "x".repeat(length - 2) + "\r\n.\r\n";
        let did = bench.send(format!("{MAIL}DATA\r\n{body}NOOP\r\n"));
        assert_eq!(codes(&did)[3..], ["354", code, "250"], "{length}");
        let mut bench = Harness::greeted(config());
        let did = bench.send(format!("{MAIL}BDAT {length} LAST\r\n{}NOOP\r\n", "x".repeat(length)));
        assert_eq!(codes(&did)[3..], [code, "250"], "{length}");
    }
}

#[test]
fn no_number_is_too_large_for_a_chunk() {
    for number in ["18446744073709551615", "18446744073709551614", "99999999999"] {
        let mut bench = Harness::greeted(config());
        bench.send(format!("{MAIL}BDAT 1\r\nx"));
        assert_eq!(bench.send(format!("BDAT {number} LAST\r\n{}", "x".repeat(5_000))), "");
        assert!(bench.server.chunks.is_empty(), "{number}: what is too large is not kept");
        assert!(Reservation::new(&bench.sink.config.memory_budget).resize(9_000), "and takes nothing from others");
    }
}

#[test]
fn replies_that_nobody_takes_do_not_pile_up() {
    let mut bench = Harness::greeted(config());
    let said = "EHLO x\r\n".repeat(10_000);
    let taken = bench.server.received(said.as_bytes(), bench.now, &mut bench.actions);
    assert!(taken < said.len() && bench.actions.queued_bytes() < 70_000, "{taken} {}", bench.actions.queued_bytes());
}

#[test]
fn all_messages_together_have_a_limit_too() {
    const ROOM: u64 = 500;
    let rules = SessionConfig { memory_budget: Arc::new(MemoryBudget::new(ROOM)), ..config() };
    let mut bench = Harness::greeted(rules.clone());
    let body = "x".repeat(500) + "\r\n.\r\n";
    assert_eq!(codes(&bench.send(format!("{MAIL}DATA\r\n{body}{}", &MAIL[9..])))[3..], ["354", "452", "250", "250"]);
    assert_eq!(codes(&bench.send("BDAT 500 LAST\r\n".to_owned() + &"x".repeat(500))), ["452"]);
    assert!(Reservation::new(&rules.memory_budget).resize(500), "everything was given back");
    let did = bench.send("MAIL FROM:<>\r\n".to_owned() + &format!("RCPT TO:<{}@x.test>\r\n", "x".repeat(60)).repeat(4));
    assert!(codes(&did).contains(&"452"), "many names take room too: {did}");
    bench.send("RSET\r\n");
    assert!(Reservation::new(&rules.memory_budget).resize(500), "everything was given back");
}

#[test]
fn nobody_waits_for_ever() {
    let second = Duration::from_secs(1);
    let all_but = |limit: Duration| limit.saturating_sub(second);
    let mut bench = Harness::greeted(config());
    assert_eq!(bench.advance_time(all_but(TIMEOUTS.command)), "");
    bench.send("NO");
    assert!(bench.advance_time(second).starts_with("421 4.4.2"), "a drip of octets does not stretch a command");
    assert_eq!(bench.events, ["failed: nothing more came before EHLO"]);
    let mut bench = Harness::greeted(config());
    bench.send(format!("{MAIL}DATA\r\n"));
    for _ in 0..10 {
        assert_eq!(bench.advance_time(all_but(TIMEOUTS.body)), "");
        bench.send("x");
    }
    assert!(bench.advance_time(TIMEOUTS.body).ends_with("<close>"));
    assert_eq!(bench.events, ["failed: nothing more came within the mail"]);
    let mut bench = Harness::greeted(config());
    let mut said = String::new();
    for _ in 0..13 {
        said += &bench.advance_time(all_but(TIMEOUTS.command));
        said += &bench.send("NOOP\r\n");
    }
    assert!(said.contains("421 4.4.2 this session") && said.ends_with("<close>"), "{said}");
}

#[test]
fn a_server_that_closes_lets_a_mail_end_and_waits_for_its_quit() {
    let mut bench = Harness::greeted(config());
    bench.server.draining(bench.now, &mut bench.actions);
    assert!(bench.take_output().starts_with("421 4.3.2"));
    let mut bench = Harness::greeted(config());
    bench.send(format!("{MAIL}DATA\r\nx\r\n"));
    bench.server.draining(bench.now, &mut bench.actions);
    assert_eq!(bench.take_output(), "");
    assert_eq!(codes(&bench.send(".\r\n")), ["250"]);
    assert_eq!(bench.advance_time(Duration::from_millis(900)), "");
    assert_eq!(bench.send("QUIT\r\n"), "221 2.0.0 bye\r\n<close>");
    let mut bench = Harness::greeted(config());
    bench.send(format!("{MAIL}DATA\r\n.\r\n"));
    bench.server.draining(bench.now, &mut bench.actions);
    assert!(bench.advance_time(Duration::from_secs(1)).starts_with("421"));
}
