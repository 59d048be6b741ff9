//! What has an end: lines, messages, errors, patience, and the server itself.

use super::{Allowance, Bench, LIMITS, MAIL, Rules, codes, rules};
use crate::conversation::StreamProtocol as _;
use crate::smtp::server::Lease;
use std::sync::Arc;
use std::time::Duration;

#[test]
fn recipients_lines_and_errors_have_their_limits() {
    let mut bench = Bench::greeted(rules());
    bench.hear("EHLO me\r\nMAIL FROM:<a@x>\r\n");
    let did = bench.hear("RCPT TO:<a@x>\r\n".repeat(4));
    assert_eq!(codes(&did), ["250", "250", "250", "452"]);
    let mut bench = Bench::greeted(rules());
    let line = |length: usize| format!("NOOP {}\r\n", "x".repeat(length - 7));
    assert_eq!(codes(&bench.hear(line(2_048))), ["250"]);
    assert_eq!(codes(&bench.hear(line(2_050))), ["500"]);
    let login = |length: usize| format!("AUTH X {}\r\n", "x".repeat(length - 9));
    assert_eq!(codes(&bench.hear(login(12_288))), ["502"]);
    assert_eq!(codes(&bench.hear(login(12_290))), ["500"]);
    for _ in 0..100 {
        bench.hear("x".repeat(20_000));
    }
    assert_eq!(codes(&bench.hear("\r\nNOOP\r\n")), ["500", "250"]);
    let did = Bench::greeted(rules()).hear(format!("POST /{}", "a".repeat(20_000)));
    assert!(did.starts_with("421") && did.ends_with("<close>"), "{did}");
    let did = Bench::greeted(rules()).hear("XYZ\r\n".repeat(50));
    assert_eq!(
        (codes(&did).len(), did.ends_with("421 4.7.0 too many errors, closing\r\n<close>")),
        (21, true),
        "{did}"
    );
}

#[test]
fn what_is_too_large_is_read_to_its_end_and_refused() {
    for (length, code) in [(1_000, "250"), (1_001, "552"), (500_000, "552")] {
        let mut bench = Bench::greeted(rules());
        let body = "x".repeat(length - 2) + "\r\n.\r\n";
        let did = bench.hear(format!("{MAIL}DATA\r\n{body}NOOP\r\n"));
        assert_eq!(codes(&did)[3..], ["354", code, "250"], "{length}");
        let mut bench = Bench::greeted(rules());
        let did = bench.hear(format!("{MAIL}BDAT {length} LAST\r\n{}NOOP\r\n", "x".repeat(length)));
        assert_eq!(codes(&did)[3..], [code, "250"], "{length}");
    }
}

#[test]
fn no_number_is_too_large_for_a_chunk() {
    for number in ["18446744073709551615", "18446744073709551614", "99999999999"] {
        let mut bench = Bench::greeted(rules());
        bench.hear(format!("{MAIL}BDAT 1\r\nx"));
        assert_eq!(bench.hear(format!("BDAT {number} LAST\r\n{}", "x".repeat(5_000))), "");
        assert!(bench.server.chunks.is_empty(), "{number}: what is too large is not kept");
        assert!(Lease::new(&bench.room.rules.allowance).resize(9_000), "and takes nothing from others");
    }
}

#[test]
fn replies_that_nobody_takes_do_not_pile_up() {
    let mut bench = Bench::greeted(rules());
    let said = "EHLO x\r\n".repeat(10_000);
    let taken = bench.server.received(said.as_bytes(), bench.now, &mut bench.out);
    assert!(taken < said.len() && bench.out.queued_bytes() < 70_000, "{taken} {}", bench.out.queued_bytes());
}

#[test]
fn all_messages_together_have_a_limit_too() {
    const ROOM: u64 = 500;
    let rules = Rules { allowance: Arc::new(Allowance::new(ROOM)), ..rules() };
    let mut bench = Bench::greeted(rules.clone());
    let body = "x".repeat(500) + "\r\n.\r\n";
    assert_eq!(codes(&bench.hear(format!("{MAIL}DATA\r\n{body}{}", &MAIL[9..])))[3..], ["354", "452", "250", "250"]);
    assert_eq!(codes(&bench.hear("BDAT 500 LAST\r\n".to_owned() + &"x".repeat(500))), ["452"]);
    assert!(Lease::new(&rules.allowance).resize(500), "everything was given back");
    let did = bench.hear("MAIL FROM:<>\r\n".to_owned() + &format!("RCPT TO:<{}@x.test>\r\n", "x".repeat(60)).repeat(4));
    assert!(codes(&did).contains(&"452"), "many names take room too: {did}");
    bench.hear("RSET\r\n");
    assert!(Lease::new(&rules.allowance).resize(500), "everything was given back");
}

#[test]
fn nobody_waits_for_ever() {
    let second = Duration::from_secs(1);
    let all_but = |limit: Duration| limit.saturating_sub(second);
    let mut bench = Bench::greeted(rules());
    assert_eq!(bench.wait(all_but(LIMITS.command)), "");
    bench.hear("NO");
    assert!(bench.wait(second).starts_with("421 4.4.2"), "a drip of octets does not stretch a command");
    assert_eq!(bench.facts, ["failed: nothing more came before EHLO"]);
    let mut bench = Bench::greeted(rules());
    bench.hear(format!("{MAIL}DATA\r\n"));
    for _ in 0..10 {
        assert_eq!(bench.wait(all_but(LIMITS.body)), "");
        bench.hear("x");
    }
    assert!(bench.wait(LIMITS.body).ends_with("<close>"));
    assert_eq!(bench.facts, ["failed: nothing more came within the mail"]);
    let mut bench = Bench::greeted(rules());
    let mut said = String::new();
    for _ in 0..13 {
        said += &bench.wait(all_but(LIMITS.command));
        said += &bench.hear("NOOP\r\n");
    }
    assert!(said.contains("421 4.4.2 this session") && said.ends_with("<close>"), "{said}");
}

#[test]
fn a_server_that_closes_lets_a_mail_end_and_waits_for_its_quit() {
    let mut bench = Bench::greeted(rules());
    bench.server.draining(bench.now, &mut bench.out);
    assert!(bench.did().starts_with("421 4.3.2"));
    let mut bench = Bench::greeted(rules());
    bench.hear(format!("{MAIL}DATA\r\nx\r\n"));
    bench.server.draining(bench.now, &mut bench.out);
    assert_eq!(bench.did(), "");
    assert_eq!(codes(&bench.hear(".\r\n")), ["250"]);
    assert_eq!(bench.wait(Duration::from_millis(900)), "");
    assert_eq!(bench.hear("QUIT\r\n"), "221 2.0.0 bye\r\n<close>");
    let mut bench = Bench::greeted(rules());
    bench.hear(format!("{MAIL}DATA\r\n.\r\n"));
    bench.server.draining(bench.now, &mut bench.out);
    assert!(bench.wait(Duration::from_secs(1)).starts_with("421"));
}
