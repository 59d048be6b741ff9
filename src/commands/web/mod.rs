//! HTTP server parts shared by all commands that serve pages.
//!
//! Owns the session on one connection ([`HttpSession`]) and the response type ([`Response`]). The command chooses
//! the content: files of a site, captured mail, the state of senders.

mod response;
mod session;
mod status_server;

pub(super) use response::{Response, ResponseBody};
pub(super) use session::{Exchange, HttpSession, HttpTimeouts, LogFields, SessionEvent};
pub(super) use status_server::{StatusServer, url};

use crate::http::Request;
use crate::time::Moment;

/// Request handler of a command's HTTP server.
pub(super) trait Handler {
    /// Returns the timeouts of its sessions.
    fn timeouts(&self) -> HttpTimeouts {
        status_server::DEFAULT_TIMEOUTS
    }

    /// Chooses the response to a request.
    fn respond(&self, request: &Request<'_>, now: Moment) -> Response;

    /// Returns true if sessions collect fields for the access log.
    fn events_wanted(&self) -> bool {
        false
    }

    /// Decides on one more request; called once for each.
    fn admit(&self) -> Admission {
        Admission::Accept
    }

    /// Called when a response was sent, completely or in part.
    fn response_sent(&self) {}
}

/// Result of the `--count` check for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    Accept,
    /// Answer the request, then close the connection.
    AcceptLast,
    /// Close the connection without a response.
    Reject,
}
