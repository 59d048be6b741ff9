//! Effects of fault rules on a session.

use super::{BANNER, Fixture, MAIL, SessionConfig, TestSink, codes, config, effect, with_faults, with_users};
use crate::protocol::StreamProtocol as _;
use crate::smtp::Stage;
use crate::smtp::server::ServerReply;
use crate::smtp::server::fault::{Effect, FaultAction, FaultPoint};
use std::time::Duration;

fn reply_with(code: u16, text: &'static str) -> FaultAction {
    effect(Effect::Reply(ServerReply::new(code, text)))
}

#[test]
fn a_command_with_a_negative_reply_is_not_executed() {
    let later = reply_with(451, "4.7.1 greylisted");
    let mut harness = Fixture::greeted(with_faults(&[(FaultPoint::Reply(Stage::Rcpt), "#1..2", later)]));
    let output =
        harness.send("EHLO me\r\nMAIL FROM:<a@x>\r\nRCPT TO:<b@x>\r\nDATA\r\nRCPT TO:<b@x>\r\nRCPT TO:<b@x>\r\n");
    assert_eq!(codes(&output), ["250", "250", "451", "503", "451", "250"]);
    assert!(output.contains("451 4.7.1 greylisted\r\n"));
    assert!(harness.events.contains(&"fault 0 1".to_owned()) && harness.events.contains(&"fault 0 2".to_owned()));
    let large = reply_with(552, "5.3.4 too big");
    let mut harness = Fixture::greeted(with_faults(&[(FaultPoint::Reply(Stage::Dot), "#1", large)]));
    assert_eq!(codes(&harness.send(format!("{MAIL}DATA\r\nx\r\n.\r\n")))[4], "552");
    assert!(harness.sink.messages.borrow().is_empty());
    assert_eq!(codes(&harness.send("MAIL FROM:<>\r\nRCPT TO:<b@x>\r\nDATA\r\n.\r\n"))[3], "250");
}

#[test]
fn after_a_negative_banner_only_quit_is_accepted() {
    let mut harness = Fixture::new(with_faults(&[(FaultPoint::Reply(Stage::Banner), "", reply_with(554, "go away"))]));
    assert_eq!(harness.connect(None), "554 go away\r\n");
    assert_eq!(codes(&harness.send(format!("{MAIL}QUIT\r\n"))), ["503", "503", "503", "221", "<cl"]);
}

#[test]
fn a_connection_dropped_after_the_dot_has_delivered() {
    let mut harness = Fixture::greeted(with_faults(&[(FaultPoint::Reply(Stage::Dot), "", effect(Effect::Drop))]));
    let output = harness.send(format!("{MAIL}DATA\r\nx\r\n.\r\nQUIT\r\n"));
    assert!(output.ends_with("354 start mail input; end with <CRLF>.<CRLF>\r\n<close>"), "{output}");
    assert_eq!(harness.sink.messages.borrow().len(), 1);
    assert_eq!(harness.events.last().map(String::as_str), Some("accepted 3"));
    let mut harness = Fixture::greeted(with_faults(&[(FaultPoint::Reply(Stage::Mail), "", effect(Effect::Reset))]));
    assert!(harness.send(MAIL).ends_with("<reset>"));
}

#[test]
fn a_stalled_session_ignores_input_until_its_time_limit() {
    let mut harness = Fixture::greeted(with_faults(&[(FaultPoint::Reply(Stage::Data), "", effect(Effect::Stall))]));
    let output = harness.send(format!("{MAIL}DATA\r\n"));
    assert_eq!(codes(&output).len(), 3);
    assert_eq!(harness.send("x\r\n.\r\nNOOP\r\n"), "");
    assert_eq!(harness.advance_time(Duration::from_secs(1_000)), "");
    assert_eq!(harness.advance_time(Duration::from_secs(2_600)), "<close>");
    // A client that closes is detected, and shutdown does not wait for a stalled session.
    let stalled = || {
        let mut harness = Fixture::greeted(with_faults(&[(FaultPoint::Reply(Stage::Ehlo), "", effect(Effect::Stall))]));
        assert_eq!((harness.send("EHLO me\r\n"), harness.server.is_paused()), (String::new(), false));
        harness
    };
    let mut harness = stalled();
    harness.server.ended(&crate::protocol::CloseReason::Finished, harness.now, &mut harness.actions);
    assert_eq!(harness.take_output(), "<close>");
    let mut harness = stalled();
    harness.server.draining(harness.now, &mut harness.actions);
    assert_eq!(harness.take_output(), "<close>");
}

