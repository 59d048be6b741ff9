//! What `get` says: each response with its phases, and what they came to.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::fetch::{FetchResult, Phases};
use super::request::Target;
use crate::commands::fail_if::{Figure, FigureKind, KnownFigures, statistic};
use crate::commands::report::Report;
use crate::output::Escaped;
use crate::stats::{self, Ratio, Series};
use crate::time::{HumanDuration, nanoseconds};

/// Everything `get` says: final answers, and what all of them came to.
pub(super) type GetReport = Report<ResponseEvent, Summary>;

/// One final answer.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "response")]
pub(super) struct ResponseEvent {
    url: String,
    status: u16,
    reason: String,
    peer: String,
    tls: Option<&'static str>,
    bytes: u64,
    redirects: u32,
    phases: PhaseTimes,
}

/// Phases in nanoseconds, `null` where there was none.
#[derive(Debug, Serialize)]
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
    /// The event of an outcome.
    pub(super) fn new(outcome: FetchResult) -> Self {
        let Phases { resolve, connect, tls, first_byte, body, total } = outcome.phases;
        Self {
            url: outcome.url,
            status: outcome.status,
            reason: outcome.reason,
            peer: outcome.peer.to_string(),
            tls: outcome.tls,
            bytes: outcome.bytes,
            redirects: outcome.redirects,
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

/// `200 OK, 612 bytes in 1.20 ms (resolve 0.010 ms, connect …) from 127.0.0.1:6789`.
impl fmt::Display for ResponseEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}, {} bytes", self.status, Escaped(self.reason.as_bytes()), self.bytes)?;
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
            many => write!(f, ", {many} redirects"),
        }
    }
}

/// The phases in their order, as `--fail-if` names them.
const PHASES: [&str; 6] = ["resolve", "connect", "tls", "first_byte", "body", "total"];

/// The figures that `--fail-if` can judge.
pub(super) const FIGURES: &KnownFigures = &[
    ("failure", FigureKind::Ratio),
    ("errors", FigureKind::Count),
    ("refused", FigureKind::Count),
    ("failed", FigureKind::Count),
    ("resolve", FigureKind::Series),
    ("connect", FigureKind::Series),
    ("tls", FigureKind::Series),
    ("first_byte", FigureKind::Series),
    ("body", FigureKind::Series),
    ("total", FigureKind::Series),
];

/// Counters and series of a run.
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
    /// Nothing fetched yet.
    pub(super) fn new(urls: &[Target]) -> Self {
        let urls = urls.iter().map(|target| target.as_str().to_owned()).collect();
        Self { urls, responses: 0, error_responses: 0, failed: 0, bytes: 0, phases: Default::default() }
    }

    /// Counts an answer, good or not.
    pub(super) fn record_response(&mut self, outcome: &FetchResult) {
        self.responses += 1;
        self.error_responses += u64::from(outcome.status >= 400);
        self.bytes += outcome.bytes;
        let Phases { resolve, connect, tls, first_byte, body, total } = outcome.phases;
        for (series, phase) in self.phases.iter_mut().zip([resolve, connect, tls, first_byte, body, total]) {
            phase.into_iter().for_each(|phase| series.push(phase));
        }
    }

    /// A figure by the name that `--fail-if` knows it by.
    pub(super) fn figure(&self, name: &str) -> Option<Figure> {
        let errors = self.error_responses + self.failed;
        match name {
            "failure" => Ratio::new(errors, self.responses + self.failed).value().map(Figure::Ratio),
            "errors" => Some(Figure::Count(errors)),
            "refused" => Some(Figure::Count(self.error_responses)),
            "failed" => Some(Figure::Count(self.failed)),
            _ => {
                let (phase, part) = name.split_once('.')?;
                let place = PHASES.iter().position(|known| *known == phase)?;
                statistic(self.phases.get(place)?, part).flatten()
            }
        }
    }

    /// Counts a fetch without an answer.
    pub(super) fn record_failure(&mut self) {
        self.failed += 1;
    }

    /// The last event of a run.
    pub(super) fn summary(&self, elapsed: Duration) -> Summary {
        let [resolve, connect, tls, first_byte, body, total] = self.phases.each_ref().map(Series::summary);
        let failure = Ratio::new(self.error_responses + self.failed, self.responses + self.failed);
        Summary {
            command: "get",
            urls: self.urls.clone(),
            elapsed_ns: nanoseconds(elapsed),
            requests: self.responses + self.failed,
            responses: self.responses,
            refused: self.error_responses,
            failed: self.failed,
            failure: failure.value(),
            failure_ci95: failure.wilson_interval95(),
            bytes: self.bytes,
            phases: PhaseSummaries { resolve, connect, tls, first_byte, body, total },
        }
    }
}

/// What a run came to.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "summary")]
pub(super) struct Summary {
    command: &'static str,
    urls: Vec<String>,
    elapsed_ns: u64,
    requests: u64,
    responses: u64,
    /// Answers with status 400 or above.
    refused: u64,
    /// Fetches without a complete answer.
    failed: u64,
    /// What part was refused or failed, and what that proves.
    failure: Option<f64>,
    failure_ci95: Option<(f64, f64)>,
    bytes: u64,
    phases: PhaseSummaries,
}

#[derive(Debug, Serialize)]
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
        let good = self.responses - self.refused;
        write!(f, "--- {} ---\n{} requests: {good} good, ", self.urls.join(" "), self.requests)?;
        write!(f, "{} refused (status 400 or above), {} failed; ", self.refused, self.failed)?;
        write!(f, "{} bytes in {}", self.bytes, HumanDuration(Duration::from_nanos(self.elapsed_ns)))?;
        if let (Some(failure), Some((low, high))) = (self.failure, self.failure_ci95) {
            let percent = |ratio: f64| ratio * 100.0;
            write!(
                f,
                "\nfailure {:.1} % (95 % interval {:.1} to {:.1} %)",
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
