//! Client side of one exchange: request serialization and response decoding.
//!
//! Owns the format of a request (RFC 9112 §3) and the end of a response (§6.3). The parser is strict wherever lenient
//! parsing would show the user something other than what was sent; each violation has its own message.
//!
//! ```text
//!   Head ──▶ (1xx: Head again) ──▶ Body ──▶ End
//! ```

use super::body::{BodyDecoder, BodyPart};
use super::head::{HeadError, MAX_RESPONSE_HEAD, Scanner};
use super::response::{ResponseError, ResponseHead, check_http_prefix, parse_head};
use crate::protocol::Violation;

/// Maximum number of interim (1xx) responses before the final one.
const MAX_INTERIM: u32 = 16;

const TOO_MANY_INTERIM: Violation =
    Violation::new("too many interim (1xx) responses", "at most 16 before the final one", "RFC 9110 §15.2");

/// Request line and header fields of a request.
#[derive(Clone, Debug)]
pub(crate) struct RequestHead {
    pub method: String,
    /// Request target: path and query.
    pub target: String,
    /// Field lines in order, including Host.
    pub fields: Vec<(String, String)>,
}

impl RequestHead {
    /// Appends the head, including the empty line.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        use std::io::Write as _;
        // Writing to a Vec cannot fail.
        let _ = write!(out, "{} {} HTTP/1.1\r\n", self.method, self.target);
        for (name, value) in &self.fields {
            let _ = write!(out, "{name}: {value}\r\n");
        }
        out.extend_from_slice(b"\r\n");
    }
}

#[derive(Debug)]
pub(crate) struct ResponseDecoder {
    state: State,
    is_head_request: bool,
    interim_count: u32,
    last_interim: Option<u16>,
}

#[derive(Debug)]
enum State {
    Head(Scanner),
    Body(BodyDecoder),
    End,
}

/// Result of [`ResponseDecoder::receive`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ResponsePart<'b> {
    /// More input is needed.
    NeedMore,
    /// An interim response (RFC 9110 §15.2); the final one follows.
    Interim(ResponseHead),
    /// Head of the final response.
    Head(ResponseHead),
    /// Body data, never empty.
    Data(&'b [u8]),
    End,
}

fn head_violation(error: HeadError) -> Violation {
    let (what, expected, clause) = match error {
        HeadError::BareLf => ("a line of the response head ends in a bare LF", "CRLF", "RFC 9112 §2.2"),
        HeadError::TooManyEmptyLines => ("too many empty lines before the response", "none", "RFC 9112 §2.2"),
        HeadError::FirstLineTooLong => ("status line too long", "at most 8 KiB", "RFC 9112 §4"),
        HeadError::TooLarge => ("response head too large", "at most 64 KiB", "RFC 9110 §5.4"),
        HeadError::TooManyFields => ("too many field lines in the response", "at most 100", "RFC 9110 §5.4"),
    };
    Violation::new(what, expected, clause)
}

impl ResponseDecoder {
    /// Creates a decoder for the response to a request with this method.
    pub(crate) fn new(method: &str) -> Self {
        Self {
            state: State::Head(Scanner::new(MAX_RESPONSE_HEAD)),
            is_head_request: method == "HEAD",
            interim_count: 0,
            last_interim: None,
        }
    }

