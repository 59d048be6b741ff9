//! Hostile transcripts that need a socket, and their exit codes and output.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::support::{ScriptedPeer, path_str, run};
use crate::{After, AfterMessage, Close, Send, Turn, mail, server};

/// Turns from the greeting to the reply to DATA, for one recipient.
fn up_to_data() -> Vec<Turn> {
    vec![
        Send("220 mx.test\r\n"),
        After("EHLO ", "250-mx.test\r\n250-PIPELINING\r\n250 8BITMIME\r\n"),
        After("MAIL FROM:<me@x.test>", ""),
        After("RCPT TO:<a@x.test>", "250 2.1.0 ok\r\n250 2.1.5 ok\r\n"),
        After("DATA", "354 go\r\n"),
    ]
}

/// Turns of greeting and EHLO, followed by `rest`.
fn greeted(rest: impl IntoIterator<Item = Turn>) -> Vec<Turn> {
    [Send("220 mx\r\n"), After("EHLO ", "250 mx\r\n")].into_iter().chain(rest).collect()
}

fn outcome(summary: &Value) -> &str {
    summary["recipients"][0]["outcome"].as_str().unwrap_or("none")
}

#[test]
fn a_mail_is_sent_and_every_stage_timed() {
    let mut turns = up_to_data();
    turns.extend([AfterMessage("250 2.0.0 queued as 7\r\n"), After("QUIT", "221 bye\r\n")]);
    let (peer, received) = server(turns);
    let ran = mail(&peer, &[]);
    let summary = ran.summary();
    assert_eq!((ran.code, outcome(&summary), &summary["stage"]), (0, "accepted", &"quit".into()), "{}", ran.stderr);
    let recipient = &summary["recipients"][0];
    assert_eq!((&recipient["code"], &recipient["enhanced"]), (&250.into(), &"2.0.0".into()));
    for stage in ["connect", "banner", "ehlo", "mail", "rcpt", "data", "body", "dot", "quit"] {
        assert!(summary["stages"][format!("{stage}_ns")].is_u64(), "{stage}: {summary:#}");
    }
    assert!(summary["stages"]["tls_ns"].is_null());
    let received = received.recv().expect("the script ended");
    let id = summary["message_id"].as_str().expect("an id");
    assert!(
        received.contains(&format!("Message-ID: <{id}>\r\n")) && received.contains("\r\nhello\r\n.\r\nQUIT\r\n"),
        "{received}"
    );
}

#[test]
fn every_step_is_explained_with_its_clause() {
    let mut turns = up_to_data();
    turns.extend([AfterMessage("250 2.0.0 queued as 7\r\n"), After("QUIT", "221 bye\r\n")]);
    let (peer, _) = server(turns);
    let ran = mail(&peer, &["--explain"]);
    for clause in ["§4.1.1.1)", "§4.1.1.2)", "§4.1.1.3)", "§4.1.1.4)", "§4.5.2)", "§4.1.1.10)"] {
        assert!(
            ran.stderr.lines().any(|line| line.starts_with("**") && line.contains(clause)),
            "{clause}: {}",
            ran.stderr
        );
    }
    assert!(ran.stderr.contains("-> MAIL FROM:<me@x.test>") && ran.code == 0, "{}", ran.stderr);
}

#[test]
fn info_prints_the_extensions_and_sends_no_mail() {
    let turns = vec![
        Send("220 mx\r\n"),
        After("EHLO ", "250-mx\r\n250-SIZE 1000\r\n250 8BITMIME\r\n"),
        After("QUIT", "221 bye\r\n"),
    ];
    let (peer, received) = server(turns);
    let ran = run(&["mail", &peer.address.to_string(), "--plain", "--info"]);
    assert!(ran.code == 0 && ran.stdout.contains("extensions: SIZE 1000, 8BITMIME"), "{}{}", ran.stdout, ran.stderr);
    assert!(!received.recv().expect("the script ended").contains("MAIL"));
}

