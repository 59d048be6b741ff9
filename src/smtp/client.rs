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

mod delivery;
mod hidden;
mod login;
mod parameters;
mod talk;
mod wording;

use std::collections::VecDeque;

use super::auth::{Login, Mechanism};
use super::offers::Offers;
use super::plan::{Done, Fact, Outcome, Plan, Recipient, Security, Stage, Timed};
use super::reply::Reply;
use super::secret::Secret;
use crate::conversation::Actions;
use crate::error::Error;
use crate::exit::Exit;
use crate::time::Moment;
use wording::{after_dot, malformed, refused};

pub use wording::refusal;

/// The longest AUTH command with an initial response (RFC 4954 §4 with RFC 5321 §4.5.3.1.4).
const LONGEST_COMMAND: usize = 510;

/// One dialogue.
pub struct Client {
    plan: Plan,
    stage: Stage,
    /// Since when it is in that stage.
    since: Moment,
    /// Until when the next reply must come.
    until: Option<Moment>,
    /// The recipients whose replies are awaited, or MAIL's.
    awaited: VecDeque<Awaited>,
    offers: Offers,
    /// Whether they were heard on the line as it is.
    is_offered: bool,
    offers_before_tls: Option<Offers>,
    is_encrypted: bool,
    login: Option<Login>,
    mechanism: Option<Mechanism>,
    /// What was said and is not to be shown.
    hidden: Vec<Secret>,
    recipients: Vec<Recipient>,
    failure: Option<Error>,
    /// Where it failed.
    failed_at: Option<Stage>,
    /// What was said of the sender, while the replies about the recipients are still to come.
    no_to_mail: Option<Reply>,
    is_helo: bool,
    dot_is_out: bool,
    is_over: bool,
    /// How many times the mail is still to be sent, this time included.
    mails: u64,
    /// When the mail was last begun.
    begun: Moment,
    /// Nothing is said until then: the next mail is not due.
    idle: Option<Moment>,
    is_mailed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    Mail,
    Rcpt(usize),
}

impl Client {
    /// A dialogue by this plan over a connection that is made at `now`.
    pub fn new(plan: Plan, now: Moment) -> Self {
        let mailboxes = plan.envelope.iter().flat_map(|envelope| envelope.recipients.clone());
        let recipients = mailboxes.map(|mailbox| Recipient { mailbox, outcome: None, reply: None }).collect();
        Self {
            stage: if plan.security == Security::Tls { Stage::Tls } else { Stage::Banner },
            since: now,
            until: None,
            awaited: VecDeque::new(),
            offers: Offers::default(),
            is_offered: false,
            offers_before_tls: None,
            is_encrypted: false,
            login: None,
            mechanism: None,
            hidden: Vec::new(),
            recipients,
            failure: None,
            failed_at: None,
            no_to_mail: None,
            is_helo: false,
            dot_is_out: false,
            is_over: false,
            mails: plan.mails,
            begun: now,
            idle: None,
            is_mailed: false,
            plan,
        }
    }

    /// What came of it.
    pub fn done(self) -> Done {
        Done {
            recipients: self.recipients,
            failure: self.failure,
            stage: self.failed_at.unwrap_or(self.stage),
            offers: self.is_offered.then_some(self.offers),
            offers_before_tls: self.offers_before_tls,
            mechanism: self.mechanism,
            is_encrypted: self.is_encrypted,
            is_mailed: self.is_mailed,
        }
    }

    /// Ends a stage and begins the next one.
    fn enter(&mut self, stage: Stage, now: Moment, out: &mut Actions<Fact>) {
        // Between two mails there is nothing that could end.
        if self.idle.take().is_none() {
            out.emit(Fact::Stage(Timed { stage: self.stage, took: now - self.since }));
        }
        (self.stage, self.since) = (stage, now);
    }

    /// Sends a line, shown as it is.
    fn say(&mut self, line: &str, now: Moment, out: &mut Actions<Fact>) {
        self.send(line.as_bytes(), line, now, out);
    }

    /// Sends a line, shown as something else.
    fn say_hidden(&mut self, line: &Secret, shown: &str, now: Moment, out: &mut Actions<Fact>) {
        self.keep_hidden(line);
        self.send(line.expose(), shown, now, out);
    }

    fn send(&mut self, line: &[u8], shown: &str, now: Moment, out: &mut Actions<Fact>) {
        out.send(line);
        out.send(b"\r\n");
        out.emit(Fact::Sent(shown.to_owned()));
        self.wait(now);
    }

