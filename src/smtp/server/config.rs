//! What a server is told, and what it tells.
//!
//! Owns the rules of its dialogue, the mail that comes out of it, and the room that takes mails in.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::super::auth::Mechanism;
use super::super::stage::Stage;
use super::envelope::{EnvelopeRecipient, EnvelopeSender};
use super::fault::FaultRules;
use super::replies::ServerReply;
use super::users::Users;
use crate::time::Moment;

/// Where mails go.
pub(crate) trait MessageSink {
    /// What is known of a mail once it is kept.
    type Stored: Send + 'static;

    /// The rules of the dialogue.
    fn config(&self) -> &SessionConfig;

    /// Whether another mail can be taken at all. One that cannot is no occasion for a rule of `--fault`.
    fn is_open(&self) -> bool {
        true
    }

    /// Takes a mail in. Only when it is kept is it acknowledged: what was acknowledged is there.
    fn accept(&self, message: ReceivedMessage) -> Accept<Self::Stored>;

    /// Fresh chance for SCRAM: printable, without a comma.
    fn nonce(&self) -> String;
}

/// What becomes of a mail.
pub(crate) type AcceptResult<K> = Result<K, ServerReply>;

/// How a mail is taken in.
pub(crate) enum Accept<K> {
    /// It is.
    Now(AcceptResult<K>),
    /// It takes a job that may block.
    Later(Box<dyn FnOnce() -> AcceptResult<K> + Send>),
}

/// The rules of a dialogue.
#[derive(Clone)]
pub(crate) struct SessionConfig {
    /// How the server names itself.
    pub name: String,
    /// The largest message in octets.
    pub max_size: usize,
    /// The most recipients of a mail.
    pub max_recipients: usize,
    /// Whether STARTTLS is offered.
    pub offers_starttls: bool,
    /// Who may log in, and must.
    pub users: Option<Arc<Users>>,
    /// Whether passwords are taken on a clear line.
    pub allows_plaintext_auth: bool,
    /// How long it waits.
    pub timeouts: SessionTimeouts,
    /// How it misbehaves.
    pub faults: Arc<FaultRules>,
    /// How much may be under way.
    pub memory_budget: Arc<MemoryBudget>,
}

/// How long a server waits for its client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SessionTimeouts {
    /// For a command, all of its line.
    pub command: Duration,
    /// For more of a message.
    pub body: Duration,
    /// For everything.
    pub session: Duration,
}

/// How many octets of messages may be under way at once, over all connections.
#[derive(Debug)]
pub(crate) struct MemoryBudget {
    available: AtomicU64,
}

impl MemoryBudget {
    /// So many.
    pub(crate) fn new(bytes: u64) -> Self {
        Self { available: AtomicU64::new(bytes) }
    }
}

/// What one message takes of it; given back when it goes.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Arc<MemoryBudget>,
    bytes: u64,
}

impl Reservation {
    /// Nothing so far.
    pub(crate) fn new(budget: &Arc<MemoryBudget>) -> Self {
        Self { budget: Arc::clone(budget), bytes: 0 }
    }

    /// Makes it so many; whether there was room for that.
    pub(crate) fn resize(&mut self, bytes: usize) -> bool {
        let octets = bytes as u64;
        let left = &self.budget.available;
        if octets <= self.bytes {
            left.fetch_add(self.bytes - octets, Ordering::Relaxed);
        } else {
            let more = octets - self.bytes;
            if left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(more)).is_err() {
                return false;
            }
        }
        self.bytes = octets;
        true
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.resize(0);
    }
}

/// Who is at the other end.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClientInfo {
    /// From where; `None` is a Unix socket.
    pub peer: Option<SocketAddr>,
    /// The how-manieth connection it is, from 1.
    pub session: u64,
    /// How it named itself.
    pub helo_name: String,
    /// Under which TLS, as `1.3`.
    pub tls: Option<&'static str>,
    /// As whom it logged in, and how.
    pub login: Option<(String, Mechanism)>,
}

/// A mail that came.
#[derive(Debug)]
pub(crate) struct ReceivedMessage {
    /// Who brought it.
    pub client: ClientInfo,
    /// MAIL.
    pub sender: EnvelopeSender,
    /// RCPT, those that were accepted.
    pub recipients: Vec<EnvelopeRecipient>,
    /// The message, octet for octet.
    pub message: Vec<u8>,
    /// Whether it came by BDAT.
    pub is_chunked: bool,
    /// When its last octet had come.
    pub received_at: Moment,
    /// What it takes of the allowance, as long as it is in memory.
    #[expect(dead_code, reason = "held, not read")]
    pub reservation: Reservation,
}

/// What a server tells.
#[derive(Debug)]
pub(crate) enum ServerEvent<K> {
    /// A mail was taken and acknowledged. How long it took from its last octet on.
    Accepted(K, Duration),
    /// A command was refused.
    Rejected(RejectedCommand),
    /// A login was tried.
    Login {
        /// By whom.
        client: ClientInfo,
        /// As whom.
        user: String,
        /// How.
        mechanism: Mechanism,
        /// Whether it was right.
        succeeded: bool,
    },
    /// A rule of `--fault` fired.
    Fault {
        /// In which session.
        session: u64,
        /// Which rule.
        rule_index: usize,
        /// At the how-manieth of its occasions.
        ordinal: u64,
    },
    /// The connection ended before it should have.
    Failed {
        /// Whose.
        client: ClientInfo,
        /// Why.
        reason: String,
    },
}

/// A refusal.
#[derive(Debug)]
pub(crate) struct RejectedCommand {
    /// Of whom.
    pub client: ClientInfo,
    /// At which stage; `None` for commands that belong to none.
    pub stage: Option<Stage>,
    /// What was asked, or nothing if it may hold a secret.
    pub command: String,
    /// What was answered.
    pub reply: ServerReply,
}

#[cfg(test)]
mod tests {
    use super::{MemoryBudget, Reservation};
    use std::sync::Arc;

    #[test]
    fn what_is_under_way_has_a_limit_and_is_given_back() {
        let allowance = Arc::new(MemoryBudget::new(100));
        let mut one = Reservation::new(&allowance);
        let mut other = Reservation::new(&allowance);
        assert!(one.resize(60) && other.resize(40) && !other.resize(41));
        assert!(one.resize(10) && other.resize(90) && !one.resize(11));
        drop(other);
        assert!(one.resize(100) && !one.resize(101));
    }
}
