//! Messages sent unchanged (`--raw`).
//!
//! Owns the headers that are used: the Message-ID, and with `-t` recipients and sender. mail-parser parses them, with
//! groups, comments and folded lines (RFC 5322 §3.4); addresses must also pass our own stricter rules. Only
//! Bcc and Resent-Bcc are removed, because other recipients must not see them (§3.6.3, §3.6.6).

use std::ops::Range;
use std::path::Path;

use mail_parser::{Header, HeaderName, MessageParser};

use super::file::read_input;
use super::header_value::{MAX_LINE_LENGTH, Person};
use super::message::Message;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::smtp::{Mailbox, canonicalize, count_bare_line_ends};
use crate::stop::StopConditions;

/// Addresses in the headers of a message.
#[derive(Debug, Default)]
pub(super) struct HeaderAddresses {
    /// First address of From.
    pub from: Option<Mailbox>,
    /// Addresses of To, Cc and Bcc, each once.
    pub recipients: Vec<Mailbox>,
}

/// Addresses to read from the headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AddressSelection {
    None,
    Recipients,
    /// Recipients and sender.
    All,
}

/// Reads a message without its Bcc from a file, or from standard input with `-`, and the selected addresses.
pub(super) fn read_message(
    path: &Path,
    selection: AddressSelection,
    stop: &StopConditions,
) -> Result<(Message, HeaderAddresses)> {
    let raw = read_input(path, stop)?;
    if raw.is_empty() {
        return Err(Error::new(Exit::InvalidInput, "the message is empty").expected("headers, an empty line, a body"));
    }
    // A bare CR becomes a line end when sent, so it is one here too; otherwise it could hide a header.
    let bare_cr_count = count_bare_line_ends(&raw).1;
    let mut bytes = Vec::new();
    canonicalize(&raw, &mut bytes);
    let lines = bytes.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    if let Some((number, line)) = (1..).zip(lines).find(|(_, line)| line.len() > MAX_LINE_LENGTH) {
        let message = format!("line {number} of the message has {} bytes", line.len());
        return Err(Error::new(Exit::InvalidInput, message).expected("at most 998 bytes (RFC 5322 §2.1.1)"));
    }
    let (message, addresses) = parse(bytes, selection)?;
    Ok((Message { bare_cr_count, ..message }, addresses))
}

fn parse(mut bytes: Vec<u8>, selection: AddressSelection) -> Result<(Message, HeaderAddresses)> {
    let mut found = HeaderAddresses::default();
    let mut hidden: Vec<Range<usize>> = Vec::new();
    let mut id = None;
    if let Some(head) = MessageParser::default().parse_headers(&bytes) {
        let value = |header: &Header<'_>| {
            let at = |offset: u32| usize::try_from(offset).unwrap_or(usize::MAX);
            bytes.get(at(header.offset_start)..at(header.offset_end)).unwrap_or_default()
        };
        id = head.message_id().map(str::to_owned);
        for header in head.headers() {
            match header.name {
                HeaderName::From if selection == AddressSelection::All && found.from.is_none() => {
                    found.from = addresses(header, value(header))?.into_iter().next();
                }
                HeaderName::To | HeaderName::Cc | HeaderName::Bcc if selection != AddressSelection::None => {
                    for mailbox in addresses(header, value(header))? {
                        if !found.recipients.contains(&mailbox) {
                            found.recipients.push(mailbox);
                        }
                    }
                }
                _ => {}
            }
            if matches!(header.name, HeaderName::Bcc | HeaderName::ResentBcc) {
                hidden.push(field_range(header));
            }
        }
    }
    // From last to first, so that the offsets of the others stay valid.
    for range in hidden.into_iter().rev() {
        if bytes.get(range.clone()).is_some() {
            bytes.drain(range);
        }
    }
    Ok((Message { bytes, id, bare_cr_count: 0 }, found))
}

fn field_range(header: &Header<'_>) -> Range<usize> {
    let at = |offset: u32| usize::try_from(offset).unwrap_or(usize::MAX);
    at(header.offset_field)..at(header.offset_end)
}

/// Parses the addresses of a header by our own rules. A header that mail-parser cannot parse, such as one with a
/// quoted local part, may still be a plain list.
fn addresses(header: &Header<'_>, text: &[u8]) -> Result<Vec<Mailbox>> {
    let Some(list) = header.value.as_address() else { return Ok(Vec::new()) };
    let found = list.iter().map(|person| person.address.as_deref().unwrap_or_default().parse().ok());
    let all = |pieces: Vec<&str>| {
        pieces.into_iter().map(|one| Some(one.trim().parse::<Person>().ok()?.mailbox)).collect::<Option<Vec<_>>>()
    };
    let text = String::from_utf8_lossy(text);
    found.collect::<Option<Vec<_>>>().or_else(|| split_list(&text).and_then(all)).ok_or_else(|| {
        let message = format!("{}: '{}' is not a list of mail addresses", header.name.as_str(), text.trim());
        Error::new(Exit::InvalidInput, message).expected("name@example.org, or 'Name <name@example.org>'")
    })
}

