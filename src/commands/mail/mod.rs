//! `netlab mail`: the SMTP client command.
//!
//! Owns the flags and the order of a run: all missing flags are reported in one message before netlab
//! connects; then the message is composed and sent, and the result is reported for each recipient. The SMTP
//! dialogue is in `smtp`, the message flags in [`message_args`], the connection flags in [`transport`], the
//! password in [`login`]. [`session`] runs a session, [`observer`] prints it, [`events`] formats the result.

mod counters;
mod downgrade;
mod events;
mod extension_args;
mod file;
mod header;
mod header_value;
mod load;
mod login;
mod message;
mod message_args;
mod observer;
mod outcome;
mod provider;
mod raw;
mod retry;
mod session;
mod transport;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};

use super::args::{duration, host_name, number, positive_duration};
use super::dialogue_trace::TraceArgs;
use super::report;
use crate::disk;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::net::{self, Signals};
use crate::output::{BareSummary, Escaped, Format, Output};
use crate::smtp::{self, ClientConfig, Credentials, DeliveryOutcome, Envelope, Security, SessionResult, Stage};
use crate::stop::StopConditions;
pub(in crate::commands) use events::list_events;
use events::{Composed, MailEvent, RecipientResult, Summary};
use extension_args::ExtensionArgs;
use load::LoadArgs;
use login::LoginArgs;
use message_args::MessageArgs;
use session::{ConnectionInfo, SessionRunner};
use transport::TransportArgs;

/// Stages after which `--stop-after` can end a session.
const STOP_STAGES: [&str; 7] = ["banner", "ehlo", "tls", "auth", "mail", "rcpt", "data"];

/// Send mail and report the result for each recipient.
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
    message: MessageArgs,

    /// Send nothing unless every recipient is accepted
    #[arg(long, hide_short_help = true)]
    all_or_nothing: bool,

    /// Write rejected and deferred recipients to FILE
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    rejected_to: Option<PathBuf>,

    /// Retry deferred recipients (4xx) up to N times
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, hide_short_help = true, value_parser = number::<u32>(0..=u32::MAX))]
    retry: u32,

    /// Time between attempts
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = duration, requires = "retry", hide_short_help = true)]
    retry_wait: Duration,

    /// Print the message without sending it
    ///
    /// Prints the bytes that would be sent, with CR LF line endings but without dot-stuffing.
    #[arg(long)]
    dry_run: bool,

    /// Print the capabilities of the server without sending mail
    ///
    /// Prints the extensions offered before and after TLS, the certificates with their dates and the duration
    /// of each stage. With --user, also logs in.
    #[arg(long, conflicts_with_all = ["dry_run", "raw", "retry", "rejected_to", "stop_after"], hide_short_help = true)]
    info: bool,

    /// Send QUIT after STAGE: banner, ehlo, tls, auth, mail, rcpt or data
    #[arg(long, value_name = "STAGE", value_parser = PossibleValuesParser::new(STOP_STAGES).try_map(|name| name.parse::<Stage>()), hide_possible_values = true, hide_short_help = true)]
    stop_after: Option<Stage>,

    /// Name to send in EHLO [default: host name]
    #[arg(long, value_name = "NAME", value_parser = host_name, hide_short_help = true)]
    helo: Option<String>,

    /// Time limit for each reply [default: as in RFC 5321]
    #[arg(long, value_name = "DURATION", value_parser = positive_duration, hide_short_help = true)]
    timeout: Option<Duration>,

    /// Time limit for the whole run
    #[arg(short = 'w', long, value_name = "DURATION", value_parser = positive_duration, hide_short_help = true)]
    deadline: Option<Duration>,

    #[command(flatten)]
    trace: TraceArgs,

    #[command(flatten)]
    extensions: ExtensionArgs,

    #[command(flatten)]
    load: LoadArgs,
}

