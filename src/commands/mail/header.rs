//! Headers given with `--header`.
//!
//! Owns the rules for them. Headers that RFC 5322 §3.6 allows once must not be repeated: headers with a flag are set
//! by the flag, Date and Message-ID replace the generated ones, and MIME headers follow from the parts.

use std::str::FromStr;

use jiff::fmt::rfc2822;
use mail_builder::headers::HeaderType;
use mail_builder::headers::raw::Raw;
use mail_builder::headers::text::Text;

use super::header_value::{MAX_LINE_LENGTH, Person, check_single_line};
use crate::error::{Error, Result};
use crate::exit::Exit;

const HEADERS_WITH_A_FLAG: [&str; 6] = ["from", "to", "cc", "bcc", "subject", "reply-to"];
/// Headers that contain an address.
const ADDRESS_HEADERS: [&str; 9] = [
    "sender",
    "errors-to",
    "return-receipt-to",
    "disposition-notification-to",
    "resent-from",
    "resent-sender",
    "resent-to",
    "resent-cc",
    "resent-reply-to",
];
/// Headers that contain message ids.
const MESSAGE_ID_HEADERS: [&str; 2] = ["in-reply-to", "references"];
/// Headers that follow from the parts (RFC 2045 §3).
const MIME_HEADERS: [&str; 4] = ["mime-version", "content-type", "content-transfer-encoding", "content-disposition"];
/// Headers without a flag that may occur once (RFC 5322 §3.6).
const UNIQUE_HEADERS: [&str; 5] = ["date", "message-id", "sender", "in-reply-to", "references"];

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Name as typed.
    pub name: String,
    pub value: String,
}

impl Header {
    /// Compares the name, ignoring case.
    pub(super) fn is_named(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    fn is_one_of(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.is_named(name))
    }
}

impl FromStr for Header {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = |message: String| Error::new(Exit::InvalidInput, message);
        // A name is printable ASCII without a colon (RFC 5322 §2.2).
        let split = text
            .split_once(':')
            .filter(|(name, _)| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic()));
        let Some((name, value)) = split else {
            return Err(invalid(format!("invalid header '{}'", text.escape_debug())).expected("'Name: value'"));
        };
        check_single_line("a header", value)?;
        let header = Self { name: name.to_owned(), value: value.trim().to_owned() };
        if header.is_one_of(&HEADERS_WITH_A_FLAG) {
            return Err(invalid(format!("{name} has its own flag"))
                .expected("a header without a flag")
                .remedy(format!("use --{}", name.to_ascii_lowercase())));
        }
        if header.is_one_of(&MIME_HEADERS) {
            return Err(invalid(format!("{name} is determined by the parts of the message"))
                .expected("a header that is not a MIME header")
                .remedy("write the message yourself and send it with --raw"));
        }
        if header.is_named("resent-bcc") {
            return Err(invalid("Resent-Bcc would be visible to all recipients".to_owned())
                .expected("a header meant for all recipients")
                .remedy("use --bcc"));
        }
        if header.is_one_of(&MESSAGE_ID_HEADERS) && !header.value.is_ascii() {
            return Err(invalid(format!("invalid message id '{}'", header.value))
                .expected("message ids in ASCII, such as <1@x.test>"));
        }
        if name.len() > MAX_LINE_LENGTH / 2 || header.value.split(' ').any(|word| word.len() > MAX_LINE_LENGTH / 2) {
            return Err(invalid("the header is too long and cannot be folded".to_owned())
                .expected("spaces at which it can be folded to lines of 998 bytes (RFC 5322 §2.1.1)"));
        }
        if header.is_named("sender") {
            header.value.parse::<Person>()?;
        }
        if header.is_named("date") && rfc2822::parse(&header.value).is_err() {
            return Err(invalid(format!("invalid date '{}'", header.value))
                .expected("a date as in RFC 5322 §3.3, such as 'Date: Thu, 26 Nov 2026 16:00:00 +0100'"));
        }
        if header.is_named("message-id") && header.message_id().is_none() {
            return Err(invalid(format!("invalid message id '{}'", header.value))
                .expected("a message id as in RFC 5322 §3.6.4, such as 'Message-ID: <1@x.test>'"));
        }
        Ok(header)
    }
}

impl Header {
    /// Encodes the value. Non-ASCII characters become encoded words, but never within an address or a message id
    /// (RFC 2047 §5).
    pub(super) fn encoded(&self) -> Result<HeaderType<'static>> {
        if self.value.is_ascii() {
            return Ok(Raw::new(self.value.clone()).into());
        }
        if self.is_one_of(&ADDRESS_HEADERS) {
            return Ok(self.value.parse::<Person>()?.address().into());
        }
        Ok(Text::new(self.value.clone()).into())
    }

    /// Message id without its brackets.
    pub(super) fn message_id(&self) -> Option<&str> {
        let id = self.value.strip_prefix('<')?.strip_suffix('>')?;
        let (left, right) = id.split_once('@')?;
        let is_word =
            |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_graphic() && !b"<>()@\\,;\"".contains(&c));
        (is_word(left) && is_word(right)).then_some(id)
    }
}

/// Rejects a repeated header that may occur once.
pub(super) fn check_unique(headers: &[Header]) -> Result<()> {
    for name in UNIQUE_HEADERS {
        if headers.iter().filter(|header| header.is_named(name)).count() > 1 {
            return Err(Error::new(Exit::InvalidInput, format!("--header {name} was given twice"))
                .expected("at most one per message (RFC 5322 §3.6)"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Header, check_unique};

    #[test]
    fn headers_cannot_contain_another_header_or_repeat_a_unique_one() {
        for right in [
            "X-Lab: yes",
            "Sender: a@b.test",
            "Date: Thu, 26 Nov 2026 16:00:00 +0100",
            "Message-ID: <a.b@x.test>",
            "Message-ID: <1@[IPv6:::1]>",
            "Content-Language: de",
        ] {
            assert!(right.parse::<Header>().is_ok(), "{right:?}");
        }
        for wrong in [
            "X",
            ": x",
            "X Y: z",
            "X: a\r\nBcc: b",
            "Bcc: x@x",
            "subject: x",
            "Date: today",
            "Message-ID: x@y",
            "Message-ID: <x>",
            "Message-ID: <x@y> <z@y>",
            "MIME-Version: 2.0",
            "content-type: text/plain",
            "Resent-Bcc: a@b.test",
            "Sender: nonsense",
            "Sender: a@b.test, c@b.test",
        ] {
            assert!(wrong.parse::<Header>().is_err(), "{wrong:?}");
        }
        let header = |text: &str| text.parse::<Header>().expect(text);
        assert!(check_unique(&[header("Sender: a@b.test"), header("X: 1"), header("X: 2")]).is_ok());
        assert!(check_unique(&[header("Sender: a@b.test"), header("sender: c@b.test")]).is_err());
    }
}
