//! What `mail` says: stages, and for each recipient what became of it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::counters::LoadCounters;
use crate::commands::report::Report;
use crate::exit::Exit;
use crate::net::tls::Certificate;
use crate::output::Escaped;
use crate::smtp::{DeliveryOutcome, RecipientStatus, Stage, StageTiming};
use crate::stats;
use crate::time::{HumanDuration, nanoseconds, serialize_ns};

/// Everything `mail` says on stdout.
pub(super) type MailReport = Report<MailEvent, Summary>;

/// What it says before the end.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum MailEvent {
    /// A part of the dialogue is over.
    Stage(StageTiming),
    /// Those who were deferred are tried again.
    Retry(Retry),
}

/// Another attempt.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "retry")]
pub(super) struct Retry {
    /// Which: the first one is 1.
    pub attempt: u32,
    /// For how many.
    pub recipients: usize,
    /// After how long.
    #[serde(rename = "wait_ns", serialize_with = "serialize_ns")]
    pub wait: Duration,
}

impl fmt::Display for MailEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stage(timed) => timed.fmt(f),
            Self::Retry(Retry { attempt, recipients, wait }) => {
                let wait = humantime::format_duration(*wait);
                write!(f, "{recipients} deferred; attempt {attempt} in {wait}")
            }
        }
    }
}

impl fmt::Display for StageTiming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.stage, HumanDuration(self.took))
    }
}

/// What it all came to.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "summary")]
pub(super) struct Summary {
    pub command: &'static str,
    /// The server, as it was typed, with its port.
    pub server: String,
    pub peer: Option<String>,
    /// The TLS version, if the line was encrypted.
    pub tls: Option<&'static str>,
    /// What the server has shown, its own first.
    pub certificates: Vec<Certificate>,
    /// How the login went.
    pub auth: Option<&'static str>,
    /// The stage it came to.
    pub stage: Stage,
    pub message_id: Option<String>,
    pub bytes: Option<usize>,
    /// The words of EHLO before TLS, if there was a before.
    pub offers_before_tls: Option<Vec<String>>,
    /// The words of the EHLO that counted, if one was answered.
    pub offers: Option<Vec<String>>,
    #[serde(serialize_with = "all_stages")]
    pub stages: BTreeMap<Stage, Duration>,
    pub recipients: Vec<RecipientResult>,
    /// Whether all that is known of the server is told in the text too.
    #[serde(skip)]
    pub is_info: bool,
}

/// One recipient.
#[derive(Debug, Serialize)]
pub(super) struct RecipientResult {
    pub address: String,
    pub outcome: Option<DeliveryOutcome>,
    pub code: Option<u16>,
    pub enhanced: Option<String>,
    pub text: Option<String>,
}

impl RecipientResult {
    /// What became of a recipient.
    pub(super) fn from_recipient(recipient: &RecipientStatus) -> Self {
        let reply = recipient.reply.as_ref();
        let enhanced = reply.and_then(crate::smtp::Reply::enhanced_status);
        Self {
            address: recipient.mailbox.to_string(),
            outcome: recipient.outcome,
            code: reply.map(|reply| reply.code),
            enhanced: enhanced.map(|(class, subject, detail)| format!("{class}.{subject}.{detail}")),
            text: reply.map(crate::smtp::Reply::text),
        }
    }

    /// Its line in a list: outcome, address, reply.
    pub(super) fn text_line(&self) -> String {
        let outcome = match self.outcome {
            Some(DeliveryOutcome::Accepted) => "accepted",
            Some(DeliveryOutcome::Refused) => "refused",
            Some(DeliveryOutcome::Deferred) => "deferred",
            Some(DeliveryOutcome::Unknown) => "unknown",
            None => "not sent",
        };
        let reply = match (self.code, &self.text) {
            (Some(code), Some(text)) => format!(" ({})", format!("{code} {text}").trim_end()),
            _ => String::new(),
        };
        format!("{outcome} {}{reply}", self.address)
    }
}

/// Every stage with its time, `null` where it was not reached.
fn all_stages<S: Serializer>(stages: &BTreeMap<Stage, Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    let all = Stage::ALL.into_iter();
    serializer.collect_map(all.map(|stage| (format!("{stage}_ns"), stages.get(&stage).copied().map(nanoseconds))))
}

