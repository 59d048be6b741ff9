//! SMTP server session: receives messages and passes them to a [`MessageSink`].
//!
//! Owns the order of commands (RFC 5321 §4.1.4), the replies, the deadlines and the points at which fault rules
//! apply. It must not know sockets, TLS or files: it is a [`StreamProtocol`], and storing a message may be a job.
//!
//! ```text
//!   Banner ─▶ Command ⇄ Login
//!               │ DATA        │ BDAT n
//!               ▼             ▼
//!              Body ─ dot ─▶ Store (job) ─▶ 250 ─▶ Command        QUIT ─▶ 221, close
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
mod replies;
mod reply_pacing;
mod sasl;
#[cfg(test)]
pub(super) mod tests;
mod users;

use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::stage::Stage;
use crate::protocol::{Actions, CloseReason, StreamProtocol, Turn};
use crate::time::Moment;
use config::ServerTurn;
use data_decoder::DataDecoder;
use fault::{Effect, FaultAction, FaultPoint};
use reply_pacing::PacedReply;
use sasl::SaslServer;

pub(crate) use config::{
    Accept, AcceptResult, ClientInfo, MemoryBudget, MessageSink, ReceivedMessage, RejectedCommand, Reservation,
    ServerEvent, SessionConfig, SessionTimeouts,
};
pub(crate) use envelope::{EnvelopeRecipient, EnvelopeSender};
pub(crate) use replies::{INSUFFICIENT_STORAGE, MESSAGE_LIMIT_REACHED, ServerReply, TOO_MANY_CONNECTIONS};
pub(crate) use users::Users;

/// Time for a client that has delivered a message to send QUIT after the server begins to shut down.
const QUIT_GRACE: Duration = Duration::from_secs(1);

/// SMTP session on one connection.
pub(crate) struct ServerSession<M: MessageSink> {
    sink: Rc<M>,
    client: ClientInfo,
    /// Sent in place of the banner.
    rejection: Option<ServerReply>,
    /// Fault applied in place of the implicit-TLS handshake.
    handshake_effect: Effect,
    state: State,
    is_extended: bool,
    /// The banner was a negative reply, so only QUIT is accepted (RFC 5321 §3.1).
    accepts_only_quit: bool,
    /// EHLO keywords that a fault rule hides.
    hidden_extensions: Vec<String>,
    sender: Option<EnvelopeSender>,
    recipients: Vec<EnvelopeRecipient>,
    /// Memory reserved for the recipients, in bytes.
    recipients_size: usize,
    /// Content received by BDAT.
    chunks: Vec<u8>,
    /// Reply to the message, decided before its end; the rest of the content is discarded.
    message_rejection: Option<ServerReply>,
    /// The fault rules were evaluated for the body of this message.
    has_body_started: bool,
    reservation: Reservation,
    pending_job: Option<PendingJob<M::Stored>>,
    paced_reply: Option<PacedReply>,
    after_reply: AfterReply,
    /// Stored messages whose 250 is not sent yet, with the time of reception.
    unacknowledged: Vec<(M::Stored, Moment)>,
    /// The rest of a line that is too long is being discarded.
    is_skipping_line: bool,
    is_stalled: bool,
    is_closed: bool,
    is_draining: bool,
    has_delivered: bool,
    errors: u32,
    deadline: Moment,
    session_deadline: Moment,
}

enum State {
    /// Before the banner.
    Connected,
    /// STARTTLS was accepted; the handshake follows.
    TlsHandshake,
    Command,
    Auth(SaslServer),
    /// Fault: number of challenges still to send, whatever the responses.
    RepeatedChallenges(u32),
    Body(DataDecoder),
    Chunk {
        remaining: u64,
        is_last: bool,
    },
    /// Fault: bytes to send in place of the handshake.
    FailedHandshake(Vec<u8>),
}

enum PendingJob<T> {
    DeriveKey,
    Store { result: Arc<Mutex<Option<AcceptResult<T>>>>, received_at: Moment, action: FaultAction },
}

/// Action once the reply is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AfterReply {
    Continue,
    SendBanner,
    StartTls,
    Close,
}

impl<M: MessageSink> ServerSession<M> {
    pub(crate) fn new(sink: Rc<M>, client: ClientInfo, now: Moment) -> Self {
        let reservation = Reservation::new(&sink.config().memory_budget);
        let timeouts = sink.config().timeouts;
        Self {
            sink,
            client,
            rejection: None,
            handshake_effect: Effect::None,
            state: State::Connected,
            is_extended: false,
            accepts_only_quit: false,
            hidden_extensions: Vec::new(),
            sender: None,
            recipients: Vec::new(),
            recipients_size: 0,
            chunks: Vec::new(),
            message_rejection: None,
            has_body_started: false,
            reservation,
            pending_job: None,
            paced_reply: None,
            after_reply: AfterReply::Continue,
            unacknowledged: Vec::new(),
            is_skipping_line: false,
            is_stalled: false,
            is_closed: false,
            is_draining: false,
            has_delivered: false,
            errors: 0,
            deadline: now + timeouts.command,
            session_deadline: now + timeouts.session,
        }
    }

    /// Makes the session send `reply` in place of the banner and close.
    #[must_use]
    pub(crate) fn with_rejection(mut self, reply: ServerReply) -> Self {
        self.rejection = Some(reply);
        self
    }

    /// Returns whether this session is rejected in place of the banner.
    pub(crate) fn is_rejected(&self) -> bool {
        self.rejection.is_some()
    }

    /// Makes the session apply `effect` in place of the implicit-TLS handshake.
    #[must_use]
    pub(crate) fn with_handshake_effect(mut self, effect: Effect) -> Self {
        self.handshake_effect = effect;
        self
    }

