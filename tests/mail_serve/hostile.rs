//! Hostile and broken clients.

use std::io::Read as _;

use crate::support::{connect, send_and_read};
use crate::{Client, Mailbox};

#[test]
fn a_second_mail_cannot_be_smuggled_in() {
    let mailbox = Mailbox::start(&[]);
    for end in ["\n.\n", "\n.\r\n", "\r.\r", "\r\n.\n", "\r\n.\r", "\r\n\0.\r\n"] {
        let mut client = Client::open(&mailbox.address());
        client.up_to_data();
        client.send(format!("x{end}MAIL FROM:<evil@x.test>\r\nRCPT TO:<b@x.test>\r\nDATA\r\nevil\r\n.\r\nQUIT\r\n"));
        assert_eq!(client.code(), "250", "{end:?}");
        assert_eq!(client.code(), "221", "{end:?}");
    }
    let events = mailbox.server.stop().events();
    assert!(events.iter().all(|event| event["from"] != "evil@x.test"));
    assert_eq!(events.iter().filter(|event| event["type"] == "message").count(), 6);
}

#[test]
fn a_browser_is_disconnected_after_its_first_line() {
    let mailbox = Mailbox::start(&[]);
    let request = b"POST / HTTP/1.1\r\nHost: x\r\n\r\nEHLO t\r\nMAIL FROM:<a@x>\r\nRCPT TO:<b@x>\r\nDATA\r\nx\r\n.\r\n";
    let replies = String::from_utf8(send_and_read(mailbox.server.address(), request)).expect("text");
    assert!(replies.starts_with("220 ") && replies.lines().count() == 2 && replies.contains("\r\n421 "), "{replies}");
    assert_eq!(mailbox.server.stop().summary()["messages"], 0);
}

#[test]
fn data_pipelined_after_starttls_ends_the_connection() {
    let mailbox = Mailbox::with_tls(&[]);
    let replies = send_and_read(mailbox.server.address(), b"EHLO t\r\nSTARTTLS\r\nMAIL FROM:<a@x.test>\r\n");
    let replies = String::from_utf8(replies).expect("text");
    assert!(replies.ends_with("closing connection\r\n") && !replies.contains("250 2.1.0"), "{replies}");
}

#[test]
fn silent_clients_are_disconnected() {
    let limits = ["--idle-timeout", "100ms", "--stall-timeout", "100ms", "--handshake-timeout", "100ms"];
    let mailbox = Mailbox::with_tls(&[&limits[..], &["--tls-bind", "127.0.0.1:0"]].concat());
    assert!(String::from_utf8(send_and_read(mailbox.server.address(), b"EHL")).expect("text").contains("421 4.4.2"));
    let half = b"EHLO t\r\nMAIL FROM:<>\r\nRCPT TO:<a@x.test>\r\nDATA\r\nhalf";
    assert!(String::from_utf8(send_and_read(mailbox.server.address(), half)).expect("text").contains("421 4.4.2"));
    let chunk = b"EHLO t\r\nMAIL FROM:<>\r\nRCPT TO:<a@x.test>\r\nBDAT 100\r\nhalf";
    assert!(String::from_utf8(send_and_read(mailbox.server.address(), chunk)).expect("text").contains("421 4.4.2"));
    let mut silent = connect(mailbox.server.addresses[1].parse().expect("an address"));
    assert!(silent.read_to_end(&mut Vec::new()).is_ok(), "a handshake that never starts");
    let ran = mailbox.server.stop();
    let failed = ran.events().into_iter().filter(|event| event["type"] == "failed").count();
    assert_eq!((failed, ran.code), (4, 0), "{}", ran.stdout);
    let session = Mailbox::start(&["--session-timeout", "100ms"]);
    assert!(
        String::from_utf8(send_and_read(session.server.address(), b""))
            .expect("text")
            .contains("421 4.4.2 session time limit")
    );
}

#[test]
fn a_connection_over_the_limit_gets_421() {
    let mailbox = Mailbox::start(&["--max-connections", "2"]);
    let mut first = Client::open(&mailbox.address());
    let _second = Client::open(&mailbox.address());
    let mut third = Client::begin(&mailbox.address());
    assert_eq!(third.code(), "421");
    assert_eq!(first.command("QUIT"), "221");
    // Only after its connection is closed does the server count the first as gone.
    assert_eq!(first.reply(), "");
    drop((first, third));
    let codes: Vec<String> = (0..50).map(|_| Client::begin(&mailbox.address()).code()).collect();
    assert!(codes.iter().any(|code| code == "220"), "{codes:?}");
}

#[test]
fn large_mails_and_many_recipients_are_rejected_and_the_session_continues() {
    let mailbox = Mailbox::start(&["--max-size", "1k", "--max-recipients", "2"]);
    let mut client = Client::open(&mailbox.address());
    assert_eq!(client.command("EHLO t"), "250");
    assert_eq!(client.command("MAIL FROM:<> SIZE=1025"), "552");
    assert_eq!(client.command("MAIL FROM:<>"), "250");
    for code in ["250", "250", "452"] {
        assert_eq!(client.command("RCPT TO:<a@x.test>"), code);
    }
    assert_eq!(client.command("DATA"), "354");
    client.send("x".repeat(100_000) + "\r\n.\r\n");
    assert_eq!(client.code(), "552");
    assert_eq!(client.command("NOOP"), "250");
    assert_eq!(mailbox.mail(&["--text", &"x".repeat(2_000)]).code, 65, "our client fails before it sends");
}

#[test]
fn a_hundred_clients_send_one_byte_at_a_time() {
    let mailbox = Mailbox::start(&[]);
    let session = "EHLO t\r\nMAIL FROM:<>\r\nRCPT TO:<a@x.test>\r\nDATA\r\nslow\r\n.\r\nQUIT\r\n".as_bytes();
    let mut clients: Vec<_> = (0..100).map(|_| Client::begin(&mailbox.address())).collect();
    for byte in session {
        for client in &mut clients {
            client.send([*byte]);
        }
    }
    for client in &mut clients {
        let codes: Vec<String> = (0..7).map(|_| client.code()).collect();
        assert_eq!(codes, ["220", "250", "250", "250", "354", "250", "221"]);
    }
    assert_eq!(mailbox.server.stop().summary()["messages"], 100);
}
