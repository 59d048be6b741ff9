//! State of a server session: the dialogue, the transaction, the reply that is being sent.

use std::sync::{Arc, Mutex};

use super::config::{AcceptResult, Reservation};
use super::data_decoder::DataDecoder;
use super::envelope::{EnvelopeRecipient, EnvelopeSender};
use super::fault::{Effect, FaultAction};
use super::paced_reply::PacedReply;
use super::replies::{self, ServerReply};
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

/// Mail transaction, from MAIL to the end of the message (RFC 5321 §3.3).
pub(super) struct Transaction {
    pub sender: EnvelopeSender,
    pub recipients: Vec<EnvelopeRecipient>,
    /// Memory reserved for the recipients, in bytes.
    pub recipients_size: usize,
    pub input: TransactionInput,
    /// Content received by BDAT.
    pub chunks: Vec<u8>,
    /// Reply to the message, decided before its end; the rest of the content is discarded.
    pub rejection: Option<ServerReply>,
    /// The fault rules were evaluated for the body of this message.
    pub has_body_started: bool,
    pub reservation: Reservation,
}

/// Input that a transaction expects.
pub(super) enum TransactionInput {
    Command,
    /// Content of DATA.
    Body(DataDecoder),
    /// Content of BDAT.
    Chunk(Chunk),
}

/// Unread part of a BDAT chunk.
#[derive(Clone, Copy)]
pub(super) struct Chunk {
    pub remaining: u64,
    pub is_last: bool,
}

/// Authentication exchange (RFC 4954).
pub(super) enum AuthExchange {
    Sasl(SaslServer),
    /// Fault: number of challenges still to send, whatever the responses.
    RepeatedChallenges(u32),
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
    /// Fault: bytes to send in place of the handshake.
    FailedHandshake(Vec<u8>),
    /// Commands are accepted; no transaction is open.
    Ready,
    Auth(AuthExchange),
    Transaction(Box<Transaction>),
    /// BDAT outside of a transaction: its content is skipped before the reply.
    RejectedChunk(Chunk, ServerReply),
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
    pub(super) fn new(sender: EnvelopeSender, reservation: Reservation) -> Self {
        Self {
            sender,
            recipients: Vec::new(),
            recipients_size: 0,
            input: TransactionInput::Command,
            chunks: Vec::new(),
            rejection: None,
            has_body_started: false,
            reservation,
        }
    }

    /// Returns whether chunks were received or rejected, which excludes DATA and further recipients.
    pub(super) fn has_chunks(&self) -> bool {
        !self.chunks.is_empty() || self.rejection.is_some()
    }

    /// Adds a recipient; fails if the memory budget is exhausted.
    pub(super) fn add_recipient(&mut self, recipient: EnvelopeRecipient) -> Result<(), ServerReply> {
        // A message may have many recipients, so their addresses count against the memory budget.
        let size = recipient.memory_size();
        if !self.reservation.resize(self.recipients_size + size) {
            return Err(replies::INSUFFICIENT_STORAGE);
        }
        self.recipients_size += size;
        self.recipients.push(recipient);
        Ok(())
    }

    /// Adds a part of a chunk, unless the message is rejected.
    pub(super) fn add_content(&mut self, piece: &[u8]) {
        if self.rejection.is_some() {
            return;
        }
        if self.reservation.resize(self.recipients_size + self.chunks.len() + piece.len()) {
            self.chunks.extend_from_slice(piece);
        } else {
            self.reject_chunks(replies::INSUFFICIENT_STORAGE);
        }
    }

    /// Rejects this and all further chunks of the message and frees those received.
    pub(super) fn reject_chunks(&mut self, reply: ServerReply) {
        self.rejection.get_or_insert(reply);
        self.chunks = Vec::new();
        self.reservation.resize(self.recipients_size);
    }
}

impl Chunk {
    /// Consumes the part of `bytes` that belongs to the chunk.
    pub(super) fn take<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let piece = bytes.get(..usize::try_from(self.remaining).unwrap_or(usize::MAX)).unwrap_or(bytes);
        self.remaining -= piece.len() as u64;
        piece
    }
}
