//! Sending of replies: at once, or as a fault rule prescribes, and the action that follows a reply.

use super::config::ServerTurn;
use super::fault::{Effect, FaultAction, FaultPoint};
use super::paced_reply::{PacedReply, ReplyEnding};
use super::replies::{self, ServerReply};
use super::{AfterReply, Life, MessageSink, QUIT_GRACE, ServerEvent, ServerSession, State};

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
        self.output.paced_reply = Some(PacedReply::new(bytes, action, turn.now));
        if action.delay.is_zero() {
            self.flush_reply(turn);
        }
    }

    /// Sends the part of the paced reply that is due.
    pub(super) fn flush_reply(&mut self, turn: &mut ServerTurn<'_, M>) {
        let Some(reply) = &mut self.output.paced_reply else { return };
        let Some(ending) = reply.send_due(turn) else { return };
        self.output.paced_reply = None;
        if ending != ReplyEnding::Normal {
            self.emit_accepted(turn);
        }
        match ending {
            ReplyEnding::Normal => self.reply_sent(turn),
            ReplyEnding::Drop => self.close(turn),
            ReplyEnding::Reset => {
                self.life = Life::Closed;
                turn.actions.reset();
            }
            ReplyEnding::Stall => self.life = Life::Stalled,
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
