//! Our client and our server, joined in memory.

use super::{Harness, START, TestSink, config, with_users};
use crate::exit::Exit;
use crate::mac::Secret;
use crate::protocol::{Action, Actions, StreamProtocol as _};
use crate::smtp::client;
use crate::smtp::{
    ClientConfig, ClientSession, Credentials, Envelope, Mechanism, RequestedExtensions, Security, SessionResult,
};

fn client_config(message: &[u8]) -> ClientConfig {
    let plan = client::tests::client_config(&["a@x.test", "b@x.test"]);
    let envelope = plan.envelope.map(|envelope| Envelope { message: message.into(), ..envelope });
    ClientConfig { envelope, ..plan }
}

/// Carries octets between the two in pieces of `size` until both are over.
fn run_dialogue(config: ClientConfig, harness: &mut Harness, size: usize) -> SessionResult {
    let mut client = ClientSession::new(config, START);
    let mut out = Actions::default();
    client.opened(None, START, &mut out);
    let mut inbox = harness.connect(None).into_bytes();
    let mut outbox: Vec<u8> = Vec::new();
    for _ in 0..10_000 {
        let taken = client.received(&inbox, START, &mut out);
        inbox.drain(..taken);
        let (steps, bytes) = out.queued();
        let upgrades = steps.iter().any(|step| matches!(step, Action::StartTls));
        let is_over = steps.iter().any(|step| matches!(step, Action::Close | Action::Reset));
        steps.clear();
        outbox.append(bytes);
        client.sent(START, &mut out);
        out.events().for_each(drop);
        if upgrades {
            harness.connect(Some("1.3"));
            client.opened(Some("1.3"), START, &mut out);
        }
        let piece: Vec<u8> = outbox.drain(..outbox.len().min(size)).collect();
        let mut rest = std::mem::take(&mut harness.take_unread());
        rest.extend(piece);
        inbox.extend(harness.feed(rest).replace("<tls>", "").replace("<close>", "").into_bytes());
        if is_over {
            return client.into_result();
        }
    }
    panic!("they talk for ever");
}

impl Harness {
    fn take_unread(&mut self) -> Vec<u8> {
        std::mem::take(&mut *self.sink.unread.borrow_mut())
    }

    /// Hears octets and keeps what it does not take.
    fn feed(&mut self, mut bytes: Vec<u8>) -> String {
        let mut did = String::new();
        loop {
            let taken = self.server.received(&bytes, self.now, &mut self.actions);
            bytes.drain(..taken);
            did += &self.take_output();
            match self.actions.take_job() {
                Some(job) => {
                    job();
                    self.server.job_done(self.now, &mut self.actions);
                    did += &self.take_output();
                }
                None if taken == 0 || bytes.is_empty() => break,
                None => {}
            }
        }
        *self.sink.unread.borrow_mut() = bytes;
        did
    }
}

#[test]
fn whatever_is_sent_arrives() {
    let message = b"Subject: hi\r\n\r\n.\r\n..\r\nlast";
    for size in [1, 2, 3, 7, 1_000] {
        for (is_slow, chunking) in [(false, false), (true, false), (false, true), (true, true)] {
            let wishes = RequestedExtensions { chunking, ..RequestedExtensions::default() };
            let room = TestSink { is_deferred: is_slow, ..TestSink::new(config()) };
            let mut bench = Harness::with_sink(room);
            let done =
                run_dialogue(ClientConfig { requested_extensions: wishes, ..client_config(message) }, &mut bench, size);
            assert!(done.failure.is_none(), "{size}: {:?}", done.failure);
            assert_eq!(bench.sink.messages.borrow()[0].message, b"Subject: hi\r\n\r\n.\r\n..\r\nlast\r\n");
            assert_eq!(bench.sink.messages.borrow()[0].recipients.len(), 2);
            assert_eq!(bench.sink.messages.borrow()[0].is_chunked, chunking);
        }
    }
}

#[test]
fn the_strongest_login_is_taken_on_each_line() {
    for (security, password, expected) in [
        (Security::Plain, "tea", Ok(Mechanism::ScramSha256)),
        (Security::Starttls, "tea", Ok(Mechanism::ScramSha256)),
        (Security::Starttls, "coffee", Err(Exit::Permission)),
    ] {
        let secret = Secret::new(password.as_bytes().to_vec());
        let login = Credentials {
            user: "tim".into(),
            secret,
            mechanism: None,
            allow_cleartext: security == Security::Plain,
            nonce: "cnonce".into(),
        };
        let mut bench = Harness::new(with_users());
        let done =
            run_dialogue(ClientConfig { security, credentials: Some(login), ..client_config(b"x") }, &mut bench, 1_000);
        match expected {
            Ok(mechanism) => assert_eq!((done.failure.is_none(), done.mechanism), (true, Some(mechanism))),
            Err(exit) => assert_eq!(done.failure.map(|failure| failure.exit()), Some(exit)),
        }
        let is_encrypted = bench.sink.messages.borrow().first().is_some_and(|mail| mail.client.tls.is_some());
        assert_eq!(is_encrypted, expected.is_ok() && security == Security::Starttls);
    }
}
