//! Lines, and what each command does.
//!
//! Owns the order in which commands may come (RFC 5321 §4.1.4) and logging in (RFC 4954).

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::auth::Mechanism;
use super::super::fault::{Instead, Place};
use super::super::plan::Stage;
use super::answer::{self, Answer};
use super::body::Body;
use super::command::{Command, is_foreign, is_known_elsewhere};
use super::envelope::{Addressee, Sender};
use super::login::{Login, Next};
use super::{After, Fact, Mailroom, Server, State, Work};
use crate::conversation::Actions;
use crate::time::Moment;

/// The longest line of a login (RFC 4954 §4).
const LONGEST_LOGIN: usize = 12_288;
/// The longest line of any other command: 512 octets (RFC 5321 §4.5.3.1.4) and what the extensions add to
/// them, 500 of it for ORCPT (RFC 3461 §4.2).
const LONGEST_COMMAND: usize = 2_048;

/// The ways to log in, and whether each says the password to whoever listens.
const MECHANISMS: [(Mechanism, bool); 3] =
    [(Mechanism::ScramSha256, false), (Mechanism::Plain, true), (Mechanism::Login, true)];

impl<M: Mailroom> Server<M> {
    /// Takes a line, if there is a whole one.
    pub(super) fn line(&mut self, bytes: &[u8], now: Moment, out: &mut Actions<Fact<M::Kept>>) -> usize {
        let is_login = !matches!(self.state, State::Command)
            || bytes.get(..4).is_some_and(|verb| verb.eq_ignore_ascii_case(b"AUTH"));
        let longest = if is_login { LONGEST_LOGIN } else { LONGEST_COMMAND };
        let Some(end) = memchr::memchr(b'\n', bytes) else {
            if bytes.len() < longest && !self.is_skipping {
                return 0;
            }
            // However long its first line is, what is no mail client is not heard further.
            if !std::mem::replace(&mut self.is_skipping, true) && is_foreign(bytes) {
                self.nonsense(answer::NOT_SMTP, now, out);
            }
            return bytes.len();
        };
        let taken = end + 1;
        let line = bytes.get(..end).unwrap_or_default();
        if matches!(self.state, State::Command) && !self.is_skipping && is_foreign(line) {
            self.nonsense(answer::NOT_SMTP, now, out);
            return taken;
        }
        if std::mem::take(&mut self.is_skipping) || line.len() >= longest {
            self.nonsense(answer::LONG_LINE, now, out);
            return taken;
        }
        let Some(line) = line.strip_suffix(b"\r") else {
            self.nonsense(answer::BARE_LF, now, out);
            return taken;
        };
        match std::str::from_utf8(line).ok().filter(|line| !line.chars().any(char::is_control)) {
            Some(line) if matches!(self.state, State::Command) => {
                self.command(line, bytes.len() > taken, now, out);
            }
            Some(line) => self.response(line, now, out),
            None => self.nonsense(answer::NOT_TEXT, now, out),
        }
        taken
    }

    fn nonsense(&mut self, answer: Answer, now: Moment, out: &mut Actions<Fact<M::Kept>>) {
        if matches!(self.state, State::Login(_) | State::Challenges(_)) {
            // A refusal is the end of a login (RFC 4954 §4).
            return self.give_up(answer, now, out);
        }
        self.respond(None, ("", ""), now, out, |_| answer);
    }

