//! Strict parser of a request head.
//!
//! Owns the rules of RFC 9112 §3 and §6.3 for the request line, Host and the body, and the status of each
//! violation. A head that is accepted here means the same to every parser.

use httparse::EMPTY_HEADER;

use super::authority::is_authority;
use super::body::Framing;
use super::field_lines::FieldLines;
use super::fields::{Fields, MAX_FIELDS, content_length, is_token};
use super::head::HeadError;
use super::request_error::RequestError;
use super::response::is_field_line;
use super::status::Status;

/// Methods of RFC 9110 §9 and RFC 5789; rejected with 405, unknown methods with 501.
const KNOWN_METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

/// Version of a request; HTTP/1.2 to HTTP/1.9 are read as HTTP/1.1 (RFC 9110 §2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Http10,
    Http11,
}

/// Valid request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request<'b> {
    pub method: &'b str,
    /// Path and query of an origin-form target, or `*`.
    pub target: &'b str,
    /// Authority of the target if it has one, else the Host field (RFC 9112 §3.2.2).
    pub host: Option<&'b str>,
    /// Request line without its line end, for logs.
    pub request_line: &'b [u8],
    pub version: Version,
    pub framing: Framing,
    /// The connection persists after the response (RFC 9112 §9.3).
    pub keep_alive: bool,
    /// The client waits for 100 Continue before sending the body (RFC 9110 §10.1.1).
    pub expects_continue: bool,
    pub fields: FieldLines<'b>,
}

impl<'b> Request<'b> {
    /// Parses a head that ends in its empty line.
    pub(crate) fn parse(head: &'b [u8]) -> Result<Self, RequestError> {
        let end = head
            .windows(2)
            .position(|pair| pair == b"\r\n")
            .ok_or(RequestError::bad_request("missing request line (RFC 9112 §3)"))?;
        let (line, rest) = head.split_at(end);
        let (method, target, version) = request_line(line)?;
        let mut storage = [EMPTY_HEADER; MAX_FIELDS];
        let fields = field_lines(rest.get(2..).unwrap_or_default(), &mut storage)?;

        let framing = framing(fields, version)?;
        let host = host(fields, version)?;
        let (authority, target) = origin_form(method, target)?;
        if !KNOWN_METHODS.contains(&method) {
            return Err(RequestError::new(Status::NOT_IMPLEMENTED, "unknown method (RFC 9110 §9.1)"));
        }
        let expects_continue = expectation(fields, version)?;
        Ok(Self {
            method,
            target,
            host: authority.or(host),
            request_line: line,
            version,
            framing,
            keep_alive: !fields.list_contains("connection", "close")
                && (version == Version::Http11 || fields.list_contains("connection", "keep-alive")),
            expects_continue,
            fields: FieldLines::new(rest.get(2..).unwrap_or_default()),
        })
    }
}

/// Parses `method SP request-target SP HTTP-version` with single spaces (RFC 9112 §3). Splitting on any white space,
/// as RFC 9112 §3 permits, lets two parsers find different targets.
fn request_line(line: &[u8]) -> Result<(&str, &str, Version), RequestError> {
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(RequestError::bad_request(
            "malformed request line: expected method, target, version (RFC 9112 §3)",
        ));
    };
    if !is_token(method) {
        return Err(RequestError::bad_request("the method is not a token (RFC 9112 §3.1)"));
    }
    let version = match version {
        b"HTTP/1.0" => Version::Http10,
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1'..=b'9'] => Version::Http11,
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
            return Err(RequestError::new(
                Status::HTTP_VERSION_NOT_SUPPORTED,
                "unsupported HTTP version (RFC 9110 §15.6.6)",
            ));
        }
        _ => return Err(RequestError::bad_request("malformed HTTP version: expected 'HTTP/1.1' (RFC 9112 §2.3)")),
    };
    if !target.iter().all(|byte| matches!(byte, 0x21..=0x7e)) || target.iter().any(|byte| matches!(byte, b'\\' | b'#'))
    {
        return Err(RequestError::bad_request("the target has a character not allowed in a URI (RFC 9112 §3.2)"));
    }
    match (std::str::from_utf8(method), std::str::from_utf8(target)) {
        (Ok(method), Ok(target)) => Ok((method, target, version)),
        _ => Err(RequestError::bad_request("the request line is not ASCII (RFC 9112 §2.2)")),
    }
}

