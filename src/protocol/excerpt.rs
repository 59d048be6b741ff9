//! Bytes of a peer or a file as text: excerpts for messages, and whether bytes are text at all.

/// Maximum length of an excerpt in characters.
const MAX_EXCERPT: usize = 100;

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

/// Returns the last line that is not empty, complete or not.
pub(crate) fn last_line(bytes: &[u8]) -> Option<&[u8]> {
    let mut lines = bytes.rsplit(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line)).take(2);
    lines.find(|line| !line.is_empty())
}

/// Returns whether bytes are UTF-8; the last character may be cut off.
pub(crate) fn is_utf8(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).map_or_else(|error| error.error_len().is_none(), |_| true)
}

/// Returns whether bytes are UTF-8 without control characters other than white space; the last character may be cut off.
pub(crate) fn is_text(bytes: &[u8]) -> bool {
    let is_control = |byte: &u8| byte.is_ascii_control() && !b"\t\n\r\x0c".contains(byte);
    is_utf8(bytes) && !bytes.iter().any(is_control)
}

#[cfg(test)]
mod tests {
    use super::{MAX_EXCERPT, datagram_excerpt, excerpt, is_text, last_line};

    #[test]
    fn an_excerpt_is_one_short_line() {
        assert_eq!(excerpt(b"HTTP/1.1 OK 200\r\nx"), "HTTP/1.1 OK 200");
        assert_eq!(datagram_excerpt(b"PING 1\n"), "PING 1\n");
        assert_eq!(excerpt(b"\xff\x00"), "\u{fffd}\0");
        assert_eq!(excerpt("é".repeat(MAX_EXCERPT).as_bytes()), "é".repeat(MAX_EXCERPT));
        assert_eq!(excerpt("é".repeat(MAX_EXCERPT + 1).as_bytes()), "é".repeat(MAX_EXCERPT) + "...");
    }

    #[test]
    fn the_last_line_may_be_incomplete() {
        for (bytes, line) in [
            (&b"GET / HTTP/1.1\r\nHost: x\r\n"[..], Some(&b"Host: x"[..])),
            (b"GET / HTTP/1.1\r\nHo", Some(b"Ho")),
            (b"one\n", Some(b"one")),
            (b"\r\n", None),
        ] {
            assert_eq!(last_line(bytes), line);
        }
    }

    #[test]
    fn text_is_distinguished_from_binary_data() {
        assert!(is_text("grüße\n".as_bytes()));
        assert!(is_text(&"ü".as_bytes()[..1]), "cut within a character");
        assert!(!is_text(b"\x89PNG\r\n\x1a\n\0"));
        assert!(!is_text(b"a\0b") && !is_text(b"a\x1b[2Jb"));
    }
}
