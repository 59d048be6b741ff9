//! Counters of `serve-http`, per thread and in total.

use std::time::Duration;

use super::events::Summary;
use crate::http::SessionEvent;
use crate::stats::Series;

/// Counters of one thread, also updated if no events are logged.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub connections: u64,
    requests: u64,
    /// Responses with status 2xx, 3xx, 4xx and 5xx.
    status_classes: [u64; 4],
    unanswered: u64,
    truncated: u64,
    failed: u64,
    bytes: u64,
    latency: Series,
}

impl Counters {
    pub(super) fn record(&mut self, event: &SessionEvent) {
        let SessionEvent::Exchange(exchange) = event else {
            self.failed += 1;
            return;
        };
        self.requests += 1;
        self.bytes += exchange.bytes;
        match exchange.status.map(|status| status.code() / 100) {
            Some(class @ 2..=5) => {
                if let Some(count) = self.status_classes.get_mut(usize::from(class) - 2) {
                    *count += 1;
                }
            }
            _ => self.unanswered += 1,
        }
        if exchange.is_complete {
            self.latency.push(exchange.duration);
        } else {
            self.truncated += 1;
        }
    }

    /// Adds another thread's counters.
    pub(super) fn merge(&mut self, other: &Self) {
        self.connections += other.connections;
        self.requests += other.requests;
        self.status_classes.iter_mut().zip(other.status_classes).for_each(|(sum, more)| *sum += more);
        self.unanswered += other.unanswered;
        self.truncated += other.truncated;
        self.failed += other.failed;
        self.bytes += other.bytes;
        self.latency.merge(&other.latency);
    }

    pub(super) fn summary(&self, elapsed: Duration, dropped_events: u64) -> Summary {
        let [success, redirection, client_error, server_error] = self.status_classes;
        Summary {
            command: "serve-http",
            elapsed,
            connections: self.connections,
            requests: self.requests,
            status: [("2xx", success), ("3xx", redirection), ("4xx", client_error), ("5xx", server_error)].into(),
            unanswered: self.unanswered,
            cut: self.truncated,
            failed: self.failed,
            bytes: self.bytes,
            latency: self.latency.summary(),
            dropped_events,
        }
    }
}
