//! Client configuration, events and result of a session.

use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::super::auth::Mechanism;
use super::super::extensions::{Extension, Extensions};
use super::super::mailbox::Mailbox;
use super::super::reply::Reply;
use super::super::stage::Stage;
use crate::failure::Failure;
use crate::mac::Secret;
use crate::protocol::Turn;

/// Transport security.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Security {
    /// No encryption.
    Plain,
    /// STARTTLS required before MAIL and AUTH.
    Starttls,
    /// TLS from the first byte.
    Tls,
}

/// User, secret and mechanism of the login.
#[derive(Clone)]
pub(crate) struct Credentials {
    pub user: String,
    /// Password or OAuth token.
    pub secret: Secret,
    /// Mechanism; the strongest offered one if `None`.
    pub mechanism: Option<Mechanism>,
    /// Allows the password on an unencrypted or unverified connection.
    pub allow_cleartext: bool,
    /// Random nonce for SCRAM.
    pub nonce: String,
}

/// Envelope and message.
#[derive(Clone, Debug)]
pub(crate) struct Envelope {
    /// Reverse path; `None` is the null sender `<>`.
    pub from: Option<Mailbox>,
    pub recipients: Vec<Mailbox>,
    pub message: Arc<[u8]>,
    /// Message re-encoded in ASCII, for servers without 8BITMIME.
    pub ascii_message: Option<Arc<[u8]>>,
}

/// Requested SMTP extensions, each of which the server must offer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestedExtensions {
    /// Extensions to use: CHUNKING sends the message with BDAT (RFC 3030), REQUIRETLS requires verified TLS on every
    /// further hop (RFC 8689).
    pub extensions: Vec<Extension>,
    /// Content of a delivery report: FULL or HDRS (RFC 3461 §4.3).
    pub ret: Option<&'static str>,
    /// Envelope identifier (RFC 3461 §4.4).
    pub envid: Option<String>,
    /// Conditions that cause a report (RFC 3461 §4.1).
    pub notify: Option<String>,
    /// Treats tolerated deviations in replies as protocol errors.
    pub strict: bool,
}

/// Configuration of a client session.
#[derive(Clone)]
pub(crate) struct ClientConfig {
    /// Name sent in EHLO.
    pub helo_name: String,
    pub security: Security,
    pub verify_certificate: bool,
    pub credentials: Option<Credentials>,
    /// Envelope and message; `None` only queries the server.
    pub envelope: Option<Envelope>,
    /// Sends the message only if every recipient is accepted.
    pub all_or_nothing: bool,
    /// Stage after which the session ends with QUIT.
    pub stop_after: Option<Stage>,
    /// Timeout of each reply; the values of RFC 5321 §4.5.3.2 if `None`.
    pub reply_timeout: Option<Duration>,
    pub requested_extensions: RequestedExtensions,
    /// Number of times the message is sent over this connection.
    pub transaction_count: u64,
    /// Minimum time between the starts of two transactions.
    pub min_interval: Duration,
}

/// Outcome for one recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DeliveryOutcome {
    Accepted,
    /// Permanently rejected.
    Rejected,
    /// Temporarily rejected; a retry cannot cause a duplicate.
    Deferred,
    /// Unknown, because the connection was lost between the final dot and its reply.
    Unknown,
}

#[derive(Clone, Debug)]
pub(crate) struct RecipientStatus {
    pub mailbox: Mailbox,
    /// Outcome; `None` while undecided.
    pub outcome: Option<DeliveryOutcome>,
    /// Reply that decided the outcome.
    pub reply: Option<Reply>,
}

/// One call of a client session.
pub(crate) type ClientTurn<'a> = Turn<'a, ClientEvent>;

/// Event of a client session.
#[derive(Debug)]
pub(crate) enum ClientEvent {
    /// Command line sent, secrets hidden.
    CommandSent(String),
    ReplyReceived(Reply),
    /// Beginning of received data that is not a reply.
    MalformedReply(String),
    /// TLS handshake completed.
    TlsEstablished,
    /// Message queued for sending; its size in bytes including the terminator.
    MessageStarted(usize),
    /// Bytes of the message sent so far.
    MessageProgress(u64),
    StageFinished(StageTiming),
    /// Transaction decided.
    TransactionFinished {
        /// Reason why no recipient was decided by its own reply.
        failure: Option<Failure>,
        recipients: Vec<RecipientStatus>,
    },
    /// Tolerated deviation.
    Warning(&'static str),
}

/// Stage and its duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StageTiming {
    pub stage: Stage,
    pub took: Duration,
}

#[derive(Debug)]
pub(crate) struct SessionResult {
    pub recipients: Vec<RecipientStatus>,
    /// Reason for a failure.
    pub failure: Option<Failure>,
    /// Stage that failed, or the last one.
    pub stage: Stage,
    /// Extensions announced after the last change of encryption; `None` without a reply to EHLO.
    pub extensions: Option<Extensions>,
    /// Extensions announced before STARTTLS.
    pub extensions_before_tls: Option<Extensions>,
    /// Mechanism of the login.
    pub mechanism: Option<Mechanism>,
    pub is_encrypted: bool,
    /// The last transaction that was started was reported as [`ClientEvent::TransactionFinished`].
    pub is_transaction_finished: bool,
}
