//! Interface of a server session: configuration, message sink and events.
//!
//! Owns the session's settings, the memory budget, received messages and the trait that stores them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::super::auth::Mechanism;
use super::super::stage::Stage;
use super::envelope::{EnvelopeRecipient, EnvelopeSender};
use super::replies::ServerReply;
use super::users::Users;
use crate::protocol::{Turn, WaitReport};
use crate::time::Moment;

/// Destination of received messages.
pub(crate) trait MessageSink {
    /// Description of a stored message.
    type Stored: Send + 'static;

    fn config(&self) -> &SessionConfig;

    /// Returns whether another message can be accepted. If not, the final dot does not count as an
    /// occurrence for fault rules.
    fn is_open(&self) -> bool {
        true
    }

    /// Stores a message. It is acknowledged only after it is stored.
    fn accept(&self, message: ReceivedMessage) -> Accept<Self::Stored>;

    /// Returns a fresh SCRAM nonce: printable ASCII without a comma.
    fn nonce(&self) -> String;
}

/// Stored message, or the reply that rejects it.
pub(crate) type AcceptResult<T> = Result<T, ServerReply>;

/// Result of [`MessageSink::accept`].
pub(crate) enum Accept<T> {
    Now(AcceptResult<T>),
    /// The message is stored by a job, which may block.
    Later(Box<dyn FnOnce() -> AcceptResult<T> + Send>),
}

/// Settings of a session.
#[derive(Clone)]
pub(crate) struct SessionConfig {
    /// Host name in the banner and in the reply to EHLO.
    pub name: String,
    /// Maximum message size in bytes.
    pub max_size: usize,
    pub max_recipients: usize,
    pub offers_starttls: bool,
    /// User database; if present, authentication is required.
    pub users: Option<Arc<Users>>,
    /// Offers mechanisms that send the password even without TLS.
    pub allows_plaintext_auth: bool,
    pub timeouts: SessionTimeouts,
    pub memory_budget: Arc<MemoryBudget>,
}

/// Timeouts for the client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SessionTimeouts {
    /// For a complete command line.
    pub command: Duration,
    /// Between two reads of a message body.
    pub body: Duration,
    pub session: Duration,
}

/// Memory for messages in transit, in bytes, shared by all connections.
#[derive(Debug)]
pub(crate) struct MemoryBudget {
    available: AtomicU64,
}

impl MemoryBudget {
    pub(crate) fn new(bytes: u64) -> Self {
        Self { available: AtomicU64::new(bytes) }
    }
}

/// Part of a [`MemoryBudget`] used by one message; returned when dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Arc<MemoryBudget>,
    bytes: u64,
}

impl Reservation {
    pub(crate) fn new(budget: &Arc<MemoryBudget>) -> Self {
        Self { budget: Arc::clone(budget), bytes: 0 }
    }

    /// Changes the size; returns false, and changes nothing, if the budget does not allow it.
    pub(crate) fn resize(&mut self, bytes: usize) -> bool {
        let bytes = bytes as u64;
        let available = &self.budget.available;
        if bytes <= self.bytes {
            available.fetch_add(self.bytes - bytes, Ordering::Relaxed);
        } else {
            let more = bytes - self.bytes;
            if available.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| free.checked_sub(more)).is_err() {
                return false;
            }
        }
        self.bytes = bytes;
        true
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.resize(0);
    }
}

/// Description of the client.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClientInfo {
    /// Address of the client; `None` for a Unix socket.
    pub peer: Option<SocketAddr>,
    /// Ordinal of the connection, from 1.
    pub session: u64,
    /// Argument of EHLO or HELO.
    pub helo_name: String,
    /// TLS version, such as `1.3`.
    pub tls: Option<&'static str>,
    /// Authenticated user and mechanism.
    pub login: Option<(String, Mechanism)>,
}

/// Message with its envelope.
#[derive(Debug)]
pub(crate) struct ReceivedMessage {
    pub client: ClientInfo,
    pub sender: EnvelopeSender,
    /// Accepted recipients.
    pub recipients: Vec<EnvelopeRecipient>,
    /// Content, byte for byte, without dot-stuffing.
    pub message: Vec<u8>,
    /// Received by BDAT.
    pub is_chunked: bool,
    /// Time at which the last byte was received.
    pub received_at: Moment,
    /// Memory of the message; released together with it.
    #[expect(dead_code, reason = "held, not read")]
    pub reservation: Reservation,
}

/// One call of a server session with the message sink `M`.
pub(super) type ServerTurn<'a, M> = Turn<'a, ServerEvent<<M as MessageSink>::Stored>>;

/// Event of a session.
#[derive(Debug)]
pub(crate) enum ServerEvent<T> {
    /// A message was stored and acknowledged, this long after its last byte.
    Accepted(T, Duration),
    Rejected(RejectedCommand),
    /// An authentication exchange was completed.
    Login {
        client: ClientInfo,
        user: String,
        mechanism: Mechanism,
        succeeded: bool,
    },
    /// A fault rule fired.
    Fault {
        session: u64,
        /// Position of the rule, from 0.
        rule_index: usize,
        /// Ordinal of the rule's occurrence, from 1.
        ordinal: u64,
    },
    /// The client broke a rule of the dialogue, and the session went on.
    Violation {
        client: ClientInfo,
        what: String,
    },
    /// The client has been silent for a while.
    Waiting {
        client: ClientInfo,
        report: WaitReport,
    },
    /// The connection ended prematurely.
    Failed {
        client: ClientInfo,
        reason: String,
    },
}

/// Command with a negative reply.
#[derive(Debug)]
pub(crate) struct RejectedCommand {
    pub client: ClientInfo,
    /// Stage of the command, if it has one.
    pub stage: Option<Stage>,
    /// Command line; empty if it may contain a secret.
    pub command: String,
    pub reply: ServerReply,
}

#[cfg(test)]
mod tests {
    use super::{MemoryBudget, Reservation};
    use std::sync::Arc;

    #[test]
    fn reservations_are_limited_and_returned() {
        let budget = Arc::new(MemoryBudget::new(100));
        let mut one = Reservation::new(&budget);
        let mut other = Reservation::new(&budget);
        assert!(one.resize(60) && other.resize(40) && !other.resize(41));
        assert!(one.resize(10) && other.resize(90) && !one.resize(11));
        drop(other);
        assert!(one.resize(100) && !one.resize(101));
    }
}
