//! The part of the dialogue that delivers: MAIL, RCPT, DATA, the dot.
//!
//! Owns what each recipient's reply means. Some may be refused and the others still get it (RFC 5321
//! §3.3).

use std::sync::Arc;

use super::parameters::{about, parameters, spelt};
use super::wording::{after_dot, malformed, refusal, refused};
use super::{Awaited, Client};
use crate::conversation::Actions;
use crate::error::Error;
use crate::smtp::plan::{Fact, Outcome, Stage, Timed, verdict};
use crate::smtp::reply::Reply;
use crate::smtp::stuff;
use crate::time::Moment;

impl Client {
    pub(super) fn deliver(&mut self, now: Moment, out: &mut Actions<Fact>) {
        if let Some(envelope) = self.plan.envelope.as_mut().filter(|_| !self.offers.eight_bit)
            && let Some(ascii) = envelope.ascii.take()
        {
            // RFC 6152 §3.
            envelope.message = ascii;
            out.emit(Fact::Odd("the message is encoded anew: the server takes no octets above 127 (no 8BITMIME)"));
        }
        let Some(envelope) = self.plan.envelope.clone() else { return self.quit(now, out) };
        let parameters = match parameters(&self.offers, &envelope, &self.plan.wishes) {
            Ok(parameters) => parameters,
            Err(error) => return self.fail(error, true, now, out),
        };
        (self.begun, self.is_mailed, self.dot_is_out) = (now, false, false);
        self.recipients.iter_mut().for_each(|recipient| (recipient.outcome, recipient.reply) = (None, None));
        self.enter(Stage::Mail, now, out);
        let from = envelope.from.as_ref().map(|from| spelt(&self.offers, from).to_string()).unwrap_or_default();
        self.say(&format!("MAIL FROM:<{from}>{parameters}"), now, out);
        self.awaited.push_back(Awaited::Mail);
        // Several commands in one write, one reply each (RFC 2920 §3.1).
        if self.offers.pipelining && !self.stops_at(Stage::Mail) {
            for place in 0..self.recipients.len() {
                self.rcpt(place, now, out);
            }
        }
    }

    fn rcpt(&mut self, place: usize, now: Moment, out: &mut Actions<Fact>) {
        let Some(recipient) = self.recipients.get(place) else { return };
        let mailbox = spelt(&self.offers, &recipient.mailbox);
        let line = format!("RCPT TO:<{mailbox}>{}", about(&mailbox, &self.plan.wishes));
        self.say(&line, now, out);
        self.awaited.push_back(Awaited::Rcpt(place));
    }

    /// What a reply says of the command it answers.
    pub(super) fn note_awaited(&mut self, reply: &Reply) -> Option<Awaited> {
        let awaited = self.awaited.pop_front()?;
        if let Awaited::Rcpt(place) = awaited
            && let Some(recipient) = self.recipients.get_mut(place)
        {
            recipient.outcome = Some(match reply {
                reply if reply.is_yes() => Outcome::Accepted,
                reply if reply.is_later() => Outcome::Deferred,
                _ => Outcome::Refused,
            });
            recipient.reply = Some(reply.clone());
        }
        Some(awaited)
    }

    pub(super) fn enveloped(&mut self, reply: &Reply, now: Moment, out: &mut Actions<Fact>) {
        self.wait(now);
        match self.note_awaited(reply) {
            Some(Awaited::Mail) if reply.is_yes() => {
                if self.stops_at(Stage::Mail) {
                    return self.quit(now, out);
                }
                self.enter(Stage::Rcpt, now, out);
                if self.awaited.is_empty() {
                    self.rcpt(0, now, out);
                }
            }
            // Whatever else was said in the same breath still gets its reply; none of it counts.
            Some(Awaited::Mail) => {
                self.no_to_mail = Some(reply.clone());
                self.failed_at = Some(Stage::Mail);
            }
            Some(Awaited::Rcpt(place)) if self.awaited.is_empty() && self.no_to_mail.is_none() => {
                if place + 1 < self.recipients.len() {
                    self.rcpt(place + 1, now, out);
                }
            }
            Some(Awaited::Rcpt(_)) => {}
            None => return self.fail(malformed("a reply that nobody asked for"), false, now, out),
        }
        if self.awaited.is_empty() {
            self.all_named(now, out);
        }
    }

