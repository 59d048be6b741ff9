//! HTTP codec of a server: decodes requests and encodes response heads on one connection.
//!
//! Owns the order of a session: a request head, its response, the rest of the request body, the next head.
//! Must not know what is served.
//!
//! ```text
//!            complete head                     response              body drained
//!   Head ───────────────────▶ AwaitingResponse ─────────▶ Draining ─────────────▶ Head
//!    │ malformed                 │ not persistent            │ too long
//!    └──────────▶ Closed ◀───────┴───────────────────────────┘
//! ```

use super::body::{BodyDecoder, BodyPart, Framing};
use super::date::HttpDate;
use super::head::{MAX_REQUEST_HEAD, Scanner};
use super::request::Request;
use super::request_error::RequestError;
use super::status::Status;

/// Maximum number of body bytes read and discarded to keep a connection; beyond it, closing is cheaper for
/// client and server.
const MAX_DRAINED: u64 = 64 * 1024;
/// First byte of a TLS handshake record (RFC 8446 §5.1).
pub(super) const TLS_HANDSHAKE: u8 = 0x16;

/// Decoder of requests and encoder of response heads on one connection.
#[derive(Debug)]
pub(crate) struct ServerCodec {
    state: State,
}

#[derive(Debug)]
enum State {
    Head(Scanner),
    AwaitingResponse { keep_alive: bool, is_head_request: bool, body: Framing },
    Draining { body: BodyDecoder, remaining: u64 },
    Closed,
}

/// Result of [`ServerCodec::receive`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ServerInput<'b> {
    NeedMore,
    /// Request to be answered before more input is read.
    Request(Request<'b>),
    /// Rejected input; the response, if any, ends the connection.
    Invalid(RequestError),
}

/// Head of a final response.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutgoingHead<'a> {
    pub status: Status,
    /// Field lines other than Content-Length and Connection. Date and Server are added if they are missing.
    pub fields: &'a [(&'a str, &'a str)],
    /// Body length of the response to GET; not sent if the status allows no body.
    pub length: u64,
}

/// Steps after a response head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AfterHead {
    /// False for HEAD, 204 and 304.
    pub send_body: bool,
    pub close_connection: bool,
}

impl Default for ServerCodec {
    fn default() -> Self {
        Self { state: State::Head(Scanner::new(MAX_REQUEST_HEAD)) }
    }
}

