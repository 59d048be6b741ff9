//! The rows of the hostile transcripts that need a socket, and what a script sees of each.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::support::{ScriptedPeer, path_str, run};
use crate::{After, AfterMessage, Close, Say, Turn, mail, server};

/// A greeting, EHLO and an envelope for one recipient, up to the reply to DATA.
fn up_to_data() -> Vec<Turn> {
    vec![
        Say("220 mx.test\r\n"),
        After("EHLO ", "250-mx.test\r\n250-PIPELINING\r\n250 8BITMIME\r\n"),
        After("MAIL FROM:<me@x.test>", ""),
        After("RCPT TO:<a@x.test>", "250 2.1.0 ok\r\n250 2.1.5 ok\r\n"),
        After("DATA", "354 go\r\n"),
    ]
}

/// A greeting and EHLO, and what the server says to the rest.
fn greeted(rest: impl IntoIterator<Item = Turn>) -> Vec<Turn> {
    [Say("220 mx\r\n"), After("EHLO ", "250 mx\r\n")].into_iter().chain(rest).collect()
}

fn outcome(summary: &Value) -> &str {
    summary["recipients"][0]["outcome"].as_str().unwrap_or("none")
}

#[test]
fn a_mail_is_sent_and_every_stage_timed() {
    let mut turns = up_to_data();
    turns.extend([AfterMessage("250 2.0.0 queued as 7\r\n"), After("QUIT", "221 bye\r\n")]);
    let (peer, heard) = server(turns);
    let ran = mail(&peer, &[]);
    let summary = ran.summary();
    assert_eq!((ran.code, outcome(&summary), &summary["stage"]), (0, "accepted", &"quit".into()), "{}", ran.stderr);
    let recipient = &summary["recipients"][0];
    assert_eq!((&recipient["code"], &recipient["enhanced"]), (&250.into(), &"2.0.0".into()));
    for stage in ["connect", "banner", "ehlo", "mail", "rcpt", "data", "body", "dot", "quit"] {
        assert!(summary["stages"][format!("{stage}_ns")].is_u64(), "{stage}: {summary:#}");
    }
    assert!(summary["stages"]["tls_ns"].is_null());
    let heard = heard.recv().expect("it ended");
    let id = summary["message_id"].as_str().expect("an id");
    assert!(
        heard.contains(&format!("Message-ID: <{id}>\r\n")) && heard.contains("\r\nhello\r\n.\r\nQUIT\r\n"),
        "{heard}"
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
fn a_server_is_asked_what_it_offers_and_sent_nothing() {
    let turns = vec![
        Say("220 mx\r\n"),
        After("EHLO ", "250-mx\r\n250-SIZE 1000\r\n250 8BITMIME\r\n"),
        After("QUIT", "221 bye\r\n"),
    ];
    let (peer, heard) = server(turns);
    let ran = run(&["mail", &peer.address.to_string(), "--plain", "--info"]);
    assert!(ran.code == 0 && ran.stdout.contains("offers: SIZE 1000, 8BITMIME"), "{}{}", ran.stdout, ran.stderr);
    assert!(!heard.recv().expect("it ended").contains("MAIL"));
}

#[test]
fn octets_that_the_server_does_not_take_are_encoded_and_headers_refused() {
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
            Say("220 mx\r\n"),
            After("EHLO ", offers),
            After("MAIL", "250\r\n"),
            After("RCPT", "250\r\n"),
            After("DATA", "354 go\r\n"),
            AfterMessage("250 queued\r\n"),
            After("QUIT", "221 bye\r\n"),
        ];
        let (peer, heard) = server(turns);
        let ran = send(&peer);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let heard = heard.recv().expect("it ended");
        assert_eq!((heard.contains("R3LDvMOfZQ0K"), heard.contains("Grüße")), (is_encoded, !is_encoded), "{heard}");
    }
    std::fs::write(&file, "Subject: Grüße\n\nhi\n").expect("written");
    let (peer, heard) = server(greeted([After("QUIT", "221 bye\r\n")]));
    assert_eq!(send(&peer).code, 65);
    assert!(!heard.recv().expect("it ended").contains("MAIL"));
}

