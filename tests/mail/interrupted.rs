//! Interrupted runs and the outcomes known then.

use std::process::Stdio;
use std::sync::mpsc::channel;

use rustix::process::{Signal, kill_process};

use crate::support::{RunOutput, netlab, pid, run};
use crate::{Abort, After, AfterMessage, Close, Notify, Send, Turn, Wait, mail, server};

/// Turns up to the 354 to DATA.
fn up_to_body() -> Vec<Turn> {
    vec![
        Send("220 mx\r\n"),
        After("EHLO ", "250 mx\r\n"),
        After("MAIL", "250\r\n"),
        After("RCPT", "250 2.1.5 ok\r\n"),
        After("DATA", "354 go\r\n"),
    ]
}

fn outcome(ran: &RunOutput) -> (i32, String) {
    let outcome = ran.summary()["recipients"][0]["outcome"].as_str().unwrap_or("none").to_owned();
    (ran.code, outcome)
}

/// Sends the usual mail to a scripted server and signals the client when the script asks for it.
fn interrupted(turns: impl FnOnce(Turn) -> Vec<Turn>, signal: Signal) -> RunOutput {
    interrupted_with(&[], turns, signal)
}

fn interrupted_with(flags: &[&str], turns: impl FnOnce(Turn) -> Vec<Turn>, signal: Signal) -> RunOutput {
    let (sender, reached) = channel();
    let (peer, _) = server(turns(Notify(sender)));
    let address = peer.address.to_string();
    let usual = ["--plain", "--from", "me@x.test", "--to", "a@x.test", "--text", "hello", "--json"];
    let mut command = netlab(&[&["mail", &address], &usual[..], flags].concat());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    reached.recv().expect("the script reached this turn");
    kill_process(pid(&child), signal).expect("signalled");
    child.wait_with_output().expect("it ends").into()
}

#[test]
fn a_deadline_after_the_dot_leaves_the_outcome_unknown() {
    let turns = || up_to_body().into_iter().chain([AfterMessage(""), After("never", "")]).collect();
    for flags in [&["--deadline", "300ms"][..], &["--timeout", "300ms"], &["--deadline", "300ms", "--retry", "3"]] {
        let (peer, _) = server(turns());
        let ran = mail(&peer, flags);
        assert_eq!(outcome(&ran), (83, "unknown".to_owned()), "{flags:?}: {}", ran.stderr);
        assert!(ran.summary()["message_id"].is_string());
    }
    let (peer, _) = server(turns());
    let ran = mail(&peer, &["--deadline", "300ms", "--count", "2"]);
    assert_eq!((ran.code, &ran.summary()["mails"], &ran.summary()["unknown"]), (83, &1.into(), &1.into()));
}

#[test]
fn a_reply_received_before_an_interruption_counts() {
    let quit = |turn| up_to_body().into_iter().chain([AfterMessage("250 ok\r\n"), After("QUIT", ""), turn]).collect();
    assert_eq!(outcome(&interrupted(quit, Signal::INT)), (0, "accepted".to_owned()));
    let (peer, _) = server(
        up_to_body().into_iter().chain([AfterMessage("250 ok\r\n"), After("QUIT", ""), After("never", "")]).collect(),
    );
    assert_eq!(outcome(&mail(&peer, &["--deadline", "300ms"])), (0, "accepted".to_owned()));
}

#[test]
fn a_signal_ends_the_run_with_known_outcomes() {
    let dot = |turn| up_to_body().into_iter().chain([AfterMessage(""), turn]).collect();
    assert_eq!(outcome(&interrupted(dot, Signal::INT)), (83, "unknown".to_owned()));
    assert_eq!(outcome(&interrupted(dot, Signal::TERM)), (83, "unknown".to_owned()));
    let banner = |turn| vec![turn];
    assert_eq!(outcome(&interrupted(banner, Signal::INT)), (130, "none".to_owned()));
    let rcpt = |turn| {
        vec![Send("220 mx\r\n"), After("EHLO ", "250 mx\r\n"), After("MAIL", "250\r\n"), After("RCPT", ""), turn]
    };
    let ran = interrupted(rcpt, Signal::TERM);
    assert_eq!(outcome(&ran), (143, "none".to_owned()));
    assert_eq!(
        (ran.summary()["stage"].as_str(), ran.summary()["recipients"][0]["address"].as_str()),
        (Some("rcpt"), Some("a@x.test"))
    );
}

#[test]
fn recipients_are_listed_even_without_a_connection() {
    let ran =
        run(&["mail", "127.0.0.1:1", "--from", "a@x.test", "--to", "b@x.test", "--text", "x", "--plain", "--json"]);
    assert_eq!(outcome(&ran), (69, "none".to_owned()));
    assert_eq!(
        (&ran.summary()["stage"], &ran.summary()["recipients"][0]["address"]),
        (&"connect".into(), &"b@x.test".into())
    );
}

