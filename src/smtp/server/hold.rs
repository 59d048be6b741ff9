//! How a reply leaves: at once, or as a rule of `--fault` has it.
//!
//! Owns replies that are held back, that drip, that are replaced or never come, and what follows a reply
//! once it is out.

use std::time::Duration;

use super::super::fault::{FaultAction, Instead, Place};
use super::answer::{self, Answer};
use super::{After, FAREWELL, Fact, Mailroom, Server, State};
use crate::conversation::Actions;
use crate::time::Moment;

/// The least time between two pieces of a reply that drips.
const DRIP: Duration = Duration::from_millis(50);

/// A reply that is not out yet.
#[derive(Debug)]
pub struct Held {
    bytes: Vec<u8>,
    sent: usize,
    pace: Option<u64>,
    /// When the next piece is due.
    pub next: Moment,
    end: Ending,
}

/// What follows its last octet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Usual,
    Drop,
    Reset,
    Stall,
}

impl<M: Mailroom> Server<M> {
    /// Says a reply.
    pub(super) fn say(&mut self, answer: &Answer, action: &FaultAction, now: Moment, out: &mut Actions<Fact<M::Kept>>) {
        if *action == FaultAction::default() {
            out.send_with(|buffer| answer.write(buffer));
            return self.released(now, out);
        }
        let mut bytes = Vec::new();
        match &action.instead {
            Instead::Answer(other) => other.write(&mut bytes),
            Instead::Raw(octets) => bytes.extend_from_slice(octets),
            _ => answer.write(&mut bytes),
        }
        bytes.extend_from_slice(&action.behind);
        self.hold(bytes, action, now, out);
    }

    /// Says nothing, in whichever way a rule has it.
    pub(super) fn say_nothing(&mut self, action: &FaultAction, now: Moment, out: &mut Actions<Fact<M::Kept>>) {
        self.hold(action.behind.clone(), action, now, out);
    }

    fn hold(&mut self, bytes: Vec<u8>, action: &FaultAction, now: Moment, out: &mut Actions<Fact<M::Kept>>) {
        let end = match action.instead {
            Instead::Drop => Ending::Drop,
            Instead::Reset => Ending::Reset,
            Instead::Stall => Ending::Stall,
            _ => Ending::Usual,
        };
        let bytes = if end == Ending::Usual { bytes } else { Vec::new() };
        self.held = Some(Held { bytes, sent: 0, pace: action.pace, next: now + action.delay, end });
        if action.delay.is_zero() {
            self.pump(now, out);
        }
    }

    /// Sends what is due of the reply that is held.
    pub(super) fn pump(&mut self, now: Moment, out: &mut Actions<Fact<M::Kept>>) {
        let Some(mut held) = self.held.take() else { return };
        let rest = held.bytes.get(held.sent..).unwrap_or_default();
        if let Some(pace) = held.pace.filter(|_| !rest.is_empty()) {
            let due = u128::from(pace) * DRIP.as_nanos() / 1_000_000_000;
            let piece = rest.get(..usize::try_from(due).unwrap_or(usize::MAX).max(1)).unwrap_or(rest);
            out.send(piece);
            held.sent += piece.len();
            held.next =
                now + Duration::from_secs_f64(precise(piece.len()) / precise(usize::try_from(pace).unwrap_or(1)));
            self.held = Some(held);
            return;
        }
        out.send(rest);
        match held.end {
            Ending::Usual => self.released(now, out),
            Ending::Drop => {
                self.tell_taken(now, out);
                self.close(out);
            }
            Ending::Reset => {
                self.tell_taken(now, out);
                self.is_over = true;
                out.reset();
            }
            Ending::Stall => {
                self.tell_taken(now, out);
                self.is_stalled = true;
            }
        }
    }

    /// Tells of the mails whose acknowledgement is out, or never will be.
    pub(super) fn tell_taken(&mut self, now: Moment, out: &mut Actions<Fact<M::Kept>>) {
        for (kept, at) in self.taken.drain(..) {
            out.emit(Fact::Taken(kept, now - at));
        }
    }

    /// A reply is out.
    fn released(&mut self, now: Moment, out: &mut Actions<Fact<M::Kept>>) {
        let limits = self.room.rules().limits;
        let limit =
            if matches!(self.state, State::Body(_) | State::Chunk { .. }) { limits.body } else { limits.command };
        self.until = now + limit;
        if self.is_draining && self.sender.is_none() {
            self.until = self.until.min(now + FAREWELL);
        }
        match std::mem::replace(&mut self.after, After::Go) {
            After::Go => {}
            After::Greet => self.greet(now, out),
            After::StartTls => self.begin_tls(now, out),
            After::Close => self.close(out),
        }
    }

    /// The 220 to STARTTLS is out. What was said in clear is forgotten (RFC 3207 §4.2).
    fn begin_tls(&mut self, now: Moment, out: &mut Actions<Fact<M::Kept>>) {
        // The reply is out, and so is every one before it.
        self.tell_taken(now, out);
        self.forget();
        self.client.name = String::new();
        self.client.login = None;
        self.is_extended = false;
        self.state = State::Handshaking;
        match self.decide_at(Place::Handshake, out).instead {
            Instead::Usual => out.start_tls(),
            instead => self.refuse_tls(instead, now, out),
        }
    }

    /// A handshake that never comes to be.
    pub(super) fn refuse_tls(&mut self, instead: Instead, now: Moment, out: &mut Actions<Fact<M::Kept>>) {
        /// A fatal alert in the record layer of TLS 1.2: `handshake_failure` (RFC 8446 §6).
        const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 40];
        self.until = now + self.room.rules().limits.command;
        match instead {
            Instead::Raw(octets) => self.state = State::NoTls(octets),
            Instead::Alert => self.state = State::NoTls(ALERT.to_vec()),
            Instead::Stall => self.is_stalled = true,
            Instead::Reset => {
                self.is_over = true;
                out.reset();
            }
            _ => self.close(out),
        }
    }

    /// The server closes, and this client has just been heard.
    pub(super) fn is_closing(&self) -> Option<Answer> {
        self.is_draining.then_some(answer::CLOSING)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a few octets")]
fn precise(octets: usize) -> f64 {
    octets as f64
}
