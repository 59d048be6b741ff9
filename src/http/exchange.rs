//! Events of a server session: exchanges, failed connections, silent clients.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::status::Status;
use crate::protocol::WaitReport;
use crate::time::Moment;

#[derive(Debug)]
pub(crate) enum SessionEvent {
    /// Request that was answered or rejected.
    Exchange(Exchange),
    /// Connection that failed before a request.
    ConnectionFailed { peer: Option<SocketAddr>, at: Moment, reason: String },
    /// Client that has been silent for a while.
    Waiting { peer: Option<SocketAddr>, report: WaitReport },
}

/// Request and the result of its response.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// Address of the client; `None` for a Unix socket.
    pub peer: Option<SocketAddr>,
    /// Time at which the request head was complete.
    pub started: Moment,
    /// Time until the last byte of the response was sent.
    pub duration: Duration,
    /// Status of the response; `None` if the request got no response.
    pub status: Option<Status>,
    /// Bytes of content sent.
    pub bytes: u64,
    pub is_complete: bool,
    /// Reason for a rejection or an incomplete response.
    pub error: Option<String>,
    /// Fields for the access log, if it is enabled.
    pub log_fields: Option<Box<LogFields>>,
}

/// Request fields for the access log, as received.
#[derive(Debug, Default)]
pub(crate) struct LogFields {
    pub request_line: Vec<u8>,
    /// Address of the client behind a trusted proxy.
    pub client: Option<IpAddr>,
    pub referer: Option<Vec<u8>>,
    pub user_agent: Option<Vec<u8>>,
}
