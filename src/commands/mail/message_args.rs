//! Flags of the message and its envelope.
//!
//! Owns these flags, the check for missing ones, and the conversion to an [`Envelope`]. Messages are composed
//! in [`message`] and read from a file in [`raw`].

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;

use super::downgrade;
use super::header::Header;
use super::header_value::Person;
use super::message::{self, InlineImage, Message, MessageParts};
use super::raw::{self, AddressSelection};
use crate::commands::args::parse_arg;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::net;
use crate::output::Output;
use crate::smtp::Envelope;
use crate::stop::StopConditions;

/// Message and envelope flags.
#[derive(Debug, Args)]
pub(super) struct MessageArgs {
    /// Sender: a@b or 'Name <a@b>'
    ///
    /// With --raw, also '<>': the null sender of delivery reports.
    #[arg(long, value_name = "ADDR", value_parser = parse_arg::<ReversePath>)]
    from: Option<ReversePath>,

    /// Recipient; repeatable
    #[arg(long, value_name = "ADDR", value_parser = parse_arg::<Person>)]
    to: Vec<Person>,

    /// Recipient of a copy (Cc); repeatable
    #[arg(long, value_name = "ADDR", value_parser = parse_arg::<Person>, hide_short_help = true)]
    cc: Vec<Person>,

    /// Recipient hidden from the others (Bcc); repeatable
    #[arg(long, value_name = "ADDR", value_parser = parse_arg::<Person>, hide_short_help = true)]
    bcc: Vec<Person>,

    /// Address for replies (Reply-To)
    #[arg(long, value_name = "ADDR", value_parser = parse_arg::<Person>, hide_short_help = true)]
    reply_to: Option<Person>,

    /// Subject of the message
    #[arg(long, value_name = "TEXT")]
    subject: Option<String>,

    /// Message text; @FILE reads a file, @- standard input
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,

    /// Message text as HTML; @FILE and @- as with --text
    #[arg(long, value_name = "HTML", hide_short_help = true)]
    html: Option<String>,

    /// Attach a file; repeatable
    #[arg(long, value_name = "FILE")]
    attach: Vec<PathBuf>,

    /// Embed an image that the HTML refers to as cid:NAME; repeatable
    #[arg(long, value_name = "FILE[=NAME]", requires = "html", value_parser = parse_arg::<InlineImage>, hide_short_help = true)]
    inline: Vec<InlineImage>,

    /// Additional header; repeatable
    ///
    /// Date and Message-ID replace the generated ones. MIME headers and headers that have a flag are not allowed.
    #[arg(long, value_name = "FIELD", value_parser = parse_arg::<Header>, hide_short_help = true)]
    header: Vec<Header>,

    /// Send the message in FILE instead of composing one; - = standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["subject", "text", "html", "attach", "inline", "header", "reply_to"], hide_short_help = true)]
    raw: Option<PathBuf>,

    /// Take recipients (To, Cc, Bcc) and sender (From) from the headers of --raw
    #[arg(short = 't', long, requires = "raw", hide_short_help = true)]
    read_recipients: bool,
}

/// Reverse path: an address or the null sender `<>` (RFC 5321 §4.5.5).
#[derive(Clone, Debug)]
struct ReversePath(Option<Person>);

impl FromStr for ReversePath {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "<>" { Ok(Self(None)) } else { text.parse().map(|person| Self(Some(person))) }
    }
}

impl MessageArgs {
    /// Required flags that are missing.
    pub(super) fn missing(&self) -> Vec<&'static str> {
        let required = [
            (self.from.is_none() && !self.read_recipients, "--from ADDR"),
            (!self.has_recipients() && !self.read_recipients, "--to ADDR"),
            (
                !self.has_body() && self.subject.is_none() && !self.is_read_from_terminal(),
                "--text TEXT, --subject TEXT or --raw FILE",
            ),
        ];
        required.into_iter().filter(|(is_missing, _)| *is_missing).map(|(_, flag)| flag).collect()
    }

    fn has_recipients(&self) -> bool {
        [&self.to, &self.cc, &self.bcc].iter().any(|recipients| !recipients.is_empty())
    }

    fn has_body(&self) -> bool {
        self.raw.is_some() || self.text.is_some() || self.html.is_some() || !self.attach.is_empty()
    }

    /// Returns true if the text is read from the terminal.
    fn is_read_from_terminal(&self) -> bool {
        !self.has_body() && std::io::stdin().is_terminal()
    }

    /// Composes or reads the message, with the addresses in its headers.
    pub(super) fn message(&self, output: &Output, stop: &StopConditions) -> Result<(Message, raw::HeaderAddresses)> {
        if let Some(path) = &self.raw {
            let selection = match (self.read_recipients, &self.from) {
                (false, _) => AddressSelection::None,
                (true, Some(_)) => AddressSelection::Recipients,
                (true, None) => AddressSelection::All,
            };
            return raw::read_message(path, selection, stop);
        }
        if [&self.text, &self.html].iter().all(|text| text.as_deref() == Some("@-")) {
            return Err(Error::new(Exit::Usage, "standard input can be read only once")
                .expected("@- with --text or with --html, not both"));
        }
        let Some(ReversePath(Some(from))) = &self.from else {
            return Err(Error::new(Exit::Usage, "a composed message needs a sender")
                .expected("--from ADDR, or the null sender with --raw FILE"));
        };
        let text = match &self.text {
            Some(text) => Some(message::read_text_arg(text, stop)?),
            None if self.is_read_from_terminal() => Some(message::read_terminal(output)?),
            None => None,
        };
        let html = self.html.as_deref().map(|html| message::read_text_arg(html, stop)).transpose()?;
        let parts = MessageParts {
            from,
            to: &self.to,
            cc: &self.cc,
            reply_to: self.reply_to.as_ref(),
            subject: self.subject.as_deref(),
            text: text.as_deref(),
            html: html.as_deref(),
            attach: &self.attach,
            inline: &self.inline,
            headers: &self.header,
            stop,
        };
        Ok((message::compose(&parts, net::now())?, raw::HeaderAddresses::default()))
    }

    /// Builds the envelope; each recipient appears once.
    pub(super) fn envelope(&self, message: Message, header_addresses: raw::HeaderAddresses) -> Result<Envelope> {
        let read = if self.read_recipients { header_addresses } else { raw::HeaderAddresses::default() };
        let named = self.to.iter().chain(&self.cc).chain(&self.bcc).map(|person| person.mailbox.clone());
        let mut recipients = Vec::new();
        for mailbox in named.chain(read.recipients) {
            if !recipients.contains(&mailbox) {
                recipients.push(mailbox);
            }
        }
        let from = match &self.from {
            Some(ReversePath(path)) => Some(path.as_ref().map(|person| person.mailbox.clone())),
            None => read.from.map(Some),
        };
        let Some(from) = from.filter(|_| !recipients.is_empty()) else {
            return Err(Error::new(Exit::InvalidInput, "the message has no sender or no recipient")
                .expected("From, and an address in To, Cc or Bcc")
                .remedy("use --from and --to"));
        };
        let ascii = (!message.bytes.is_ascii()).then(|| downgrade::to_seven_bit(&message.bytes)).flatten();
        Ok(Envelope { from, recipients, message: message.bytes.into(), ascii_message: ascii.map(Into::into) })
    }
}
