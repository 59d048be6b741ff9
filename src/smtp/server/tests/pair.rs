//! Our client and our server, joined in memory.

use super::{Bench, Room, START, rules, with_users};
use crate::conversation::{Action, Actions, StreamProtocol as _};
use crate::exit::Exit;
use crate::smtp::client;
use crate::smtp::{Client, Credentials, Done, Envelope, Mechanism, Plan, Secret, Security, Wishes};

fn plan(message: &[u8]) -> Plan {
    let plan = client::tests::plan(&["a@x.test", "b@x.test"]);
    let envelope = plan.envelope.map(|envelope| Envelope { message: message.into(), ..envelope });
    Plan { envelope, ..plan }
}

/// Carries octets between the two in pieces of `size` until both are over.
fn talk(plan: Plan, bench: &mut Bench, size: usize) -> Done {
    let mut client = Client::new(plan, START);
    let mut out = Actions::default();
    client.opened(None, START, &mut out);
    let mut inbox = bench.open(None).into_bytes();
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
            bench.open(Some("1.3"));
            client.opened(Some("1.3"), START, &mut out);
        }
        let piece: Vec<u8> = outbox.drain(..outbox.len().min(size)).collect();
        let mut rest = std::mem::take(&mut bench.inbox());
        rest.extend(piece);
        inbox.extend(bench.feed(rest).replace("<tls>", "").replace("<close>", "").into_bytes());
        if is_over {
            return client.done();
        }
    }
    panic!("they talk for ever");
}

impl Bench {
    fn inbox(&mut self) -> Vec<u8> {
        std::mem::take(&mut *self.room.rest.borrow_mut())
    }

    /// Hears octets and keeps what it does not take.
    fn feed(&mut self, mut octets: Vec<u8>) -> String {
        let mut did = String::new();
        loop {
            let taken = self.server.received(&octets, self.now, &mut self.out);
            octets.drain(..taken);
            did += &self.did();
            match self.out.take_job() {
                Some(job) => {
                    job();
                    self.server.job_done(self.now, &mut self.out);
                    did += &self.did();
                }
                None if taken == 0 || octets.is_empty() => break,
                None => {}
            }
        }
        *self.room.rest.borrow_mut() = octets;
        did
    }
}

#[test]
fn whatever_is_sent_arrives() {
    let message = b"Subject: hi\r\n\r\n.\r\n..\r\nlast";
    for size in [1, 2, 3, 7, 1_000] {
        for (is_slow, chunking) in [(false, false), (true, false), (false, true), (true, true)] {
            let wishes = Wishes { chunking, ..Wishes::default() };
            let room = Room { is_slow, ..Room::new(rules()) };
            let mut bench = Bench::of(room);
            let done = talk(Plan { wishes, ..plan(message) }, &mut bench, size);
            assert!(done.failure.is_none(), "{size}: {:?}", done.failure);
            assert_eq!(bench.room.mails.borrow()[0].message, b"Subject: hi\r\n\r\n.\r\n..\r\nlast\r\n");
            assert_eq!(bench.room.mails.borrow()[0].recipients.len(), 2);
            assert_eq!(bench.room.mails.borrow()[0].is_chunked, chunking);
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
            in_clear: security == Security::Plain,
            nonce: "cnonce".into(),
        };
        let mut bench = Bench::new(with_users());
        let done = talk(Plan { security, login: Some(login), ..plan(b"x") }, &mut bench, 1_000);
        match expected {
            Ok(mechanism) => assert_eq!((done.failure.is_none(), done.mechanism), (true, Some(mechanism))),
            Err(exit) => assert_eq!(done.failure.map(|failure| failure.exit()), Some(exit)),
        }
        let is_encrypted = bench.room.mails.borrow().first().is_some_and(|mail| mail.client.tls.is_some());
        assert_eq!(is_encrypted, expected.is_ok() && security == Security::Starttls);
    }
}
