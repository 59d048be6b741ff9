//! Our client and our server, connected in memory.

use super::{Fixture, START, TestSink, config, with_users};
use crate::failure::FailureKind;
use crate::mac::Secret;
use crate::protocol::{Action, Actions, StreamProtocol as _};
use crate::smtp::client;
use crate::smtp::{
    ClientConfig, ClientSession, Credentials, Envelope, Extension, Mechanism, RequestedExtensions, Security,
    SessionResult,
};

fn client_config(message: &[u8]) -> ClientConfig {
    let config = client::tests::client_config(&["a@x.test", "b@x.test"]);
    let envelope = config.envelope.map(|envelope| Envelope { message: message.into(), ..envelope });
    ClientConfig { envelope, ..config }
}

/// Transfers bytes between client and server in pieces of `size` until the client has finished.
fn run_dialogue(config: ClientConfig, harness: &mut Fixture, size: usize) -> SessionResult {
    let mut client = ClientSession::new(config, START);
    let mut actions = Actions::default();
    client.opened(None, START, &mut actions);
    let mut to_client = harness.connect(None).into_bytes();
    let mut to_server: Vec<u8> = Vec::new();
    for _ in 0..10_000 {
        let consumed = client.received(&to_client, START, &mut actions);
        to_client.drain(..consumed);
        let (steps, bytes) = actions.queued();
        let upgrades = steps.iter().any(|step| matches!(step, Action::StartTls));
        let is_over = steps.iter().any(|step| matches!(step, Action::Close | Action::Reset));
        steps.clear();
        to_server.append(bytes);
        client.sent(START, &mut actions);
        actions.events().for_each(drop);
        if upgrades {
            harness.connect(Some("1.3"));
            client.opened(Some("1.3"), START, &mut actions);
        }
        let piece: Vec<u8> = to_server.drain(..to_server.len().min(size)).collect();
        let mut rest = std::mem::take(&mut harness.take_unread());
        rest.extend(piece);
        to_client.extend(harness.feed(rest).replace("<tls>", "").replace("<close>", "").into_bytes());
        if is_over {
            return client.into_result();
        }
    }
    panic!("the session does not end");
}

impl Fixture {
    fn take_unread(&mut self) -> Vec<u8> {
        std::mem::take(&mut *self.sink.unread.borrow_mut())
    }

    /// Passes bytes to the server and keeps those that it does not consume.
    fn feed(&mut self, mut bytes: Vec<u8>) -> String {
        let mut output = String::new();
        loop {
            let consumed = self.server.received(&bytes, self.now, &mut self.actions);
            bytes.drain(..consumed);
            output += &self.take_output();
            match self.actions.take_job() {
                Some(job) => {
                    job();
                    self.server.job_done(self.now, &mut self.actions);
                    output += &self.take_output();
                }
                None if consumed == 0 || bytes.is_empty() => break,
                None => {}
            }
        }
        *self.sink.unread.borrow_mut() = bytes;
        output
    }
}

#[test]
fn a_message_arrives_unchanged() {
    let message = b"Subject: hi\r\n\r\n.\r\n..\r\nlast";
    for size in [1, 2, 3, 7, 1_000] {
        for (is_deferred, chunking) in [(false, false), (true, false), (false, true), (true, true)] {
            let requested_extensions = RequestedExtensions {
                extensions: if chunking { vec![Extension::Chunking] } else { Vec::new() },
                ..RequestedExtensions::default()
            };
            let sink = TestSink { is_deferred, ..config().into() };
            let mut harness = Fixture::new(sink);
            let result =
                run_dialogue(ClientConfig { requested_extensions, ..client_config(message) }, &mut harness, size);
            assert!(result.failure.is_none(), "{size}: {:?}", result.failure);
            assert_eq!(harness.sink.messages.borrow()[0].message, b"Subject: hi\r\n\r\n.\r\n..\r\nlast\r\n");
            assert_eq!(harness.sink.messages.borrow()[0].recipients.len(), 2);
            assert_eq!(harness.sink.messages.borrow()[0].is_chunked, chunking);
        }
    }
}

#[test]
fn the_strongest_mechanism_is_used_with_and_without_tls() {
    for (security, password, expected) in [
        (Security::Plain, "tea", Ok(Mechanism::ScramSha256)),
        (Security::Starttls, "tea", Ok(Mechanism::ScramSha256)),
        (Security::Starttls, "coffee", Err(FailureKind::LoginRejected)),
    ] {
        let secret = Secret::new(password.as_bytes().to_vec());
        let credentials = Credentials {
            user: "tim".into(),
            secret,
            mechanism: None,
            allow_cleartext: security == Security::Plain,
            nonce: "cnonce".into(),
        };
        let mut harness = Fixture::new(with_users());
        let config = ClientConfig { security, credentials: Some(credentials), ..client_config(b"x") };
        let result = run_dialogue(config, &mut harness, 1_000);
        match expected {
            Ok(mechanism) => assert_eq!((result.failure.is_none(), result.mechanism), (true, Some(mechanism))),
            Err(kind) => assert_eq!(result.failure.map(|failure| failure.kind()), Some(kind)),
        }
        let is_encrypted = harness.sink.messages.borrow().first().is_some_and(|message| message.client.tls.is_some());
        assert_eq!(is_encrypted, expected.is_ok() && security == Security::Starttls);
    }
}
