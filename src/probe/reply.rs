//! Construction of a reply from its request.
//!
//! Converts text to upper case or builds a STAMP reflection, applies the configured corruption, then sends or
//! queues the result. The reply is built in place, so it is as long as its request.

use std::time::Duration;

use super::counters::{EchoCounters, EchoEvent};
use super::delay_queue::DelayQueue;
use super::ntp::ErrorEstimate;
use super::reject::EchoRejectReason;
use super::stamp::{Probe, Reflection};
use super::text_format;
use crate::impair::{DropReason, PathEffects, PathState};
use crate::mac::MacKey;
use crate::protocol::{Datagram, DatagramActions, Transmit};
use crate::stats::SequenceWindow;
use crate::time::Moment;

pub(super) struct EchoSession {
    pub ordinal: u32,
    pub path: PathState,
    /// Sequence number of the next reflection (RFC 8762 §4.3, stateful).
    pub reflector_seq: u32,
    pub window: SequenceWindow,
    pub received: u64,
    pub sent: u64,
}

impl EchoSession {
    pub(super) fn new(ordinal: u32, path: PathState) -> Self {
        Self { ordinal, path, reflector_seq: 0, window: SequenceWindow::default(), received: 0, sent: 0 }
    }
}

#[derive(Clone, Copy)]
pub(super) enum PayloadKind {
    Text,
    Stamp(Probe),
}

impl PayloadKind {
    pub(super) fn ssid(self) -> Option<u16> {
        match self {
            Self::Text => None,
            Self::Stamp(probe) => Some(probe.ssid),
        }
    }
}

/// Parts of the echo server that a reply needs besides its session.
pub(super) struct ReplyResources<'a> {
    pub key: Option<&'a MacKey>,
    pub delayed: &'a mut DelayQueue,
    pub counters: &'a mut EchoCounters,
    pub scratch: &'a mut Vec<u8>,
}

/// Builder of the reply to one datagram.
pub(super) struct ReplyBuilder<'a, 'd> {
    pub context: ReplyResources<'a>,
    pub session: &'a mut EchoSession,
    pub payload_kind: PayloadKind,
    pub datagram: &'a Datagram<'d>,
    pub now: Moment,
    pub ordinal: u64,
}

impl ReplyBuilder<'_, '_> {
    /// Sends one copy, or queues it until it is due.
    pub(super) fn send_copy(
        &mut self,
        effects: PathEffects,
        actions: &mut DatagramActions<EchoEvent>,
    ) -> Result<(), EchoRejectReason> {
        let Datagram { peer, bytes, received_at: at, .. } = *self.datagram;
        let mut scratch = std::mem::take(self.context.scratch);
        scratch.clear();
        scratch.extend_from_slice(bytes);
        let result = self.build(&mut scratch, effects);
        let delay = effects.inbound.delay.saturating_add(effects.outbound.delay);
        let due = at + delay;
        let transmit = Transmit::reply(self.datagram, self.ordinal);
        if result.is_err() {
            // Nothing to send: the injected corruption made the request unreadable.
        } else if delay.is_zero() || due <= self.now {
            actions.send(transmit, |out| out.extend_from_slice(&scratch));
            self.context.counters.sent += 1;
            self.record_sent(delay, actions);
        } else if self.context.delayed.push(due, transmit, &scratch) {
            self.context.counters.held += 1;
            self.record_sent(delay, actions);
        } else {
            self.context.counters.delay_full += 1;
            actions.emit(|| EchoEvent::DelayFull { peer });
        }
        *self.context.scratch = scratch;
        result
    }

    /// Sends the reply without impairments, built directly in the send buffer.
    pub(super) fn send_unimpaired(&mut self, actions: &mut DatagramActions<EchoEvent>) -> Result<(), EchoRejectReason> {
        let request = self.datagram.bytes;
        let mut result = Ok(());
        actions.send(Transmit::reply(self.datagram, self.ordinal), |out| {
            let start = out.len();
            out.extend_from_slice(request);
            if let Some(bytes) = out.get_mut(start..) {
                result = self.build(bytes, PathEffects::default());
            }
        });
        self.context.counters.sent += 1;
        self.record_sent(Duration::ZERO, actions);
        result
    }

    /// Drops one copy on purpose.
    pub(super) fn drop_copy(&mut self, reason: DropReason, actions: &mut DatagramActions<EchoEvent>) {
        // A reply lost on the way out was answered, so the reflector counts it.
        self.session.reflector_seq = self.session.reflector_seq.wrapping_add(u32::from(reason == DropReason::LossOut));
        self.context.counters.count_drop(reason);
        actions.emit(|| EchoEvent::Dropped {
            peer: self.datagram.peer,
            client: self.session.ordinal,
            number: self.ordinal,
            cause: reason,
        });
    }

    fn record_sent(&mut self, delay: Duration, actions: &mut DatagramActions<EchoEvent>) {
        self.session.sent += 1;
        actions.emit(|| EchoEvent::Sent {
            peer: self.datagram.peer,
            client: self.session.ordinal,
            number: self.ordinal,
            bytes: self.datagram.bytes.len(),
            delay,
        });
    }

    /// Turns the bytes of the request into the reply.
    fn build(&mut self, bytes: &mut [u8], effects: PathEffects) -> Result<(), EchoRejectReason> {
        let corrupted = effects.inbound.bit_flip.inspect(|flip| flip.apply(bytes)).is_some();
        match self.payload_kind {
            PayloadKind::Text => text_format::make_uppercase(bytes),
            PayloadKind::Stamp(probe) => {
                let key = self.context.key;
                let probe = if corrupted { Probe::read(bytes, key)? } else { probe };
                self.build_reflection(probe, effects).write_over(bytes, key);
            }
        }
        if let Some(flip) = effects.outbound.bit_flip {
            flip.apply(bytes);
        }
        Ok(())
    }

    /// Timestamps use the sender's format: a reflector that supports both follows it (RFC 8762 §4.3).
    fn build_reflection(&mut self, probe: Probe, effects: PathEffects) -> Reflection {
        let format = probe.estimate.format();
        let held = effects.inbound.delay;
        let seq = self.session.reflector_seq;
        self.session.reflector_seq = seq.wrapping_add(1);
        Reflection {
            seq,
            timestamp: format.encode((self.now + held).wall()),
            estimate: ErrorEstimate::UNKNOWN.with_format(format),
            received: format.encode((self.datagram.received_at + held).wall()),
            ttl: self.datagram.ttl.unwrap_or(u8::MAX),
            probe,
        }
    }
}
