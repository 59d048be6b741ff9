//! Loads of many mails.

use crate::support::{path_str, run};
use crate::{After, AfterMessage, Send, Turn, mail, server, servers};

/// Turns of a connection that accepts this many mails.
fn connection(mails: usize) -> Vec<Turn> {
    let mut turns = vec![Send("220 mx\r\n"), After("EHLO ", "250 mx\r\n")];
    for _ in 0..mails {
        turns.extend([
            After("MAIL", "250\r\n"),
            After("RCPT", "250\r\n"),
            After("DATA", "354 go\r\n"),
            AfterMessage("250 queued\r\n"),
        ]);
    }
    turns.push(After("QUIT", "221 bye\r\n"));
    turns
}

/// Turns of a connection that rejects the recipients with these replies.
fn all_rejected(replies: &[&'static str]) -> Vec<Turn> {
    let envelope = [Send("220 mx\r\n"), After("EHLO ", "250 mx\r\n"), After("MAIL", "250\r\n")];
    let recipients = replies.iter().map(|reply| After("RCPT", reply));
    envelope.into_iter().chain(recipients).chain([After("QUIT", "221\r\n")]).collect()
}

#[test]
fn many_mails_over_one_connection_are_timed() {
    let (peer, _) = server(connection(3));
    let directory = tempfile::tempdir().expect("a directory");
    let chart = directory.path().join("chart.svg");
    let ran = mail(&peer, &["--count", "3", "--reuse", "--svg", path_str(&chart)]);
    let summary = ran.summary();
    assert_eq!(summary["peer"], peer.address.to_string(), "{summary}");
    assert!(std::fs::read_to_string(&chart).expect("written").contains("3 mails, all succeeded"));
    assert_eq!((ran.code, &summary["mails"], &summary["accepted"]), (0, &3.into(), &3.into()), "{}", ran.stderr);
    assert_eq!((&summary["total"]["count"], &summary["stages"]["dot"]["count"]), (&3.into(), &3.into()));
    assert_eq!((&summary["stages"]["connect"]["count"], summary["stages"]["tls"].is_null()), (&1.into(), true));
    assert!(summary["per_second"].as_f64().is_some_and(|rate| rate > 0.0));
}

#[test]
fn without_reuse_each_mail_uses_a_connection_of_its_own() {
    let (peer, _) = servers(vec![connection(1), connection(1)]);
    let ran = mail(&peer, &["--count", "2", "--rate", "1000/s"]);
    let summary = ran.summary();
    assert_eq!((ran.code, &summary["stages"]["connect"]["count"]), (0, &2.into()), "{}", ran.stderr);
}

#[test]
fn a_broken_assertion_exits_1_and_a_deferred_mail_75() {
    let (peer, _) = server(connection(1));
    let ran = mail(&peer, &["--count", "1", "--fail-if", "dot.p99>=0s"]);
    assert!(ran.code == 1 && ran.stderr.contains("dot.p99"), "{}", ran.stderr);
    let later = vec![
        Send("220 mx\r\n"),
        After("EHLO ", "250 mx\r\n"),
        After("MAIL", "451 later\r\n"),
        After("QUIT", "221\r\n"),
    ];
    let (peer, _) = server(later);
    let ran = mail(&peer, &["--count", "1", "--fail-if", "errors>0"]);
    assert_eq!((ran.code, &ran.summary()["deferred"]), (75, &1.into()), "{}", ran.stderr);
}

#[test]
fn refused_connections_end_a_load_and_external_targets_are_rejected() {
    let load = |server: &str, flags: &[&str]| {
        let usual = ["mail", server, "--plain", "--from", "me@x.test", "--to", "a@x.test", "--text", "x", "--json"];
        run(&[&usual, flags].concat())
    };
    let ran = load("127.0.0.1:1", &["--count", "0", "--concurrency", "2"]);
    let summary = ran.summary();
    assert_eq!((ran.code, &summary["accepted"], summary["total"].is_null()), (69, &0.into(), true), "{}", ran.stderr);
    let ran = load("192.0.2.1:25", &["--count", "2"]);
    assert!(ran.code == 2 && ran.stderr.contains("--i-own-this-target"), "{}", ran.stderr);
    assert_eq!(load("127.0.0.1:1", &["--rate", "10"]).code, 2);
    for alone in [&["--trace"][..], &["--explain"], &["--info"], &["--retry", "2"], &["--dry-run"]] {
        assert_eq!(load("127.0.0.1:1", &[&["--count", "2"], alone].concat()).code, 2, "{alone:?}");
    }
}

#[test]
fn the_deadline_ends_a_run_and_counts_no_failure() {
    let (peer, _) = server(connection(1));
    let ran = mail(&peer, &["--count", "0", "--reuse", "--rate", "0.001/s", "--deadline", "300ms"]);
    assert_eq!((ran.code, &ran.summary()["mails"]), (0, &1.into()), "{}", ran.stderr);
}

#[test]
fn rejected_mails_are_all_counted_and_the_reason_reported() {
    let (peer, _) = servers((0..12).map(|_| all_rejected(&["550 5.1.1 no such user here\r\n"])).collect());
    let ran = mail(&peer, &["--count", "12"]);
    assert_eq!((ran.code, &ran.summary()["rejected"]), (69, &12.into()), "{}", ran.stderr);
    assert!(ran.stderr.contains("a@x.test") && ran.stderr.contains("no such user here"), "{}", ran.stderr);
}

#[test]
fn a_deadline_before_any_result_exits_75() {
    let (peer, _) = server(vec![After("never", "")]);
    let ran = mail(&peer, &["--count", "2", "--deadline", "100ms"]);
    assert_eq!((ran.code, &ran.summary()["mails"]), (75, &0.into()), "{}", ran.stderr);
}

#[test]
fn a_mail_in_a_load_has_the_same_exit_code_as_alone() {
    for flags in [&["--to", "b@x.test"][..], &["--to", "b@x.test", "--count", "1"]] {
        let (peer, _) = server(all_rejected(&["550 5.1.1 no such user\r\n", "451 4.7.1 later\r\n"]));
        assert_eq!(mail(&peer, flags).code, 75, "{flags:?}");
    }
}
