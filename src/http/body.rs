//! Message body framing (RFC 9112 §6.3, §7.1).
//!
//! Owns the decoding of Content-Length, chunked and close-delimited bodies, for client and server. Only the
//! framing is interpreted; the data is passed on by reference.
//!
//! ```text
//!   chunked:  size [;ext] CRLF  data CRLF   …   0 CRLF  trailer lines  CRLF
//! ```

use memchr::memchr;

use super::fields::{is_token, trim};
use crate::protocol::Violation;

/// Maximum length of a chunk-size line, including extensions.
const MAX_CHUNK_LINE: usize = 4 * 1024;
/// Maximum size of the trailer section including the empty line; it is read and ignored (RFC 9110 §6.5.1).
const MAX_TRAILER_BYTES: usize = 8 * 1024;

const CHUNK_SIZE: Violation = Violation::new("invalid chunk size", "1 to 16 hexadecimal digits", "RFC 9112 §7.1");
const CHUNK_EXTENSION: Violation = Violation::new(
    "invalid chunk extension",
    "';' and a name, and optionally '=' and a token or a quoted string",
    "RFC 9112 §7.1.1",
);
const CHUNK_END: Violation = Violation::new("a chunk is longer than its size", "CRLF after the data", "RFC 9112 §7.1");
const CHUNK_LINE_TOO_LONG: Violation =
    Violation::new("chunk line too long", "at most 4 KiB, and 8 KiB for all trailers", "RFC 9112 §7.1");
const CHUNK_LINE_BARE_LF: Violation = Violation::new("a chunk line ends in a bare LF", "CRLF", "RFC 9112 §7.1");
const CHUNK_LINE_CONTROL: Violation =
    Violation::new("control character in a chunk line", "visible characters, spaces and tabs", "RFC 9112 §7.1");

/// Body framing: how the end of a body is determined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Exactly this many bytes; 0 if there is no body.
    Length(u64),
    Chunked,
    /// Until the connection closes; responses only.
    UntilClose,
}

#[derive(Debug)]
pub(super) struct BodyDecoder {
    state: State,
}

#[derive(Debug)]
enum State {
    Length(u64),
    UntilClose,
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailers(usize),
    End,
}

/// Result of [`BodyDecoder::decode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyPart<'b> {
    /// More input is needed.
    NeedMore,
    /// Body data, never empty.
    Data(&'b [u8]),
    End,
}

impl BodyDecoder {
    pub(super) fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::ChunkSize,
            Framing::UntilClose => State::UntilClose,
        };
        Self { state }
    }

    /// Decodes the next part and returns the number of bytes consumed. The error is the framing violation and its
    /// offset.
    pub(super) fn decode<'b>(&mut self, bytes: &'b [u8]) -> Result<(usize, BodyPart<'b>), (Violation, usize)> {
        let mut taken = 0;
        loop {
            let rest = bytes.get(taken..).unwrap_or_default();
            match self.state {
                State::Length(0) | State::End => {
                    self.state = State::End;
                    return Ok((taken, BodyPart::End));
                }
                State::Length(left) => return Ok(self.take_data(rest, left, taken, State::Length)),
                State::ChunkData(left) => {
                    let piece = self.take_data(rest, left, taken, |left| match left {
                        0 => State::ChunkEnd,
                        left => State::ChunkData(left),
                    });
                    return Ok(piece);
                }
                State::UntilClose => return Ok(self.take_data(rest, u64::MAX, taken, |_| State::UntilClose)),
                State::ChunkSize => match next_line(rest, MAX_CHUNK_LINE).map_err(|violation| (violation, taken))? {
                    None => return Ok((taken, BodyPart::NeedMore)),
                    Some((content, length)) => {
                        self.state = match chunk_size(content).map_err(|violation| (violation, taken))? {
                            0 => State::Trailers(0),
                            size => State::ChunkData(size),
                        };
                        taken += length;
                    }
                },
                State::ChunkEnd => match rest {
                    [] | [b'\r'] => return Ok((taken, BodyPart::NeedMore)),
                    [b'\r', b'\n', ..] => {
                        taken += 2;
                        self.state = State::ChunkSize;
                    }
                    _ => return Err((CHUNK_END, taken)),
                },
                State::Trailers(seen) => {
                    match next_line(rest, MAX_TRAILER_BYTES - seen).map_err(|violation| (violation, taken))? {
                        None => return Ok((taken, BodyPart::NeedMore)),
                        Some((content, length)) => {
                            taken += length;
                            self.state = if content.is_empty() { State::End } else { State::Trailers(seen + length) };
                        }
                    }
                }
            }
        }
    }

    /// Checks whether the body is complete if the connection closes now; the error is the number of missing
    /// bytes, if known.
    pub(super) fn complete_at_close(&self) -> Result<(), Option<u64>> {
        match self.state {
            State::End | State::UntilClose | State::Length(0) => Ok(()),
            State::Length(missing) => Err(Some(missing)),
            _ => Err(None),
        }
    }

    fn take_data<'b>(
        &mut self,
        rest: &'b [u8],
        left: u64,
        taken: usize,
        next: impl Fn(u64) -> State,
    ) -> (usize, BodyPart<'b>) {
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
        let Some(data) = rest.get(..length).filter(|data| !data.is_empty()) else { return (taken, BodyPart::NeedMore) };
        self.state = next(left - length as u64);
        (taken + length, BodyPart::Data(data))
    }
}

