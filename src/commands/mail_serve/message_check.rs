//! Checks of a received message against RFC 5322, for the warnings in its event.
//!
//! Owns the rules that a hand-written client breaks most often. Nothing is rejected here: the message is stored as it is.

use mail_parser::{Message, MimeHeaders as _};
use memchr::memmem;

use crate::protocol::excerpt;

/// Maximum length of a line without its CRLF (RFC 5322 §2.1.1).
const MAX_LINE: usize = 998;

/// Returns a warning for each broken rule; `allows_8bit` if the client announced bytes above 127.
pub(super) fn warnings(message: &[u8], allows_8bit: bool) -> Vec<String> {
    let mut found = Vec::new();
    // Mailbox files have such a line in front of each message.
    let message = if is_mailbox_line(message.split(|byte| *byte == b'\n').next().unwrap_or_default()) {
        found.push("the first line belongs to a mailbox file, not to a message (RFC 4155)".to_owned());
        memchr::memchr(b'\n', message).and_then(|end| message.get(end + 1..)).unwrap_or_default()
    } else {
        message
    };
    let head = memmem::find(message, b"\r\n\r\n").map_or(message, |end| message.get(..end).unwrap_or_default());
    let lines = || head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let first = lines().next().unwrap_or_default();
    if has_header(message) {
        let wrong = lines()
            .skip(1)
            .find(|line| !line.is_empty() && !is_field(line) && !line.starts_with(b" ") && !line.starts_with(b"\t"));
        if let Some(line) = wrong {
            found.push(format!(
                "'{}' in the header is not a field; an empty line must come before the body (RFC 5322 §2.1)",
                excerpt(line)
            ));
        }
        for name in ["From", "Date"] {
            if !lines().any(|line| field_name(line).is_some_and(|found| found.eq_ignore_ascii_case(name.as_bytes()))) {
                found.push(format!("no {name} field (RFC 5322 §3.6)"));
            }
        }
    } else {
        let begins = if message.is_empty() {
            "is empty".to_owned()
        } else if first.is_empty() {
            "begins with an empty line".to_owned()
        } else {
            format!("begins with '{}'", excerpt(first))
        };
        found.push(format!("no header: the message {begins}; From and Date are required (RFC 5322 §3.6)"));
    }
    let longest = message.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line).len()).max();
    if let Some(longest) = longest.filter(|length| *length > MAX_LINE) {
        found.push(format!("a line of {longest} bytes; the limit is {MAX_LINE} (RFC 5322 §2.1.1)"));
    }
    if !allows_8bit && !message.is_ascii() {
        found.push("bytes above 127 without BODY=8BITMIME (RFC 6152 §2)".to_owned());
    }
    found
}

/// Returns a warning if a boundary of the message's outermost multipart is missing.
pub(super) fn boundary_warning(message: &Message<'_>) -> Option<String> {
    let content_type = message.content_type().filter(|kind| kind.ctype().eq_ignore_ascii_case("multipart"))?;
    let Some(boundary) = content_type.attribute("boundary") else {
        return Some("multipart without a boundary parameter (RFC 2046 §5.1.1)".to_owned());
    };
    let body = message.raw_message().get(usize::try_from(message.root_part().raw_body_offset()).ok()?..)?;
    let delimiters = [format!("--{boundary}"), format!("--{boundary}--")];
    let missing = delimiters.iter().find(|line| {
        let mut lines = body.split(|byte| *byte == b'\n');
        !lines.any(|found| found.trim_ascii_end() == line.as_bytes())
    })?;
    Some(format!("multipart boundary line '{}' is missing (RFC 2046 §5.1.1)", excerpt(missing.as_bytes())))
}

/// Returns whether the message begins with a field.
pub(super) fn has_header(message: &[u8]) -> bool {
    is_field(message.split(|byte| *byte == b'\n').find(|line| !is_mailbox_line(line)).unwrap_or_default())
}

/// Returns whether a line separates messages in a mailbox file.
fn is_mailbox_line(line: &[u8]) -> bool {
    line.starts_with(b"From ") && !is_field(line)
}

fn is_field(line: &[u8]) -> bool {
    field_name(line).is_some()
}

/// Name of a field: printable ASCII without a space (RFC 5322 §2.2); a space before the colon is obsolete (§4.5).
fn field_name(line: &[u8]) -> Option<&[u8]> {
    let (name, _) = line.split_at_checked(memchr::memchr(b':', line)?)?;
    let name = name.trim_ascii_end();
    (!name.is_empty() && name.iter().all(u8::is_ascii_graphic)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::{boundary_warning, warnings};
    use mail_parser::MessageParser;

    #[test]
    fn a_missing_boundary_is_named() {
        for (content_type, body, expected) in [
            ("multipart/mixed; boundary=b", "--b\r\n\r\nhi\r\n--b--\r\n", None),
            ("text/plain; boundary=b", "hi\r\n", None),
            ("multipart/mixed", "hi\r\n", Some("without a boundary")),
            ("multipart/mixed; boundary=b", "--c\r\n\r\nhi\r\n--c--\r\n", Some("boundary line '--b'")),
            ("multipart/mixed; boundary=b", "--b\r\n\r\nhi\r\n", Some("boundary line '--b--'")),
        ] {
            let text = format!("From: a@x\r\nContent-Type: {content_type}\r\n\r\n{body}");
            let found = boundary_warning(&MessageParser::default().parse(&text).expect("a message"));
            assert_eq!(found.is_some(), expected.is_some(), "{text}: {found:?}");
            assert!(found.unwrap_or_default().contains(expected.unwrap_or_default()));
        }
    }

    #[test]
    fn the_usual_mistakes_are_named_with_their_clause() {
        let good = "From: a@x\r\nDate: Mon, 30 Nov 2026 14:00:00 +0000\r\n";
        for (message, expected) in [
            (format!("{good}\r\nhi\r\n"), ""),
            (format!("{good}Subject: a\r\n b: c d\r\n\r\nhi\r\n"), ""),
            (format!("From - Mon Nov 30 14:00:00 2026\r\n{good}\r\nhi\r\n"), "mailbox file"),
            ("From : a@x\r\nDate : x\r\n\r\nhi\r\n".to_owned(), ""),
            (format!("\r\n{good}\r\nhi\r\n"), "begins with an empty line"),
            ("hello world\r\n".to_owned(), "begins with 'hello world'"),
            (String::new(), "the message is empty"),
            ("Date: x\r\n\r\nhi\r\n".to_owned(), "no From field (RFC 5322 §3.6)"),
            ("From: x\r\n\r\nhi\r\n".to_owned(), "no Date field (RFC 5322 §3.6)"),
            (format!("{good}body without an empty line\r\n"), "'body without an empty line' in the header"),
            (format!("{good}\r\n{}\r\n", "x".repeat(998)), ""),
            (format!("{good}\r\n{}\r\n", "x".repeat(999)), "a line of 999 bytes"),
            (format!("{good}\r\ncaf\u{e9}\r\n"), "RFC 6152"),
        ] {
            let found = warnings(message.as_bytes(), false);
            assert_eq!(found.is_empty(), expected.is_empty(), "{message}: {found:?}");
            assert!(
                found.iter().all(|warning| warning.contains("RFC ")) && found.join("\n").contains(expected),
                "{found:?}"
            );
        }
        assert!(warnings(format!("{good}\r\ncaf\u{e9}\r\n").as_bytes(), true).is_empty());
    }
}
