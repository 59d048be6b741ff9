//! SMTP server session: receives messages and passes them to a [`MessageSink`].
//!
//! Owns the order of commands (RFC 5321 §4.1.4), the replies, the deadlines and the points at which fault rules
//! apply. It must not know sockets, TLS or files: it is a [`StreamProtocol`], and storing a message may be a job.
//!
//! ```text
//!   Connected ─ banner ─▶ Ready ⇄ Auth                     QUIT ─▶ 221, close
//!                          │  ▲
//!                     MAIL ▼  │ 250, RSET, EHLO
//!                       Transaction: Command ⇄ Body or Chunk ─ end ─▶ store (job)
//! ```
//!
//! A paced reply or an unfinished job pauses the session: no input is read.

mod command;
mod config;
mod data;
pub(super) mod data_decoder;
mod dialogue;
mod envelope;
pub(crate) mod fault;
mod fault_injection;
mod paced_reply;
mod replies;
mod reply_pacing;
mod sasl;
mod state;
#[cfg(test)]
pub(super) mod tests;
mod users;

use std::rc::Rc;
use std::sync::PoisonError;
use std::time::Duration;

use super::stage::Stage;
use crate::protocol::{Actions, CloseReason, StreamProtocol, Turn};
use crate::time::Moment;
use config::ServerTurn;
use fault::{Effect, FaultAction, FaultPoint};
use state::{
    AfterReply, Deadlines, Greeting, InputErrors, Life, Opening, PendingJob, ReplyOutput, State, Transaction,
    TransactionInput,
};

pub(crate) use config::{
    Accept, AcceptResult, ClientInfo, MemoryBudget, MessageSink, ReceivedMessage, RejectedCommand, Reservation,
    ServerEvent, SessionConfig, SessionTimeouts,
};
pub(crate) use envelope::EnvelopeRecipient;
pub(crate) use replies::{INSUFFICIENT_STORAGE, MESSAGE_LIMIT_REACHED, ServerReply, TOO_MANY_CONNECTIONS};
pub(crate) use users::Users;

/// Time for a client that has delivered a message to send QUIT after the server begins to shut down.
const QUIT_GRACE: Duration = Duration::from_secs(1);

/// SMTP session on one connection.
pub(crate) struct ServerSession<M: MessageSink> {
    sink: Rc<M>,
    client: ClientInfo,
    opening: Opening,
    state: State,
    greeting: Greeting,
    pending_job: Option<PendingJob<M::Stored>>,
    output: ReplyOutput<M::Stored>,
    input: InputErrors,
    life: Life,
    has_delivered: bool,
    deadlines: Deadlines,
}

impl<M: MessageSink> ServerSession<M> {
    pub(crate) fn new(sink: Rc<M>, client: ClientInfo, now: Moment) -> Self {
        let timeouts = sink.config().timeouts;
        Self {
            sink,
            client,
            opening: Opening { rejection: None, handshake_effect: Effect::None },
            state: State::Connected,
            greeting: Greeting::default(),
            pending_job: None,
            output: ReplyOutput { paced_reply: None, after_reply: AfterReply::Continue, unacknowledged: Vec::new() },
            input: InputErrors::default(),
            life: Life::Open,
            has_delivered: false,
            deadlines: Deadlines { next: now + timeouts.command, session: now + timeouts.session },
        }
    }

    /// Makes the session send `reply` in place of the banner and close.
    #[must_use]
    pub(crate) fn with_rejection(mut self, reply: ServerReply) -> Self {
        self.opening.rejection = Some(reply);
        self
    }

    /// Returns whether this session is rejected in place of the banner.
    pub(crate) fn is_rejected(&self) -> bool {
        self.opening.rejection.is_some()
    }

    /// Makes the session apply `effect` in place of the implicit-TLS handshake.
    #[must_use]
    pub(crate) fn with_handshake_effect(mut self, effect: Effect) -> Self {
        self.opening.handshake_effect = effect;
        self
    }

    /// Resets the transaction (RFC 5321 §4.1.1.5).
    fn reset_transaction(&mut self) {
        if self.is_in_transaction() {
            self.state = State::Ready;
        }
    }

    fn transaction_mut(&mut self) -> Option<&mut Transaction> {
        if let State::Transaction(transaction) = &mut self.state { Some(transaction) } else { None }
    }

