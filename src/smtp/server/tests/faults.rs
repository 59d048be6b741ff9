//! What rules of `--fault` make of the dialogue.

use super::{BANNER, Harness, MAIL, codes, config, effect, with_faults};
use crate::protocol::StreamProtocol as _;
use crate::smtp::Stage;
use crate::smtp::server::ServerReply;
use crate::smtp::server::fault::{Effect, FaultAction, FaultPoint};
use std::time::Duration;

fn reply_with(code: u16, text: &'static str) -> FaultAction {
    effect(Effect::Reply(ServerReply::new(code, text)))
}

#[test]
fn a_reply_that_refuses_means_that_nothing_is_done() {
    let later = reply_with(451, "4.7.1 greylisted");
    let mut bench = Harness::greeted(with_faults(&[(FaultPoint::Reply(Stage::Rcpt), "#1..2", later)]));
    let did = bench.send("EHLO me\r\nMAIL FROM:<a@x>\r\nRCPT TO:<b@x>\r\nDATA\r\nRCPT TO:<b@x>\r\nRCPT TO:<b@x>\r\n");
    assert_eq!(codes(&did), ["250", "250", "451", "503", "451", "250"]);
    assert!(did.contains("451 4.7.1 greylisted\r\n"));
    assert!(bench.events.contains(&"fault 0 1".to_owned()) && bench.events.contains(&"fault 0 2".to_owned()));
    let large = reply_with(552, "5.3.4 too big");
    let mut bench = Harness::greeted(with_faults(&[(FaultPoint::Reply(Stage::Dot), "#1", large)]));
    assert_eq!(codes(&bench.send(format!("{MAIL}DATA\r\nx\r\n.\r\n")))[4], "552");
    assert!(bench.sink.messages.borrow().is_empty());
    assert_eq!(codes(&bench.send("MAIL FROM:<>\r\nRCPT TO:<b@x>\r\nDATA\r\n.\r\n"))[3], "250");
}

#[test]
fn after_a_banner_that_refuses_only_quit_is_left() {
    let mut bench = Harness::new(with_faults(&[(FaultPoint::Reply(Stage::Banner), "", reply_with(554, "go away"))]));
    assert_eq!(bench.connect(None), "554 go away\r\n");
    assert_eq!(codes(&bench.send(format!("{MAIL}QUIT\r\n"))), ["503", "503", "503", "221", "<cl"]);
}

#[test]
fn a_line_that_drops_after_the_dot_has_delivered() {
    let mut bench = Harness::greeted(with_faults(&[(FaultPoint::Reply(Stage::Dot), "", effect(Effect::Drop))]));
    let did = bench.send(format!("{MAIL}DATA\r\nx\r\n.\r\nQUIT\r\n"));
    assert!(did.ends_with("alone\r\n<close>"), "{did}");
    assert_eq!((bench.sink.messages.borrow().len(), bench.events.last().map(String::as_str)), (1, Some("taken 3")));
    let mut bench = Harness::greeted(with_faults(&[(FaultPoint::Reply(Stage::Mail), "", effect(Effect::Reset))]));
    assert!(bench.send(MAIL).ends_with("<reset>"));
}

#[test]
fn a_stall_says_nothing_and_hears_nothing_until_the_session_ends() {
    let mut bench = Harness::greeted(with_faults(&[(FaultPoint::Reply(Stage::Data), "", effect(Effect::Stall))]));
    let did = bench.send(format!("{MAIL}DATA\r\n"));
    assert_eq!(codes(&did).len(), 3);
    assert_eq!(bench.send("x\r\n.\r\nNOOP\r\n"), "");
    assert_eq!(bench.advance_time(Duration::from_secs(1_000)), "");
    assert_eq!(bench.advance_time(Duration::from_secs(2_600)), "<close>");
    // A client that gives up is noticed, and a server that closes does not wait for it.
    let stalled = || {
        let mut bench = Harness::greeted(with_faults(&[(FaultPoint::Reply(Stage::Ehlo), "", effect(Effect::Stall))]));
        assert_eq!((bench.send("EHLO me\r\n"), bench.server.is_paused()), (String::new(), false));
        bench
    };
    let mut bench = stalled();
    bench.server.ended(&crate::protocol::CloseReason::Finished, bench.now, &mut bench.actions);
    assert_eq!(bench.take_output(), "<close>");
    let mut bench = stalled();
    bench.server.draining(bench.now, &mut bench.actions);
    assert_eq!(bench.take_output(), "<close>");
}

