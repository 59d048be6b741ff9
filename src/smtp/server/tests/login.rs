//! Authentication, with and without TLS.

use super::{Fixture, SessionConfig, codes, with_users};

const PLAIN: &str = "AUTH PLAIN AHRpbQB0ZWE=\r\n";

#[test]
fn cleartext_passwords_are_rejected() {
    let mut harness = Fixture::greeted(with_users());
    let output = harness.send("EHLO me\r\n");
    assert!(output.contains("250-AUTH SCRAM-SHA-256\r\n"), "{output}");
    assert_eq!(codes(&harness.send(format!("{PLAIN}AUTH LOGIN\r\n"))), ["538", "538"]);
    let mut harness = Fixture::greeted(SessionConfig { allows_plaintext_auth: true, ..with_users() });
    assert!(harness.send("EHLO me\r\n").contains("250-AUTH SCRAM-SHA-256 PLAIN LOGIN\r\n"));
    assert_eq!(codes(&harness.send(PLAIN)), ["235"]);
}

#[test]
fn mail_requires_a_login_where_users_are_configured() {
    let mut harness = Fixture::new(with_users());
    harness.connect(Some("1.3"));
    let output = harness.send(format!("EHLO me\r\nMAIL FROM:<>\r\n{PLAIN}MAIL FROM:<>\r\nRSET\r\n{PLAIN}"));
    assert_eq!(codes(&output), ["250", "530", "235", "250", "250", "503"]);
    assert!(harness.events.contains(&"login tim true".to_owned()));
}

#[test]
fn failed_logins_have_their_codes() {
    for (input, expected) in [
        ("AUTH PLAIN AHRpbQB0ZQ==\r\n", vec!["535"]),
        ("AUTH PLAIN AHgAdGVh\r\n", vec!["535"]),
        ("AUTH PLAIN\r\nAHRpbQB0ZWE=\r\n", vec!["334", "235"]),
        ("AUTH PLAIN\r\n*\r\nNOOP\r\n", vec!["334", "501", "250"]),
        ("AUTH PLAIN !!!\r\n", vec!["501"]),
        ("AUTH PLAIN\r\nAHRp\nNOOP\r\n", vec!["334", "500", "250"]),
        ("AUTH PLAIN\r\nA\0A\r\nNOOP\r\n", vec!["334", "500", "250"]),
        ("AUTH PLAIN =\r\n", vec!["501"]),
        ("AUTH LOGIN\r\ndGlt\r\ndGVh\r\n", vec!["334", "334", "235"]),
        ("AUTH LOGIN dGlt\r\ndGVh\r\n", vec!["334", "235"]),
        ("auth login\r\ndGlt\r\nAAAA\r\n", vec!["334", "334", "535"]),
        ("AUTH CRAM-MD5\r\n", vec!["504"]),
        ("AUTH XOAUTH2 AAAA\r\n", vec!["504"]),
        ("AUTH\r\n", vec!["501"]),
        ("MAIL FROM:<>\r\n", vec!["530"]),
    ] {
        let mut harness = Fixture::new(with_users());
        harness.connect(Some("1.3"));
        harness.send("EHLO me\r\n");
        assert_eq!(codes(&harness.send(input)), expected, "{input:?}");
    }
    let mut harness = Fixture::new(with_users());
    harness.connect(Some("1.3"));
    assert_eq!(codes(&harness.send(format!("{PLAIN}HELO me\r\n{PLAIN}"))), ["503", "250", "503"]);
    assert_eq!(codes(&Fixture::greeted(super::config()).send(format!("EHLO me\r\n{PLAIN}"))), ["250", "502"]);
}

#[test]
fn password_guessing_is_limited() {
    let mut harness = Fixture::new(with_users());
    harness.connect(Some("1.3"));
    harness.send("EHLO me\r\n");
    let output = harness.send("AUTH PLAIN AHRpbQB0ZQ==\r\n".repeat(50));
    assert_eq!(
        (codes(&output).len(), output.ends_with("421 4.7.0 too many errors, closing connection\r\n<close>")),
        (21, true),
        "{output}"
    );
}

#[test]
fn rejected_commands_are_reported_without_secrets() {
    let mut harness = Fixture::new(with_users());
    harness.connect(Some("1.3"));
    harness.send("EHLO me\r\nEXPN x\r\n AUTH PLAIN c2VjcmV0\r\nPASS c2VjcmV0\r\nAUTH PLAIN AHRpbQB0ZQ==\r\nAUTH LOGIN\r\ndGlt\r\nc2VjcmV0\r\n");
    harness.send("AUTH c2VjcmV0\r\nAUTH c2VjcmV0 x y\r\nAUTH CRAM-MD5\r\nc2VjcmV0\r\n");
    let events = harness.events.join("\n");
    assert!(
        events.contains("rejected EXPN x with 500")
            && !events.contains("AHRp")
            && !events.contains("c2Vj")
            && events.contains("rejected AUTH PLAIN with 535"),
        "{events}"
    );
}
