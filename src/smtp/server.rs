//! SMTP server session: receives messages and passes them to a [`MessageSink`].
//!
//! Owns the order of commands (RFC 5321 §4.1.4), the replies and the deadlines. Bytes and times go in; responses come
//! out as values. It must not know sockets, TLS, files or fault rules: a [`Policy`] may reject a command,
//! [`FaultInjector`] carries the session on a connection, and storing a message may be a job.
//!
//! ```text
//!   Connected ─ banner ─▶ Ready ⇄ Auth                     QUIT ─▶ 221, close
//!                          │  ▲
//!                     MAIL ▼  │ 250, RSET, EHLO
//!                       Transaction: Command ⇄ Body or Chunk ─ end ─▶ store (job)
//! ```

mod auth_exchange;
mod command;
mod config;
mod data;
pub(super) mod data_decoder;
mod dialogue;
mod envelope;
pub(crate) mod fault;
mod fault_injector;
mod paced_reply;
mod policy;
mod replies;
mod sasl;
mod state;
#[cfg(test)]
pub(super) mod tests;
mod users;

use std::rc::Rc;
use std::sync::PoisonError;
use std::time::Duration;

use super::auth::Mechanism;
use super::stage::Stage;
use crate::protocol::{Awaited, CloseReason, InputPiece};
use crate::time::Moment;
use command::Command;
use config::ServerTurn;
use policy::{Policy, Verdict};
use state::{
    AfterReply, Deadlines, Greeting, InputHistory, LineProgress, PendingJob, Response, State, Transaction,
    TransactionInput,
};

pub(crate) use config::{
    Accept, AcceptResult, ClientInfo, MemoryBudget, MessageSink, ReceivedMessage, RejectedCommand, Reservation,
    ServerEvent, SessionConfig, SessionTimeouts,
};
pub(crate) use envelope::EnvelopeRecipient;
pub(crate) use fault_injector::FaultInjector;
pub(crate) use replies::{INSUFFICIENT_STORAGE, MESSAGE_LIMIT_REACHED, ServerReply, TOO_MANY_CONNECTIONS};
pub(crate) use users::Users;

/// Time for a client that has delivered a message to send QUIT after the server begins to shut down.
const QUIT_GRACE: Duration = Duration::from_secs(1);

/// SMTP session on one connection.
struct ServerSession<M: MessageSink, P> {
    sink: Rc<M>,
    policy: P,
    client: ClientInfo,
    /// Reply in place of the banner.
    rejection: Option<ServerReply>,
    state: State,
    greeting: Greeting,
    pending_job: Option<PendingJob<M::Stored>>,
    after_reply: AfterReply,
    input: InputHistory,
    shutdown: Shutdown,
    deadlines: Deadlines,
}

/// Facts that decide how a session is shut down.
#[derive(Default)]
struct Shutdown {
    has_delivered: bool,
    is_draining: bool,
}

impl<M: MessageSink, P: Policy<M>> ServerSession<M, P> {
    fn new(sink: Rc<M>, policy: P, client: ClientInfo, now: Moment) -> Self {
        let timeouts = sink.config().timeouts;
        Self {
            sink,
            policy,
            client,
            rejection: None,
            state: State::Connected,
            greeting: Greeting::default(),
            pending_job: None,
            after_reply: AfterReply::Continue,
            input: InputHistory::default(),
            shutdown: Shutdown::default(),
            deadlines: Deadlines { next: now + timeouts.command, session: now + timeouts.session },
        }
    }

    /// Begins the session, or continues it after STARTTLS. Returns `None` if the banner is due.
    fn opened(&mut self, tls: Option<&'static str>, turn: &mut ServerTurn<'_, M>) -> Option<Response<M::Stored>> {
        self.client.tls = tls;
        self.deadlines.next = turn.now + self.sink.config().timeouts.command;
        if matches!(self.state, State::TlsHandshake) {
            // After STARTTLS, the server does not send a second banner.
            self.state = State::Ready;
            return self.shutdown.is_draining.then(|| Response::closing(replies::SHUTTING_DOWN));
        }
        let rejection = self.rejection.clone()?;
        self.emit_failure("too many connections", turn);
        Some(Response::closing(rejection))
    }

    fn banner(&mut self, turn: &mut ServerTurn<'_, M>) -> Response<M::Stored> {
        self.state = State::Ready;
        let banner = ServerReply::new(220, format!("{} ESMTP netlab mail-serve", self.sink.config().name));
        let response = self.respond(Some(Stage::Banner), ("", ""), turn, |_| banner);
        self.greeting.accepts_only_quit = response.reply.is_negative();
        response
    }

