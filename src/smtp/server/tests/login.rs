//! Who gets in, and over which line.

use super::{Harness, SessionConfig, codes, with_users};

const PLAIN: &str = "AUTH PLAIN AHRpbQB0ZWE=\r\n";

#[test]
fn passwords_are_not_taken_in_clear() {
    let mut bench = Harness::greeted(with_users());
    let did = bench.send("EHLO me\r\n");
    assert!(did.contains("250-AUTH SCRAM-SHA-256\r\n"), "{did}");
    assert_eq!(codes(&bench.send(format!("{PLAIN}AUTH LOGIN\r\n"))), ["538", "538"]);
    let mut bench = Harness::greeted(SessionConfig { allows_plaintext_auth: true, ..with_users() });
    assert!(bench.send("EHLO me\r\n").contains("250-AUTH SCRAM-SHA-256 PLAIN LOGIN\r\n"));
    assert_eq!(codes(&bench.send(PLAIN)), ["235"]);
}

#[test]
fn nobody_sends_without_a_login_where_one_is_wanted() {
    let mut bench = Harness::new(with_users());
    bench.connect(Some("1.3"));
    let did = bench.send(format!("EHLO me\r\nMAIL FROM:<>\r\n{PLAIN}MAIL FROM:<>\r\nRSET\r\n{PLAIN}"));
    assert_eq!(codes(&did), ["250", "530", "235", "250", "250", "503"]);
    assert!(bench.events.contains(&"login tim true".to_owned()));
}

#[test]
fn logins_that_are_none_have_their_codes() {
    for (said, expected) in [
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
        let mut bench = Harness::new(with_users());
        bench.connect(Some("1.3"));
        bench.send("EHLO me\r\n");
        assert_eq!(codes(&bench.send(said)), expected, "{said:?}");
    }
    let mut bench = Harness::new(with_users());
    bench.connect(Some("1.3"));
    assert_eq!(codes(&bench.send(format!("{PLAIN}HELO me\r\n{PLAIN}"))), ["503", "250", "503"]);
    assert_eq!(codes(&Harness::greeted(super::config()).send(format!("EHLO me\r\n{PLAIN}"))), ["250", "502"]);
}

#[test]
fn passwords_cannot_be_tried_without_end() {
    let mut bench = Harness::new(with_users());
    bench.connect(Some("1.3"));
    bench.send("EHLO me\r\n");
    let did = bench.send("AUTH PLAIN AHRpbQB0ZQ==\r\n".repeat(50));
    assert_eq!(
        (codes(&did).len(), did.ends_with("421 4.7.0 too many errors, closing\r\n<close>")),
        (21, true),
        "{did}"
    );
}

#[test]
fn what_is_refused_is_told_without_the_secret() {
    let mut bench = Harness::new(with_users());
    bench.connect(Some("1.3"));
    bench.send("EHLO me\r\nEXPN x\r\n AUTH PLAIN c2VjcmV0\r\nPASS c2VjcmV0\r\nAUTH PLAIN AHRpbQB0ZQ==\r\nAUTH LOGIN\r\ndGlt\r\nc2VjcmV0\r\n");
    bench.send("AUTH c2VjcmV0\r\nAUTH c2VjcmV0 x y\r\nAUTH CRAM-MD5\r\nc2VjcmV0\r\n");
    let all = bench.events.join("\n");
    assert!(
        all.contains("refused EXPN x by 500")
            && !all.contains("AHRp")
            && !all.contains("c2Vj")
            && all.contains("refused AUTH PLAIN by 535"),
        "{all}"
    );
}
