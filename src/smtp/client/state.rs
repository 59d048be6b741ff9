//! State of a client session: the dialogue, the transaction, and what earlier steps have found.

use std::collections::VecDeque;

use super::config::RecipientStatus;
use crate::mac::Secret;
use crate::smtp::auth::{Mechanism, SaslClient};
use crate::smtp::extensions::Extensions;
use crate::smtp::reply::Reply;
use crate::smtp::stage::Stage;
use crate::time::Moment;

/// State of the dialogue, named after the reply or event that is awaited.
pub(super) enum State {
    TlsHandshake,
    Greeting,
    Hello {
        /// HELO was sent, because the server does not know EHLO.
        is_helo: bool,
    },
    Starttls,
    Auth(SaslClient),
    Transaction(Transaction),
    /// Between two transactions.
    Idle,
    /// QUIT was sent.
    Closing,
    Finished {
        last_stage: Stage,
    },
}

/// Mail transaction, from MAIL to the reply to the final dot (RFC 5321 §3.3).
pub(super) struct Transaction {
    pub step: TransactionStep,
    /// Pipelined commands whose replies are outstanding.
    pub pending_replies: VecDeque<PendingReply>,
    /// Rejection of MAIL, kept while the replies to pipelined RCPT commands are outstanding.
    pub mail_rejection: Option<Reply>,
    pub started: Moment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TransactionStep {
    Mail,
    Rcpt,
    Data,
    /// The message is being sent.
    Body,
    /// All of the message is sent.
    FinalDot,
}

/// Results of EHLO or HELO.
#[derive(Default)]
pub(super) struct Hello {
    pub extensions: Extensions,
    /// Set if `extensions` were announced after the last change of encryption.
    pub has_extensions: bool,
    pub extensions_before_tls: Option<Extensions>,
}

#[derive(Default)]
pub(super) struct Login {
    pub mechanism: Option<Mechanism>,
    /// Sent lines with secrets, which are redacted in everything shown.
    pub sent_secrets: Vec<Secret>,
}

/// Outcomes of the current transaction or the last one.
pub(super) struct Delivery {
    pub recipients: Vec<RecipientStatus>,
    /// The reply to the final dot was received.
    pub is_decided: bool,
    /// Transactions left, including the current one.
    pub transactions_left: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PendingReply {
    Mail,
    Rcpt(usize),
}

impl State {
    /// Stage of the state, for events, timeouts and failures.
    pub(super) fn stage(&self) -> Stage {
        match self {
            Self::TlsHandshake => Stage::Tls,
            Self::Greeting => Stage::Banner,
            Self::Hello { .. } => Stage::Ehlo,
            Self::Starttls => Stage::Starttls,
            Self::Auth(_) => Stage::Auth,
            Self::Transaction(transaction) => match transaction.step {
                TransactionStep::Mail => Stage::Mail,
                TransactionStep::Rcpt => Stage::Rcpt,
                TransactionStep::Data => Stage::Data,
                TransactionStep::Body => Stage::Body,
                TransactionStep::FinalDot => Stage::Dot,
            },
            Self::Idle => Stage::Dot,
            Self::Closing => Stage::Quit,
            Self::Finished { last_stage } => *last_stage,
        }
    }

    /// Step of the transaction, if one is open.
    pub(super) fn step(&self) -> Option<TransactionStep> {
        if let Self::Transaction(transaction) = self { Some(transaction.step) } else { None }
    }

    pub(super) fn transaction_mut(&mut self) -> Option<&mut Transaction> {
        if let Self::Transaction(transaction) = self { Some(transaction) } else { None }
    }

    /// Number of replies that are due.
    pub(super) fn expected_replies(&self) -> usize {
        if let Self::Transaction(transaction) = self { transaction.pending_replies.len().max(1) } else { 1 }
    }
}
