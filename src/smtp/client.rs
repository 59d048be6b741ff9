//! The client's dialogue.
//!
//! Owns the order of commands and what each reply leads to (RFC 5321, 3207, 4954, 1870, 2920, 6152,
//! 6531). It must not know sockets or TLS; it is a [`Conversation`](crate::conversation::Conversation).
//!
//! ```text
//!   Banner ─▶ Ehlo ─▶ Starttls ─▶ (handshake) ─▶ Ehlo ─▶ Auth ─▶ Mail, Rcpt… ─▶ Data ─▶ Dot ─▶ Quit
//!     │         └───────────── without STARTTLS ──▲                 │              │      │
//!     └── no: Quit, or nothing at all ◀───────────┴─────────────────┴──────────────┘      └ lost: unknown
//! ```
//!
//! Decisions are made on the code alone (§4.2): the text is for people. What a server said before TLS
//! is forgotten, and what it said in the same breath as its 220 to STARTTLS ends the connection.

mod config;
mod errors;
mod login;
mod parameters;
mod protocol;
mod redact;
mod transaction;

use std::collections::VecDeque;

use super::auth::{Mechanism, SaslClient};
use super::extensions::Extensions;
use super::reply::Reply;
use super::stage::Stage;
use crate::error::Error;
use crate::exit::Exit;
use crate::mac::Secret;
use crate::protocol::Actions;
use crate::time::Moment;
use errors::{outcome_unknown, protocol_error, rejection};

pub(crate) use config::{
    ClientConfig, ClientEvent, Credentials, DeliveryOutcome, Envelope, RecipientStatus, RequestedExtensions, Security,
    SessionResult, StageTiming, exit_for_recipients,
};
pub(crate) use errors::first_rejection;

/// The longest AUTH command with an initial response (RFC 4954 §4 with RFC 5321 §4.5.3.1.4).
const MAX_COMMAND_LENGTH: usize = 510;

/// One dialogue.
pub(crate) struct ClientSession {
    config: ClientConfig,
    stage: Stage,
    /// Since when it is in that stage.
    stage_started: Moment,
    /// Until when the next reply must come.
    deadline: Option<Moment>,
    /// The recipients whose replies are awaited, or MAIL's.
    pending_replies: VecDeque<PendingReply>,
    extensions: Extensions,
    /// Whether they were heard on the line as it is.
    has_extensions: bool,
    extensions_before_tls: Option<Extensions>,
    is_encrypted: bool,
    sasl_client: Option<SaslClient>,
    mechanism: Option<Mechanism>,
    /// What was said and is not to be shown.
    sent_secrets: Vec<Secret>,
    recipients: Vec<RecipientStatus>,
    failure: Option<Error>,
    /// Where it failed.
    failed_stage: Option<Stage>,
    /// What was said of the sender, while the replies about the recipients are still to come.
    mail_rejection: Option<Reply>,
    is_helo_fallback: bool,
    is_final_dot_sent: bool,
    is_finished: bool,
    /// How many times the mail is still to be sent, this time included.
    transactions_left: u64,
    /// When the mail was last begun.
    transaction_started: Moment,
    /// Nothing is said until then: the next mail is not due.
    idle_until: Option<Moment>,
    is_transaction_finished: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PendingReply {
    Mail,
    Rcpt(usize),
}

impl ClientSession {
    /// A dialogue by this plan over a connection that is made at `now`.
    pub(crate) fn new(config: ClientConfig, now: Moment) -> Self {
        let mailboxes = config.envelope.iter().flat_map(|envelope| envelope.recipients.clone());
        let recipients = mailboxes.map(|mailbox| RecipientStatus { mailbox, outcome: None, reply: None }).collect();
        Self {
            stage: if config.security == Security::Tls { Stage::Tls } else { Stage::Banner },
            stage_started: now,
            deadline: None,
            pending_replies: VecDeque::new(),
            extensions: Extensions::default(),
            has_extensions: false,
            extensions_before_tls: None,
            is_encrypted: false,
            sasl_client: None,
            mechanism: None,
            sent_secrets: Vec::new(),
            recipients,
            failure: None,
            failed_stage: None,
            mail_rejection: None,
            is_helo_fallback: false,
            is_final_dot_sent: false,
            is_finished: false,
            transactions_left: config.transaction_count,
            transaction_started: now,
            idle_until: None,
            is_transaction_finished: false,
            config,
        }
    }