#[test]
fn a_server_that_stops_reading_times_out() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("large");
    std::fs::write(&file, vec![7; 32 << 20]).expect("written");
    let (release, released) = channel();
    let (peer, _) = server(up_to_body().into_iter().chain([Wait(released)]).collect());
    let ran = mail(&peer, &["--attach", crate::support::path_str(&file), "--timeout", "300ms"]);
    drop(release);
    assert_eq!(outcome(&ran), (75, "deferred".to_owned()), "{}", ran.stderr);
    assert!(ran.stderr.contains("stopped reading"), "{}", ran.stderr);
}

#[test]
fn a_rejection_in_the_middle_of_a_message_is_read_despite_a_reset() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("large");
    std::fs::write(&file, vec![7; 16 << 20]).expect("written");
    let (peer, _) = server(up_to_body().into_iter().chain([After("From:", "552 5.3.4 enough\r\n"), Abort]).collect());
    let ran = mail(&peer, &["--attach", crate::support::path_str(&file)]);
    assert_eq!(outcome(&ran), (69, "rejected".to_owned()), "{}", ran.stderr);
    assert!(ran.stderr.contains("552 5.3.4 enough"), "{}", ran.stderr);
}

#[test]
fn the_failed_stage_and_its_reply_are_reported() {
    for (turns, code, stage, reply) in [
        (vec![Send("554 go away\r\n"), After("QUIT", "221\r\n")], 69, "banner", 554),
        (
            vec![
                Send("220 mx\r\n"),
                After("EHLO", "250 mx\r\n"),
                After("MAIL", "550 no\r\n"),
                After("QUIT", "221\r\n"),
            ],
            69,
            "mail",
            550,
        ),
        (
            up_to_body().into_iter().take(4).chain([After("DATA", "503 no\r\n"), After("QUIT", "221\r\n")]).collect(),
            69,
            "data",
            503,
        ),
        (up_to_body().into_iter().take(4).chain([After("DATA", "421 bye\r\n"), Close]).collect(), 75, "data", 421),
        (
            up_to_body().into_iter().chain([AfterMessage("552 large\r\n"), After("QUIT", "221\r\n")]).collect(),
            69,
            "dot",
            552,
        ),
    ] {
        let (peer, _) = server(turns);
        let ran = mail(&peer, &[]);
        let summary = ran.summary();
        assert_eq!(
            (ran.code, &summary["stage"], &summary["recipients"][0]["code"]),
            (code, &stage.into(), &reply.into()),
            "{}",
            ran.stderr
        );
    }
}

#[test]
fn outcomes_are_reported_even_if_a_file_cannot_be_written() {
    let (peer, _) = server(vec![
        Send("220 mx\r\n"),
        After("EHLO ", "250 mx\r\n"),
        After("MAIL", "250\r\n"),
        After("RCPT", "550 5.1.1 no such user\r\n"),
        After("QUIT", "221\r\n"),
    ]);
    let ran = mail(&peer, &["--rejected-to", "/dev/full"]);
    assert_eq!(outcome(&ran), (73, "rejected".to_owned()), "{}", ran.stderr);
}

#[test]
fn a_signal_ends_a_load_and_a_retry_at_any_point() {
    let dot = |turn| up_to_body().into_iter().chain([AfterMessage(""), turn]).collect();
    let quit = |turn| up_to_body().into_iter().chain([AfterMessage("250 ok\r\n"), After("QUIT", ""), turn]).collect();
    for flags in [&["--count", "0"][..], &["--count", "0", "--reuse"]] {
        let ran = interrupted_with(flags, dot, Signal::INT);
        assert_eq!((ran.code, &ran.summary()["mails"]), (83, &1.into()), "{}", ran.stderr);
    }
    let ran = interrupted_with(&["--count", "0"], quit, Signal::TERM);
    assert_eq!((ran.code, &ran.summary()["mails"]), (0, &1.into()), "{}", ran.stderr);
    let idle = |turn| up_to_body().into_iter().chain([AfterMessage("250 ok\r\n"), turn]).collect();
    let ran = interrupted_with(&["--count", "0", "--reuse", "--rate", "0.001/s"], idle, Signal::INT);
    assert_eq!((ran.code, &ran.summary()["mails"]), (0, &1.into()), "{}", ran.stderr);
    let later = |turn| {
        let deferred = [After("RCPT", "451 later\r\n"), After("QUIT", ""), turn];
        up_to_body().into_iter().take(3).chain(deferred).collect()
    };
    let ran = interrupted_with(&["--retry", "5", "--retry-wait", "1h"], later, Signal::INT);
    assert_eq!(outcome(&ran), (75, "deferred".to_owned()), "{}", ran.stderr);
}