impl Summary {
    /// What the server offers, and who it says it is.
    fn write_info(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = |words: &[String]| match words {
            [] => "nothing".to_owned(),
            words => words.join(", "),
        };
        if let Some(before) = &self.offers_before_tls {
            write!(f, "\noffers before TLS: {}", Escaped(words(before).as_bytes()))?;
        }
        if let Some(offers) = &self.offers {
            write!(f, "\noffers: {}", Escaped(words(offers).as_bytes()))?;
        }
        for certificate in &self.certificates {
            let day = |seconds| jiff::Timestamp::from_second(seconds).map(|time| time.strftime("%Y-%m-%d").to_string());
            let day = |seconds| day(seconds).unwrap_or_else(|_| "unknown".to_owned());
            let Certificate { subject, issuer, names, not_before_s, not_after_s, sha256 } = certificate;
            write!(f, "\ncertificate: {}", Escaped(subject.as_bytes()))?;
            if !names.is_empty() {
                write!(f, "\n  for {}", Escaped(words(names).as_bytes()))?;
            }
            write!(f, "\n  from {} to {}", day(*not_before_s), day(*not_after_s))?;
            write!(f, ", issued by {}\n  SHA-256 {sha256}", Escaped(issuer.as_bytes()))?;
        }
        Ok(())
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--- {}", Escaped(self.server.as_bytes()))?;
        if let Some(tls) = &self.tls {
            write!(f, ", TLS {tls}")?;
        }
        if let Some(auth) = self.auth {
            write!(f, ", AUTH {auth}")?;
        }
        write!(f, " ---")?;
        if self.is_info {
            self.write_info(f)?;
        }
        for recipient in &self.recipients {
            write!(f, "\n{}", Escaped(recipient.text_line().as_bytes()))?;
        }
        if let Some(id) = &self.message_id {
            write!(f, "\nMessage-ID <{}>", Escaped(id.as_bytes()))?;
        }
        let stages: Vec<String> =
            self.stages.iter().map(|(stage, took)| format!("{stage} {}", HumanDuration(*took))).collect();
        if stages.is_empty() { Ok(()) } else { write!(f, "\n{}", stages.join(", ")) }
    }
}

/// Everything that many mails say.
pub(super) type LoadReport = Report<MailEvent, LoadSummary>;

/// What many mails came to.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "summary")]
pub(super) struct LoadSummary {
    command: &'static str,
    server: String,
    #[serde(rename = "elapsed_ns", serialize_with = "serialize_ns")]
    elapsed: Duration,
    /// How many connections there were at once.
    concurrency: u64,
    /// Octets of each mail.
    bytes: usize,
    mails: u64,
    accepted: u64,
    some_refused: u64,
    refused: u64,
    deferred: u64,
    unknown: u64,
    /// That ended in any other way.
    failed: u64,
    /// Mails that were accepted, in each second.
    per_second: f64,
    /// From the first step of a mail to the answer to its dot.
    total: Option<stats::DurationSummary>,
    #[serde(serialize_with = "all_series")]
    stages: BTreeMap<Stage, stats::DurationSummary>,
}

impl LoadSummary {
    /// The end of a run.
    #[expect(clippy::cast_precision_loss, reason = "2^53 mails are many")]
    pub(super) fn new(
        server: String,
        elapsed: Duration,
        bytes: usize,
        concurrency: u64,
        counters: &LoadCounters,
    ) -> Self {
        let mails = counters.exits.values().sum();
        let [accepted, some_refused, refused, deferred, unknown] =
            [Exit::Success, Exit::RecipientsRefused, Exit::Unavailable, Exit::TemporaryFailure, Exit::OutcomeUnknown]
                .map(|exit| counters.count(exit));
        let stages = counters.stages.iter().filter_map(|(stage, series)| Some((*stage, series.summary()?)));
        Self {
            command: "mail",
            server,
            elapsed,
            concurrency,
            bytes,
            mails,
            accepted,
            some_refused,
            refused,
            deferred,
            unknown,
            failed: mails - accepted - some_refused - refused - deferred - unknown,
            per_second: accepted as f64 / elapsed.as_secs_f64().max(f64::EPSILON),
            total: counters.total.summary(),
            stages: stages.collect(),
        }
    }
}

fn all_series<S: Serializer>(
    stages: &BTreeMap<Stage, stats::DurationSummary>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(Stage::ALL.into_iter().map(|stage| (stage.name(), stages.get(&stage))))
}

impl fmt::Display for LoadSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let server = Escaped(self.server.as_bytes());
        writeln!(
            f,
            "--- {server}, {} mails of {} bytes in {} ---",
            self.mails,
            self.bytes,
            HumanDuration(self.elapsed)
        )?;
        write!(f, "{} accepted", self.accepted)?;
        let others = [
            (self.some_refused, "refused by some"),
            (self.refused, "refused"),
            (self.deferred, "deferred"),
            (self.unknown, "with unknown outcome"),
            (self.failed, "failed"),
        ];
        for (count, what) in others.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, ", {count} {what}")?;
        }
        let connections = if self.concurrency == 1 { "connection" } else { "connections" };
        write!(f, ", {:.1} a second over {} {connections}", self.per_second, self.concurrency)?;
        for (stage, summary) in &self.stages {
            write!(f, "\n{stage}: {summary}")?;
        }
        match &self.total {
            Some(total) => write!(f, "\ntotal: {total}"),
            None => Ok(()),
        }
    }
}
