//! The server's side of the dialogue: it captures mails and hands them to a [`Mailroom`].
//!
//! Owns what may be said when (RFC 5321 §4.1.4), the replies, the deadlines, and where in all this a
//! rule of `--fault` acts. It must not know sockets, TLS or files: it is a [`Conversation`], and keeping a
//! mail may be a job.
//!
//! ```text
//!   Banner ─▶ Command ⇄ Login
//!               │ DATA        │ BDAT n
//!               ▼             ▼
//!              Body ─ dot ─▶ Keep (a job) ─▶ 250 ─▶ Command        QUIT ─▶ 221, close
//! ```
//!
//! A reply that a rule holds back, or a job that is not done, pauses the dialogue: nothing is read.

mod body;
mod command;
mod config;
mod data;
mod dialogue;
mod envelope;
pub(crate) mod fault;
mod fault_injection;
mod login;
mod replies;
mod reply_pacing;
#[cfg(test)]
mod tests;
mod users;

use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::stage::Stage;
use crate::protocol::{Actions, CloseReason, StreamProtocol};
use crate::time::Moment;
use body::DataDecoder;
use fault::{Effect, FaultAction, FaultPoint};
use login::SaslServer;
use reply_pacing::PacedReply;

pub(crate) use config::{
    Accept, AcceptResult, ClientInfo, MemoryBudget, MessageSink, ReceivedMessage, RejectedCommand, Reservation,
    ServerEvent, SessionConfig, SessionTimeouts,
};
pub(crate) use envelope::{EnvelopeRecipient, EnvelopeSender};
pub(crate) use replies::{INSUFFICIENT_STORAGE, MESSAGE_LIMIT_REACHED, ServerReply, TOO_MANY_CONNECTIONS};
pub(crate) use users::Users;

/// How long a client that has delivered something may take for its QUIT once the server closes.
const QUIT_GRACE: Duration = Duration::from_secs(1);

/// The dialogue on one connection.
pub(crate) struct ServerSession<M: MessageSink> {
    sink: Rc<M>,
    client: ClientInfo,
    /// What the connection gets in place of a banner.
    rejection: Option<ServerReply>,
    /// What a TLS handshake gets in place of one.
    handshake_effect: Effect,
    state: State,
    is_extended: bool,
    /// Whether its banner was a refusal: then there is nothing but QUIT (RFC 5321 §3.1).
    accepts_only_quit: bool,
    /// Words of EHLO that a rule does not let it say.
    hidden_extensions: Vec<String>,
    sender: Option<EnvelopeSender>,
    recipients: Vec<EnvelopeRecipient>,
    /// What they take of the allowance.
    recipients_size: usize,
    /// What came by BDAT so far, and why the rest is of no use.
    chunks: Vec<u8>,
    message_rejection: Option<ServerReply>,
    /// Whether the rules were asked about the body of this mail.
    has_body_started: bool,
    reservation: Reservation,
    pending_job: Option<PendingJob<M::Stored>>,
    paced_reply: Option<PacedReply>,
    after_reply: AfterReply,
    /// Mails whose acknowledgement is not out yet, and when each had come.
    unacknowledged: Vec<(M::Stored, Moment)>,
    /// Whether a line is being skipped because it is too long.
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
    /// The connection is not greeted yet.
    Connected,
    /// STARTTLS was answered; what comes is the handshake.
    TlsHandshake,
    Command,
    Auth(SaslServer),
    /// Only challenges are left to say: so many.
    RepeatedChallenges(u32),
    Body(DataDecoder),
    Chunk {
        remaining: u64,
        is_last: bool,
    },
    /// A handshake is expected, and these octets are what it gets.
    FailedHandshake(Vec<u8>),
}

/// What a job is for.
enum PendingJob<K> {
    DeriveKey,
    Store { result: Arc<Mutex<Option<AcceptResult<K>>>>, received_at: Moment, action: FaultAction },
}

/// What follows once a reply is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AfterReply {
    Continue,
    SendBanner,
    StartTls,
    Close,
}

