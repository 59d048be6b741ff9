//! The message: as lines up to a dot, or in chunks, and then into the mailroom.
//!
//! Owns DATA's content, BDAT (RFC 3030), the limits of both, and the moment at which a mail is
//! acknowledged: not before it is kept.

use std::sync::{Arc, Mutex, PoisonError};

use super::super::fault::{FaultAction, Place};
use super::super::plan::Stage;
use super::answer::{self, Answer};
use super::body::Came;
use super::{After, Captured, Fact, Keep, Kept, Lease, Mailroom, Server, State, Work};
use crate::conversation::Actions;
use crate::time::Moment;

impl<M: Mailroom> Server<M> {
    /// Takes what came of a message that ends in a dot.
    pub(super) fn body(&mut self, bytes: &[u8], now: Moment, out: &mut Actions<Fact<M::Kept>>) -> usize {
        if !std::mem::replace(&mut self.is_body_begun, true) {
            // Whatever is done now, these octets are offered again, unless the line is closed.
            self.begin_body(now, out);
            if self.is_busy() {
                return 0;
            }
        }
        let State::Body(body) = &mut self.state else { return 0 };
        let (taken, came) = body.receive(bytes);
        if !self.lease.resize(self.named + body.kept()) {
            body.drop_content();
            self.lease.resize(self.named);
            self.spoilt = Some(answer::NO_ROOM);
        }
        self.until = now + self.room.rules().limits.body;
        if came == Came::Whole
            && let State::Body(body) = std::mem::replace(&mut self.state, State::Command)
        {
            let message = match self.spoilt.take() {
                Some(spoilt) => Err(spoilt),
                None => body.finish().ok_or(answer::TOO_LARGE),
            };
            self.whole(message, false, now, out);
        }
        taken
    }

    /// Lets a rule of `--fault` interfere with the body itself.
    fn begin_body(&mut self, now: Moment, out: &mut Actions<Fact<M::Kept>>) {
        let action = self.decide_at(Place::Body, out);
        match action.refusal() {
            // Who is told so in the middle of a message does not stop sending: the line is closed too.
            Some(refusal) => {
                self.forget();
                self.after = After::Close;
                self.judged(Some(Stage::Body), "", refusal.clone(), &action, now, out);
            }
            None if action == FaultAction::default() => {}
            None => self.say_nothing(&action, now, out),
        }
    }

    /// BDAT: its octets follow whatever is answered to it (RFC 3030 §2).
    pub(super) fn bdat(&mut self, octets: u64, is_last: bool, now: Moment, out: &mut Actions<Fact<M::Kept>>) {
        let refusal = match () {
            () if self.hides("CHUNKING") || !self.is_extended => Some(answer::NOT_OFFERED),
            () if self.sender.is_none() => Some(answer::MAIL_FIRST),
            () if self.recipients.is_empty() => Some(answer::RCPT_FIRST),
            () if (self.chunks.len() as u64).saturating_add(octets) > self.room.rules().max_size as u64 => {
                Some(answer::TOO_LARGE)
            }
            () => None,
        };
        if let Some(refusal) = refusal {
            self.spoil(refusal);
        }
        self.state = State::Chunk { left: octets, is_last };
        self.until = now + self.room.rules().limits.body;
        if octets == 0 {
            self.chunk(&[], now, out);
        }
    }

    /// Takes what came of a chunk.
    pub(super) fn chunk(&mut self, bytes: &[u8], now: Moment, out: &mut Actions<Fact<M::Kept>>) -> usize {
        let State::Chunk { left, is_last } = self.state else { return 0 };
        if !bytes.is_empty() && self.spoilt.is_none() && !std::mem::replace(&mut self.is_body_begun, true) {
            self.begin_body(now, out);
            if self.is_busy() || !matches!(self.state, State::Chunk { .. }) {
                return 0;
            }
        }
        let piece = bytes.get(..usize::try_from(left).unwrap_or(usize::MAX)).unwrap_or(bytes);
        let left = left - piece.len() as u64;
        self.until = now + self.room.rules().limits.body;
        if self.spoilt.is_none() {
            if self.lease.resize(self.named + self.chunks.len() + piece.len()) {
                self.chunks.extend_from_slice(piece);
            } else {
                self.spoil(answer::NO_ROOM);
            }
        }
        self.state = State::Chunk { left, is_last };
        if left > 0 {
            return piece.len();
        }
        self.state = State::Command;
        match (self.spoilt.clone(), is_last) {
            (Some(spoilt), false) => {
                if self.sender.is_none() {
                    self.spoilt = None;
                }
                self.respond(Some(Stage::Data), ("", "BDAT"), now, out, |_| spoilt);
            }
            (Some(spoilt), true) => self.whole(Err(spoilt), true, now, out),
            (None, false) => {
                let action = self.decide(Some(Stage::Data), "", out);
                let took = Answer::new(250, format!("2.0.0 {} octets so far", self.chunks.len()));
                let answer = action.refusal().cloned().unwrap_or(took);
                if answer.is_refusal() {
                    // After a chunk that failed only RSET is good (RFC 3030 §4.2).
                    self.spoil(answer::SPOILT);
                }
                self.judged(Some(Stage::Data), "BDAT", answer, &action, now, out);
            }
            (None, true) => {
                let message = std::mem::take(&mut self.chunks);
                self.whole(Ok(message), true, now, out);
            }
        }
        piece.len()
    }

    /// Nothing will come of the chunks: what came of them is not kept.
    fn spoil(&mut self, why: Answer) {
        self.spoilt.get_or_insert(why);
        self.chunks = Vec::new();
        self.lease.resize(self.named);
    }

    /// A message has come to its end.
    fn whole(
        &mut self,
        message: Result<Vec<u8>, Answer>,
        is_chunked: bool,
        now: Moment,
        out: &mut Actions<Fact<M::Kept>>,
    ) {
        let sender = self.sender.take().unwrap_or_default();
        let whose = sender.address().to_owned();
        let is_open = self.room.is_open();
        let action = if is_open { self.decide(Some(Stage::Dot), &whose, out) } else { FaultAction::default() };
        let message = match action.refusal() {
            _ if !is_open => Err(answer::ENOUGH),
            Some(refusal) => Err(refusal.clone()),
            None => message,
        };
        let recipients = std::mem::take(&mut self.recipients);
        let lease = std::mem::replace(&mut self.lease, Lease::new(&self.room.rules().allowance));
        self.forget();
        let message = match message {
            Ok(message) => message,
            Err(answer) => return self.kept(Err(answer), now, &action, now, out),
        };
        let client = self.client.clone();
        let captured = Captured { client, sender, recipients, message, is_chunked, at: now, lease };
        match self.room.keep(captured) {
            Keep::Now(kept) => self.kept(kept, now, &action, now, out),
            Keep::Later(job) => {
                let kept = Arc::new(Mutex::new(None));
                let there = Arc::clone(&kept);
                out.run_job(Box::new(move || {
                    let kept = job();
                    *there.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept);
                }));
                self.work = Some(Work::Keep { kept, at: now, action });
            }
        }
    }

    /// It is kept, or not: now it is answered.
    pub(super) fn kept(
        &mut self,
        kept: Kept<M::Kept>,
        at: Moment,
        action: &FaultAction,
        now: Moment,
        out: &mut Actions<Fact<M::Kept>>,
    ) {
        let answer = match kept {
            Ok(kept) => {
                self.has_delivered = true;
                self.taken.push((kept, at));
                Answer::new(250, "2.0.0 taken")
            }
            Err(answer) => answer,
        };
        self.judged(Some(Stage::Dot), "", answer, action, now, out);
    }
}
