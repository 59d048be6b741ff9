//! State of a server session: the dialogue, the transaction, the reply that is being sent.

use std::sync::{Arc, Mutex};

use super::config::{AcceptResult, Reservation};
use super::data_decoder::DataDecoder;
use super::envelope::{EnvelopeRecipient, EnvelopeSender};
use super::fault::{Effect, FaultAction};
use super::replies::ServerReply;
use super::reply_pacing::PacedReply;
use super::sasl::SaslServer;
use crate::time::Moment;

/// Replacement of the banner and of the implicit-TLS handshake.
pub(super) struct Opening {
    pub rejection: Option<ServerReply>,
    pub handshake_effect: Effect,
}

/// Result of the banner and of EHLO or HELO.
#[derive(Default)]
pub(super) struct Greeting {
    pub is_extended: bool,
    /// The banner was a negative reply, so only QUIT is accepted (RFC 5321 §3.1).
    pub accepts_only_quit: bool,
    /// EHLO keywords that a fault rule hides.
    pub hidden_extensions: Vec<String>,
}

/// Mail transaction (RFC 5321 §3.3).
pub(super) struct Transaction {
    /// Set from MAIL on.
    pub sender: Option<EnvelopeSender>,
    pub recipients: Vec<EnvelopeRecipient>,
    /// Memory reserved for the recipients, in bytes.
    pub recipients_size: usize,
    /// Content received by BDAT.
    pub chunks: Vec<u8>,
    /// Reply to the message, decided before its end; the rest of the content is discarded.
    pub rejection: Option<ServerReply>,
    /// The fault rules were evaluated for the body of this message.
    pub has_body_started: bool,
    pub reservation: Reservation,
}

/// Reply that is being sent, and what depends on it.
pub(super) struct ReplyOutput<T> {
    pub paced_reply: Option<PacedReply>,
    pub after_reply: AfterReply,
    /// Stored messages whose 250 is not sent yet, with the time of reception.
    pub unacknowledged: Vec<(T, Moment)>,
}

/// Invalid input so far.
#[derive(Default)]
pub(super) struct InputErrors {
    /// The rest of a line that is too long is being discarded.
    pub is_skipping_line: bool,
    pub errors: u32,
}

/// Life of a session, beside the dialogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Open,
    /// The server is shutting down.
    Draining,
    /// Fault: nothing more is sent or read.
    Stalled,
    Closed,
}

pub(super) struct Deadlines {
    /// Of the next command, or of progress in a message.
    pub next: Moment,
    pub session: Moment,
}

pub(super) enum State {
    /// Before the banner.
    Connected,
    /// STARTTLS was accepted; the handshake follows.
    TlsHandshake,
    Command,
    Auth(SaslServer),
    /// Fault: number of challenges still to send, whatever the responses.
    RepeatedChallenges(u32),
    Body(DataDecoder),
    Chunk {
        remaining: u64,
        is_last: bool,
    },
    /// Fault: bytes to send in place of the handshake.
    FailedHandshake(Vec<u8>),
}

pub(super) enum PendingJob<T> {
    DeriveKey,
    Store { result: Arc<Mutex<Option<AcceptResult<T>>>>, received_at: Moment, action: FaultAction },
}

/// Action once the reply is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AfterReply {
    Continue,
    SendBanner,
    StartTls,
    Close,
}

impl Transaction {
    pub(super) fn new(reservation: Reservation) -> Self {
        Self {
            sender: None,
            recipients: Vec::new(),
            recipients_size: 0,
            chunks: Vec::new(),
            rejection: None,
            has_body_started: false,
            reservation,
        }
    }
}
