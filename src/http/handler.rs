//! Interface between the server session and the command that chooses the content, and the response that a handler
//! returns. The session does not know what is served: files of a site, captured mail, the state of senders.

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use super::field_lines::FieldLines;
use super::request::Request;
use super::status::Status;
use crate::time::Moment;

/// Request handler of an HTTP server.
pub(crate) trait Handler {
    /// Returns the timeouts of its sessions.
    fn timeouts(&self) -> HttpTimeouts;

    /// Chooses the response to a request of this client, whose address a Unix socket does not have.
    fn respond(&self, request: &Request<'_>, peer: Option<SocketAddr>, now: Moment) -> Response;

    /// Creates the response to a request that the session rejects.
    fn error_response(&self, status: Status, reason: &str) -> Response;

    /// Returns true if sessions collect fields for the access log.
    fn events_wanted(&self) -> bool {
        false
    }

    /// Returns the address of the client, for the log, if the peer is a proxy.
    fn client_address(&self, _: FieldLines<'_>, _: Option<SocketAddr>) -> Option<IpAddr> {
        None
    }

    /// Decides on one more request; called once for each.
    fn admit(&self) -> Admission {
        Admission::Accept
    }

    /// Called when a response was sent, completely or in part.
    fn response_sent(&self) {}
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct HttpTimeouts {
    /// Limit for a request head, from its first byte to its last.
    pub head: Duration,
    /// Limit between requests.
    pub idle: Duration,
    /// Limit for the rest of a request body, which is discarded.
    pub stall: Duration,
}

/// Decision on one more request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Accept,
    /// Answer the request, then close the connection.
    AcceptLast,
    /// Close the connection without a response.
    Reject,
}

/// Names and values of header fields.
pub(crate) type HeaderFields = Vec<(Cow<'static, str>, String)>;

/// Status, header fields and body of a response.
#[derive(Debug)]
pub(crate) struct Response {
    pub status: Status,
    pub fields: HeaderFields,
    pub body: ResponseBody,
    /// Reason of an error, for the access log.
    pub reason: Option<&'static str>,
}

#[derive(Debug)]
pub(crate) enum ResponseBody {
    Empty,
    /// Generated HTML page.
    Page(String),
    Bytes(Vec<u8>),
    /// Content that a helper thread produces.
    Generated(BodyJob),
    /// Content in memory with its fields, shared by the responses to many requests.
    Prepared(Rc<PreparedBody>),
    /// Range of a file.
    File(Rc<File>, Range<u64>),
    /// Several ranges of a file, and the bytes after the last one (RFC 9110 §14.6).
    Parts(Rc<File>, Vec<FilePart>, Vec<u8>),
}

/// Work that produces a body and may block; a failure is answered with 500.
pub(crate) struct BodyJob(pub Box<dyn FnOnce() -> io::Result<Vec<u8>> + Send>);

impl fmt::Debug for BodyJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BodyJob")
    }
}

/// Header fields and content that are sent again and again.
#[derive(Debug)]
pub(crate) struct PreparedBody {
    pub fields: HeaderFields,
    pub content: Vec<u8>,
}

/// Part of a multipart response.
#[derive(Debug)]
pub(crate) struct FilePart {
    /// Bytes before the part: boundary and fields.
    pub head: Vec<u8>,
    pub range: Range<u64>,
}

impl ResponseBody {
    /// Returns the value for Content-Length.
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::Empty | Self::Generated(_) => 0,
            Self::Page(page) => page.len() as u64,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Prepared(body) => body.content.len() as u64,
            Self::File(_, range) => range.end.saturating_sub(range.start),
            Self::Parts(_, parts, end) => parts.iter().fold(end.len() as u64, |total, part| {
                total + part.head.len() as u64 + part.range.end.saturating_sub(part.range.start)
            }),
        }
    }
}

impl Response {
    /// Creates a response without header fields.
    pub(crate) fn new(status: Status, body: ResponseBody) -> Self {
        Self { status, fields: Vec::new(), body, reason: None }
    }

    /// Adds a header field.
    #[must_use]
    pub(crate) fn with_field(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((Cow::Borrowed(name), value.into()));
        self
    }

    /// Adds the reason of an error.
    #[must_use]
    pub(crate) fn because(mut self, reason: &'static str) -> Self {
        self.reason = Some(reason);
        self
    }

    /// Replaces all fields of this name.
    pub(crate) fn replace_field(&mut self, name: &str, value: &str) {
        self.fields.retain(|(found, _)| !found.eq_ignore_ascii_case(name));
        self.fields.push((Cow::Owned(name.to_owned()), value.to_owned()));
    }

    /// Creates a response with an HTML page.
    pub(crate) fn html(status: Status, page: String) -> Self {
        Self::new(status, ResponseBody::Page(page)).with_field("Content-Type", "text/html; charset=utf-8")
    }
}