#[test]
fn a_delay_ends_with_the_session() {
    let delay = FaultAction { delay: Duration::from_secs(7_200), ..FaultAction::default() };
    let mut bench = Harness::greeted(with_faults(&[(FaultPoint::Reply(Stage::Ehlo), "", delay)]));
    bench.send("EHLO me\r\n");
    assert_eq!(bench.advance_time(Duration::from_secs(3_600)), "<close>");
}

#[test]
fn a_chunk_that_a_rule_refuses_spoils_the_mail() {
    let mut bench = Harness::greeted(with_faults(&[(FaultPoint::Reply(Stage::Data), "#1", reply_with(451, "no"))]));
    let did = bench.send(format!("{MAIL}BDAT 3\r\nabcRCPT TO:<c@x>\r\nBDAT 3 LAST\r\ndefRSET\r\nNOOP\r\n"));
    assert_eq!(codes(&did)[3..], ["451", "503", "503", "250", "250"]);
    assert!(bench.sink.messages.borrow().is_empty());
}

#[test]
fn a_body_that_comes_in_chunks_is_cut_too() {
    let cut = |action| {
        Harness::greeted(with_faults(&[(FaultPoint::Body, "", action)])).send(format!("{MAIL}BDAT 9 LAST\r\nabc"))
    };
    assert!(cut(effect(Effect::Drop)).ends_with("recipient ok\r\n<close>"));
    assert!(cut(reply_with(552, "5.3.4 enough")).ends_with("552 5.3.4 enough\r\n<close>"));
}

#[test]
fn what_a_rule_says_in_its_place_is_no_refusal_of_ours() {
    let fine = reply_with(250, "fine");
    let mut bench = Harness::greeted(with_faults(&[(FaultPoint::Reply(Stage::Rcpt), "", fine)]));
    assert_eq!(codes(&bench.send("RCPT TO:<a@x>\r\n".repeat(30))), vec!["250"; 30]);
    assert!(bench.events.iter().all(|fact| !fact.starts_with("refused")), "{:?}", bench.events);
}

#[test]
fn a_reply_is_held_back_and_nothing_is_heard_meanwhile() {
    let delay = FaultAction { delay: Duration::from_secs(6), ..FaultAction::default() };
    let mut bench = Harness::new(with_faults(&[(FaultPoint::Reply(Stage::Banner), "", delay)]));
    assert_eq!(bench.connect(None), "");
    assert!(bench.server.is_paused());
    assert_eq!(bench.advance_time(Duration::from_secs(5)), "");
    assert_eq!(bench.advance_time(Duration::from_secs(1)), BANNER);
    assert!(!bench.server.is_paused());
}

#[test]
fn a_slow_reply_drips() {
    let slow = FaultAction { bytes_per_second: Some(10), ..FaultAction::default() };
    let mut bench = Harness::greeted(with_faults(&[(FaultPoint::Reply(Stage::Quit), "", slow)]));
    let mut did = bench.send("QUIT\r\n");
    assert_eq!(did, "2");
    for _ in 0..14 {
        did += &bench.advance_time(Duration::from_millis(100));
    }
    assert_eq!(did, "221 2.0.0 bye\r\n");
    assert_eq!(bench.advance_time(Duration::from_millis(100)), "<close>");
}

#[test]
fn raw_octets_take_the_place_of_every_reply() {
    let raw = effect(Effect::Raw(b"250\r\n".to_vec()));
    let mut bench = Harness::new(with_faults(&[(FaultPoint::AnyReply, "", raw)]));
    assert_eq!(bench.connect(None), "250\r\n");
    assert_eq!(bench.send(format!("{MAIL}DATA\r\nx\r\n.\r\n")), "250\r\n".repeat(5));
    assert_eq!(bench.sink.messages.borrow().len(), 1);
}

#[test]
fn what_we_close_for_stays_closed_whatever_a_rule_says() {
    let mut bench = Harness::new(with_faults(&[(FaultPoint::AnyReply, "", reply_with(250, "ok"))]));
    bench.connect(None);
    assert_eq!(bench.send(format!("POST / HTTP/1.1\r\n{MAIL}")), "250 ok\r\n<close>");
}

#[test]
fn words_of_ehlo_are_hidden_and_not_known_then() {
    let hide = |words: &[&str]| effect(Effect::Hide(words.iter().map(|word| (*word).to_owned()).collect()));
    let faults = [
        (FaultPoint::EhloExtensions, "#1", hide(&["starttls"])),
        (FaultPoint::EhloExtensions, "", hide(&["SIZE", "CHUNKING"])),
    ];
    let mut bench = Harness::greeted(with_faults(&faults));
    let did = bench.send("EHLO me\r\n");
    assert!(!did.contains("STARTTLS") && !did.contains("SIZE") && did.contains("8BITMIME"), "{did}");
    let did = bench.send("STARTTLS\r\nMAIL FROM:<a@x> SIZE=1\r\nBDAT 6\r\nRSET\r\n");
    assert_eq!(codes(&did), ["502", "555", "502"]);
    assert!(bench.send("EHLO me\r\n").contains("STARTTLS"));
}