    fn wait(&mut self, now: Moment) {
        let patience = self.plan.patience.filter(|_| self.stage != Stage::Quit);
        self.until = Some(now + patience.unwrap_or_else(|| self.stage.patience()));
    }

    fn ehlo(&mut self, now: Moment, out: &mut Actions<Fact>) {
        self.enter(Stage::Ehlo, now, out);
        let line = format!("EHLO {}", self.plan.name);
        self.say(&line, now, out);
    }

    fn quit(&mut self, now: Moment, out: &mut Actions<Fact>) {
        self.enter(Stage::Quit, now, out);
        self.say("QUIT", now, out);
    }

    /// Gives up, in an orderly way if the server still listens to reason.
    fn fail(&mut self, error: Error, is_orderly: bool, now: Moment, out: &mut Actions<Fact>) {
        // A QUIT that goes wrong undoes nothing, and makes nothing worse (§4.1.1.10).
        if self.stage == Stage::Quit {
            self.end(now, out);
            return out.close();
        }
        self.fail_with(error, None);
        self.leave(is_orderly, now, out);
    }

    /// The server says no, and that is the end of it.
    fn refuse(&mut self, reply: &Reply, error: Error, is_orderly: bool, now: Moment, out: &mut Actions<Fact>) {
        self.fail_with(error, Some(reply));
        self.leave(is_orderly, now, out);
    }

    fn leave(&mut self, is_orderly: bool, now: Moment, out: &mut Actions<Fact>) {
        if is_orderly {
            self.quit(now, out);
        } else {
            self.end(now, out);
            out.reset();
        }
    }

    /// Notes why it failed, where, and what that means. Whoever has refused the sender may close the line
    /// in the same breath, and that makes it no better.
    fn fail_with(&mut self, error: Error, reply: Option<&Reply>) {
        let (error, reply) = match self.no_to_mail.take() {
            Some(first) => {
                // None of what was said of the recipients counts.
                self.recipients.iter_mut().for_each(|recipient| recipient.outcome = None);
                (refused(Stage::Mail, &first), Some(first))
            }
            None => (error, reply.cloned()),
        };
        self.decide_the_rest(&error, reply.as_ref());
        self.failed_at.get_or_insert(self.stage);
        self.failure = Some(error);
    }

    fn end(&mut self, now: Moment, out: &mut Actions<Fact>) {
        if self.idle.take().is_none() {
            out.emit(Fact::Stage(Timed { stage: self.stage, took: now - self.since }));
        }
        (self.is_over, self.until) = (true, None);
    }

    /// An error as it is told: between the dot and its reply nobody can know.
    fn mended(&self, error: Error) -> Error {
        if self.dot_is_out && !self.is_mailed { after_dot(&error) } else { error }
    }

    /// What an error means for those about whom nothing was decided, and for those who were accepted
    /// before the mail was not.
    fn decide_the_rest(&mut self, error: &Error, reply: Option<&Reply>) {
        // The last mail was decided by its own reply.
        if self.is_mailed {
            return;
        }
        let outcome = match error.exit() {
            Exit::OutcomeUnknown => Some(Outcome::Unknown),
            Exit::TemporaryFailure => Some(Outcome::Deferred),
            Exit::Unavailable | Exit::Permission if reply.is_some() => Some(Outcome::Refused),
            // It was us who went no further: nothing is decided about anybody.
            _ => None,
        };
        for recipient in &mut self.recipients {
            if matches!(recipient.outcome, None | Some(Outcome::Accepted)) {
                (recipient.outcome, recipient.reply) = (outcome, reply.cloned());
            }
        }
    }

    /// Whether the plan ends here.
    fn stops_at(&self, stage: Stage) -> bool {
        self.plan.stop_after == Some(stage)
    }

