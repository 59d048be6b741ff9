//! The message that is composed from flags.
//!
//! Owns which parts there are and how they nest; how they are encoded is mail-builder's, and what is sent
//! as it is belongs to [`raw`](super::raw). Bcc is never
//! given to it. Whatever could end a line is refused before: a subject with a line end would be another
//! header, or the end of them all.
//!
//! ```text
//!   mixed ┬ related ┬ alternative ┬ text/plain
//!         │         │             └ text/html
//!         │         └ inline images, named by their cid
//!         └ attachments                       (a level with one part is left out)
//! ```

use std::path::{Path, PathBuf};
use std::str::FromStr;

use mail_builder::MessageBuilder;
use mail_builder::headers::address::Address;
use mail_builder::headers::date::Date;
use mail_builder::headers::raw::Raw;
use mail_builder::mime::MimePart;

use super::file::{attachment_part, with_disposition};
use super::file::{read_file, read_stdin};
use super::header::{self, Header};
use crate::error::{Error, Result, io_error_text};
use crate::exit::Exit;
use crate::output::Output;
use crate::smtp::{Mailbox, count_bare_line_ends};
use crate::time::Moment;

/// The longest line of a message, without its end (RFC 5322 §2.1.1).
pub(super) const MAX_LINE_LENGTH: usize = 998;

/// A person: an address, maybe with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Person {
    name: Option<String>,
    /// The address.
    pub mailbox: Mailbox,
}

impl FromStr for Person {
    type Err = Error;

    /// `a@b` or `Name <a@b>`.
    fn from_str(text: &str) -> Result<Self> {
        let (name, address) = match text.strip_suffix('>').and_then(|rest| rest.split_once('<')) {
            Some((name, address)) => (Some(name.trim().trim_matches('"').to_owned()), address),
            None => (None, text),
        };
        let name = name.filter(|name| !name.is_empty());
        name.as_deref().map_or(Ok(()), |name| check_single_line("a name", name))?;
        Ok(Self { name, mailbox: address.trim().parse()? })
    }
}

impl Person {
    /// The address as a header has it.
    pub(super) fn address(&self) -> Address<'static> {
        Address::new_address(self.name.clone(), self.ascii_mailbox().to_string())
    }

    /// Everybody understands A-labels; what is beyond ASCII before the @ wants SMTPUTF8.
    fn ascii_mailbox(&self) -> Mailbox {
        self.mailbox.to_ascii().unwrap_or_else(|| self.mailbox.clone())
    }
}

/// An image within the HTML: `FILE` or `FILE=cid`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InlineImage {
    path: PathBuf,
    cid: String,
}

impl FromStr for InlineImage {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (path, cid) = match text.rsplit_once('=') {
            Some((path, cid)) if !cid.is_empty() && !cid.contains('/') => (path, cid.to_owned()),
            _ => (text, file_name(Path::new(text))?),
        };
        if !cid.bytes().all(|octet| octet.is_ascii_graphic() && !b"<>\"".contains(&octet)) {
            return Err(Error::new(Exit::InvalidInput, format!("{cid:?} is no name for an inline part"))
                .expected("letters, digits, dots: --inline FILE=cid"));
        }
        Ok(Self { path: path.into(), cid })
    }
}

/// What a message is composed of.
#[derive(Debug)]
pub(super) struct MessageParts<'a> {
    pub from: &'a Person,
    pub to: &'a [Person],
    pub cc: &'a [Person],
    pub reply_to: Option<&'a Person>,
    pub subject: Option<&'a str>,
    pub text: Option<&'a str>,
    pub html: Option<&'a str>,
    pub attach: &'a [PathBuf],
    pub inline: &'a [InlineImage],
    pub headers: &'a [Header],
}

/// A message and the name it can be found by.
#[derive(Debug)]
pub(super) struct Message {
    /// Its octets.
    pub bytes: Vec<u8>,
    /// Its Message-ID without brackets, if it has one that is known.
    pub id: Option<String>,
    /// How many CR end no line, and will.
    pub bare_cr_count: usize,
}