#[test]
fn starttls_can_be_refused_spoilt_and_never_answered() {
    let at = |place, action| Harness::greeted(with_faults(&[(place, "", action)]));
    let starttls = FaultPoint::Reply(Stage::Starttls);
    assert_eq!(codes(&at(starttls, reply_with(454, "4.7.0 no")).send("STARTTLS\r\nNOOP\r\n")), ["454", "250"]);
    let inject = FaultAction { injected: b"250-evil\r\n".to_vec(), ..FaultAction::default() };
    assert_eq!(at(starttls, inject).send("STARTTLS\r\n"), "220 2.0.0 begin TLS\r\n250-evil\r\n<tls>");
    assert_eq!(at(starttls, effect(Effect::Stall)).send("STARTTLS\r\n"), "");
    let handshake = |action| {
        let mut bench = at(FaultPoint::TlsHandshake, action);
        let did = bench.send("STARTTLS\r\n");
        did + &bench.send(b"\x16\x03\x01client hello")
    };
    let go = "220 2.0.0 begin TLS\r\n";
    assert_eq!(handshake(effect(Effect::Drop)), format!("{go}<close>"));
    assert_eq!(handshake(effect(Effect::Stall)), go);
    assert_eq!(handshake(effect(Effect::Raw(b"what?".to_vec()))), format!("{go}what?<close>"));
    assert_eq!(handshake(effect(Effect::Alert)), format!("{go}\x15\x03\x03\0\x02\x02(<close>"));
}

#[test]
fn a_body_can_be_cut_in_its_middle() {
    let body = |action| {
        let mut bench = Harness::greeted(with_faults(&[(FaultPoint::Body, "", action)]));
        let did = bench.send(format!("{MAIL}DATA\r\nfirst line\r\n"));
        (did.split("alone\r\n").nth(1).unwrap_or_default().to_owned(), bench)
    };
    assert_eq!(body(effect(Effect::Drop)).0, "<close>");
    assert_eq!(body(reply_with(552, "5.3.4 enough")).0, "552 5.3.4 enough\r\n<close>");
    let (did, mut bench) = body(FaultAction { delay: Duration::from_secs(1), ..FaultAction::default() });
    assert_eq!(did, "");
    assert_eq!(bench.advance_time(Duration::from_secs(1)), "");
    assert_eq!(codes(&bench.send("first line\r\n.\r\n")), ["250"]);
    assert_eq!(bench.sink.messages.borrow()[0].message, b"first line\r\n");
}

#[test]
fn a_connection_can_end_before_its_banner() {
    let mut bench = Harness::new(with_faults(&[(FaultPoint::Connect, "", effect(Effect::Drop))]));
    assert_eq!(bench.connect(None), "<close>");
    let mut bench = Harness::new(config());
    bench.server = bench.server.with_handshake_effect(Effect::Alert);
    assert_eq!(bench.connect(None), "");
    assert_eq!(bench.send(b"\x16\x03\x01client hello"), "\x15\x03\x03\0\x02\x02(<close>");
}

#[test]
fn a_login_can_be_challenged_on_and_on() {
    let endless = (FaultPoint::AuthChallenge, "", effect(Effect::Challenges(3)));
    let rules = crate::smtp::server::SessionConfig { faults: with_faults(&[endless]).faults, ..super::with_users() };
    let mut bench = Harness::greeted(rules);
    bench.send("EHLO me\r\n");
    assert_eq!(bench.send("AUTH SCRAM-SHA-256\r\n"), "334 \r\n");
    assert_eq!(codes(&bench.send("AA==\r\nAA==\r\nAA==\r\n")), ["334", "334", "535"]);
    assert_eq!(codes(&bench.send("AUTH SCRAM-SHA-256\r\n*\r\nNOOP\r\n")), ["334", "501", "250"]);
}

#[test]
fn a_challenge_that_a_rule_refuses_ends_the_login() {
    let later = (FaultPoint::AnyReply, "#3", reply_with(451, "later"));
    let rules = crate::smtp::server::SessionConfig {
        faults: with_faults(&[later]).faults,
        allows_plaintext_auth: true,
        ..super::with_users()
    };
    let mut bench = Harness::greeted(rules);
    assert_eq!(codes(&bench.send("EHLO me\r\nAUTH LOGIN\r\nNOOP\r\n")), ["250", "451", "250"]);
}
