//! `netlab mail`: a mail client that cannot be fooled.
//!
//! Owns the flags and the story of a run: what is missing is said in one message before anything is
//! connected; then the message is composed, the line made, the dialogue carried, and for each
//! recipient told what became of it. The dialogue is `smtp`'s, [`message`] composes, [`login`] finds the
//! password, [`run`] carries it, [`events`] words the result.

mod events;
mod input;
mod load;
mod login;
mod message;
mod raw;
mod retry;
mod run;
mod sevenbit;
mod wishes;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::values::{FamilyArgs, Peer, TrustArgs, duration, parsed, positive_duration};
use crate::disk;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::host;
use crate::net::tls::ClientSide;
use crate::net::{self, Signals};
use crate::output::{Output, Style};
use crate::smtp::{self, Done, Envelope, Outcome, Plan, Security, Stage};
use events::{Event, Named, Summary};
use load::LoadArgs;
use login::LoginArgs;
use message::{Header, Inline, Message, Parts, Person};
use run::Run;
use wishes::WishArgs;

/// Send a mail, and say what became of each recipient.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  netlab mail 127.0.0.1:2525 --from me@x.test --to you@x.test --text hello
  netlab mail smtp.x.test --user me --from me@x.test --to you@x.test --text @-")]
pub struct Mail {
    /// The server; without a port 587, with --tls 465, with --plain 25
    #[arg(value_name = "HOST[:PORT]")]
    server: Peer,

    /// Clear until STARTTLS, and nothing without it; the default of port 587
    #[arg(long, group = "security", help_heading = "Transport", hide_short_help = true)]
    starttls: bool,

    /// TLS from the first byte on; the default of port 465
    #[arg(long, group = "security", help_heading = "Transport", hide_short_help = true)]
    tls: bool,

    /// No TLS at all; the default of ports 25 and 2525
    #[arg(long, group = "security", help_heading = "Transport", hide_short_help = true)]
    plain: bool,

    /// The name that the certificate must have
    #[arg(long, value_name = "NAME", help_heading = "Transport", hide_short_help = true)]
    server_name: Option<String>,

    #[command(flatten)]
    trust: TrustArgs,

    #[command(flatten)]
    login: LoginArgs,

    /// The sender: a@b or 'Name <a@b>'
    #[arg(long, value_name = "ADDRESS", value_parser = parsed::<Person>)]
    from: Option<Person>,

    /// A recipient; repeatable
    #[arg(long, value_name = "ADDRESS", value_parser = parsed::<Person>)]
    to: Vec<Person>,

    /// A recipient of a copy; repeatable
    #[arg(long, value_name = "ADDRESS", value_parser = parsed::<Person>, hide_short_help = true)]
    cc: Vec<Person>,

    /// A recipient whom the others do not see; repeatable
    #[arg(long, value_name = "ADDRESS", value_parser = parsed::<Person>, hide_short_help = true)]
    bcc: Vec<Person>,

    /// Where answers are to go
    #[arg(long, value_name = "ADDRESS", value_parser = parsed::<Person>, hide_short_help = true)]
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
    #[arg(long, value_name = "FILE[=NAME]", requires = "html", value_parser = parsed::<Inline>, hide_short_help = true)]
    inline: Vec<Inline>,

    /// A header of your own; repeatable
    #[arg(long, value_name = "'NAME: VALUE'", value_parser = parsed::<Header>, hide_short_help = true)]
    header: Vec<Header>,

    /// Send this message as it is; - is standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["subject", "text", "html", "attach", "inline", "header", "reply_to"], hide_short_help = true)]
    raw: Option<PathBuf>,

    /// Send to those in its To, Cc and Bcc, and from its From unless --from is given
    #[arg(short = 't', long, requires = "raw", hide_short_help = true)]
    read_recipients: bool,

    /// Send to nobody if one recipient is refused
    #[arg(long, hide_short_help = true)]
    all_or_nothing: bool,

    /// Write down who was refused or deferred
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    rejected_to: Option<PathBuf>,