    /// What came of it.
    pub(crate) fn into_result(self) -> SessionResult {
        SessionResult {
            recipients: self.recipients,
            failure: self.failure,
            stage: self.failed_stage.unwrap_or(self.stage),
            extensions: self.has_extensions.then_some(self.extensions),
            extensions_before_tls: self.extensions_before_tls,
            mechanism: self.mechanism,
            is_encrypted: self.is_encrypted,
            is_transaction_finished: self.is_transaction_finished,
        }
    }

    /// Ends a stage and begins the next one.
    fn enter_stage(&mut self, stage: Stage, now: Moment, actions: &mut Actions<ClientEvent>) {
        // Between two mails there is nothing that could end.
        if self.idle_until.take().is_none() {
            actions.emit(ClientEvent::StageFinished(StageTiming { stage: self.stage, took: now - self.stage_started }));
        }
        (self.stage, self.stage_started) = (stage, now);
    }

    /// Sends a line, shown as it is.
    fn send_command(&mut self, line: &str, now: Moment, actions: &mut Actions<ClientEvent>) {
        self.send_line(line.as_bytes(), line, now, actions);
    }

    /// Sends a line, shown as something else.
    fn send_secret(&mut self, line: &Secret, shown: &str, now: Moment, actions: &mut Actions<ClientEvent>) {
        self.remember_secret(line);
        self.send_line(line.expose(), shown, now, actions);
    }

    fn send_line(&mut self, line: &[u8], shown: &str, now: Moment, actions: &mut Actions<ClientEvent>) {
        actions.send(line);
        actions.send(b"\r\n");
        actions.emit(ClientEvent::CommandSent(shown.to_owned()));
        self.start_reply_timeout(now);
    }

    fn start_reply_timeout(&mut self, now: Moment) {
        let patience = self.config.reply_timeout.filter(|_| self.stage != Stage::Quit);
        self.deadline = Some(now + patience.unwrap_or_else(|| self.stage.reply_timeout()));
    }

    fn send_ehlo(&mut self, now: Moment, actions: &mut Actions<ClientEvent>) {
        self.enter_stage(Stage::Ehlo, now, actions);
        let line = format!("EHLO {}", self.config.helo_name);
        self.send_command(&line, now, actions);
    }

    fn send_quit(&mut self, now: Moment, actions: &mut Actions<ClientEvent>) {
        self.enter_stage(Stage::Quit, now, actions);
        self.send_command("QUIT", now, actions);
    }

    /// Gives up, in an orderly way if the server still listens to reason.
    fn fail(&mut self, error: Error, with_quit: bool, now: Moment, actions: &mut Actions<ClientEvent>) {
        // A QUIT that goes wrong undoes nothing, and makes nothing worse (§4.1.1.10).
        if self.stage == Stage::Quit {
            self.finish(now, actions);
            return actions.close();
        }
        self.record_failure(error, None);
        self.quit_or_reset(with_quit, now, actions);
    }

    /// The server says no, and that is the end of it.
    fn fail_with_reply(
        &mut self,
        reply: &Reply,
        error: Error,
        with_quit: bool,
        now: Moment,
        actions: &mut Actions<ClientEvent>,
    ) {
        self.record_failure(error, Some(reply));
        self.quit_or_reset(with_quit, now, actions);
    }

    fn quit_or_reset(&mut self, with_quit: bool, now: Moment, actions: &mut Actions<ClientEvent>) {
        if with_quit {
            self.send_quit(now, actions);
        } else {
            self.finish(now, actions);
            actions.reset();
        }
    }

