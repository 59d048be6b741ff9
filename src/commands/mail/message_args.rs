//! What is sent, from whom and to whom.
//!
//! Owns the flags of the message and of its envelope, what is missing among them, and the way from them to
//! an [`Envelope`]. [`message`] composes, [`raw`] takes apart.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;

use super::downgrade;
use super::header::Header;
use super::message::{self, InlineImage, Message, MessageParts, Person};
use super::raw::{self, AddressSelection};
use crate::commands::args::parse_arg;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::net;
use crate::output::Output;
use crate::smtp::Envelope;

/// The message and its envelope.
#[derive(Debug, Args)]
pub(super) struct MessageArgs {
    /// The sender: a@b or 'Name <a@b>'
    ///
    /// With --raw also '<>', the null sender, from whom reports come.
    #[arg(long, value_name = "ADDRESS", value_parser = parse_arg::<ReversePath>)]
    from: Option<ReversePath>,

    /// A recipient; repeatable
    #[arg(long, value_name = "ADDRESS", value_parser = parse_arg::<Person>)]
    to: Vec<Person>,

    /// A recipient of a copy; repeatable
    #[arg(long, value_name = "ADDRESS", value_parser = parse_arg::<Person>, hide_short_help = true)]
    cc: Vec<Person>,

    /// A recipient whom the others do not see; repeatable
    #[arg(long, value_name = "ADDRESS", value_parser = parse_arg::<Person>, hide_short_help = true)]
    bcc: Vec<Person>,

    /// Where answers are to go
    #[arg(long, value_name = "ADDRESS", value_parser = parse_arg::<Person>, hide_short_help = true)]
    reply_to: Option<Person>,

    /// The subject
    #[arg(long, value_name = "TEXT")]
    subject: Option<String>,

    /// The text; @FILE reads a file, @- standard input
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,

    /// The text as HTML; @FILE and @- as with --text
    #[arg(long, value_name = "HTML", hide_short_help = true)]
    html: Option<String>,

    /// Attach a file; repeatable
    #[arg(long, value_name = "FILE")]
    attach: Vec<PathBuf>,

    /// An image for the HTML, where it is called cid:NAME; repeatable
    #[arg(long, value_name = "FILE[=NAME]", requires = "html", value_parser = parse_arg::<InlineImage>, hide_short_help = true)]
    inline: Vec<InlineImage>,

    /// A header of your own; repeatable
    ///
    /// Date and Message-ID take the place of those that are made. What has a flag of its own is refused,
    /// and so is what says how the parts are written down.
    #[arg(long, value_name = "'NAME: VALUE'", value_parser = parse_arg::<Header>, hide_short_help = true)]
    header: Vec<Header>,

    /// Send this message as it is; - is standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["subject", "text", "html", "attach", "inline", "header", "reply_to"], hide_short_help = true)]
    raw: Option<PathBuf>,

    /// Send to those in its To, Cc and Bcc, and from its From unless --from is given
    #[arg(short = 't', long, requires = "raw", hide_short_help = true)]
    read_recipients: bool,
}

/// Somebody, or the null sender `<>` (RFC 5321 §4.5.5).
#[derive(Clone, Debug)]
struct ReversePath(Option<Person>);

impl FromStr for ReversePath {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "<>" { Ok(Self(None)) } else { text.parse().map(|person| Self(Some(person))) }
    }
}

impl MessageArgs {
    /// The flags that are still missing.
    pub(super) fn missing(&self) -> Vec<&'static str> {
        let wants = [
            (self.from.is_none() && !self.read_recipients, "--from ADDRESS"),
            (!self.has_recipients() && !self.read_recipients, "--to ADDRESS"),
            (
                !self.has_body() && self.subject.is_none() && !self.is_read_from_terminal(),
                "--subject TEXT and --text TEXT, or --raw FILE",
            ),
        ];
        wants.into_iter().filter(|(is_missing, _)| *is_missing).map(|(_, flag)| flag).collect()
    }

    fn has_recipients(&self) -> bool {
        [&self.to, &self.cc, &self.bcc].iter().any(|people| !people.is_empty())
    }

    fn has_body(&self) -> bool {
        self.raw.is_some() || self.text.is_some() || self.html.is_some() || !self.attach.is_empty()
    }

    /// Whether the text is asked for.
    fn is_read_from_terminal(&self) -> bool {
        !self.has_body() && std::io::stdin().is_terminal()
    }

    /// The message, and who is named in it.
    pub(super) fn message(&self, output: &Output) -> Result<(Message, raw::HeaderAddresses)> {
        if let Some(path) = &self.raw {
            let names = match (self.read_recipients, &self.from) {
                (false, _) => AddressSelection::None,
                (true, Some(_)) => AddressSelection::Recipients,
                (true, None) => AddressSelection::All,
            };
            return raw::read_message(path, names);
        }
        if [&self.text, &self.html].iter().all(|text| text.as_deref() == Some("@-")) {
            return Err(Error::new(Exit::Usage, "standard input can only be read once")
                .expected("@- behind --text or behind --html"));
        }
        let Some(ReversePath(Some(from))) = &self.from else {
            return Err(Error::new(Exit::Usage, "a message that is composed here has a sender")
                .expected("--from ADDRESS, or --raw FILE with the null sender"));
        };
        let text = match &self.text {
            Some(text) => Some(message::read_text_arg(text)?),
            None if self.is_read_from_terminal() => Some(message::read_terminal(output)?),
            None => None,
        };
        let html = self.html.as_deref().map(message::read_text_arg).transpose()?;
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
        };
        Ok((message::compose(&parts, net::now())?, raw::HeaderAddresses::default()))
    }

    /// From whom and to whom, each once.
    pub(super) fn envelope(&self, message: Message, header_addresses: raw::HeaderAddresses) -> Result<Envelope> {
        let read = if self.read_recipients { header_addresses } else { raw::HeaderAddresses::default() };
        let everybody = self.to.iter().chain(&self.cc).chain(&self.bcc).map(|person| person.mailbox.clone());
        let mut recipients = Vec::new();
        for mailbox in everybody.chain(read.recipients) {
            if !recipients.contains(&mailbox) {
                recipients.push(mailbox);
            }
        }
        let from = match &self.from {
            Some(ReversePath(said)) => Some(said.as_ref().map(|person| person.mailbox.clone())),
            None => read.from.map(Some),
        };
        let Some(from) = from.filter(|_| !recipients.is_empty()) else {
            return Err(Error::new(Exit::InvalidInput, "the message does not say from whom or to whom it is")
                .expected("From, and To, Cc or Bcc with an address")
                .remedy("say it with --from and --to"));
        };
        let ascii = (!message.bytes.is_ascii()).then(|| downgrade::to_seven_bit(&message.bytes)).flatten();
        Ok(Envelope { from, recipients, message: message.bytes.into(), ascii_message: ascii.map(Into::into) })
    }
}
