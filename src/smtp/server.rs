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

mod answer;
mod body;
mod command;
mod decide;
mod dialogue;
mod envelope;
mod hold;
mod login;
mod room;
#[cfg(test)]
mod tests;
mod transfer;
mod users;

use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::fault::{FaultAction, Instead, Place};
use super::plan::Stage;
use crate::conversation::{Actions, CloseReason, StreamProtocol};
use crate::time::Moment;
use body::Body;
use hold::Held;
use login::Login;

pub use answer::{Answer, ENOUGH, NO_ROOM, TOO_MANY_CONNECTIONS};
pub use envelope::{Addressee, Sender};
pub use room::{Allowance, Captured, Client, Fact, Keep, Kept, Lease, Limits, Mailroom, Refused, Rules};
pub use users::Users;

/// How long a client that has delivered something may take for its QUIT once the server closes.
const FAREWELL: Duration = Duration::from_secs(1);

/// The dialogue on one connection.
pub struct Server<M: Mailroom> {
    room: Rc<M>,
    client: Client,
    /// What the connection gets in place of a banner.
    refusal: Option<Answer>,
    /// What a TLS handshake gets in place of one.
    handshake: Instead,
    state: State,
    is_extended: bool,
    /// Whether its banner was a refusal: then there is nothing but QUIT (RFC 5321 §3.1).
    is_turned_away: bool,
    /// Words of EHLO that a rule does not let it say.
    hidden: Vec<String>,
    sender: Option<Sender>,
    recipients: Vec<Addressee>,
    /// What they take of the allowance.
    named: usize,
    /// What came by BDAT so far, and why the rest is of no use.
    chunks: Vec<u8>,
    spoilt: Option<Answer>,
    /// Whether the rules were asked about the body of this mail.
    is_body_begun: bool,
    lease: Lease,
    work: Option<Work<M::Kept>>,
    held: Option<Held>,
    after: After,
    /// Mails whose acknowledgement is not out yet, and when each had come.
    taken: Vec<(M::Kept, Moment)>,
    /// Whether a line is being skipped because it is too long.
    is_skipping: bool,
    is_stalled: bool,
    is_over: bool,
    is_draining: bool,
    has_delivered: bool,
    errors: u32,
    until: Moment,
    ends: Moment,
}

enum State {
    /// The connection is not greeted yet.
    Begun,
    /// STARTTLS was answered; what comes is the handshake.
    Handshaking,
    Command,
    Login(Login),
    /// Only challenges are left to say: so many.
    Challenges(u32),
    Body(Body),
    Chunk {
        left: u64,
        is_last: bool,
    },
    /// A handshake is expected, and these octets are what it gets.
    NoTls(Vec<u8>),
}

/// What a job is for.
enum Work<K> {
    Derive,
    Keep { kept: Arc<Mutex<Option<Kept<K>>>>, at: Moment, action: FaultAction },
}

/// What follows once a reply is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Go,
    Greet,
    StartTls,
    Close,
}

impl<M: Mailroom> Server<M> {
    /// A dialogue with a client that has just come.
    pub fn new(room: Rc<M>, client: Client, now: Moment) -> Self {
        let lease = Lease::new(&room.rules().allowance);
        let limits = room.rules().limits;
        Self {
            room,
            client,
            refusal: None,
            handshake: Instead::Usual,
            state: State::Begun,
            is_extended: false,
            is_turned_away: false,
            hidden: Vec::new(),
            sender: None,
            recipients: Vec::new(),
            named: 0,
            chunks: Vec::new(),
            spoilt: None,
            is_body_begun: false,
            lease,
            work: None,
            held: None,
            after: After::Go,
            taken: Vec::new(),
            is_skipping: false,
            is_stalled: false,
            is_over: false,
            is_draining: false,
            has_delivered: false,
            errors: 0,
            until: now + limits.command,
            ends: now + limits.session,
        }
    }

    /// One that gets a refusal in place of a banner.
    #[must_use]
    pub fn refused(mut self, answer: Answer) -> Self {
        self.refusal = Some(answer);
        self
    }

    /// Whether it is such a one.
    pub fn is_refused(&self) -> bool {
        self.refusal.is_some()
    }

    /// One whose implicit TLS never comes to be, because a rule has it so.
    #[must_use]
    pub fn without_handshake(mut self, instead: Instead) -> Self {
        self.handshake = instead;
        self
    }

    /// Forgets the mail under way (RFC 5321 §4.1.1.5).
    fn forget(&mut self) {
        self.sender = None;
        self.recipients.clear();
        self.chunks = Vec::new();
        self.spoilt = None;
        self.is_body_begun = false;
        self.named = 0;
        self.lease.resize(0);
    }

    /// Ends the session: nothing more is heard.
    fn close(&mut self, out: &mut Actions<Fact<M::Kept>>) {
        self.is_over = true;
        out.close();
    }

    /// Says why, and ends the session.
    fn dismiss(&mut self, answer: &Answer, now: Moment, out: &mut Actions<Fact<M::Kept>>) {
        self.after = After::Close;
        self.say(answer, &FaultAction::default(), now, out);
    }

    fn fail(&self, why: &str, out: &mut Actions<Fact<M::Kept>>) {
        out.emit(Fact::Failed { client: self.client.clone(), why: why.to_owned() });
    }

