//! Mail transaction of a client session: MAIL, RCPT, DATA, final dot.
//!
//! Owns the outcome of each recipient: some may be rejected while the others receive the message (RFC 5321 §3.3).

use std::collections::VecDeque;
use std::sync::Arc;

use super::errors::{first_rejection, outcome_unknown, protocol_error, rejection, unsolicited_reply};
use super::parameters::{address_for_server, mail_parameters, rcpt_parameters};
use super::state::Transaction;
use super::{ClientSession, PendingReply, State, TransactionStep};
use crate::failure::Failure;
use crate::protocol::Violation;
use crate::smtp::client::config::{ClientEvent, ClientTurn, DeliveryOutcome};
use crate::smtp::dot_stuffing;
use crate::smtp::extensions::Extension;
use crate::smtp::reply::Reply;
use crate::smtp::stage::Stage;

const WRONG_DATA_REPLY: Violation =
    Violation::new("a positive reply to DATA other than 354", "354, or a negative reply", "RFC 5321 §4.3.2");

impl ClientSession {
    pub(super) fn start_transaction(&mut self, turn: &mut ClientTurn<'_>) {
        if let Some(envelope) =
            self.config.envelope.as_mut().filter(|_| !self.hello.extensions.supports(Extension::EightBitMime))
            && let Some(ascii) = envelope.ascii_message.take()
        {
            // RFC 6152 §3.
            envelope.message = ascii;
            turn.actions
                .emit(ClientEvent::Warning("message re-encoded: the server accepts no bytes above 127 (no 8BITMIME)"));
        }
        let Some(envelope) = self.config.envelope.clone() else { return self.send_quit(turn) };
        let parameters = match mail_parameters(&self.hello.extensions, &envelope, &self.config.requested_extensions) {
            Ok(parameters) => parameters,
            Err(error) => return self.fail(error, true, turn),
        };
        self.delivery.is_decided = false;
        for recipient in &mut self.delivery.recipients {
            (recipient.outcome, recipient.reply) = (None, None);
        }
        let transaction = Transaction {
            step: TransactionStep::Mail,
            pending_replies: VecDeque::from([PendingReply::Mail]),
            mail_rejection: None,
            started: turn.now,
        };
        self.enter(State::Transaction(transaction), turn);
        let from = envelope
            .from
            .as_ref()
            .map(|from| address_for_server(&self.hello.extensions, from).to_string())
            .unwrap_or_default();
        self.send_command(&format!("MAIL FROM:<{from}>{parameters}"), turn);
        // Pipelining: several commands in one write, one reply each (RFC 2920 §3.1).
        if self.hello.extensions.supports(Extension::Pipelining) && !self.stops_after(Stage::Mail) {
            for index in 0..self.delivery.recipients.len() {
                self.send_rcpt(index, turn);
            }
        }
    }

    fn send_rcpt(&mut self, index: usize, turn: &mut ClientTurn<'_>) {
        let Some(recipient) = self.delivery.recipients.get(index) else { return };
        let mailbox = address_for_server(&self.hello.extensions, &recipient.mailbox);
        let line = format!("RCPT TO:<{mailbox}>{}", rcpt_parameters(&mailbox, &self.config.requested_extensions));
        self.send_command(&line, turn);
        if let Some(transaction) = self.state.transaction_mut() {
            transaction.pending_replies.push_back(PendingReply::Rcpt(index));
        }
    }

    /// Assigns a reply to the oldest outstanding command and records the outcome of a recipient.
    pub(super) fn record_reply(&mut self, reply: &Reply) -> Option<PendingReply> {
        let pending = self.state.transaction_mut()?.pending_replies.pop_front()?;
        if let PendingReply::Rcpt(index) = pending
            && let Some(recipient) = self.delivery.recipients.get_mut(index)
        {
            recipient.outcome = Some(match reply {
                reply if reply.is_positive() => DeliveryOutcome::Accepted,
                reply if reply.is_transient() => DeliveryOutcome::Deferred,
                _ => DeliveryOutcome::Rejected,
            });
            recipient.reply = Some(reply.clone());
        }
        Some(pending)
    }

    pub(super) fn on_envelope_reply(&mut self, reply: &Reply, turn: &mut ClientTurn<'_>) {
        self.start_reply_timeout(turn.now);
        let pending = self.record_reply(reply);
        let stage = self.state.stage();
        let Some(transaction) = self.state.transaction_mut() else { return };
        let is_last = transaction.pending_replies.is_empty();
        match pending {
            Some(PendingReply::Mail) if reply.is_positive() => {
                if self.stops_after(Stage::Mail) {
                    return self.send_quit(turn);
                }
                self.enter_step(TransactionStep::Rcpt, turn);
                if is_last {
                    return self.send_rcpt(0, turn);
                }
            }
            // Pipelined RCPT commands still get their replies; none of them counts.
            Some(PendingReply::Mail) => {
                transaction.mail_rejection = Some(reply.clone());
                self.failed_stage = Some(Stage::Mail);
            }
            Some(PendingReply::Rcpt(index)) if is_last && transaction.mail_rejection.is_none() => {
                if index + 1 < self.delivery.recipients.len() {
                    return self.send_rcpt(index + 1, turn);
                }
            }
            Some(PendingReply::Rcpt(_)) => {}
            None => return self.fail(unsolicited_reply(stage, &reply.to_string()), false, turn),
        }
        if is_last {
            self.on_all_recipients_answered(turn);
        }
    }