impl ServerCodec {
    /// Decodes the next input and returns the number of bytes consumed. The caller keeps the bytes after a
    /// request until the request is answered.
    pub(crate) fn receive<'b>(&mut self, bytes: &'b [u8]) -> (usize, ServerInput<'b>) {
        let mut taken = 0;
        if let State::Draining { body, remaining } = &mut self.state {
            loop {
                match body.decode(bytes.get(taken..).unwrap_or_default()) {
                    Ok((more, BodyPart::Data(data))) if data.len() as u64 <= *remaining => {
                        taken += more;
                        *remaining -= data.len() as u64;
                    }
                    Ok((more, BodyPart::NeedMore)) => return (taken + more, ServerInput::NeedMore),
                    Ok((more, BodyPart::End)) => {
                        taken += more;
                        break;
                    }
                    // The response was sent already, so only the connection can be closed.
                    Ok(_) => {
                        return self.reject(bytes, RequestError::unanswered("request body too large"));
                    }
                    Err((violation, _)) => {
                        return self.reject(bytes, RequestError::unanswered(violation.what));
                    }
                }
            }
            *self = Self::default();
        }
        let State::Head(scanner) = &mut self.state else {
            return (if matches!(self.state, State::Closed) { bytes.len() } else { 0 }, ServerInput::NeedMore);
        };
        let rest = bytes.get(taken..).unwrap_or_default();
        if rest.first() == Some(&TLS_HANDSHAKE) {
            return self.reject(bytes, RequestError::unanswered("looks like TLS on a port without TLS"));
        }
        let parsed = match scanner.scan(rest) {
            Ok(None) => return (taken, ServerInput::NeedMore),
            Ok(Some(span)) => {
                Request::parse(rest.get(span.start..span.end).unwrap_or_default()).map(|request| (request, span))
            }
            Err(error) => {
                let line = rest.get(scanner.line_start()..).unwrap_or_default();
                Err(RequestError::from(error).in_line(line))
            }
        };
        match parsed {
            Ok((request, span)) => {
                self.state = State::AwaitingResponse {
                    // A client that waits for 100 may or may not send its body after a final response,
                    // so the connection cannot be reused (RFC 9110 §10.1.1).
                    keep_alive: request.keep_alive
                        && !(request.expects_continue && request.framing != Framing::Length(0)),
                    is_head_request: request.method == "HEAD",
                    body: request.framing,
                };
                (taken + span.end, ServerInput::Request(request))
            }
            Err(error) => self.reject(bytes, error),
        }
    }

    fn reject<'b>(&mut self, bytes: &[u8], error: RequestError) -> (usize, ServerInput<'b>) {
        self.state = State::Closed;
        (bytes.len(), ServerInput::Invalid(error))
    }

    /// Returns true if the next bytes belong to a head.
    pub(crate) fn is_in_head(&self) -> bool {
        matches!(self.state, State::Head(_))
    }

    /// Returns true while the rest of a request body is discarded.
    pub(crate) fn is_draining(&self) -> bool {
        matches!(self.state, State::Draining { .. })
    }

    /// Appends the head of the response to the last request or rejection, and returns the steps after it.
    /// `last` closes the connection even if the client wants to keep it.
    pub(crate) fn respond(
        &mut self,
        head: &OutgoingHead<'_>,
        date: HttpDate,
        last: bool,
        out: &mut Vec<u8>,
    ) -> AfterHead {
        let (keep_alive, is_head_request, body) = match &self.state {
            State::AwaitingResponse { keep_alive, is_head_request, body } => {
                (*keep_alive && !last, *is_head_request, *body)
            }
            _ => (false, false, Framing::Length(0)),
        };
        let keep_alive = keep_alive && !matches!(body, Framing::Length(length) if length > MAX_DRAINED);
        write_head(head, date, keep_alive, out);
        self.state = match (keep_alive, body) {
            (false, _) => State::Closed,
            (true, Framing::Length(0)) => State::Head(Scanner::new(MAX_REQUEST_HEAD)),
            (true, body) => State::Draining { body: BodyDecoder::new(body), remaining: MAX_DRAINED },
        };
        AfterHead { send_body: !is_head_request && !head.status.forbids_body(), close_connection: !keep_alive }
    }
}

/// Writes the status line and fields (RFC 9112 §4; Date: RFC 9110 §6.6.1).
fn write_head(head: &OutgoingHead<'_>, date: HttpDate, keep_alive: bool, out: &mut Vec<u8>) {
    use std::io::Write as _;
    let status = head.status;
    let is_missing = |name: &str| head.fields.iter().all(|(found, _)| !found.eq_ignore_ascii_case(name));
    // Writing to a Vec cannot fail.
    let _ = write!(out, "HTTP/1.1 {status}\r\n");
    if is_missing("Server") {
        let _ = write!(out, "Server: netlab/{}\r\n", env!("CARGO_PKG_VERSION"));
    }
    if is_missing("Date") {
        let _ = write!(out, "Date: {date}\r\n");
    }
    if !status.forbids_body() {
        let _ = write!(out, "Content-Length: {}\r\n", head.length);
    }
    for (name, value) in head.fields {
        let _ = write!(out, "{name}: {value}\r\n");
    }
    // Sent in both cases: an HTTP/1.0 client that requested keep-alive needs the confirmation.
    let _ = write!(out, "Connection: {}\r\n\r\n", if keep_alive { "keep-alive" } else { "close" });
}

#[cfg(test)]
mod tests {
    use super::{AfterHead, MAX_DRAINED, OutgoingHead, ServerCodec, ServerInput};
    use crate::http::{HttpDate, Status};
    use std::time::Duration;

    const OK: OutgoingHead<'_> = OutgoingHead { status: Status::OK, fields: &[("X-Y", "z")], length: 2 };

    fn respond(server: &mut ServerCodec) -> (String, AfterHead) {
        let mut out = Vec::new();
        let after = server.respond(&OK, HttpDate::from_wall_time(Duration::ZERO), false, &mut out);
        (String::from_utf8(out).expect("ASCII"), after)
    }

