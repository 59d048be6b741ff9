//! What no well-behaved client says.

use std::io::Read as _;

use crate::support::{connect, send_and_read};
use crate::{Mailbox, Talk};

#[test]
fn a_second_mail_cannot_be_smuggled_in() {
    let mailbox = Mailbox::start(&[]);
    for end in ["\n.\n", "\n.\r\n", "\r.\r", "\r\n.\n", "\r\n.\r", "\r\n\0.\r\n"] {
        let mut talk = Talk::open(&mailbox.address());
        talk.up_to_data();
        talk.send(format!("x{end}MAIL FROM:<evil@x.test>\r\nRCPT TO:<b@x.test>\r\nDATA\r\nevil\r\n.\r\nQUIT\r\n"));
        assert_eq!(talk.code(), "250", "{end:?}");
        assert_eq!(talk.code(), "221", "{end:?}");
    }
    let events = mailbox.server.stop().events();
    assert!(events.iter().all(|event| event["from"] != "evil@x.test"));
    assert_eq!(events.iter().filter(|event| event["type"] == "message").count(), 6);
}

#[test]
fn a_browser_gets_one_line_and_no_second_try() {
    let mailbox = Mailbox::start(&[]);
    let request = b"POST / HTTP/1.1\r\nHost: x\r\n\r\nEHLO t\r\nMAIL FROM:<a@x>\r\nRCPT TO:<b@x>\r\nDATA\r\nx\r\n.\r\n";
    let said = String::from_utf8(send_and_read(mailbox.server.address(), request)).expect("text");
    assert!(said.starts_with("220 ") && said.lines().count() == 2 && said.contains("\r\n421 "), "{said}");
    assert_eq!(mailbox.server.stop().summary()["messages"], 0);
}

#[test]
fn what_is_glued_behind_starttls_ends_the_connection() {
    let mailbox = Mailbox::with_tls(&[]);
    let said = send_and_read(mailbox.server.address(), b"EHLO t\r\nSTARTTLS\r\nMAIL FROM:<a@x.test>\r\n");
    let said = String::from_utf8(said).expect("text");
    assert!(said.ends_with("closing\r\n") && !said.contains("250 2.1.0"), "{said}");
}

#[test]
fn nobody_holds_a_connection_for_ever() {
    let limits = ["--idle-timeout", "100ms", "--stall-timeout", "100ms", "--handshake-timeout", "100ms"];
    let mailbox = Mailbox::with_tls(&[&limits[..], &["--tls-bind", "127.0.0.1:0"]].concat());
    assert!(String::from_utf8(send_and_read(mailbox.server.address(), b"EHL")).expect("text").contains("421 4.4.2"));
    let half = b"EHLO t\r\nMAIL FROM:<>\r\nRCPT TO:<a@x.test>\r\nDATA\r\nhalf";
    assert!(String::from_utf8(send_and_read(mailbox.server.address(), half)).expect("text").contains("421 4.4.2"));
    let chunk = b"EHLO t\r\nMAIL FROM:<>\r\nRCPT TO:<a@x.test>\r\nBDAT 100\r\nhalf";
    assert!(String::from_utf8(send_and_read(mailbox.server.address(), chunk)).expect("text").contains("421 4.4.2"));
    let mut silent = connect(mailbox.server.addresses[1].parse().expect("an address"));
    assert!(silent.read_to_end(&mut Vec::new()).is_ok(), "a handshake that never begins");
    let ran = mailbox.server.stop();
    let failed = ran.events().into_iter().filter(|event| event["type"] == "failed").count();
    assert_eq!((failed, ran.code), (4, 0), "{}", ran.stdout);
    let session = Mailbox::start(&["--session-timeout", "100ms"]);
    assert!(
        String::from_utf8(send_and_read(session.server.address(), b""))
            .expect("text")
            .contains("421 4.4.2 this session")
    );
}

#[test]
fn one_connection_too_many_is_told_to_come_again() {
    let mailbox = Mailbox::start(&["--max-connections", "2"]);
    let mut first = Talk::open(&mailbox.address());
    let _second = Talk::open(&mailbox.address());
    let mut third = Talk::begin(&mailbox.address());
    assert_eq!(third.code(), "421");
    assert_eq!(first.ask("QUIT"), "221");
    // The end of the first is seen once its connection is closed.
    assert_eq!(first.reply(), "");
    drop((first, third));
    let codes: Vec<String> = (0..50).map(|_| Talk::begin(&mailbox.address()).code()).collect();
    assert!(codes.iter().any(|code| code == "220"), "{codes:?}");
}

#[test]
fn large_mails_and_many_recipients_are_refused_in_order() {
    let mailbox = Mailbox::start(&["--max-size", "1k", "--max-recipients", "2"]);
    let mut talk = Talk::open(&mailbox.address());
    assert_eq!(talk.ask("EHLO t"), "250");
    assert_eq!(talk.ask("MAIL FROM:<> SIZE=1025"), "552");
    assert_eq!(talk.ask("MAIL FROM:<>"), "250");
    for code in ["250", "250", "452"] {
        assert_eq!(talk.ask("RCPT TO:<a@x.test>"), code);
    }
    assert_eq!(talk.ask("DATA"), "354");
    talk.send("x".repeat(100_000) + "\r\n.\r\n");
    assert_eq!(talk.code(), "552");
    assert_eq!(talk.ask("NOOP"), "250");
    assert_eq!(mailbox.mail(&["--text", &"x".repeat(2_000)]).code, 65, "our client knows before it sends");
}

#[test]
fn a_thousand_octets_come_one_by_one_from_a_hundred_clients() {
    let mailbox = Mailbox::start(&[]);
    let whole = "EHLO t\r\nMAIL FROM:<>\r\nRCPT TO:<a@x.test>\r\nDATA\r\nslow\r\n.\r\nQUIT\r\n".as_bytes();
    let mut talks: Vec<_> = (0..100).map(|_| Talk::begin(&mailbox.address())).collect();
    for octet in whole {
        for talk in &mut talks {
            talk.send([*octet]);
        }
    }
    for talk in &mut talks {
        let codes: Vec<String> = (0..7).map(|_| talk.code()).collect();
        assert_eq!(codes, ["220", "250", "250", "250", "354", "250", "221"]);
    }
    assert_eq!(mailbox.server.stop().summary()["messages"], 100);
}