    /// Resets the transaction (RFC 5321 §4.1.1.5).
    fn reset_transaction(&mut self) {
        self.sender = None;
        self.recipients.clear();
        self.chunks = Vec::new();
        self.message_rejection = None;
        self.has_body_started = false;
        self.recipients_size = 0;
        self.reservation.resize(0);
    }

    fn close(&mut self, turn: &mut ServerTurn<'_, M>) {
        self.is_closed = true;
        turn.actions.close();
    }

    fn reply_and_close(&mut self, reply: &ServerReply, turn: &mut ServerTurn<'_, M>) {
        self.after_reply = AfterReply::Close;
        self.send_reply(reply, &FaultAction::default(), turn);
    }

    fn emit_failure(&self, reason: &str, turn: &mut ServerTurn<'_, M>) {
        turn.actions.emit(ServerEvent::Failed { client: self.client.clone(), reason: reason.to_owned() });
    }

    /// Phase of the session, for error messages.
    fn phase(&self) -> &'static str {
        match self.state {
            _ if self.sender.is_some() => "during the transaction",
            State::Auth(_) | State::RepeatedChallenges(_) => "during authentication",
            _ if self.client.helo_name.is_empty() => "before EHLO",
            _ => "between transactions",
        }
    }

    /// Returns whether input cannot be processed now.
    fn is_busy(&self) -> bool {
        self.pending_job.is_some() || self.paced_reply.is_some() || self.is_stalled || self.is_closed
    }

    fn send_banner(&mut self, turn: &mut ServerTurn<'_, M>) {
        self.state = State::Command;
        let banner = ServerReply::new(220, format!("{} ESMTP netlab mail-serve", self.sink.config().name));
        let action = self.evaluate_reply(Some(Stage::Banner), "", turn);
        self.accepts_only_quit = action.negative_reply().is_some();
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
        self.deadline = turn.now + self.sink.config().timeouts.command;
        if !matches!(self.state, State::Connected) {
            // There is no second banner after STARTTLS.
            return if self.is_draining { self.close(turn) } else { self.state = State::Command };
        }
        if let Some(rejection) = self.rejection.clone() {
            self.emit_failure("too many connections", turn);
            if self.handshake_effect == Effect::None {
                return self.reply_and_close(&rejection, turn);
            }
            // Nothing was sent that a reset could destroy.
            self.is_closed = true;
            return turn.actions.reset();
        }
        match std::mem::take(&mut self.handshake_effect) {
            Effect::None => {
                let action = self.evaluate_at(FaultPoint::Connect, turn);
                self.after_reply = AfterReply::SendBanner;
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
                State::Body(_) => self.receive_body(rest, turn),
                State::Chunk { .. } => self.receive_chunk(rest, turn),
                State::Connected | State::TlsHandshake => break,
                State::Command | State::Auth(_) | State::RepeatedChallenges(_) => self.receive_line(rest, turn),
            };
            consumed += count;
            if count == 0 {
                break;
            }
        }
        // A stalled session discards its input, so that the client's close is still detected.
        if self.is_closed || self.is_stalled { bytes.len() } else { consumed }
    }

    fn sent(&mut self, now: Moment, actions: &mut Actions<Self::Event>) {
        let turn = &mut Turn { now, actions };
        if self.paced_reply.is_none() {
            self.emit_accepted(turn);
        }
    }

    fn woken(&mut self, now: Moment, actions: &mut Actions<Self::Event>) {
        let turn = &mut Turn { now, actions };
        if self.paced_reply.as_ref().is_some_and(|reply| reply.next_piece_at <= turn.now) {
            return self.flush_reply(turn);
        }
        if self.paced_reply.take().is_some() {
            return self.close(turn);
        }
        match &self.state {
            _ if self.is_stalled => self.close(turn),
            State::FailedHandshake(_) => self.close(turn),
            _ if self.is_draining => self.reply_and_close(&replies::SHUTTING_DOWN, turn),
            _ => {
                let (reply, reason) = if self.session_deadline <= turn.now {
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
        self.is_draining = true;
        if self.is_stalled {
            return self.close(turn);
        }
        if self.is_busy() || self.sender.is_some() || self.is_closed {
            return;
        }
        if self.has_delivered {
            self.deadline = self.deadline.min(turn.now + QUIT_GRACE);
        } else {
            self.reply_and_close(&replies::SHUTTING_DOWN, turn);
        }
    }

    fn ended(&mut self, end: &CloseReason, now: Moment, actions: &mut Actions<Self::Event>) {
        let turn = &mut Turn { now, actions };
        self.emit_accepted(turn);
        if self.is_closed {
            return;
        }
        match end {
            CloseReason::Finished | CloseReason::Truncated => {
                if self.sender.is_some() {
                    self.emit_failure("client closed the connection during the transaction", turn);
                }
                self.close(turn);
            }
            CloseReason::Broken(error) => {
                // Before the banner the error comes from the TLS handshake.
                if self.sender.is_some() || !matches!(self.state, State::Command) {
                    self.emit_failure(error.message(), turn);
                }
                self.is_closed = true;
            }
        }
    }

    fn wake_at(&self) -> Option<Moment> {
        match &self.paced_reply {
            _ if self.is_closed || self.pending_job.is_some() => None,
            Some(reply) => Some(reply.next_piece_at.min(self.session_deadline)),
            None if self.is_stalled => Some(self.session_deadline),
            None => Some(self.deadline.min(self.session_deadline)),
        }
    }

    fn is_paused(&self) -> bool {
        self.pending_job.is_some() || self.paced_reply.is_some()
    }
}
