//! SMTP client session.
//!
//! Owns the order of commands and the reaction to each reply (RFC 5321, 3207, 4954, 1870, 2920, 6152, 6531). Must
//! not know sockets or TLS; it is a [`StreamProtocol`](crate::protocol::StreamProtocol).
//!
//! ```text
//!   Banner ─▶ Ehlo ─▶ Starttls ─▶ (handshake) ─▶ Ehlo ─▶ Auth ─▶ Mail, Rcpt… ─▶ Data ─▶ Dot ─▶ Quit
//!     │         └───────────── without STARTTLS ──▲                 │              │      │
//!     └── rejected: Quit, or reset ◀──────────────┴─────────────────┴──────────────┘      └ lost: unknown
//! ```
//!
//! Decisions depend on the reply code alone (RFC 5321 §4.2). Extensions announced before TLS are discarded, and data
//! sent together with the 220 to STARTTLS ends the connection (RFC 3207 §6).

mod config;
mod errors;
mod login;
mod parameters;
mod protocol;
mod redact;
mod state;
mod transaction;

use super::extensions::{Extension, Extensions};
use super::reply::Reply;
use super::stage::Stage;
use crate::failure::{Failure, FailureKind};
use crate::mac::Secret;
use crate::protocol::Violation;
use crate::time::Moment;
use config::ClientTurn;
use errors::{outcome_unknown, protocol_error, rejection, unsolicited_reply};
use state::{Delivery, Hello, Login, PendingReply, State, TransactionStep};

pub(crate) use config::{
    ClientConfig, ClientEvent, Credentials, DeliveryOutcome, Envelope, RecipientStatus, RequestedExtensions, Security,
    SessionResult, StageTiming,
};
pub(crate) use errors::first_rejection;

/// Maximum length of an AUTH command with an initial response (RFC 4954 §4 with RFC 5321 §4.5.3.1.4).
const MAX_COMMAND_LENGTH: usize = 510;

const BARE_LF: Violation =
    Violation::new("a reply line ends in a bare LF", "CRLF at the end of each line", "RFC 5321 §2.3.8");

/// Session of a client on one connection.
pub(crate) struct ClientSession {
    config: ClientConfig,
    state: State,
    stage_started: Moment,
    /// Deadline of the next reply.
    deadline: Option<Moment>,
    hello: Hello,
    is_encrypted: bool,
    login: Login,
    delivery: Delivery,
    failure: Option<Failure>,
    failed_stage: Option<Stage>,
    /// Reply of which only a part has arrived.
    partial_reply: Vec<u8>,
}

impl ClientSession {
    /// Creates a session over a connection established at `now`.
    pub(crate) fn new(config: ClientConfig, now: Moment) -> Self {
        let mailboxes = config.envelope.iter().flat_map(|envelope| envelope.recipients.clone());
        let recipients = mailboxes.map(|mailbox| RecipientStatus { mailbox, outcome: None, reply: None }).collect();
        Self {
            state: if config.security == Security::Tls { State::TlsHandshake } else { State::Greeting },
            stage_started: now,
            deadline: None,
            hello: Hello::default(),
            is_encrypted: false,
            partial_reply: Vec::new(),
            login: Login::default(),
            delivery: Delivery { recipients, is_decided: false, transactions_left: config.transaction_count },
            failure: None,
            failed_stage: None,
            config,
        }
    }

    pub(crate) fn into_result(self) -> SessionResult {
        let stage = self.failed_stage.unwrap_or(self.state.stage());
        SessionResult {
            recipients: self.delivery.recipients,
            failure: self.failure.map(|failure| failure.in_stage(stage.name())),
            stage,
            extensions: self.hello.has_extensions.then_some(self.hello.extensions),
            extensions_before_tls: self.hello.extensions_before_tls,
            mechanism: self.login.mechanism,
            is_encrypted: self.is_encrypted,
            is_transaction_finished: self.delivery.is_decided,
        }
    }

    /// Reports the end of the current stage and enters the next state.
    fn enter(&mut self, state: State, turn: &mut ClientTurn<'_>) {
        self.emit_stage(turn);
        (self.state, self.stage_started) = (state, turn.now);
    }

    fn enter_step(&mut self, step: TransactionStep, turn: &mut ClientTurn<'_>) {
        self.emit_stage(turn);
        if let Some(transaction) = self.state.transaction_mut() {
            (transaction.step, self.stage_started) = (step, turn.now);
        }
    }

    /// Emits the end of the current stage. No stage is open between two transactions.
    fn emit_stage(&self, turn: &mut ClientTurn<'_>) {
        if !matches!(self.state, State::Idle) {
            let (stage, took) = (self.state.stage(), turn.now - self.stage_started);
            turn.actions.emit(ClientEvent::StageFinished(StageTiming { stage, took }));
        }
    }

    fn send_command(&mut self, line: &str, turn: &mut ClientTurn<'_>) {
        self.send_line(line.as_bytes(), line, turn);
    }

    /// Sends a line with a secret; `shown` replaces it in events.
    fn send_secret(&mut self, line: &Secret, shown: &str, turn: &mut ClientTurn<'_>) {
        self.remember_secret(line);
        self.send_line(line.expose(), shown, turn);
    }

