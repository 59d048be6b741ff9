//! What `heartbeat send` says.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::heartbeat::{BeatFact, BeatReport};
use crate::output::{self, Escaped};
use crate::time::{Shown, serialize_ns};

/// A line on stdout: an event, or text that is only for people.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Line {
    /// What is about to happen; never printed as JSON.
    #[serde(skip)]
    Begun(String),
    /// An event.
    Event(Event),
}

/// Everything `heartbeat send` says as an event.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Event {
    /// What happened to a beat.
    Fact(Told),
    /// What they came to.
    Summary(Box<Summary>),
}

/// A fact with its watcher.
#[derive(Debug, Serialize)]
pub struct Told {
    #[serde(flatten)]
    fact: BeatFact,
    watcher: Arc<str>,
    #[serde(skip)]
    is_alone: bool,
}

impl Event {
    /// The event of a fact; the text names the watcher unless it `is_alone`.
    pub fn fact(fact: BeatFact, watcher: Arc<str>, is_alone: bool) -> Self {
        Self::Fact(Told { fact, watcher, is_alone })
    }
}

impl output::Event for Line {
    fn is_summary(&self) -> bool {
        matches!(self, Self::Event(Event::Summary(_)))
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begun(text) => write!(f, "{}", Escaped(text.as_bytes())),
            Self::Event(event) => event.fmt(f),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fact(told) => told.fmt(f),
            Self::Summary(summary) => summary.fmt(f),
        }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.is_alone {
            write!(f, "{}: ", Escaped(self.watcher.as_bytes()))?;
        }
        match &self.fact {
            BeatFact::Sent { seq } => write!(f, "beat {seq}"),
            BeatFact::Bye { seq, exit: None } => write!(f, "goodbye after beat {seq}"),
            BeatFact::Bye { seq, exit: Some(code) } => {
                write!(f, "goodbye after beat {seq}, the command ended with {code}")
            }
            BeatFact::Echo { seq, rtt } => write!(f, "echo {seq}: {}", Shown(*rtt)),
            BeatFact::Skipped { count } => write!(f, "this process did not run when {count} beats were due"),
            BeatFact::Refused { error } => write!(f, "nobody watches there: {error}"),
            BeatFact::SendError { seq, error } => write!(f, "could not send beat {seq}: {error}"),
        }
    }
}

/// The run in figures.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "summary")]
pub struct Summary {
    command: &'static str,
    name: String,
    #[serde(rename = "elapsed_ns", serialize_with = "serialize_ns")]
    elapsed: Duration,
    /// What the command that was watched over ended with.
    exit: Option<u8>,
    watchers: Vec<Watched>,
}

/// One watcher's beats.
#[derive(Debug, Serialize)]
struct Watched {
    watcher: String,
    #[serde(flatten)]
    report: BeatReport,
}

impl Summary {
    /// The end of a run.
    pub fn new(name: String, watchers: Vec<(String, BeatReport)>, exit: Option<u8>, elapsed: Duration) -> Self {
        let watched = |(watcher, report)| Watched { watcher, report };
        Self { command: "heartbeat send", name, elapsed, exit, watchers: watchers.into_iter().map(watched).collect() }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--- {} beat for {} ---", Escaped(self.name.as_bytes()), Shown(self.elapsed))?;
        for Watched { watcher, report } in &self.watchers {
            write!(f, "\n{}: {} beats sent", Escaped(watcher.as_bytes()), report.sent)?;
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