impl<M: MessageSink> ServerSession<M> {
    /// A dialogue with a client that has just come.
    pub(crate) fn new(sink: Rc<M>, client: ClientInfo, now: Moment) -> Self {
        let lease = Reservation::new(&sink.config().memory_budget);
        let limits = sink.config().timeouts;
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
            reservation: lease,
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
            deadline: now + limits.command,
            session_deadline: now + limits.session,
        }
    }

    /// One that gets a refusal in place of a banner.
    #[must_use]
    pub(crate) fn with_rejection(mut self, reply: ServerReply) -> Self {
        self.rejection = Some(reply);
        self
    }

    /// Whether it is such a one.
    pub(crate) fn is_rejected(&self) -> bool {
        self.rejection.is_some()
    }

    /// One whose implicit TLS never comes to be, because a rule has it so.
    #[must_use]
    pub(crate) fn with_handshake_effect(mut self, effect: Effect) -> Self {
        self.handshake_effect = effect;
        self
    }

    /// Forgets the mail under way (RFC 5321 §4.1.1.5).
    fn reset_transaction(&mut self) {
        self.sender = None;
        self.recipients.clear();
        self.chunks = Vec::new();
        self.message_rejection = None;
        self.has_body_started = false;
        self.recipients_size = 0;
        self.reservation.resize(0);
    }

    /// Ends the session: nothing more is heard.
    fn close(&mut self, actions: &mut Actions<ServerEvent<M::Stored>>) {
        self.is_closed = true;
        actions.close();
    }

    /// Says why, and ends the session.
    fn reply_and_close(&mut self, reply: &ServerReply, now: Moment, actions: &mut Actions<ServerEvent<M::Stored>>) {
        self.after_reply = AfterReply::Close;
        self.send_reply(reply, &FaultAction::default(), now, actions);
    }

    fn emit_failure(&self, reason: &str, actions: &mut Actions<ServerEvent<M::Stored>>) {
        actions.emit(ServerEvent::Failed { client: self.client.clone(), reason: reason.to_owned() });
    }

    /// Where in the dialogue it is, for people.
    fn phase(&self) -> &'static str {
        match self.state {
            _ if self.sender.is_some() => "within the mail",
            State::Auth(_) | State::RepeatedChallenges(_) => "within the login",
            _ if self.client.helo_name.is_empty() => "before EHLO",
            _ => "between mails",
        }
    }

    /// Whether nothing can be heard now.
    fn is_busy(&self) -> bool {
        self.pending_job.is_some() || self.paced_reply.is_some() || self.is_stalled || self.is_closed
    }

    fn send_banner(&mut self, now: Moment, actions: &mut Actions<ServerEvent<M::Stored>>) {
        self.state = State::Command;
        let banner = ServerReply::new(220, format!("{} ESMTP netlab mail-serve", self.sink.config().name));
        let action = self.evaluate_reply(Some(Stage::Banner), "", actions);
        self.accepts_only_quit = action.negative_reply().is_some();
        let answer = action.negative_reply().cloned().unwrap_or(banner);
        self.finish_reply(Some(Stage::Banner), "", answer, &action, now, actions);
    }
}

impl<M: MessageSink> StreamProtocol for ServerSession<M> {
    type Event = ServerEvent<M::Stored>;
    const FULL_DUPLEX: bool = false;

    fn opened(&mut self, tls: Option<&'static str>, now: Moment, actions: &mut Actions<Self::Event>) {
        self.client.tls = tls;
        self.deadline = now + self.sink.config().timeouts.command;
        if !matches!(self.state, State::Connected) {
            // After STARTTLS there is no second banner.
            return if self.is_draining { self.close(actions) } else { self.state = State::Command };
        }
        if let Some(refusal) = self.rejection.clone() {
            self.emit_failure("there are too many connections", actions);
            if self.handshake_effect == Effect::None {
                return self.reply_and_close(&refusal, now, actions);
            }
            // It has heard nothing that would have to reach it.
            self.is_closed = true;
            return actions.reset();
        }
        match std::mem::take(&mut self.handshake_effect) {
            Effect::None => {
                let action = self.evaluate_at(FaultPoint::Connect, actions);
                self.after_reply = AfterReply::SendBanner;
                self.send_no_reply(&action, now, actions);
            }
            instead => self.fail_handshake(instead, now, actions),
        }
    }

