//! Looking into a message.
//!
//! Owns what it takes to take a stranger's message apart without harm: a message may hold messages that
//! hold messages, and whoever follows them by recursion, also when they are given back, runs out of
//! stack. What its parser cannot bear is not looked into.

use mail_parser::{Message, MessageParser, MessagePart, MimeHeaders as _, PartType};
use memchr::memmem;

use crate::error::catch_panic;

/// A message that may hold messages is taken apart up to this size only.
const MAX_NESTED_SIZE: usize = 4 << 20;
/// Lines that could begin a part; who has more gets only its headers read.
const MAX_BOUNDARIES: usize = 10_000;
/// Pieces of parameters (RFC 2231 §3), for which the parser takes time by the square of their number; who
/// has more is not looked into.
const MAX_PARAMETER_SECTIONS: usize = 10_000;
/// Letters of a text that are kept: a subject, a name.
const MAX_TEXT_CHARS: usize = 1024;

/// Takes a message apart, lets `see` see it, and whether all of it was taken apart, and gives it back piece
/// by piece. `None` if it could not be taken apart.
pub(super) fn inspect<T>(message: &[u8], visit: impl FnOnce(&Message<'_>, bool) -> T) -> Option<T> {
    let is_piece = |at: &usize| message.get(at + 1).is_some_and(u8::is_ascii_digit);
    if memchr::memchr_iter(b'*', message).filter(is_piece).nth(MAX_PARAMETER_SECTIONS).is_some() {
        return None;
    }
    let parser = MessageParser::default();
    let seen = catch_panic(|| {
        let is_large = message.len() > MAX_NESTED_SIZE
            && (contains_ignore_case(message, b"message/") || contains_ignore_case(message, b"/digest"));
        let is_deep = is_large || memmem::find_iter(message, b"\n--").nth(MAX_BOUNDARIES).is_some();
        let read = if is_deep { parser.parse_headers(message) } else { parser.parse(message) }?;
        let seen = visit(&read, !is_deep);
        drop_iteratively(read);
        Some(seen)
    });
    seen.flatten()
}

/// Whether a word is there, anywhere, in any case.
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

/// Messages within messages, one after the other and not one within the other.
fn drop_iteratively(message: Message<'_>) {
    let mut left = vec![message];
    while let Some(mut message) = left.pop() {
        left.extend(message.parts.drain(..).filter_map(|part| match part.body {
            PartType::Message(inner) => Some(inner),
            _ => None,
        }));
    }
}

/// A part's media type.
pub(super) fn content_type(part: &MessagePart<'_>) -> String {
    part.content_type().map_or_else(
        || "text/plain".to_owned(),
        |kind| {
            let subtype = kind.subtype().map(|subtype| format!("/{subtype}")).unwrap_or_default();
            truncated(&format!("{}{subtype}", kind.ctype()).to_ascii_lowercase())
        },
    )
}

/// A text, cut where nobody reads on.
pub(super) fn truncated(text: &str) -> String {
    text.chars().take(MAX_TEXT_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::{MAX_NESTED_SIZE, MAX_TEXT_CHARS, inspect, truncated};

    #[test]
    fn messages_within_messages_harm_nobody() {
        let deep = "Content-Type: message/rfc822\r\n\r\n".repeat(100_000) + "Subject: x\r\n\r\nx";
        assert!(deep.len() < MAX_NESTED_SIZE);
        // Whether it is taken apart is of no matter; that it is given back is.
        std::thread::spawn(move || inspect(deep.as_bytes(), |_, _| ())).join().expect("no overflow");
        let huge = "Subject: hi\r\nContent-Type: MESSAGE/rfc822\r\n\r\n".repeat(MAX_NESTED_SIZE / 40 + 1);
        assert_eq!(
            inspect(huge.as_bytes(), |read, is_whole| (read.subject().map(str::to_owned), is_whole)),
            Some((Some("hi".to_owned()), false))
        );
    }

    #[test]
    fn parts_without_end_are_not_taken_apart() {
        let head = "Subject: hi\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n";
        let parts = |count: usize| format!("{head}{}", "\n--x\n\n".repeat(count));
        let count = |text: &str| inspect(text.as_bytes(), |read, _| read.parts.len()).expect("a message");
        assert!(count(&parts(100)) > 100);
        assert!(count(&parts(20_000)) < 10);
        let digest = "Content-Type: multipart/digest; boundary=x\r\n\r\n--x\r\n\r\n".repeat(MAX_NESTED_SIZE / 50);
        assert!(count(&digest) < 10);
    }

    #[test]
    fn a_parameter_in_pieces_without_end_is_not_put_together() {
        let message = |count: usize| {
            let pieces = "; name*1=a".repeat(count);
            format!("Subject: hi\r\nContent-Type: text/plain{pieces}\r\n\r\nx")
        };
        assert_eq!(inspect(message(100).as_bytes(), |read, is_whole| read.subject().is_some() && is_whole), Some(true));
        assert_eq!(inspect(message(1_000_000).as_bytes(), |_, _| ()), None);
    }

    #[test]
    fn a_text_is_cut_at_a_letter() {
        assert_eq!(truncated(&"\u{fc}".repeat(MAX_TEXT_CHARS + 1)).chars().count(), MAX_TEXT_CHARS);
    }
}
