//! Status codes and their reason phrases (RFC 9110 §15; 431: RFC 6585 §5).

use std::fmt;

/// Status code with its registered reason phrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Status(u16);

impl Status {
    pub(crate) const OK: Self = Self(200);
    pub(crate) const NO_CONTENT: Self = Self(204);
    pub(crate) const PARTIAL_CONTENT: Self = Self(206);
    pub(crate) const MOVED_PERMANENTLY: Self = Self(301);
    pub(crate) const NOT_MODIFIED: Self = Self(304);
    pub(crate) const BAD_REQUEST: Self = Self(400);
    pub(crate) const UNAUTHORIZED: Self = Self(401);
    pub(crate) const FORBIDDEN: Self = Self(403);
    pub(crate) const NOT_FOUND: Self = Self(404);
    pub(crate) const METHOD_NOT_ALLOWED: Self = Self(405);
    pub(crate) const NOT_ACCEPTABLE: Self = Self(406);
    pub(crate) const REQUEST_TIMEOUT: Self = Self(408);
    pub(crate) const PRECONDITION_FAILED: Self = Self(412);
    pub(crate) const URI_TOO_LONG: Self = Self(414);
    pub(crate) const RANGE_NOT_SATISFIABLE: Self = Self(416);
    pub(crate) const EXPECTATION_FAILED: Self = Self(417);
    pub(crate) const MISDIRECTED_REQUEST: Self = Self(421);
    pub(crate) const REQUEST_HEADER_FIELDS_TOO_LARGE: Self = Self(431);
    pub(crate) const INTERNAL_SERVER_ERROR: Self = Self(500);
    pub(crate) const NOT_IMPLEMENTED: Self = Self(501);
    pub(crate) const SERVICE_UNAVAILABLE: Self = Self(503);
    pub(crate) const HTTP_VERSION_NOT_SUPPORTED: Self = Self(505);

    pub(crate) fn code(self) -> u16 {
        self.0
    }

    /// Returns the registered reason phrase.
    pub(crate) fn reason(self) -> &'static str {
        match self.0 {
            200 => "OK",
            204 => "No Content",
            206 => "Partial Content",
            301 => "Moved Permanently",
            304 => "Not Modified",
            400 => "Bad Request",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            406 => "Not Acceptable",
            408 => "Request Timeout",
            412 => "Precondition Failed",
            414 => "URI Too Long",
            416 => "Range Not Satisfiable",
            417 => "Expectation Failed",
            421 => "Misdirected Request",
            431 => "Request Header Fields Too Large",
            501 => "Not Implemented",
            503 => "Service Unavailable",
            505 => "HTTP Version Not Supported",
            _ => "Internal Server Error",
        }
    }

    /// Returns true if a response with this status never has a body (RFC 9112 §6.3, rule 1).
    pub(crate) fn forbids_body(self) -> bool {
        matches!(self.0, 100..=199 | 204 | 304)
    }
}

/// Format: `404 Not Found`.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.reason())
    }
}
