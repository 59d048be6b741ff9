//! Events and summary of `get`: each response with its phases, then their statistics.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::fetch::{FetchResult, Phases};
use super::request::Target;
use crate::commands::report::plural;
use crate::commands::schema::EventSchemas;
use crate::output::{Escaped, Event, Tone};
use crate::stats::{self, Ratio, Series};
use crate::time::{HumanDuration, nanoseconds};

/// Lists the events for the JSON schema.
pub(in crate::commands) fn list_events(schemas: &mut EventSchemas) {
    schemas.add::<ResponseEvent>("get");
    schemas.add::<Summary>("get");
}

/// Event for one final response.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(tag = "type", rename = "response")]
pub(super) struct ResponseEvent {
    /// URL as typed.
    target: String,
    /// URL of the response, after redirects.
    url: String,
    status: u16,
    reason: String,
    peer: String,
    tls: Option<&'static str>,
    bytes: u64,
    redirects: u32,
    phases: PhaseTimes,
}

/// Durations of the phases, `null` for a phase that did not occur.
#[derive(Debug, JsonSchema, Serialize)]
#[expect(clippy::struct_field_names, reason = "the keys carry their unit")]
struct PhaseTimes {
    resolve_ns: Option<u64>,
    connect_ns: Option<u64>,
    tls_ns: Option<u64>,
    first_byte_ns: Option<u64>,
    body_ns: Option<u64>,
    total_ns: Option<u64>,
}

impl ResponseEvent {
    pub(super) fn new(result: FetchResult, target: &Target) -> Self {
        let Phases { resolve, connect, tls, first_byte, body, total } = result.phases;
        Self {
            target: target.as_str().to_owned(),
            url: result.url,
            status: result.status,
            reason: result.reason,
            peer: result.peer.to_string(),
            tls: result.tls,
            bytes: result.bytes,
            redirects: result.redirects,
            phases: PhaseTimes {
                resolve_ns: resolve.map(nanoseconds),
                connect_ns: connect.map(nanoseconds),
                tls_ns: tls.map(nanoseconds),
                first_byte_ns: first_byte.map(nanoseconds),
                body_ns: body.map(nanoseconds),
                total_ns: total.map(nanoseconds),
            },
        }
    }
}

impl Event for ResponseEvent {
    fn tone(&self) -> Tone {
        if self.status >= 400 { Tone::Bad } else { Tone::Plain }
    }
}

/// Format: `200 OK, 612 bytes in 1.20 ms (resolve 0.010 ms, connect …) from 127.0.0.1:6789`.
impl fmt::Display for ResponseEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = plural(self.bytes, "byte", "bytes");
        write!(f, "{} {}, {} {bytes}", self.status, Escaped(self.reason.as_bytes()), self.bytes)?;
        let shown = |nanos: Option<u64>| nanos.map(|nanos| HumanDuration(Duration::from_nanos(nanos)));
        if let Some(total) = shown(self.phases.total_ns) {
            write!(f, " in {total}")?;
        }
        let phases = [
            ("resolve", self.phases.resolve_ns),
            ("connect", self.phases.connect_ns),
            ("TLS", self.phases.tls_ns),
            ("first byte", self.phases.first_byte_ns),
            ("body", self.phases.body_ns),
        ];
        let phases: Vec<_> =
            phases.into_iter().filter_map(|(name, nanos)| shown(nanos).map(|time| format!("{name} {time}"))).collect();
        write!(f, " ({}) from {}", phases.join(", "), self.peer)?;
        match self.redirects {
            0 => Ok(()),
            1 => f.write_str(", 1 redirect"),
            count => write!(f, ", {count} redirects"),
        }
    }
}

/// Counts and series of a run.
#[derive(Debug)]
pub(super) struct Counters {
    urls: Vec<String>,
    responses: u64,
    error_responses: u64,
    failed: u64,
    bytes: u64,
    phases: [Series; 6],
}

