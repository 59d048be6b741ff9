//! `netlab mail`: a mail client that cannot be fooled.
//!
//! Owns the flags and the story of a run: what is missing is said in one message before anything is
//! connected; then the message is composed, the line made, the dialogue carried, and for each
//! recipient told what became of it. The dialogue is `smtp`'s; [`letter`] has what is sent, [`transport`]
//! the line, [`login`] the password, [`run`] carries it, [`telling`] shows it, [`events`] words the result.

mod counters;
mod downgrade;
mod events;
mod extension_args;
mod file;
mod header;
mod load;
mod login;
mod message;
mod message_args;
mod observer;
mod raw;
mod retry;
mod session;
mod transport;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::args::{duration, host_name, positive_duration};
use crate::disk;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::net::{self, Signals};
use crate::output::{Escaped, Output, Style};
use crate::smtp::{self, ClientConfig, Credentials, DeliveryOutcome, Envelope, Security, SessionResult, Stage};
use events::{MailReport, RecipientResult, Summary};
use extension_args::ExtensionArgs;
use load::LoadArgs;
use login::LoginArgs;
use message_args::MessageArgs;
use session::{ConnectionInfo, SessionRunner};
use transport::TransportArgs;

/// Send a mail, and say what became of each recipient.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  netlab mail 127.0.0.1:2525 --from me@x.test --to you@x.test --text hello
  netlab mail smtp.x.test --user me --from me@x.test --to you@x.test --text @-")]
pub(crate) struct Mail {
    #[command(flatten)]
    transport: TransportArgs,

    #[command(flatten)]
    login: LoginArgs,

    #[command(flatten)]
    letter: MessageArgs,

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
    ///
    /// The octets as they would go, each line with CR LF at its end, but without the dots that SMTP adds.
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
    #[arg(long, value_name = "NAME", value_parser = host_name, hide_short_help = true)]
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
    wishes: ExtensionArgs,

    #[command(flatten)]
    load: LoadArgs,
}

impl Mail {
    /// Sends the mail.
    pub(crate) fn run(&self, style: Style) -> Result<Exit> {
        self.check()?;
        let mut output = Output::new(style);
        let (envelope, id) = if self.info { (None, None) } else { self.compose(&output)? };
        if let Some(envelope) = envelope.as_ref().filter(|_| self.dry_run) {
            // The very octets that would go: every line ends in CRLF there.
            let mut octets = Vec::new();
            smtp::canonicalize(&envelope.message, &mut octets);
            output.write_bytes(&octets)?;
            return Ok(Exit::Success);
        }
        if let Some(file) = &self.rejected_to {
            disk::check_writable(file)?;
        }
        let tls = self.transport.client_tls(&output)?;
        let login = self.login.credentials(&output, self.wishes.strict, self.deadline)?;
        let mut signals = Signals::install()?;
        let bytes = envelope.as_ref().map(|envelope| smtp::canonical_size(&envelope.message));
        let plan = self.client_config(login, envelope);
        let run = SessionRunner { mail: self, started: net::now() };
        if self.load.is_wanted() {
            self.load.check_load_allowed(&self.transport.resolve(run.deadline(), &mut signals)?)?;
            return self.load.run(&run, &plan, tls.as_ref(), self.transport.host_and_port(), &mut output, &mut signals);
        }
        let patience = retry::RetryPolicy { max_retries: self.retry, wait: self.retry_wait };
        let (done, mut line, exit) =
            retry::send_with_retries(&run, &plan, patience, tls.as_ref(), &mut output, &mut signals)?;
        if let Some(error) = &done.failure {
            output.report_error(error);
        }
        let unwritten = line.write_error.take();
        let summary = self.summary(done, line, id, bytes);
        let unwritten = unwritten.or(self.write_rejected(&summary.recipients).err());
        if let Some(error) = &unwritten {
            output.report_error(error);
        }
        // What became of the mail is told also where it cannot be written down.
        output.emit(&MailReport::summary(summary))?;
        Ok(unwritten.map_or(exit, |error| error.exit()))
    }

    /// What the dialogue is to do.
    fn client_config(&self, login: Option<Credentials>, envelope: Option<Envelope>) -> ClientConfig {
        ClientConfig {
            server_name: self.transport.host().to_owned(),
            // Without a name of its own it is called by its address, which only the line knows.
            helo_name: self.helo.clone().unwrap_or_default(),
            security: self.transport.security(),
            verify_certificate: !self.transport.is_insecure(),
            credentials: login,
            envelope,
            all_or_nothing: self.all_or_nothing,
            stop_after: self.stop_after,
            reply_timeout: self.timeout,
            requested_extensions: self.wishes.requested_extensions(),
            transaction_count: 1,
            min_interval: Duration::ZERO,
        }
    }

    /// What it came to.
    fn summary(
        &self,
        result: SessionResult,
        connection: ConnectionInfo,
        message_id: Option<String>,
        bytes: Option<usize>,
    ) -> Summary {
        Summary {
            command: "mail",
            server: self.transport.host_and_port(),
            peer: connection.peer,
            tls: connection.tls.filter(|_| result.is_encrypted),
            certificates: connection.certificates,
            auth: result.mechanism.map(smtp::Mechanism::name),
            stage: result.stage,
            message_id,
            bytes,
            offers_before_tls: result.extensions_before_tls.map(|offers| offers.lines),
            offers: result.extensions.map(|offers| offers.lines),
            stages: connection.stages,
            recipients: result.recipients.iter().map(RecipientResult::from_recipient).collect(),
            is_info: self.info,
        }
    }

    /// Everything that is missing, in one message.
    fn check(&self) -> Result<()> {
        let is_encrypted = self.transport.security() != Security::Plain;
        self.transport.check()?;
        self.wishes.check(is_encrypted)?;
        if self.info {
            return Ok(());
        }
        let missing = self.letter.missing();
        if missing.is_empty() {
            return Ok(());
        }
        let mut error = Error::new(Exit::Usage, format!("this is missing: {}", missing.join("; ")))
            .expected("a sender, a recipient and a message; nothing was connected");
        if is_encrypted && !self.login.is_wanted() {
            error = error.remedy("such a server wants a login too: --user NAME with --password-file FILE, --password-command CMD, or a terminal to ask on");
        }
        Err(error)
    }

    /// What is to be delivered, and its Message-ID.
    fn compose(&self, output: &Output) -> Result<(Option<Envelope>, Option<String>)> {
        let (message, named) = self.letter.message(output)?;
        self.wishes.check_message(&message)?;
        let id = message.id.clone();
        Ok((Some(self.letter.envelope(message, named)?), id))
    }

    fn write_rejected(&self, recipients: &[RecipientResult]) -> Result<()> {
        let Some(file) = &self.rejected_to else { return Ok(()) };
        let is_rejected = |named: &&RecipientResult| {
            matches!(
                named.outcome,
                Some(DeliveryOutcome::Refused | DeliveryOutcome::Deferred | DeliveryOutcome::Unknown)
            )
        };
        let line = |named: &RecipientResult| format!("{}\n", Escaped(named.text_line().as_bytes()));
        let lines: String = recipients.iter().filter(is_rejected).map(line).collect();
        disk::replace(file, lines.as_bytes())
    }
}

/// What a dialogue came to, as a code.
fn session_exit(result: &SessionResult) -> Exit {
    result.failure.as_ref().map_or_else(|| smtp::exit_for_recipients(&result.recipients), Error::exit)
}