    fn command(&mut self, line: &str, is_followed: bool, now: Moment, out: &mut Actions<Fact<M::Kept>>) {
        let command = Command::read(line);
        let stage = command.stage();
        if self.is_turned_away && command != Command::Quit {
            return self.respond(stage, ("", ""), now, out, |_| answer::TURNED_AWAY);
        }
        match command {
            Command::Hello { name, is_extended } => {
                self.respond_hello(name, is_extended, line, now, out);
            }
            Command::Starttls => self.respond(stage, ("", line), now, out, |server| server.starttls(is_followed)),
            Command::Auth { mechanism, initial } => self.auth(mechanism, initial, now, out),
            Command::Mail(text) => {
                let sender = Sender::read(text, self.is_extended);
                let whose = sender.as_ref().map(|sender| sender.address().to_owned()).unwrap_or_default();
                self.respond(stage, (&whose, line), now, out, |server| server.mail(sender));
            }
            Command::Rcpt(text) => {
                let is_utf8 = self.sender.as_ref().is_some_and(|sender| sender.is_utf8);
                let addressee = Addressee::read(text, self.is_extended, is_utf8);
                let whose = addressee.as_ref().map(|addressee| addressee.address.clone()).unwrap_or_default();
                self.respond(stage, (&whose, line), now, out, |server| server.rcpt(addressee));
            }
            Command::Data => self.respond(stage, ("", line), now, out, Self::data),
            Command::Bdat { octets, is_last } => self.bdat(octets, is_last, now, out),
            Command::Rset => self.respond(stage, ("", line), now, out, |server| {
                server.forget();
                answer::RESET
            }),
            Command::Noop => self.respond(stage, ("", line), now, out, |_| answer::NOTHING_DONE),
            Command::Vrfy => self.respond(stage, ("", line), now, out, |_| answer::NOT_VERIFIED),
            Command::Help => self.respond(stage, ("", line), now, out, |_| help()),
            Command::Quit => self.respond(stage, ("", line), now, out, |server| {
                server.forget();
                server.after = After::Close;
                answer::BYE
            }),
            Command::Malformed(Some(Stage::Auth)) => {
                self.respond(stage, ("", "AUTH"), now, out, |_| answer::SYNTAX);
            }
            // Taken for commands, its octets could be another mail.
            Command::Unmeasured => self.respond(stage, ("", line), now, out, |server| {
                server.after = After::Close;
                answer::SYNTAX
            }),
            Command::Malformed(_) => self.respond(stage, ("", line), now, out, |_| answer::SYNTAX),
            Command::Unknown => {
                // A client that is out of step may say its password here.
                let shown = if is_known_elsewhere(line) { line } else { "" };
                self.respond(stage, ("", shown), now, out, |_| answer::UNKNOWN);
            }
        }
    }

    fn respond_hello(
        &mut self,
        name: &str,
        is_extended: bool,
        line: &str,
        now: Moment,
        out: &mut Actions<Fact<M::Kept>>,
    ) {
        let room = std::rc::Rc::clone(&self.room);
        let mut hidden = Vec::new();
        if is_extended {
            for fired in room.rules().faults.all(|place| place == Place::Offer, name) {
                if let Instead::Hide(words) = &self.told(Some(fired), out).instead {
                    hidden.extend_from_slice(words);
                }
            }
        }
        self.respond(Some(Stage::Ehlo), (name, line), now, out, |server| {
            server.forget();
            name.clone_into(&mut server.client.name);
            server.is_extended = is_extended;
            server.hidden = hidden;
            server.hello()
        });
    }

    /// The words of EHLO (§4.1.1.1), or the one line of HELO.
    fn hello(&self) -> Answer {
        let rules = self.room.rules();
        let mut text = format!("{} greets {}", rules.name, self.client.name);
        if self.is_extended {
            let mechanisms: Vec<_> = MECHANISMS.iter().filter(|(how, _)| self.is_offered(*how)).collect();
            let auth = mechanisms.iter().fold("AUTH".to_owned(), |text, (how, _)| text + " " + how.word());
            let words = [
                (true, format!("SIZE {}", rules.max_size)),
                (true, "8BITMIME".to_owned()),
                (true, "SMTPUTF8".to_owned()),
                (true, "PIPELINING".to_owned()),
                (true, "CHUNKING".to_owned()),
                (true, "DSN".to_owned()),
                (true, "ENHANCEDSTATUSCODES".to_owned()),
                (!mechanisms.is_empty(), auth),
                (rules.offers_tls && self.client.tls.is_none(), "STARTTLS".to_owned()),
                (true, "HELP".to_owned()),
            ];
            for (_, word) in words.iter().filter(|(is_offered, word)| *is_offered && !self.hides(word)) {
                text.push('\n');
                text.push_str(word);
            }
        }
        Answer::new(250, text)
    }

    /// Whether a rule does not let it say so.
    pub(super) fn hides(&self, word: &str) -> bool {
        let word = word.split(' ').next().unwrap_or_default();
        self.hidden.iter().any(|hidden| hidden.eq_ignore_ascii_case(word))
    }

