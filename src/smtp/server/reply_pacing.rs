//! Sending of replies: at once, or as a fault rule prescribes.
//!
//! Owns replies that are delayed, throttled, replaced or suppressed, and the action that follows a reply.

use std::time::Duration;

use super::config::ServerTurn;
use super::fault::{Effect, FaultAction, FaultPoint};
use super::replies::{self, ServerReply};
use super::{AfterReply, Life, MessageSink, QUIT_GRACE, ServerEvent, ServerSession, State};
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
    pub(super) fn send_reply(&mut self, reply: &ServerReply, action: &FaultAction, turn: &mut ServerTurn<'_, M>) {
        if *action == FaultAction::default() {
            turn.actions.send_with(|buffer| reply.write(buffer));
            return self.reply_sent(turn);
        }
        let mut bytes = Vec::new();
        match &action.effect {
            Effect::Reply(replacement) => replacement.write(&mut bytes),
            Effect::Raw(raw) => bytes.extend_from_slice(raw),
            _ => reply.write(&mut bytes),
        }
        bytes.extend_from_slice(&action.injected);
        self.pace_reply(bytes, action, turn);
    }

    /// Applies a fault action where no reply is due.
    pub(super) fn send_no_reply(&mut self, action: &FaultAction, turn: &mut ServerTurn<'_, M>) {
        self.pace_reply(action.injected.clone(), action, turn);
    }

    fn pace_reply(&mut self, bytes: Vec<u8>, action: &FaultAction, turn: &mut ServerTurn<'_, M>) {
        let ending = match action.effect {
            Effect::Drop => ReplyEnding::Drop,
            Effect::Reset => ReplyEnding::Reset,
            Effect::Stall => ReplyEnding::Stall,
            _ => ReplyEnding::Normal,
        };
        let bytes = if ending == ReplyEnding::Normal { bytes } else { Vec::new() };
        self.output.paced_reply = Some(PacedReply {
            bytes,
            sent: 0,
            bytes_per_second: action.bytes_per_second,
            next_piece_at: turn.now + action.delay,
            ending,
        });
        if action.delay.is_zero() {
            self.flush_reply(turn);
        }
    }

    /// Sends the part of the paced reply that is due.
    pub(super) fn flush_reply(&mut self, turn: &mut ServerTurn<'_, M>) {
        let Some(mut reply) = self.output.paced_reply.take() else { return };
        let rest = reply.bytes.get(reply.sent..).unwrap_or_default();
        if let Some(rate) = reply.bytes_per_second.filter(|_| !rest.is_empty()) {
            let due = u128::from(rate) * MIN_PIECE_INTERVAL.as_nanos() / 1_000_000_000;
            let piece = rest.get(..usize::try_from(due).unwrap_or(usize::MAX).max(1)).unwrap_or(rest);
            turn.actions.send(piece);
            reply.sent += piece.len();
            reply.next_piece_at =
                turn.now + Duration::from_secs_f64(as_f64(piece.len()) / as_f64(usize::try_from(rate).unwrap_or(1)));
            self.output.paced_reply = Some(reply);
            return;
        }
        turn.actions.send(rest);
        match reply.ending {
            ReplyEnding::Normal => self.reply_sent(turn),
            ReplyEnding::Drop => {
                self.emit_accepted(turn);
                self.close(turn);
            }
            ReplyEnding::Reset => {
                self.emit_accepted(turn);
                self.life = Life::Closed;
                turn.actions.reset();
            }
            ReplyEnding::Stall => {
                self.emit_accepted(turn);
                self.life = Life::Stalled;
            }
        }
    }

    /// Emits the messages whose 250 is sent or will never be.
    pub(super) fn emit_accepted(&mut self, turn: &mut ServerTurn<'_, M>) {
        for (stored, received_at) in self.output.unacknowledged.drain(..) {
            turn.actions.emit(ServerEvent::Accepted(stored, turn.now - received_at));
        }
    }

    fn reply_sent(&mut self, turn: &mut ServerTurn<'_, M>) {
        let timeouts = self.sink.config().timeouts;
        let timeout = if self.is_receiving_content() { timeouts.body } else { timeouts.command };
        self.deadlines.next = turn.now + timeout;
        if self.life == Life::Draining && !self.is_in_transaction() {
            self.deadlines.next = self.deadlines.next.min(turn.now + QUIT_GRACE);
        }
        match std::mem::replace(&mut self.output.after_reply, AfterReply::Continue) {
            AfterReply::Continue => {}
            AfterReply::SendBanner => self.send_banner(turn),
            AfterReply::StartTls => self.begin_tls(turn),
            AfterReply::Close => self.close(turn),
        }
    }

    /// Begins the handshake after the 220 to STARTTLS; resets the session (RFC 3207 §4.2).
    fn begin_tls(&mut self, turn: &mut ServerTurn<'_, M>) {
        // Every earlier reply is sent too.
        self.emit_accepted(turn);
        self.reset_transaction();
        self.client.helo_name = String::new();
        self.client.login = None;
        self.greeting.is_extended = false;
        self.state = State::TlsHandshake;
        match self.evaluate_at(FaultPoint::TlsHandshake, turn).effect {
            Effect::None => turn.actions.start_tls(),
            effect => self.fail_handshake(effect, turn),
        }
    }

    /// Applies a fault in place of a TLS handshake.
    pub(super) fn fail_handshake(&mut self, effect: Effect, turn: &mut ServerTurn<'_, M>) {
        /// TLS 1.2 record with the fatal alert `handshake_failure` (RFC 8446 §6).
        const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 40];
        self.deadlines.next = turn.now + self.sink.config().timeouts.command;
        match effect {
            Effect::Raw(raw) => self.state = State::FailedHandshake(raw),
            Effect::Alert => self.state = State::FailedHandshake(ALERT.to_vec()),
            Effect::Stall => self.life = Life::Stalled,
            Effect::Reset => {
                self.life = Life::Closed;
                turn.actions.reset();
            }
            _ => self.close(turn),
        }
    }

    /// Returns the 421 to send if the server is shutting down.
    pub(super) fn shutdown_reply(&self) -> Option<ServerReply> {
        (self.life == Life::Draining).then_some(replies::SHUTTING_DOWN)
    }
}

#[expect(clippy::cast_precision_loss, reason = "at most a few kilobytes")]
fn as_f64(bytes: usize) -> f64 {
    bytes as f64
}
