//! Where a body begins and ends (RFC 9112 §6.3, §7.1).
//!
//! Owns the decoding of Content-Length, chunked and close-delimited bodies for both sides. Only
//! what is framing is read; the data is handed through by reference.
//!
//! ```text
//!   chunked:  size [;ext] CRLF  data CRLF   …   0 CRLF  trailer lines  CRLF
//! ```

use memchr::memchr;

use super::fields::{is_token, trim};

/// The longest line of a chunk size with its extensions.
const MAX_CHUNK_LINE: usize = 4 * 1024;
/// The most octets of trailer lines with the empty one, read and ignored (RFC 9110 §6.5.1).
const MAX_TRAILER_BYTES: usize = 8 * 1024;

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Exactly this many octets; zero where there is no body.
    Length(u64),
    /// In chunks.
    Chunked,
    /// By the end of the connection; responses only.
    UntilClose,
}

/// A body on its way in.
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

/// What the next octets of a body are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyPart<'b> {
    /// Not enough there to tell.
    NeedMore,
    /// Data, never empty.
    Data(&'b [u8]),
    /// The body is complete.
    End,
}

impl BodyDecoder {
    /// The start of a body.
    pub(super) fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::ChunkSize,
            Framing::UntilClose => State::UntilClose,
        };
        Self { state }
    }

    /// Takes octets up to the next piece; returns how many it took. The error says what is wrong
    /// with the chunks.
    pub(super) fn decode<'b>(&mut self, bytes: &'b [u8]) -> Result<(usize, BodyPart<'b>), &'static str> {
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
                State::ChunkSize => match next_line(rest, MAX_CHUNK_LINE)? {
                    None => return Ok((taken, BodyPart::NeedMore)),
                    Some((content, length)) => {
                        taken += length;
                        self.state = match chunk_size(content)? {
                            0 => State::Trailers(0),
                            size => State::ChunkData(size),
                        };
                    }
                },
                State::ChunkEnd => match rest {
                    [] | [b'\r'] => return Ok((taken, BodyPart::NeedMore)),
                    [b'\r', b'\n', ..] => {
                        taken += 2;
                        self.state = State::ChunkSize;
                    }
                    _ => return Err("a chunk is longer than its size says"),
                },
                State::Trailers(seen) => match next_line(rest, MAX_TRAILER_BYTES - seen)? {
                    None => return Ok((taken, BodyPart::NeedMore)),
                    Some((content, length)) => {
                        taken += length;
                        self.state = if content.is_empty() { State::End } else { State::Trailers(seen + length) };
                    }
                },
            }
        }
    }

    /// How many octets are known to be missing if the connection ends here; `Ok` if the body is
    /// whole, `Err(None)` if it is cut but nobody can say by how much.
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

/// The next line without its CRLF, and its length with it.
fn next_line(bytes: &[u8], limit: usize) -> Result<Option<(&[u8], usize)>, &'static str> {
    let Some(end) = memchr(b'\n', bytes) else {
        return if bytes.len() > limit { Err("a chunk line is too long") } else { Ok(None) };
    };
    if end >= limit {
        return Err("a chunk line is too long");
    }
    let content = bytes.get(..end).and_then(|line| line.strip_suffix(b"\r")).ok_or("a chunk line ends in a bare LF")?;
    if content.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return Err("a control octet in a chunk line");
    }
    Ok(Some((content, end + 1)))
}

/// `1*HEXDIG [ ";" ext ]`, without sign, prefix or space: the spellings that a lenient reader
/// would take differently are those that smuggle.
fn chunk_size(line: &[u8]) -> Result<u64, &'static str> {
    let mut parts = line.splitn(2, |byte| *byte == b';');
    let digits = parts.next().unwrap_or_default();
    if digits.is_empty() || digits.len() > 16 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err("a chunk size is not a hexadecimal number");
    }
    if parts.next().is_some_and(|extensions| !extensions.split(|byte| *byte == b';').all(is_extension)) {
        return Err("a chunk extension has no name");
    }
    let digits = std::str::from_utf8(digits).map_err(|_| "a chunk size is not a hexadecimal number")?;
    u64::from_str_radix(digits, 16).map_err(|_| "a chunk size is too large")
}

/// `name [ "=" value ]`; the value is ignored, so its quoting is not looked into.
fn is_extension(extension: &[u8]) -> bool {
    let name = extension.split(|byte| *byte == b'=').next().unwrap_or_default();
    is_token(trim(name))
}

#[cfg(test)]
mod tests {
    use super::{BodyDecoder, BodyPart, Framing, MAX_CHUNK_LINE, MAX_TRAILER_BYTES};

    /// Feeds `bytes` as two pieces and returns the data, and whether the end was reached.
    fn decode(framing: Framing, bytes: &[u8], split: usize) -> Result<(Vec<u8>, bool), &'static str> {
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
        let bytes = b"4;a=b;c\r\nWiki\r\n6\r\npedia \r\nD\r\nin\r\n\r\nchunks.\r\n0\r\nExpires: x\r\n\r\nnext";
        for split in 0..=bytes.len() {
            let (data, ended) = decode(Framing::Chunked, bytes, split).expect("well-formed");
            assert_eq!(data, b"Wikipedia in\r\n\r\nchunks.", "split at {split}");
            assert!(ended);
        }
    }

    #[test]
    fn a_counted_body_ends_at_its_count() {
        assert_eq!(decode(Framing::Length(4), b"bodyGET /", 2), Ok((b"body".to_vec(), true)));
        assert_eq!(decode(Framing::Length(9), b"body", 2), Ok((b"body".to_vec(), false)));
        assert_eq!(decode(Framing::Length(0), b"x", 0), Ok((vec![], true)));
    }

    #[test]
    fn crooked_chunks_are_refused() {
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
    fn a_chunk_line_at_its_limit_is_good_and_one_past_it_is_not() {
        let line = |length: usize| format!("1;{}\r\nx\r\n0\r\n\r\n", "a".repeat(length - 4));
        assert!(decode(Framing::Chunked, line(MAX_CHUNK_LINE).as_bytes(), 0).is_ok());
        assert!(decode(Framing::Chunked, line(MAX_CHUNK_LINE + 1).as_bytes(), 0).is_err());
    }

    #[test]
    fn trailers_at_their_limit_are_good_and_one_past_it_are_not() {
        let trailers = |length: usize| format!("0\r\na:{}\r\n\r\n", "b".repeat(length - 6));
        assert!(decode(Framing::Chunked, trailers(MAX_TRAILER_BYTES).as_bytes(), 0).is_ok());
        assert!(decode(Framing::Chunked, trailers(MAX_TRAILER_BYTES + 1).as_bytes(), 0).is_err());
    }

    #[test]
    fn the_close_completes_only_what_it_delimits() {
        assert_eq!(BodyDecoder::new(Framing::UntilClose).complete_at_close(), Ok(()));
        assert_eq!(BodyDecoder::new(Framing::Length(3)).complete_at_close(), Err(Some(3)));
        assert_eq!(BodyDecoder::new(Framing::Chunked).complete_at_close(), Err(None));
    }
}