/// Composes a message.
pub(super) fn compose(parts: &MessageParts<'_>, now: Moment) -> Result<Message> {
    header::check_unique(parts.headers)?;
    let own = |name: &str| parts.headers.iter().find(|header| header.is_named(name));
    let mut builder = MessageBuilder::new().from(parts.from.address());
    if own("date").is_none() {
        let seconds = i64::try_from(now.wall().as_secs()).unwrap_or_default();
        builder = builder.date(Date::new(seconds));
    }
    let id = own("message-id").and_then(Header::message_id).map_or_else(
        || format!("{:032x}@{}", rand::random::<u128>(), parts.from.ascii_mailbox().domain()),
        str::to_owned,
    );
    builder = builder.message_id(id.clone()).header("MIME-Version", Raw::new("1.0"));
    if !parts.to.is_empty() {
        builder = builder.to(Address::new_list(parts.to.iter().map(Person::address).collect()));
    }
    if !parts.cc.is_empty() {
        builder = builder.cc(Address::new_list(parts.cc.iter().map(Person::address).collect()));
    }
    if let Some(reply_to) = parts.reply_to {
        builder = builder.reply_to(reply_to.address());
    }
    if let Some(subject) = parts.subject {
        check_single_line("the subject", subject)?;
        builder = builder.subject(subject.to_owned());
    }
    for header in parts.headers.iter().filter(|header| !header.is_named("message-id")) {
        builder = builder.header(header.name.clone(), header.encoded()?);
    }
    let octets = builder.body(body(parts)?).write_to_vec();
    let octets =
        octets.map_err(|error| Error::new(Exit::Bug, "the message cannot be written down").with_source(error))?;
    let bare_cr = count_bare_line_ends(&octets).1;
    Ok(Message { bytes: octets, id: Some(id), bare_cr_count: bare_cr })
}

fn body(parts: &MessageParts<'_>) -> Result<MimePart<'static>> {
    let text = parts.text.map(|text| MimePart::new("text/plain", text.to_owned()));
    let html = parts.html.map(|html| MimePart::new("text/html", html.to_owned()));
    let words: Vec<MimePart<'static>> = [text, html].into_iter().flatten().collect();
    let words = multipart("multipart/alternative", words).unwrap_or_else(|| MimePart::new("text/plain", String::new()));
    let mut related = vec![words];
    for (place, InlineImage { path, cid }) in parts.inline.iter().enumerate() {
        if parts.inline.iter().take(place).any(|other| other.cid == *cid) {
            return Err(Error::new(Exit::InvalidInput, format!("two inline parts are called {cid:?}"))
                .expected("a name of its own for each: --inline FILE=cid"));
        }
        related.push(with_disposition(attachment_part(path)?, "inline", path)?.cid(cid.clone()));
    }
    let mut mixed: Vec<MimePart<'static>> = multipart("multipart/related", related).into_iter().collect();
    for path in parts.attach {
        mixed.push(with_disposition(attachment_part(path)?, "attachment", path)?);
    }
    multipart("multipart/mixed", mixed).ok_or_else(|| Error::new(Exit::Bug, "a message without a part"))
}

/// Several parts as one; a single one stays as it is.
fn multipart(kind: &'static str, mut parts: Vec<MimePart<'static>>) -> Option<MimePart<'static>> {
    if parts.len() > 1 { Some(MimePart::new(kind, parts)) } else { parts.pop() }
}

pub(super) fn file_name(path: &Path) -> Result<String> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = name.ok_or_else(|| Error::new(Exit::InvalidInput, format!("{} is no file name", path.display())))?;
    check_single_line("a file name", &name)?;
    Ok(name)
}

/// The text of a flag: as it is, of a file with `@FILE`, of standard input with `@-`.
pub(super) fn read_text_arg(value: &str) -> Result<String> {
    let octets = match value.strip_prefix('@') {
        None => return Ok(value.to_owned()),
        Some("-") => match read_stdin()? {
            octets if octets.is_empty() => {
                return Err(Error::new(Exit::InvalidInput, "standard input is empty").expected("the text of the mail"));
            }
            octets => octets,
        },
        Some(file) => read_file(Path::new(file))?,
    };
    String::from_utf8(octets).map_err(|error| {
        Error::new(Exit::InvalidInput, format!("{value} is not UTF-8")).expected("text in UTF-8").with_source(error)
    })
}