    /// Consumes one line, or a part of a message; returns the number of bytes consumed and the response, if one
    /// is due.
    fn receive(&mut self, bytes: &[u8], turn: &mut ServerTurn<'_, M>) -> (usize, Option<Response<M::Stored>>) {
        match &self.state {
            State::Connected | State::TlsHandshake => (0, None),
            State::Ready | State::Auth(_) => self.receive_line(bytes, turn),
            State::Transaction(transaction) => match transaction.input {
                TransactionInput::Command => self.receive_line(bytes, turn),
                TransactionInput::Body(_) => self.receive_body(bytes, turn),
                TransactionInput::Chunk(_) => self.receive_chunk(bytes, turn),
            },
            State::RejectedChunk(..) => self.receive_chunk(bytes, turn),
        }
    }

    /// Continues after the job requested last.
    fn job_done(&mut self, turn: &mut ServerTurn<'_, M>) -> Option<Response<M::Stored>> {
        match self.pending_job.take()? {
            PendingJob::DeriveKey => self.key_derived(turn),
            PendingJob::Store { result, received_at, verdict } => {
                let result = result.lock().unwrap_or_else(PoisonError::into_inner).take();
                let result = result.unwrap_or(Err(INSUFFICIENT_STORAGE));
                Some(self.message_stored(result, received_at, &verdict, turn))
            }
        }
    }

    /// Ends the session at one of its deadlines.
    fn timed_out(&mut self, turn: &mut ServerTurn<'_, M>) -> Response<M::Stored> {
        if self.shutdown.is_draining {
            return Response::closing(replies::SHUTTING_DOWN);
        }
        let (reply, reason) = if self.deadlines.session <= turn.now {
            (replies::SESSION_TIMED_OUT, "session time limit reached")
        } else {
            (replies::TIMED_OUT, "timed out")
        };
        self.emit_failure(&format!("{reason} {}", self.phase()), turn);
        Response::closing(reply)
    }

    /// Begins to shut down: a transaction may be finished, and a client that has delivered may send QUIT.
    fn draining(&mut self, is_busy: bool, now: Moment) -> Option<Response<M::Stored>> {
        self.shutdown.is_draining = true;
        if is_busy || self.is_in_transaction() || matches!(self.state, State::TlsHandshake) {
            return None;
        }
        if self.shutdown.has_delivered {
            self.deadlines.next = self.deadlines.next.min(now + QUIT_GRACE);
            return None;
        }
        Some(Response::closing(replies::SHUTTING_DOWN))
    }

    /// Reports a connection that the client ended prematurely.
    fn ended(&self, reason: &CloseReason, turn: &mut ServerTurn<'_, M>) {
        let missing = match self.awaited().filter(|_| self.is_receiving_content()) {
            Some(awaited) => Some(format!("within the message: {} is missing", awaited.what)),
            None if self.input.line == LineProgress::Begun => {
                Some("within a line: CR LF is missing (RFC 5321 §2.3.8)".to_owned())
            }
            None => None,
        };
        let text = match (reason, missing) {
            (CloseReason::Finished | CloseReason::Truncated, Some(missing)) => {
                format!("client closed the connection {missing}")
            }
            (CloseReason::Finished | CloseReason::Truncated, None) if self.is_in_transaction() => {
                "client closed the connection during the transaction".to_owned()
            }
            (CloseReason::Broken(error), Some(missing)) => format!("{}, {missing}", error.message()),
            // Before the banner the error comes from the TLS handshake.
            (CloseReason::Broken(error), None) if !matches!(self.state, State::Ready) => error.message().to_owned(),
            _ => return,
        };
        self.emit_failure(&text, turn);
    }

    /// Input that the session waits for.
    fn awaited(&self) -> Option<Awaited> {
        let (what, is_begun) = match &self.state {
            State::Connected | State::TlsHandshake => return None,
            State::Auth(_) => ("a response to the AUTH challenge (RFC 4954 §4)", true),
            State::RejectedChunk(..) => ("the rest of the BDAT chunk (RFC 3030 §2)", true),
            State::Ready if self.client.helo_name.is_empty() => ("EHLO and CR LF (RFC 5321 §4.1.1.1)", false),
            State::Ready => ("a command and CR LF", false),
            State::Transaction(transaction) => match transaction.input {
                TransactionInput::Body(_) => ("CR LF . CR LF (RFC 5321 §4.1.1.4)", true),
                TransactionInput::Chunk(_) => ("the rest of the BDAT chunk (RFC 3030 §2)", true),
                TransactionInput::Command if transaction.has_chunks() => ("BDAT and CR LF (RFC 3030 §2)", false),
                TransactionInput::Command if transaction.recipients.is_empty() => ("RCPT TO and CR LF", false),
                TransactionInput::Command => ("RCPT TO, DATA or BDAT, and CR LF", false),
            },
        };
        Some(Awaited { what, is_begun })
    }

