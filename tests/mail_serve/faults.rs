//! Our client with a server that injects faults.

use crate::Mailbox;
use crate::support::run;

/// Sends a mail to a server with one fault rule; returns exit code and output.
fn code(tls: bool, rule: &str, flags: &[&str]) -> (i32, String) {
    let start = if tls { Mailbox::with_tls } else { Mailbox::start };
    let mailbox = start(&["--fault", rule]);
    let ran = mailbox.mail(flags);
    (ran.code, ran.stdout + &ran.stderr)
}

#[test]
fn every_fault_leads_to_its_exit_code() {
    for (rule, expected) in [
        ("connect = drop", 75),
        ("connect = reset", 75),
        ("banner = 554 go away", 69),
        ("banner = 421 later", 75),
        ("banner = raw \"SSH-2.0-OpenSSH_9.6\\r\\n\"", 76),
        ("banner = raw \"\\x15\\x03\\x03\\0\\x02\\x02F\"", 76),
        ("banner = delay 20ms", 0),
        ("banner = slow 2kB/s", 0),
        ("ehlo = 550 no", 69),
        ("ehlo#1 = 502 what?", 0),
        ("ehlo#1..2 = 502 what?", 69),
        ("ehlo = hide SIZE 8BITMIME PIPELINING", 0),
        ("ehlo = raw \"250-a\\r\\n550 b\\r\\n\"", 76),
        ("mail = 451 4.3.0 later", 75),
        ("mail = 550 5.7.1 no", 69),
        ("mail[me@*] = 550 5.7.1 no", 69),
        ("mail[you@*] = 550 5.7.1 no", 0),
        ("mail = drop", 75),
        ("rcpt = 451 4.7.1 greylisted", 75),
        ("rcpt = 550 5.1.1 nobody", 69),
        ("rcpt = 421 4.3.2 closing", 75),
        ("rcpt = raw \"250-ok\\n250\\x1b[2J ok\\r\\n\"", 76),
        ("data = 451 later", 75),
        ("data = 554 no", 69),
        ("data = raw \"250 ok\\r\\n\"", 76),
        ("data = drop", 75),
        ("body = drop", 83),
        ("body = 552 5.3.4 enough", 69),
        ("dot = 552 5.3.4 too big", 69),
        ("dot = 452 4.3.1 full", 75),
        ("dot = 354 more", 83),
        ("dot = drop", 83),
        ("dot = reset", 83),
        ("quit = drop", 0),
        ("quit = 500 what?", 0),
        ("* = raw \"250\\r\\n\"", 76),
        ("rcpt = inject \"250 who asked?\\r\\n\"", 76),
    ] {
        let (code, output) = code(false, rule, &["--timeout", "10s"]);
        assert_eq!(code, expected, "{rule}: {output}");
    }
}

#[test]
fn every_tls_fault_ends_before_mail_is_sent_unencrypted() {
    for (rule, expected) in [
        ("starttls = hide", 69),
        ("starttls = 454 4.7.0 not now", 75),
        ("starttls = 554 5.7.0 never", 69),
        ("starttls = inject \"250-mx\\r\\n250 AUTH PLAIN\\r\\n\"", 76),
        ("starttls = inject \"250-AUTH\"", 76),
        ("starttls = drop", 75),
        ("tls = drop", 75),
        ("tls = alert", 76),
        ("tls = raw \"what?\\r\\n\"", 76),
        ("cert = expired", 80),
        ("cert = name=other.test", 80),
        ("cert = self-signed", 80),
    ] {
        let (code, output) = code(true, rule, &["--timeout", "10s"]);
        assert_eq!(code, expected, "{rule}: {output}");
        assert!(!output.contains("\"outcome\":\"accepted\""), "{output}");
    }
    for rule in ["starttls = stall", "tls = stall"] {
        let (code, output) = code(true, rule, &["--timeout", "100ms"]);
        assert_eq!(code, 75, "{rule}: {output}");
    }
}

#[test]
fn certificate_errors_name_the_reason_and_the_names_found() {
    for (rule, words) in [
        ("cert = expired", &["expired"][..]),
        ("cert = name=other.test", &["another name", "other.test"]),
        // The certificate is for localhost; a client that connects to 127.0.0.1 must not accept it.
        ("cert = name=localhost", &["another name", "localhost"]),
        ("cert = self-signed", &["self-signed"]),
    ] {
        for implicit in [false, true] {
            let mailbox = Mailbox::with_tls(&["--fault", rule, "--tls-bind", "127.0.0.1:0"]);
            let address = &mailbox.server.addresses[usize::from(implicit)];
            let flag = if implicit { "--tls" } else { "--starttls" };
            let ca = mailbox.path("ca.pem");
            let ran = run(&["mail", flag, address, "--ca", ca.to_str().expect("text"), "--info"]);
            assert_eq!(ran.code, 80, "{rule}: {}", ran.stderr);
            assert!(words.iter().all(|word| ran.stderr.contains(word)), "{rule}: {}", ran.stderr);
        }
    }
    let mailbox = Mailbox::with_tls(&[]);
    let ran = run(&["mail", "--starttls", &mailbox.address(), "--info"]);
    assert!(ran.code == 80 && ran.stderr.contains("untrusted CA"), "{}", ran.stderr);
    let events = mailbox.server.stop().events();
    let failed = events.iter().find(|event| event["type"] == "failed").expect("a failed event");
    assert!(failed["why"].as_str().is_some_and(|why| why.contains("certificate")), "{failed}");
}

#[test]
fn only_a_greylisted_recipient_is_retried() {
    let mailbox = Mailbox::start(&["--fault", "rcpt[late@x.test]#1..2 = 451 4.7.1 greylisted"]);
    let flags = ["--to", "a@x.test", "--to", "late@x.test"];
    assert_eq!(mailbox.mail(&flags).code, 75);
    assert_eq!(mailbox.mail(&[&flags[..], &["--retry", "2", "--retry-wait", "1ms"]].concat()).code, 0);
    let ran = mailbox.server.stop();
    let mails = ran.events().into_iter().filter(|event| event["type"] == "message");
    let recipients = mails.map(|mail| {
        mail["recipients"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|to| to["address"].as_str().expect("text").to_owned())
            .collect::<Vec<_>>()
    });
    assert_eq!(recipients.collect::<Vec<_>>(), [vec!["a@x.test"], vec!["a@x.test"], vec!["late@x.test"]]);
    assert_eq!(ran.summary()["faults"], 2);
}

#[test]
fn occurrences_are_counted_over_all_connections() {
    let mailbox = Mailbox::start(&["--fault", "dot every 2 = 451 later", "--threads=2"]);
    let codes: Vec<i32> = (0..4).map(|_| mailbox.mail(&[]).code).collect();
    assert_eq!(codes, [0, 75, 0, 75]);
}
