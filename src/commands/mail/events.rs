//! Events and summaries of `mail`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use super::counters::LoadCounters;
use crate::commands::report::plural;
use crate::commands::schema::EventSchemas;
use crate::exit::Exit;
use crate::net::tls::Certificate;
use crate::output::{Escaped, Event, Tone};
use crate::smtp::{DeliveryOutcome, RecipientStatus, Stage};
use crate::stats;
use crate::time::{HumanDuration, Nanoseconds, nanoseconds};

/// Lists the events for the JSON schema.
pub(in crate::commands) fn list_events(schemas: &mut EventSchemas) {
    schemas.add::<MailEvent>("mail");
    schemas.add::<Summary>("mail");
    schemas.add_summary::<LoadSummary>("mail", "load");
}

/// Event before the summary.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(untagged)]
pub(super) enum MailEvent {
    Composed(Composed),
    Stage(StageEvent),
    Retry(Retry),
}

/// Message that `--dry-run` would send.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(tag = "type", rename = "message")]
pub(super) struct Composed {
    pub message_id: Option<String>,
    pub bytes: usize,
    /// Message; bytes that are not UTF-8 are replaced.
    pub content: String,
}

/// Stage that ended.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(tag = "type", rename = "stage")]
pub(super) struct StageEvent {
    pub stage: Stage,
    #[serde(rename = "took_ns", with = "Nanoseconds")]
    pub took: Duration,
    /// Address of the server.
    pub peer: SocketAddr,
}

/// Retry of the deferred recipients.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(tag = "type", rename = "retry")]
pub(super) struct Retry {
    /// 1-based number of the attempt.
    pub attempt: u32,
    pub recipients: usize,
    /// Time until the attempt.
    #[serde(rename = "wait_ns", with = "Nanoseconds")]
    pub wait: Duration,
}

impl Event for MailEvent {
    fn tone(&self) -> Tone {
        if matches!(self, Self::Retry(_)) { Tone::Warning } else { Tone::Plain }
    }
}

impl fmt::Display for MailEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Composed(message) => f.write_str(&message.content),
            Self::Stage(StageEvent { stage, took, .. }) => write!(f, "{stage}: {}", HumanDuration(*took)),
            Self::Retry(Retry { attempt, recipients, wait }) => {
                let wait = humantime::format_duration(*wait);
                let noun = plural(*recipients as u64, "recipient", "recipients");
                write!(f, "{recipients} {noun} deferred; attempt {attempt} in {wait}")
            }
        }
    }
}

#[derive(Debug, JsonSchema, Serialize)]
#[serde(tag = "type", rename = "summary")]
pub(super) struct Summary {
    pub command: &'static str,
    /// Server as typed, with its port.
    pub target: String,
    pub peer: Option<String>,
    /// TLS version, if the connection was encrypted.
    pub tls: Option<&'static str>,
    /// Certificate chain of the server, its own certificate first.
    pub certificates: Vec<Certificate>,
    /// Mechanism of the login.
    pub auth: Option<&'static str>,
    /// Stage that failed, or the last one.
    pub stage: Stage,
    pub message_id: Option<String>,
    pub bytes: Option<usize>,
    /// Extensions announced before STARTTLS.
    pub offers_before_tls: Option<Vec<String>>,
    /// Extensions in the reply to the last EHLO.
    pub offers: Option<Vec<String>>,
    #[serde(serialize_with = "all_stages")]
    #[schemars(schema_with = "stage_durations_schema")]
    pub stages: BTreeMap<Stage, Duration>,
    pub recipients: Vec<RecipientResult>,
    /// With `--info`, the text includes extensions and certificates.
    #[serde(skip)]
    pub is_info: bool,
}

#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct RecipientResult {
    pub address: String,
    pub outcome: Option<DeliveryOutcome>,
    pub code: Option<u16>,
    pub enhanced: Option<String>,
    pub text: Option<String>,
}

impl RecipientResult {
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