    /// Every recipient has its reply.
    fn all_named(&mut self, now: Moment, out: &mut Actions<Fact>) {
        if let Some(reply) = self.no_to_mail.clone() {
            return self.refuse(&reply, refused(Stage::Mail, &reply), true, now, out);
        }
        let accepted = self.recipients.iter().filter(|recipient| recipient.outcome == Some(Outcome::Accepted)).count();
        if accepted == 0 || (self.plan.all_or_nothing && accepted < self.recipients.len()) {
            let is_refused = self.recipients.iter().any(|recipient| recipient.outcome == Some(Outcome::Refused));
            if self.plan.all_or_nothing && is_refused {
                // It would be refused again, however often the others are tried.
                self.failure = refusal(&self.recipients);
                self.failed_at = Some(Stage::Rcpt);
            }
            return self.stop(now, out);
        }
        if self.stops_at(Stage::Rcpt) {
            return self.stop(now, out);
        }
        if self.plan.wishes.chunking {
            return self.send_chunk(now, out);
        }
        self.enter(Stage::Data, now, out);
        self.say("DATA", now, out);
    }

    /// It goes no further: whoever would have been accepted gets nothing.
    fn stop(&mut self, now: Moment, out: &mut Actions<Fact>) {
        self.undo_accepted();
        self.quit(now, out);
    }

    fn undo_accepted(&mut self) {
        for recipient in &mut self.recipients {
            recipient.outcome = recipient.outcome.filter(|outcome| *outcome != Outcome::Accepted);
        }
    }

    /// The whole message is one chunk, and the last one; there is no go-ahead to wait for.
    fn send_chunk(&mut self, now: Moment, out: &mut Actions<Fact>) {
        if self.stops_at(Stage::Data) {
            return self.stop(now, out);
        }
        let Some(envelope) = &self.plan.envelope else { return };
        let message = Arc::clone(&envelope.message);
        self.enter(Stage::Body, now, out);
        let length = stuff::size(&message);
        self.say(&format!("BDAT {length} LAST"), now, out);
        out.send_with(|buffer| stuff::canonical(&message, buffer));
        self.until = None;
        out.emit(Fact::Body(length));
    }

    pub(super) fn may_send(&mut self, reply: &Reply, now: Moment, out: &mut Actions<Fact>) {
        if reply.code != 354 {
            let error =
                if reply.is_yes() { malformed("a yes to DATA that is not 354") } else { refused(Stage::Data, reply) };
            // After a yes nobody knows what the server waits for; it may take our QUIT for a line of the mail.
            return self.refuse(reply, error, !reply.is_yes(), now, out);
        }
        if self.stops_at(Stage::Data) {
            // A lone dot would be an empty mail: only the end of the line leaves nothing behind.
            self.undo_accepted();
            self.end(now, out);
            return out.reset();
        }
        let Some(envelope) = &self.plan.envelope else { return };
        let message = Arc::clone(&envelope.message);
        self.enter(Stage::Body, now, out);
        // From here on the link watches whether the server takes it.
        self.until = None;
        let length = out.send_with(|buffer| {
            let start = buffer.len();
            stuff::stuff(&message, buffer);
            buffer.len() - start
        });
        out.emit(Fact::Body(length));
    }

    pub(super) fn taken(&mut self, reply: &Reply, now: Moment, out: &mut Actions<Fact>) {
        let (outcome, error) = match reply {
            reply if reply.is_yes() => (Outcome::Accepted, None),
            reply if reply.is_later() => (Outcome::Deferred, Some(refused(Stage::Dot, reply))),
            // Neither yes nor no: nobody can know.
            reply if reply.code < 400 => (Outcome::Unknown, Some(after_dot(&refused(Stage::Dot, reply)))),
            reply => (Outcome::Refused, Some(refused(Stage::Dot, reply))),
        };
        for recipient in self.recipients.iter_mut().filter(|known| known.outcome == Some(Outcome::Accepted)) {
            recipient.outcome = Some(outcome);
            recipient.reply = Some(reply.clone());
        }
        self.mailed(error, now, out);
    }

    /// The mail is decided; the next one follows when it is due, if there is one.
    fn mailed(&mut self, error: Option<Error>, now: Moment, out: &mut Actions<Fact>) {
        let exit = error.as_ref().map_or_else(|| verdict(&self.recipients), Error::exit);
        out.emit(Fact::Stage(Timed { stage: self.stage, took: now - self.since }));
        let why = error.as_ref().map(|error| error.with_exit(error.exit())).or_else(|| refusal(&self.recipients));
        out.emit(Fact::Mailed { exit, why });
        self.is_mailed = true;
        self.mails = self.mails.saturating_sub(1);
        let due = self.begun + self.plan.apart;
        self.idle = Some(due);
        if self.mails == 0 {
            self.failed_at = error.as_ref().map(|_| self.stage);
            self.failure = error;
            self.quit(now, out);
        } else if due <= now {
            self.deliver(now, out);
        } else {
            self.until = Some(due);
        }
    }
}
