//! What a client is to do, and what came of it.
//!
//! Owns the data that goes into a dialogue and comes out of it.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::super::auth::Mechanism;
use super::super::extensions::Extensions;
use super::super::mailbox::Mailbox;
use super::super::reply::Reply;
use super::super::stage::Stage;
use crate::error::Error;
use crate::exit::Exit;
use crate::mac::Secret;
use crate::time::serialize_ns;

/// How the line is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Security {
    /// Not at all.
    Plain,
    /// From STARTTLS on; without it nothing is said.
    Starttls,
    /// From the first octet on.
    Tls,
}

/// Who logs in.
#[derive(Clone)]
pub(crate) struct Credentials {
    /// The user's name.
    pub user: String,
    /// The password or the token.
    pub secret: Secret,
    /// How; the strongest that is offered unless given.
    pub mechanism: Option<Mechanism>,
    /// Whether the password may be sent where somebody could read it.
    pub allow_cleartext: bool,
    /// Fresh chance for SCRAM.
    pub nonce: String,
}

/// What is to be delivered.
#[derive(Clone, Debug)]
pub(crate) struct Envelope {
    /// The sender; `None` is the null sender `<>`.
    pub from: Option<Mailbox>,
    /// To whom, in their order.
    pub recipients: Vec<Mailbox>,
    /// The message, as it was composed or read.
    pub message: Arc<[u8]>,
    /// The same in ASCII, if it holds octets above 127 and can be said so.
    pub ascii_message: Option<Arc<[u8]>>,
}

/// What is asked of a server beyond the delivery; it has to offer each of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestedExtensions {
    /// The message goes as one chunk and not as lines (RFC 3030).
    pub chunking: bool,
    /// What a report is to hold: FULL or HDRS (RFC 3461 §4.3).
    pub ret: Option<&'static str>,
    /// What a report is to be about (RFC 3461 §4.4).
    pub envid: Option<String>,
    /// What is to be reported (RFC 3461 §4.1).
    pub notify: Option<String>,
    /// Whether the mail may go on under verified TLS only (RFC 8689).
    pub require_tls: bool,
    /// Whether replies that only bend the rules are broken ones.
    pub strict: bool,
}

/// What a client is to do.
#[derive(Clone)]
pub(crate) struct ClientConfig {
    /// The server's name, as the user said it.
    pub server_name: String,
    /// How it names itself.
    pub helo_name: String,
    /// How the line is protected.
    pub security: Security,
    /// Whether the server's certificate is checked.
    pub verify_certificate: bool,
    /// Who logs in, if anybody.
    pub credentials: Option<Credentials>,
    /// What is to be delivered; `None` only asks what there is.
    pub envelope: Option<Envelope>,
    /// Whether nothing is sent unless every recipient is accepted.
    pub all_or_nothing: bool,
    /// After which stage to say goodbye.
    pub stop_after: Option<Stage>,
    /// How long each reply may take; by the table of RFC 5321 §4.5.3.2 unless given.
    pub reply_timeout: Option<Duration>,
    /// What else is asked of the server.
    pub requested_extensions: RequestedExtensions,
    /// How many times the mail is sent over this connection.
    pub transaction_count: u64,
    /// How far apart they begin at least.
    pub min_interval: Duration,
}

/// What became of one recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DeliveryOutcome {
    /// The server has taken the mail for it.
    Accepted,
    /// The server has said no, for good.
    Refused,
    /// Not now; it is safe to try again.
    Deferred,
    /// Nobody can know: the line broke after the dot.
    Unknown,
}

/// A recipient, and what became of it.
#[derive(Clone, Debug)]
pub(crate) struct RecipientStatus {
    /// Its address.
    pub mailbox: Mailbox,
    /// What became of it; `None` while nothing was decided.
    pub outcome: Option<DeliveryOutcome>,
    /// The reply that decided it.
    pub reply: Option<Reply>,
}

/// What a client tells.
#[derive(Debug)]
pub(crate) enum ClientEvent {
    /// A line was sent; secrets are hidden.
    CommandSent(String),
    /// A reply came.
    ReplyReceived(Reply),
    /// What came is no reply: the beginning of it.
    MalformedReply(String),
    /// From here on the line is encrypted.
    TlsEstablished,
    /// So many octets of the message, with whatever ends it, are on their way.
    MessageStarted(usize),
    /// So many of them have gone.
    MessageProgress(u64),
    /// A stage is over.
    StageFinished(StageTiming),
    /// A mail is decided.
    TransactionFinished {
        /// The code it would end a run with.
        exit: Exit,
        /// Why it was refused, by whom ever.
        error: Option<Error>,
    },
    /// Something odd that was tolerated.
    Warning(&'static str),
}

/// A stage and how long it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename = "stage")]
pub(crate) struct StageTiming {
    /// Which.
    pub stage: Stage,
    /// How long.
    #[serde(rename = "took_ns", serialize_with = "serialize_ns")]
    pub took: Duration,
}

/// What came of a dialogue.
#[derive(Debug)]
pub(crate) struct SessionResult {
    /// Each recipient, in their order.
    pub recipients: Vec<RecipientStatus>,
    /// Why it did not go through, if it did not.
    pub failure: Option<Error>,
    /// The stage it came to.
    pub stage: Stage,
    /// What the server offers on the line as it is; `None` if it was not heard.
    pub extensions: Option<Extensions>,
    /// What it offered before TLS, if there was a before.
    pub extensions_before_tls: Option<Extensions>,
    /// How the login went, if there was one.
    pub mechanism: Option<Mechanism>,
    /// Whether the line came to be encrypted.
    pub is_encrypted: bool,
    /// Whether the last mail that was begun was told as [`Fact::Mailed`].
    pub is_transaction_finished: bool,
}

/// What became of all recipients, as a code.
pub(crate) fn exit_for_recipients(recipients: &[RecipientStatus]) -> Exit {
    let count = |outcome| recipients.iter().filter(|recipient| recipient.outcome == Some(outcome)).count();
    // Who said yes and was not sent to, because it was not to be.
    let is_willing =
        |known: &&RecipientStatus| known.outcome.is_none() && known.reply.as_ref().is_some_and(Reply::is_positive);
    let willing = recipients.iter().filter(is_willing).count();
    match () {
        () if count(DeliveryOutcome::Unknown) > 0 => Exit::OutcomeUnknown,
        () if count(DeliveryOutcome::Deferred) > 0 => Exit::TemporaryFailure,
        () if count(DeliveryOutcome::Refused) == 0 => Exit::Success,
        () if count(DeliveryOutcome::Accepted) + willing > 0 => Exit::RecipientsRefused,
        () => Exit::Unavailable,
    }
}
