//! State of a server session: the dialogue, the transaction, the response to a command.

use std::sync::{Arc, Mutex};

use super::config::{AcceptResult, Reservation};
use super::data_decoder::DataDecoder;
use super::envelope::{EnvelopeRecipient, EnvelopeSender};
use super::policy::Verdict;
use super::replies::{self, ServerReply};
use super::sasl::SaslServer;
use crate::time::Moment;

/// Result of the banner and of EHLO or HELO.
#[derive(Default)]
pub(super) struct Greeting {
    pub is_extended: bool,
    /// The banner was a negative reply, so only QUIT is accepted (RFC 5321 §3.1).
    pub accepts_only_quit: bool,
    /// EHLO keywords that the policy hides.
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
    /// The first byte of the content was announced by [`begins_content`](super::ServerSession::begins_content).
    pub has_begun_content: bool,
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
    /// Policy: number of challenges still to send, whatever the responses.
    RepeatedChallenges(u32),
}

/// Response to a command: the reply, and what depends on it.
pub(super) struct Response<T> {
    pub reply: ServerReply,
    pub then: AfterReply,
    /// Message that the reply acknowledges, with the time of reception.
    pub stored: Option<(T, Moment)>,
}

impl<T> Response<T> {
    /// Response after which the connection is closed.
    pub(super) fn closing(reply: ServerReply) -> Self {
        Self { reply, then: AfterReply::Close, stored: None }
    }
}

/// Progress within a command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum LineProgress {
    #[default]
    AtStart,
    /// A part of a line was received.
    Begun,
    /// The rest of a line that is too long is being discarded.
    Skipping,
}

/// Facts about the input so far that later lines depend on.
#[derive(Default)]
pub(super) struct InputHistory {
    pub line: LineProgress,
    pub errors: u32,
    /// AUTH was sent, so a later line may be a password.
    pub has_seen_auth: bool,
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
    /// Commands are accepted; no transaction is open.
    Ready,
    Auth(AuthExchange),
    Transaction(Box<Transaction>),
    /// BDAT outside of a transaction: its content is skipped before the reply.
    RejectedChunk(Chunk, ServerReply),
}

pub(super) enum PendingJob<T> {
    DeriveKey,
    Store { result: Arc<Mutex<Option<AcceptResult<T>>>>, received_at: Moment, verdict: Verdict },
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
            has_begun_content: false,
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
