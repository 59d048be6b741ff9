//! What a mail server counts, per thread and in sum.

use std::collections::BTreeSet;
use std::time::Duration;

use super::events::{MessageEvent, Summary};
use super::expect::{Expectation, Observations};
use crate::stats::Series;

/// Different values of a feature that are remembered; more could only break the expectation too.
const MAX_PROPERTY_VALUES: usize = 1_000;

/// Counters; only these move where nobody reads events.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Connections accepted.
    pub connections: u64,
    /// Commands refused.
    pub refused: u64,
    /// Logins that were right.
    pub logins: u64,
    /// Connections that ended badly.
    pub failed: u64,
    /// How often rules fired.
    pub faults: u64,
    messages: u64,
    recipients: u64,
    bytes: u64,
    latency: Series,
    /// What is expected of mails, and what they had.
    property_values: Vec<(&'static str, BTreeSet<String>)>,
}

impl Counters {
    /// One that remembers what these ask for.
    pub(super) fn new(expectations: &[Expectation]) -> Self {
        let asked = super::expect::PROPERTIES
            .into_iter()
            .filter(|feature| expectations.iter().any(|one| one.needs_property(feature)));
        Self { property_values: asked.map(|feature| (feature, BTreeSet::new())).collect(), ..Self::default() }
    }

    /// Counts a mail.
    pub(super) fn count_message(&mut self, mail: &MessageEvent, latency: Duration) {
        self.messages += 1;
        self.recipients += mail.recipients.len() as u64;
        self.bytes += mail.bytes as u64;
        self.latency.push(latency);
        for (feature, values) in &mut self.property_values {
            if values.len() >= MAX_PROPERTY_VALUES {
                continue;
            }
            match *feature {
                "tls" => drop(values.insert(mail.tls.unwrap_or("none").to_owned())),
                "auth" => drop(values.insert(mail.auth.clone().unwrap_or_else(|| "none".to_owned()))),
                "from" => drop(values.insert(mail.from.clone())),
                "subject" => drop(values.insert(mail.subject.clone().unwrap_or_default())),
                _ => values.extend(mail.recipients.iter().map(|recipient| recipient.address.clone())),
            }
        }
    }

    /// Adds another thread's counters.
    pub(super) fn merge(&mut self, other: Self) {
        self.connections += other.connections;
        self.refused += other.refused;
        self.logins += other.logins;
        self.failed += other.failed;
        self.faults += other.faults;
        self.messages += other.messages;
        self.recipients += other.recipients;
        self.bytes += other.bytes;
        self.latency.merge(&other.latency);
        for (feature, values) in other.property_values {
            match self.property_values.iter_mut().find(|(known, _)| *known == feature) {
                Some((_, all)) => all.extend(values),
                None => self.property_values.push((feature, values)),
            }
        }
    }

    /// The last event of a run.
    pub(super) fn summary(&self, elapsed: Duration, expected: Option<bool>, dropped_events: u64) -> Summary {
        Summary {
            command: "mail-serve",
            elapsed,
            connections: self.connections,
            messages: self.messages,
            recipients: self.recipients,
            bytes: self.bytes,
            refused: self.refused,
            logins: self.logins,
            failed: self.failed,
            faults: self.faults,
            latency: self.latency.summary(),
            expected,
            dropped_events,
        }
    }
}

impl Observations for Counters {
    fn counter(&self, name: &str) -> u64 {
        match name {
            "messages" => self.messages,
            "recipients" => self.recipients,
            "connections" => self.connections,
            "refused" => self.refused,
            "logins" => self.logins,
            "failed" => self.failed,
            _ => self.faults,
        }
    }

    fn values(&self, property: &str) -> Vec<String> {
        let found = self.property_values.iter().find(|(feature, _)| *feature == property);
        found.map(|(_, values)| values.iter().cloned().collect()).unwrap_or_default()
    }
}