impl Mail {
    pub(crate) fn run(&self, mut output: Output) -> Result<Exit> {
        self.check()?;
        let session = SessionRunner { mail: self, started: net::now() };
        let before_signals = StopConditions::at_deadline(session.deadline(), net::now);
        let (envelope, id) = if self.info { (None, None) } else { self.compose(&output, &before_signals)? };
        if let Some(envelope) = envelope.as_ref().filter(|_| self.dry_run) {
            let signals = Signals::install()?;
            output.stop_on(signals.stop_conditions(session.deadline()));
            let mut bytes = Vec::new();
            smtp::canonicalize(&envelope.message, &mut bytes);
            if output.style().format == Format::Json {
                let content = String::from_utf8_lossy(&bytes).into_owned();
                output.emit(&MailEvent::Composed(Composed { message_id: id, bytes: bytes.len(), content }))?;
                report::emit_summary(&mut output, &BareSummary { command: Some("mail") }, Exit::Success)?;
            } else {
                output.write_bytes(&bytes)?;
            }
            return Ok(Exit::Success);
        }
        if let Some(file) = &self.rejected_to {
            disk::check_writable(file)?;
        }
        let tls = self.transport.client_tls(&output)?;
        let credentials = self.login.credentials(&output, self.extensions.strict, &before_signals)?;
        let mut signals = Signals::install()?;
        let bytes = envelope.as_ref().map(|envelope| smtp::canonical_size(&envelope.message));
        let config = self.client_config(credentials, envelope);
        let stop = signals.stop_conditions(session.deadline());
        output.stop_on(stop.clone());
        if self.load.is_wanted() {
            self.load.check_load_allowed(&self.transport.resolve(session.deadline(), &mut signals)?)?;
            return self.load.run(
                &session,
                &config,
                tls.as_ref(),
                self.transport.host_and_port(),
                &mut output,
                &mut signals,
            );
        }
        let policy = retry::RetryPolicy { max_retries: self.retry, wait: self.retry_wait };
        let (mut result, mut connection, exit) =
            retry::send_with_retries(&session, &config, policy, tls.as_ref(), &mut output, &mut signals)?;
        if let Some(failure) = result.failure.take() {
            output.report_error(&outcome::error_for(failure, result.mechanism, self.transport.host()));
        } else if let Some(error) = outcome::recipients_error(&result.recipients, exit) {
            output.report_error(&error);
        }
        let write_error = connection.write_error.take();
        let summary = self.summary(result, connection, id, bytes);
        let write_error = write_error.or(self.write_rejected(&summary.recipients, &stop).err());
        if let Some(error) = &write_error {
            output.report_error(error);
        }
        // The outcome is reported even if a file could not be written.
        let exit = write_error.map_or(exit, |error| error.exit());
        report::emit_summary(&mut output, &summary, exit)?;
        Ok(exit)
    }

    fn client_config(&self, credentials: Option<Credentials>, envelope: Option<Envelope>) -> ClientConfig {
        ClientConfig {
            // The default depends on the local address of the connection.
            helo_name: self.helo.clone().unwrap_or_default(),
            security: self.transport.security(),
            verify_certificate: !self.transport.is_insecure(),
            credentials,
            envelope,
            all_or_nothing: self.all_or_nothing,
            stop_after: self.stop_after,
            reply_timeout: self.timeout,
            requested_extensions: self.extensions.requested_extensions(),
            transaction_count: 1,
            min_interval: Duration::ZERO,
        }
    }

    fn summary(
        &self,
        result: SessionResult,
        connection: ConnectionInfo,
        message_id: Option<String>,
        bytes: Option<usize>,
    ) -> Summary {
        Summary {
            command: "mail",
            target: self.transport.host_and_port(),
            peer: connection.peer,
            tls: connection.tls.filter(|_| result.is_encrypted),
            certificates: connection.certificates,
            auth: result.mechanism.map(smtp::Mechanism::name),
            stage: result.stage,
            message_id,
            bytes,
            offers_before_tls: result.extensions_before_tls.map(|extensions| extensions.lines),
            offers: result.extensions.map(|extensions| extensions.lines),
            stages: connection.stages,
            recipients: result.recipients.iter().map(RecipientResult::from_recipient).collect(),
            is_info: self.info,
        }
    }

    /// Checks the flags; reports all missing ones in one message.
    fn check(&self) -> Result<()> {
        let is_encrypted = self.transport.security() != Security::Plain;
        self.transport.check()?;
        self.extensions.check(is_encrypted)?;
        if self.info {
            return Ok(());
        }
        let missing = self.message.missing();
        if missing.is_empty() {
            return Ok(());
        }
        let mut error = Error::new(Exit::Usage, format!("missing: {}", missing.join("; ")))
            .expected("a sender, a recipient and a message; nothing was sent");
        if is_encrypted && !self.login.is_wanted() {
            error = error.remedy("most servers also require a login: --user NAME with --password-file FILE or --password-command CMD (on a terminal you are prompted for the password)");
        }
        Err(error)
    }

    /// Composes the message; returns the envelope and the Message-ID.
    fn compose(&self, output: &Output, stop: &StopConditions) -> Result<(Option<Envelope>, Option<String>)> {
        let (message, addresses) = self.message.message(output, stop)?;
        self.extensions.check_message(&message)?;
        let id = message.id.clone();
        Ok((Some(self.message.envelope(message, addresses)?), id))
    }

    fn write_rejected(&self, recipients: &[RecipientResult], stop: &StopConditions) -> Result<()> {
        let Some(file) = &self.rejected_to else { return Ok(()) };
        let is_rejected = |recipient: &&RecipientResult| {
            matches!(
                recipient.outcome,
                Some(DeliveryOutcome::Rejected | DeliveryOutcome::Deferred | DeliveryOutcome::Unknown)
            )
        };
        let line = |recipient: &RecipientResult| format!("{}\n", Escaped(recipient.text_line().as_bytes()));
        let lines: String = recipients.iter().filter(is_rejected).map(line).collect();
        report::write_file(file, lines.as_bytes(), stop)
    }
}
