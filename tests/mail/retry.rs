//! Retries: deferred recipients only.

use crate::{After, AfterMessage, Close, Send, Turn, mail, servers};

/// Turns of greeting and EHLO, and replies to RCPT for a and b.
fn envelope(a: &'static str, b: Option<&'static str>) -> Vec<Turn> {
    let mut turns = vec![Send("220 mx\r\n"), After("EHLO ", "250 mx\r\n"), After("MAIL", "250\r\n"), After("RCPT", a)];
    turns.extend(b.map(|b| After("RCPT", b)));
    turns
}

fn delivered(mut turns: Vec<Turn>, dot: &'static str) -> Vec<Turn> {
    turns.extend([After("DATA", "354 go\r\n"), AfterMessage(dot), After("QUIT", "221 bye\r\n")]);
    turns
}

const DEFERRED: &str = "451 4.7.1 greylisted\r\n";
const ACCEPTED: &str = "250 2.1.5 ok\r\n";

#[test]
fn only_deferred_recipients_are_retried() {
    let first = delivered(envelope(ACCEPTED, Some(DEFERRED)), "250 queued\r\n");
    let second = delivered(envelope(ACCEPTED, None), "250 queued\r\n");
    let (peer, received) = servers(vec![first, second]);
    let ran = mail(&peer, &["--to", "b@x.test", "--retry", "3", "--retry-wait", "1ms"]);
    let (events, summary) = (ran.events(), ran.summary());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let retry = events.iter().find(|event| event["type"] == "retry").expect("one");
    assert_eq!((&retry["attempt"], &retry["recipients"], &retry["wait_ns"]), (&2.into(), &1.into(), &1_000_000.into()));
    let outcomes = summary["recipients"].as_array().expect("a list");
    assert!(outcomes.len() == 2 && outcomes.iter().all(|recipient| recipient["outcome"] == "accepted"), "{summary}");
    let (first, second) = (received.recv().expect("ended"), received.recv().expect("ended"));
    assert!(first.contains("RCPT TO:<b@x.test>") && !second.contains("a@x.test>\r\nDATA"), "{second}");
    assert_eq!(second.matches("RCPT TO:").count(), 1);
}

#[test]
fn recipients_still_deferred_at_the_end_exit_75() {
    let later = || {
        let mut turns = envelope(DEFERRED, None);
        turns.push(After("QUIT", "221 bye\r\n"));
        turns
    };
    let (peer, _) = servers(vec![later(), vec![Send("421 4.3.2 later\r\n"), Close], later()]);
    let ran = mail(&peer, &["--retry", "2", "--retry-wait", "1ms"]);
    assert_eq!((ran.code, &ran.summary()["recipients"][0]["outcome"]), (75, &"deferred".into()), "{}", ran.stderr);
}

#[test]
fn unknown_outcomes_and_rejections_are_never_retried() {
    let mut lost = envelope(ACCEPTED, None);
    lost.extend([After("DATA", "354 go\r\n"), AfterMessage(""), Close]);
    let mut rejected = envelope("550 5.1.1 no such user\r\n", None);
    rejected.push(After("QUIT", "221 bye\r\n"));
    for (turns, code) in [(lost, 83), (rejected, 69)] {
        let (peer, _) = servers(vec![turns]);
        let ran = mail(&peer, &["--retry", "5", "--retry-wait", "1ms", "--timeout", "20s"]);
        assert_eq!(ran.code, code, "{}", ran.stderr);
        assert!(!ran.events().iter().any(|event| event["type"] == "retry"));
    }
}

#[test]
fn no_attempt_starts_after_the_deadline() {
    let mut turns = envelope(DEFERRED, None);
    turns.push(After("QUIT", "221 bye\r\n"));
    let (peer, _) = servers(vec![turns]);
    let ran = mail(&peer, &["--retry", "5", "--retry-wait", "1h", "--deadline", "30s"]);
    assert_eq!((ran.code, ran.events().len() > 1), (75, true), "{}", ran.stderr);
    assert!(!ran.events().iter().any(|event| event["type"] == "retry"));
}

#[test]
fn all_or_nothing_applies_to_every_attempt() {
    let no_data = |a, b| {
        let mut turns = envelope(a, Some(b));
        turns.push(After("QUIT", "221 bye\r\n"));
        turns
    };
    let flags = ["--to", "b@x.test", "--all-or-nothing", "--retry", "3", "--retry-wait", "1ms"];
    let (peer, _) = servers(vec![no_data(ACCEPTED, "550 5.1.1 no such user\r\n")]);
    let ran = mail(&peer, &flags);
    assert_eq!(ran.code, 69, "nothing is sent, and a retry would not help: {}", ran.stderr);
    let (peer, _) = servers(vec![no_data(DEFERRED, "550 5.1.1 no such user\r\n")]);
    assert_eq!(mail(&peer, &flags).code, 69, "nothing is sent to the deferred recipient alone");
    let second = delivered(envelope(ACCEPTED, Some(ACCEPTED)), "250 queued\r\n");
    let (peer, received) = servers(vec![no_data(ACCEPTED, DEFERRED), second]);
    let ran = mail(&peer, &flags);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(!received.recv().expect("ended").contains("DATA"));
    assert_eq!(received.recv().expect("ended").matches("RCPT TO:").count(), 2, "all of them again");
}

#[test]
fn outcomes_before_a_failed_last_attempt_count() {
    for last in [vec![Send("554 go away\r\n"), After("QUIT", "221\r\n")], vec![Send("what?\r\n"), Close]] {
        let is_rejected = matches!(last[0], Send("554 go away\r\n"));
        let (peer, _) = servers(vec![delivered(envelope(ACCEPTED, Some(DEFERRED)), "250 queued\r\n"), last]);
        let ran = mail(&peer, &["--to", "b@x.test", "--retry", "1", "--retry-wait", "1ms"]);
        assert_eq!(ran.code, if is_rejected { 67 } else { 75 }, "{}", ran.stderr);
    }
}
