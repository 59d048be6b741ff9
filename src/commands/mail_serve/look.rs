//! Looking into a message.
//!
//! Owns what it takes to take a stranger's message apart without harm: a message may hold messages that
//! hold messages, and whoever follows them by recursion, also when they are given back, runs out of
//! stack. What its parser cannot bear is not looked into.

use std::panic::{AssertUnwindSafe, catch_unwind};

use mail_parser::{Message, MessageParser, MessagePart, MimeHeaders as _, PartType};

/// A message that may hold messages is taken apart up to this size only.
const NESTED: usize = 4 << 20;
/// Letters of a text that are kept: a subject, a name.
const KEPT: usize = 1024;

/// Takes a message apart, lets `see` see it, and gives it back piece by piece. `None` if it could not be
/// taken apart.
pub fn look<T>(message: &[u8], see: impl FnOnce(&Message<'_>) -> T) -> Option<T> {
    let parser = MessageParser::default();
    let seen = catch_unwind(AssertUnwindSafe(|| {
        let is_deep = message.len() > NESTED && holds_messages(message);
        let read = if is_deep { parser.parse_headers(message) } else { parser.parse(message) }?;
        let seen = see(&read);
        give_back(read);
        Some(seen)
    }));
    seen.ok().flatten()
}

/// Whether the word is there, anywhere, in any case.
fn holds_messages(message: &[u8]) -> bool {
    const WORD: &[u8] = b"essage/";
    let mut rest = message;
    while let Some(at) = memchr::memchr2(b'm', b'M', rest) {
        rest = rest.get(at + 1..).unwrap_or_default();
        if rest.get(..WORD.len()).is_some_and(|word| word.eq_ignore_ascii_case(WORD)) {
            return true;
        }
    }
    false
}

/// Messages within messages, one after the other and not one within the other.
fn give_back(message: Message<'_>) {
    let mut left = vec![message];
    while let Some(mut message) = left.pop() {
        left.extend(message.parts.drain(..).filter_map(|part| match part.body {
            PartType::Message(inner) => Some(inner),
            _ => None,
        }));
    }
}

/// A part's media type.
pub fn kind(part: &MessagePart<'_>) -> String {
    part.content_type().map_or_else(
        || "text/plain".to_owned(),
        |kind| {
            let subtype = kind.subtype().map(|subtype| format!("/{subtype}")).unwrap_or_default();
            kept(&format!("{}{subtype}", kind.ctype()).to_ascii_lowercase())
        },
    )
}

/// A text, cut where nobody reads on.
pub fn kept(text: &str) -> String {
    text.chars().take(KEPT).collect()
}

#[cfg(test)]
mod tests {
    use super::{KEPT, NESTED, kept, look};

    #[test]
    fn messages_within_messages_harm_nobody() {
        let deep = "Content-Type: message/rfc822\r\n\r\n".repeat(100_000) + "Subject: x\r\n\r\nx";
        assert!(deep.len() < NESTED);
        // Whether it is taken apart is of no matter; that it is given back is.
        std::thread::spawn(move || look(deep.as_bytes(), |_| ())).join().expect("no overflow");
        let huge = "Subject: hi\r\nContent-Type: MESSAGE/rfc822\r\n\r\n".repeat(NESTED / 40 + 1);
        assert_eq!(look(huge.as_bytes(), |read| read.subject().map(str::to_owned)), Some(Some("hi".to_owned())));
    }

    #[test]
    fn a_text_is_cut_at_a_letter() {
        assert_eq!(kept(&"\u{fc}".repeat(KEPT + 1)).chars().count(), KEPT);
    }
}