/// Reduces the four target forms of RFC 9112 §3.2 to a path with its query, or `*`. Returns the authority of an
/// absolute-form target with it.
fn origin_form<'b>(method: &str, target: &'b str) -> Result<(Option<&'b str>, &'b str), RequestError> {
    const INVALID_TARGET: RequestError =
        RequestError::bad_request("the target is neither a path nor an http URI (RFC 9112 §3.2)");
    match method {
        "CONNECT" if is_authority(target.as_bytes()) && target.contains(':') => return Ok((None, "*")),
        "CONNECT" => return Err(RequestError::bad_request("the target of CONNECT is not host:port (RFC 9112 §3.2.3)")),
        "OPTIONS" if target == "*" => return Ok((None, "*")),
        _ => {}
    }
    if target.starts_with('/') {
        return Ok((None, target));
    }
    // Absolute-form: the authority replaces Host (RFC 9112 §3.2.2) and follows the same syntax.
    let colon = target.find("://").ok_or(INVALID_TARGET)?;
    let (scheme, rest) = target.split_at(colon);
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(INVALID_TARGET);
    }
    let rest = rest.get(3..).unwrap_or_default();
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    if !is_authority(authority.as_bytes()) {
        return Err(RequestError::bad_request("malformed host in the target (RFC 9112 §3.2.2)"));
    }
    // `http://h` means `/`, and `http://h?q` means `/` with a query, which files ignore.
    Ok((Some(authority), if path.starts_with('/') { path } else { "/" }))
}

fn field_lines<'h, 'b>(
    bytes: &'b [u8],
    storage: &'h mut [httparse::Header<'b>],
) -> Result<Fields<'h, 'b>, RequestError> {
    match httparse::parse_headers(bytes, storage) {
        Ok(httparse::Status::Complete((_, headers))) => Ok(Fields::new(headers)),
        Err(httparse::Error::TooManyHeaders) => Err(HeadError::TooManyFields.into()),
        Ok(httparse::Status::Partial) | Err(_) => {
            let wrong = bytes.split(|byte| *byte == b'\n').find(|line| !is_field_line(line));
            Err(RequestError::bad_request("malformed field line (RFC 9112 §5)").in_line(wrong.unwrap_or(bytes)))
        }
    }
}

/// Requires exactly one valid Host field; only HTTP/1.0 may omit it (RFC 9112 §3.2).
fn host<'b>(fields: Fields<'_, 'b>, version: Version) -> Result<Option<&'b str>, RequestError> {
    let mut hosts = fields.all("host");
    match (hosts.next(), hosts.next()) {
        (None, _) if version == Version::Http10 => Ok(None),
        (None, _) => Err(RequestError::bad_request("missing Host field (RFC 9112 §3.2)")),
        (Some(_), Some(_)) => Err(RequestError::bad_request("more than one Host field (RFC 9112 §3.2)")),
        (Some(host), None) if is_authority(host) => Ok(std::str::from_utf8(host).ok()),
        (Some(_), None) => Err(RequestError::bad_request("malformed Host field (RFC 9112 §3.2)")),
    }
}