    fn is_in_transaction(&self) -> bool {
        matches!(self.state, State::Transaction(_))
    }

    /// Returns whether the client is sending the content of a message.
    fn is_receiving_content(&self) -> bool {
        match &self.state {
            State::Transaction(transaction) => !matches!(transaction.input, TransactionInput::Command),
            state => matches!(state, State::RejectedChunk(..)),
        }
    }

    fn close(&mut self, turn: &mut ServerTurn<'_, M>) {
        self.life = Life::Closed;
        turn.actions.close();
    }

    fn reply_and_close(&mut self, reply: &ServerReply, turn: &mut ServerTurn<'_, M>) {
        self.output.after_reply = AfterReply::Close;
        self.send_reply(reply, &FaultAction::default(), turn);
    }

    fn emit_failure(&self, reason: &str, turn: &mut ServerTurn<'_, M>) {
        turn.actions.emit(ServerEvent::Failed { client: self.client.clone(), reason: reason.to_owned() });
    }

    /// Phase of the session, for error messages.
    fn phase(&self) -> &'static str {
        match self.state {
            State::Transaction(_) => "during the transaction",
            State::Auth(_) => "during authentication",
            _ if self.client.helo_name.is_empty() => "before EHLO",
            _ => "between transactions",
        }
    }

    /// Returns whether input cannot be processed now.
    fn is_busy(&self) -> bool {
        self.pending_job.is_some()
            || self.output.paced_reply.is_some()
            || matches!(self.life, Life::Stalled | Life::Closed)
    }

    fn send_banner(&mut self, turn: &mut ServerTurn<'_, M>) {
        self.state = State::Ready;
        let banner = ServerReply::new(220, format!("{} ESMTP netlab mail-serve", self.sink.config().name));
        let action = self.evaluate_reply(Some(Stage::Banner), "", turn);
        self.greeting.accepts_only_quit = action.negative_reply().is_some();
        let reply = action.negative_reply().cloned().unwrap_or(banner);
        self.finish_reply(Some(Stage::Banner), "", reply, &action, turn);
    }
}

impl<M: MessageSink> StreamProtocol for ServerSession<M> {
    type Event = ServerEvent<M::Stored>;
    const FULL_DUPLEX: bool = false;

    fn opened(&mut self, tls: Option<&'static str>, now: Moment, actions: &mut Actions<Self::Event>) {
        let turn = &mut Turn { now, actions };
        self.client.tls = tls;
        self.deadlines.next = turn.now + self.sink.config().timeouts.command;
        if !matches!(self.state, State::Connected) {
            // There is no second banner after STARTTLS.
            return if self.life == Life::Draining { self.close(turn) } else { self.state = State::Ready };
        }
        if let Some(rejection) = self.opening.rejection.clone() {
            self.emit_failure("too many connections", turn);
            if self.opening.handshake_effect == Effect::None {
                return self.reply_and_close(&rejection, turn);
            }
            // Nothing was sent that a reset could destroy.
            self.life = Life::Closed;
            return turn.actions.reset();
        }
        match std::mem::take(&mut self.opening.handshake_effect) {
            Effect::None => {
                let action = self.evaluate_at(FaultPoint::Connect, turn);
                self.output.after_reply = AfterReply::SendBanner;
                self.send_no_reply(&action, turn);
            }
            effect => self.fail_handshake(effect, turn),
        }
    }

    fn received(&mut self, bytes: &[u8], now: Moment, actions: &mut Actions<Self::Event>) -> usize {
        /// Limit of queued replies, in bytes; no further commands are read above it.
        const MAX_QUEUED_REPLIES: usize = 64 * 1024;
        let turn = &mut Turn { now, actions };
        let mut consumed = 0;
        while !self.is_busy() && turn.actions.queued_bytes() < MAX_QUEUED_REPLIES {
            let rest = bytes.get(consumed..).unwrap_or_default();
            let count = match &mut self.state {
                _ if rest.is_empty() => break,
                State::FailedHandshake(replacement) => {
                    let replacement = std::mem::take(replacement);
                    turn.actions.send(&replacement);
                    self.close(turn);
                    rest.len()
                }
                State::Connected | State::TlsHandshake => break,
                State::Ready | State::Auth(_) => self.receive_line(rest, turn),
                State::Transaction(transaction) => match transaction.input {
                    TransactionInput::Command => self.receive_line(rest, turn),
                    TransactionInput::Body(_) => self.receive_body(rest, turn),
                    TransactionInput::Chunk(_) => self.receive_chunk(rest, turn),
                },
                State::RejectedChunk(..) => self.receive_chunk(rest, turn),
            };
            consumed += count;
            if count == 0 {
                break;
            }
        }
        // A stalled session discards its input, so that the client's close is still detected.
        if matches!(self.life, Life::Stalled | Life::Closed) { bytes.len() } else { consumed }
    }

