//! What a mail server says: that it listens, each mail, each refusal and login, and the sum of all.
//!
//! Owns the wording in text and the keys in JSON. Nothing here ever holds a password.

mod mail;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::service::TLS_LISTENER;
use super::tls::ServerCerts;
use crate::commands::args::address_strings;
use crate::commands::report::{Report, plural, write_counts, write_dropped_events, write_headline};
use crate::disk::Spool;
use crate::net::Listeners;
use crate::output::Escaped;
use crate::smtp::Stage;
use crate::smtp::server::SessionConfig;
use crate::stats;
use crate::time::{Moment, serialize_ns, serialize_rfc3339};

use mail::TimeOfDay;
#[cfg(test)]
pub(super) use mail::tests;
pub(super) use mail::{MessageEvent, Part};

/// Everything `mail-serve` says on stdout.
pub(super) type MailServeReport = Report<MailServeEvent, Summary>;

/// What it says before the end.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum MailServeEvent {
    /// It listens.
    Listening(Listening),
    /// A mail was taken.
    Message(Arc<MessageEvent>),
    /// A command was refused.
    Refused(Refused),
    /// Somebody tried to log in.
    Login(Login),
    /// A rule of `--fault` fired.
    Fault(FaultFired),
    /// A connection ended before it should have.
    Failed(Failed),
    /// A line of `--plan`.
    Decision(PlannedFault),
    /// Something about the server itself.
    Notice {
        /// In words.
        what: String,
    },
}

/// Where mail can be delivered.
#[derive(Debug, Serialize)]
pub(super) struct Listening {
    /// How it names itself.
    pub name: String,
    /// Where it listens.
    pub addresses: Vec<String>,
    /// Where TLS begins with the first octet.
    pub tls_addresses: Vec<String>,
    /// Where what was captured can be looked at.
    pub pages: Vec<String>,
    /// Whether STARTTLS is offered.
    pub starttls: bool,
    /// The SHA-256 of a certificate that was made for this run.
    pub certificate_sha256: Option<String>,
    /// Where mails are written.
    pub saves_to: Option<String>,
    /// What it does wrong on order.
    pub faults: Vec<String>,
    /// What the dice are.
    pub seed: u64,
    /// Whether any are rolled.
    #[serde(skip)]
    pub is_randomized: bool,
}

/// A refusal.
#[derive(Debug, Serialize)]
pub(super) struct Refused {
    /// When.
    #[serde(serialize_with = "serialize_rfc3339")]
    pub time: Moment,
    /// Over the how-manieth connection.
    pub session: u64,
    /// From where.
    pub peer: String,
    /// At which stage; `null` for commands that belong to none.
    pub stage: Option<Stage>,
    /// What was asked.
    pub command: String,
    /// What was answered.
    pub code: u16,
    /// In words.
    pub text: String,
}

/// A login.
#[derive(Debug, Serialize)]
pub(super) struct Login {
    /// When.
    #[serde(serialize_with = "serialize_rfc3339")]
    pub time: Moment,
    /// Over the how-manieth connection.
    pub session: u64,
    /// From where.
    pub peer: String,
    /// As whom.
    pub user: String,
    /// How.
    pub mechanism: &'static str,
    /// Whether it was right.
    pub ok: bool,
}

/// A rule that fired.
#[derive(Debug, Serialize)]
pub(super) struct FaultFired {
    /// Over the how-manieth connection.
    pub session: u64,
    /// The rule, as it was written.
    pub rule: String,
    /// At the how-manieth of its occasions.
    pub number: u64,
}

/// A connection that ended badly.
#[derive(Debug, Serialize)]
pub(super) struct Failed {
    /// When.
    #[serde(serialize_with = "serialize_rfc3339")]
    pub time: Moment,
    /// The how-manieth it was.
    pub session: u64,
    /// From where.
    pub peer: String,
    /// Why.
    pub why: String,
}

/// What a rule does at one of its occasions.
#[derive(Debug, Serialize)]
pub(super) struct PlannedFault {
    /// The rule, as it was written.
    pub rule: String,
    /// The how-manieth occasion.
    pub number: u64,
    /// Whether it fires.
    pub fires: bool,
}

/// What it all came to.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "summary")]
pub(super) struct Summary {
    /// Which command sums up.
    pub command: &'static str,
    /// From listening to the end.
    #[serde(rename = "elapsed_ns", serialize_with = "serialize_ns")]
    pub elapsed: Duration,
    /// Connections accepted.
    pub connections: u64,
    /// Mails taken.
    pub messages: u64,
    /// Their recipients.
    pub recipients: u64,
    /// Their octets.
    pub bytes: u64,
    /// Commands refused.
    pub refused: u64,
    /// Logins that were right.
    pub logins: u64,
    /// Connections that ended badly.
    pub failed: u64,
    /// How often rules fired.
    pub faults: u64,
    /// From the last octet of a mail to its acknowledgement.
    pub latency: Option<stats::DurationSummary>,
    /// Whether every `--expect` held; `null` without one.
    pub expected: Option<bool>,
    /// Events that nobody could be told.
    pub dropped_events: u64,
}