/// Returns the next line without its CRLF, and its length with CRLF.
fn next_line(bytes: &[u8], limit: usize) -> Result<Option<(&[u8], usize)>, Violation> {
    let Some(end) = memchr(b'\n', bytes) else {
        return if bytes.len() > limit { Err(CHUNK_LINE_TOO_LONG) } else { Ok(None) };
    };
    if end >= limit {
        return Err(CHUNK_LINE_TOO_LONG);
    }
    let content = bytes.get(..end).and_then(|line| line.strip_suffix(b"\r")).ok_or(CHUNK_LINE_BARE_LF)?;
    if content.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return Err(CHUNK_LINE_CONTROL);
    }
    Ok(Some((content, end + 1)))
}

/// Parses `chunk-size [ chunk-ext ]` without sign, prefix or leading space. Lenient parsers disagree on the other
/// spellings, which is used to smuggle requests.
fn chunk_size(line: &[u8]) -> Result<u64, Violation> {
    let end = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    let (digits, extensions) = line.split_at(end);
    if digits.is_empty() || digits.len() > 16 {
        return Err(CHUNK_SIZE);
    }
    if !extensions.is_empty() {
        if !matches!(trim(extensions).first(), Some(b';')) {
            return Err(CHUNK_SIZE);
        }
        check_extensions(extensions).ok_or(CHUNK_EXTENSION)?;
    }
    let digits = std::str::from_utf8(digits).map_err(|_| CHUNK_SIZE)?;
    u64::from_str_radix(digits, 16).map_err(|_| CHUNK_SIZE)
}

/// Checks `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )`; the extensions themselves are ignored.
fn check_extensions(mut rest: &[u8]) -> Option<()> {
    while !rest.is_empty() {
        rest = skip_token(skip_space(skip_space(rest).strip_prefix(b";")?))?;
        if let Some(value) = skip_space(rest).strip_prefix(b"=") {
            let value = skip_space(value);
            rest = match value.strip_prefix(b"\"") {
                Some(quoted) => skip_quoted(quoted)?,
                None => skip_token(value)?,
            };
        }
    }
    Some(())
}

fn skip_space(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|byte| !matches!(byte, b' ' | b'\t')).unwrap_or(text.len());
    text.get(end..).unwrap_or_default()
}

fn skip_token(text: &[u8]) -> Option<&[u8]> {
    let end = text.iter().position(|byte| !is_token(&[*byte])).unwrap_or(text.len());
    text.get(end..).filter(|_| end > 0)
}