    /// Feeds all bytes and answers each request; returns the targets and the rejection, if any.
    fn feed(bytes: &[u8]) -> (Vec<String>, Option<&'static str>) {
        let (mut server, mut taken, mut targets) = (ServerCodec::default(), 0, Vec::new());
        loop {
            let (more, incoming) = server.receive(&bytes[taken..]);
            taken += more;
            match incoming {
                ServerInput::NeedMore => return (targets, None),
                ServerInput::Invalid(error) => return (targets, Some(error.reason)),
                ServerInput::Request(request) => targets.push(request.target.to_owned()),
            }
            respond(&mut server);
        }
    }

    #[test]
    fn a_field_of_the_handler_replaces_the_default() {
        let head = OutgoingHead { fields: &[("server", "lab"), ("X-Y", "z")], ..OK };
        let mut server = ServerCodec::default();
        let _ = server.receive(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        let mut out = Vec::new();
        server.respond(&head, HttpDate::from_wall_time(Duration::ZERO), false, &mut out);
        let head = String::from_utf8(out).expect("ASCII").to_ascii_lowercase();
        assert_eq!((head.matches("server:").count(), head.matches("date:").count()), (1, 1), "{head}");
        assert!(head.contains("server: lab\r\n"), "{head}");
    }

    #[test]
    fn a_response_has_its_length_and_connection_option() {
        let mut server = ServerCodec::default();
        let _ = server.receive(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        let (head, after) = respond(&mut server);
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.ends_with("Content-Length: 2\r\nX-Y: z\r\nConnection: keep-alive\r\n\r\n"), "{head}");
        assert_eq!(after, AfterHead { send_body: true, close_connection: false });
    }

    #[test]
    fn head_has_the_same_fields_and_no_body() {
        let mut server = ServerCodec::default();
        let _ = server.receive(b"HEAD / HTTP/1.0\r\n\r\n");
        let (head, after) = respond(&mut server);
        assert!(head.contains("Content-Length: 2\r\n") && head.contains("Connection: close\r\n"));
        assert_eq!(after, AfterHead { send_body: false, close_connection: true });
    }

    #[test]
    fn pipelined_requests_are_decoded_one_by_one() {
        let pipelined = b"GET /1 HTTP/1.1\r\nHost: h\r\n\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\nGET /3 HT";
        assert_eq!(feed(pipelined), (vec!["/1".into(), "/2".into()], None));
    }

    #[test]
    fn a_request_is_decoded_at_every_split() {
        let bytes = b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n";
        for split in 0..bytes.len() {
            let mut server = ServerCodec::default();
            assert_eq!(server.receive(&bytes[..split]), (0, ServerInput::NeedMore));
            assert!(matches!(server.receive(bytes), (28, ServerInput::Request(_))), "split at {split}");
        }
    }

    #[test]
    fn a_body_is_never_parsed_as_the_next_request() {
        let smuggled = b"POST /1 HTTP/1.1\r\nHost: h\r\nContent-Length: 28\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n";
        let after = [&smuggled[..], b"GET /3 HTTP/1.1\r\nHost: h\r\n\r\n"].concat();
        assert_eq!(feed(&after), (vec!["/1".into(), "/3".into()], None));
        let chunked = b"GET /1 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nGET /\r\n0\r\nHost: z\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n";
        assert_eq!(feed(chunked), (vec!["/1".into(), "/2".into()], None));
    }

    #[test]
    fn a_body_at_the_limit_keeps_the_connection_and_one_byte_more_does_not() {
        let closes = |length: u64| {
            let mut server = ServerCodec::default();
            let head = format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n");
            let _ = server.receive(head.as_bytes());
            respond(&mut server).1.close_connection
        };
        assert!(!closes(MAX_DRAINED));
        assert!(closes(MAX_DRAINED + 1));
    }

    #[test]
    fn nothing_after_a_rejection_is_answered() {
        let smuggled = b"GET /1 HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n";
        assert_eq!(feed(smuggled), (vec![], Some("both Transfer-Encoding and Content-Length (RFC 9112 §6.3)")));
    }

    #[test]
    fn a_body_that_waits_for_100_ends_the_connection() {
        let mut server = ServerCodec::default();
        let _ = server.receive(b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
        assert!(respond(&mut server).1.close_connection);
    }

    #[test]
    fn a_tls_client_hello_is_recognized_and_gets_no_response() {
        let (_, incoming) = ServerCodec::default().receive(b"\x16\x03\x01\x02\x00");
        assert!(
            matches!(incoming, ServerInput::Invalid(error) if error.status.is_none() && error.reason.contains("TLS"))
        );
    }
}