    /// Notes why it failed, where, and what that means. Whoever has refused the sender may close the line
    /// in the same breath, and that makes it no better.
    fn record_failure(&mut self, error: Error, reply: Option<&Reply>) {
        let (error, reply) = match self.mail_rejection.take() {
            Some(first) => {
                // None of what was said of the recipients counts.
                self.recipients.iter_mut().for_each(|recipient| recipient.outcome = None);
                (rejection(Stage::Mail, &first), Some(first))
            }
            None => (error, reply.cloned()),
        };
        self.set_undecided_outcomes(&error, reply.as_ref());
        self.failed_stage.get_or_insert(self.stage);
        self.failure = Some(error);
    }

    fn finish(&mut self, now: Moment, actions: &mut Actions<ClientEvent>) {
        if self.idle_until.take().is_none() {
            actions.emit(ClientEvent::StageFinished(StageTiming { stage: self.stage, took: now - self.stage_started }));
        }
        (self.is_finished, self.deadline) = (true, None);
    }

    /// An error as it is told: between the dot and its reply nobody can know.
    fn adjust_for_final_dot(&self, error: Error) -> Error {
        if self.is_final_dot_sent && !self.is_transaction_finished { outcome_unknown(&error) } else { error }
    }

    /// What an error means for those about whom nothing was decided, and for those who were accepted
    /// before the mail was not.
    fn set_undecided_outcomes(&mut self, error: &Error, reply: Option<&Reply>) {
        // The last mail was decided by its own reply.
        if self.is_transaction_finished {
            return;
        }
        let outcome = match error.exit() {
            Exit::OutcomeUnknown => Some(DeliveryOutcome::Unknown),
            Exit::TemporaryFailure => Some(DeliveryOutcome::Deferred),
            Exit::Unavailable | Exit::Permission if reply.is_some() => Some(DeliveryOutcome::Refused),
            // It was us who went no further: nothing is decided about anybody.
            _ => None,
        };
        for recipient in &mut self.recipients {
            if matches!(recipient.outcome, None | Some(DeliveryOutcome::Accepted)) {
                (recipient.outcome, recipient.reply) = (outcome, reply.cloned());
            }
        }
    }

    /// Whether the plan ends here.
    fn stops_after(&self, stage: Stage) -> bool {
        self.config.stop_after == Some(stage)
    }

    /// A reply to whatever was said last. What is shown and kept of it has no secrets; what is decided is
    /// decided on what came.
    fn on_reply(&mut self, raw_reply: &Reply, now: Moment, actions: &mut Actions<ClientEvent>) {
        let reply = &*self.redact_reply(raw_reply);
        if reply.has_bare_lf && self.config.requested_extensions.strict {
            actions.emit(ClientEvent::ReplyReceived(reply.clone()));
            let error = protocol_error("a reply line ends in a bare LF (RFC 5321 §2.3.8 wants CRLF)");
            return self.fail(self.adjust_for_final_dot(error), false, now, actions);
        }
        if reply.has_bare_lf {
            actions.emit(ClientEvent::Warning("a reply line ends in a bare LF (RFC 5321 §2.3.8 wants CRLF)"));
        }
        actions.emit(ClientEvent::ReplyReceived(reply.clone()));
        // 421 at any moment is the end of the session (§3.8).
        if reply.code == 421 && self.stage != Stage::Quit {
            let error = if self.stage == Stage::Dot {
                rejection(self.stage, reply)
            } else {
                rejection(self.stage, reply).remedy("the server closes for now; try again later")
            };
            self.record_reply(reply);
            return self.fail_with_reply(reply, error, false, now, actions);
        }
        match self.stage {
            _ if self.idle_until.is_some() => {
                self.fail(protocol_error("a reply that nobody asked for"), false, now, actions);
            }
            Stage::Banner => self.on_greeting(reply, now, actions),
            Stage::Ehlo => self.on_ehlo_reply(raw_reply, reply, now, actions),
            Stage::Starttls => self.on_starttls_reply(reply, now, actions),
            Stage::Auth => self.on_auth_reply(raw_reply, reply, now, actions),
            Stage::Mail | Stage::Rcpt => self.on_envelope_reply(reply, now, actions),
            Stage::Data => self.on_data_reply(reply, now, actions),
            Stage::Dot => self.on_final_dot_reply(reply, now, actions),
            Stage::Quit => {
                self.finish(now, actions);
                actions.close();
            }
            // A server may say no before it has all of the message; it need not listen to the rest.
            Stage::Body if reply.code >= 400 => {
                self.fail_with_reply(reply, rejection(Stage::Body, reply), false, now, actions);
            }
            Stage::Resolve | Stage::Connect | Stage::Tls | Stage::Body => {
                self.fail(protocol_error("a reply that nobody asked for"), false, now, actions);
            }
        }
    }