#[test]
fn eight_bit_bodies_are_re_encoded_and_eight_bit_headers_rejected() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("m.eml");
    let send = |peer: &ScriptedPeer| {
        let server = peer.address.to_string();
        run(&[
            "mail",
            &server,
            "--plain",
            "--from",
            "me@x.test",
            "--to",
            "a@x.test",
            "--raw",
            path_str(&file),
            "--json",
        ])
    };
    std::fs::write(&file, "Subject: hi\n\nGrüße\n").expect("written");
    for (offers, is_encoded) in [("250 mx\r\n", true), ("250-mx\r\n250 8BITMIME\r\n", false)] {
        let turns = vec![
            Send("220 mx\r\n"),
            After("EHLO ", offers),
            After("MAIL", "250\r\n"),
            After("RCPT", "250\r\n"),
            After("DATA", "354 go\r\n"),
            AfterMessage("250 queued\r\n"),
            After("QUIT", "221 bye\r\n"),
        ];
        let (peer, received) = server(turns);
        let ran = send(&peer);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let received = received.recv().expect("the script ended");
        assert_eq!(
            (received.contains("R3LDvMOfZQ0K"), received.contains("Grüße")),
            (is_encoded, !is_encoded),
            "{received}"
        );
    }
    std::fs::write(&file, "Subject: Grüße\n\nhi\n").expect("written");
    let (peer, received) = server(greeted([After("QUIT", "221 bye\r\n")]));
    assert_eq!(send(&peer).code, 65);
    assert!(!received.recv().expect("the script ended").contains("MAIL"));
}

#[test]
fn bare_codes_and_bare_line_feeds_are_accepted() {
    for bare in ["250\r\n", "250\n", "250 ok\n"] {
        let turns = vec![
            Send("220 mx\r\n"),
            After("EHLO ", bare),
            After("MAIL", bare),
            After("RCPT", bare),
            After("DATA", "354\r\n"),
            AfterMessage(bare),
            After("QUIT", "221\r\n"),
        ];
        let (peer, _) = server(turns);
        let ran = mail(&peer, &["--trace"]);
        assert_eq!((ran.code, outcome(&ran.summary())), (0, "accepted"), "{bare:?}: {}", ran.stderr);
        assert_eq!(ran.stderr.contains("bare LF"), !bare.contains('\r'), "{}", ran.stderr);
    }
}

#[test]
fn tolerated_deviations_are_errors_with_strict() {
    let (peer, _) = server(vec![Send("220 mx\n")]);
    assert_eq!(mail(&peer, &["--strict"]).code, 76);
    // The message may have been accepted, so the outcome is unknown.
    let mut turns = up_to_data();
    turns.push(AfterMessage("250 queued\n"));
    let (peer, _) = server(turns);
    assert_eq!(mail(&peer, &["--strict"]).code, 83);
    // A malformed reply to QUIT changes no outcome.
    for (quit_reply, flags) in [("221 bye\n", &["--strict"][..]), ("what?\r\n", &[])] {
        let mut turns = up_to_data();
        turns.extend([AfterMessage("250 queued\r\n"), After("QUIT", quit_reply)]);
        let (peer, _) = server(turns);
        let ran = mail(&peer, flags);
        assert_eq!((ran.code, outcome(&ran.summary())), (0, "accepted"), "{quit_reply:?}: {}", ran.stderr);
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = |name: &str, content: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, content).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("changed");
        path_str(&path).to_owned()
    };
    let run_with = |flags: &[&str]| {
        let usual = ["mail", "127.0.0.1:1", "--plain", "--from", "me@x.test", "--to", "a@x.test"];
        run(&[&usual[..], flags].concat()).code
    };
    let raw = file("raw", "Subject: x\r\n\r\na\rb\n");
    assert_eq!((run_with(&["--raw", &raw]), run_with(&["--raw", &raw, "--strict"])), (69, 65));
    let password = file("password", "sesame");
    let login = ["--text", "x", "--user", "tim", "--password-file", &password];
    assert_eq!((run_with(&login), run_with(&[&login[..], &["--strict"]].concat())), (69, 77));
}

#[test]
fn a_recipient_with_a_second_command_is_rejected_before_connecting() {
    for evil in ["a@x.test>\r\nRCPT TO:<evil@x.test", "a@x.test\nDATA", "a@x.test\u{1}"] {
        let ran = run(&["mail", "127.0.0.1:1", "--plain", "--from", "me@x.test", "--to", evil, "--text", "x"]);
        assert_eq!((ran.code, ran.stderr.lines().count() <= 3), (65, true), "{}", ran.stderr);
        assert!(!ran.stderr.contains("connection refused"), "{}", ran.stderr);
    }
}

