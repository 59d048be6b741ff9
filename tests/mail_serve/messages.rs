//! Messages that break rules, as a first client of one's own sends them.

use std::io::{Read as _, Write as _};

use crate::support::{Server, connect, send_and_read};

/// Sends a dialogue step by step and returns the events of the server.
fn events_of(body: &[u8]) -> Vec<serde_json::Value> {
    let server = Server::start(&["mail-serve", "--json"]);
    let mut client = connect(server.address());
    let mut reply = [0; 4096];
    let mut read = |client: &mut std::net::TcpStream| client.read(&mut reply).expect("a reply");
    read(&mut client);
    for command in [
        &b"EHLO x\r\n"[..],
        b"MAIL FROM:<a@x.test>\r\n",
        b"RCPT TO:<b@x.test>\r\n",
        b"DATA\r\n",
        &[body, b".\r\n"].concat(),
    ] {
        client.write_all(command).expect("sent");
        read(&mut client);
    }
    drop(client);
    server.stop().events()
}

#[test]
fn each_broken_rule_of_a_message_is_a_warning_with_its_clause() {
    for (body, expected) in [
        (
            &b"hello world\r\n"[..],
            "no header: the message begins with 'hello world'; From and Date are required (RFC 5322 §3.6)",
        ),
        (b"", "no header: the message is empty"),
        (b"Subject: x\r\nhello\r\n", "'hello' in the header is not a field; an empty line must come before the body"),
        (b"From: a@x.test\r\n\r\nhi\r\n", "no Date field"),
        (b"From: a@x.test\r\nDate: Mon, 30 Nov 2026 14:00:00 +0000\r\n\r\ncaf\xe9\r\n", "BODY=8BITMIME"),
    ] {
        let events = events_of(body);
        let message = events.iter().find(|event| event["type"] == "message").expect("a mail");
        assert!(message["warnings"].to_string().contains(expected), "{message}");
        assert_eq!(message["all_parts"], true, "{message}");
    }
}

#[test]
fn a_message_sent_before_the_reply_to_data_is_reported() {
    let server = Server::start(&["mail-serve"]);
    send_and_read(
        server.address(),
        b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@x.test>\r\nDATA\r\nFrom: a@x.test\r\n\r\nhi\r\n.\r\nQUIT\r\n",
    );
    let printed = server.stop().stdout;
    assert!(printed.contains("the message was sent before the reply to DATA (RFC 5321 §4.1.1.4"), "{printed}");
    assert!(printed.contains("warning: no Date field (RFC 5322 §3.6)"), "{printed}");
}