    /// Try again up to N times for those who are deferred (4xx)
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, hide_short_help = true)]
    retry: u32,

    /// How long to wait before that
    #[arg(long, value_name = "D", default_value = "1m", value_parser = duration, requires = "retry", hide_short_help = true)]
    retry_wait: Duration,

    /// Print the message and connect to nobody
    #[arg(long)]
    dry_run: bool,

    /// Ask what the server offers and who it is, and send nothing
    ///
    /// What EHLO says before and after TLS, the certificates with their dates, and how long each step
    /// takes. With --user it logs in as well.
    #[arg(long, conflicts_with_all = ["dry_run", "raw", "retry", "rejected_to", "stop_after"], hide_short_help = true)]
    info: bool,

    /// Say goodbye after banner, ehlo, tls, auth, mail, rcpt or data
    #[arg(long, value_name = "STAGE", hide_short_help = true)]
    stop_after: Option<Stage>,

    /// What to be called in EHLO; this machine's name unless given
    #[arg(long, value_name = "NAME", value_parser = helo, hide_short_help = true)]
    helo: Option<String>,

    /// How long each reply may take; by RFC 5321 unless given
    #[arg(long, value_name = "D", value_parser = positive_duration, hide_short_help = true)]
    timeout: Option<Duration>,

    /// The longest time for everything
    #[arg(short = 'w', long, value_name = "D", value_parser = positive_duration, hide_short_help = true)]
    deadline: Option<Duration>,

    /// Show the conversation on stderr, without secrets
    #[arg(long)]
    trace: bool,

    /// The same, with a sentence and its clause for each step
    #[arg(long, hide_short_help = true)]
    explain: bool,

    #[command(flatten)]
    wishes: WishArgs,

    #[command(flatten)]
    load: LoadArgs,

    #[command(flatten)]
    family: FamilyArgs,
}

/// A name for EHLO: a domain or an address literal, nothing that could end the line.
fn helo(text: &str) -> Result<String, String> {
    let is_plain = (1..=255).contains(&text.len()) && text.bytes().all(|octet| octet.is_ascii_graphic());
    if is_plain { Ok(text.to_owned()) } else { Err("expected a domain name or [ADDRESS]".to_owned()) }
}

impl Mail {
    /// Sends the mail.
    pub fn run(&self, style: Style) -> Result<Exit> {
        self.check()?;
        let mut output = Output::new(style);
        let (envelope, id) = if self.info { (None, None) } else { self.compose(&output)? };
        if let Some(envelope) = envelope.as_ref().filter(|_| self.dry_run) {
            output.bytes(&envelope.message)?;
            return Ok(Exit::Done);
        }
        if let Some(file) = &self.rejected_to {
            disk::check_target(file)?;
        }
        let security = self.security();
        let tls = (security != Security::Plain).then(|| self.client_side(&output)).transpose()?;
        let login = self.login.credentials(&output, self.wishes.strict)?;
        let mut signals = Signals::listen()?;
        let bytes = envelope.as_ref().map(|envelope| envelope.message.len());
        let plan = Plan {
            server: self.server.host.clone(),
            name: self.helo.clone().unwrap_or_else(|| smtp::host_name(&host::name())),
            security,
            is_verified: !self.trust.insecure,
            login,
            envelope,
            all_or_nothing: self.all_or_nothing,
            stop_after: self.stop_after,
            patience: self.timeout,
            wishes: self.wishes.wishes(),
            mails: 1,
            apart: Duration::ZERO,
        };
        let run = Run { mail: self, security, started: net::now() };
        if self.load.is_wanted() {
            self.load.be_polite(self.family.find(&self.server, self.port(), &mut signals)?)?;
            return self.load.run(&run, &plan, tls.as_ref(), self.shown(), &mut output, &mut signals);
        }
        let patience = retry::Patience { times: self.retry, wait: self.retry_wait };
        let (done, line) = retry::carry(&run, &plan, patience, tls.as_ref(), &mut output, &mut signals)?;
        let exit = verdict(&done);
        if let Some(error) = &done.failure {
            output.failure(error);
        }
        let recipients: Vec<Named> = done.recipients.iter().map(Named::of).collect();
        self.write_rejected(&recipients)?;
        let summary = Summary {
            command: "mail",
            server: self.shown(),
            peer: line.peer,
            tls: line.tls.filter(|_| done.is_encrypted),
            certificates: line.certificates,
            auth: done.mechanism.map(smtp::Mechanism::word),
            stage: done.stage,
            message_id: id,
            bytes,
            offers_before_tls: done.offers_before_tls.map(|offers| offers.words),
            offers: done.offers.words,
            stages: line.stages,
            recipients,
            is_info: self.info,
        };
        output.event(&Event::summary(summary))?;
        Ok(exit)
    }