    fn on_greeting(&mut self, reply: &Reply, now: Moment, actions: &mut Actions<ClientEvent>) {
        match reply.code {
            220 if self.stops_after(Stage::Banner) => self.send_quit(now, actions),
            220 => self.send_ehlo(now, actions),
            _ => self.fail_with_reply(reply, rejection(Stage::Banner, reply), true, now, actions),
        }
    }

    fn on_ehlo_reply(&mut self, raw_reply: &Reply, reply: &Reply, now: Moment, actions: &mut Actions<ClientEvent>) {
        // HELO knows neither TLS nor AUTH, so it is no way round either (§3.2).
        let may_helo =
            self.config.security != Security::Starttls && self.config.credentials.is_none() && !self.is_helo_fallback;
        if matches!(reply.code, 500 | 502 | 504) && may_helo {
            self.is_helo_fallback = true;
            let line = format!("HELO {}", self.config.helo_name);
            return self.send_command(&line, now, actions);
        }
        if reply.code != 250 {
            return self.fail_with_reply(reply, rejection(Stage::Ehlo, reply), true, now, actions);
        }
        self.has_extensions = true;
        self.extensions = if self.is_helo_fallback { Extensions::default() } else { Extensions::parse(raw_reply) };
        let wants_tls = self.config.security == Security::Starttls && !self.is_encrypted;
        match (wants_tls, self.extensions.starttls) {
            (true, true) => {
                self.enter_stage(Stage::Starttls, now, actions);
                self.send_command("STARTTLS", now, actions);
            }
            (true, false) => {
                let error =
                    Error::new(Exit::Unavailable, "the server does not offer STARTTLS; nothing was sent in clear")
                        .expected("STARTTLS among the words of EHLO")
                        .remedy("take --tls with port 465, or --plain if clear text is what you want");
                self.fail(error, true, now, actions);
            }
            (false, _) if self.stops_after(Stage::Ehlo) || self.stops_after(Stage::Tls) => self.send_quit(now, actions),
            (false, _) => self.start_auth(now, actions),
        }
    }

    fn on_starttls_reply(&mut self, reply: &Reply, now: Moment, actions: &mut Actions<ClientEvent>) {
        if reply.code != 220 {
            return self.fail_with_reply(reply, rejection(Stage::Starttls, reply), true, now, actions);
        }
        self.enter_stage(Stage::Tls, now, actions);
        self.deadline = None;
        self.extensions_before_tls = Some(std::mem::take(&mut self.extensions));
        self.has_extensions = false;
        actions.start_tls();
    }

    /// The line is gone.
    fn on_connection_lost(&mut self, error: Error, now: Moment, actions: &mut Actions<ClientEvent>) {
        if self.is_finished {
            return;
        }
        // Between two mails nothing is lost but the line.
        if self.idle_until.is_some() {
            self.finish(now, actions);
            return actions.close();
        }
        // After the reply to the dot, a QUIT without an answer undoes nothing (§4.1.1.10).
        if self.stage != Stage::Quit {
            let error =
                if self.stage == Stage::Dot || self.is_final_dot_sent { outcome_unknown(&error) } else { error };
            self.record_failure(error, None);
        }
        self.finish(now, actions);
        actions.close();
    }

    /// We go no further: a signal came, or the deadline. What is known stays known.
    pub(crate) fn abort(&mut self, error: Error, now: Moment, actions: &mut Actions<ClientEvent>) {
        self.on_connection_lost(error, now, actions);
    }

    /// The line was never made: nothing is decided about anybody.
    pub(crate) fn connect_failed(mut self, stage: Stage, error: Error) -> SessionResult {
        (self.stage, self.failure) = (stage, Some(error));
        self.into_result()
    }
}

#[cfg(test)]
pub(super) mod tests;