/// Determines the body framing (RFC 9112 §6.1, §6.3). Rejects Transfer-Encoding together with Content-Length,
/// repeated, in HTTP/1.0, or not ending in chunked: each is a known request-smuggling vector.
fn framing(fields: Fields<'_, '_>, version: Version) -> Result<Framing, RequestError> {
    let length = content_length(fields).map_err(|violation| RequestError::bad_request(violation.what))?;
    let mut codings = fields.all("transfer-encoding");
    let Some(coding) = codings.next() else {
        return Ok(Framing::Length(length.unwrap_or(0)));
    };
    if version == Version::Http10 {
        return Err(RequestError::bad_request("Transfer-Encoding in HTTP/1.0 (RFC 9112 §6.1)"));
    }
    if length.is_some() {
        return Err(RequestError::bad_request("both Transfer-Encoding and Content-Length (RFC 9112 §6.3)"));
    }
    if codings.next().is_some() {
        return Err(RequestError::bad_request("more than one Transfer-Encoding field line (RFC 9112 §11.2)"));
    }
    if coding.eq_ignore_ascii_case(b"chunked") {
        return Ok(Framing::Chunked);
    }
    let mut names = coding.rsplit(|byte| *byte == b',').map(super::fields::trim);
    let ends_chunked = names.next().is_some_and(|name| name.eq_ignore_ascii_case(b"chunked"));
    let others: Vec<_> = names.collect();
    let others_are_codings =
        !others.is_empty() && others.iter().all(|name| is_token(name) && !name.eq_ignore_ascii_case(b"chunked"));
    if ends_chunked && others_are_codings {
        return Err(RequestError::new(
            Status::NOT_IMPLEMENTED,
            "unsupported transfer coding: expected chunked (RFC 9112 §6.1)",
        ));
    }
    Err(RequestError::bad_request("Transfer-Encoding does not end in a single chunked (RFC 9112 §6.3)"))
}

/// Parses Expect (RFC 9110 §10.1.1), which is ignored in HTTP/1.0.
fn expectation(fields: Fields<'_, '_>, version: Version) -> Result<bool, RequestError> {
    match fields.first("expect") {
        Some(value) if version == Version::Http11 && !value.eq_ignore_ascii_case(b"100-continue") => {
            Err(RequestError::new(
                Status::EXPECTATION_FAILED,
                "unsupported expectation: expected 100-continue (RFC 9110 §10.1.1)",
            ))
        }
        expect => Ok(expect.is_some() && version == Version::Http11),
    }
}

#[cfg(test)]
mod tests {
    use super::{Framing, Request};

    fn status(head: &str) -> u16 {
        match Request::parse(head.as_bytes()) {
            Ok(_) => 200,
            Err(error) => error.status.map_or(0, super::Status::code),
        }
    }

    fn status_with_field(field: &str) -> u16 {
        status(&format!("GET / HTTP/1.1\r\nHost: h\r\n{field}\r\n\r\n"))
    }

    fn status_of_line(line: &str) -> u16 {
        status(&format!("{line}\r\nHost: h\r\n\r\n"))
    }

    #[test]
    fn a_simple_request_is_parsed() {
        let head = b"GET /a?b HTTP/1.1\r\nHost: h:1\r\nUser-Agent:  x y \r\n\r\n";
        let request = Request::parse(head).expect("well-formed");
        assert_eq!((request.method, request.target), ("GET", "/a?b"));
        assert_eq!(request.request_line, b"GET /a?b HTTP/1.1");
        assert_eq!(request.fields.first("user-agent"), Some(&b"x y"[..]));
        assert!(request.keep_alive && request.framing == Framing::Length(0));
    }

    #[test]
    fn the_request_line_has_three_words_and_a_version() {
        for (text, expected) in [
            ("GET  / HTTP/1.1", 400),
            ("GET\t/ HTTP/1.1", 400),
            ("GET / HTTP/1.1 ", 400),
            (" GET / HTTP/1.1", 400),
            ("GET /", 400),
            ("GET / HTTP/1", 400),
            ("GET / HTTP/01.1", 400),
            ("GET / http/1.1", 400),
            ("GET / HTTP/1.32", 400),
            ("GET / HTTP/1.2", 200),
            ("GET / HTTP/9.9", 505),
            ("PRI * HTTP/2.0", 505),
            ("G{T / HTTP/1.1", 400),
            ("get / HTTP/1.1", 501),
            ("BREW /pot HTTP/1.1", 501),
            ("POST / HTTP/1.1", 200),
        ] {
            assert_eq!(status_of_line(text), expected, "{text}");
        }
    }