    fn sent(&mut self, now: Moment, actions: &mut Actions<Self::Event>) {
        let turn = &mut Turn { now, actions };
        if self.output.paced_reply.is_none() {
            self.emit_accepted(turn);
        }
    }

    fn woken(&mut self, now: Moment, actions: &mut Actions<Self::Event>) {
        let turn = &mut Turn { now, actions };
        if self.output.paced_reply.as_ref().is_some_and(|reply| reply.next_piece_at <= turn.now) {
            return self.flush_reply(turn);
        }
        if self.output.paced_reply.take().is_some() {
            return self.close(turn);
        }
        match &self.state {
            _ if self.life == Life::Stalled => self.close(turn),
            State::FailedHandshake(_) => self.close(turn),
            _ if self.life == Life::Draining => self.reply_and_close(&replies::SHUTTING_DOWN, turn),
            _ => {
                let (reply, reason) = if self.deadlines.session <= turn.now {
                    (replies::SESSION_TIMED_OUT, "session time limit reached")
                } else {
                    (replies::TIMED_OUT, "timed out")
                };
                self.emit_failure(&format!("{reason} {}", self.phase()), turn);
                self.reply_and_close(&reply, turn);
            }
        }
    }

    fn job_done(&mut self, now: Moment, actions: &mut Actions<Self::Event>) {
        let turn = &mut Turn { now, actions };
        match self.pending_job.take() {
            Some(PendingJob::DeriveKey) => self.key_derived(turn),
            Some(PendingJob::Store { result, received_at, action }) => {
                let result = result.lock().unwrap_or_else(PoisonError::into_inner).take();
                self.message_stored(result.unwrap_or(Err(INSUFFICIENT_STORAGE)), received_at, &action, turn);
            }
            None => {}
        }
    }

    fn draining(&mut self, now: Moment, actions: &mut Actions<Self::Event>) {
        let turn = &mut Turn { now, actions };
        match self.life {
            Life::Stalled => return self.close(turn),
            Life::Closed => return,
            Life::Open | Life::Draining => self.life = Life::Draining,
        }
        if self.is_busy() || self.is_in_transaction() || self.life == Life::Closed {
            return;
        }
        if self.has_delivered {
            self.deadlines.next = self.deadlines.next.min(turn.now + QUIT_GRACE);
        } else {
            self.reply_and_close(&replies::SHUTTING_DOWN, turn);
        }
    }

    fn ended(&mut self, end: &CloseReason, now: Moment, actions: &mut Actions<Self::Event>) {
        let turn = &mut Turn { now, actions };
        self.emit_accepted(turn);
        if self.life == Life::Closed {
            return;
        }
        match end {
            CloseReason::Finished | CloseReason::Truncated => {
                if self.is_in_transaction() {
                    self.emit_failure("client closed the connection during the transaction", turn);
                }
                self.close(turn);
            }
            CloseReason::Broken(error) => {
                // Before the banner the error comes from the TLS handshake.
                if !matches!(self.state, State::Ready) {
                    self.emit_failure(error.message(), turn);
                }
                self.life = Life::Closed;
            }
        }
    }

    fn wake_at(&self) -> Option<Moment> {
        match &self.output.paced_reply {
            _ if self.life == Life::Closed || self.pending_job.is_some() => None,
            Some(reply) => Some(reply.next_piece_at.min(self.deadlines.session)),
            None if self.life == Life::Stalled => Some(self.deadlines.session),
            None => Some(self.deadlines.next.min(self.deadlines.session)),
        }
    }

    fn is_paused(&self) -> bool {
        self.pending_job.is_some() || self.output.paced_reply.is_some()
    }
}
