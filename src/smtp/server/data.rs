//! The message: as lines up to a dot, or in chunks, and then into the mailroom.
//!
//! Owns DATA's content, BDAT (RFC 3030), the limits of both, and the moment at which a mail is
//! acknowledged: not before it is kept.

use std::sync::{Arc, Mutex, PoisonError};

use super::super::stage::Stage;
use super::body::DataStatus;
use super::fault::{FaultAction, FaultPoint};
use super::replies::{self, ServerReply};
use super::{
    Accept, AcceptResult, AfterReply, MessageSink, PendingJob, ReceivedMessage, Reservation, ServerEvent,
    ServerSession, State,
};
use crate::protocol::Actions;
use crate::time::Moment;

impl<M: MessageSink> ServerSession<M> {
    /// Takes what came of a message that ends in a dot.
    pub(super) fn receive_body(
        &mut self,
        bytes: &[u8],
        now: Moment,
        actions: &mut Actions<ServerEvent<M::Stored>>,
    ) -> usize {
        if !std::mem::replace(&mut self.has_body_started, true) {
            // Whatever is done now, these octets are offered again, unless the line is closed.
            self.start_body(now, actions);
            if self.is_busy() {
                return 0;
            }
        }
        let State::Body(body) = &mut self.state else { return 0 };
        let (taken, came) = body.receive(bytes);
        if !self.reservation.resize(self.recipients_size + body.buffered()) {
            body.discard_content();
            self.reservation.resize(self.recipients_size);
            self.message_rejection = Some(replies::INSUFFICIENT_STORAGE);
        }
        self.deadline = now + self.sink.config().timeouts.body;
        if came == DataStatus::Complete
            && let State::Body(body) = std::mem::replace(&mut self.state, State::Command)
        {
            let message = match self.message_rejection.take() {
                Some(spoilt) => Err(spoilt),
                None => body.finish().ok_or(replies::MESSAGE_TOO_LARGE),
            };
            self.finish_message(message, false, now, actions);
        }
        taken
    }

    /// Lets a rule of `--fault` interfere with the body itself.
    fn start_body(&mut self, now: Moment, actions: &mut Actions<ServerEvent<M::Stored>>) {
        let action = self.evaluate_at(FaultPoint::Body, actions);
        match action.negative_reply() {
            // Who is told so in the middle of a message does not stop sending: the line is closed too.
            Some(refusal) => {
                self.reset_transaction();
                self.after_reply = AfterReply::Close;
                self.finish_reply(Some(Stage::Body), "", refusal.clone(), &action, now, actions);
            }
            None if action == FaultAction::default() => {}
            None => self.send_no_reply(&action, now, actions),
        }
    }

    /// BDAT: its octets follow whatever is answered to it (RFC 3030 §2).
    pub(super) fn run_bdat(
        &mut self,
        size: u64,
        is_last: bool,
        now: Moment,
        actions: &mut Actions<ServerEvent<M::Stored>>,
    ) {
        let refusal = match () {
            () if self.is_hidden("CHUNKING") || !self.is_extended => Some(replies::NOT_OFFERED),
            () if self.sender.is_none() => Some(replies::MAIL_REQUIRED),
            () if self.recipients.is_empty() => Some(replies::RCPT_REQUIRED),
            () if (self.chunks.len() as u64).saturating_add(size) > self.sink.config().max_size as u64 => {
                Some(replies::MESSAGE_TOO_LARGE)
            }
            () => None,
        };
        if let Some(refusal) = refusal {
            self.reject_chunks(refusal);
        }
        self.state = State::Chunk { remaining: size, is_last };
        self.deadline = now + self.sink.config().timeouts.body;
        if size == 0 {
            self.receive_chunk(&[], now, actions);
        }
    }