    #[test]
    fn targets_have_four_forms() {
        for (text, expected) in [
            ("GET http://h/p HTTP/1.1", Some("/p")),
            ("GET HTTP://h HTTP/1.1", Some("/")),
            ("GET http://h?q HTTP/1.1", Some("/")),
            ("OPTIONS * HTTP/1.1", Some("*")),
            ("CONNECT h:443 HTTP/1.1", Some("*")),
            ("CONNECT / HTTP/1.1", None),
            ("GET * HTTP/1.1", None),
            ("GET h:80 HTTP/1.1", None),
            ("GET p HTTP/1.1", None),
            ("GET ftp://h/p HTTP/1.1", None),
            ("GET http://u@h/p HTTP/1.1", None),
            ("GET /a#f HTTP/1.1", None),
            ("GET /a\\b HTTP/1.1", None),
            ("GET /\u{e9} HTTP/1.1", None),
        ] {
            let head = format!("{text}\r\nHost: h\r\n\r\n");
            assert_eq!(Request::parse(head.as_bytes()).ok().map(|request| request.target), expected, "{text}");
        }
    }

    #[test]
    fn host_is_present_once_and_well_formed() {
        assert_eq!(status("GET / HTTP/1.1\r\n\r\n"), 400);
        assert_eq!(status("GET / HTTP/1.0\r\n\r\n"), 200);
        assert_eq!(status_with_field("Host: h"), 400, "repeated, even with the same value");
        for bad in ["", "a, b", "u@h", "h/p", "bad host", "h:65536", "[::1", "."] {
            assert_eq!(status(&format!("GET / HTTP/1.1\r\nHost: {bad}\r\n\r\n")), 400, "{bad}");
        }
    }

    #[test]
    fn malformed_field_lines_are_rejected() {
        for bad in
            [" X: y", "X : y", "X\t: y", "X: a\r\n b", ": y", "X", "X: a\0b", "X\u{e9}: y", "X: a\rb", "X: \u{7f}"]
        {
            assert_eq!(status_with_field(bad), 400, "{bad:?}");
        }
        assert_eq!(status_with_field("X: caf\u{e9}"), 200, "obs-text in a value is opaque");
    }

    #[test]
    fn only_a_single_chunked_transfer_encoding_is_accepted() {
        for (fields, expected) in [
            ("Transfer-Encoding: chunked", 200),
            ("Transfer-Encoding: Chunked", 200),
            ("Transfer-Encoding: chunked\r\nContent-Length: 5", 400),
            ("Content-Length: 5\r\ntransfer-encoding: chunked", 400),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400),
            ("Transfer-Encoding: chunked, chunked", 400),
            ("Transfer-Encoding: ,chunked", 400),
            ("Transfer-Encoding: xchunked", 400),
            ("Transfer-Encoding: identity", 400),
            ("Transfer-Encoding:", 400),
            ("Transfer-Encoding: chunked\u{b}", 400),
            ("Transfer-Encoding: gzip, chunked", 501),
            ("Content-Length: +5", 400),
            ("Content-Length: 5\r\nContent-Length: 5", 400),
        ] {
            assert_eq!(status_with_field(fields), expected, "{fields:?}");
        }
        assert_eq!(status("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400);
    }

    #[test]
    fn only_100_continue_is_a_known_expectation() {
        assert_eq!(status_with_field("Expect: 100-Continue"), 200);
        assert_eq!(status_with_field("Expect: cake"), 417);
        assert_eq!(status("GET / HTTP/1.0\r\nExpect: cake\r\n\r\n"), 200);
    }

    #[test]
    fn keep_alive_follows_version_and_connection() {
        let persists = |head: &str| Request::parse(head.as_bytes()).expect("well-formed").keep_alive;
        assert!(persists("GET / HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert!(!persists("GET / HTTP/1.1\r\nHost: h\r\nConnection: x, Close\r\n\r\n"));
        assert!(!persists("GET / HTTP/1.0\r\n\r\n"));
        assert!(persists("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
    }
}
