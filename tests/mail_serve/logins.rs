//! Logins, and the secrecy of passwords.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::support::path_str;
use crate::{Client, Mailbox, secret};

const PASSWORD: &str = "correct horse battery staple";

#[test]
fn each_mechanism_accepts_only_the_right_password() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let users = secret(directory.path(), "users", &format!("tim:{PASSWORD}\nj\u{f6}rg:x\n"));
    let right = secret(directory.path(), "right", PASSWORD);
    let wrong = secret(directory.path(), "wrong", "wrong");
    let mailbox = Mailbox::with_tls(&["--auth-file", path_str(&users)]);
    for mechanism in ["PLAIN", "LOGIN", "SCRAM-SHA-256"] {
        let log_in = |user: &str, password: &std::path::Path| {
            mailbox.mail(&["--user", user, "--password-file", path_str(password), "--auth", mechanism])
        };
        let ran = log_in("tim", &right);
        assert_eq!((ran.code, &ran.summary()["auth"]), (0, &mechanism.into()), "{}", ran.stderr);
        assert_eq!(log_in("tim", &wrong).code, 77);
        assert_eq!(log_in("unknown", &right).code, 77);
    }
    let ran = mailbox.mail(&["--user", "tim", "--password-file", path_str(&right)]);
    assert_eq!(ran.summary()["auth"], "SCRAM-SHA-256", "the strongest mechanism is used");
    let anonymous = mailbox.mail(&[]);
    assert_eq!(anonymous.code, 77, "mail requires a login: {}", anonymous.stderr);
    let ran = mailbox.server.stop();
    assert_eq!((&ran.summary()["logins"], &ran.summary()["messages"]), (&4.into(), &4.into()));
    let logins = ran.events().into_iter().filter(|event| event["type"] == "login" && event["ok"] == false).count();
    assert_eq!(logins, 6);
}

#[test]
fn fault_rules_apply_to_logins() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let users = secret(directory.path(), "users", &format!("tim:{PASSWORD}\nann:{PASSWORD}\n"));
    let right = secret(directory.path(), "right", PASSWORD);
    for (rule, tim, ann) in [
        ("auth[tim] = 535 5.7.8 no", 77, 0),
        ("auth = 454 4.7.0 later", 75, 75),
        ("auth = hide", 69, 69),
        ("auth = 334 x10", 76, 76),
        ("auth#1 = drop", 75, 0),
    ] {
        let mailbox = Mailbox::with_tls(&["--auth-file", path_str(&users), "--fault", rule]);
        let log_in = |user: &str| {
            let ran = mailbox.mail(&["--user", user, "--password-file", path_str(&right), "--auth", "PLAIN"]);
            (ran.code, ran.stderr)
        };
        for (user, expected) in [("tim", tim), ("ann", ann)] {
            let (code, stderr) = log_in(user);
            assert_eq!(code, expected, "{rule} {user}: {stderr}");
        }
    }
}

#[test]
fn no_secret_appears_in_any_output() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let users = secret(directory.path(), "users", &format!("tim:{PASSWORD}\n"));
    let right = secret(directory.path(), "right", PASSWORD);
    let mailbox = Mailbox::with_tls(&["-vv", "--auth-file", path_str(&users)]);
    let mut output = String::new();
    for mechanism in ["PLAIN", "LOGIN", "SCRAM-SHA-256"] {
        for extra in [&["--trace", "--explain", "-vv"][..], &["--trace"]] {
            let log_in = ["--user", "tim", "--password-file", path_str(&right), "--auth", mechanism];
            let ran = mailbox.mail(&[&log_in[..], extra].concat());
            assert_eq!(ran.code, 0, "{}", ran.stderr);
            output += &(ran.stdout + &ran.stderr);
        }
    }
    // An invalid command may hold a password, too.
    let mut client = Client::open(&mailbox.address());
    client.command("EHLO t");
    let encoded = STANDARD.encode(format!("\0tim\0{PASSWORD}"));
    for line in [
        format!("AUTH PLAIN {encoded}"),
        format!("AUTH LOGIN {encoded}"),
        format!("AUTH {encoded} x y"),
        encoded.clone(),
        STANDARD.encode(PASSWORD),
    ] {
        assert!(client.command(&line).starts_with('5'), "{line}");
    }
    for name in ["cmdline", "environ"] {
        let process = format!("/proc/{}/{name}", mailbox.server.pid().as_raw_nonzero());
        output += &String::from_utf8_lossy(&fs::read(process).expect("running"));
    }
    drop(client);
    let ran = mailbox.server.stop();
    output += &(ran.stdout + &ran.stderr);
    let needles =
        [PASSWORD.to_owned(), STANDARD.encode(PASSWORD), encoded, STANDARD.encode(format!("tim\0{PASSWORD}"))];
    for needle in needles {
        let core = needle.trim_end_matches('=');
        assert!(!output.contains(core), "{core} appears in:\n{output}");
    }
    assert!(output.contains("AUTH"), "no trace");
}