    /// Where in the dialogue it is, for people.
    fn place(&self) -> &'static str {
        match self.state {
            _ if self.sender.is_some() => "within the mail",
            State::Login(_) | State::Challenges(_) => "within the login",
            _ if self.client.name.is_empty() => "before EHLO",
            _ => "between mails",
        }
    }

    /// Whether nothing can be heard now.
    fn is_busy(&self) -> bool {
        self.work.is_some() || self.held.is_some() || self.is_stalled || self.is_over
    }

    fn greet(&mut self, now: Moment, out: &mut Actions<Fact<M::Kept>>) {
        self.state = State::Command;
        let banner = Answer::new(220, format!("{} ESMTP netlab mail-serve", self.room.rules().name));
        let action = self.decide(Some(Stage::Banner), "", out);
        self.is_turned_away = action.refusal().is_some();
        let answer = action.refusal().cloned().unwrap_or(banner);
        self.judged(Some(Stage::Banner), "", answer, &action, now, out);
    }
}

impl<M: Mailroom> StreamProtocol for Server<M> {
    type Event = Fact<M::Kept>;
    const FULL_DUPLEX: bool = false;

    fn opened(&mut self, tls: Option<&'static str>, now: Moment, out: &mut Actions<Self::Event>) {
        self.client.tls = tls;
        self.until = now + self.room.rules().limits.command;
        if !matches!(self.state, State::Begun) {
            // After STARTTLS there is no second banner.
            return if self.is_draining { self.close(out) } else { self.state = State::Command };
        }
        if let Some(refusal) = self.refusal.clone() {
            self.fail("there are too many connections", out);
            if self.handshake == Instead::Usual {
                return self.dismiss(&refusal, now, out);
            }
            // It has heard nothing that would have to reach it.
            self.is_over = true;
            return out.reset();
        }
        match std::mem::take(&mut self.handshake) {
            Instead::Usual => {
                let action = self.decide_at(Place::Connect, out);
                self.after = After::Greet;
                self.say_nothing(&action, now, out);
            }
            instead => self.refuse_tls(instead, now, out),
        }
    }

    fn received(&mut self, bytes: &[u8], now: Moment, out: &mut Actions<Self::Event>) -> usize {
        /// Replies that may wait to be taken before more commands are heard.
        const MOST_REPLIES: usize = 64 * 1024;
        let mut taken = 0;
        while !self.is_busy() && out.queued_bytes() < MOST_REPLIES {
            let rest = bytes.get(taken..).unwrap_or_default();
            let some = match &mut self.state {
                _ if rest.is_empty() => break,
                State::NoTls(instead) => {
                    let instead = std::mem::take(instead);
                    out.send(&instead);
                    self.close(out);
                    rest.len()
                }
                State::Body(_) => self.body(rest, now, out),
                State::Chunk { .. } => self.chunk(rest, now, out),
                State::Begun | State::Handshaking => break,
                State::Command | State::Login(_) | State::Challenges(_) => self.line(rest, now, out),
            };
            taken += some;
            if some == 0 {
                break;
            }
        }
        // Who is stalled is not listened to, but its end is noticed.
        if self.is_over || self.is_stalled { bytes.len() } else { taken }
    }

    fn sent(&mut self, now: Moment, out: &mut Actions<Self::Event>) {
        if self.held.is_none() {
            self.tell_taken(now, out);
        }
    }

    fn woken(&mut self, now: Moment, out: &mut Actions<Self::Event>) {
        if self.held.as_ref().is_some_and(|held| held.next <= now) {
            return self.pump(now, out);
        }
        if self.held.take().is_some() {
            return self.close(out);
        }
        match &self.state {
            _ if self.is_stalled => self.close(out),
            State::NoTls(_) => self.close(out),
            _ if self.is_draining => self.dismiss(&answer::CLOSING, now, out),
            _ => {
                let (answer, what) = if self.ends <= now {
                    (answer::TOO_LONG, "the session had lasted long enough")
                } else {
                    (answer::TIMED_OUT, "nothing more came")
                };
                self.fail(&format!("{what} {}", self.place()), out);
                self.dismiss(&answer, now, out);
            }
        }
    }

    fn job_done(&mut self, now: Moment, out: &mut Actions<Self::Event>) {
        match self.work.take() {
            Some(Work::Derive) => self.derived(now, out),
            Some(Work::Keep { kept, at, action }) => {
                let kept = kept.lock().unwrap_or_else(PoisonError::into_inner).take();
                self.kept(kept.unwrap_or(Err(NO_ROOM)), at, &action, now, out);
            }
            None => {}
        }
    }

    fn draining(&mut self, now: Moment, out: &mut Actions<Self::Event>) {
        self.is_draining = true;
        if self.is_stalled {
            return self.close(out);
        }
        if self.is_busy() || self.sender.is_some() || self.is_over {
            return;
        }
        if self.has_delivered {
            self.until = self.until.min(now + FAREWELL);
        } else {
            self.dismiss(&answer::CLOSING, now, out);
        }
    }

    fn ended(&mut self, end: &CloseReason, now: Moment, out: &mut Actions<Self::Event>) {
        self.tell_taken(now, out);
        if self.is_over {
            return;
        }
        match end {
            CloseReason::Finished | CloseReason::Truncated => {
                if self.sender.is_some() {
                    self.fail("the client closed within a mail", out);
                }
                self.close(out);
            }
            CloseReason::Broken(error) => {
                // Before the banner it is the TLS handshake that broke.
                if self.sender.is_some() || !matches!(self.state, State::Command) {
                    self.fail(error.message(), out);
                }
                self.is_over = true;
            }
        }
    }

    fn wake_at(&self) -> Option<Moment> {
        match &self.held {
            _ if self.is_over || self.work.is_some() => None,
            Some(held) => Some(held.next.min(self.ends)),
            None if self.is_stalled => Some(self.ends),
            None => Some(self.until.min(self.ends)),
        }
    }

    fn is_paused(&self) -> bool {
        self.work.is_some() || self.held.is_some()
    }
}
