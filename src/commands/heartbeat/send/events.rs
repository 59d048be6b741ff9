//! Text of the events and the summary of `heartbeat send`.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use crate::commands::report::plural;
use crate::commands::schema::EventSchemas;
use crate::heartbeat::{BeatEvent, BeatReport};
use crate::output::{Escaped, Event, Tone};
use crate::time::{HumanDuration, Nanoseconds};

/// Lists the events for the JSON schema.
pub(in crate::commands) fn list_events(schemas: &mut EventSchemas) {
    schemas.add_with_target::<BeatEvent>("heartbeat-send");
    schemas.add::<Summary>("heartbeat-send");
}

impl Event for BeatEvent {
    fn tone(&self) -> Tone {
        match self {
            Self::Refused { .. } | Self::SendError { .. } => Tone::Bad,
            Self::Skipped { .. } => Tone::Warning,
            Self::Sent { .. } | Self::Bye { .. } | Self::Echo { .. } => Tone::Plain,
        }
    }
}

impl fmt::Display for BeatEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BeatEvent::Sent { seq } => write!(f, "beat {seq}"),
            BeatEvent::Bye { seq, exit: None } => write!(f, "stop message sent after beat {seq}"),
            BeatEvent::Bye { seq, exit: Some(code) } => {
                write!(f, "stop message sent after beat {seq}: exit code {code}")
            }
            BeatEvent::Echo { seq, rtt } => write!(f, "echo {seq}: {}", HumanDuration(*rtt)),
            BeatEvent::Skipped { count } => {
                write!(f, "skipped {count} {}: this process was suspended", plural(*count, "beat", "beats"))
            }
            BeatEvent::Refused { error } => f.write_str(error),
            BeatEvent::SendError { seq, error } => write!(f, "cannot send beat {seq}: {error}"),
        }
    }
}

/// Summary of a run.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(tag = "type", rename = "summary")]
pub(super) struct Summary {
    command: &'static str,
    name: String,
    #[serde(rename = "elapsed_ns", with = "Nanoseconds")]
    elapsed: Duration,
    /// Exit code of the supervised command.
    child_exit: Option<u8>,
    pub(super) targets: Vec<TargetSummary>,
}

/// Counters and round-trip times for one watcher.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct TargetSummary {
    target: Arc<str>,
    peer: SocketAddr,
    #[serde(flatten)]
    report: BeatReport,
}

impl Summary {
    pub(super) fn new(
        name: String,
        targets: Vec<((Arc<str>, SocketAddr), BeatReport)>,
        child_exit: Option<u8>,
        elapsed: Duration,
    ) -> Self {
        let targets =
            targets.into_iter().map(|((target, peer), report)| TargetSummary { target, peer, report }).collect();
        Self { command: "heartbeat send", name, elapsed, child_exit, targets }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--- {}: heartbeats for {} ---", Escaped(self.name.as_bytes()), HumanDuration(self.elapsed))?;
        for TargetSummary { target, report, .. } in &self.targets {
            let beats = plural(report.sent, "beat", "beats");
            write!(f, "\n{}: {} {beats} sent", Escaped(target.as_bytes()), report.sent)?;
            let others = [
                (report.echoes, plural(report.echoes, "echo", "echoes")),
                (report.refused, plural(report.refused, "network error", "network errors")),
                (report.send_errors, "not sent"),
                (report.skipped, "skipped"),
            ];
            for (count, noun) in others.into_iter().filter(|(count, _)| *count > 0) {
                write!(f, ", {count} {noun}")?;
            }
            if let Some(rtt) = &report.rtt {
                write!(f, "\n  rtt {rtt}")?;
            }
        }
        match self.child_exit {
            Some(code) => write!(f, "\nthe command ended with exit code {code}"),
            None => Ok(()),
        }
    }
}
