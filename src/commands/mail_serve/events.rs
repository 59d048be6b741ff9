//! Events of `mail-serve`: listening, mails, rejected commands, logins, faults, failures, and the summary.
//!
//! Owns the wording in text and the keys in JSON. No event holds a password.

mod mail;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::tls::{ServerCerts, TLS_LISTENER};
use crate::commands::args::address_strings;
use crate::commands::report::{plural, write_counts, write_dropped_events, write_headline};
use crate::commands::schema::EventSchemas;
use crate::disk::Spool;
use crate::net::Listeners;
use crate::output::{Escaped, Event, TextTime, Tone};
use crate::smtp::Stage;
use crate::smtp::server::SessionConfig;
use crate::smtp::server::fault::FaultRules;
use crate::stats;
use crate::time::{Moment, Nanoseconds};

#[cfg(test)]
pub(super) use mail::tests;
pub(super) use mail::{MessageEvent, Part};

/// Lists the events for the JSON schema.
pub(in crate::commands) fn list_events(schemas: &mut EventSchemas) {
    schemas.add::<MailServeEvent>("mail-serve");
    schemas.add::<Summary>("mail-serve");
}

#[derive(Debug, JsonSchema, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum MailServeEvent {
    /// The server is listening.
    Listening(Listening),
    Message(Arc<MessageEvent>),
    Rejected(Rejected),
    Login(Login),
    /// A fault rule took effect.
    Fault(FaultFired),
    Failed(Failed),
    /// A decision printed by `--plan`.
    Decision(PlannedFault),
    /// A condition of the server itself, such as running out of file descriptors.
    Notice {
        what: String,
    },
}

#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct Listening {
    pub name: String,
    pub addresses: Vec<String>,
    /// Addresses where TLS starts with the first byte.
    pub tls_addresses: Vec<String>,
    /// URLs of the web pages.
    pub pages: Vec<String>,
    pub starttls: bool,
    /// SHA-256 of the certificate generated for this run.
    pub certificate_sha256: Option<String>,
    pub saves_to: Option<String>,
    pub faults: Vec<String>,
    pub seed: u64,
    #[serde(skip)]
    pub is_randomized: bool,
    #[serde(skip)]
    pub has_users: bool,
}

/// A rejected command.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct Rejected {
    /// Ordinal of the connection.
    pub session: u64,
    pub peer: String,
    /// Stage of the command; `null` for a command outside the stages.
    pub stage: Option<Stage>,
    pub command: String,
    pub code: u16,
    pub text: String,
}

/// A login, successful or not.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct Login {
    pub session: u64,
    pub peer: String,
    pub user: String,
    pub mechanism: &'static str,
    pub ok: bool,
}

#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct FaultFired {
    pub session: u64,
    /// Text of the rule, as given to `--fault`.
    pub rule: String,
    /// Ordinal of the occurrence.
    pub number: u64,
}

/// A connection that ended with an error.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct Failed {
    pub session: u64,
    pub peer: String,
    pub why: String,
}

/// A decision of a fault rule at one of its occurrences.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct PlannedFault {
    pub rule: String,
    pub number: u64,
    pub fires: bool,
}

#[derive(Debug, JsonSchema, Serialize)]
#[serde(tag = "type", rename = "summary")]
pub(super) struct Summary {
    pub command: &'static str,
    #[serde(rename = "elapsed_ns", with = "Nanoseconds")]
    pub elapsed: Duration,
    pub connections: u64,
    pub messages: u64,
    pub recipients: u64,
    pub bytes: u64,
    pub rejected: u64,
    pub logins: u64,
    pub failed: u64,
    pub faults: u64,
    /// Time from the last byte of a mail to its acknowledgement.
    pub latency: Option<stats::DurationSummary>,
    /// Result of all `--expect`; `null` without one.
    pub expected: Option<bool>,
    pub dropped_events: u64,
    /// Whether this is the summary of `--plan`, which has a seed but no counts.
    #[serde(skip)]
    pub planned_seed: Option<u64>,
}

impl Event for MailServeEvent {
    fn time(&self) -> Option<Moment> {
        if let Self::Message(mail) = self { Some(mail.time) } else { None }
    }

    fn text_time(&self) -> TextTime {
        if matches!(self, Self::Listening(_) | Self::Decision(_)) { TextTime::Never } else { TextTime::Always }
    }

    fn tone(&self) -> Tone {
        match self {
            Self::Rejected(_) | Self::Failed(_) | Self::Login(Login { ok: false, .. }) => Tone::Bad,
            Self::Fault(_) | Self::Notice { .. } => Tone::Warning,
            Self::Listening(_) | Self::Message(_) | Self::Login(_) | Self::Decision(_) => Tone::Plain,
        }
    }
}

