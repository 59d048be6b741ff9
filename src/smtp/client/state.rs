//! State of a client session: results of EHLO, the login, the transaction.

use std::collections::VecDeque;

use super::config::RecipientStatus;
use crate::mac::Secret;
use crate::smtp::auth::{Mechanism, SaslClient};
use crate::smtp::extensions::Extensions;
use crate::smtp::reply::Reply;
use crate::time::Moment;

/// Results of EHLO or HELO.
#[derive(Default)]
pub(super) struct Hello {
    pub extensions: Extensions,
    /// Set if `extensions` were announced after the last change of encryption.
    pub has_extensions: bool,
    pub extensions_before_tls: Option<Extensions>,
    pub is_helo_fallback: bool,
}

#[derive(Default)]
pub(super) struct Login {
    pub sasl_client: Option<SaslClient>,
    pub mechanism: Option<Mechanism>,
    /// Sent lines with secrets, which are redacted in everything shown.
    pub sent_secrets: Vec<Secret>,
}

/// Mail transaction, the current one or the last.
pub(super) struct Transaction {
    pub recipients: Vec<RecipientStatus>,
    /// Pipelined commands whose replies are outstanding.
    pub pending_replies: VecDeque<PendingReply>,
    /// Rejection of MAIL, kept while the replies to pipelined RCPT commands are outstanding.
    pub mail_rejection: Option<Reply>,
    pub is_final_dot_sent: bool,
    pub is_finished: bool,
    pub started: Moment,
    /// Transactions left, including the current one.
    pub left: u64,
    /// Start of the next transaction; set while the session is idle between two transactions.
    pub idle_until: Option<Moment>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PendingReply {
    Mail,
    Rcpt(usize),
}