    fn send_line(&mut self, line: &[u8], shown: &str, turn: &mut ClientTurn<'_>) {
        turn.actions.send(line);
        turn.actions.send(b"\r\n");
        turn.actions.emit(ClientEvent::CommandSent(shown.to_owned()));
        self.start_reply_timeout(turn.now);
    }

    fn start_reply_timeout(&mut self, now: Moment) {
        let timeout = self.config.reply_timeout.filter(|_| !matches!(self.state, State::Closing));
        self.deadline = Some(now + timeout.unwrap_or_else(|| self.state.stage().reply_timeout()));
    }

    fn send_ehlo(&mut self, turn: &mut ClientTurn<'_>) {
        self.enter(State::Hello { is_helo: false }, turn);
        let line = format!("EHLO {}", self.config.helo_name);
        self.send_command(&line, turn);
    }

    fn send_quit(&mut self, turn: &mut ClientTurn<'_>) {
        self.enter(State::Closing, turn);
        self.send_command("QUIT", turn);
    }

    /// Ends the session with an error: with QUIT if the server still follows the protocol, else with a reset.
    fn fail(&mut self, error: Failure, with_quit: bool, turn: &mut ClientTurn<'_>) {
        // A failure at QUIT changes no outcome (RFC 5321 §4.1.1.10).
        if matches!(self.state, State::Closing) {
            self.finish(turn);
            return turn.actions.close();
        }
        self.record_failure(error, None);
        self.quit_or_reset(with_quit, turn);
    }

    /// Ends the session because of a negative reply.
    fn fail_with_reply(&mut self, reply: &Reply, error: Failure, with_quit: bool, turn: &mut ClientTurn<'_>) {
        self.record_failure(error, Some(reply));
        self.quit_or_reset(with_quit, turn);
    }

    fn quit_or_reset(&mut self, with_quit: bool, turn: &mut ClientTurn<'_>) {
        if with_quit {
            self.send_quit(turn);
        } else {
            self.finish(turn);
            turn.actions.reset();
        }
    }

    /// Records the failure, its stage and the outcomes that follow. A server may close right after rejecting MAIL;
    /// then the rejection is reported, not the close.
    fn record_failure(&mut self, error: Failure, reply: Option<&Reply>) {
        let (error, reply) =
            match self.state.transaction_mut().and_then(|transaction| transaction.mail_rejection.take()) {
                Some(first) => {
                    // The replies to pipelined RCPT commands do not count.
                    self.delivery.recipients.iter_mut().for_each(|recipient| recipient.outcome = None);
                    (rejection(Stage::Mail, &first), Some(first))
                }
                None => (error, reply.cloned()),
            };
        self.set_undecided_outcomes(&error, reply.as_ref());
        self.failed_stage.get_or_insert(self.state.stage());
        self.failure = Some(error);
    }

    fn finish(&mut self, turn: &mut ClientTurn<'_>) {
        self.emit_stage(turn);
        (self.state, self.deadline) = (State::Finished { last_stage: self.state.stage() }, None);
    }

    /// Turns an error between the final dot and its reply into an unknown outcome.
    fn adjust_for_final_dot(&self, error: Failure) -> Failure {
        if self.state.step() == Some(TransactionStep::FinalDot) { outcome_unknown(&error) } else { error }
    }

    /// Sets the outcome of recipients without one, and of those accepted before the message was not.
    fn set_undecided_outcomes(&mut self, error: &Failure, reply: Option<&Reply>) {
        if self.delivery.is_decided {
            return;
        }
        let outcome = match error.kind() {
            FailureKind::OutcomeUnknown => Some(DeliveryOutcome::Unknown),
            kind if kind.is_temporary() => Some(DeliveryOutcome::Deferred),
            kind if kind.is_rejection() && reply.is_some() => Some(DeliveryOutcome::Rejected),
            // The client stopped, so no outcome is decided.
            _ => None,
        };
        for recipient in &mut self.delivery.recipients {
            if matches!(recipient.outcome, None | Some(DeliveryOutcome::Accepted)) {
                (recipient.outcome, recipient.reply) = (outcome, reply.cloned());
            }
        }
    }

    fn stops_after(&self, stage: Stage) -> bool {
        self.config.stop_after == Some(stage)
    }