    /// A reply to whatever was said last. What is shown and kept of it has no secrets; what is decided is
    /// decided on what came.
    fn heard(&mut self, came: &Reply, now: Moment, out: &mut Actions<Fact>) {
        let reply = &*self.without_secrets(came);
        if reply.bare_lf && self.plan.wishes.strict {
            out.emit(Fact::Heard(reply.clone()));
            let error = malformed("a reply line ends in a bare LF (RFC 5321 §2.3.8 wants CRLF)");
            return self.fail(self.mended(error), false, now, out);
        }
        if reply.bare_lf {
            out.emit(Fact::Odd("a reply line ends in a bare LF (RFC 5321 §2.3.8 wants CRLF)"));
        }
        out.emit(Fact::Heard(reply.clone()));
        // 421 at any moment is the end of the session (§3.8).
        if reply.code == 421 && self.stage != Stage::Quit {
            let error = if self.stage == Stage::Dot {
                refused(self.stage, reply)
            } else {
                refused(self.stage, reply).remedy("the server closes for now; try again later")
            };
            self.note_awaited(reply);
            return self.refuse(reply, error, false, now, out);
        }
        match self.stage {
            _ if self.idle.is_some() => self.fail(malformed("a reply that nobody asked for"), false, now, out),
            Stage::Banner => self.greeted(reply, now, out),
            Stage::Ehlo => self.offered(came, reply, now, out),
            Stage::Starttls => self.may_encrypt(reply, now, out),
            Stage::Auth => self.challenged(came, reply, now, out),
            Stage::Mail | Stage::Rcpt => self.enveloped(reply, now, out),
            Stage::Data => self.may_send(reply, now, out),
            Stage::Dot => self.taken(reply, now, out),
            Stage::Quit => {
                self.end(now, out);
                out.close();
            }
            // A server may say no before it has all of the message; it need not listen to the rest.
            Stage::Body if reply.code >= 400 => self.refuse(reply, refused(Stage::Body, reply), false, now, out),
            Stage::Resolve | Stage::Connect | Stage::Tls | Stage::Body => {
                self.fail(malformed("a reply that nobody asked for"), false, now, out);
            }
        }
    }

    fn greeted(&mut self, reply: &Reply, now: Moment, out: &mut Actions<Fact>) {
        match reply.code {
            220 if self.stops_at(Stage::Banner) => self.quit(now, out),
            220 => self.ehlo(now, out),
            _ => self.refuse(reply, refused(Stage::Banner, reply), true, now, out),
        }
    }

    fn offered(&mut self, came: &Reply, reply: &Reply, now: Moment, out: &mut Actions<Fact>) {
        // HELO knows neither TLS nor AUTH, so it is no way round either (§3.2).
        let may_helo = self.plan.security != Security::Starttls && self.plan.login.is_none() && !self.is_helo;
        if matches!(reply.code, 500 | 502 | 504) && may_helo {
            self.is_helo = true;
            let line = format!("HELO {}", self.plan.name);
            return self.say(&line, now, out);
        }
        if reply.code != 250 {
            return self.refuse(reply, refused(Stage::Ehlo, reply), true, now, out);
        }
        self.is_offered = true;
        self.offers = if self.is_helo { Offers::default() } else { Offers::read(came) };
        let wants_tls = self.plan.security == Security::Starttls && !self.is_encrypted;
        match (wants_tls, self.offers.starttls) {
            (true, true) => {
                self.enter(Stage::Starttls, now, out);
                self.say("STARTTLS", now, out);
            }
            (true, false) => {
                let error =
                    Error::new(Exit::Unavailable, "the server does not offer STARTTLS; nothing was sent in clear")
                        .expected("STARTTLS among the words of EHLO")
                        .remedy("take --tls with port 465, or --plain if clear text is what you want");
                self.fail(error, true, now, out);
            }
            (false, _) if self.stops_at(Stage::Ehlo) || self.stops_at(Stage::Tls) => self.quit(now, out),
            (false, _) => self.log_in(now, out),
        }
    }

    fn may_encrypt(&mut self, reply: &Reply, now: Moment, out: &mut Actions<Fact>) {
        if reply.code != 220 {
            return self.refuse(reply, refused(Stage::Starttls, reply), true, now, out);
        }
        self.enter(Stage::Tls, now, out);
        self.until = None;
        self.offers_before_tls = Some(std::mem::take(&mut self.offers));
        self.is_offered = false;
        out.start_tls();
    }

    /// The line is gone.
    fn broke(&mut self, error: Error, now: Moment, out: &mut Actions<Fact>) {
        if self.is_over {
            return;
        }
        // Between two mails nothing is lost but the line.
        if self.idle.is_some() {
            self.end(now, out);
            return out.close();
        }
        // After the reply to the dot, a QUIT without an answer undoes nothing (§4.1.1.10).
        if self.stage != Stage::Quit {
            let error = if self.stage == Stage::Dot || self.dot_is_out { after_dot(&error) } else { error };
            self.fail_with(error, None);
        }
        self.end(now, out);
        out.close();
    }

    /// We go no further: a signal came, or the deadline. What is known stays known.
    pub fn give_up(&mut self, error: Error, now: Moment, out: &mut Actions<Fact>) {
        self.broke(error, now, out);
    }

    /// The line was never made: nothing is decided about anybody.
    pub fn never_connected(mut self, stage: Stage, error: Error) -> Done {
        (self.stage, self.failure) = (stage, Some(error));
        self.done()
    }
}

#[cfg(test)]
pub(super) mod tests;
