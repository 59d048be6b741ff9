//! Echo server: checks each datagram, applies the impairments and sends the reply.
//!
//! Owns the order of the checks. Does not know sockets; one [`DatagramProtocol`] serves all peers.
//!
//! ```text
//!   datagram ─▶ complete? ─▶ safe source? ─▶ within limits? ─▶ text or STAMP? ─▶ not a loop?
//!                   └─────────────┴── no: counted, no reply ─────────┴────────────────┘
//!            ─▶ impairment: dropped on purpose, or copies ─▶ each: sent now, or queued until due
//! ```
//! A reply is built in place from its request, so a reply is never longer than its request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::counters::{ClientCounters, EchoCounters, EchoEvent};
use super::delay_queue::DelayQueue;
use super::loop_guard::LoopGuard;
use super::reject::{EchoRejectReason, is_bad_source};
use super::reply::{EchoSession, PayloadKind, ReplyBuilder, ReplyResources};
use super::session_table::{SessionKey, SessionTable};
use super::stamp::Probe;
use super::text_format;
use crate::impair::{CopyOutcome, Impairment};
use crate::mac::MacKey;
use crate::protocol::{Datagram, DatagramActions, DatagramProtocol, TransmitError};
use crate::rate_limit::TokenBucket;
use crate::stats::SequenceStatus;
use crate::time::Moment;

/// Datagrams answered per second from one source prefix, on a server that other hosts can reach.
pub(super) const PREFIX_RATE_LIMIT: u32 = 100;

/// Datagrams answered per second from all source prefixes together, by one thread.
pub(super) const TOTAL_RATE_LIMIT: u32 = 10_000;

/// Loop-guard key shared by all reflector packets; the NUL byte distinguishes it from text.
const REFLECTED_MARKER: &[u8] = b"\0";

#[derive(Clone)]
pub(crate) struct EchoConfig {
    pub impairment: Impairment,
    /// Key of authenticated STAMP; with a key, unauthenticated packets are dropped.
    pub key: Option<MacKey>,
    /// Addresses of this server; datagrams from them are not answered.
    pub own_addresses: Vec<SocketAddr>,
    /// Whether other hosts can reach this server; enables the rate limits.
    pub is_public: bool,
    /// Datagrams left to accept, shared by all threads; `None` is unlimited.
    pub remaining: Option<Arc<AtomicU64>>,
}

/// Echo server of one thread.
pub(crate) struct EchoServer {
    config: EchoConfig,
    sessions: SessionTable<EchoSession>,
    client_count: Arc<AtomicU32>,
    total_bucket: TokenBucket,
    loop_guard: LoopGuard,
    delayed: DelayQueue,
    counters: EchoCounters,
    scratch: Vec<u8>,
}

impl EchoServer {
    /// Creates an echo server. The servers of all threads share `client_count`, so that clients are
    /// numbered by first appearance.
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

    pub(crate) fn counters(&self) -> &EchoCounters {
        &self.counters
    }

    #[cfg(test)]
    pub(crate) fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// Sessions in the table (a STAMP client has one per session identifier), in order of creation.
    pub(crate) fn clients(&self) -> Vec<ClientCounters> {
        let mut clients: Vec<_> = self
            .sessions
            .iter()
            .map(|(key, session)| ClientCounters {
                client: session.ordinal,
                peer: key.peer,
                received: session.received,
                sent: session.sent,
            })
            .collect();
        clients.sort_unstable_by_key(|client| client.client);
        clients
    }

    /// Returns the kind of payload, or the reason for not answering.
    fn admit(&mut self, datagram: &Datagram<'_>) -> Result<PayloadKind, EchoRejectReason> {
        let Datagram { peer, bytes, .. } = *datagram;
        if datagram.truncated {
            return Err(EchoRejectReason::Oversize);
        }
        if is_bad_source(peer, datagram.local, &self.config.own_addresses) {
            return Err(EchoRejectReason::BadSource);
        }
        if self.config.is_public && !peer.ip().to_canonical().is_loopback() {
            let bucket = self.sessions.bucket(peer);
            let allowed = bucket.is_none_or(|bucket| bucket.try_take(PREFIX_RATE_LIMIT, datagram.received_at));
            if !allowed || !self.total_bucket.try_take(TOTAL_RATE_LIMIT, datagram.received_at) {
                return Err(EchoRejectReason::RateLimited);
            }
        }
        if text_format::is_text(bytes) {
            return Ok(PayloadKind::Text);
        }
        Ok(PayloadKind::Stamp(Probe::read(bytes, self.config.key.as_ref())?))
    }

