//! Receiving a message: DATA up to the final dot or BDAT chunks, then storage in the sink.
//!
//! Owns the content of DATA, BDAT (RFC 3030), the limits of both, and the acknowledgement: a message is
//! acknowledged only after it is stored.

use std::sync::{Arc, Mutex, PoisonError};

use super::super::stage::Stage;
use super::config::ServerTurn;
use super::data_decoder::DataStatus;
use super::fault::{FaultAction, FaultPoint};
use super::replies::{self, ServerReply};
use super::{
    Accept, AcceptResult, AfterReply, MessageSink, PendingJob, ReceivedMessage, Reservation, ServerSession, State,
    Transaction,
};
use crate::time::Moment;

impl<M: MessageSink> ServerSession<M> {
    /// Consumes content of DATA, up to and including the final dot.
    pub(super) fn receive_body(&mut self, bytes: &[u8], turn: &mut ServerTurn<'_, M>) -> usize {
        if !std::mem::replace(&mut self.transaction.has_body_started, true) {
            // Nothing is consumed yet: if the reply is paced, the same bytes are offered again later.
            self.start_body(turn);
            if self.is_busy() {
                return 0;
            }
        }
        let State::Body(body) = &mut self.state else { return 0 };
        let (consumed, status) = body.receive(bytes);
        if !self.transaction.reservation.resize(self.transaction.recipients_size + body.buffered()) {
            body.discard_content();
            self.transaction.reservation.resize(self.transaction.recipients_size);
            self.transaction.rejection = Some(replies::INSUFFICIENT_STORAGE);
        }
        self.deadlines.next = turn.now + self.sink.config().timeouts.body;
        if status == DataStatus::Complete
            && let State::Body(body) = std::mem::replace(&mut self.state, State::Command)
        {
            let message = match self.transaction.rejection.take() {
                Some(rejection) => Err(rejection),
                None => body.finish().ok_or(replies::MESSAGE_TOO_LARGE),
            };
            self.finish_message(message, false, turn);
        }
        consumed
    }

    /// Applies the fault rules at the start of a body.
    fn start_body(&mut self, turn: &mut ServerTurn<'_, M>) {
        let action = self.evaluate_at(FaultPoint::Body, turn);
        match action.negative_reply() {
            // A client rejected in the middle of a message keeps sending, so the connection is closed too.
            Some(rejection) => {
                self.reset_transaction();
                self.output.after_reply = AfterReply::Close;
                self.finish_reply(Some(Stage::Body), "", rejection.clone(), &action, turn);
            }
            None if action == FaultAction::default() => {}
            None => self.send_no_reply(&action, turn),
        }
    }

    /// Runs BDAT. The chunk's content follows whatever the reply is (RFC 3030 §2).
    pub(super) fn run_bdat(&mut self, size: u64, is_last: bool, turn: &mut ServerTurn<'_, M>) {
        let rejection = match () {
            () if self.is_hidden("CHUNKING") || !self.greeting.is_extended => Some(replies::NOT_OFFERED),
            () if self.transaction.sender.is_none() => Some(self.no_transaction_reply()),
            () if self.transaction.recipients.is_empty() => Some(replies::RCPT_REQUIRED),
            () if (self.transaction.chunks.len() as u64).saturating_add(size) > self.sink.config().max_size as u64 => {
                Some(replies::MESSAGE_TOO_LARGE)
            }
            () => None,
        };
        if let Some(rejection) = rejection {
            self.reject_chunks(rejection);
        }
        self.state = State::Chunk { remaining: size, is_last };
        self.deadlines.next = turn.now + self.sink.config().timeouts.body;
        if size == 0 {
            self.receive_chunk(&[], turn);
        }
    }

