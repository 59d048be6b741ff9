//! A header of the user's own.
//!
//! Owns which ones may be given. A message has one each of those that RFC 5322 §3.6 counts: what has a flag
//! is said with it, Date and Message-ID take the place of ours, and what tells how the parts are written
//! down belongs to whoever writes them down.

use std::str::FromStr;

use jiff::fmt::rfc2822;
use mail_builder::headers::HeaderType;
use mail_builder::headers::raw::Raw;
use mail_builder::headers::text::Text;

use super::message::{MAX_LINE_LENGTH, Person, check_single_line};
use crate::error::{Error, Result};
use crate::exit::Exit;

/// What has a flag.
const HEADERS_WITH_A_FLAG: [&str; 6] = ["from", "to", "cc", "bcc", "subject", "reply-to"];
/// What holds an address.
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
/// What holds ids.
const MESSAGE_ID_HEADERS: [&str; 2] = ["in-reply-to", "references"];
/// What follows from the parts (RFC 2045 §3).
const MIME_HEADERS: [&str; 4] = ["mime-version", "content-type", "content-transfer-encoding", "content-disposition"];
/// What there may be one of (RFC 5322 §3.6) and has no flag.
const UNIQUE_HEADERS: [&str; 5] = ["date", "message-id", "sender", "in-reply-to", "references"];

/// Such a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Its name, as it was typed.
    pub name: String,
    /// What follows the colon.
    pub value: String,
}

impl Header {
    /// Whether this is its name.
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
        let refused = |what: String| Error::new(Exit::InvalidInput, what);
        // RFC 5322 §2.2: printable ASCII without a colon.
        let split = text
            .split_once(':')
            .filter(|(name, _)| !name.is_empty() && name.bytes().all(|octet| octet.is_ascii_graphic()));
        let Some((name, value)) = split else {
            return Err(refused(format!("{text:?} is no header")).expected("'Name: value'"));
        };
        check_single_line("a header", value)?;
        let header = Self { name: name.to_owned(), value: value.trim().to_owned() };
        if header.is_one_of(&HEADERS_WITH_A_FLAG) {
            return Err(refused(format!("{name} has a flag of its own"))
                .expected("a header without one")
                .remedy(format!("--{}", name.to_ascii_lowercase())));
        }
        if header.is_one_of(&MIME_HEADERS) {
            return Err(refused(format!("{name} follows from the parts of the message"))
                .expected("a header that does not say how they are written down")
                .remedy("write the message yourself and send it with --raw"));
        }
        if header.is_named("resent-bcc") {
            return Err(refused("what Resent-Bcc says would be seen by everybody".to_owned())
                .expected("a header that is for all recipients")
                .remedy("--bcc"));
        }
        if header.is_one_of(&MESSAGE_ID_HEADERS) && !header.value.is_ascii() {
            return Err(refused(format!("{:?} is no message id", header.value)).expected("ids in ASCII: <1@x.test>"));
        }
        if name.len() > MAX_LINE_LENGTH / 2 || header.value.split(' ').any(|word| word.len() > MAX_LINE_LENGTH / 2) {
            return Err(refused("a header that cannot be folded is too long".to_owned())
                .expected("blanks in it: a line has 998 octets at most (RFC 5322 §2.1.1)"));
        }
        if header.is_named("sender") {
            header.value.parse::<Person>()?;
        }
        if header.is_named("date") && rfc2822::parse(&header.value).is_err() {
            return Err(refused(format!("{:?} is no date", header.value))
                .expected("one of RFC 5322 §3.3, like 'Date: Thu, 26 Nov 2026 16:00:00 +0100'"));
        }
        if header.is_named("message-id") && header.message_id().is_none() {
            return Err(refused(format!("{:?} is no message id", header.value))
                .expected("one of RFC 5322 §3.6.4, like 'Message-ID: <1@x.test>'"));
        }
        Ok(header)
    }
}

impl Header {
    /// As it is written down. Letters beyond ASCII become encoded words, but never within an address or an
    /// id (RFC 2047 §5).
    pub(super) fn encoded(&self) -> Result<HeaderType<'static>> {
        if self.value.is_ascii() {
            return Ok(Raw::new(self.value.clone()).into());
        }
        if self.is_one_of(&ADDRESS_HEADERS) {
            return Ok(self.value.parse::<Person>()?.address().into());
        }
        Ok(Text::new(self.value.clone()).into())
    }

    /// A message id without its brackets.
    pub(super) fn message_id(&self) -> Option<&str> {
        let id = self.value.strip_prefix('<')?.strip_suffix('>')?;
        let (left, right) = id.split_once('@')?;
        let is_word =
            |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_graphic() && !b"<>()@\\,;\"".contains(&c));
        (is_word(left) && is_word(right)).then_some(id)
    }
}

/// Refuses a second one where there may be one.
pub(super) fn check_unique(headers: &[Header]) -> Result<()> {
    for name in UNIQUE_HEADERS {
        if headers.iter().filter(|header| header.is_named(name)).count() > 1 {
            return Err(Error::new(Exit::InvalidInput, format!("--header has {name} twice"))
                .expected("one of it in a message (RFC 5322 §3.6)"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Header, check_unique};

    #[test]
    fn headers_cannot_smuggle_another_or_stand_beside_one_that_counts() {
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
