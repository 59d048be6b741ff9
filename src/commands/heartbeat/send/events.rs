//! What `heartbeat send` says.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::commands::report;
use crate::heartbeat::{BeatEvent, BeatReport};
use crate::output::Escaped;
use crate::time::{HumanDuration, serialize_ns};

/// A line of `heartbeat send`.
pub(super) type HeartbeatSendReport = report::TargetReport<BeatEvent, Summary>;

impl fmt::Display for BeatEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BeatEvent::Sent { seq } => write!(f, "beat {seq}"),
            BeatEvent::Bye { seq, exit: None } => write!(f, "goodbye after beat {seq}"),
            BeatEvent::Bye { seq, exit: Some(code) } => {
                write!(f, "goodbye after beat {seq}, the command ended with {code}")
            }
            BeatEvent::Echo { seq, rtt } => write!(f, "echo {seq}: {}", HumanDuration(*rtt)),
            BeatEvent::Skipped { count } => write!(f, "this process did not run when {count} beats were due"),
            BeatEvent::Refused { error } => write!(f, "nobody watches there: {error}"),
            BeatEvent::SendError { seq, error } => write!(f, "could not send beat {seq}: {error}"),
        }
    }
}

/// The run in figures.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "summary")]
pub(super) struct Summary {
    command: &'static str,
    name: String,
    #[serde(rename = "elapsed_ns", serialize_with = "serialize_ns")]
    elapsed: Duration,
    /// What the command that was watched over ended with.
    exit: Option<u8>,
    targets: Vec<TargetSummary>,
}

/// One watcher's beats.
#[derive(Debug, Serialize)]
struct TargetSummary {
    target: Arc<str>,
    #[serde(flatten)]
    report: BeatReport,
}

impl Summary {
    /// The end of a run.
    pub(super) fn new(name: String, targets: Vec<(Arc<str>, BeatReport)>, exit: Option<u8>, elapsed: Duration) -> Self {
        let watched = |(target, report)| TargetSummary { target, report };
        Self { command: "heartbeat send", name, elapsed, exit, targets: targets.into_iter().map(watched).collect() }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--- {} beat for {} ---", Escaped(self.name.as_bytes()), HumanDuration(self.elapsed))?;
        for TargetSummary { target, report } in &self.targets {
            write!(
                f,
                "\n{}: {} beat{} sent",
                Escaped(target.as_bytes()),
                report.sent,
                if report.sent == 1 { "" } else { "s" }
            )?;
            let others = [
                (report.echoes, "echoes"),
                (report.refused, "refused"),
                (report.send_errors, "not sent"),
                (report.skipped, "skipped"),
            ];
            for (count, what) in others.into_iter().filter(|(count, _)| *count > 0) {
                write!(f, ", {count} {what}")?;
            }
            if let Some(rtt) = &report.rtt {
                write!(f, "\n  rtt {rtt}")?;
            }
        }
        match self.exit {
            Some(code) => write!(f, "\nthe command ended with {code}"),
            None => Ok(()),
        }
    }
}
