//! Violations of a protocol: what is wrong, the correct form, the clause, and an excerpt of what was received.

/// Maximum length of an excerpt in characters.
const MAX_EXCERPT: usize = 100;

/// Violated rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// Description in lower case.
    pub what: &'static str,
    /// Correct form.
    pub expected: &'static str,
    /// Clause of the rule.
    pub clause: &'static str,
}

impl Violation {
    pub(crate) const fn new(what: &'static str, expected: &'static str, clause: &'static str) -> Self {
        Self { what, expected, clause }
    }
}

/// Returns the first line of `bytes`, shortened, with invalid UTF-8 replaced.
pub(crate) fn excerpt(bytes: &[u8]) -> String {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    datagram_excerpt(line)
}

/// Returns the beginning of a datagram, with its line ends and with invalid UTF-8 replaced.
pub(crate) fn datagram_excerpt(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes.get(..4 * MAX_EXCERPT).unwrap_or(bytes));
    match text.char_indices().nth(MAX_EXCERPT) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_EXCERPT, datagram_excerpt, excerpt};

    #[test]
    fn an_excerpt_is_one_short_line() {
        assert_eq!(excerpt(b"HTTP/1.1 OK 200\r\nx"), "HTTP/1.1 OK 200");
        assert_eq!(datagram_excerpt(b"PING 1\n"), "PING 1\n");
        assert_eq!(excerpt(b"\xff\x00"), "\u{fffd}\0");
        assert_eq!(excerpt("é".repeat(MAX_EXCERPT).as_bytes()), "é".repeat(MAX_EXCERPT));
        assert_eq!(excerpt("é".repeat(MAX_EXCERPT + 1).as_bytes()), "é".repeat(MAX_EXCERPT) + "...");
    }
}
