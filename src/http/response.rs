//! Parser of a response head, with the tolerance required of a user agent.
//!
//! Owns the status line (RFC 9112 §4), the body framing rules (§6.3), and which deviations are tolerated with a
//! warning.

use std::borrow::Cow;
use std::fmt;

use httparse::EMPTY_HEADER;

use super::body::Framing;
use super::fields::{Fields, MAX_FIELDS, content_length, is_field_value, is_token};
use crate::protocol::{Violation, excerpt};

const STATUS_LINE: &str = "HTTP-version SP 3-digit status code SP reason";
const NO_STATUS_LINE: Violation = Violation::new("not an HTTP/1.x response", STATUS_LINE, "RFC 9112 §4");
const MALFORMED_STATUS_LINE: Violation = Violation::new("malformed status line", STATUS_LINE, "RFC 9112 §4");
const LEADING_SPACE: Violation = Violation::new("white space before the status line", STATUS_LINE, "RFC 9112 §2.2");
const TLS_RECORD: Violation = Violation::new("the server expects TLS on this port", STATUS_LINE, "RFC 9112 §4");
const UNSUPPORTED_VERSION: Violation =
    Violation::new("unsupported HTTP version", "HTTP/1.0 or HTTP/1.1", "RFC 9112 §2.3");
const MALFORMED_FIELD: Violation =
    Violation::new("malformed field line", "field-name:field-value, with no space before the colon", "RFC 9112 §5");
const CODING_IN_1_0: Violation =
    Violation::new("Transfer-Encoding in an HTTP/1.0 response", "Content-Length, or neither", "RFC 9112 §6.1");
const UNSUPPORTED_CODING: Violation = Violation::new("unsupported transfer coding", "chunked alone", "RFC 9112 §6.1");

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResponseHead {
    /// Status code from 100 to 999.
    pub status: u16,
    /// Reason phrase, with invalid UTF-8 replaced.
    pub reason: String,
    /// Names and values as received.
    pub fields: Vec<(String, Vec<u8>)>,
    /// Bytes as received, including the empty line.
    pub raw: Vec<u8>,
    /// Deviations that were tolerated.
    pub warnings: Vec<&'static str>,
    /// Announced body length, if any.
    pub length: Option<u64>,
}

impl ResponseHead {
    /// Returns the first value of the field `name`.
    pub(crate) fn field(&self, name: &str) -> Option<&[u8]> {
        self.fields.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| &value[..])
    }
}

/// Reason why a response is invalid or incomplete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ResponseError {
    /// Protocol violation, with an excerpt of what was received.
    Malformed { violation: Violation, got: String },
    /// The connection closed before the first byte of a response.
    NoResponse,
    /// The connection closed after an interim response with this status.
    NoFinalResponse(u16),
    /// The connection closed within the head.
    TruncatedHead,
    /// The connection closed within the body; holds the number of missing bytes, if known.
    TruncatedBody(Option<u64>),
}

impl fmt::Display for ResponseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed { violation, .. } => f.write_str(violation.what),
            Self::NoResponse => f.write_str("connection closed before any response"),
            Self::NoFinalResponse(status) => write!(f, "connection closed after {status}, before a final response"),
            Self::TruncatedHead => f.write_str("connection closed within the response head"),
            Self::TruncatedBody(Some(missing)) => {
                let bytes = if *missing == 1 { "byte" } else { "bytes" };
                write!(f, "connection closed {missing} {bytes} before the end of the body")
            }
            Self::TruncatedBody(None) => f.write_str("connection closed before the end of the body"),
        }
    }
}

impl ResponseError {
    /// Creates an error for a violation in the first line of `bytes`.
    pub(super) fn malformed(violation: Violation, bytes: &[u8]) -> Self {
        Self::Malformed { violation, got: excerpt(bytes) }
    }
}

/// Rejects input that cannot become a response at its first bytes, so that another protocol or HTTP/0.9 is
/// reported at once and not after a timeout.
pub(super) fn check_http_prefix(bytes: &[u8]) -> Result<(), ResponseError> {
    const START: &[u8] = b"HTTP/";
    let first = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(bytes.len());
    let rest = bytes.get(first..).unwrap_or_default();
    let shared = rest.len().min(START.len());
    if rest.get(..shared) == START.get(..shared) {
        return Ok(());
    }
    let violation = match rest {
        [b' ' | b'\t', ..] => LEADING_SPACE,
        [0x15 | 0x16, 0x03, ..] => TLS_RECORD,
        _ => NO_STATUS_LINE,
    };
    Err(ResponseError::malformed(violation, rest))
}