#[test]
fn a_delay_ends_at_the_session_time_limit() {
    let delay = FaultAction { delay: Duration::from_secs(7_200), ..FaultAction::default() };
    let mut harness = Fixture::greeted(with_faults(&[(FaultPoint::Reply(Stage::Ehlo), "", delay)]));
    harness.send("EHLO me\r\n");
    assert_eq!(harness.advance_time(Duration::from_secs(3_600)), "<close>");
}

#[test]
fn a_chunk_rejected_by_a_rule_fails_the_transaction() {
    let mut harness = Fixture::greeted(with_faults(&[(FaultPoint::Reply(Stage::Data), "#1", reply_with(451, "no"))]));
    let output = harness.send(format!("{MAIL}BDAT 3\r\nabcRCPT TO:<c@x>\r\nBDAT 3 LAST\r\ndefRSET\r\nNOOP\r\n"));
    assert_eq!(codes(&output)[3..], ["451", "503", "503", "250", "250"]);
    assert!(harness.sink.messages.borrow().is_empty());
}

#[test]
fn a_chunked_body_can_be_cut_off() {
    let cut = |action| {
        Fixture::greeted(with_faults(&[(FaultPoint::Body, "", action)])).send(format!("{MAIL}BDAT 9 LAST\r\nabc"))
    };
    assert!(cut(effect(Effect::Drop)).ends_with("recipient ok\r\n<close>"));
    assert!(cut(reply_with(552, "5.3.4 enough")).ends_with("552 5.3.4 enough\r\n<close>"));
}

#[test]
fn a_rejection_replaced_by_a_positive_reply_is_not_reported() {
    let accepted = reply_with(250, "fine");
    let mut harness = Fixture::greeted(with_faults(&[(FaultPoint::Reply(Stage::Rcpt), "", accepted)]));
    assert_eq!(codes(&harness.send("RCPT TO:<a@x>\r\n".repeat(30))), vec!["250"; 30]);
    assert!(harness.events.iter().all(|event| !event.starts_with("rejected")), "{:?}", harness.events);
}

#[test]
fn a_delayed_reply_pauses_the_session() {
    let delay = FaultAction { delay: Duration::from_secs(6), ..FaultAction::default() };
    let mut harness = Fixture::new(with_faults(&[(FaultPoint::Reply(Stage::Banner), "", delay)]));
    assert_eq!(harness.connect(None), "");
    assert!(harness.server.is_paused());
    assert_eq!(harness.advance_time(Duration::from_secs(5)), "");
    assert_eq!(harness.advance_time(Duration::from_secs(1)), BANNER);
    assert!(!harness.server.is_paused());
}

#[test]
fn a_slow_reply_is_sent_in_pieces() {
    let slow = FaultAction { bytes_per_second: Some(10), ..FaultAction::default() };
    let mut harness = Fixture::greeted(with_faults(&[(FaultPoint::Reply(Stage::Quit), "", slow)]));
    let mut output = harness.send("QUIT\r\n");
    assert_eq!(output, "2");
    for _ in 0..14 {
        output += &harness.advance_time(Duration::from_millis(100));
    }
    assert_eq!(output, "221 2.0.0 bye\r\n");
    assert_eq!(harness.advance_time(Duration::from_millis(100)), "<close>");
}

#[test]
fn raw_bytes_replace_every_reply() {
    let raw = effect(Effect::Raw(b"250\r\n".to_vec()));
    let mut harness = Fixture::new(with_faults(&[(FaultPoint::AnyReply, "", raw)]));
    assert_eq!(harness.connect(None), "250\r\n");
    assert_eq!(harness.send(format!("{MAIL}DATA\r\nx\r\n.\r\n")), "250\r\n".repeat(5));
    assert_eq!(harness.sink.messages.borrow().len(), 1);
}

#[test]
fn a_421_closes_the_connection_even_if_a_rule_replaces_it() {
    let mut harness = Fixture::new(with_faults(&[(FaultPoint::AnyReply, "", reply_with(250, "ok"))]));
    harness.connect(None);
    assert_eq!(harness.send(format!("POST / HTTP/1.1\r\n{MAIL}")), "250 ok\r\n<close>");
}

#[test]
fn hidden_extensions_are_neither_listed_nor_accepted() {
    let hide = |keywords: &[&str]| effect(Effect::Hide(keywords.iter().map(|&keyword| keyword.to_owned()).collect()));
    let faults = [
        (FaultPoint::EhloExtensions, "#1", hide(&["starttls"])),
        (FaultPoint::EhloExtensions, "", hide(&["SIZE", "CHUNKING"])),
    ];
    let mut harness = Fixture::greeted(with_faults(&faults));
    let output = harness.send("EHLO me\r\n");
    assert!(!output.contains("STARTTLS") && !output.contains("SIZE") && output.contains("8BITMIME"), "{output}");
    let output = harness.send("STARTTLS\r\nMAIL FROM:<a@x> SIZE=1\r\nBDAT 6\r\nRSET\r\n");
    assert_eq!(codes(&output), ["502", "555", "502"]);
    assert!(harness.send("EHLO me\r\n").contains("STARTTLS"));
}

