//! What a server is told, and what it tells.
//!
//! Owns the rules of its dialogue, the mail that comes out of it, and the room that takes mails in.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::super::auth::Mechanism;
use super::super::fault::Faults;
use super::super::plan::Stage;
use super::answer::Answer;
use super::envelope::{Addressee, Sender};
use super::users::Users;
use crate::time::Moment;

/// Where mails go.
pub trait Mailroom {
    /// What is known of a mail once it is kept.
    type Kept: Send + 'static;

    /// The rules of the dialogue.
    fn rules(&self) -> &Rules;

    /// Whether another mail can be taken at all. One that cannot is no occasion for a rule of `--fault`.
    fn is_open(&self) -> bool {
        true
    }

    /// Takes a mail in. Only when it is kept is it acknowledged: what was acknowledged is there.
    fn keep(&self, captured: Captured) -> Keep<Self::Kept>;

    /// Fresh chance for SCRAM: printable, without a comma.
    fn nonce(&self) -> String;
}

/// What becomes of a mail.
pub type Kept<K> = Result<K, Answer>;

/// How a mail is taken in.
pub enum Keep<K> {
    /// It is.
    Now(Kept<K>),
    /// It takes a job that may block.
    Later(Box<dyn FnOnce() -> Kept<K> + Send>),
}

/// The rules of a dialogue.
#[derive(Clone)]
pub struct Rules {
    /// How the server names itself.
    pub name: String,
    /// The largest message in octets.
    pub max_size: usize,
    /// The most recipients of a mail.
    pub max_recipients: usize,
    /// Whether STARTTLS is offered.
    pub offers_tls: bool,
    /// Who may log in, and must.
    pub users: Option<Arc<Users>>,
    /// Whether passwords are taken on a clear line.
    pub auth_in_clear: bool,
    /// How long it waits.
    pub limits: Limits,
    /// How it misbehaves.
    pub faults: Arc<Faults>,
    /// How much may be under way.
    pub allowance: Arc<Allowance>,
}

/// How long a server waits for its client.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For a command, all of its line.
    pub command: Duration,
    /// For more of a message.
    pub body: Duration,
    /// For everything.
    pub session: Duration,
}

/// How many octets of messages may be under way at once, over all connections.
#[derive(Debug)]
pub struct Allowance {
    left: AtomicU64,
}

impl Allowance {
    /// So many.
    pub fn new(octets: u64) -> Self {
        Self { left: AtomicU64::new(octets) }
    }
}

/// What one message takes of it; given back when it goes.
#[derive(Debug)]
pub struct Lease {
    allowance: Arc<Allowance>,
    octets: u64,
}

impl Lease {
    /// Nothing so far.
    pub fn new(allowance: &Arc<Allowance>) -> Self {
        Self { allowance: Arc::clone(allowance), octets: 0 }
    }

    /// Makes it so many; whether there was room for that.
    pub fn resize(&mut self, octets: usize) -> bool {
        let octets = octets as u64;
        let left = &self.allowance.left;
        if octets <= self.octets {
            left.fetch_add(self.octets - octets, Ordering::Relaxed);
        } else {
            let more = octets - self.octets;
            if left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(more)).is_err() {
                return false;
            }
        }
        self.octets = octets;
        true
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.resize(0);
    }
}

/// Who is at the other end.
#[derive(Clone, Debug, Default)]
pub struct Client {
    /// From where; `None` is a Unix socket.
    pub peer: Option<SocketAddr>,
    /// The how-manieth connection it is, from 1.
    pub session: u64,
    /// How it named itself.
    pub name: String,
    /// Under which TLS, as `1.3`.
    pub tls: Option<&'static str>,
    /// As whom it logged in, and how.
    pub login: Option<(String, Mechanism)>,
}

/// A mail that came.
#[derive(Debug)]
pub struct Captured {
    /// Who brought it.
    pub client: Client,
    /// MAIL.
    pub sender: Sender,
    /// RCPT, those that were accepted.
    pub recipients: Vec<Addressee>,
    /// The message, octet for octet.
    pub message: Vec<u8>,
    /// Whether it came by BDAT.
    pub is_chunked: bool,
    /// When its last octet had come.
    pub at: Moment,
    /// What it takes of the allowance, as long as it is in memory.
    #[expect(dead_code, reason = "held, not read")]
    pub lease: Lease,
}

/// What a server tells.
#[derive(Debug)]
pub enum Fact<K> {
    /// A mail was taken and acknowledged. How long it took from its last octet on.
    Taken(K, Duration),
    /// A command was refused.
    Refused(Refused),
    /// A login was tried.
    Login {
        /// By whom.
        client: Client,
        /// As whom.
        user: String,
        /// How.
        mechanism: Mechanism,
        /// Whether it was right.
        ok: bool,
    },
    /// A rule of `--fault` fired.
    Fault {
        /// In which session.
        session: u64,
        /// Which rule.
        rule: usize,
        /// At the how-manieth of its occasions.
        number: u64,
    },
    /// The connection ended before it should have.
    Failed {
        /// Whose.
        client: Client,
        /// Why.
        why: String,
    },
}

/// A refusal.
#[derive(Debug)]
pub struct Refused {
    /// Of whom.
    pub client: Client,
    /// At which stage; `None` for commands that belong to none.
    pub stage: Option<Stage>,
    /// What was asked, or nothing if it may hold a secret.
    pub command: String,
    /// What was answered.
    pub answer: Answer,
}

#[cfg(test)]
mod tests {
    use super::{Allowance, Lease};
    use std::sync::Arc;

    #[test]
    fn what_is_under_way_has_a_limit_and_is_given_back() {
        let allowance = Arc::new(Allowance::new(100));
        let mut one = Lease::new(&allowance);
        let mut other = Lease::new(&allowance);
        assert!(one.resize(60) && other.resize(40) && !other.resize(41));
        assert!(one.resize(10) && other.resize(90) && !one.resize(11));
        drop(other);
        assert!(one.resize(100) && !one.resize(101));
    }
}
