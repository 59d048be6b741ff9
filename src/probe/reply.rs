//! An answer in the making.
//!
//! Owns how a reply comes out of its request: upper case for text, a reflection for STAMP, then
//! the damage ordered, then now or later. It is made in place, so it is as long as its request.

use std::time::Duration;

use super::amplification::EchoRefusal;
use super::counters::{EchoCounters, EchoEvent};
use super::delayed::DelayQueue;
use super::ntp::ErrorEstimate;
use super::stamp::{Probe, Reflection};
use super::text;
use crate::impair::{DropReason, PathEffects, PathState};
use crate::mac::MacKey;
use crate::protocol::{Datagram, DatagramActions, Transmit};
use crate::stats::SequenceWindow;
use crate::time::Moment;

/// What is known of one session.
pub(super) struct EchoSession {
    pub ordinal: u32,
    pub path: PathState,
    /// The reflector's own sequence number (RFC 8762 §4.3, stateful).
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

/// What a datagram is.
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

/// What of the echo an answer needs besides its session.
pub(super) struct EchoContext<'a> {
    pub key: Option<&'a MacKey>,
    pub delayed: &'a mut DelayQueue,
    pub counters: &'a mut EchoCounters,
    pub scratch: &'a mut Vec<u8>,
}

/// An answer in the making.
pub(super) struct ReplyBuilder<'a, 'd> {
    pub context: EchoContext<'a>,
    pub session: &'a mut EchoSession,
    pub payload_kind: PayloadKind,
    pub datagram: &'a Datagram<'d>,
    pub now: Moment,
    pub ordinal: u64,
}

impl ReplyBuilder<'_, '_> {
    /// Sends one copy, or holds it until it is due.
    pub(super) fn send_copy(
        &mut self,
        effects: PathEffects,
        actions: &mut DatagramActions<EchoEvent>,
    ) -> Result<(), EchoRefusal> {
        let Datagram { peer, bytes, received_at: at, .. } = *self.datagram;
        let mut scratch = std::mem::take(self.context.scratch);
        scratch.clear();
        scratch.extend_from_slice(bytes);
        let made = self.build(&mut scratch, effects);
        let delay = effects.inbound.delay.saturating_add(effects.outbound.delay);
        let due = at + delay;
        let envelope = Transmit::reply(self.datagram, self.ordinal);
        if made.is_err() {
            // Nothing to send: the damage done on purpose made it unreadable.
        } else if delay.is_zero() || due <= self.now {
            actions.send(envelope, |out| out.extend_from_slice(&scratch));
            self.context.counters.sent += 1;
            self.record_sent(delay, actions);
        } else if self.context.delayed.push(due, envelope, &scratch) {
            self.context.counters.held += 1;
            self.record_sent(delay, actions);
        } else {
            self.context.counters.delay_full += 1;
            actions.emit(|| EchoEvent::DelayFull { peer });
        }
        *self.context.scratch = scratch;
        made
    }

    /// The honest echo's way: made where it is sent from, without a detour.
    pub(super) fn send_unimpaired(&mut self, actions: &mut DatagramActions<EchoEvent>) -> Result<(), EchoRefusal> {
        let request = self.datagram.bytes;
        let mut made = Ok(());
        actions.send(Transmit::reply(self.datagram, self.ordinal), |out| {
            let start = out.len();
            out.extend_from_slice(request);
            if let Some(octets) = out.get_mut(start..) {
                made = self.build(octets, PathEffects::default());
            }
        });
        self.context.counters.sent += 1;
        self.record_sent(Duration::ZERO, actions);
        made
    }

    /// Drops one copy on purpose.
    pub(super) fn drop_copy(&mut self, reason: DropReason, actions: &mut DatagramActions<EchoEvent>) {
        // Lost on the way back means answered all the same: the reflector counts it.
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

    /// Makes the reply out of the octets of its request.
    fn build(&mut self, bytes: &mut [u8], effects: PathEffects) -> Result<(), EchoRefusal> {
        let damaged = effects.inbound.bit_flip.inspect(|flip| flip.apply(bytes)).is_some();
        match self.payload_kind {
            PayloadKind::Text => text::make_uppercase(bytes),
            PayloadKind::Stamp(probe) => {
                let key = self.context.key;
                let probe = if damaged { Probe::read(bytes, key)? } else { probe };
                self.build_reflection(probe, effects).write_over(bytes, key);
            }
        }
        if let Some(flip) = effects.outbound.bit_flip {
            flip.apply(bytes);
        }
        Ok(())
    }

    /// Stamps are in the sender's format: a reflector that knows both follows it (RFC 8762 §4.3).
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
