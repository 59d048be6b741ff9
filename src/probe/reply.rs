//! An answer in the making.
//!
//! Owns how a reply comes out of its request: upper case for text, a reflection for STAMP, then
//! the damage ordered, then now or later. It is made in place, so it is as long as its request.

use std::time::Duration;

use super::delayed::Delayed;
use super::guard::Refusal;
use super::ntp::ErrorEstimate;
use super::stamp::{Probe, Reflection};
use super::tally::{EchoFact, Tally};
use super::text;
use crate::conversation::{Datagram, DatagramActions, Transmit};
use crate::impair::{Cause, Passage, Path};
use crate::seal::Key;
use crate::stats::Window;
use crate::time::Moment;

/// What is known of one session.
pub struct Session {
    pub ordinal: u32,
    pub path: Path,
    /// The reflector's own sequence number (RFC 8762 §4.3, stateful).
    pub reflected: u32,
    pub window: Window,
    pub received: u64,
    pub sent: u64,
}

impl Session {
    pub fn new(ordinal: u32, path: Path) -> Self {
        Self { ordinal, path, reflected: 0, window: Window::default(), received: 0, sent: 0 }
    }
}

/// What a datagram is.
#[derive(Clone, Copy)]
pub enum Message {
    Text,
    Stamp(Probe),
}

impl Message {
    pub fn ssid(self) -> Option<u16> {
        match self {
            Self::Text => None,
            Self::Stamp(probe) => Some(probe.ssid),
        }
    }
}

/// What of the echo an answer needs besides its session.
pub struct Parts<'a> {
    pub key: Option<&'a Key>,
    pub delayed: &'a mut Delayed,
    pub tally: &'a mut Tally,
    pub scratch: &'a mut Vec<u8>,
}

/// An answer in the making.
pub struct Reply<'a, 'd> {
    pub echo: Parts<'a>,
    pub session: &'a mut Session,
    pub message: Message,
    pub datagram: &'a Datagram<'d>,
    pub now: Moment,
    pub number: u64,
}

impl Reply<'_, '_> {
    /// Sends one copy, or holds it until it is due.
    pub fn pass(&mut self, passage: Passage, post: &mut DatagramActions<EchoFact>) -> Result<(), Refusal> {
        let Datagram { peer, bytes, received_at: at, .. } = *self.datagram;
        let mut scratch = std::mem::take(self.echo.scratch);
        scratch.clear();
        scratch.extend_from_slice(bytes);
        let made = self.make(&mut scratch, passage);
        let delay = passage.inward.delay.saturating_add(passage.outward.delay);
        let due = at + delay;
        let envelope = Transmit::reply(self.datagram, self.number);
        if made.is_err() {
            // Nothing to send: the damage done on purpose made it unreadable.
        } else if delay.is_zero() || due <= self.now {
            post.send(envelope, |out| out.extend_from_slice(&scratch));
            self.echo.tally.sent += 1;
            self.answered(delay, post);
        } else if self.echo.delayed.hold(due, envelope, &scratch) {
            self.echo.tally.held += 1;
            self.answered(delay, post);
        } else {
            self.echo.tally.delay_full += 1;
            post.emit(|| EchoFact::DelayFull { peer });
        }
        *self.echo.scratch = scratch;
        made
    }

    /// The honest echo's way: made where it is sent from, without a detour.
    pub fn at_once(&mut self, post: &mut DatagramActions<EchoFact>) -> Result<(), Refusal> {
        let request = self.datagram.bytes;
        let mut made = Ok(());
        post.send(Transmit::reply(self.datagram, self.number), |out| {
            let start = out.len();
            out.extend_from_slice(request);
            if let Some(octets) = out.get_mut(start..) {
                made = self.make(octets, Passage::default());
            }
        });
        self.echo.tally.sent += 1;
        self.answered(Duration::ZERO, post);
        made
    }

    /// Drops one copy on purpose.
    pub fn drop(&mut self, cause: Cause, post: &mut DatagramActions<EchoFact>) {
        // Lost on the way back means answered all the same: the reflector counts it.
        self.session.reflected = self.session.reflected.wrapping_add(u32::from(cause == Cause::LossOut));
        self.echo.tally.drop(cause);
        post.emit(|| EchoFact::Dropped {
            peer: self.datagram.peer,
            client: self.session.ordinal,
            number: self.number,
            cause,
        });
    }

    fn answered(&mut self, delay: Duration, post: &mut DatagramActions<EchoFact>) {
        self.session.sent += 1;
        post.emit(|| EchoFact::Sent {
            peer: self.datagram.peer,
            client: self.session.ordinal,
            number: self.number,
            bytes: self.datagram.bytes.len(),
            delay,
        });
    }

    /// Makes the reply out of the octets of its request.
    fn make(&mut self, octets: &mut [u8], passage: Passage) -> Result<(), Refusal> {
        let damaged = passage.inward.flip.inspect(|flip| flip.apply(octets)).is_some();
        match self.message {
            Message::Text => text::answer(octets),
            Message::Stamp(probe) => {
                let key = self.echo.key;
                let probe = if damaged { Probe::read(octets, key)? } else { probe };
                self.reflection(probe, passage).write_over(octets, key);
            }
        }
        if let Some(flip) = passage.outward.flip {
            flip.apply(octets);
        }
        Ok(())
    }

    /// Stamps are in the sender's format: a reflector that knows both follows it (RFC 8762 §4.3).
    fn reflection(&mut self, probe: Probe, passage: Passage) -> Reflection {
        let format = probe.estimate.format();
        let held = passage.inward.delay;
        let seq = self.session.reflected;
        self.session.reflected = seq.wrapping_add(1);
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