/// Splits a list at commas outside quotes; `None` if a quote is not closed.
fn split_list(text: &str) -> Option<Vec<&str>> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let is_separator = |letter| {
        match letter {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ => {}
        }
        letter == ',' && !is_quoted
    };
    let pieces = text.split(is_separator).collect();
    (!is_quoted).then_some(pieces)
}

#[cfg(test)]
mod tests {
    use super::{AddressSelection, parse};
    use crate::exit::Exit;
    use crate::stop::tests::never;

    #[test]
    fn each_recipient_is_found_once_and_bcc_is_removed() {
        let text = "From: \"A, B\" <me@x.test>\r\nTo: a@x.test, Friends: b@x.test,\r\n c@x.test;\r\nbcc: d@x.test,\r\n\
                    \te@x.test\r\nSubject: Bcc: x\r\nCC: a@x.test (twice)\r\n\
                    Bcc: f@x.test\r\nResent-Bcc: h@x.test\r\nMessage-ID: <7@x>\r\n\r\nBcc: g@x.test\r\n";
        let (message, addresses) = parse(text.into(), AddressSelection::All).expect("a message");
        let recipients: Vec<String> = addresses.recipients.iter().map(ToString::to_string).collect();
        assert_eq!(recipients.join(" "), "a@x.test b@x.test c@x.test d@x.test e@x.test f@x.test");
        assert_eq!(
            (addresses.from.map(|from| from.to_string()).as_deref(), message.id.as_deref()),
            (Some("me@x.test"), Some("7@x"))
        );
        assert_eq!(
            String::from_utf8(message.bytes).expect("text"),
            "From: \"A, B\" <me@x.test>\r\nTo: a@x.test, Friends: b@x.test,\r\n c@x.test;\r\nSubject: Bcc: x\r\n\
             CC: a@x.test (twice)\r\nMessage-ID: <7@x>\r\n\r\nBcc: g@x.test\r\n"
        );
    }

    #[test]
    fn no_header_hides_behind_a_bare_cr() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory.path().join("m");
        for text in [
            "From: a@x.test\rBcc: s@x.test\rTo: b@x.test\r\rbody\r",
            "To: b@x.test\r\nSubject: h\rBcc: s@x.test\n\nbody\n",
        ] {
            std::fs::write(&file, text).expect("written");
            let (message, addresses) =
                super::read_message(&file, AddressSelection::Recipients, &never()).expect("a message");
            let sent = String::from_utf8(message.bytes).expect("text");
            assert!(!sent.contains("Bcc") && sent.ends_with("\r\n\r\nbody\r\n"), "{sent:?}");
            assert!(message.bare_cr_count > 0 && addresses.recipients.len() == 2, "{addresses:?}");
        }
    }

    #[test]
    fn a_header_without_addresses_yields_none_and_invalid_ones_are_rejected() {
        for text in ["Subject: x\n\nbody", "no head at all", "\n", "To:\n\nx"] {
            let (message, addresses) = parse(text.into(), AddressSelection::All).expect("a message");
            assert_eq!((message.bytes, addresses.recipients.len()), (text.into(), 0), "{text:?}");
        }
        let error = parse("To: a@b.test, a@b@c\n\nx".into(), AddressSelection::All).expect_err("no address");
        assert!(error.exit() == Exit::InvalidInput && error.message().contains("To: 'a@b.test, a@b@c'"), "{error}");
        assert!(
            parse("To: \"open <a@b.test>\n\nx".into(), AddressSelection::All).is_err(),
            "a quote that is not closed"
        );
        let quoted = "To: \"q, l\"@x.test, X <b@x.test>,\r\n a@[IPv6:::1]\r\n\r\nx";
        let (_, addresses) = parse(quoted.into(), AddressSelection::All).expect("all of them are addresses");
        let recipients: Vec<String> = addresses.recipients.iter().map(ToString::to_string).collect();
        assert_eq!(recipients, ["\"q, l\"@x.test", "b@x.test", "a@[IPv6:::1]"]);
        assert!(parse("To: a@b@c\n\nx".into(), AddressSelection::None).is_ok(), "unselected headers are not checked");
    }
}