#[test]
fn starttls_can_be_rejected_corrupted_and_stalled() {
    let at = |point, action| Fixture::greeted(with_faults(&[(point, "", action)]));
    let starttls = FaultPoint::Reply(Stage::Starttls);
    assert_eq!(codes(&at(starttls, reply_with(454, "4.7.0 no")).send("STARTTLS\r\nNOOP\r\n")), ["454", "250"]);
    let inject = FaultAction { injected: b"250-evil\r\n".to_vec(), ..FaultAction::default() };
    assert_eq!(at(starttls, inject).send("STARTTLS\r\n"), "220 2.0.0 ready to start TLS\r\n250-evil\r\n<tls>");
    assert_eq!(at(starttls, effect(Effect::Stall)).send("STARTTLS\r\n"), "");
    let handshake = |action| {
        let mut harness = at(FaultPoint::TlsHandshake, action);
        let output = harness.send("STARTTLS\r\n");
        output + &harness.send(b"\x16\x03\x01client hello")
    };
    let ready = "220 2.0.0 ready to start TLS\r\n";
    assert_eq!(handshake(effect(Effect::Drop)), format!("{ready}<close>"));
    assert_eq!(handshake(effect(Effect::Stall)), ready);
    assert_eq!(handshake(effect(Effect::Raw(b"what?".to_vec()))), format!("{ready}what?<close>"));
    assert_eq!(handshake(effect(Effect::Alert)), format!("{ready}\x15\x03\x03\0\x02\x02(<close>"));
}

#[test]
fn a_body_can_be_cut_off() {
    let body = |action| {
        let mut harness = Fixture::greeted(with_faults(&[(FaultPoint::Body, "", action)]));
        let output = harness.send(format!("{MAIL}DATA\r\nfirst line\r\n"));
        (output.split("<CRLF>.<CRLF>\r\n").nth(1).unwrap_or_default().to_owned(), harness)
    };
    assert_eq!(body(effect(Effect::Drop)).0, "<close>");
    assert_eq!(body(reply_with(552, "5.3.4 enough")).0, "552 5.3.4 enough\r\n<close>");
    let (output, mut harness) = body(FaultAction { delay: Duration::from_secs(1), ..FaultAction::default() });
    assert_eq!(output, "");
    assert_eq!(harness.advance_time(Duration::from_secs(1)), "");
    assert_eq!(codes(&harness.send("first line\r\n.\r\n")), ["250"]);
    assert_eq!(harness.sink.messages.borrow()[0].message, b"first line\r\n");
}

#[test]
fn a_connection_can_end_before_its_banner() {
    let mut harness = Fixture::new(with_faults(&[(FaultPoint::Connect, "", effect(Effect::Drop))]));
    assert_eq!(harness.connect(None), "<close>");
    let mut harness = Fixture::new(config());
    harness.server = harness.server.with_handshake_effect(Effect::Alert);
    assert_eq!(harness.connect(None), "");
    assert_eq!(harness.send(b"\x16\x03\x01client hello"), "\x15\x03\x03\0\x02\x02(<close>");
}

#[test]
fn a_login_can_be_challenged_repeatedly() {
    let endless = (FaultPoint::AuthChallenge, "", effect(Effect::Challenges(3)));
    let mut harness = Fixture::greeted(TestSink { config: with_users(), ..with_faults(&[endless]) });
    harness.send("EHLO me\r\n");
    assert_eq!(harness.send("AUTH SCRAM-SHA-256\r\n"), "334 \r\n");
    assert_eq!(codes(&harness.send("AA==\r\nAA==\r\nAA==\r\n")), ["334", "334", "535"]);
    assert_eq!(codes(&harness.send("AUTH SCRAM-SHA-256\r\n*\r\nNOOP\r\n")), ["334", "501", "250"]);
}

#[test]
fn a_challenge_replaced_by_a_negative_reply_ends_the_login() {
    let later = (FaultPoint::AnyReply, "#3", reply_with(451, "later"));
    let config = SessionConfig { allows_plaintext_auth: true, ..with_users() };
    let mut harness = Fixture::greeted(TestSink { config, ..with_faults(&[later]) });
    assert_eq!(codes(&harness.send("EHLO me\r\nAUTH LOGIN\r\nNOOP\r\n")), ["250", "451", "250"]);
}