    /// Consumes content of a BDAT chunk.
    pub(super) fn receive_chunk(&mut self, bytes: &[u8], turn: &mut ServerTurn<'_, M>) -> usize {
        let State::Chunk { remaining, is_last } = self.state else { return 0 };
        if !bytes.is_empty()
            && self.transaction.rejection.is_none()
            && !std::mem::replace(&mut self.transaction.has_body_started, true)
        {
            self.start_body(turn);
            if self.is_busy() || !matches!(self.state, State::Chunk { .. }) {
                return 0;
            }
        }
        let piece = bytes.get(..usize::try_from(remaining).unwrap_or(usize::MAX)).unwrap_or(bytes);
        let remaining = remaining - piece.len() as u64;
        self.deadlines.next = turn.now + self.sink.config().timeouts.body;
        if self.transaction.rejection.is_none() {
            if self
                .transaction
                .reservation
                .resize(self.transaction.recipients_size + self.transaction.chunks.len() + piece.len())
            {
                self.transaction.chunks.extend_from_slice(piece);
            } else {
                self.reject_chunks(replies::INSUFFICIENT_STORAGE);
            }
        }
        self.state = State::Chunk { remaining, is_last };
        if remaining > 0 {
            return piece.len();
        }
        self.state = State::Command;
        match (self.transaction.rejection.clone(), is_last) {
            (Some(rejection), false) => {
                if self.transaction.sender.is_none() {
                    self.transaction.rejection = None;
                }
                self.respond(Some(Stage::Data), ("", "BDAT"), turn, |_| rejection);
            }
            (Some(rejection), true) => self.finish_message(Err(rejection), true, turn),
            (None, false) => {
                let action = self.evaluate_reply(Some(Stage::Data), "", turn);
                let received =
                    ServerReply::new(250, format!("2.0.0 {} octets received", self.transaction.chunks.len()));
                let reply = action.negative_reply().cloned().unwrap_or(received);
                if reply.is_negative() {
                    // After a failed chunk only RSET is accepted (RFC 3030 §4.2).
                    self.reject_chunks(replies::CHUNK_REJECTED);
                }
                self.finish_reply(Some(Stage::Data), "BDAT", reply, &action, turn);
            }
            (None, true) => {
                let message = std::mem::take(&mut self.transaction.chunks);
                self.finish_message(Ok(message), true, turn);
            }
        }
        piece.len()
    }

    /// Rejects this and all further chunks of the message and frees those received.
    fn reject_chunks(&mut self, reply: ServerReply) {
        self.transaction.rejection.get_or_insert(reply);
        self.transaction.chunks = Vec::new();
        self.transaction.reservation.resize(self.transaction.recipients_size);
    }

    /// Evaluates the fault rules for a complete message and passes it to the sink.
    fn finish_message(
        &mut self,
        message: Result<Vec<u8>, ServerReply>,
        is_chunked: bool,
        turn: &mut ServerTurn<'_, M>,
    ) {
        let sender = self.transaction.sender.take().unwrap_or_default();
        let address = sender.address().to_owned();
        let is_open = self.sink.is_open();
        let action =
            if is_open { self.evaluate_reply(Some(Stage::Dot), &address, turn) } else { FaultAction::default() };
        let message = match action.negative_reply() {
            _ if !is_open => Err(replies::MESSAGE_LIMIT_REACHED),
            Some(rejection) => Err(rejection.clone()),
            None => message,
        };
        let fresh = Transaction::new(Reservation::new(&self.sink.config().memory_budget));
        let Transaction { recipients, reservation, .. } = std::mem::replace(&mut self.transaction, fresh);
        let message = match message {
            Ok(message) => message,
            Err(reply) => return self.message_stored(Err(reply), turn.now, &action, turn),
        };
        let client = self.client.clone();
        let message =
            ReceivedMessage { client, sender, recipients, message, is_chunked, received_at: turn.now, reservation };
        match self.sink.accept(message) {
            Accept::Now(result) => self.message_stored(result, turn.now, &action, turn),
            Accept::Later(job) => {
                let result = Arc::new(Mutex::new(None));
                let job_result = Arc::clone(&result);
                turn.actions.run_job(Box::new(move || {
                    let result = job();
                    *job_result.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
                }));
                self.pending_job = Some(PendingJob::Store { result, received_at: turn.now, action });
            }
        }
    }

    /// Replies to the final dot or the last chunk once the message is stored or rejected.
    pub(super) fn message_stored(
        &mut self,
        result: AcceptResult<M::Stored>,
        received_at: Moment,
        action: &FaultAction,
        turn: &mut ServerTurn<'_, M>,
    ) {
        let reply = match result {
            Ok(stored) => {
                self.has_delivered = true;
                self.output.unacknowledged.push((stored, received_at));
                ServerReply::new(250, "2.0.0 message accepted")
            }
            Err(reply) => reply,
        };
        self.finish_reply(Some(Stage::Dot), "", reply, action, turn);
    }
}