    /// Decodes the next part and returns the number of bytes consumed. Call it again until it returns
    /// [`ResponsePart::NeedMore`] or [`ResponsePart::End`].
    pub(crate) fn receive<'b>(&mut self, bytes: &'b [u8]) -> Result<(usize, ResponsePart<'b>), ResponseError> {
        match &mut self.state {
            State::End => Ok((0, ResponsePart::End)),
            State::Body(body) => match body
                .decode(bytes)
                .map_err(|(violation, at)| ResponseError::malformed(violation, bytes.get(at..).unwrap_or_default()))?
            {
                (taken, BodyPart::NeedMore) => Ok((taken, ResponsePart::NeedMore)),
                (taken, BodyPart::Data(data)) => Ok((taken, ResponsePart::Data(data))),
                (taken, BodyPart::End) => {
                    self.state = State::End;
                    Ok((taken, ResponsePart::End))
                }
            },
            State::Head(scanner) => {
                check_http_prefix(bytes)?;
                let scanned = scanner.scan(bytes);
                let line = bytes.get(scanner.line_start()..).unwrap_or_default();
                let Some(span) = scanned.map_err(|error| ResponseError::malformed(head_violation(error), line))? else {
                    return Ok((0, ResponsePart::NeedMore));
                };
                let (head, framing) =
                    parse_head(bytes.get(span.start..span.end).unwrap_or_default(), self.is_head_request)?;
                if (100..200).contains(&head.status) {
                    self.interim_count += 1;
                    self.last_interim = Some(head.status);
                    if self.interim_count > MAX_INTERIM {
                        return Err(ResponseError::malformed(TOO_MANY_INTERIM, bytes));
                    }
                    self.state = State::Head(Scanner::new(MAX_RESPONSE_HEAD));
                    return Ok((span.end, ResponsePart::Interim(head)));
                }
                self.state = State::Body(BodyDecoder::new(framing));
                Ok((span.end, ResponsePart::Head(head)))
            }
        }
    }

    /// Returns true if the body has no length and ends with the connection (RFC 9112 §6.3).
    pub(crate) fn is_close_delimited(&self) -> bool {
        matches!(&self.state, State::Body(body) if body.complete_at_close().is_ok())
    }

    /// Reports the end of the connection with `pending` bytes not consumed. `clean` means an authenticated
    /// end: FIN, and with TLS also `close_notify`.
    pub(crate) fn ended(&self, pending: usize, clean: bool) -> Result<(), ResponseError> {
        match &self.state {
            State::End => Ok(()),
            State::Head(_) if pending == 0 => {
                Err(self.last_interim.map_or(ResponseError::NoResponse, ResponseError::NoFinalResponse))
            }
            State::Head(_) => Err(ResponseError::TruncatedHead),
            State::Body(body) => match body.complete_at_close() {
                // Only a clean close can delimit a body (RFC 9112 §9.8).
                Ok(()) if clean => Ok(()),
                Ok(()) => Err(ResponseError::TruncatedBody(None)),
                Err(missing) => {
                    Err(ResponseError::TruncatedBody(missing.map(|missing| missing.saturating_sub(pending as u64))))
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_INTERIM, ResponseDecoder, ResponseError, ResponsePart, TOO_MANY_INTERIM};

    /// Decodes a response in two pieces, followed by a clean close, to its status and body.
    fn decode_response(method: &str, bytes: &[u8], split: usize) -> Result<(u16, Vec<u8>), ResponseError> {
        let mut client = ResponseDecoder::new(method);
        let (mut status, mut data, mut taken) = (0, Vec::new(), 0);
        for end in [split, bytes.len()] {
            loop {
                let (more, arrived) = client.receive(&bytes[taken..end])?;
                taken += more;
                match arrived {
                    ResponsePart::NeedMore => break,
                    ResponsePart::Interim(_) => {}
                    ResponsePart::Head(head) => status = head.status,
                    ResponsePart::Data(piece) => data.extend_from_slice(piece),
                    ResponsePart::End => return Ok((status, data)),
                }
            }
        }
        client.ended(bytes.len() - taken, true).map(|()| (status, data))
    }

    fn get(bytes: &str) -> Result<(u16, Vec<u8>), ResponseError> {
        decode_response("GET", bytes.as_bytes(), 0)
    }

    #[test]
    fn a_response_is_read_at_every_split() {
        let bytes =
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        for split in 0..=bytes.len() {
            assert_eq!(decode_response("GET", bytes, split), Ok((200, b"abc".to_vec())), "split at {split}");
        }
    }

    #[test]
    fn a_body_ends_by_length_or_by_close() {
        assert_eq!(get("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabc"), Ok((200, b"ab".to_vec())));
        assert_eq!(get("HTTP/1.0 200\r\n\r\nabc"), Ok((200, b"abc".to_vec())));
        assert_eq!(get("HTTP/1.1 204 No Content\r\n\r\nabc"), Ok((204, vec![])));
        assert_eq!(decode_response("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", 0), Ok((200, vec![])));
    }

    #[test]
    fn an_early_close_reports_how_much_is_missing() {
        assert_eq!(get(""), Err(ResponseError::NoResponse));
        assert_eq!(get("HTTP/1.1 200 OK\r\nCon"), Err(ResponseError::TruncatedHead));
        assert_eq!(get("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"), Err(ResponseError::TruncatedBody(Some(3))));
        assert_eq!(
            get("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"),
            Err(ResponseError::TruncatedBody(None))
        );
    }

    #[test]
    fn an_unclean_close_delimits_no_body() {
        let mut client = ResponseDecoder::new("GET");
        client.receive(b"HTTP/1.1 200 OK\r\n\r\n").expect("well-formed");
        assert_eq!(client.ended(0, true), Ok(()));
        assert_eq!(client.ended(0, false), Err(ResponseError::TruncatedBody(None)));
    }

    #[test]
    fn an_invalid_response_is_reported_at_once_with_the_offending_line() {
        for (bytes, word, line, clause) in [
            ("<html>", "not an HTTP", "<html>", "RFC 9112 §4"),
            ("SSH-2.0-x\r\n", "not an HTTP", "SSH-2.0-x", "RFC 9112 §4"),
            (" HTTP/1.1 200 OK", "white space", " HTTP/1.1 200 OK", "RFC 9112 §2.2"),
            ("HTTP/1.1 200 OK\n", "bare LF", "HTTP/1.1 200 OK", "RFC 9112 §2.2"),
            ("HTTP/1.1 200 OK\r\nA: b\nC: d\r\n\r\n", "bare LF", "A: b", "RFC 9112 §2.2"),
            ("HTTP/2.0 200 OK\r\n\r\n", "version", "HTTP/2.0 200 OK", "RFC 9112 §2.3"),
            ("HTTP/1.1 OK 200\r\n\r\n", "status line", "HTTP/1.1 OK 200", "RFC 9112 §4"),
            ("HTTP/1.1 200OK\r\n\r\n", "status line", "HTTP/1.1 200OK", "RFC 9112 §4"),
            ("HTTP/1.1 200 \u{1b}[2J\r\n\r\n", "status line", "HTTP/1.1 200 \u{1b}[2J", "RFC 9112 §4"),
            ("HTTP/1.1 200 OK\r\nA: b\r\nX : y\r\n\r\n", "field line", "X : y", "RFC 9112 §5"),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
                "more than one",
                "6",
                "RFC 9112 §6.3",
            ),
            ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "Content-Length", "-1", "RFC 9110 §8.6"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "coding", "gzip", "RFC 9112 §6.1"),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\nzz\r\n",
                "chunk size",
                "zz",
                "RFC 9112 §7.1",
            ),
            ("\u{15}\u{3}\u{1}", "TLS", "\u{15}\u{3}\u{1}", "RFC 9112 §4"),
        ] {
            let Err(ResponseError::Malformed { violation, got }) = get(bytes) else { panic!("{bytes:?} is malformed") };
            assert!(violation.what.contains(word), "{bytes:?}: {violation:?}");
            assert_eq!((&*got, violation.clause), (line, clause), "{bytes:?}");
        }
    }

    #[test]
    fn a_folded_field_is_read_as_one_line() {
        let mut client = ResponseDecoder::new("GET");
        let (_, arrived) = client.receive(b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\tc\r\nY: z\r\n\r\n").expect("tolerated");
        let ResponsePart::Head(head) = arrived else { panic!("a head") };
        assert_eq!(head.field("x"), Some(&b"a   b  \tc"[..]));
        assert_eq!((head.field("y"), head.warnings.len()), (Some(&b"z"[..]), 1));
        assert!(get("HTTP/1.1 200 OK\r\n X: a\r\n\r\n").is_err(), "a fold without a field");
    }

    #[test]
    fn content_length_next_to_chunked_is_tolerated_with_a_warning() {
        let mut client = ResponseDecoder::new("GET");
        let (_, arrived) = client
            .receive(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n")
            .expect("tolerated");
        assert!(matches!(arrived, ResponsePart::Head(head) if head.warnings.len() == 1));
    }

    #[test]
    fn interim_responses_at_the_limit_are_accepted_and_one_more_is_not() {
        let many = |count: u32| {
            let interim = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(count as usize);
            get(&format!("{interim}HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
        };
        assert!(many(MAX_INTERIM).is_ok());
        assert!(matches!(many(MAX_INTERIM + 1), Err(ResponseError::Malformed { violation: TOO_MANY_INTERIM, .. })));
    }
}
