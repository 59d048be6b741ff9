//! Parser of a response head, with the tolerance required of a user agent.
//!
//! Owns the status line (RFC 9112 §4), the body framing rules (§6.3), and which deviations are tolerated with a
//! warning.

use std::borrow::Cow;

use httparse::EMPTY_HEADER;

use super::body::Framing;
use super::client::ResponseError;
use super::fields::{Fields, MAX_FIELDS, content_length, is_field_value};

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
    Err(ResponseError::Malformed(match rest {
        [b' ' | b'\t', ..] => "white space before the status line (RFC 9112 §4)",
        [0x15 | 0x16, 0x03, ..] => "the server expects TLS on this port",
        _ => "no status line: not HTTP, or HTTP/0.9",
    }))
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
            return Err(ResponseError::Malformed("malformed field line in the response"));
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
    const MALFORMED_STATUS_LINE: ResponseError =
        ResponseError::Malformed("malformed status line: expected HTTP-version, status code, reason phrase");
    let [b'H', b'T', b'T', b'P', b'/', major, b'.', minor @ b'0'..=b'9', b' ', a, b, c, rest @ ..] = line else {
        return Err(MALFORMED_STATUS_LINE);
    };
    if *major != b'1' {
        return Err(ResponseError::Malformed("unsupported HTTP version in the response"));
    }
    let digits = [*a, *b, *c];
    if !digits.iter().all(u8::is_ascii_digit) || *a == b'0' {
        return Err(MALFORMED_STATUS_LINE);
    }
    let status = digits.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0'));
    match rest {
        [] => Ok((minor - b'0', status, rest)),
        [b' ', reason @ ..] if is_field_value(reason) => Ok((minor - b'0', status, reason)),
        _ => Err(MALFORMED_STATUS_LINE),
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
    let length = content_length(fields).map_err(ResponseError::Malformed)?;
    match (codings.next(), codings.next(), length) {
        (None, _, Some(length)) => Ok(Framing::Length(length)),
        (None, _, None) => Ok(Framing::UntilClose),
        (Some(_), ..) if minor == 0 => Err(ResponseError::Malformed("Transfer-Encoding in an HTTP/1.0 response")),
        (Some(coding), None, length) if coding.eq_ignore_ascii_case(b"chunked") => {
            if length.is_some() {
                warnings.push("both Transfer-Encoding and Content-Length in the response; Content-Length ignored");
            }
            Ok(Framing::Chunked)
        }
        _ => Err(ResponseError::Malformed("unsupported transfer coding in the response")),
    }
}
