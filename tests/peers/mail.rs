//! `mail` against aiosmtpd, and its messages read by the email package of Python.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::ping::{Foreign, script};
use crate::support::{run, site};
use crate::with;

/// Trials of the mail client.
pub(crate) fn trials() -> Vec<Trial> {
    vec![
        with("aiosmtpd_accepts_a_mail_over_starttls_with_a_login", &["netlab-scapy-python"], aiosmtpd),
        with("python_parses_composed_messages", &["python3"], pythons_email),
    ]
}

fn aiosmtpd() {
    let python = std::env::var("NETLAB_SCAPY_PYTHON").expect("checked before");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| directory.path().join(name).to_str().expect("text").to_owned();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".to_owned()]).expect("made");
    fs::write(path("c.pem"), made.cert.pem()).expect("written");
    fs::write(path("k.pem"), made.signing_key.serialize_pem()).expect("written");
    fs::write(path("password"), "sesame").expect("written");
    fs::set_permissions(path("password"), fs::Permissions::from_mode(0o600)).expect("changed");
    fs::write(path("wrong"), "wrong").expect("written");
    fs::set_permissions(path("wrong"), fs::Permissions::from_mode(0o600)).expect("changed");
    let arguments =
        [script("mail_server.py").to_str().expect("text").to_owned(), path("c.pem"), path("k.pem"), path("")];
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let server = Foreign::start(&python, &arguments);
    let target = format!("127.0.0.1:{}", server.port);
    let ca = path("c.pem");
    let (certificate, key) = (path("c.pem"), path("k.pem"));
    let send = |password: &str, recipients: &[&str]| {
        let tls = ["mail", &target, "--ca", &ca, "--cert", &certificate, "--key", &key];
        let usual = ["--user", "tim", "--password-file", password, "--from", "me@x.test"];
        let to: Vec<&str> = recipients.iter().flat_map(|recipient| ["--to", recipient]).collect();
        run(&[&tls[..], &usual, &to, &["--subject", "hi", "--text", "one\n.two\n", "--json"]].concat())
    };
    let ran = send(&path("password"), &["a@x.test", "no@x.test"]);
    let summary = ran.summary();
    assert_eq!((ran.code, &summary["tls"], &summary["auth"]), (67, &"1.3".into(), &"PLAIN".into()), "{}", ran.stderr);
    let outcomes: Vec<&Value> =
        summary["recipients"].as_array().expect("a list").iter().map(|to| &to["outcome"]).collect();
    assert_eq!(outcomes, ["accepted", "rejected"]);
    let got = fs::read_to_string(path("mail.eml")).expect("delivered");
    assert!(got.replace("\r\n", "\n").contains("\none\n.two\n"), "{got}");
    assert_eq!(send(&path("password"), &["a@x.test", "later@x.test"]).code, 75);
    assert_eq!(send(&path("wrong"), &["a@x.test"]).code, 77);
    let info = run(&["mail", &target, "--info", "--ca", &ca, "--cert", &certificate, "--key", &key, "--json"]);
    let summary = info.summary();
    assert_eq!((info.code, &summary["recipients"]), (0, &json!([])), "{}", info.stderr);
    assert_eq!(summary["certificates"][0]["names"], json!(["127.0.0.1", "localhost"]));
    let has_starttls = |offers: &Value| offers.as_array().expect("a list").iter().any(|word| word == "STARTTLS");
    assert!(has_starttls(&summary["offers_before_tls"]) && !has_starttls(&summary["offers"]), "{summary:#}");
    let pin = summary["certificates"][0]["sha256"].as_str().expect("a hash").to_owned();
    let pinned = run(&["mail", &target, "--info", "--pin", &pin, "--cert", &certificate, "--key", &key]);
    assert!(pinned.code == 0 && pinned.stdout.contains(&pin), "{}", pinned.stderr);
    let no_cert = run(&["mail", &target, "--ca", &ca, "--from", "me@x.test", "--to", "a@x.test", "--text", "x"]);
    // asyncio may close before its alert is sent; then only a closed connection is seen.
    assert!(matches!(no_cert.code, 75 | 77), "{}", no_cert.stderr);
    let untrusted = run(&["mail", &target, "--from", "me@x.test", "--to", "a@x.test", "--text", "x"]);
    assert_eq!(untrusted.code, 80, "{}", untrusted.stderr);
    assert!(!untrusted.stdout.contains("AUTH"), "{}", untrusted.stdout);
}

fn pythons_email() {
    let files = site(&[("Übersicht 2026.txt", b"notes"), ("chart.png", b"\x89PNG"), ("long-♥-name.bin", &[0; 5_000])]);
    let path = |name: &str| files.path().join(name).to_str().expect("text").to_owned();
    let body = "Grüße ♥\n.dot\n".to_owned() + &"x".repeat(2_000) + "\n";
    let (notes, chart, long) = (path("Übersicht 2026.txt"), path("chart.png"), path("long-♥-name.bin"));
    let ran = run(&[
        "mail",
        "h.test",
        "--dry-run",
        "--from",
        "Jörg Müller <me@x.test>",
        "--to",
        "Zoë, \"Z\" <z@x.test>",
        "--bcc",
        "secret@x.test",
        "--subject",
        &("Grüße 🚀 ".repeat(20)),
        "--text",
        &body,
        "--html",
        "<p>ü <img src=cid:logo></p>",
        "--inline",
        &format!("{chart}=logo"),
        "--attach",
        &notes,
        "--attach",
        &long,
    ]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.lines().all(|line| line.len() <= 998) && ran.stdout.is_ascii());
    let file = files.path().join("mail.eml");
    fs::write(&file, &ran.stdout).expect("written");
    let output = Command::new("python3").arg(script("mail_reader.py")).arg(&file).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(read["subject"].as_str().map(str::trim), Some("Grüße 🚀 ".repeat(20).trim()), "{read:#}");
    assert_eq!(read["from"], json!([["Jörg Müller", "me@x.test"]]));
    assert_eq!(read["to"][0][1], "z@x.test");
    let lines = |text: &Value| text.as_str().unwrap_or_default().replace("\r\n", "\n").trim_end().to_owned();
    assert_eq!(lines(&read["text"]), body.trim_end());
    assert_eq!(lines(&read["html"]), "<p>ü <img src=cid:logo></p>");
    assert_eq!(read["cids"], json!(["<logo>"]));
    let names: Vec<&Value> = read["attachments"].as_array().expect("a list").iter().map(|part| &part[0]).collect();
    assert_eq!(names, ["Übersicht 2026.txt", "long-♥-name.bin"], "{read:#}");
    assert_eq!(read["defects"], json!([]));
    let headers = read["headers"].as_array().expect("a list");
    assert!(!headers.contains(&"bcc".into()) && !ran.stdout.contains("secret"), "{read:#}");
}
