//! How a reply leaves: at once, or as a rule of `--fault` has it.
//!
//! Owns replies that are held back, that drip, that are replaced or never come, and what follows a reply
//! once it is out.

use std::time::Duration;

use super::fault::{Effect, FaultAction, FaultPoint};
use super::replies::{self, ServerReply};
use super::{AfterReply, MessageSink, QUIT_GRACE, ServerEvent, ServerSession, State};
use crate::protocol::Actions;
use crate::time::Moment;

/// The least time between two pieces of a reply that drips.
const MIN_PIECE_INTERVAL: Duration = Duration::from_millis(50);

/// A reply that is not out yet.
#[derive(Debug)]
pub(super) struct PacedReply {
    bytes: Vec<u8>,
    sent: usize,
    bytes_per_second: Option<u64>,
    /// When the next piece is due.
    pub next_piece_at: Moment,
    ending: ReplyEnding,
}

/// What follows its last octet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReplyEnding {
    Normal,
    Drop,
    Reset,
    Stall,
}

impl<M: MessageSink> ServerSession<M> {
    /// Says a reply.
    pub(super) fn send_reply(
        &mut self,
        reply: &ServerReply,
        action: &FaultAction,
        now: Moment,
        actions: &mut Actions<ServerEvent<M::Stored>>,
    ) {
        if *action == FaultAction::default() {
            actions.send_with(|buffer| reply.write(buffer));
            return self.reply_sent(now, actions);
        }
        let mut bytes = Vec::new();
        match &action.effect {
            Effect::Reply(other) => other.write(&mut bytes),
            Effect::Raw(octets) => bytes.extend_from_slice(octets),
            _ => reply.write(&mut bytes),
        }
        bytes.extend_from_slice(&action.injected);
        self.pace_reply(bytes, action, now, actions);
    }

    /// Says nothing, in whichever way a rule has it.
    pub(super) fn send_no_reply(
        &mut self,
        action: &FaultAction,
        now: Moment,
        actions: &mut Actions<ServerEvent<M::Stored>>,
    ) {
        self.pace_reply(action.injected.clone(), action, now, actions);
    }

    fn pace_reply(
        &mut self,
        bytes: Vec<u8>,
        action: &FaultAction,
        now: Moment,
        actions: &mut Actions<ServerEvent<M::Stored>>,
    ) {
        let end = match action.effect {
            Effect::Drop => ReplyEnding::Drop,
            Effect::Reset => ReplyEnding::Reset,
            Effect::Stall => ReplyEnding::Stall,
            _ => ReplyEnding::Normal,
        };
        let bytes = if end == ReplyEnding::Normal { bytes } else { Vec::new() };
        self.paced_reply = Some(PacedReply {
            bytes,
            sent: 0,
            bytes_per_second: action.bytes_per_second,
            next_piece_at: now + action.delay,
            ending: end,
        });
        if action.delay.is_zero() {
            self.flush_reply(now, actions);
        }
    }

    /// Sends what is due of the reply that is held.
    pub(super) fn flush_reply(&mut self, now: Moment, actions: &mut Actions<ServerEvent<M::Stored>>) {
        let Some(mut held) = self.paced_reply.take() else { return };
        let rest = held.bytes.get(held.sent..).unwrap_or_default();
        if let Some(pace) = held.bytes_per_second.filter(|_| !rest.is_empty()) {
            let due = u128::from(pace) * MIN_PIECE_INTERVAL.as_nanos() / 1_000_000_000;
            let piece = rest.get(..usize::try_from(due).unwrap_or(usize::MAX).max(1)).unwrap_or(rest);
            actions.send(piece);
            held.sent += piece.len();
            held.next_piece_at =
                now + Duration::from_secs_f64(as_f64(piece.len()) / as_f64(usize::try_from(pace).unwrap_or(1)));
            self.paced_reply = Some(held);
            return;
        }
        actions.send(rest);
        match held.ending {
            ReplyEnding::Normal => self.reply_sent(now, actions),
            ReplyEnding::Drop => {
                self.emit_accepted(now, actions);
                self.close(actions);
            }
            ReplyEnding::Reset => {
                self.emit_accepted(now, actions);
                self.is_closed = true;
                actions.reset();
            }
            ReplyEnding::Stall => {
                self.emit_accepted(now, actions);
                self.is_stalled = true;
            }
        }
    }

    /// Tells of the mails whose acknowledgement is out, or never will be.
    pub(super) fn emit_accepted(&mut self, now: Moment, actions: &mut Actions<ServerEvent<M::Stored>>) {
        for (kept, at) in self.unacknowledged.drain(..) {
            actions.emit(ServerEvent::Accepted(kept, now - at));
        }
    }

    /// A reply is out.
    fn reply_sent(&mut self, now: Moment, actions: &mut Actions<ServerEvent<M::Stored>>) {
        let limits = self.sink.config().timeouts;
        let limit =
            if matches!(self.state, State::Body(_) | State::Chunk { .. }) { limits.body } else { limits.command };
        self.deadline = now + limit;
        if self.is_draining && self.sender.is_none() {
            self.deadline = self.deadline.min(now + QUIT_GRACE);
        }
        match std::mem::replace(&mut self.after_reply, AfterReply::Continue) {
            AfterReply::Continue => {}
            AfterReply::SendBanner => self.send_banner(now, actions),
            AfterReply::StartTls => self.begin_tls(now, actions),
            AfterReply::Close => self.close(actions),
        }
    }

    /// The 220 to STARTTLS is out. What was said in clear is forgotten (RFC 3207 §4.2).
    fn begin_tls(&mut self, now: Moment, actions: &mut Actions<ServerEvent<M::Stored>>) {
        // The reply is out, and so is every one before it.
        self.emit_accepted(now, actions);
        self.reset_transaction();
        self.client.helo_name = String::new();
        self.client.login = None;
        self.is_extended = false;
        self.state = State::TlsHandshake;
        match self.evaluate_at(FaultPoint::TlsHandshake, actions).effect {
            Effect::None => actions.start_tls(),
            instead => self.fail_handshake(instead, now, actions),
        }
    }

    /// A handshake that never comes to be.
    pub(super) fn fail_handshake(
        &mut self,
        effect: Effect,
        now: Moment,
        actions: &mut Actions<ServerEvent<M::Stored>>,
    ) {
        /// A fatal alert in the record layer of TLS 1.2: `handshake_failure` (RFC 8446 §6).
        const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 40];
        self.deadline = now + self.sink.config().timeouts.command;
        match effect {
            Effect::Raw(octets) => self.state = State::FailedHandshake(octets),
            Effect::Alert => self.state = State::FailedHandshake(ALERT.to_vec()),
            Effect::Stall => self.is_stalled = true,
            Effect::Reset => {
                self.is_closed = true;
                actions.reset();
            }
            _ => self.close(actions),
        }
    }

    /// The server closes, and this client has just been heard.
    pub(super) fn shutdown_reply(&self) -> Option<ServerReply> {
        self.is_draining.then_some(replies::SHUTTING_DOWN)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a few octets")]
fn as_f64(bytes: usize) -> f64 {
    bytes as f64
}
