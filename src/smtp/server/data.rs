//! Receiving a message: DATA up to the final dot or BDAT chunks, then storage in the sink.
//!
//! Owns the content of DATA, BDAT (RFC 3030), the limits of both, and the acknowledgement: a message is
//! acknowledged only after it is stored.

use std::sync::{Arc, Mutex, PoisonError};

use super::super::stage::Stage;
use super::config::ServerTurn;
use super::data_decoder::DataStatus;
use super::policy::{Policy, Verdict};
use super::replies::{self, ServerReply};
use super::state::{Chunk, PendingJob, Response, Transaction, TransactionInput};
use super::{Accept, AcceptResult, AfterReply, MessageSink, ReceivedMessage, ServerSession, State};
use crate::time::Moment;

impl<M: MessageSink, P: Policy<M>> ServerSession<M, P> {
    /// Returns true once per message: the next byte is the first of its content, and the message is not rejected.
    pub(super) fn begins_content(&mut self) -> bool {
        let Some(transaction) = self.transaction_mut() else { return false };
        !matches!(transaction.input, TransactionInput::Command)
            && transaction.rejection.is_none()
            && !std::mem::replace(&mut transaction.has_begun_content, true)
    }

    /// Rejects the message whose content the client is sending. The client keeps sending, so the connection is
    /// closed.
    pub(super) fn reject_content(&mut self, reply: ServerReply, turn: &mut ServerTurn<'_, M>) -> Response<M::Stored> {
        self.reset_transaction();
        self.after_reply = AfterReply::Close;
        let verdict = Verdict::Reject(reply.clone());
        self.finish_reply(Some(Stage::Body), "", reply, &verdict, turn)
    }

    /// Consumes content of DATA, up to and including the final dot.
    pub(super) fn receive_body(
        &mut self,
        bytes: &[u8],
        turn: &mut ServerTurn<'_, M>,
    ) -> (usize, Option<Response<M::Stored>>) {
        self.deadlines.next = turn.now + self.sink.config().timeouts.body;
        let State::Transaction(transaction) = &mut self.state else { return (0, None) };
        let TransactionInput::Body(body) = &mut transaction.input else { return (0, None) };
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
            return (consumed, self.finish_message(message, false, turn));
        }
        (consumed, None)
    }

    /// Runs BDAT. The chunk's content follows whatever the reply is (RFC 3030 §2).
    pub(super) fn run_bdat(
        &mut self,
        size: u64,
        is_last: bool,
        turn: &mut ServerTurn<'_, M>,
    ) -> Option<Response<M::Stored>> {
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
        if size == 0 { self.finish_chunk(is_last, turn) } else { None }
    }

    /// Consumes content of a BDAT chunk.
    pub(super) fn receive_chunk(
        &mut self,
        bytes: &[u8],
        turn: &mut ServerTurn<'_, M>,
    ) -> (usize, Option<Response<M::Stored>>) {
        self.deadlines.next = turn.now + self.sink.config().timeouts.body;
        let (taken, chunk) = match &mut self.state {
            State::RejectedChunk(chunk, _) => (chunk.take(bytes).len(), *chunk),
            State::Transaction(transaction) => {
                let TransactionInput::Chunk(chunk) = &mut transaction.input else { return (0, None) };
                let piece = chunk.take(bytes);
                let chunk = *chunk;
                transaction.add_content(piece);
                (piece.len(), chunk)
            }
            _ => return (0, None),
        };
        (taken, if chunk.remaining == 0 { self.finish_chunk(chunk.is_last, turn) } else { None })
    }

    /// Replies to a BDAT command once its content is received.
    fn finish_chunk(&mut self, is_last: bool, turn: &mut ServerTurn<'_, M>) -> Option<Response<M::Stored>> {
        let State::Transaction(transaction) = &mut self.state else {
            let State::RejectedChunk(_, rejection) = std::mem::replace(&mut self.state, State::Ready) else {
                return None;
            };
            return Some(self.respond(Some(Stage::Data), ("", "BDAT"), turn, |_| rejection));
        };
        transaction.input = TransactionInput::Command;
        match (transaction.rejection.clone(), is_last) {
            (Some(rejection), false) => Some(self.respond(Some(Stage::Data), ("", "BDAT"), turn, |_| rejection)),
            (Some(rejection), true) => self.finish_message(Err(rejection), true, turn),
            (None, false) => {
                let received = ServerReply::new(250, format!("2.0.0 {} octets received", transaction.chunks.len()));
                let response = self.respond(Some(Stage::Data), ("", "BDAT"), turn, |_| received);
                if response.reply.is_negative()
                    && let Some(transaction) = self.transaction_mut()
                {
                    // After a failed chunk only RSET is accepted (RFC 3030 §4.2).
                    transaction.reject_chunks(replies::CHUNK_REJECTED);
                }
                Some(response)
            }
            (None, true) => {
                let message = std::mem::take(&mut transaction.chunks);
                self.finish_message(Ok(message), true, turn)
            }
        }
    }

    /// Asks the policy about a complete message and passes it to the sink.
    fn finish_message(
        &mut self,
        message: Result<Vec<u8>, ServerReply>,
        is_chunked: bool,
        turn: &mut ServerTurn<'_, M>,
    ) -> Option<Response<M::Stored>> {
        let State::Transaction(transaction) = std::mem::replace(&mut self.state, State::Ready) else { return None };
        let Transaction { sender, recipients, reservation, .. } = *transaction;
        let address = sender.address().to_owned();
        let (verdict, message) = if self.sink.is_open() {
            let verdict = self.policy.verdict(Some(Stage::Dot), &address, turn);
            let message = verdict.rejection().map_or(message, |rejection| Err(rejection.clone()));
            (verdict, message)
        } else {
            (Verdict::Execute, Err(replies::MESSAGE_LIMIT_REACHED))
        };
        let received_at = turn.now;
        let message = match message {
            Ok(message) => message,
            Err(reply) => return Some(self.message_stored(Err(reply), received_at, &verdict, turn)),
        };
        let client = self.client.clone();
        let message = ReceivedMessage { client, sender, recipients, message, is_chunked, received_at, reservation };
        match self.sink.accept(message) {
            Accept::Now(result) => Some(self.message_stored(result, received_at, &verdict, turn)),
            Accept::Later(job) => {
                let result = Arc::new(Mutex::new(None));
                let job_result = Arc::clone(&result);
                turn.actions.run_job(Box::new(move || {
                    let result = job();
                    *job_result.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
                }));
                self.pending_job = Some(PendingJob::Store { result, received_at, verdict });
                None
            }
        }
    }

    /// Replies to the final dot or the last chunk once the message is stored or rejected.
    pub(super) fn message_stored(
        &mut self,
        result: AcceptResult<M::Stored>,
        received_at: Moment,
        verdict: &Verdict,
        turn: &mut ServerTurn<'_, M>,
    ) -> Response<M::Stored> {
        let (reply, stored) = match result {
            Ok(stored) => (ServerReply::new(250, "2.0.0 message accepted"), Some((stored, received_at))),
            Err(reply) => (reply, None),
        };
        self.shutdown.has_delivered |= stored.is_some();
        let response = self.finish_reply(Some(Stage::Dot), "", reply, verdict, turn);
        Response { stored, ..response }
    }
}
