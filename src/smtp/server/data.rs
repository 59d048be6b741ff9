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
use super::state::{Chunk, Transaction, TransactionInput};
use super::{Accept, AcceptResult, AfterReply, MessageSink, PendingJob, ReceivedMessage, ServerSession, State};
use crate::time::Moment;

impl<M: MessageSink> ServerSession<M> {
    /// Consumes content of DATA, up to and including the final dot.
    pub(super) fn receive_body(&mut self, bytes: &[u8], turn: &mut ServerTurn<'_, M>) -> usize {
        if self.begins_body() {
            // Nothing is consumed yet: if the reply is paced, the same bytes are offered again later.
            self.start_body(turn);
            if self.is_busy() {
                return 0;
            }
        }
        self.deadlines.next = turn.now + self.sink.config().timeouts.body;
        let State::Transaction(transaction) = &mut self.state else { return 0 };
        let TransactionInput::Body(body) = &mut transaction.input else { return 0 };
        let (consumed, status) = body.receive(bytes);
        if !transaction.reservation.resize(transaction.recipients_size + body.buffered()) {
            body.discard_content();
            transaction.reservation.resize(transaction.recipients_size);
            transaction.rejection = Some(replies::INSUFFICIENT_STORAGE);
        }
        if status == DataStatus::Complete
            && let TransactionInput::Body(body) = std::mem::replace(&mut transaction.input, TransactionInput::Command)
        {
            let message = match transaction.rejection.take() {
                Some(rejection) => Err(rejection),
                None => body.finish().ok_or(replies::MESSAGE_TOO_LARGE),
            };
            self.finish_message(message, false, turn);
        }
        consumed
    }

    /// Returns whether the next byte is the first of a body that is not rejected; true once per message.
    fn begins_body(&mut self) -> bool {
        self.transaction_mut().is_some_and(|transaction| {
            transaction.rejection.is_none() && !std::mem::replace(&mut transaction.has_body_started, true)
        })
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
        let is_offered = self.greeting.is_extended && !self.is_hidden("CHUNKING");
        let max_size = self.sink.config().max_size as u64;
        let chunk = Chunk { remaining: size, is_last };
        if let State::Transaction(transaction) = &mut self.state {
            let rejection = match () {
                () if !is_offered => Some(replies::NOT_OFFERED),
                () if transaction.recipients.is_empty() => Some(replies::RCPT_REQUIRED),
                () if (transaction.chunks.len() as u64).saturating_add(size) > max_size => {
                    Some(replies::MESSAGE_TOO_LARGE)
                }
                () => None,
            };
            if let Some(rejection) = rejection {
                transaction.reject_chunks(rejection);
            }
            transaction.input = TransactionInput::Chunk(chunk);
        } else {
            let rejection = if is_offered { self.no_transaction_reply() } else { replies::NOT_OFFERED };
            self.state = State::RejectedChunk(chunk, rejection);
        }
        self.deadlines.next = turn.now + self.sink.config().timeouts.body;
        if size == 0 {
            self.receive_chunk(&[], turn);
        }
    }

    /// Consumes content of a BDAT chunk.
    pub(super) fn receive_chunk(&mut self, bytes: &[u8], turn: &mut ServerTurn<'_, M>) -> usize {
        if !bytes.is_empty() && self.begins_body() {
            self.start_body(turn);
            if self.is_busy() {
                return 0;
            }
        }
        self.deadlines.next = turn.now + self.sink.config().timeouts.body;
        let (taken, chunk) = match &mut self.state {
            State::RejectedChunk(chunk, _) => (chunk.take(bytes).len(), *chunk),
            State::Transaction(transaction) => {
                let TransactionInput::Chunk(chunk) = &mut transaction.input else { return 0 };
                let piece = chunk.take(bytes);
                let chunk = *chunk;
                transaction.add_content(piece);
                (piece.len(), chunk)
            }
            _ => return 0,
        };
        if chunk.remaining == 0 {
            self.finish_chunk(chunk.is_last, turn);
        }
        taken
    }

    /// Replies to a BDAT command once its content is received.
    fn finish_chunk(&mut self, is_last: bool, turn: &mut ServerTurn<'_, M>) {
        let State::Transaction(transaction) = &mut self.state else {
            if let State::RejectedChunk(_, rejection) = std::mem::replace(&mut self.state, State::Ready) {
                self.respond(Some(Stage::Data), ("", "BDAT"), turn, |_| rejection);
            }
            return;
        };
        transaction.input = TransactionInput::Command;
        match (transaction.rejection.clone(), is_last) {
            (Some(rejection), false) => self.respond(Some(Stage::Data), ("", "BDAT"), turn, |_| rejection),
            (Some(rejection), true) => self.finish_message(Err(rejection), true, turn),
            (None, false) => {
                let received = ServerReply::new(250, format!("2.0.0 {} octets received", transaction.chunks.len()));
                let action = self.evaluate_reply(Some(Stage::Data), "", turn);
                let reply = action.negative_reply().cloned().unwrap_or(received);
                if reply.is_negative()
                    && let Some(transaction) = self.transaction_mut()
                {
                    // After a failed chunk only RSET is accepted (RFC 3030 §4.2).
                    transaction.reject_chunks(replies::CHUNK_REJECTED);
                }
                self.finish_reply(Some(Stage::Data), "BDAT", reply, &action, turn);
            }
            (None, true) => {
                let message = std::mem::take(&mut transaction.chunks);
                self.finish_message(Ok(message), true, turn);
            }
        }
    }

    /// Evaluates the fault rules for a complete message and passes it to the sink.
    fn finish_message(
        &mut self,
        message: Result<Vec<u8>, ServerReply>,
        is_chunked: bool,
        turn: &mut ServerTurn<'_, M>,
    ) {
        let State::Transaction(transaction) = std::mem::replace(&mut self.state, State::Ready) else { return };
        let Transaction { sender, recipients, reservation, .. } = *transaction;
        let address = sender.address().to_owned();
        let is_open = self.sink.is_open();
        let action =
            if is_open { self.evaluate_reply(Some(Stage::Dot), &address, turn) } else { FaultAction::default() };
        let message = match action.negative_reply() {
            _ if !is_open => Err(replies::MESSAGE_LIMIT_REACHED),
            Some(rejection) => Err(rejection.clone()),
            None => message,
        };
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