    /// Line of text: outcome, address, reply.
    pub(super) fn text_line(&self) -> String {
        let outcome = match self.outcome {
            Some(DeliveryOutcome::Accepted) => "accepted",
            Some(DeliveryOutcome::Rejected) => "rejected",
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

/// Serializes the duration of every stage, `null` if it was not reached.
fn all_stages<S: Serializer>(stages: &BTreeMap<Stage, Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    let all = Stage::ALL.into_iter();
    serializer.collect_map(all.map(|stage| (format!("{stage}_ns"), stages.get(&stage).copied().map(nanoseconds))))
}

/// Schema of [`all_stages`].
fn stage_durations_schema(generator: &mut SchemaGenerator) -> Schema {
    stage_map_schema("_ns", &generator.subschema_for::<Option<u64>>())
}

/// Schema of [`all_series`].
fn stage_series_schema(generator: &mut SchemaGenerator) -> Schema {
    stage_map_schema("", &generator.subschema_for::<Option<stats::DurationSummary>>())
}

fn stage_map_schema(suffix: &str, value: &Schema) -> Schema {
    let keys: Vec<String> = Stage::ALL.into_iter().map(|stage| format!("{stage}{suffix}")).collect();
    let properties: BTreeMap<_, _> = keys.iter().map(|key| (key, value)).collect();
    json_schema!({"type": "object", "properties": properties, "required": keys})
}

impl Summary {
    /// Writes the extensions and certificates of the server.
    fn write_info(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |names: &[String]| match names {
            [] => "none".to_owned(),
            names => names.join(", "),
        };
        if let Some(before) = &self.offers_before_tls {
            write!(f, "\nextensions before TLS: {}", Escaped(list(before).as_bytes()))?;
        }
        if let Some(offers) = &self.offers {
            write!(f, "\nextensions: {}", Escaped(list(offers).as_bytes()))?;
        }
        for certificate in &self.certificates {
            let day = |seconds| jiff::Timestamp::from_second(seconds).map(|time| time.strftime("%Y-%m-%d").to_string());
            let day = |seconds| day(seconds).unwrap_or_else(|_| "unknown".to_owned());
            let Certificate { subject, issuer, names, not_before_s, not_after_s, sha256 } = certificate;
            write!(f, "\ncertificate: {}", Escaped(subject.as_bytes()))?;
            if !names.is_empty() {
                write!(f, "\n  for {}", Escaped(list(names).as_bytes()))?;
            }
            write!(f, "\n  valid from {} to {}", day(*not_before_s), day(*not_after_s))?;
            write!(f, ", issued by {}\n  SHA-256 {sha256}", Escaped(issuer.as_bytes()))?;
        }
        Ok(())
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--- {}", Escaped(self.target.as_bytes()))?;
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

/// Result of a run with many messages.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(tag = "type", rename = "summary")]
pub(super) struct LoadSummary {
    command: &'static str,
    target: String,
    peer: Option<String>,
    #[serde(rename = "elapsed_ns", with = "Nanoseconds")]
    elapsed: Duration,
    /// Connections at once.
    concurrency: u64,
    /// Size of each message.
    bytes: usize,
    mails: u64,
    accepted: u64,
    /// Mails that were not accepted for all recipients.
    errors: u64,
    some_rejected: u64,
    rejected: u64,
    deferred: u64,
    unknown: u64,
    /// Mails with any other result.
    failed: u64,
    /// Accepted mails per second.
    per_second: f64,
    /// Time from the first stage of a mail to the reply to its final dot.
    total: Option<stats::DurationSummary>,
    #[serde(serialize_with = "all_series")]
    #[schemars(schema_with = "stage_series_schema")]
    stages: BTreeMap<Stage, stats::DurationSummary>,
}

impl LoadSummary {
    #[expect(clippy::cast_precision_loss, reason = "the count stays far below 2^53")]
    pub(super) fn new(
        target: String,
        elapsed: Duration,
        bytes: usize,
        concurrency: u64,
        counters: &LoadCounters,
    ) -> Self {
        let mails = counters.exits.values().sum();
        let [accepted, some_rejected, rejected, deferred, unknown] =
            [Exit::Success, Exit::RecipientsRejected, Exit::Unavailable, Exit::TemporaryFailure, Exit::OutcomeUnknown]
                .map(|exit| counters.count(exit));
        let stages = counters.stages.iter().filter_map(|(stage, series)| Some((*stage, series.summary()?)));
        Self {
            command: "mail",
            target,
            peer: counters.peer.clone(),
            elapsed,
            concurrency,
            bytes,
            mails,
            accepted,
            errors: mails - accepted,
            some_rejected,
            rejected,
            deferred,
            unknown,
            failed: mails - accepted - some_rejected - rejected - deferred - unknown,
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
        let server = Escaped(self.target.as_bytes());
        writeln!(
            f,
            "--- {server}, {} {} of {} bytes in {} ---",
            self.mails,
            plural(self.mails, "mail", "mails"),
            self.bytes,
            HumanDuration(self.elapsed)
        )?;
        write!(f, "{} accepted", self.accepted)?;
        let others = [
            (self.some_rejected, "rejected for some recipients"),
            (self.rejected, "rejected"),
            (self.deferred, "deferred"),
            (self.unknown, "with unknown outcome"),
            (self.failed, "failed"),
        ];
        for (count, outcome) in others.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, ", {count} {outcome}")?;
        }
        let connections = plural(self.concurrency, "connection", "connections");
        write!(f, ", {:.1} per second over {} {connections}", self.per_second, self.concurrency)?;
        for (stage, summary) in &self.stages {
            write!(f, "\n{stage}: {summary}")?;
        }
        match &self.total {
            Some(total) => write!(f, "\ntotal: {total}"),
            None => Ok(()),
        }
    }
}
