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

use super::amplification::{EchoRefusal, is_bad_source};
use super::counters::{ClientCounters, EchoCounters, EchoEvent};
use super::delayed::DelayQueue;
use super::loops::LoopGuard;
use super::reply::{EchoContext, EchoSession, PayloadKind, ReplyBuilder};
use super::session_table::{SessionKey, SessionTable};
use super::stamp::Probe;
use super::text;
use crate::impair::{CopyOutcome, Impairment};
use crate::mac::MacKey;
use crate::protocol::{Datagram, DatagramActions, DatagramProtocol, TransmitError};
use crate::rate_limit::TokenBucket;
use crate::stats::SequenceStatus;
use crate::time::Moment;

/// How many datagrams a second one network is answered where strangers can come in.
pub(super) const PREFIX_RATE_LIMIT: u32 = 100;

/// How many datagrams a second all strangers together are answered.
pub(super) const TOTAL_RATE_LIMIT: u32 = 10_000;

/// Stands for every reflector's packet in the loop guard; the NUL tells it from text.
const REFLECTED_MARKER: &[u8] = b"\0";

/// How an echo is to behave.
#[derive(Clone)]
pub(crate) struct EchoConfig {
    /// What the network is to do to datagrams.
    pub impairment: Impairment,
    /// The key of authenticated STAMP; with it, unauthenticated STAMP is refused.
    pub key: Option<MacKey>,
    /// Where this server listens, so that it does not answer itself.
    pub own_addresses: Vec<SocketAddr>,
    /// Whether strangers can come in, so that they are limited.
    pub is_public: bool,
    /// How many datagrams are still to be taken, by all threads together; `None` is without end.
    pub remaining: Option<Arc<AtomicU64>>,
}

/// The echo.
pub(crate) struct Echo {
    config: EchoConfig,
    sessions: SessionTable<EchoSession>,
    client_count: Arc<AtomicU32>,
    total_bucket: TokenBucket,
    loop_guard: LoopGuard,
    delayed: DelayQueue,
    counters: EchoCounters,
    scratch: Vec<u8>,
}

impl Echo {
    /// An echo by these rules. Several of them, one per thread, share `ordinals`, so that a client
    /// is numbered by its first appearance whoever serves it.
    pub(crate) fn new(config: EchoConfig, client_count: Arc<AtomicU32>) -> Self {
        Self {
            config,
            sessions: SessionTable::default(),
            client_count,
            total_bucket: TokenBucket::default(),
            loop_guard: LoopGuard::default(),
            delayed: DelayQueue::default(),
            counters: EchoCounters::default(),
            scratch: Vec::new(),
        }
    }

    /// What became of all datagrams so far.
    pub(crate) fn counters(&self) -> &EchoCounters {
        &self.counters
    }