    fn is_offered(&self, mechanism: Mechanism) -> bool {
        let rules = self.room.rules();
        let is_clear = self.client.tls.is_none() && !rules.auth_in_clear;
        let fits = |(known, tells): &(Mechanism, bool)| *known == mechanism && !(*tells && is_clear);
        rules.users.is_some() && MECHANISMS.iter().any(fits)
    }

    fn starttls(&mut self, is_followed: bool) -> Answer {
        if !self.room.rules().offers_tls || self.hides("STARTTLS") {
            return answer::NOT_OFFERED;
        }
        if self.client.tls.is_some() {
            return answer::ALREADY;
        }
        if is_followed {
            // Said in clear, it would be believed under TLS (CVE-2011-0411).
            return answer::GLUED;
        }
        self.after = After::StartTls;
        answer::START_TLS
    }

    fn mail(&mut self, sender: Result<Sender, Answer>) -> Answer {
        let rules = self.room.rules();
        if let Some(closing) = self.is_closing() {
            return closing;
        }
        if self.client.name.is_empty() {
            return answer::HELLO_FIRST;
        }
        if self.sender.is_some() {
            return answer::NESTED_MAIL;
        }
        if rules.users.is_some() && self.client.login.is_none() {
            return answer::LOGIN_FIRST;
        }
        let sender = match sender {
            Ok(sender) => sender,
            Err(answer) => return answer,
        };
        let uses = [
            (sender.size.is_some(), "SIZE"),
            (sender.is_8bit, "8BITMIME"),
            (sender.is_utf8, "SMTPUTF8"),
            (sender.ret.is_some() || sender.envid.is_some(), "DSN"),
        ];
        if uses.iter().any(|(is_used, word)| *is_used && self.hides(word)) {
            return answer::BAD_PARAMETER;
        }
        if sender.size.is_some_and(|size| size > rules.max_size as u64) {
            return answer::TOO_LARGE;
        }
        self.sender = Some(sender);
        answer::SENDER_OK
    }

    fn rcpt(&mut self, addressee: Result<Addressee, Answer>) -> Answer {
        if self.sender.is_none() {
            return answer::MAIL_FIRST;
        }
        match addressee {
            _ if !self.chunks.is_empty() || self.spoilt.is_some() => answer::NOT_NOW,
            Ok(_) if self.recipients.len() >= self.room.rules().max_recipients => answer::TOO_MANY_RECIPIENTS,
            Ok(addressee) if self.hides("DSN") && (addressee.notify.is_some() || addressee.orcpt.is_some()) => {
                answer::BAD_PARAMETER
            }
            Ok(addressee) => {
                // A mail may be for many: who they are takes room too.
                let octets = addressee.octets();
                if !self.lease.resize(self.named + octets) {
                    return answer::NO_ROOM;
                }
                self.named += octets;
                self.recipients.push(addressee);
                answer::RECIPIENT_OK
            }
            Err(answer) => answer,
        }
    }

    fn data(&mut self) -> Answer {
        if self.sender.is_none() {
            return answer::MAIL_FIRST;
        }
        if self.recipients.is_empty() {
            return answer::RCPT_FIRST;
        }
        if !self.chunks.is_empty() || self.spoilt.is_some() {
            return answer::DATA_OR_BDAT;
        }
        self.state = State::Body(Body::new(self.room.rules().max_size));
        answer::SEND_DATA
    }

    fn auth(&mut self, word: &str, initial: Option<&str>, now: Moment, out: &mut Actions<Fact<M::Kept>>) {
        let known = word.parse::<Mechanism>().ok();
        // What is no mechanism may be a password in the wrong place.
        let shown = known.map_or_else(|| "AUTH".to_owned(), |mechanism| format!("AUTH {}", mechanism.word()));
        let users = self.room.rules().users.clone();
        let mechanism = known.filter(|known| MECHANISMS.iter().any(|(how, _)| how == known));
        let refusal = match (&users, mechanism) {
            (None, _) => Some(answer::NOT_OFFERED),
            _ if !self.is_extended => Some(answer::HELLO_FIRST),
            _ if self.hides("AUTH") => Some(answer::NOT_OFFERED),
            _ if self.client.login.is_some() => Some(answer::ALREADY),
            _ if self.sender.is_some() => Some(answer::NOT_NOW),
            (_, None) => Some(answer::NO_MECHANISM),
            (_, Some(mechanism)) => (!self.is_offered(mechanism)).then_some(answer::NEEDS_TLS),
        };
        let (None, Some(users), Some(mechanism)) = (&refusal, users, mechanism) else {
            let refusal = refusal.unwrap_or(answer::NOT_OFFERED);
            return self.respond(Some(Stage::Auth), ("", &shown), now, out, |_| refusal);
        };
        let action = self.decide_at(Place::Challenge, out);
        if let Instead::Challenges(count) = action.instead {
            self.state = State::Challenges(count.saturating_sub(1));
            return self.challenge(String::new(), now, out);
        }
        let login = Login::new(mechanism, Arc::clone(&users), self.room.nonce());
        let prompt = login.prompt();
        self.state = State::Login(login);
        match initial {
            // An empty first response is written as `=` (§4).
            Some("=") => self.decoded(b"", now, out),
            Some(initial) => self.response(initial, now, out),
            None => self.challenge(prompt, now, out),
        }
    }

