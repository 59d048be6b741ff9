//! The server's side: what becomes of each datagram.
//!
//! Owns the order of the questions, and the answer. It must not know sockets; it is an
//! [`Exchange`] for all peers at once.
//!
//! ```text
//!   datagram ─▶ whole? ─▶ harmless source? ─▶ within limits? ─▶ text or STAMP? ─▶ not a loop?
//!                  └────────────┴─── no: refused, silently ─────────┴────────────────┘
//!            ─▶ impairment: dropped on purpose, or copies ─▶ each: sent now, or held until due
//! ```
//!
//! An answer is made from its request in place, so it can never be longer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::delayed::Delayed;
use super::guard::{Refusal, is_bad_source};
use super::loops::LoopGuard;
use super::reply::{Message, Parts, Reply, Session};
use super::stamp::Probe;
use super::table::{Table, Who};
use super::tally::{ClientTally, EchoFact, Tally};
use super::text;
use crate::conversation::{Datagram, DatagramActions, DatagramProtocol, TransmitError};
use crate::impair::{Fate, Impairment};
use crate::seal::Key;
use crate::stats::Seen;
use crate::strangers::Bucket;
use crate::time::Moment;

/// How many datagrams a second one network is answered where strangers can come in.
pub const NET_LIMIT: u32 = 100;

/// How many datagrams a second all strangers together are answered.
pub const STRANGERS_LIMIT: u32 = 10_000;

/// Stands for every reflector's packet in the loop guard; the NUL tells it from text.
const REFLECTED: &[u8] = b"\0";

/// How an echo is to behave.
#[derive(Clone)]
pub struct Rules {
    /// What the network is to do to datagrams.
    pub impairment: Impairment,
    /// The key of authenticated STAMP; with it, unauthenticated STAMP is refused.
    pub key: Option<Key>,
    /// Where this server listens, so that it does not answer itself.
    pub own: Vec<SocketAddr>,
    /// Whether strangers can come in, so that they are limited.
    pub public: bool,
    /// How many datagrams are still to be taken, by all threads together; `None` is without end.
    pub remaining: Option<Arc<AtomicU64>>,
}

/// The echo.
pub struct Echo {
    rules: Rules,
    sessions: Table<Session>,
    ordinals: Arc<AtomicU32>,
    strangers: Bucket,
    loops: LoopGuard,
    delayed: Delayed,
    tally: Tally,
    scratch: Vec<u8>,
}

impl Echo {
    /// An echo by these rules. Several of them, one per thread, share `ordinals`, so that a client
    /// is numbered by its first appearance whoever serves it.
    pub fn new(rules: Rules, ordinals: Arc<AtomicU32>) -> Self {
        Self {
            rules,
            sessions: Table::default(),
            ordinals,
            strangers: Bucket::default(),
            loops: LoopGuard::default(),
            delayed: Delayed::default(),
            tally: Tally::default(),
            scratch: Vec::new(),
        }
    }

    /// What became of all datagrams so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// How many sessions are known now.
    #[cfg(test)]
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// The clients still known, in the order of their first appearance.
    pub fn clients(&self) -> Vec<ClientTally> {
        let mut clients: Vec<_> = self
            .sessions
            .iter()
            .map(|(who, session)| ClientTally {
                client: session.ordinal,
                peer: who.peer,
                received: session.received,
                sent: session.sent,
            })
            .collect();
        clients.sort_unstable_by_key(|client| client.client);
        clients
    }

    /// Refuses what must not be answered; else says what it is.
    fn admit(&mut self, datagram: &Datagram<'_>) -> Result<Message, Refusal> {
        let Datagram { peer, bytes, .. } = *datagram;
        if datagram.truncated {
            return Err(Refusal::Oversize);
        }
        if is_bad_source(peer, datagram.local, &self.rules.own) {
            return Err(Refusal::BadSource);
        }
        if self.rules.public && !peer.ip().to_canonical().is_loopback() {
            let net = self.sessions.bucket(peer);
            let net = net.is_none_or(|bucket| bucket.take(NET_LIMIT, datagram.received_at));
            if !net || !self.strangers.take(STRANGERS_LIMIT, datagram.received_at) {
                return Err(Refusal::RateLimited);
            }
        }
        if text::is_text(bytes) {
            return Ok(Message::Text);
        }
        Ok(Message::Stamp(Probe::read(bytes, self.rules.key.as_ref())?))
    }