    /// Everything that is missing, in one message.
    fn check(&self) -> Result<()> {
        self.wishes.check(self.security() != Security::Plain)?;
        if self.info {
            return Ok(());
        }
        let mut missing = Vec::new();
        if self.from.is_none() && !self.read_recipients {
            missing.push("--from ADDRESS");
        }
        if self.to.is_empty() && self.cc.is_empty() && self.bcc.is_empty() && !self.read_recipients {
            missing.push("--to ADDRESS");
        }
        if !self.has_body() && self.subject.is_none() && !self.is_typed() {
            missing.push("--subject TEXT and --text TEXT, or --raw FILE");
        }
        if missing.is_empty() {
            return Ok(());
        }
        let mut error = Error::new(Exit::Usage, format!("this is missing: {}", missing.join("; ")))
            .expected("a sender, a recipient and a message; nothing was connected");
        if self.security() != Security::Plain && !self.login.is_wanted() {
            error = error.remedy("such a server wants a login too: --user NAME with --password-file FILE, --password-command CMD, or a terminal to ask on");
        }
        Err(error)
    }

    fn has_body(&self) -> bool {
        self.raw.is_some() || self.text.is_some() || self.html.is_some() || !self.attach.is_empty()
    }

    /// Whether the text is asked for.
    fn is_typed(&self) -> bool {
        !self.has_body() && std::io::stdin().is_terminal()
    }

    fn security(&self) -> Security {
        match (self.starttls, self.tls, self.plain, self.server.port) {
            (true, ..) => Security::Starttls,
            (_, true, ..) | (.., false, Some(465)) => Security::Tls,
            (_, _, true, _) | (.., Some(25 | 2525)) => Security::Plain,
            _ => Security::Starttls,
        }
    }

    fn port(&self) -> u16 {
        self.server.port.unwrap_or(match self.security() {
            Security::Starttls => 587,
            Security::Tls => 465,
            Security::Plain => 25,
        })
    }

    fn shown(&self) -> String {
        let host = &self.server.host;
        let port = self.port();
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// What is to be delivered, and its Message-ID.
    fn compose(&self, output: &Output) -> Result<(Option<Envelope>, Option<String>)> {
        let (message, named) = self.message(output)?;
        self.wishes.check_message(&message.octets)?;
        let id = message.id.clone();
        Ok((Some(self.envelope(message, named)?), id))
    }

    fn message(&self, output: &Output) -> Result<(Message, raw::Named)> {
        if let Some(path) = &self.raw {
            return raw::raw(path, self.read_recipients);
        }
        let from = self.from.as_ref().ok_or_else(|| Error::new(Exit::Usage, "there is no sender"))?;
        let text = match &self.text {
            Some(text) => Some(message::text_of(text)?),
            None if self.is_typed() => Some(message::typed(output)?),
            None => None,
        };
        let html = self.html.as_deref().map(message::text_of).transpose()?;
        let parts = Parts {
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
        Ok((message::compose(&parts, net::now())?, raw::Named::default()))
    }

    /// From whom and to whom, each once.
    fn envelope(&self, message: Message, named: raw::Named) -> Result<Envelope> {
        let read = if self.read_recipients { named } else { raw::Named::default() };
        let everybody = self.to.iter().chain(&self.cc).chain(&self.bcc).map(|person| person.mailbox.clone());
        let mut recipients = Vec::new();
        for mailbox in everybody.chain(read.recipients) {
            if !recipients.contains(&mailbox) {
                recipients.push(mailbox);
            }
        }
        let from = self.from.as_ref().map(|from| from.mailbox.clone()).or(read.from);
        if recipients.is_empty() || from.is_none() {
            return Err(Error::new(Exit::InputRefused, "the message does not say from whom or to whom it is")
                .expected("From, and To, Cc or Bcc with an address")
                .remedy("say it with --from and --to"));
        }
        let ascii = (!message.octets.is_ascii()).then(|| sevenbit::encoded(&message.octets)).flatten();
        Ok(Envelope { from, recipients, message: message.octets.into(), ascii: ascii.map(Into::into) })
    }

    fn client_side(&self, output: &Output) -> Result<ClientSide> {
        if self.trust.insecure {
            output.note("warning: with --insecure anybody could be the server");
        }
        let side = ClientSide::new(&self.trust.trust())?;
        side.warnings().iter().for_each(|warning| output.note(&format!("note: {warning}")));
        Ok(side)
    }

    fn write_rejected(&self, recipients: &[Named]) -> Result<()> {
        let Some(file) = &self.rejected_to else { return Ok(()) };
        let is_rejected =
            |named: &&Named| matches!(named.outcome, Some(Outcome::Refused | Outcome::Deferred | Outcome::Unknown));
        let lines: String = recipients.iter().filter(is_rejected).map(|named| named.line() + "\n").collect();
        disk::replace(file, lines.as_bytes())
    }
}

/// What a dialogue came to, as a code.
fn verdict(done: &Done) -> Exit {
    done.failure.as_ref().map_or_else(|| smtp::verdict(&done.recipients), Error::exit)
}
