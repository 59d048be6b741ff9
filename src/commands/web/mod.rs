//! What every command that answers HTTP shares.
//!
//! Owns the conversation on one connection ([`Session`]) and the form of an answer ([`Decision`]).
//! What is answered is decided by the command: the files of a site, the state of its senders.

mod response;
mod session;
mod status_server;

pub(super) use response::{Response, ResponseBody};
pub(super) use session::{Exchange, HttpSession, HttpTimeouts, LogFields, SessionEvent};
pub(super) use status_server::{StatusServer, url};

use crate::http::Request;
use crate::time::Moment;

/// What a command answers.
pub(super) trait Handler {
    /// How long its sessions wait for their clients.
    fn timeouts(&self) -> HttpTimeouts {
        status_server::DEFAULT_TIMEOUTS
    }

    /// What a request gets.
    fn respond(&self, request: &Request<'_>, now: Moment) -> Response;

    /// Whether anybody reads what is told of each request.
    fn events_wanted(&self) -> bool {
        false
    }

    /// What one more request may do; asked once for each.
    fn admit(&self) -> Admission {
        Admission::Accept
    }

    /// An answer has left, or as much of it as ever will.
    fn response_sent(&self) {}
}

/// What a request may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is answered.
    Accept,
    /// It is answered, and its connection is of no use after it.
    AcceptLast,
    /// Nobody answers any more.
    Reject,
}
