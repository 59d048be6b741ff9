//! What every command that answers HTTP shares.
//!
//! Owns the conversation on one connection ([`Session`]) and the form of an answer ([`Decision`]).
//! What is answered is decided by the command: the files of a site, the state of its senders.

mod board;
mod decision;
mod session;

pub use board::{Board, url};
pub use decision::{Body, Decision};
pub use session::{Details, Exchange, Fact, Limits, Session};

use crate::http::Request;
use crate::time::Moment;

/// What a command answers.
pub trait Pages {
    /// How long its sessions wait for their clients.
    fn limits(&self) -> Limits {
        board::LIMITS
    }

    /// What a request gets.
    fn decide(&self, request: &Request<'_>, now: Moment) -> Decision;

    /// Whether anybody reads what is told of each request.
    fn listens(&self) -> bool {
        false
    }

    /// What one more request may do; asked once for each.
    fn turn(&self) -> Turn {
        Turn::Served
    }

    /// An answer has left, or as much of it as ever will.
    fn answered(&self) {}
}

/// What a request may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is answered.
    Served,
    /// It is answered, and its connection is of no use after it.
    Last,
    /// Nobody answers any more.
    TooLate,
}