    /// Handles the reply to the last command. Events and stored replies are redacted; decisions use the raw reply.
    fn on_reply(&mut self, raw_reply: &Reply, turn: &mut ClientTurn<'_>) {
        let reply = &*self.redact_reply(raw_reply);
        if reply.has_bare_lf && self.config.requested_extensions.strict {
            turn.actions.emit(ClientEvent::ReplyReceived(reply.clone()));
            let error = protocol_error(BARE_LF, &reply.to_string());
            return self.fail(self.adjust_for_final_dot(error), false, turn);
        }
        if reply.has_bare_lf {
            turn.actions.emit(ClientEvent::Warning("a reply line ends in a bare LF; RFC 5321 §2.3.8 requires CRLF"));
        }
        turn.actions.emit(ClientEvent::ReplyReceived(reply.clone()));
        // 421 ends the session at any stage (RFC 5321 §3.8).
        let stage = self.state.stage();
        if reply.code == 421 && stage != Stage::Quit {
            let error = rejection(stage, reply);
            self.record_reply(reply);
            return self.fail_with_reply(reply, error, false, turn);
        }
        match &self.state {
            State::Greeting => self.on_greeting(reply, turn),
            State::Hello { is_helo } => self.on_hello_reply(*is_helo, raw_reply, reply, turn),
            State::Starttls => self.on_starttls_reply(reply, turn),
            State::Auth(_) => self.on_auth_reply(raw_reply, reply, turn),
            State::Transaction(transaction) => match transaction.step {
                TransactionStep::Mail | TransactionStep::Rcpt => self.on_envelope_reply(reply, turn),
                TransactionStep::Data => self.on_data_reply(reply, turn),
                TransactionStep::FinalDot => self.on_final_dot_reply(reply, turn),
                // A server may reject a message before it has received all of it.
                TransactionStep::Body if reply.code >= 400 => {
                    self.fail_with_reply(reply, rejection(Stage::Body, reply), false, turn);
                }
                TransactionStep::Body => self.fail(unsolicited_reply(stage, &reply.to_string()), false, turn),
            },
            State::Closing => {
                self.finish(turn);
                turn.actions.close();
            }
            State::TlsHandshake | State::Idle | State::Finished { .. } => {
                self.fail(unsolicited_reply(stage, &reply.to_string()), false, turn);
            }
        }
    }

    fn on_greeting(&mut self, reply: &Reply, turn: &mut ClientTurn<'_>) {
        match reply.code {
            220 if self.stops_after(Stage::Banner) => self.send_quit(turn),
            220 => self.send_ehlo(turn),
            _ => self.fail_with_reply(reply, rejection(Stage::Banner, reply), true, turn),
        }
    }

    fn on_hello_reply(&mut self, is_helo: bool, raw_reply: &Reply, reply: &Reply, turn: &mut ClientTurn<'_>) {
        // HELO supports neither STARTTLS nor AUTH, so it must not bypass them (RFC 5321 §3.2).
        let may_helo = self.config.security != Security::Starttls && self.config.credentials.is_none() && !is_helo;
        if matches!(reply.code, 500 | 502 | 504) && may_helo {
            self.state = State::Hello { is_helo: true };
            let line = format!("HELO {}", self.config.helo_name);
            return self.send_command(&line, turn);
        }
        if reply.code != 250 {
            return self.fail_with_reply(reply, rejection(Stage::Ehlo, reply), true, turn);
        }
        self.hello.has_extensions = true;
        self.hello.extensions = if is_helo { Extensions::default() } else { Extensions::parse(raw_reply) };
        let wants_tls = self.config.security == Security::Starttls && !self.is_encrypted;
        match (wants_tls, self.hello.extensions.supports(Extension::Starttls)) {
            (true, true) => {
                self.enter(State::Starttls, turn);
                self.send_command("STARTTLS", turn);
            }
            (true, false) => {
                let error = Failure::new(
                    FailureKind::StarttlsNotOffered,
                    "the server does not offer STARTTLS; nothing was sent unencrypted",
                )
                .expected("STARTTLS in the reply to EHLO");
                self.fail(error, true, turn);
            }
            (false, _) if self.stops_after(Stage::Ehlo) || self.stops_after(Stage::Tls) => self.send_quit(turn),
            (false, _) => self.start_auth(turn),
        }
    }

    fn on_starttls_reply(&mut self, reply: &Reply, turn: &mut ClientTurn<'_>) {
        if reply.code != 220 {
            return self.fail_with_reply(reply, rejection(Stage::Starttls, reply), true, turn);
        }
        self.enter(State::TlsHandshake, turn);
        self.deadline = None;
        self.hello.extensions_before_tls = Some(std::mem::take(&mut self.hello.extensions));
        self.hello.has_extensions = false;
        turn.actions.start_tls();
    }

    /// Handles the end of the connection.
    fn on_connection_lost(&mut self, error: Failure, turn: &mut ClientTurn<'_>) {
        match self.state {
            State::Finished { .. } => return,
            // Between two transactions only the connection is lost. A missing reply to QUIT changes no outcome
            // (RFC 5321 §4.1.1.10).
            State::Idle | State::Closing => {}
            _ => self.record_failure(self.adjust_for_final_dot(error), None),
        }
        self.finish(turn);
        turn.actions.close();
    }

    /// Stops the session because of a signal or the deadline; known outcomes stay.
    pub(crate) fn abort(&mut self, error: Failure, turn: &mut ClientTurn<'_>) {
        self.on_connection_lost(error, turn);
    }

    /// Result of a session whose connection was never established.
    pub(crate) fn connect_failed(mut self, stage: Stage, error: Failure) -> SessionResult {
        (self.state, self.failure) = (State::Finished { last_stage: stage }, Some(error));
        self.into_result()
    }
}

#[cfg(test)]
pub(super) mod tests;