/// Parses a head that ends in its empty line.
pub(super) fn parse_head(head: &[u8], is_head_request: bool) -> Result<(ResponseHead, Framing), ResponseError> {
    let end = head.windows(2).position(|pair| pair == b"\r\n").unwrap_or(head.len());
    let (line, rest) = head.split_at(end);
    let (minor, status, reason) = status_line(line)?;
    let mut warnings = Vec::new();
    let block = unfold(rest.get(2..).unwrap_or_default(), &mut warnings);
    let mut storage = [EMPTY_HEADER; MAX_FIELDS];
    let fields = match httparse::parse_headers(&block, &mut storage) {
        Ok(httparse::Status::Complete((_, headers))) => Fields::new(headers),
        Ok(httparse::Status::Partial) | Err(_) => {
            let mut lines = block.split(|byte| *byte == b'\n');
            return Err(ResponseError::malformed(
                MALFORMED_FIELD,
                lines.find(|line| !is_field_line(line)).unwrap_or(&block),
            ));
        }
    };
    let framing = framing(fields, status, is_head_request, minor, &mut warnings)?;
    let parsed = ResponseHead {
        status,
        reason: String::from_utf8_lossy(reason).into_owned(),
        fields: fields.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        raw: head.to_owned(),
        warnings,
        length: match framing {
            Framing::Length(length) => Some(length),
            _ => None,
        },
    };
    Ok((parsed, framing))
}

pub(super) fn is_field_line(line: &[u8]) -> bool {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let Some(colon) = line.iter().position(|byte| *byte == b':') else { return line.is_empty() };
    let (name, value) = line.split_at(colon);
    is_token(name) && is_field_value(value)
}

/// Replaces each line fold by spaces, as required of a user agent (RFC 9112 §5.2).
fn unfold<'b>(block: &'b [u8], warnings: &mut Vec<&'static str>) -> Cow<'b, [u8]> {
    let is_fold = |three: &[u8]| matches!(three, [b'\r', b'\n', b' ' | b'\t']);
    if !block.windows(3).any(is_fold) {
        return Cow::Borrowed(block);
    }
    warnings.push("obsolete line folding in the response head (RFC 9112 §5.2)");
    let mut unfolded = block.to_owned();
    for at in 0..block.len() {
        if block.get(at..at + 3).is_some_and(is_fold)
            && let Some(end) = unfolded.get_mut(at..at + 2)
        {
            end.fill(b' ');
        }
    }
    Cow::Owned(unfolded)
}

/// Parses `HTTP-version SP status-code SP [ reason ]` (RFC 9112 §4). Many servers omit the space after the code
/// if there is no reason phrase; this is tolerated.
fn status_line(line: &[u8]) -> Result<(u8, u16, &[u8]), ResponseError> {
    let malformed = |violation| Err(ResponseError::malformed(violation, line));
    let [b'H', b'T', b'T', b'P', b'/', major, b'.', minor @ b'0'..=b'9', b' ', a, b, c, rest @ ..] = line else {
        return malformed(MALFORMED_STATUS_LINE);
    };
    if *major != b'1' {
        return malformed(UNSUPPORTED_VERSION);
    }
    let digits = [*a, *b, *c];
    if !digits.iter().all(u8::is_ascii_digit) || *a == b'0' {
        return malformed(MALFORMED_STATUS_LINE);
    }
    let status = digits.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0'));
    match rest {
        [] => Ok((minor - b'0', status, rest)),
        [b' ', reason @ ..] if is_field_value(reason) => Ok((minor - b'0', status, reason)),
        _ => malformed(MALFORMED_STATUS_LINE),
    }
}

/// Applies the rules of RFC 9112 §6.3 in their order.
fn framing(
    fields: Fields<'_, '_>,
    status: u16,
    is_head_request: bool,
    minor: u8,
    warnings: &mut Vec<&'static str>,
) -> Result<Framing, ResponseError> {
    if is_head_request || matches!(status, 100..=199 | 204 | 304) {
        return Ok(Framing::Length(0));
    }
    let mut codings = fields.list("transfer-encoding");
    let last = |name: &str| fields.all(name).last().unwrap_or_default();
    let length =
        content_length(fields).map_err(|violation| ResponseError::malformed(violation, last("content-length")))?;
    match (codings.next(), codings.next(), length) {
        (None, _, Some(length)) => Ok(Framing::Length(length)),
        (None, _, None) => Ok(Framing::UntilClose),
        (Some(_), ..) if minor == 0 => Err(ResponseError::malformed(CODING_IN_1_0, last("transfer-encoding"))),
        (Some(coding), None, length) if coding.eq_ignore_ascii_case(b"chunked") => {
            if length.is_some() {
                warnings.push("both Transfer-Encoding and Content-Length in the response; Content-Length ignored");
            }
            Ok(Framing::Chunked)
        }
        _ => Err(ResponseError::malformed(UNSUPPORTED_CODING, last("transfer-encoding"))),
    }
}