    /// Formats a line of the client without a secret; `None` if all of it may be one.
    fn shown_input(&self, line: &[u8]) -> Option<String> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let text = String::from_utf8_lossy(line).into_owned();
        if self.is_receiving_content() {
            return Some(text);
        }
        match Command::parse(&text) {
            _ if matches!(self.state, State::Auth(_)) => None,
            Command::Auth { mechanism, initial } if mechanism.parse::<Mechanism>().is_ok() => {
                Some(format!("AUTH {mechanism}{}", if initial.is_some() { " [hidden]" } else { "" }))
            }
            Command::Auth { .. } | Command::Malformed(Some(Stage::Auth)) => Some("AUTH [hidden]".to_owned()),
            // A client that is out of step may send its password in place of a command.
            Command::Unknown
                if self.input.has_seen_auth || memchr::memmem::find(&line.to_ascii_uppercase(), b"AUTH").is_some() =>
            {
                None
            }
            _ => Some(text),
        }
    }

    /// Input that [`receive`](Self::receive) consumes next, for the trace.
    fn traced_input(&self, bytes: &[u8]) -> InputPiece {
        if self.is_receiving_content() {
            return InputPiece::Content(0);
        }
        let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
        InputPiece::Lines(self.shown_input(line).unwrap_or_else(|| "[hidden]".to_owned()).into_bytes())
    }

    /// Sets the deadline of the next input once a response is sent.
    fn reply_sent(&mut self, now: Moment) {
        let timeouts = self.sink.config().timeouts;
        let timeout = if self.is_receiving_content() { timeouts.body } else { timeouts.command };
        self.deadlines.next = now + timeout;
        if self.shutdown.is_draining && !self.is_in_transaction() {
            self.deadlines.next = self.deadlines.next.min(now + QUIT_GRACE);
        }
    }

    /// Resets the session before the TLS handshake (RFC 3207 §4.2).
    fn begin_tls(&mut self, now: Moment) {
        self.deadlines.next = now + self.sink.config().timeouts.command;
        self.client.helo_name = String::new();
        self.client.login = None;
        self.greeting.is_extended = false;
        self.state = State::TlsHandshake;
    }

    /// Replies to a command with the result of `act`, which is not called if the policy rejects the command.
    fn respond(
        &mut self,
        stage: Option<Stage>,
        (identity, command): (&str, &str),
        turn: &mut ServerTurn<'_, M>,
        act: impl FnOnce(&mut Self) -> ServerReply,
    ) -> Response<M::Stored> {
        let verdict = self.policy.verdict(stage, identity, turn);
        let reply = verdict.rejection().cloned().unwrap_or_else(|| act(self));
        self.finish_reply(stage, command, reply, &verdict, turn)
    }

    /// Makes the response and emits an event if the reply is negative. Too many errors close the connection.
    fn finish_reply(
        &mut self,
        stage: Option<Stage>,
        command: &str,
        mut reply: ServerReply,
        verdict: &Verdict,
        turn: &mut ServerTurn<'_, M>,
    ) -> Response<M::Stored> {
        const MAX_ERRORS: u32 = 20;
        let mut then = std::mem::replace(&mut self.after_reply, AfterReply::Continue);
        if *verdict == Verdict::Execute && matches!(reply.code, 500..=504 | 535) {
            self.input.errors += 1;
            if self.input.errors >= MAX_ERRORS {
                reply = replies::TOO_MANY_ERRORS;
            }
        }
        if reply.is_negative() && *verdict != Verdict::Override {
            let (client, command, reply) = (self.client.clone(), command.to_owned(), reply.clone());
            turn.actions.emit(ServerEvent::Rejected(RejectedCommand { client, stage, command, reply }));
        }
        // A 421 closes the connection even if the policy sends another reply.
        if reply.code == 421 {
            then = AfterReply::Close;
        }
        Response { reply, then, stored: None }
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
}