/// The text as it is typed on the terminal, ended by a dot alone on a line, as the textbook does.
pub(super) fn read_terminal(output: &Output) -> Result<String> {
    output.note("type the text of the mail; a dot alone on a line ends it");
    let mut text = String::new();
    for line in std::io::stdin().lines() {
        let line = line.map_err(|error| {
            Error::new(Exit::InvalidInput, format!("cannot read what was typed: {}", io_error_text(&error)))
                .with_source(error)
        })?;
        if line == "." {
            break;
        }
        text += &line;
        text.push('\n');
    }
    Ok(text)
}

/// Refuses what could end a line.
pub(super) fn check_single_line(label: &str, text: &str) -> Result<()> {
    if text.chars().any(|c| c.is_control() && c != '\t') {
        return Err(Error::new(Exit::InvalidInput, format!("{label} holds control characters: {text:?}"))
            .expected("one line of text"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{InlineImage, MessageParts, Person, compose};
    use crate::time::Moment;
    use std::time::Duration;

    const NOW: Moment = Moment::new(Duration::ZERO, Duration::from_secs(1_764_000_000));

    fn person(text: &str) -> Person {
        text.parse().expect(text)
    }

    #[test]
    fn people_have_addresses_and_maybe_names() {
        assert_eq!(person("Jörg <j@x.test>").name.as_deref(), Some("Jörg"));
        assert_eq!(person("\"A, B\" <j@x.test>").name.as_deref(), Some("A, B"));
        assert_eq!(person("<j@x.test>").name, None);
        for wrong in ["", "j", "A <j@x.test", "A\r\nB <j@x.test>", "a@x, b@x", "a@x,", "A <b@x> c"] {
            assert!(wrong.parse::<Person>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_inline_part_is_named_by_its_file_or_as_it_is_told() {
        assert_eq!("a/b.png".parse::<InlineImage>().expect("a file").cid, "b.png");
        assert_eq!("a/b.png=logo".parse::<InlineImage>().expect("a file").cid, "logo");
        assert!("a/b.png=a b".parse::<InlineImage>().is_err());
    }

    #[test]
    fn a_plain_message_is_one_part_with_what_the_rfc_wants() {
        let from = person("Me <me@x.test>");
        let parts = MessageParts {
            from: &from,
            to: &[person("Jörg Müller <j@x.test>")],
            cc: &[],
            reply_to: None,
            subject: Some("Grüße"),
            text: Some("hello\n"),
            html: None,
            attach: &[],
            inline: &[],
            headers: &["X-Lab: 1".parse().expect("a header")],
        };
        let message = compose(&parts, NOW).expect("composed");
        let text = String::from_utf8(message.bytes).expect("ASCII");
        assert!(text.is_ascii());
        for line in ["Subject: =?utf-8?", "From: \"Me\" <me@x.test>", "Date: Mon, 24 Nov 2025 16:00:00", "X-Lab: 1"] {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert!(message.id.is_some_and(|id| text.contains(&format!("Message-ID: <{id}>"))));
        assert!(!text.contains("multipart") && !text.to_lowercase().contains("bcc"), "{text}");
        // What the user says of date and name takes the place of ours.
        let headers = ["Date: Thu, 1 Jan 2026 00:00:00 +0000", "message-id: <7@x.test>"];
        let headers = headers.map(|header| header.parse().expect("a header"));
        let message = compose(&MessageParts { headers: &headers, ..parts }, NOW).expect("composed");
        let text = String::from_utf8(message.bytes).expect("ASCII").to_lowercase();
        assert_eq!((text.matches("date:").count(), text.matches("message-id: <7@x.test>").count()), (1, 1), "{text}");
        assert_eq!((message.id.as_deref(), text.matches("message-id:").count()), (Some("7@x.test"), 1));
    }
}
