//! Composition of messages, and input rejected before a connection.

use std::fs;
use std::io::Write as _;

use crate::support::{attach_terminal, netlab, path_str, run, run_command, site};
use crate::{After, AfterMessage, Send, server};

fn dry(flags: &[&str]) -> crate::support::RunOutput {
    run(&[&["mail", "h.test", "--from", "me@x.test", "--to", "a@x.test", "--dry-run"], flags].concat())
}

#[test]
fn missing_flags_are_listed_in_one_message() {
    let ran = run(&["mail", "--starttls", "smtp.gmail.com:587"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""));
    for word in ["--from", "--to", "--subject", "--text", "--user", "nothing was sent"] {
        assert!(ran.stderr.contains(word), "{word}: {}", ran.stderr);
    }
}

#[test]
fn a_dry_run_prints_the_message_and_nothing_else() {
    let ran = dry(&["--subject", "Grüße ♥", "--text", "hello", "--bcc", "secret@x.test"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert!(
        ran.stdout.is_ascii() && ran.stdout.contains("=?utf-8?") && ran.stdout.contains("\r\n\r\nhello"),
        "{}",
        ran.stdout
    );
    assert!(!ran.stdout.contains("secret"), "{}", ran.stdout);
}

#[test]
fn parts_are_nested_as_in_the_standards() {
    let files = site(&[("chart.png", b"\x89PNG"), ("notes.txt", b"n"), ("page.html", b"<img src=cid:chart.png>")]);
    let path = |name: &str| files.path().join(name).to_str().expect("text").to_owned();
    let html = format!("@{}", path("page.html"));
    let (inline, attach) = (path("chart.png"), path("notes.txt"));
    let ran = dry(&["--text", "t", "--html", &html, "--inline", &inline, "--attach", &attach]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let places: Vec<usize> = [
        "multipart/mixed",
        "multipart/related",
        "multipart/alternative",
        "text/plain",
        "text/html",
        "image/png",
        "notes.txt",
    ]
    .iter()
    .map(|word| ran.stdout.find(word).unwrap_or_else(|| panic!("{word}: {}", ran.stdout)))
    .collect();
    assert!(places.is_sorted(), "{places:?}");
    assert!(ran.stdout.contains("Content-ID: <chart.png>"), "{}", ran.stdout);
}

#[test]
fn line_ends_in_values_are_rejected_and_not_repaired() {
    for (flags, code) in [
        (vec!["--subject", "a\r\nBcc: evil@x.test"], 65),
        (vec!["--text", "x", "--header", "X: a\nY: b"], 65),
        (vec!["--text", "x", "--to", "a@x.test>\r\nRCPT TO:<evil@x.test"], 65),
        (vec!["--text", "x", "--cc", "a@x.test,"], 65),
        (vec!["--text", "x", "--helo", "a b"], 2),
        (vec!["--text", "x", "--attach", "/nonexistent"], 66),
        (vec!["--text", "x", "--attach", "/"], 66),
        (vec!["--text", "@/nonexistent"], 66),
        (vec!["--raw", "/dev/null"], 65),
        (vec!["--text", "x", "--tls", "--plain"], 2),
        (vec!["--text", "x", "--user", "tim", "--password", "sesame"], 2),
    ] {
        let ran = dry(&flags);
        assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{flags:?}: {}", ran.stderr);
    }
}

#[test]
fn a_raw_message_is_sent_unchanged_and_long_lines_are_rejected() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("m.eml");
    fs::write(&file, "Subject: raw\n\n.dot\n").expect("written");
    assert_eq!(dry(&["--raw", path_str(&file)]).stdout, "Subject: raw\r\n\r\n.dot\r\n");
    fs::write(&file, format!("Subject: raw\n\n{}\n", "x".repeat(998))).expect("written");
    assert_eq!(dry(&["--raw", path_str(&file)]).code, 0);
    fs::write(&file, format!("Subject: raw\n\n{}\n", "x".repeat(999))).expect("written");
    assert_eq!(dry(&["--raw", path_str(&file)]).code, 65);
}

#[test]
fn a_raw_message_names_its_recipients_and_bcc_is_removed() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("m.eml");
    fs::write(&file, "From: me@x.test\nTo: A <a@x.test>\nBcc: b@x.test\nSubject: raw\n\nhello\n").expect("written");
    let turns = vec![
        Send("220 mx\r\n"),
        After("EHLO ", "250 mx\r\n"),
        After("MAIL FROM:<me@x.test>", "250\r\n"),
        After("RCPT TO:<a@x.test>", "250\r\n"),
        After("RCPT TO:<b@x.test>", "250\r\n"),
        After("DATA", "354 go\r\n"),
        AfterMessage("250 queued\r\n"),
        After("QUIT", "221 bye\r\n"),
    ];
    let (peer, received) = server(turns);
    let ran = run(&["mail", &peer.address.to_string(), "--plain", "-t", "--raw", path_str(&file)]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(!received.recv().expect("ended").contains("Bcc"));
    fs::write(&file, "Subject: raw\n\nhello\n").expect("written");
    let ran = run(&["mail", "127.0.0.1:1", "--plain", "-t", "--raw", path_str(&file)]);
    assert_eq!(ran.code, 65, "{}", ran.stderr);
}

#[test]
fn on_a_terminal_the_text_is_read_until_a_dot_alone() {
    let mut command = netlab(&["mail", "127.0.0.1:1", "--from", "me@x.test", "--to", "a@x.test", "--dry-run"]);
    let mut keyboard = attach_terminal(&mut command);
    keyboard.write_all(b"hello\n..\n.\nno more\n").expect("typed");
    let ran = run_command(command);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.ends_with("\r\n\r\nhello\r\n..\r\n"), "{:?}", ran.stdout);
    assert!(ran.stderr.contains("a dot alone"), "{}", ran.stderr);
}

#[test]
fn passwords_come_from_private_sources_only() {
    let usual =
        ["mail", "127.0.0.1:1", "--plain", "--from", "me@x.test", "--to", "a@x.test", "--text", "x", "--user", "tim"];
    let none = run(&usual);
    assert_eq!(none.code, 78, "{}", none.stderr);
    assert!(none.stderr.contains("--password-file") && none.stderr.contains("--password-command"), "{}", none.stderr);
    for (command, code) in [("false", 78), ("/nonexistent", 127), ("printf ''", 78), ("printf sesame", 69)] {
        let ran = run(&[&usual[..], &["--password-command", command]].concat());
        assert_eq!(ran.code, code, "{command}: {}", ran.stderr);
    }
    assert_eq!(run(&[&usual[..], &["--password-file", "/nonexistent"]].concat()).code, 66);
}

#[test]
fn long_headers_are_folded_and_ids_and_addresses_are_not_encoded() {
    let id = format!("<{}@mail.x.test>", "x".repeat(77));
    let ran = dry(&[
        "--text",
        "x",
        "--header",
        &format!("References: {id} {id}"),
        "--header",
        "Sender: J\u{f6}rg <j@x.test>",
        "--header",
        "X-Note: gr\u{fc}n",
    ]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(ran.stdout.matches(&id).count(), 2, "{}", ran.stdout);
    assert!(ran.stdout.contains("<j@x.test>\r\n") && ran.stdout.contains("Sender: =?utf-8?"), "{}", ran.stdout);
    assert!(ran.stdout.contains("X-Note: =?utf-8?"), "{}", ran.stdout);
    let domain =
        run(&["mail", "h.test", "--from", "me@b\u{fc}cher.test", "--to", "a@x.test", "--text", "x", "--dry-run"]);
    assert!(domain.code == 0 && domain.stdout.is_ascii(), "{}", domain.stdout);
}

#[test]
fn flags_that_would_be_ignored_are_usage_errors() {
    for (flags, code) in [
        (&["--text", "@-", "--html", "@-"][..], 2),
        (&["--text", "x", "--plain", "--ca", "Cargo.toml"], 2),
        (&["--text", "x", "--plain", "--server-name", "x.test"], 2),
        (&["--text", "x", "--plain", "--insecure"], 2),
        (&["--text", "@-"], 65),
        (&["--text", "x", "--plain"], 0),
    ] {
        let ran = dry(flags);
        assert_eq!((ran.code, ran.stdout.is_empty()), (code, code > 0), "{flags:?}: {}", ran.stderr);
    }
}