impl fmt::Display for MailServeEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listening(listening) => listening.fmt(f),
            Self::Message(mail) => mail.fmt(f),
            Self::Rejected(Rejected { peer, command, code, text, .. }) => {
                write!(f, "{peer} rejected")?;
                if !command.is_empty() {
                    write!(f, " {}", Escaped(command.as_bytes()))?;
                }
                write!(f, ": {code} {}", Escaped(text.as_bytes()))
            }
            Self::Login(Login { peer, user, mechanism, ok, .. }) => {
                let result = if *ok { "logged in" } else { "login failed" };
                write!(f, "{peer} {result}: {} ({mechanism})", Escaped(user.as_bytes()))
            }
            Self::Fault(FaultFired { rule, number, .. }) => {
                write!(f, "fault at occurrence {number}: {}", Escaped(rule.as_bytes()))
            }
            Self::Failed(Failed { peer, why, .. }) => {
                write!(f, "{peer} failed: {}", Escaped(why.as_bytes()))
            }
            Self::Decision(PlannedFault { rule, number, fires }) => {
                write!(f, "{number}: {} ({})", if *fires { "fault" } else { "no fault" }, Escaped(rule.as_bytes()))
            }
            Self::Notice { what } => f.write_str(what),
        }
    }
}

impl Listening {
    pub(super) fn new(
        config: &SessionConfig,
        (faults, seed): (&FaultRules, u64),
        (listeners, web_urls): (&[Listeners], Vec<String>),
        certs: Option<&ServerCerts>,
        spool: Option<&Spool>,
    ) -> Self {
        let of = |at: usize| listeners.get(at).map(|group| address_strings(group.addresses())).unwrap_or_default();
        Self {
            name: config.name.clone(),
            addresses: of(0),
            tls_addresses: of(TLS_LISTENER),
            pages: web_urls,
            starttls: config.offers_starttls,
            certificate_sha256: certs.and_then(|certs| certs.regular.sha256.clone()),
            saves_to: spool.map(|spool| spool.path().display().to_string()),
            faults: faults.rules().map(|rule| rule.text.clone()).collect(),
            seed,
            is_randomized: faults.is_randomized(),
            has_users: config.users.is_some(),
        }
    }
}

impl fmt::Display for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "capturing mail, server name {}", self.name)?;
        if let Some(directory) = &self.saves_to {
            write!(f, ", into {}", Escaped(directory.as_bytes()))?;
        }
        for address in &self.addresses {
            write!(f, "\n  {}", Escaped(address.as_bytes()))?;
        }
        for address in &self.tls_addresses {
            write!(f, "\n  {} (implicit TLS)", Escaped(address.as_bytes()))?;
        }
        for url in &self.pages {
            write!(f, "\n  web pages: {}", Escaped(url.as_bytes()))?;
        }
        for fault in &self.faults {
            write!(f, "\n  fault {}", Escaped(fault.as_bytes()))?;
        }
        if self.is_randomized {
            write!(f, "\n  seed {}", self.seed)?;
        }
        if let Some(sha256) = &self.certificate_sha256 {
            write!(f, "\ncertificate fingerprint (SHA-256): {sha256}")?;
        }
        let address = self.addresses.first().or(self.tls_addresses.first()).map_or("", String::as_str);
        let flag = match (self.addresses.is_empty(), self.starttls) {
            (true, _) => "--tls",
            (false, true) => "--starttls",
            (false, false) => "--plain",
        };
        let address = Escaped(address.as_bytes());
        write!(f, "\ntry: netlab mail {flag} {address}")?;
        if let Some(sha256) = &self.certificate_sha256 {
            write!(f, " --pin {sha256}")?;
        }
        if self.has_users {
            let insecure = if flag == "--plain" { " --insecure-auth" } else { "" };
            write!(f, " --user NAME{insecure}")?;
        }
        write!(f, " --from me@example.org --to you@example.org --text hello\nCtrl-C stops the server")
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(seed) = self.planned_seed {
            return write!(f, "--- plan, seed {seed} ---");
        }
        write_headline(f, (self.messages, "message", "messages"), self.connections, self.elapsed)?;
        let recipients = plural(self.recipients, "recipient", "recipients");
        write!(f, "{} {recipients}, {} {}", self.recipients, self.bytes, plural(self.bytes, "byte", "bytes"))?;
        let counts = [
            (self.rejected, plural(self.rejected, "command rejected", "commands rejected")),
            (self.logins, plural(self.logins, "login", "logins")),
            (self.failed, plural(self.failed, "connection failed", "connections failed")),
            (self.faults, plural(self.faults, "fault", "faults")),
        ];
        write_counts(f, &counts)?;
        if let Some(latency) = &self.latency {
            write!(f, "\ntime from the final dot to the reply: {latency}")?;
        }
        write_dropped_events(f, self.dropped_events)
    }
}