#[test]
fn bare_codes_and_bare_line_feeds_are_understood() {
    for bare in ["250\r\n", "250\n", "250 ok\n"] {
        let turns = vec![
            Say("220 mx\r\n"),
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
fn what_is_forgiven_is_not_with_strict() {
    let (peer, _) = server(vec![Say("220 mx\n")]);
    assert_eq!(mail(&peer, &["--strict"]).code, 76);
    // The mail may be there: the code says that nobody knows.
    let mut turns = up_to_data();
    turns.push(AfterMessage("250 queued\n"));
    let (peer, _) = server(turns);
    assert_eq!(mail(&peer, &["--strict"]).code, 83);
    // A goodbye that is no reply, or a bent one, undoes nothing.
    for (goodbye, flags) in [("221 bye\n", &["--strict"][..]), ("what?\r\n", &[])] {
        let mut turns = up_to_data();
        turns.extend([AfterMessage("250 queued\r\n"), After("QUIT", goodbye)]);
        let (peer, _) = server(turns);
        let ran = mail(&peer, flags);
        assert_eq!((ran.code, outcome(&ran.summary())), (0, "accepted"), "{goodbye:?}: {}", ran.stderr);
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
fn a_recipient_that_is_two_commands_is_refused_before_anything_is_connected() {
    for evil in ["a@x.test>\r\nRCPT TO:<evil@x.test", "a@x.test\nDATA", "a@x.test\u{1}"] {
        let ran = run(&["mail", "127.0.0.1:1", "--plain", "--from", "me@x.test", "--to", evil, "--text", "x"]);
        assert_eq!((ran.code, ran.stderr.lines().count() <= 3), (65, true), "{}", ran.stderr);
        assert!(!ran.stderr.contains("refused the connection"), "{}", ran.stderr);
    }
}

#[test]
fn refusals_have_their_codes() {
    for (turns, code, result) in [
        (vec![Say("554 go away\r\n"), After("QUIT", "221 bye\r\n")], 69, "refused"),
        (vec![Say("421 later\r\n")], 75, "deferred"),
        (vec![Say("220 mx\r\n421 4.3.2 closing\r\n")], 75, "deferred"),
        (greeted([After("MAIL", "451 4.3.0 later\r\n"), After("QUIT", "221\r\n")]), 75, "deferred"),
        (
            greeted([After("MAIL", "250\r\n"), After("RCPT", "550 5.1.1 nobody\r\n"), After("QUIT", "221\r\n")]),
            69,
            "refused",
        ),
        (
            greeted([After("MAIL", "250\r\n"), After("RCPT", "451 4.7.1 greylisted\r\n"), After("QUIT", "221\r\n")]),
            75,
            "deferred",
        ),
        (greeted([After("MAIL", "250\r\n"), After("RCPT", "421 4.3.2 closing\r\n"), Close]), 75, "deferred"),
        (vec![Say("220 mx\r\n"), After("EHLO ", "250-a\r\n550 b\r\n")], 76, "none"),
        (vec![Say("HTTP/1.1 400 Bad Request\r\n\r\n")], 76, "none"),
        (vec![Say("220 mx\r\n"), Close], 75, "deferred"),
    ] {
        let (peer, _) = server(turns);
        let ran = mail(&peer, &[]);
        let summary = ran.summary();
        assert_eq!((ran.code, outcome(&summary)), (code, result), "{}", ran.stderr);
    }
}

#[test]
fn after_the_dot_a_lost_line_leaves_the_outcome_unknown() {
    let mut turns = up_to_data();
    turns.extend([AfterMessage(""), Close]);
    let (peer, _) = server(turns);
    let ran = mail(&peer, &["--timeout", "300ms"]);
    assert_eq!((ran.code, outcome(&ran.summary())), (83, "unknown"), "{}", ran.stderr);
    assert!(ran.stderr.contains("may have been accepted") && ran.stderr.contains("Message-ID"), "{}", ran.stderr);
}

#[test]
fn an_answer_to_quit_is_not_needed() {
    let mut turns = up_to_data();
    turns.extend([AfterMessage("250 ok\r\n"), After("QUIT", ""), Close]);
    let (peer, _) = server(turns);
    let ran = mail(&peer, &[]);
    assert_eq!((ran.code, outcome(&ran.summary())), (0, "accepted"), "{}", ran.stderr);
}

#[test]
fn what_is_glued_behind_the_220_to_starttls_is_never_believed() {
    let (peer, heard) = server(vec![
        Say("220 mx\r\n"),
        After("EHLO ", "250-mx\r\n250 STARTTLS\r\n"),
        After("STARTTLS", "220 go\r\n250-mx.test\r\n250 AUTH PLAIN\r\n"),
    ]);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("password");
    std::fs::write(&file, "sesame").expect("written");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("changed");
    let ran = mail(&peer, &["--starttls", "--user", "tim", "--password-file", path_str(&file), "--insecure"]);
    assert_eq!((ran.code, &ran.summary()["stage"]), (76, &"starttls".into()), "{}", ran.stderr);
    let heard = heard.recv().expect("it ended");
    assert!(heard.ends_with("STARTTLS\r\n") && !heard.contains('\u{16}'), "no ClientHello: {heard:?}");
}

#[test]
fn a_server_without_starttls_hears_nothing_secret() {
    for (offers, code) in [("250-mx\r\n250 AUTH PLAIN\r\n", 69), ("250-mx\r\n250 STARTTLS\r\n", 75)] {
        let (peer, heard) = server(vec![
            Say("220 mx\r\n"),
            After("EHLO ", offers),
            After("", "454 4.7.0 not now\r\n"),
            After("QUIT", "221 bye\r\n"),
        ]);
        let ran = mail(&peer, &["--starttls", "--insecure"]);
        assert_eq!(ran.code, code, "{}", ran.stderr);
        let heard = heard.recv().expect("it ended");
        assert!(!heard.contains("AUTH") && !heard.contains("MAIL"), "{heard}");
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
                Say("220 mx\r\n"),
                After("EHLO ", "250-mx\r\n250 AUTH PLAIN LOGIN\r\n"),
                // A server that repeats what it heard, whole and cut.
                After(
                    "AUTH PLAIN AHRpbQBvcGVuLXNlc2FtZQ==",
                    "535-5.7.8 no: AUTH PLAIN AHRpbQBvcGVuLXNlc2FtZQ==\r\n535-AHRpbQBvcGVu...\r\n535 tim/open-sesame\r\n",
                ),
                After("QUIT", "221\r\n"),
            ],
            _ => vec![
                Say("220 mx\r\n"),
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
    // Not in clear unless that is spelt out.
    let (peer, heard) =
        server(vec![Say("220 mx\r\n"), After("EHLO ", "250-mx\r\n250 AUTH PLAIN\r\n"), After("QUIT", "221\r\n")]);
    assert_eq!(mail(&peer, &["--user", "tim", "--password-file", path_str(&file)]).code, 65);
    assert!(!heard.recv().expect("it ended").contains("AUTH"));
}

#[test]
fn control_bytes_of_a_server_are_shown_and_not_obeyed() {
    let (peer, _) = server(vec![Say("554 \x1b[2J\x1b]0;owned\x07 go\r\n"), After("QUIT", "221\r\n")]);
    let ran = mail(&peer, &["--trace"]);
    assert!(ran.code == 69 && !ran.stderr.contains('\x1b') && !ran.stderr.contains('\x07'), "{:?}", ran.stderr);
}

#[test]
fn nobody_there_and_names_unknown_have_their_codes() {
    let peer = ScriptedPeer::start(Vec::new());
    let address = peer.address;
    peer.done();
    let usual = ["--from", "me@x.test", "--to", "a@x.test", "--text", "x", "--plain"];
    assert_eq!(run(&[&["mail", &address.to_string()], &usual[..]].concat()).code, 69);
    assert_eq!(run(&[&["mail", "no-such-host.invalid"], &usual[..]].concat()).code, 68);
}

#[test]
fn a_silent_server_is_given_up() {
    let (peer, _) = server(vec![After("never", "")]);
    let ran = mail(&peer, &["--timeout", "100ms"]);
    assert_eq!(ran.code, 75, "{}", ran.stderr);
    assert!(ran.stderr.contains("587"), "{}", ran.stderr);
}

#[test]
fn the_refused_are_written_down_apart() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("rejected");
    let (peer, _) = server(vec![
        Say("220 mx\r\n"),
        After("EHLO ", "250-mx\r\n250 PIPELINING\r\n"),
        After("MAIL", ""),
        After("RCPT TO:<a@x.test>", ""),
        After("RCPT TO:<b@x.test>", ""),
        After("RCPT TO:<c@x.test>", "250\r\n250\r\n550 5.1.1 nobody\r\n451 4.7.1 later\r\n"),
        After("DATA", "354\r\n"),
        AfterMessage("250 ok\r\n"),
        After("QUIT", "221\r\n"),
    ]);
    let ran = mail(&peer, &["--to", "b@x.test", "--bcc", "c@x.test", "--rejected-to", path_str(&file)]);
    assert_eq!(ran.code, 75, "deferred outranks refused: {}", ran.stderr);
    let rejected = std::fs::read_to_string(&file).expect("written");
    assert_eq!(rejected, "refused b@x.test (550 5.1.1 nobody)\ndeferred c@x.test (451 4.7.1 later)\n");
}

#[test]
fn the_null_sender_sends_what_is_written_and_composes_nothing() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("report.eml");
    std::fs::write(&file, "From: MAILER-DAEMON@x.test\nTo: a@x.test\n\nreport\n").expect("written");
    let (peer, heard) = server(greeted([
        After("MAIL FROM:<>", "250\r\n"),
        After("RCPT TO:<a@x.test>", "250\r\n"),
        After("DATA", "354\r\n"),
        AfterMessage("250 ok\r\n"),
        After("QUIT", "221\r\n"),
    ]));
    let address = peer.address.to_string();
    let flags = ["mail", "--plain", &address, "--from", "<>"];
    assert_eq!(run(&[&flags[..], &["-t", "--raw", path_str(&file)]].concat()).code, 0);
    assert!(heard.recv().expect("it ended").contains("report"));
    assert_eq!(run(&[&flags[..], &["--to", "a@x.test", "--text", "x"]].concat()).code, 2);
}