    /// Rejects a suspected loop; otherwise sends, queues or drops the copies of the reply.
    fn reply_to(
        &mut self,
        payload_kind: PayloadKind,
        datagram: &Datagram<'_>,
        now: Moment,
        actions: &mut DatagramActions<EchoEvent>,
    ) -> Result<(), EchoRejectReason> {
        let Datagram { peer, bytes, received_at: at, .. } = *datagram;
        let key = SessionKey { peer, ssid: payload_kind.ssid() };
        let session = self.sessions.get_or_insert(key, at, || {
            let ordinal = self.client_count.fetch_add(1, Ordering::Relaxed).saturating_add(1);
            EchoSession::new(ordinal, self.config.impairment.path_state(ordinal))
        });
        let suspected = match payload_kind {
            PayloadKind::Text => text_format::is_uppercase(bytes).then_some(bytes),
            // Timestamps differ in every packet of a loop, so all reflector packets count as equal.
            PayloadKind::Stamp(_) => {
                Probe::may_be_reflected(bytes, self.config.key.as_ref()).then_some(REFLECTED_MARKER)
            }
        };
        if suspected.is_some_and(|content| !self.loop_guard.admits(peer, content, at)) {
            return Err(EchoRejectReason::Loop);
        }
        match payload_kind {
            PayloadKind::Text => {}
            PayloadKind::Stamp(probe) => {
                let status = session.window.record(probe.seq.into());
                self.counters.repeated += u64::from(status == SequenceStatus::Duplicate);
            }
        }
        session.received += 1;
        let impairment = &self.config.impairment;
        let verdict = (!impairment.is_noop()).then(|| impairment.decide(&mut session.path, at, bytes.len()));
        let ordinal = match &verdict {
            Some(verdict) => verdict.ordinal(),
            None => session.path.count_unimpaired(),
        };
        let mut reply = ReplyBuilder {
            context: ReplyResources {
                key: self.config.key.as_ref(),
                delayed: &mut self.delayed,
                counters: &mut self.counters,
                scratch: &mut self.scratch,
            },
            session,
            payload_kind,
            datagram,
            now,
            ordinal,
        };
        let Some(verdict) = verdict else {
            return reply.send_unimpaired(actions);
        };
        for copy in verdict.copies() {
            match copy {
                CopyOutcome::Delivered(effects) => reply.send_copy(effects, actions)?,
                CopyOutcome::Dropped(cause) => reply.drop_copy(cause, actions),
            }
        }
        Ok(())
    }
}

impl DatagramProtocol for EchoServer {
    type Event = EchoEvent;

    fn received(&mut self, datagram: &Datagram<'_>, now: Moment, actions: &mut DatagramActions<EchoEvent>) {
        let (peer, bytes) = (datagram.peer, datagram.bytes.len());
        if let Some(remaining) = &self.config.remaining
            && remaining.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err()
        {
            // Received in one batch with the last datagram of --count.
            return;
        }
        self.counters.received += 1;
        actions.emit(|| EchoEvent::Received { peer, bytes });
        let payload_kind = self.admit(datagram);
        if let Err(reason) = payload_kind.and_then(|kind| self.reply_to(kind, datagram, now, actions)) {
            self.counters.count_rejection(reason);
            actions.emit(|| EchoEvent::Rejected { peer, reason });
        }
    }

    fn transmitted(&mut self, _ticket: u64, _at: Moment) {}

    /// ICMP errors on the shared server socket are ignored: they concern one peer only, and any host can forge them.
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
        let counters = &mut self.counters;
        self.delayed.drain_due(now, |transmit, bytes| {
            counters.held -= 1;
            counters.sent += 1;
            actions.send(transmit, |out| out.extend_from_slice(bytes));
        });
    }

    fn wake_at(&self) -> Option<Moment> {
        self.delayed.next_due()
    }
}

#[cfg(test)]
mod tests;
