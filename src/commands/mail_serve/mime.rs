//! Inspection of a MIME message.
//!
//! Owns the limits for parsing untrusted messages. Messages may be nested so deeply that recursion, in the parser or
//! when its result is dropped, overflows the stack. Beyond the limits, at most the headers are parsed.

use mail_parser::{Message, MessageParser, MessagePart, MimeHeaders as _, PartType};
use memchr::memmem;

use crate::error::catch_panic;

/// Size limit of a message that may hold messages; of a larger one only the headers are parsed.
const MAX_NESTED_SIZE: usize = 4 << 20;
/// Limit of lines that could begin a part; beyond it only the headers are parsed.
const MAX_BOUNDARIES: usize = 10_000;
/// Limit of parameter sections (RFC 2231 §3); the parser's time is quadratic in their number.
const MAX_PARAMETER_SECTIONS: usize = 10_000;
/// Limit of characters kept of a text, such as a subject or a file name.
const MAX_TEXT_CHARS: usize = 1024;

/// Parses a message and passes it to `visit`, together with whether it was parsed as a whole. Returns `None`
/// if it cannot be parsed.
pub(super) fn inspect<T>(message: &[u8], visit: impl FnOnce(&Message<'_>, bool) -> T) -> Option<T> {
    let is_section = |at: &usize| message.get(at + 1).is_some_and(u8::is_ascii_digit);
    if memchr::memchr_iter(b'*', message).filter(is_section).nth(MAX_PARAMETER_SECTIONS).is_some() {
        return None;
    }
    let parser = MessageParser::default();
    let visited = catch_panic(|| {
        let is_large = message.len() > MAX_NESTED_SIZE
            && (contains_ignore_case(message, b"message/") || contains_ignore_case(message, b"/digest"));
        let headers_only = is_large || memmem::find_iter(message, b"\n--").nth(MAX_BOUNDARIES).is_some();
        let parsed = if headers_only { parser.parse_headers(message) } else { parser.parse(message) }?;
        let result = visit(&parsed, !headers_only);
        drop_iteratively(parsed);
        Some(result)
    });
    visited.flatten()
}

fn contains_ignore_case(message: &[u8], word: &[u8]) -> bool {
    let Some((first, rest_of_word)) = word.split_first() else { return true };
    let mut rest = message;
    while let Some(at) = memchr::memchr2(first.to_ascii_lowercase(), first.to_ascii_uppercase(), rest) {
        rest = rest.get(at + 1..).unwrap_or_default();
        if rest.get(..rest_of_word.len()).is_some_and(|found| found.eq_ignore_ascii_case(rest_of_word)) {
            return true;
        }
    }
    false
}

/// Drops nested messages one after the other, without recursion.
fn drop_iteratively(message: Message<'_>) {
    let mut pending = vec![message];
    while let Some(mut message) = pending.pop() {
        pending.extend(message.parts.drain(..).filter_map(|part| match part.body {
            PartType::Message(inner) => Some(inner),
            _ => None,
        }));
    }
}

/// Returns the media type of a part.
pub(super) fn content_type(part: &MessagePart<'_>) -> String {
    part.content_type().map_or_else(
        || "text/plain".to_owned(),
        |header| {
            let subtype = header.subtype().map(|subtype| format!("/{subtype}")).unwrap_or_default();
            truncated(&format!("{}{subtype}", header.ctype()).to_ascii_lowercase())
        },
    )
}

/// Truncates a text to `MAX_TEXT_CHARS`.
pub(super) fn truncated(text: &str) -> String {
    text.chars().take(MAX_TEXT_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::{MAX_NESTED_SIZE, MAX_TEXT_CHARS, inspect, truncated};

    #[test]
    fn nested_messages_do_not_overflow_the_stack() {
        let deep = "Content-Type: message/rfc822\r\n\r\n".repeat(100_000) + "Subject: x\r\n\r\nx";
        assert!(deep.len() < MAX_NESTED_SIZE);
        // It may or may not be parsed, but it must be dropped without recursion.
        std::thread::spawn(move || inspect(deep.as_bytes(), |_, _| ())).join().expect("no overflow");
        let huge = "Subject: hi\r\nContent-Type: MESSAGE/rfc822\r\n\r\n".repeat(MAX_NESTED_SIZE / 40 + 1);
        assert_eq!(
            inspect(huge.as_bytes(), |parsed, is_whole| (parsed.subject().map(str::to_owned), is_whole)),
            Some((Some("hi".to_owned()), false))
        );
    }

    #[test]
    fn too_many_parts_are_not_parsed() {
        let head = "Subject: hi\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n";
        let parts = |count: usize| format!("{head}{}", "\n--x\n\n".repeat(count));
        let count = |text: &str| inspect(text.as_bytes(), |parsed, _| parsed.parts.len()).expect("a message");
        assert!(count(&parts(100)) > 100);
        assert!(count(&parts(20_000)) < 10);
        let digest = "Content-Type: multipart/digest; boundary=x\r\n\r\n--x\r\n\r\n".repeat(MAX_NESTED_SIZE / 50);
        assert!(count(&digest) < 10);
    }

    #[test]
    fn a_message_with_too_many_parameter_sections_is_not_parsed() {
        let message = |count: usize| {
            let sections = "; name*1=a".repeat(count);
            format!("Subject: hi\r\nContent-Type: text/plain{sections}\r\n\r\nx")
        };
        let is_read = inspect(message(100).as_bytes(), |parsed, is_whole| parsed.subject().is_some() && is_whole);
        assert_eq!(is_read, Some(true));
        assert_eq!(inspect(message(1_000_000).as_bytes(), |_, _| ()), None);
    }

    #[test]
    fn a_text_is_truncated_at_a_character() {
        assert_eq!(truncated(&"\u{fc}".repeat(MAX_TEXT_CHARS + 1)).chars().count(), MAX_TEXT_CHARS);
    }
}