impl Counters {
    pub(super) fn new(urls: &[Target]) -> Self {
        let urls = urls.iter().map(|target| target.as_str().to_owned()).collect();
        Self { urls, responses: 0, error_responses: 0, failed: 0, bytes: 0, phases: Default::default() }
    }

    /// Counts a response with any status.
    pub(super) fn record_response(&mut self, result: &FetchResult) {
        self.responses += 1;
        self.error_responses += u64::from(result.status >= 400);
        self.bytes += result.bytes;
        let Phases { resolve, connect, tls, first_byte, body, total } = result.phases;
        for (series, phase) in self.phases.iter_mut().zip([resolve, connect, tls, first_byte, body, total]) {
            phase.into_iter().for_each(|phase| series.push(phase));
        }
    }

    /// Counts a fetch without a complete response.
    pub(super) fn record_failure(&mut self) {
        self.failed += 1;
    }

    pub(super) fn summary(&self, elapsed: Duration) -> Summary {
        let [resolve, connect, tls, first_byte, body, total] = self.phases.each_ref().map(Series::summary);
        let errors = self.error_responses + self.failed;
        let failure = Ratio::new(errors, self.responses + self.failed);
        Summary {
            command: "get",
            targets: self.urls.clone(),
            elapsed_ns: nanoseconds(elapsed),
            requests: self.responses + self.failed,
            responses: self.responses,
            rejected: self.error_responses,
            failed: self.failed,
            errors,
            failure: failure.value(),
            failure_ci95: failure.wilson_interval95(),
            bytes: self.bytes,
            phases: PhaseSummaries { resolve, connect, tls, first_byte, body, total },
        }
    }
}

/// Summary of a run.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(tag = "type", rename = "summary")]
pub(super) struct Summary {
    command: &'static str,
    targets: Vec<String>,
    elapsed_ns: u64,
    requests: u64,
    pub responses: u64,
    /// Responses with status 400 or above.
    pub rejected: u64,
    /// Fetches without a complete response.
    failed: u64,
    /// Sum of `rejected` and `failed`.
    errors: u64,
    /// Ratio of `errors` to all requests, with its 95 % confidence interval.
    #[schemars(range(min = 0.0, max = 1.0))]
    failure: Option<f64>,
    failure_ci95: Option<(f64, f64)>,
    bytes: u64,
    phases: PhaseSummaries,
}

#[derive(Debug, JsonSchema, Serialize)]
struct PhaseSummaries {
    resolve: Option<stats::DurationSummary>,
    connect: Option<stats::DurationSummary>,
    tls: Option<stats::DurationSummary>,
    first_byte: Option<stats::DurationSummary>,
    body: Option<stats::DurationSummary>,
    total: Option<stats::DurationSummary>,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let successful = self.responses - self.rejected;
        let requests = plural(self.requests, "request", "requests");
        match self.targets.as_slice() {
            [url] => writeln!(f, "--- {url} ---")?,
            urls => writeln!(f, "--- {} URLs ---", urls.len())?,
        }
        write!(f, "{} {requests}: {successful} successful, ", self.requests)?;
        write!(f, "{} rejected (status 400 or above), {} failed; ", self.rejected, self.failed)?;
        let bytes = plural(self.bytes, "byte", "bytes");
        write!(f, "{} {bytes} in {}", self.bytes, HumanDuration(Duration::from_nanos(self.elapsed_ns)))?;
        if let (Some(failure), Some((low, high))) = (self.failure, self.failure_ci95) {
            let percent = |ratio: f64| ratio * 100.0;
            write!(
                f,
                "\nfailure ratio {:.1} % (95 % interval {:.1} to {:.1} %)",
                percent(failure),
                percent(low),
                percent(high)
            )?;
        }
        let phases = [
            ("resolve", &self.phases.resolve),
            ("connect", &self.phases.connect),
            ("TLS", &self.phases.tls),
            ("first byte", &self.phases.first_byte),
            ("body", &self.phases.body),
            ("total", &self.phases.total),
        ];
        for (name, summary) in phases {
            if let Some(summary) = summary {
                write!(f, "\n{name:<10} {summary}")?;
            }
        }
        Ok(())
    }
}