    /// Answers, or drops on purpose.
    fn answer(
        &mut self,
        message: Message,
        datagram: &Datagram<'_>,
        now: Moment,
        post: &mut DatagramActions<EchoFact>,
    ) -> Result<(), Refusal> {
        let Datagram { peer, bytes, received_at: at, .. } = *datagram;
        let who = Who { peer, ssid: message.ssid() };
        let session = self.sessions.seen(who, at, || {
            let ordinal = self.ordinals.fetch_add(1, Ordering::Relaxed).saturating_add(1);
            Session::new(ordinal, self.rules.impairment.path(ordinal))
        });
        let suspected = match message {
            Message::Text => text::is_upper(bytes).then_some(bytes),
            // The stamps of two reflectors differ each time round, so all of them are alike here.
            Message::Stamp(_) => Probe::may_be_reflected(bytes, self.rules.key.as_ref()).then_some(REFLECTED),
        };
        if suspected.is_some_and(|same| !self.loops.admits(peer, same, at)) {
            return Err(Refusal::Loop);
        }
        match message {
            Message::Text => {}
            Message::Stamp(probe) => {
                let seen = session.window.see(probe.seq.into());
                self.tally.repeated += u64::from(seen == Seen::Twice);
            }
        }
        session.received += 1;
        let impairment = &self.rules.impairment;
        let verdict = (!impairment.is_idle()).then(|| impairment.arrival(&mut session.path, at, bytes.len()));
        let number = match &verdict {
            Some(verdict) => verdict.number(),
            None => session.path.skip(),
        };
        let mut reply = Reply {
            echo: Parts {
                key: self.rules.key.as_ref(),
                delayed: &mut self.delayed,
                tally: &mut self.tally,
                scratch: &mut self.scratch,
            },
            session,
            message,
            datagram,
            now,
            number,
        };
        let Some(verdict) = verdict else {
            return reply.at_once(post);
        };
        for fate in verdict.fates() {
            match fate {
                Fate::Passed(passage) => reply.pass(passage, post)?,
                Fate::Dropped(cause) => reply.drop(cause, post),
            }
        }
        Ok(())
    }
}

impl DatagramProtocol for Echo {
    type Event = EchoFact;

    fn received(&mut self, datagram: &Datagram<'_>, now: Moment, post: &mut DatagramActions<EchoFact>) {
        let (peer, bytes) = (datagram.peer, datagram.bytes.len());
        if let Some(remaining) = &self.rules.remaining
            && remaining.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err()
        {
            // It came with the last one that was wanted.
            return;
        }
        self.tally.received += 1;
        post.emit(|| EchoFact::Received { peer, bytes });
        let message = self.admit(datagram);
        if let Err(reason) = message.and_then(|message| self.answer(message, datagram, now, post)) {
            self.tally.refuse(reason);
            post.emit(|| EchoFact::Refused { peer, reason });
        }
    }

    fn transmitted(&mut self, _ticket: u64, _at: Moment) {}

    /// One peer's trouble is not the others': what ICMP says to an open server socket is ignored,
    /// anybody could forge it.
    fn failed(&mut self, failure: &TransmitError<'_>, _now: Moment, post: &mut DatagramActions<EchoFact>) {
        if let TransmitError::NotSent { error, .. } = *failure {
            self.tally.not_sent += 1;
            post.emit(|| EchoFact::NotSent { error: error.to_string() });
        }
    }

    fn overflowed(&mut self, count: u64, _now: Moment, post: &mut DatagramActions<EchoFact>) {
        self.tally.local_drops += count;
        post.emit(|| EchoFact::LocalDrop { count });
    }

    fn woken(&mut self, now: Moment, post: &mut DatagramActions<EchoFact>) {
        let tally = &mut self.tally;
        self.delayed.release(now, |envelope, bytes| {
            tally.held -= 1;
            tally.sent += 1;
            post.send(envelope, |out| out.extend_from_slice(bytes));
        });
    }

    fn wake_at(&self) -> Option<Moment> {
        self.delayed.next_due()
    }
}

#[cfg(test)]
mod tests;