    /// Takes what came of a chunk.
    pub(super) fn receive_chunk(
        &mut self,
        bytes: &[u8],
        now: Moment,
        actions: &mut Actions<ServerEvent<M::Stored>>,
    ) -> usize {
        let State::Chunk { remaining: left, is_last } = self.state else { return 0 };
        if !bytes.is_empty() && self.message_rejection.is_none() && !std::mem::replace(&mut self.has_body_started, true)
        {
            self.start_body(now, actions);
            if self.is_busy() || !matches!(self.state, State::Chunk { .. }) {
                return 0;
            }
        }
        let piece = bytes.get(..usize::try_from(left).unwrap_or(usize::MAX)).unwrap_or(bytes);
        let left = left - piece.len() as u64;
        self.deadline = now + self.sink.config().timeouts.body;
        if self.message_rejection.is_none() {
            if self.reservation.resize(self.recipients_size + self.chunks.len() + piece.len()) {
                self.chunks.extend_from_slice(piece);
            } else {
                self.reject_chunks(replies::INSUFFICIENT_STORAGE);
            }
        }
        self.state = State::Chunk { remaining: left, is_last };
        if left > 0 {
            return piece.len();
        }
        self.state = State::Command;
        match (self.message_rejection.clone(), is_last) {
            (Some(spoilt), false) => {
                if self.sender.is_none() {
                    self.message_rejection = None;
                }
                self.respond(Some(Stage::Data), ("", "BDAT"), now, actions, |_| spoilt);
            }
            (Some(spoilt), true) => self.finish_message(Err(spoilt), true, now, actions),
            (None, false) => {
                let action = self.evaluate_reply(Some(Stage::Data), "", actions);
                let took = ServerReply::new(250, format!("2.0.0 {} octets so far", self.chunks.len()));
                let answer = action.negative_reply().cloned().unwrap_or(took);
                if answer.is_negative() {
                    // After a chunk that failed only RSET is good (RFC 3030 §4.2).
                    self.reject_chunks(replies::CHUNK_REJECTED);
                }
                self.finish_reply(Some(Stage::Data), "BDAT", answer, &action, now, actions);
            }
            (None, true) => {
                let message = std::mem::take(&mut self.chunks);
                self.finish_message(Ok(message), true, now, actions);
            }
        }
        piece.len()
    }

    /// Nothing will come of the chunks: what came of them is not kept.
    fn reject_chunks(&mut self, reply: ServerReply) {
        self.message_rejection.get_or_insert(reply);
        self.chunks = Vec::new();
        self.reservation.resize(self.recipients_size);
    }

    /// A message has come to its end.
    fn finish_message(
        &mut self,
        message: Result<Vec<u8>, ServerReply>,
        is_chunked: bool,
        now: Moment,
        actions: &mut Actions<ServerEvent<M::Stored>>,
    ) {
        let sender = self.sender.take().unwrap_or_default();
        let whose = sender.address().to_owned();
        let is_open = self.sink.is_open();
        let action =
            if is_open { self.evaluate_reply(Some(Stage::Dot), &whose, actions) } else { FaultAction::default() };
        let message = match action.negative_reply() {
            _ if !is_open => Err(replies::MESSAGE_LIMIT_REACHED),
            Some(refusal) => Err(refusal.clone()),
            None => message,
        };
        let recipients = std::mem::take(&mut self.recipients);
        let lease = std::mem::replace(&mut self.reservation, Reservation::new(&self.sink.config().memory_budget));
        self.reset_transaction();
        let message = match message {
            Ok(message) => message,
            Err(answer) => return self.message_stored(Err(answer), now, &action, now, actions),
        };
        let client = self.client.clone();
        let captured =
            ReceivedMessage { client, sender, recipients, message, is_chunked, received_at: now, reservation: lease };
        match self.sink.accept(captured) {
            Accept::Now(kept) => self.message_stored(kept, now, &action, now, actions),
            Accept::Later(job) => {
                let kept = Arc::new(Mutex::new(None));
                let there = Arc::clone(&kept);
                actions.run_job(Box::new(move || {
                    let kept = job();
                    *there.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept);
                }));
                self.pending_job = Some(PendingJob::Store { result: kept, received_at: now, action });
            }
        }
    }

    /// It is kept, or not: now it is answered.
    pub(super) fn message_stored(
        &mut self,
        result: AcceptResult<M::Stored>,
        received_at: Moment,
        action: &FaultAction,
        now: Moment,
        actions: &mut Actions<ServerEvent<M::Stored>>,
    ) {
        let answer = match result {
            Ok(kept) => {
                self.has_delivered = true;
                self.unacknowledged.push((kept, received_at));
                ServerReply::new(250, "2.0.0 taken")
            }
            Err(answer) => answer,
        };
        self.finish_reply(Some(Stage::Dot), "", answer, action, now, actions);
    }
}