    /// How many sessions are known now.
    #[cfg(test)]
    pub(crate) fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// The clients still known, in the order of their first appearance.
    pub(crate) fn clients(&self) -> Vec<ClientCounters> {
        let mut clients: Vec<_> = self
            .sessions
            .iter()
            .map(|(who, session)| ClientCounters {
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
    fn admit(&mut self, datagram: &Datagram<'_>) -> Result<PayloadKind, EchoRefusal> {
        let Datagram { peer, bytes, .. } = *datagram;
        if datagram.truncated {
            return Err(EchoRefusal::Oversize);
        }
        if is_bad_source(peer, datagram.local, &self.config.own_addresses) {
            return Err(EchoRefusal::BadSource);
        }
        if self.config.is_public && !peer.ip().to_canonical().is_loopback() {
            let net = self.sessions.bucket(peer);
            let net = net.is_none_or(|bucket| bucket.try_take(PREFIX_RATE_LIMIT, datagram.received_at));
            if !net || !self.total_bucket.try_take(TOTAL_RATE_LIMIT, datagram.received_at) {
                return Err(EchoRefusal::RateLimited);
            }
        }
        if text::is_text(bytes) {
            return Ok(PayloadKind::Text);
        }
        Ok(PayloadKind::Stamp(Probe::read(bytes, self.config.key.as_ref())?))
    }

    /// Answers, or drops on purpose.
    fn reply_to(
        &mut self,
        payload_kind: PayloadKind,
        datagram: &Datagram<'_>,
        now: Moment,
        actions: &mut DatagramActions<EchoEvent>,
    ) -> Result<(), EchoRefusal> {
        let Datagram { peer, bytes, received_at: at, .. } = *datagram;
        let who = SessionKey { peer, ssid: payload_kind.ssid() };
        let session = self.sessions.get_or_insert(who, at, || {
            let ordinal = self.client_count.fetch_add(1, Ordering::Relaxed).saturating_add(1);
            EchoSession::new(ordinal, self.config.impairment.path_state(ordinal))
        });
        let suspected = match payload_kind {
            PayloadKind::Text => text::is_uppercase(bytes).then_some(bytes),
            // The stamps of two reflectors differ each time round, so all of them are alike here.
            PayloadKind::Stamp(_) => {
                Probe::may_be_reflected(bytes, self.config.key.as_ref()).then_some(REFLECTED_MARKER)
            }
        };
        if suspected.is_some_and(|same| !self.loop_guard.admits(peer, same, at)) {
            return Err(EchoRefusal::Loop);
        }
        match payload_kind {
            PayloadKind::Text => {}
            PayloadKind::Stamp(probe) => {
                let seen = session.window.record(probe.seq.into());
                self.counters.repeated += u64::from(seen == SequenceStatus::Duplicate);
            }
        }
        session.received += 1;
        let impairment = &self.config.impairment;
        let verdict = (!impairment.is_noop()).then(|| impairment.decide(&mut session.path, at, bytes.len()));
        let number = match &verdict {
            Some(verdict) => verdict.ordinal(),
            None => session.path.count_unimpaired(),
        };
        let mut reply = ReplyBuilder {
            context: EchoContext {
                key: self.config.key.as_ref(),
                delayed: &mut self.delayed,
                counters: &mut self.counters,
                scratch: &mut self.scratch,
            },
            session,
            payload_kind,
            datagram,
            now,
            ordinal: number,
        };
        let Some(verdict) = verdict else {
            return reply.send_unimpaired(actions);
        };
        for fate in verdict.copies() {
            match fate {
                CopyOutcome::Delivered(passage) => reply.send_copy(passage, actions)?,
                CopyOutcome::Dropped(cause) => reply.drop_copy(cause, actions),
            }
        }
        Ok(())
    }
}

impl DatagramProtocol for Echo {
    type Event = EchoEvent;

    fn received(&mut self, datagram: &Datagram<'_>, now: Moment, actions: &mut DatagramActions<EchoEvent>) {
        let (peer, bytes) = (datagram.peer, datagram.bytes.len());
        if let Some(remaining) = &self.config.remaining
            && remaining.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err()
        {
            // It came with the last one that was wanted.
            return;
        }
        self.counters.received += 1;
        actions.emit(|| EchoEvent::Received { peer, bytes });
        let message = self.admit(datagram);
        if let Err(reason) = message.and_then(|message| self.reply_to(message, datagram, now, actions)) {
            self.counters.count_refusal(reason);
            actions.emit(|| EchoEvent::Refused { peer, reason });
        }
    }

    fn transmitted(&mut self, _ticket: u64, _at: Moment) {}

    /// One peer's trouble is not the others': what ICMP says to an open server socket is ignored,
    /// anybody could forge it.
    fn failed(&mut self, failure: &TransmitError<'_>, _now: Moment, actions: &mut DatagramActions<EchoEvent>) {
        if let TransmitError::NotSent { error, .. } = *failure {
            self.counters.not_sent += 1;
            actions.emit(|| EchoEvent::NotSent { error: error.to_string() });
        }
    }

    fn overflowed(&mut self, count: u64, _now: Moment, actions: &mut DatagramActions<EchoEvent>) {
        self.counters.local_drops += count;
        actions.emit(|| EchoEvent::LocalDrop { count });
    }

    fn woken(&mut self, now: Moment, actions: &mut DatagramActions<EchoEvent>) {
        let tally = &mut self.counters;
        self.delayed.drain_due(now, |envelope, bytes| {
            tally.held -= 1;
            tally.sent += 1;
            actions.send(envelope, |out| out.extend_from_slice(bytes));
        });
    }

    fn wake_at(&self) -> Option<Moment> {
        self.delayed.next_due()
    }
}

#[cfg(test)]
mod tests;
