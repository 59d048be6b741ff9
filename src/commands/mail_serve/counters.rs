//! Counters of the mail server, per thread and in total.

use std::collections::BTreeSet;
use std::time::Duration;

use super::events::{MessageEvent, Summary};
use super::expect::{Expectation, Observations};
use crate::stats::Series;

/// Distinct values kept per property; one that differs already fails an expectation.
const MAX_PROPERTY_VALUES: usize = 1_000;

/// Counters and the property values that `--expect` checks; kept with `--quiet`, too.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub connections: u64,
    /// Rejected commands.
    pub rejected: u64,
    /// Successful logins.
    pub logins: u64,
    /// Connections that ended with an error.
    pub failed: u64,
    /// Fault rules that fired.
    pub faults: u64,
    messages: u64,
    recipients: u64,
    bytes: u64,
    latency: Series,
    /// Values that mails had, for each property an expectation needs.
    property_values: Vec<(&'static str, BTreeSet<String>)>,
}

impl Counters {
    /// Creates counters that keep the properties these expectations need.
    pub(super) fn new(expectations: &[Expectation]) -> Self {
        let needed = super::expect::PROPERTIES
            .into_iter()
            .filter(|property| expectations.iter().any(|expected| expected.needs_property(property)));
        Self { property_values: needed.map(|property| (property, BTreeSet::new())).collect(), ..Self::default() }
    }

    pub(super) fn count_message(&mut self, mail: &MessageEvent, latency: Duration) {
        self.messages += 1;
        self.recipients += mail.recipients.len() as u64;
        self.bytes += mail.bytes as u64;
        self.latency.push(latency);
        for (property, values) in &mut self.property_values {
            if values.len() >= MAX_PROPERTY_VALUES {
                continue;
            }
            match *property {
                "tls" => drop(values.insert(mail.tls.unwrap_or("none").to_owned())),
                "auth" => drop(values.insert(mail.auth.clone().unwrap_or_else(|| "none".to_owned()))),
                "from" => drop(values.insert(mail.from.clone())),
                "subject" => drop(values.insert(mail.subject.clone().unwrap_or_default())),
                _ => values.extend(mail.recipients.iter().map(|recipient| recipient.address.clone())),
            }
        }
    }

    /// Adds the counters of another thread.
    pub(super) fn merge(&mut self, other: Self) {
        self.connections += other.connections;
        self.rejected += other.rejected;
        self.logins += other.logins;
        self.failed += other.failed;
        self.faults += other.faults;
        self.messages += other.messages;
        self.recipients += other.recipients;
        self.bytes += other.bytes;
        self.latency.merge(&other.latency);
        for (property, values) in other.property_values {
            match self.property_values.iter_mut().find(|(known, _)| *known == property) {
                Some((_, all)) => all.extend(values),
                None => self.property_values.push((property, values)),
            }
        }
    }

    pub(super) fn summary(&self, elapsed: Duration, expected: Option<bool>, dropped_events: u64) -> Summary {
        Summary {
            command: "mail-serve",
            elapsed,
            connections: self.connections,
            messages: self.messages,
            recipients: self.recipients,
            bytes: self.bytes,
            rejected: self.rejected,
            logins: self.logins,
            failed: self.failed,
            faults: self.faults,
            latency: self.latency.summary(),
            expected,
            dropped_events,
            planned_seed: None,
        }
    }
}

impl Observations for Counters {
    fn counter(&self, name: &str) -> u64 {
        match name {
            "messages" => self.messages,
            "recipients" => self.recipients,
            "connections" => self.connections,
            "rejected" => self.rejected,
            "logins" => self.logins,
            "failed" => self.failed,
            _ => self.faults,
        }
    }

    fn values(&self, property: &str) -> Vec<String> {
        let found = self.property_values.iter().find(|(known, _)| *known == property);
        found.map(|(_, values)| values.iter().cloned().collect()).unwrap_or_default()
    }
}