#[test]
fn rejections_have_their_exit_codes() {
    for (turns, code, result) in [
        (vec![Send("554 go away\r\n"), After("QUIT", "221 bye\r\n")], 69, "rejected"),
        (vec![Send("421 later\r\n")], 75, "deferred"),
        (vec![Send("220 mx\r\n421 4.3.2 closing\r\n")], 75, "deferred"),
        (greeted([After("MAIL", "451 4.3.0 later\r\n"), After("QUIT", "221\r\n")]), 75, "deferred"),
        (
            greeted([After("MAIL", "250\r\n"), After("RCPT", "550 5.1.1 no such user\r\n"), After("QUIT", "221\r\n")]),
            69,
            "rejected",
        ),
        (
            greeted([After("MAIL", "250\r\n"), After("RCPT", "451 4.7.1 greylisted\r\n"), After("QUIT", "221\r\n")]),
            75,
            "deferred",
        ),
        (greeted([After("MAIL", "250\r\n"), After("RCPT", "421 4.3.2 closing\r\n"), Close]), 75, "deferred"),
        (vec![Send("220 mx\r\n"), After("EHLO ", "250-a\r\n550 b\r\n")], 76, "none"),
        (vec![Send("HTTP/1.1 400 Bad Request\r\n\r\n")], 76, "none"),
        (vec![Send("220 mx\r\n"), Close], 75, "deferred"),
    ] {
        let (peer, _) = server(turns);
        let ran = mail(&peer, &[]);
        let summary = ran.summary();
        assert_eq!((ran.code, outcome(&summary)), (code, result), "{}", ran.stderr);
    }
}

#[test]
fn a_connection_lost_after_the_dot_leaves_the_outcome_unknown() {
    let mut turns = up_to_data();
    turns.extend([AfterMessage(""), Close]);
    let (peer, _) = server(turns);
    let ran = mail(&peer, &["--timeout", "300ms"]);
    assert_eq!((ran.code, outcome(&ran.summary())), (83, "unknown"), "{}", ran.stderr);
    assert!(ran.stderr.contains("may have been accepted") && ran.stderr.contains("Message-ID"), "{}", ran.stderr);
}

#[test]
fn a_reply_to_quit_is_not_required() {
    let mut turns = up_to_data();
    turns.extend([AfterMessage("250 ok\r\n"), After("QUIT", ""), Close]);
    let (peer, _) = server(turns);
    let ran = mail(&peer, &[]);
    assert_eq!((ran.code, outcome(&ran.summary())), (0, "accepted"), "{}", ran.stderr);
}

#[test]
fn data_after_the_220_to_starttls_is_never_used() {
    let (peer, received) = server(vec![
        Send("220 mx\r\n"),
        After("EHLO ", "250-mx\r\n250 STARTTLS\r\n"),
        After("STARTTLS", "220 go\r\n250-mx.test\r\n250 AUTH PLAIN\r\n"),
    ]);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("password");
    std::fs::write(&file, "sesame").expect("written");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("changed");
    let ran = mail(&peer, &["--starttls", "--user", "tim", "--password-file", path_str(&file), "--insecure"]);
    assert_eq!((ran.code, &ran.summary()["stage"]), (76, &"starttls".into()), "{}", ran.stderr);
    let received = received.recv().expect("the script ended");
    assert!(received.ends_with("STARTTLS\r\n") && !received.contains('\u{16}'), "no ClientHello: {received:?}");
}

#[test]
fn no_secret_is_sent_without_starttls() {
    for (offers, code) in [("250-mx\r\n250 AUTH PLAIN\r\n", 69), ("250-mx\r\n250 STARTTLS\r\n", 75)] {
        let (peer, received) = server(vec![
            Send("220 mx\r\n"),
            After("EHLO ", offers),
            After("", "454 4.7.0 not now\r\n"),
            After("QUIT", "221 bye\r\n"),
        ]);
        let ran = mail(&peer, &["--starttls", "--insecure"]);
        assert_eq!(ran.code, code, "{}", ran.stderr);
        let received = received.recv().expect("the script ended");
        assert!(!received.contains("AUTH") && !received.contains("MAIL"), "{received}");
    }
}