    fn received(&mut self, bytes: &[u8], now: Moment, actions: &mut Actions<Self::Event>) -> usize {
        /// Replies that may wait to be taken before more commands are heard.
        const MAX_QUEUED_REPLIES: usize = 64 * 1024;
        let mut taken = 0;
        while !self.is_busy() && actions.queued_bytes() < MAX_QUEUED_REPLIES {
            let rest = bytes.get(taken..).unwrap_or_default();
            let some = match &mut self.state {
                _ if rest.is_empty() => break,
                State::FailedHandshake(instead) => {
                    let instead = std::mem::take(instead);
                    actions.send(&instead);
                    self.close(actions);
                    rest.len()
                }
                State::Body(_) => self.receive_body(rest, now, actions),
                State::Chunk { .. } => self.receive_chunk(rest, now, actions),
                State::Connected | State::TlsHandshake => break,
                State::Command | State::Auth(_) | State::RepeatedChallenges(_) => self.receive_line(rest, now, actions),
            };
            taken += some;
            if some == 0 {
                break;
            }
        }
        // Who is stalled is not listened to, but its end is noticed.
        if self.is_closed || self.is_stalled { bytes.len() } else { taken }
    }

    fn sent(&mut self, now: Moment, actions: &mut Actions<Self::Event>) {
        if self.paced_reply.is_none() {
            self.emit_accepted(now, actions);
        }
    }

    fn woken(&mut self, now: Moment, actions: &mut Actions<Self::Event>) {
        if self.paced_reply.as_ref().is_some_and(|held| held.next_piece_at <= now) {
            return self.flush_reply(now, actions);
        }
        if self.paced_reply.take().is_some() {
            return self.close(actions);
        }
        match &self.state {
            _ if self.is_stalled => self.close(actions),
            State::FailedHandshake(_) => self.close(actions),
            _ if self.is_draining => self.reply_and_close(&replies::SHUTTING_DOWN, now, actions),
            _ => {
                let (answer, what) = if self.session_deadline <= now {
                    (replies::SESSION_TIMED_OUT, "the session had lasted long enough")
                } else {
                    (replies::TIMED_OUT, "nothing more came")
                };
                self.emit_failure(&format!("{what} {}", self.phase()), actions);
                self.reply_and_close(&answer, now, actions);
            }
        }
    }

    fn job_done(&mut self, now: Moment, actions: &mut Actions<Self::Event>) {
        match self.pending_job.take() {
            Some(PendingJob::DeriveKey) => self.key_derived(now, actions),
            Some(PendingJob::Store { result: kept, received_at: at, action }) => {
                let kept = kept.lock().unwrap_or_else(PoisonError::into_inner).take();
                self.message_stored(kept.unwrap_or(Err(INSUFFICIENT_STORAGE)), at, &action, now, actions);
            }
            None => {}
        }
    }

    fn draining(&mut self, now: Moment, actions: &mut Actions<Self::Event>) {
        self.is_draining = true;
        if self.is_stalled {
            return self.close(actions);
        }
        if self.is_busy() || self.sender.is_some() || self.is_closed {
            return;
        }
        if self.has_delivered {
            self.deadline = self.deadline.min(now + QUIT_GRACE);
        } else {
            self.reply_and_close(&replies::SHUTTING_DOWN, now, actions);
        }
    }

    fn ended(&mut self, end: &CloseReason, now: Moment, actions: &mut Actions<Self::Event>) {
        self.emit_accepted(now, actions);
        if self.is_closed {
            return;
        }
        match end {
            CloseReason::Finished | CloseReason::Truncated => {
                if self.sender.is_some() {
                    self.emit_failure("the client closed within a mail", actions);
                }
                self.close(actions);
            }
            CloseReason::Broken(error) => {
                // Before the banner it is the TLS handshake that broke.
                if self.sender.is_some() || !matches!(self.state, State::Command) {
                    self.emit_failure(error.message(), actions);
                }
                self.is_closed = true;
            }
        }
    }

    fn wake_at(&self) -> Option<Moment> {
        match &self.paced_reply {
            _ if self.is_closed || self.pending_job.is_some() => None,
            Some(held) => Some(held.next_piece_at.min(self.session_deadline)),
            None if self.is_stalled => Some(self.session_deadline),
            None => Some(self.deadline.min(self.session_deadline)),
        }
    }

    fn is_paused(&self) -> bool {
        self.pending_job.is_some() || self.paced_reply.is_some()
    }
}