/// Skips the rest of a quoted string (RFC 9110 §5.6.4). Control characters were rejected with the line.
fn skip_quoted(mut text: &[u8]) -> Option<&[u8]> {
    loop {
        match text {
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', _, rest @ ..] | [_, rest @ ..] => text = rest,
            [] => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BodyDecoder, BodyPart, Framing, MAX_CHUNK_LINE, MAX_TRAILER_BYTES, Violation};

    /// Decodes `bytes` in two pieces and returns the data and whether the end was reached.
    fn decode(framing: Framing, bytes: &[u8], split: usize) -> Result<(Vec<u8>, bool), (Violation, usize)> {
        let mut body = BodyDecoder::new(framing);
        let (mut data, mut taken) = (Vec::new(), 0);
        for end in [split, bytes.len()] {
            loop {
                let (more, piece) = body.decode(&bytes[taken..end])?;
                taken += more;
                match piece {
                    BodyPart::Data(piece) => data.extend_from_slice(piece),
                    BodyPart::End => return Ok((data, true)),
                    BodyPart::NeedMore => break,
                }
            }
        }
        Ok((data, false))
    }

    #[test]
    fn chunks_are_joined_at_every_split() {
        let bytes = b"4;a=b;c\r\nWiki\r\n6 ; a = \"b;\\\"c\" ;d\r\npedia \r\nD;e=\"\"\r\nin\r\n\r\nchunks.\r\n0\r\nExpires: x\r\n\r\nnext";
        for split in 0..=bytes.len() {
            let (data, ended) = decode(Framing::Chunked, bytes, split).expect("well-formed");
            assert_eq!(data, b"Wikipedia in\r\n\r\nchunks.", "split at {split}");
            assert!(ended);
        }
    }

    #[test]
    fn a_body_with_a_length_ends_at_that_length() {
        assert_eq!(decode(Framing::Length(4), b"bodyGET /", 2), Ok((b"body".to_vec(), true)));
        assert_eq!(decode(Framing::Length(9), b"body", 2), Ok((b"body".to_vec(), false)));
        assert_eq!(decode(Framing::Length(0), b"x", 0), Ok((vec![], true)));
    }

    #[test]
    fn malformed_chunks_are_rejected() {
        for bad in [
            "Z\r\n",
            "0x5\r\n",
            "+5\r\n",
            "-1\r\n",
            "1_0\r\n",
            "\r\n",
            " 5\r\n",
            "5 \r\n",
            "5;\r\n",
            "5; \r\n",
            "5;=b\r\n",
            "5;a=\r\n",
            "5;a b\r\n",
            "5;a=\"b\r\n",
            "5;a=\"b\\\"\r\n",
            "5;a=\"b\"c\r\n",
            "5 a\r\n",
            "5;a\0\r\n",
            "5;a\rb\r\n",
            "5\nhello",
            "10000000000000000\r\n",
            "5\r\nhello!\r\n",
            "5\r\nhello\n",
            "0\r\nx: y\n\r\n",
        ] {
            assert!(decode(Framing::Chunked, bad.as_bytes(), 0).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_chunk_line_at_the_limit_is_accepted_and_one_byte_more_is_not() {
        let line = |length: usize| format!("1;{}\r\nx\r\n0\r\n\r\n", "a".repeat(length - 4));
        assert!(decode(Framing::Chunked, line(MAX_CHUNK_LINE).as_bytes(), 0).is_ok());
        assert!(decode(Framing::Chunked, line(MAX_CHUNK_LINE + 1).as_bytes(), 0).is_err());
    }

    #[test]
    fn trailers_at_the_limit_are_accepted_and_one_byte_more_is_not() {
        let trailers = |length: usize| format!("0\r\na:{}\r\n\r\n", "b".repeat(length - 6));
        assert!(decode(Framing::Chunked, trailers(MAX_TRAILER_BYTES).as_bytes(), 0).is_ok());
        assert!(decode(Framing::Chunked, trailers(MAX_TRAILER_BYTES + 1).as_bytes(), 0).is_err());
    }

    #[test]
    fn a_close_completes_only_a_close_delimited_body() {
        assert_eq!(BodyDecoder::new(Framing::UntilClose).complete_at_close(), Ok(()));
        assert_eq!(BodyDecoder::new(Framing::Length(3)).complete_at_close(), Err(Some(3)));
        assert_eq!(BodyDecoder::new(Framing::Chunked).complete_at_close(), Err(None));
    }
}
