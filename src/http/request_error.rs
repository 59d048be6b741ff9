//! Rejection of a request: its status, the reason with the violated clause, and the wrong line.

use super::head::HeadError;
use super::redact::redact_line;
use super::status::Status;
use crate::protocol::excerpt;

/// Rejection of a request; the connection closes after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestError {
    /// Status of the response; `None` if the input is not HTTP and gets no response.
    pub status: Option<Status>,
    /// Description for logs and the error page.
    pub reason: &'static str,
    /// Excerpt of the wrong line, if it is not the request line.
    pub got: Option<String>,
}

impl RequestError {
    pub(super) const fn new(status: Status, reason: &'static str) -> Self {
        Self { status: Some(status), reason, got: None }
    }

    /// Creates an error that gets no response.
    pub(super) const fn unanswered(reason: &'static str) -> Self {
        Self { status: None, reason, got: None }
    }

    /// Adds an excerpt of the first of these lines, without credentials.
    pub(super) fn in_line(mut self, lines: &[u8]) -> Self {
        let line = lines.split(|byte| *byte == b'\n').next().unwrap_or_default();
        self.got = Some(excerpt(&redact_line(line)));
        self
    }

    pub(super) const fn bad_request(reason: &'static str) -> Self {
        Self::new(Status::BAD_REQUEST, reason)
    }
}

impl From<HeadError> for RequestError {
    fn from(error: HeadError) -> Self {
        match error {
            HeadError::BareLf => Self::bad_request("a line ends in a bare LF (RFC 9112 §2.2)"),
            HeadError::TooManyEmptyLines => {
                Self::bad_request("too many empty lines before the request (RFC 9112 §2.2)")
            }
            HeadError::FirstLineTooLong => Self::new(Status::URI_TOO_LONG, "request line too long (RFC 9112 §3)"),
            HeadError::TooLarge => {
                Self::new(Status::REQUEST_HEADER_FIELDS_TOO_LARGE, "request head too large (RFC 9110 §5.4)")
            }
            HeadError::TooManyFields => {
                Self::new(Status::REQUEST_HEADER_FIELDS_TOO_LARGE, "too many field lines (RFC 9110 §5.4)")
            }
        }
    }
}