    /// Continues once every recipient has a reply.
    fn on_all_recipients_answered(&mut self, turn: &mut ClientTurn<'_>) {
        if let Some(reply) = self.state.transaction_mut().and_then(|transaction| transaction.mail_rejection.clone()) {
            return self.fail_with_reply(&reply, rejection(Stage::Mail, &reply), true, turn);
        }
        let accepted = self
            .delivery
            .recipients
            .iter()
            .filter(|recipient| recipient.outcome == Some(DeliveryOutcome::Accepted))
            .count();
        if accepted == 0 || (self.config.all_or_nothing && accepted < self.delivery.recipients.len()) {
            let is_rejected =
                self.delivery.recipients.iter().any(|recipient| recipient.outcome == Some(DeliveryOutcome::Rejected));
            if self.config.all_or_nothing && is_rejected {
                // A retry would be rejected again, so the run ends here.
                self.failure = first_rejection(&self.delivery.recipients);
                self.failed_stage = Some(Stage::Rcpt);
            }
            return self.stop_without_message(turn);
        }
        if self.stops_after(Stage::Rcpt) {
            return self.stop_without_message(turn);
        }
        if self.config.requested_extensions.wants(Extension::Chunking) {
            return self.send_bdat(turn);
        }
        self.enter_step(TransactionStep::Data, turn);
        self.send_command("DATA", turn);
    }

    /// Ends the transaction before DATA; accepted recipients receive nothing.
    fn stop_without_message(&mut self, turn: &mut ClientTurn<'_>) {
        self.clear_accepted();
        self.send_quit(turn);
    }

    fn clear_accepted(&mut self) {
        for recipient in &mut self.delivery.recipients {
            recipient.outcome = recipient.outcome.filter(|outcome| *outcome != DeliveryOutcome::Accepted);
        }
    }

    /// Sends the message as one last chunk, which needs no 354 (RFC 3030).
    fn send_bdat(&mut self, turn: &mut ClientTurn<'_>) {
        if self.stops_after(Stage::Data) {
            return self.stop_without_message(turn);
        }
        let Some(envelope) = &self.config.envelope else { return };
        let message = Arc::clone(&envelope.message);
        self.enter_step(TransactionStep::Body, turn);
        let length = dot_stuffing::canonical_size(&message);
        self.send_command(&format!("BDAT {length} LAST"), turn);
        turn.actions.send_with(|buffer| dot_stuffing::canonicalize(&message, buffer));
        self.deadline = None;
        turn.actions.emit(ClientEvent::MessageStarted(length));
    }

    pub(super) fn on_data_reply(&mut self, reply: &Reply, turn: &mut ClientTurn<'_>) {
        if reply.code != 354 {
            let error = if reply.is_positive() {
                protocol_error(WRONG_DATA_REPLY, &reply.to_string())
            } else {
                rejection(Stage::Data, reply)
            };
            // After another positive reply the server may take QUIT as a line of the message.
            return self.fail_with_reply(reply, error, !reply.is_positive(), turn);
        }
        if self.stops_after(Stage::Data) {
            // A dot alone would send an empty message; only closing the connection leaves nothing behind.
            self.clear_accepted();
            self.finish(turn);
            return turn.actions.reset();
        }
        let Some(envelope) = &self.config.envelope else { return };
        let message = Arc::clone(&envelope.message);
        self.enter_step(TransactionStep::Body, turn);
        // From here on the stall timeout of the connection applies.
        self.deadline = None;
        let length = turn.actions.send_with(|buffer| {
            let start = buffer.len();
            dot_stuffing::dot_stuff(&message, buffer);
            buffer.len() - start
        });
        turn.actions.emit(ClientEvent::MessageStarted(length));
    }

    pub(super) fn on_final_dot_reply(&mut self, reply: &Reply, turn: &mut ClientTurn<'_>) {
        let (outcome, error) = match reply {
            reply if reply.is_positive() => (DeliveryOutcome::Accepted, None),
            reply if reply.is_transient() => (DeliveryOutcome::Deferred, Some(rejection(Stage::Dot, reply))),
            // Neither positive nor negative: the outcome is unknown.
            reply if reply.code < 400 => {
                (DeliveryOutcome::Unknown, Some(outcome_unknown(&rejection(Stage::Dot, reply))))
            }
            reply => (DeliveryOutcome::Rejected, Some(rejection(Stage::Dot, reply))),
        };
        for recipient in
            self.delivery.recipients.iter_mut().filter(|known| known.outcome == Some(DeliveryOutcome::Accepted))
        {
            recipient.outcome = Some(outcome);
            recipient.reply = Some(reply.clone());
        }
        self.finish_transaction(error, turn);
    }

    /// Reports the transaction and starts the next one when it is due.
    fn finish_transaction(&mut self, error: Option<Failure>, turn: &mut ClientTurn<'_>) {
        let Some(transaction) = self.state.transaction_mut() else { return };
        let due = transaction.started + self.config.min_interval;
        self.enter(State::Idle, turn);
        let failure = error.as_ref().map(Failure::without_source);
        turn.actions.emit(ClientEvent::TransactionFinished { failure, recipients: self.delivery.recipients.clone() });
        self.delivery.is_decided = true;
        self.delivery.transactions_left = self.delivery.transactions_left.saturating_sub(1);
        if self.delivery.transactions_left == 0 {
            self.failed_stage = error.as_ref().map(|_| Stage::Dot);
            self.failure = error;
            self.send_quit(turn);
        } else if due <= turn.now {
            self.start_transaction(turn);
        } else {
            self.deadline = Some(due);
        }
    }
}
