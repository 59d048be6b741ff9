//! A message that is sent as it is.
//!
//! Owns what is read out of it: its Message-ID, and with `-t` to whom it goes and from whom it comes. The
//! head is taken apart by mail-parser, which knows groups, comments and folded lines (RFC 5322 §3.4); the
//! addresses it finds are held against our own strict rules. Only Bcc and Resent-Bcc are taken out:
//! who is named there is not to be known to the others (§3.6.3, §3.6.6).

use std::ops::Range;
use std::path::Path;

use mail_parser::{Header, HeaderName, MessageParser};

use super::file::{read_file, read_stdin};
use super::message::{MAX_LINE_LENGTH, Message, Person};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::smtp::{Mailbox, canonicalize, count_bare_line_ends};

/// Who is named in a message's head.
#[derive(Debug, Default)]
pub(super) struct HeaderAddresses {
    /// The first of From.
    pub from: Option<Mailbox>,
    /// To, Cc and Bcc, each once.
    pub recipients: Vec<Mailbox>,
}

/// Who is to be read out of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AddressSelection {
    /// Nobody.
    None,
    /// To whom it goes.
    Recipients,
    /// And from whom it comes.
    All,
}

/// A message as it is but for Bcc, from a file or from standard input with `-`; and who is named in it, if
/// that is wanted.
pub(super) fn read_message(path: &Path, selection: AddressSelection) -> Result<(Message, HeaderAddresses)> {
    let octets = if path == Path::new("-") { read_stdin()? } else { read_file(path)? };
    if octets.is_empty() {
        return Err(Error::new(Exit::InvalidInput, "the message is empty").expected("headers, an empty line, a body"));
    }
    // What ends a line on the way ends it here too, or a header could hide behind a bare CR.
    let bare_cr = count_bare_line_ends(&octets).1;
    let mut lines = Vec::new();
    canonicalize(&octets, &mut lines);
    let octets = lines;
    let lines = octets.split(|octet| *octet == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    if let Some((number, line)) = (1..).zip(lines).find(|(_, line)| line.len() > MAX_LINE_LENGTH) {
        let what = format!("line {number} of the message has {} octets", line.len());
        return Err(Error::new(Exit::InvalidInput, what).expected("at most 998 (RFC 5322 §2.1.1)"));
    }
    let (message, named) = parse(octets, selection)?;
    Ok((Message { bare_cr_count: bare_cr, ..message }, named))
}

fn parse(mut bytes: Vec<u8>, selection: AddressSelection) -> Result<(Message, HeaderAddresses)> {
    let mut named = HeaderAddresses::default();
    let mut hidden: Vec<Range<usize>> = Vec::new();
    let mut id = None;
    if let Some(head) = MessageParser::default().parse_headers(&bytes) {
        let said = |header: &Header<'_>| {
            let at = |offset: u32| usize::try_from(offset).unwrap_or(usize::MAX);
            bytes.get(at(header.offset_start)..at(header.offset_end)).unwrap_or_default()
        };
        id = head.message_id().map(str::to_owned);
        for header in head.headers() {
            match header.name {
                HeaderName::From if selection == AddressSelection::All && named.from.is_none() => {
                    named.from = addresses(header, said(header))?.into_iter().next();
                }
                HeaderName::To | HeaderName::Cc | HeaderName::Bcc if selection != AddressSelection::None => {
                    for mailbox in addresses(header, said(header))? {
                        if !named.recipients.contains(&mailbox) {
                            named.recipients.push(mailbox);
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
    // From the last one on, so that the places of the others stay what they are.
    for range in hidden.into_iter().rev() {
        if bytes.get(range.clone()).is_some() {
            bytes.drain(range);
        }
    }
    Ok((Message { bytes, id, bare_cr_count: 0 }, named))
}

fn field_range(header: &Header<'_>) -> Range<usize> {
    let at = |offset: u32| usize::try_from(offset).unwrap_or(usize::MAX);
    at(header.offset_field)..at(header.offset_end)
}

/// The addresses of a header, by our own rules for them. What the parser makes nothing of, such as a quoted
/// word in front of the @, may still be a plain list.
fn addresses(header: &Header<'_>, text: &[u8]) -> Result<Vec<Mailbox>> {
    let Some(list) = header.value.as_address() else { return Ok(Vec::new()) };
    let found = list.iter().map(|person| person.address.as_deref().unwrap_or_default().parse().ok());
    let all = |pieces: Vec<&str>| {
        pieces.into_iter().map(|one| Some(one.trim().parse::<Person>().ok()?.mailbox)).collect::<Option<Vec<_>>>()
    };
    let text = String::from_utf8_lossy(text);
    found.collect::<Option<Vec<_>>>().or_else(|| split_list(&text).and_then(all)).ok_or_else(|| {
        let what = format!("{}: {} is no list of mail addresses", header.name.as_str(), text.trim());
        Error::new(Exit::InvalidInput, what).expected("name@example.org, or 'Name <name@example.org>'")
    })
}

/// The pieces of a list: a comma within quotes divides nothing. `None` if a quote is not closed.
fn split_list(text: &str) -> Option<Vec<&str>> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let divides = |letter| {
        match letter {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ => {}
        }
        letter == ',' && !is_quoted
    };
    let pieces = text.split(divides).collect();
    (!is_quoted).then_some(pieces)
}

#[cfg(test)]
mod tests {
    use super::{AddressSelection, parse};
    use crate::exit::Exit;

    #[test]
    fn each_recipient_is_found_once_and_bcc_is_removed() {
        let text = "From: \"A, B\" <me@x.test>\r\nTo: a@x.test, Friends: b@x.test,\r\n c@x.test;\r\nbcc: d@x.test,\r\n\
                    \te@x.test\r\nSubject: Bcc: x\r\nCC: a@x.test (twice)\r\nBcc: f@x.test\r\nResent-Bcc: h@x.test\r\nMessage-ID: <7@x>\r\n\r\nBcc: g@x.test\r\n";
        let (message, named) = parse(text.into(), AddressSelection::All).expect("a message");
        let recipients: Vec<String> = named.recipients.iter().map(ToString::to_string).collect();
        assert_eq!(recipients.join(" "), "a@x.test b@x.test c@x.test d@x.test e@x.test f@x.test");
        assert_eq!(
            (named.from.map(|from| from.to_string()).as_deref(), message.id.as_deref()),
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
            let (message, named) = super::read_message(&file, AddressSelection::Recipients).expect("a message");
            let octets = String::from_utf8(message.bytes).expect("text");
            assert!(!octets.contains("Bcc") && octets.ends_with("\r\n\r\nbody\r\n"), "{octets:?}");
            assert!(message.bare_cr_count > 0 && named.recipients.len() == 2, "{named:?}");
        }
    }

    #[test]
    fn a_header_without_addresses_yields_none_and_invalid_ones_are_rejected() {
        for text in ["Subject: x\n\nbody", "no head at all", "\n", "To:\n\nx"] {
            let (message, named) = parse(text.into(), AddressSelection::All).expect("a message");
            assert_eq!((message.bytes, named.recipients.len()), (text.into(), 0), "{text:?}");
        }
        let error = parse("To: a@b.test, a@b@c\n\nx".into(), AddressSelection::All).expect_err("no address");
        assert!(error.exit() == Exit::InvalidInput && error.message().contains("To: a@b.test, a@b@c"), "{error}");
        assert!(
            parse("To: \"open <a@b.test>\n\nx".into(), AddressSelection::All).is_err(),
            "a quote that is not closed"
        );
        let quoted = "To: \"q, l\"@x.test, X <b@x.test>,\r\n a@[IPv6:::1]\r\n\r\nx";
        let (_, named) = parse(quoted.into(), AddressSelection::All).expect("all of them are addresses");
        let recipients: Vec<String> = named.recipients.iter().map(ToString::to_string).collect();
        assert_eq!(recipients, ["\"q, l\"@x.test", "b@x.test", "a@[IPv6:::1]"]);
        assert!(parse("To: a@b@c\n\nx".into(), AddressSelection::None).is_ok(), "who is not asked for harms nobody");
    }
}
