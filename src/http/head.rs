//! Incremental search for the end of a message head.
//!
//! Owns the rules for lines: every line ends in CRLF, a bare LF is rejected (RFC 9112 §2.2 allows a recipient to
//! accept it; a proxy in front may not, and that difference is used to smuggle requests), and a head has size
//! limits. Remembers the position reached, so a head sent one byte at a time is scanned only once.

use memchr::memchr;

use super::fields::MAX_FIELDS;

/// Maximum length of a request or status line (RFC 9112 §3 recommends at least 8000 bytes).
pub(super) const MAX_FIRST_LINE: usize = 8 * 1024;
pub(super) const MAX_REQUEST_HEAD: usize = 32 * 1024;
/// Twice the limit of requests, because servers send larger heads than clients.
pub(super) const MAX_RESPONSE_HEAD: usize = 64 * 1024;
/// Maximum number of empty lines before the first line: old clients send one after a body (RFC 9112 §2.2).
const MAX_LEADING_EMPTY_LINES: usize = 2;

/// Scanner for the empty line that ends a head.
#[derive(Debug)]
pub(super) struct Scanner {
    limit: usize,
    scanned: usize,
    line_start: usize,
    /// Offset of the first line, after any empty lines.
    start: usize,
    line_count: usize,
}

/// Position of a complete head in the scanned bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub start: usize,
    /// Offset after the empty line.
    pub end: usize,
}

/// Reason why a head is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeadError {
    BareLf,
    FirstLineTooLong,
    TooLarge,
    TooManyFields,
    TooManyEmptyLines,
}

impl Scanner {
    /// Creates a scanner for a head of at most `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, scanned: 0, line_start: 0, start: 0, line_count: 0 }
    }

    /// Scans `bytes`, which begin with the bytes of the previous call. Returns `None` if the head is incomplete.
    pub(super) fn scan(&mut self, bytes: &[u8]) -> Result<Option<Span>, HeadError> {
        while let Some(offset) = bytes.get(self.scanned..).and_then(|rest| memchr(b'\n', rest)) {
            let end = self.scanned + offset + 1;
            let line = bytes.get(self.line_start..end).unwrap_or_default();
            let Some(content) = line.strip_suffix(b"\r\n") else { return Err(HeadError::BareLf) };
            if content.is_empty() {
                if self.line_count > 0 {
                    return if end - self.start > self.limit {
                        Err(HeadError::TooLarge)
                    } else {
                        Ok(Some(Span { start: self.start, end }))
                    };
                }
                if end > MAX_LEADING_EMPTY_LINES * 2 {
                    return Err(HeadError::TooManyEmptyLines);
                }
                self.start = end;
            } else {
                self.line_count += 1;
                self.check_limits(content.len())?;
            }
            self.scanned = end;
            self.line_start = end;
        }
        self.scanned = bytes.len();
        self.check_limits(self.scanned - self.line_start)?;
        if self.scanned - self.start > self.limit { Err(HeadError::TooLarge) } else { Ok(None) }
    }

    /// Offset of the line that was scanned last.
    pub(super) fn line_start(&self) -> usize {
        self.line_start
    }

    /// Checks the limits that apply before the head is complete.
    fn check_limits(&self, length: usize) -> Result<(), HeadError> {
        // At this offset, the line is the first line, complete or not.
        if self.line_start == self.start && length > MAX_FIRST_LINE {
            return Err(HeadError::FirstLineTooLong);
        }
        if self.line_count > MAX_FIELDS + 1 {
            return Err(HeadError::TooManyFields);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{HeadError, MAX_FIRST_LINE, Scanner, Span};
    use crate::http::fields::MAX_FIELDS;

    const LIMIT: usize = 16 * 1024;

    fn scan(bytes: &[u8]) -> Result<Option<Span>, HeadError> {
        Scanner::new(LIMIT).scan(bytes)
    }

    #[test]
    fn a_head_is_found_at_every_split() {
        let bytes = b"GET / HTTP/1.1\r\nHost: h\r\n\r\nrest";
        for split in 0..bytes.len() {
            let mut scanner = Scanner::new(LIMIT);
            let first = scanner.scan(&bytes[..split]);
            let found = if let Ok(None) = first { scanner.scan(bytes) } else { first };
            assert_eq!(found, Ok(Some(Span { start: 0, end: 27 })), "split at {split}");
        }
    }

    #[test]
    fn two_leading_empty_lines_are_accepted_and_three_are_not() {
        assert_eq!(scan(b"\r\n\r\nx\r\n\r\n"), Ok(Some(Span { start: 4, end: 9 })));
        assert_eq!(scan(b"\r\n\r\n\r\nx\r\n\r\n"), Err(HeadError::TooManyEmptyLines));
    }

    #[test]
    fn a_bare_line_feed_is_rejected_as_soon_as_it_arrives() {
        assert_eq!(scan(b"GET / HTTP/1.1\nHo"), Err(HeadError::BareLf));
        assert_eq!(scan(b"\n"), Err(HeadError::BareLf));
    }

    #[test]
    fn a_first_line_at_the_limit_is_accepted_and_one_byte_more_is_not() {
        let line = vec![b'a'; MAX_FIRST_LINE];
        assert_eq!(scan(&line), Ok(None));
        assert_eq!(scan(&[&line[..], b"\r\n\r\n"].concat()).map(|span| span.is_some()), Ok(true));
        assert_eq!(scan(&[&line[..], b"a"].concat()), Err(HeadError::FirstLineTooLong));
    }

    #[test]
    fn a_head_at_the_limit_is_accepted_and_one_byte_more_is_not() {
        let head = |length: usize| {
            let mut head = b"x\r\n".to_vec();
            head.resize(length - 4, b'y');
            head.extend_from_slice(b"\r\n\r\n");
            head
        };
        assert_eq!(scan(&head(LIMIT)).map(|span| span.is_some()), Ok(true));
        assert_eq!(scan(&head(LIMIT + 1)), Err(HeadError::TooLarge));
        assert_eq!(scan(&head(LIMIT + 9)[..=LIMIT]), Err(HeadError::TooLarge));
    }

    #[test]
    fn a_hundred_fields_are_accepted_and_one_more_is_not() {
        let head = |fields: usize| format!("x\r\n{}\r\n", "a: b\r\n".repeat(fields));
        assert_eq!(scan(head(MAX_FIELDS).as_bytes()).map(|span| span.is_some()), Ok(true));
        assert_eq!(scan(head(MAX_FIELDS + 1).as_bytes()), Err(HeadError::TooManyFields));
    }
}