#[test]
fn a_login_is_hidden_everywhere() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("password");
    std::fs::write(&file, "open-sesame\n").expect("written");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("changed");
    // base64 of \0tim\0open-sesame, and of the password alone.
    let secrets = ["open-sesame", "AHRpbQBvcGVu", "b3Blbi1zZXNhbWU="];
    for (mechanism, code) in [("PLAIN", 77), ("LOGIN", 77)] {
        let turns = match mechanism {
            "PLAIN" => vec![
                Send("220 mx\r\n"),
                After("EHLO ", "250-mx\r\n250 AUTH PLAIN LOGIN\r\n"),
                // A server that repeats what it received, complete and truncated.
                After(
                    "AUTH PLAIN AHRpbQBvcGVuLXNlc2FtZQ==",
                    "535-5.7.8 no: AUTH PLAIN AHRpbQBvcGVuLXNlc2FtZQ==\r\n535-AHRpbQBvcGVu...\r\n535 tim/open-sesame\r\n",
                ),
                After("QUIT", "221\r\n"),
            ],
            _ => vec![
                Send("220 mx\r\n"),
                After("EHLO ", "250-mx\r\n250 AUTH LOGIN\r\n"),
                After("AUTH LOGIN", "334 VXNlcm5hbWU6\r\n"),
                After("dGlt", "334 UGFzc3dvcmQ6\r\n"),
                After("b3Blbi1zZXNhbWU=", "535 5.7.8 no\r\n"),
                After("QUIT", "221\r\n"),
            ],
        };
        let (peer, _) = server(turns);
        let flags = [
            "--user",
            "tim",
            "--password-file",
            path_str(&file),
            "--auth",
            mechanism,
            "--insecure-auth",
            "--trace",
            "-v",
        ];
        let ran = mail(&peer, &flags);
        assert_eq!(ran.code, code, "{}", ran.stderr);
        assert!(ran.stderr.contains("app password") && ran.stderr.contains("[hidden]"), "{}", ran.stderr);
        for secret in secrets {
            assert!(!ran.stderr.contains(secret) && !ran.stdout.contains(secret), "{}{}", ran.stdout, ran.stderr);
        }
    }
    // Unencrypted only on explicit request.
    let (peer, received) =
        server(vec![Send("220 mx\r\n"), After("EHLO ", "250-mx\r\n250 AUTH PLAIN\r\n"), After("QUIT", "221\r\n")]);
    assert_eq!(mail(&peer, &["--user", "tim", "--password-file", path_str(&file)]).code, 65);
    assert!(!received.recv().expect("the script ended").contains("AUTH"));
}

#[test]
fn control_bytes_of_a_server_are_escaped() {
    let (peer, _) = server(vec![Send("554 \x1b[2J\x1b]0;owned\x07 go\r\n"), After("QUIT", "221\r\n")]);
    let ran = mail(&peer, &["--trace"]);
    assert!(ran.code == 69 && !ran.stderr.contains('\x1b') && !ran.stderr.contains('\x07'), "{:?}", ran.stderr);
}

#[test]
fn refused_connections_and_unknown_hosts_have_their_exit_codes() {
    let peer = ScriptedPeer::start(Vec::new());
    let address = peer.address;
    peer.done();
    let usual = ["--from", "me@x.test", "--to", "a@x.test", "--text", "x", "--plain"];
    assert_eq!(run(&[&["mail", &address.to_string()], &usual[..]].concat()).code, 69);
    assert_eq!(run(&[&["mail", "no-such-host.invalid"], &usual[..]].concat()).code, 68);
}

#[test]
fn a_silent_server_times_out() {
    let (peer, _) = server(vec![After("never", "")]);
    let ran = mail(&peer, &["--timeout", "100ms"]);
    assert_eq!(ran.code, 75, "{}", ran.stderr);
    assert!(ran.stderr.contains("587"), "{}", ran.stderr);
}

#[test]
fn rejected_recipients_are_written_to_a_file() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("rejected");
    let (peer, _) = server(vec![
        Send("220 mx\r\n"),
        After("EHLO ", "250-mx\r\n250 PIPELINING\r\n"),
        After("MAIL", ""),
        After("RCPT TO:<a@x.test>", ""),
        After("RCPT TO:<b@x.test>", ""),
        After("RCPT TO:<c@x.test>", "250\r\n250\r\n550 5.1.1 no such user\r\n451 4.7.1 later\r\n"),
        After("DATA", "354\r\n"),
        AfterMessage("250 ok\r\n"),
        After("QUIT", "221\r\n"),
    ]);
    let ran = mail(&peer, &["--to", "b@x.test", "--bcc", "c@x.test", "--rejected-to", path_str(&file)]);
    assert_eq!(ran.code, 75, "deferred outranks rejected: {}", ran.stderr);
    let rejected = std::fs::read_to_string(&file).expect("written");
    assert_eq!(rejected, "rejected b@x.test (550 5.1.1 no such user)\ndeferred c@x.test (451 4.7.1 later)\n");
}

#[test]
fn the_null_sender_requires_a_raw_message() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("report.eml");
    std::fs::write(&file, "From: MAILER-DAEMON@x.test\nTo: a@x.test\n\nreport\n").expect("written");
    let (peer, received) = server(greeted([
        After("MAIL FROM:<>", "250\r\n"),
        After("RCPT TO:<a@x.test>", "250\r\n"),
        After("DATA", "354\r\n"),
        AfterMessage("250 ok\r\n"),
        After("QUIT", "221\r\n"),
    ]));
    let address = peer.address.to_string();
    let flags = ["mail", "--plain", &address, "--from", "<>"];
    assert_eq!(run(&[&flags[..], &["-t", "--raw", path_str(&file)]].concat()).code, 0);
    assert!(received.recv().expect("the script ended").contains("report"));
    assert_eq!(run(&[&flags[..], &["--to", "a@x.test", "--text", "x"]].concat()).code, 2);
}
