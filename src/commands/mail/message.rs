//! Composition of a message from flags.
//!
//! Owns the parts and their nesting; mail-builder encodes them, and [`raw`](super::raw) handles messages sent
//! unchanged. Bcc never becomes a header. Line ends in values are rejected, because a subject with a line end could
//! inject a header.
//!
//! ```text
//!   mixed ┬ related ┬ alternative ┬ text/plain
//!         │         │             └ text/html
//!         │         └ inline images, referred to by cid
//!         └ attachments                       (a level with one part is left out)
//! ```

use std::path::{Path, PathBuf};
use std::str::FromStr;

use mail_builder::MessageBuilder;
use mail_builder::headers::address::Address;
use mail_builder::headers::date::Date;
use mail_builder::headers::raw::Raw;
use mail_builder::mime::MimePart;

use super::file::read_input;
use super::file::{attachment_part, with_disposition};
use super::header::{self, Header};
use super::header_value::{Person, check_single_line, file_name};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::failure::io_error_text;
use crate::output::Output;
use crate::smtp::count_bare_line_ends;
use crate::stop::StopConditions;
use crate::time::Moment;

/// Image for the HTML: `FILE` or `FILE=cid`.
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
        if !cid.bytes().all(|byte| byte.is_ascii_graphic() && !b"<>\"".contains(&byte)) {
            let message = format!("invalid name '{}' of an inline part", cid.escape_debug());
            return Err(Error::new(Exit::InvalidInput, message).expected("letters, digits and dots: --inline FILE=cid"));
        }
        Ok(Self { path: path.into(), cid })
    }
}

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
    /// Conditions under which the files are not read to their end.
    pub stop: &'a StopConditions,
}

#[derive(Debug)]
pub(super) struct Message {
    pub bytes: Vec<u8>,
    /// Message-ID without brackets, if known.
    pub id: Option<String>,
    /// Number of bare CRs, which become line ends.
    pub bare_cr_count: usize,
}

pub(super) fn compose(parts: &MessageParts<'_>, now: Moment) -> Result<Message> {
    header::check_unique(parts.headers)?;
    let custom = |name: &str| parts.headers.iter().find(|header| header.is_named(name));
    let mut builder = MessageBuilder::new().from(parts.from.address());
    if custom("date").is_none() {
        let seconds = i64::try_from(now.wall().as_secs()).unwrap_or_default();
        builder = builder.date(Date::new(seconds));
    }
    let id = custom("message-id").and_then(Header::message_id).map_or_else(
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
    let bytes = builder.body(body(parts)?).write_to_vec();
    let bytes = bytes.map_err(|error| Error::new(Exit::Bug, "cannot format the message").with_source(error))?;
    let bare_cr_count = count_bare_line_ends(&bytes).1;
    Ok(Message { bytes, id: Some(id), bare_cr_count })
}

fn body(parts: &MessageParts<'_>) -> Result<MimePart<'static>> {
    let text = parts.text.map(|text| MimePart::new("text/plain", text.to_owned()));
    let html = parts.html.map(|html| MimePart::new("text/html", html.to_owned()));
    let texts: Vec<MimePart<'static>> = [text, html].into_iter().flatten().collect();
    let texts = multipart("multipart/alternative", texts).unwrap_or_else(|| MimePart::new("text/plain", String::new()));
    let mut related = vec![texts];
    for (index, InlineImage { path, cid }) in parts.inline.iter().enumerate() {
        if parts.inline.iter().take(index).any(|other| other.cid == *cid) {
            return Err(Error::new(Exit::InvalidInput, format!("two inline parts have the name '{cid}'"))
                .expected("a unique name for each inline part: --inline FILE=cid"));
        }
        related.push(with_disposition(attachment_part(path, parts.stop)?, "inline", path)?.cid(cid.clone()));
    }
    let mut mixed: Vec<MimePart<'static>> = multipart("multipart/related", related).into_iter().collect();
    for path in parts.attach {
        mixed.push(with_disposition(attachment_part(path, parts.stop)?, "attachment", path)?);
    }
    multipart("multipart/mixed", mixed).ok_or_else(|| Error::new(Exit::Bug, "a message without parts"))
}

/// Combines several parts into one; a single part stays unchanged.
fn multipart(kind: &'static str, mut parts: Vec<MimePart<'static>>) -> Option<MimePart<'static>> {
    if parts.len() > 1 { Some(MimePart::new(kind, parts)) } else { parts.pop() }
}

/// Reads the text of a flag: literal, from a file with `@FILE`, from standard input with `@-`.
pub(super) fn read_text_arg(value: &str, stop: &StopConditions) -> Result<String> {
    let bytes = match value.strip_prefix('@') {
        None => return Ok(value.to_owned()),
        Some(file) => read_input(Path::new(file), stop)?,
    };
    if bytes.is_empty() && value == "@-" {
        return Err(Error::new(Exit::InvalidInput, "standard input is empty").expected("the text of the mail"));
    }
    String::from_utf8(bytes).map_err(|error| {
        Error::new(Exit::InvalidInput, format!("'{value}' is not UTF-8")).expected("text in UTF-8").with_source(error)
    })
}

/// Reads the text from the terminal until a line with a single dot, as in the textbook.
pub(super) fn read_terminal(output: &Output) -> Result<String> {
    output.note("type the text of the mail; end with a dot alone on a line");
    let mut text = String::new();
    for line in std::io::stdin().lines() {
        let line = line.map_err(|error| {
            Error::new(Exit::InvalidInput, format!("cannot read from the terminal: {}", io_error_text(&error)))
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

#[cfg(test)]
mod tests {
    use super::{InlineImage, MessageParts, Person, compose};
    use crate::stop::tests::never;
    use crate::time::Moment;
    use std::time::Duration;

    const NOW: Moment = Moment::new(Duration::ZERO, Duration::from_secs(1_764_000_000));

    fn person(text: &str) -> Person {
        text.parse().expect(text)
    }

    #[test]
    fn an_inline_part_is_named_by_its_file_or_explicitly() {
        assert_eq!("a/b.png".parse::<InlineImage>().expect("a file").cid, "b.png");
        assert_eq!("a/b.png=logo".parse::<InlineImage>().expect("a file").cid, "logo");
        assert!("a/b.png=a b".parse::<InlineImage>().is_err());
    }

    #[test]
    fn a_plain_message_is_one_part_with_the_required_headers() {
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
            stop: &never(),
        };
        let message = compose(&parts, NOW).expect("composed");
        let text = String::from_utf8(message.bytes).expect("ASCII");
        assert!(text.is_ascii());
        for line in ["Subject: =?utf-8?", "From: \"Me\" <me@x.test>", "Date: Mon, 24 Nov 2025 16:00:00", "X-Lab: 1"] {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert!(message.id.is_some_and(|id| text.contains(&format!("Message-ID: <{id}>"))));
        assert!(!text.contains("multipart") && !text.to_lowercase().contains("bcc"), "{text}");
        // Date and Message-ID of the user replace the generated ones.
        let headers = ["Date: Thu, 1 Jan 2026 00:00:00 +0000", "message-id: <7@x.test>"];
        let headers = headers.map(|header| header.parse().expect("a header"));
        let message = compose(&MessageParts { headers: &headers, ..parts }, NOW).expect("composed");
        let text = String::from_utf8(message.bytes).expect("ASCII").to_lowercase();
        assert_eq!((text.matches("date:").count(), text.matches("message-id: <7@x.test>").count()), (1, 1), "{text}");
        assert_eq!((message.id.as_deref(), text.matches("message-id:").count()), (Some("7@x.test"), 1));
    }
}
