//! Sending of replies: at once, or as a fault rule prescribes.
//!
//! Owns replies that are delayed, throttled, replaced or suppressed, and the action that follows a reply.

use std::time::Duration;

use super::config::ServerActions;
use super::fault::{Effect, FaultAction, FaultPoint};
use super::replies::{self, ServerReply};
use super::{AfterReply, MessageSink, QUIT_GRACE, ServerEvent, ServerSession, State};
use crate::time::Moment;

/// Minimum time between two pieces of a throttled reply.
const MIN_PIECE_INTERVAL: Duration = Duration::from_millis(50);

/// Reply that is not completely sent yet.
#[derive(Debug)]
pub(super) struct PacedReply {
    bytes: Vec<u8>,
    sent: usize,
    bytes_per_second: Option<u64>,
    pub next_piece_at: Moment,
    ending: ReplyEnding,
}

/// Action after the last byte of the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReplyEnding {
    Normal,
    Drop,
    Reset,
    Stall,
}

impl<M: MessageSink> ServerSession<M> {
    pub(super) fn send_reply(
        &mut self,
        reply: &ServerReply,
        action: &FaultAction,
        now: Moment,
        actions: &mut ServerActions<M>,
    ) {
        if *action == FaultAction::default() {
            actions.send_with(|buffer| reply.write(buffer));
            return self.reply_sent(now, actions);
        }
        let mut bytes = Vec::new();
        match &action.effect {
            Effect::Reply(replacement) => replacement.write(&mut bytes),
            Effect::Raw(raw) => bytes.extend_from_slice(raw),
            _ => reply.write(&mut bytes),
        }
        bytes.extend_from_slice(&action.injected);
        self.pace_reply(bytes, action, now, actions);
    }

    /// Applies a fault action where no reply is due.
    pub(super) fn send_no_reply(&mut self, action: &FaultAction, now: Moment, actions: &mut ServerActions<M>) {
        self.pace_reply(action.injected.clone(), action, now, actions);
    }

    fn pace_reply(&mut self, bytes: Vec<u8>, action: &FaultAction, now: Moment, actions: &mut ServerActions<M>) {
        let ending = match action.effect {
            Effect::Drop => ReplyEnding::Drop,
            Effect::Reset => ReplyEnding::Reset,
            Effect::Stall => ReplyEnding::Stall,
            _ => ReplyEnding::Normal,
        };
        let bytes = if ending == ReplyEnding::Normal { bytes } else { Vec::new() };
        self.paced_reply = Some(PacedReply {
            bytes,
            sent: 0,
            bytes_per_second: action.bytes_per_second,
            next_piece_at: now + action.delay,
            ending,
        });
        if action.delay.is_zero() {
            self.flush_reply(now, actions);
        }
    }

    /// Sends the part of the paced reply that is due.
    pub(super) fn flush_reply(&mut self, now: Moment, actions: &mut ServerActions<M>) {
        let Some(mut reply) = self.paced_reply.take() else { return };
        let rest = reply.bytes.get(reply.sent..).unwrap_or_default();
        if let Some(rate) = reply.bytes_per_second.filter(|_| !rest.is_empty()) {
            let due = u128::from(rate) * MIN_PIECE_INTERVAL.as_nanos() / 1_000_000_000;
            let piece = rest.get(..usize::try_from(due).unwrap_or(usize::MAX).max(1)).unwrap_or(rest);
            actions.send(piece);
            reply.sent += piece.len();
            reply.next_piece_at =
                now + Duration::from_secs_f64(as_f64(piece.len()) / as_f64(usize::try_from(rate).unwrap_or(1)));
            self.paced_reply = Some(reply);
            return;
        }
        actions.send(rest);
        match reply.ending {
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

    /// Emits the messages whose 250 is sent or will never be.
    pub(super) fn emit_accepted(&mut self, now: Moment, actions: &mut ServerActions<M>) {
        for (stored, received_at) in self.unacknowledged.drain(..) {
            actions.emit(ServerEvent::Accepted(stored, now - received_at));
        }
    }

    fn reply_sent(&mut self, now: Moment, actions: &mut ServerActions<M>) {
        let timeouts = self.sink.config().timeouts;
        let timeout =
            if matches!(self.state, State::Body(_) | State::Chunk { .. }) { timeouts.body } else { timeouts.command };
        self.deadline = now + timeout;
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

    /// Begins the handshake after the 220 to STARTTLS; resets the session (RFC 3207 §4.2).
    fn begin_tls(&mut self, now: Moment, actions: &mut ServerActions<M>) {
        // Every earlier reply is sent too.
        self.emit_accepted(now, actions);
        self.reset_transaction();
        self.client.helo_name = String::new();
        self.client.login = None;
        self.is_extended = false;
        self.state = State::TlsHandshake;
        match self.evaluate_at(FaultPoint::TlsHandshake, actions).effect {
            Effect::None => actions.start_tls(),
            effect => self.fail_handshake(effect, now, actions),
        }
    }

    /// Applies a fault in place of a TLS handshake.
    pub(super) fn fail_handshake(&mut self, effect: Effect, now: Moment, actions: &mut ServerActions<M>) {
        /// TLS 1.2 record with the fatal alert `handshake_failure` (RFC 8446 §6).
        const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 40];
        self.deadline = now + self.sink.config().timeouts.command;
        match effect {
            Effect::Raw(raw) => self.state = State::FailedHandshake(raw),
            Effect::Alert => self.state = State::FailedHandshake(ALERT.to_vec()),
            Effect::Stall => self.is_stalled = true,
            Effect::Reset => {
                self.is_closed = true;
                actions.reset();
            }
            _ => self.close(actions),
        }
    }

    /// Returns the 421 to send if the server is shutting down.
    pub(super) fn shutdown_reply(&self) -> Option<ServerReply> {
        self.is_draining.then_some(replies::SHUTTING_DOWN)
    }
}

#[expect(clippy::cast_precision_loss, reason = "at most a few kilobytes")]
fn as_f64(bytes: usize) -> f64 {
    bytes as f64
}