    fn challenge(&mut self, text: String, now: Moment, out: &mut Actions<Fact<M::Kept>>) {
        let action = self.decide(None, "", out);
        let answer = action.refusal().cloned().unwrap_or(Answer::new(334, text));
        if answer.is_refusal() {
            self.state = State::Command;
        }
        self.judged(Some(Stage::Auth), "AUTH", answer, &action, now, out);
    }

    /// A response to a challenge.
    fn response(&mut self, line: &str, now: Moment, out: &mut Actions<Fact<M::Kept>>) {
        if let State::Challenges(left) = self.state {
            if line == "*" || left == 0 {
                let answer = if line == "*" { answer::CANCELLED } else { answer::WRONG_LOGIN };
                self.state = State::Command;
                return self.respond(Some(Stage::Auth), ("", "AUTH"), now, out, |_| answer);
            }
            self.state = State::Challenges(left - 1);
            return self.challenge(String::new(), now, out);
        }
        match STANDARD.decode(line) {
            _ if line == "*" => self.give_up(answer::CANCELLED, now, out),
            Ok(octets) => self.decoded(&octets, now, out),
            Err(_) => self.give_up(answer::NOT_BASE64, now, out),
        }
    }

    fn give_up(&mut self, answer: Answer, now: Moment, out: &mut Actions<Fact<M::Kept>>) {
        self.state = State::Command;
        self.respond(Some(Stage::Auth), ("", "AUTH"), now, out, |_| answer);
    }

    fn decoded(&mut self, octets: &[u8], now: Moment, out: &mut Actions<Fact<M::Kept>>) {
        let State::Login(login) = &mut self.state else { return };
        let next = login.respond(octets);
        self.next(next, now, out);
    }

    /// The password is derived.
    pub(super) fn derived(&mut self, now: Moment, out: &mut Actions<Fact<M::Kept>>) {
        let State::Login(login) = &mut self.state else { return };
        let next = login.derived();
        self.next(next, now, out);
    }

    fn next(&mut self, next: Next, now: Moment, out: &mut Actions<Fact<M::Kept>>) {
        match next {
            Next::Challenge(text) => self.challenge(text, now, out),
            Next::Malformed => self.give_up(answer::SYNTAX, now, out),
            Next::Derive => {
                let State::Login(login) = &self.state else { return };
                out.run_job(Box::new(login.derivation()));
                self.work = Some(Work::Derive);
            }
            Next::Verdict(is_right) => {
                let State::Login(login) = std::mem::replace(&mut self.state, State::Command) else { return };
                let (user, mechanism) = (login.user, login.mechanism);
                let shown = format!("AUTH {}", mechanism.word());
                self.respond(Some(Stage::Auth), (&user, &shown), now, out, |server| {
                    if is_right {
                        server.client.login = Some((user.clone(), mechanism));
                    }
                    if is_right { answer::LOGGED_IN } else { answer::WRONG_LOGIN }
                });
                let (client, ok) = (self.client.clone(), self.client.login.is_some());
                out.emit(Fact::Login { client, user, mechanism, ok });
            }
        }
    }
}

fn help() -> Answer {
    Answer::new(214, "2.0.0 EHLO HELO STARTTLS AUTH MAIL RCPT DATA BDAT RSET NOOP VRFY QUIT (RFC 5321)")
}
