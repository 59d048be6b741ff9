//! Decoder for the content between DATA and the final dot.
//!
//! Owns the end of a message: CR LF dot CR LF and nothing else (RFC 5321 §4.1.1.4). A bare LF or a bare
//! CR is content; a server that accepts `LF . LF` as the end lets one message smuggle in another
//! (CVE-2023-51764). Removes dot-stuffing (§4.5.2). The result does not depend on how the input is split.

use memchr::memmem;

const TERMINATOR: &[u8] = b"\r\n.\r\n";
/// Line end of the DATA command itself: a dot directly after it ends an empty message.
const LINE_END: &[u8] = b"\r\n";

/// State of one message being received.
#[derive(Debug)]
pub(in crate::smtp) struct DataDecoder {
    /// Dot-stuffed content, preceded by a line end; only the tail once the message is too large.
    raw: Vec<u8>,
    limit: usize,
    is_too_large: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::smtp) enum DataStatus {
    Incomplete,
    /// The final dot was received.
    Complete,
}

impl DataDecoder {
    /// Creates a decoder that rejects messages larger than `limit` bytes.
    pub(in crate::smtp) fn new(limit: usize) -> Self {
        Self { raw: LINE_END.to_vec(), limit, is_too_large: false }
    }

    /// Consumes input up to and including the final dot; returns the number of bytes consumed.
    pub(in crate::smtp) fn receive(&mut self, bytes: &[u8]) -> (usize, DataStatus) {
        let from = self.raw.len().saturating_sub(TERMINATOR.len() - 1);
        let before = self.raw.len();
        self.raw.extend_from_slice(bytes);
        let found = memmem::find(self.raw.get(from..).unwrap_or_default(), TERMINATOR).map(|at| from + at);
        let consumed = found.map_or(bytes.len(), |at| (at + TERMINATOR.len()).saturating_sub(before));
        if let Some(at) = found {
            self.raw.truncate(at + LINE_END.len());
        }
        // Stuffed dots do not count towards the size (RFC 1870 §5); `finish` checks the exact size.
        if self.raw.len() > self.limit.saturating_mul(2).saturating_add(TERMINATOR.len()) {
            self.is_too_large = true;
        }
        if self.is_too_large {
            self.discard_content();
        }
        (consumed, if found.is_some() { DataStatus::Complete } else { DataStatus::Incomplete })
    }

    /// Drops the content except the tail that is needed to find the end.
    pub(super) fn discard_content(&mut self) {
        self.is_too_large = true;
        let tail = self.raw.len().saturating_sub(TERMINATOR.len() - 1);
        self.raw.drain(..tail);
        self.raw.shrink_to(1024);
    }

    pub(super) fn buffered(&self) -> usize {
        self.raw.len()
    }

    /// Returns the message without dot-stuffing, or `None` if it is too large.
    pub(in crate::smtp) fn finish(self) -> Option<Vec<u8>> {
        if self.is_too_large {
            return None;
        }
        let message = unstuff(self.raw);
        (message.len() <= self.limit).then_some(message)
    }
}

fn unstuff(mut raw: Vec<u8>) -> Vec<u8> {
    const STUFFED_DOT: &[u8] = b"\r\n.";
    if memmem::find(&raw, STUFFED_DOT).is_none() {
        raw.drain(..LINE_END.len());
        return raw;
    }
    let mut message = Vec::with_capacity(raw.len());
    let mut from = 0;
    for at in memmem::find_iter(&raw, STUFFED_DOT) {
        message.extend_from_slice(raw.get(from..at + LINE_END.len()).unwrap_or_default());
        from = at + STUFFED_DOT.len();
    }
    message.extend_from_slice(raw.get(from..).unwrap_or_default());
    message.drain(..LINE_END.len());
    message
}

#[cfg(test)]
mod tests {
    use super::{DataDecoder, DataStatus};
    use crate::smtp::dot_stuffing::{count_bare_line_ends, dot_stuff};

    /// Decodes `wire` in pieces of `size` bytes; returns the message and the number of bytes after its end.
    fn decode_in_pieces(wire: &[u8], size: usize, limit: usize) -> Option<(Option<Vec<u8>>, usize)> {
        let mut body = DataDecoder::new(limit);
        let mut consumed = 0;
        for piece in wire.chunks(size) {
            let (count, status) = body.receive(piece);
            consumed += count;
            if status == DataStatus::Complete {
                return Some((body.finish(), wire.len() - consumed));
            }
            assert_eq!(count, piece.len());
        }
        None
    }

    #[test]
    fn only_crlf_dot_crlf_ends_a_message_at_any_split() {
        for (wire, message, rest) in [
            (&b".\r\nQUIT\r\n"[..], &b""[..], 6),
            (b"a\r\n.\r\n", b"a\r\n", 0),
            (b"a\n.\nb\r\n.\r\n", b"a\n.\nb\r\n", 0),
            (b"a\n.\r\nb\r\n.\r\n", b"a\n.\r\nb\r\n", 0),
            (b"a\r\n.\nb\r\n.\r\n", b"a\r\n\nb\r\n", 0),
            (b"a\r.\rb\r\n.\r\n", b"a\r.\rb\r\n", 0),
            (b"a\r\n\r.\r\nb\r\n.\r\nX", b"a\r\n\r.\r\nb\r\n", 1),
            (b"..\r\n...\r\n.x\r\n.\r\n", b".\r\n..\r\nx\r\n", 0),
            (b"\r\n.\r\n.\r\n", b"\r\n", 3),
            (b"a\0\r\n.\r\n", b"a\0\r\n", 0),
        ] {
            for size in 1..=wire.len() {
                // Input after the end is left for the next command.
                let (got, left) = decode_in_pieces(wire, size, 100).expect("it ends");
                assert_eq!(got.as_deref(), Some(message), "{wire:?} by {size}");
                assert_eq!(left, rest, "{wire:?} by {size}");
            }
        }
    }

    #[test]
    fn content_stuffed_by_our_client_is_restored() {
        let alphabet = [b'\r', b'\n', b'.', b'x'];
        for number in 0..4_usize.pow(6) {
            let lines: Vec<u8> = (0..6).map(|place| alphabet[number >> (2 * place) & 3]).collect();
            let mut wire = Vec::new();
            dot_stuff(&lines, &mut wire);
            let (got, left) = decode_in_pieces(&wire, 1 + number % 5, 100).expect("it ends");
            let got = got.expect("not too large");
            assert_eq!((count_bare_line_ends(&got), left), ((0, 0), 0));
            let mut again = Vec::new();
            dot_stuff(&got, &mut again);
            assert_eq!(again, wire);
        }
    }

    #[test]
    fn the_size_limit_applies_to_the_message_without_dot_stuffing() {
        let wire = |lines: usize| [b"..\r\n".repeat(lines), b".\r\n".to_vec()].concat();
        assert!(decode_in_pieces(&wire(100), 7, 300).expect("it ends").0.is_some());
        assert!(decode_in_pieces(&wire(100), 7, 299).expect("it ends").0.is_none());
        let (got, left) =
            decode_in_pieces(&[vec![b'x'; 100_000], b"\r\n.\r\nQUIT".to_vec()].concat(), 999, 10).expect("it ends");
        assert!(got.is_none() && left < 999);
    }

    #[test]
    fn a_message_that_is_too_large_is_not_buffered() {
        let mut body = DataDecoder::new(1_000);
        for _ in 0..1_000 {
            body.receive(&[b'x'; 1_000]);
            assert!(body.buffered() < 4_000);
        }
        assert!(body.finish().is_none());
    }
}