impl fmt::Display for MailServeEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listening(listening) => listening.fmt(f),
            Self::Message(mail) => mail.fmt(f),
            Self::Refused(Refused { time, peer, command, code, text, .. }) => {
                write!(f, "{} {peer} refused", TimeOfDay(*time))?;
                if !command.is_empty() {
                    write!(f, " {}", Escaped(command.as_bytes()))?;
                }
                write!(f, ": {code} {}", Escaped(text.as_bytes()))
            }
            Self::Login(Login { time, peer, user, mechanism, ok, .. }) => {
                let verdict = if *ok { "logged in" } else { "did not get in" };
                write!(f, "{} {peer} {verdict} as {} by {mechanism}", TimeOfDay(*time), Escaped(user.as_bytes()))
            }
            Self::Fault(FaultFired { rule, number, .. }) => {
                write!(f, "fault {}: occasion {number}", Escaped(rule.as_bytes()))
            }
            Self::Failed(Failed { time, peer, why, .. }) => {
                write!(f, "{} {peer} failed: {}", TimeOfDay(*time), Escaped(why.as_bytes()))
            }
            Self::Decision(PlannedFault { rule, number, fires }) => {
                write!(f, "{number}: {} {}", Escaped(rule.as_bytes()), if *fires { "fires" } else { "does not" })
            }
            Self::Notice { what } => f.write_str(what),
        }
    }
}

impl Listening {
    /// What came of the binds, and what is promised.
    pub(super) fn new(
        config: &SessionConfig,
        listeners: &[Listeners],
        web_urls: Vec<String>,
        certs: Option<&ServerCerts>,
        spool: Option<&Spool>,
        seed: u64,
    ) -> Self {
        let of = |door: usize| listeners.get(door).map(|door| address_strings(door.addresses())).unwrap_or_default();
        Self {
            name: config.name.clone(),
            addresses: of(0),
            tls_addresses: of(TLS_LISTENER),
            pages: web_urls,
            starttls: config.offers_starttls,
            certificate_sha256: certs.and_then(|sides| sides.sha256.clone()),
            saves_to: spool.map(|spool| spool.path().display().to_string()),
            faults: config.faults.rules().map(|rule| rule.text.clone()).collect(),
            seed,
            is_randomized: config.faults.is_randomized(),
        }
    }
}

impl fmt::Display for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "capturing mail as {}", self.name)?;
        if let Some(directory) = &self.saves_to {
            write!(f, " into {}", Escaped(directory.as_bytes()))?;
        }
        for address in &self.addresses {
            write!(f, "\n  {}", Escaped(address.as_bytes()))?;
        }
        for address in &self.tls_addresses {
            write!(f, "\n  {} (TLS from the first byte)", Escaped(address.as_bytes()))?;
        }
        for url in &self.pages {
            write!(f, "\n  {} shows it in a browser", Escaped(url.as_bytes()))?;
        }
        for fault in &self.faults {
            write!(f, "\n  fault {}", Escaped(fault.as_bytes()))?;
        }
        if self.is_randomized {
            write!(f, "\n  with the dice of --seed {}", self.seed)?;
        }
        if let Some(sha256) = &self.certificate_sha256 {
            write!(f, "\nclients trust it with --pin {sha256}")?;
        }
        let address = self.addresses.first().or(self.tls_addresses.first()).map_or("", String::as_str);
        let flag = match (self.addresses.is_empty(), self.starttls) {
            (true, _) => "--tls",
            (false, true) => "--starttls",
            (false, false) => "--plain",
        };
        let address = Escaped(address.as_bytes());
        write!(
            f,
            "\nsend one: netlab mail {flag} {address} --from me@example.org --to you@example.org --text hello; Ctrl-C ends"
        )
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_headline(f, (self.messages, "mail", "mails"), self.connections, self.elapsed)?;
        let recipients = plural(self.recipients, "recipient", "recipients");
        write!(f, "{} {recipients}, {} bytes", self.recipients, self.bytes)?;
        let others = [
            (self.refused, "refused"),
            (self.logins, "logged in"),
            (self.failed, "failed"),
            (self.faults, "by a fault"),
        ];
        write_counts(f, &others)?;
        if let Some(latency) = &self.latency {
            write!(f, "\nfrom the last byte to the 250 {latency}")?;
        }
        write_dropped_events(f, self.dropped_events)
    }
}
