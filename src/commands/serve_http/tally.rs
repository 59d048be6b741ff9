//! What a server counts, per thread and in sum.

use std::time::Duration;

use super::events::Summary;
use crate::commands::web::Fact;
use crate::stats::Series;

/// Counters of one thread; only these move where nobody reads events.
#[derive(Debug, Default)]
pub struct Tally {
    /// Connections accepted.
    pub connections: u64,
    requests: u64,
    /// 2xx, 3xx, 4xx, 5xx.
    classes: [u64; 4],
    unanswered: u64,
    cut: u64,
    failed: u64,
    octets: u64,
    latency: Series,
}

impl Tally {
    /// Counts a fact.
    pub fn count(&mut self, fact: &Fact) {
        let Fact::Exchange(exchange) = fact else {
            self.failed += 1;
            return;
        };
        self.requests += 1;
        self.octets += exchange.octets;
        match exchange.status.map(|status| status.code() / 100) {
            Some(class @ 2..=5) => {
                if let Some(count) = self.classes.get_mut(usize::from(class) - 2) {
                    *count += 1;
                }
            }
            _ => self.unanswered += 1,
        }
        if exchange.complete {
            self.latency.push(exchange.took);
        } else {
            self.cut += 1;
        }
    }

    /// Adds another thread's counters.
    pub fn merge(&mut self, other: &Self) {
        self.connections += other.connections;
        self.requests += other.requests;
        self.classes.iter_mut().zip(other.classes).for_each(|(sum, more)| *sum += more);
        self.unanswered += other.unanswered;
        self.cut += other.cut;
        self.failed += other.failed;
        self.octets += other.octets;
        self.latency.merge(&other.latency);
    }

    /// The last event of a run.
    pub fn summary(&self, elapsed: Duration, dropped_events: u64) -> Summary {
        let [ok, redirected, refused, failed] = self.classes;
        Summary {
            command: "serve-http",
            elapsed,
            connections: self.connections,
            requests: self.requests,
            status: [("2xx", ok), ("3xx", redirected), ("4xx", refused), ("5xx", failed)].into(),
            unanswered: self.unanswered,
            cut: self.cut,
            failed: self.failed,
            bytes: self.octets,
            latency: self.latency.summary(),
            dropped_events,
        }
    }
}
