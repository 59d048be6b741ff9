//! What a command says on stdout: facts, and in the end what they came to.
//!
//! Owns which of them is the summary, and how a fact is joined with the target it is about. Which facts there are is said by the rooms
//! below, how they are worded by each command.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::output::{self, Escaped};
use crate::time::HumanDuration;

/// All that a command says: facts, and their sum at the end.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Report<E, S> {
    /// Something happened.
    Event(E),
    /// What it all came to.
    Summary(Box<S>),
}

impl<E, S> Report<E, S> {
    /// The last line.
    pub(super) fn summary(summary: S) -> Self {
        Self::Summary(Box::new(summary))
    }
}

impl<E: Serialize + fmt::Display, S: Serialize + fmt::Display> output::Event for Report<E, S> {
    fn is_summary(&self) -> bool {
        matches!(self, Self::Summary(_))
    }
}

impl<E: fmt::Display, S: fmt::Display> fmt::Display for Report<E, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event(fact) => fact.fmt(f),
            Self::Summary(summary) => summary.fmt(f),
        }
    }
}

/// One, or many.
pub(super) fn plural(count: u64, one: &'static str, many: &'static str) -> &'static str {
    if count == 1 { one } else { many }
}

/// The line that a server's sum begins with: so much, on so many connections, in so long.
pub(super) fn write_headline(
    f: &mut fmt::Formatter<'_>,
    (count, one, many): (u64, &'static str, &'static str),
    connections: u64,
    elapsed: Duration,
) -> fmt::Result {
    let (what, over) = (plural(count, one, many), plural(connections, "connection", "connections"));
    writeln!(f, "--- {count} {what} on {connections} {over} in {} ---", HumanDuration(elapsed))
}

/// The line that it ends with if the log was too slow or full.
pub(super) fn write_dropped_events(f: &mut fmt::Formatter<'_>, dropped_events: u64) -> fmt::Result {
    if dropped_events == 0 {
        return Ok(());
    }
    write!(f, "\n{dropped_events} lines were lost: standard output could not take them")
}

/// What else there was to count, if there was any.
pub(super) fn write_counts(f: &mut fmt::Formatter<'_>, counts: &[(u64, &str)]) -> fmt::Result {
    counts.iter().filter(|(count, _)| *count > 0).try_for_each(|(count, what)| write!(f, "; {count} {what}"))
}

/// A peer as logs name it.
pub(super) fn display_peer(peer: Option<SocketAddr>) -> String {
    peer.map_or_else(|| "unix".to_owned(), |peer| peer.to_string())
}

/// A line of a client of several targets: an event, or text that is only for people.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum TargetReport<E, S> {
    /// What is about to happen; never printed as JSON.
    #[serde(skip)]
    Text(String),
    /// What happened.
    Event(TargetEvent<E>),
    /// What it came to.
    Summary(Box<S>),
}

/// A fact with its target.
#[derive(Debug, Serialize)]
pub(super) struct TargetEvent<E> {
    #[serde(flatten)]
    fact: E,
    target: Arc<str>,
    #[serde(skip)]
    is_alone: bool,
}

impl<E, S> TargetReport<E, S> {
    /// The line of a fact; the text names the target unless it `is_alone`.
    pub(super) fn event(event: E, target: Arc<str>, is_alone: bool) -> Self {
        Self::Event(TargetEvent { fact: event, target, is_alone })
    }
}

impl<E: Serialize + fmt::Display, S: Serialize + fmt::Display> output::Event for TargetReport<E, S> {
    fn is_summary(&self) -> bool {
        matches!(self, Self::Summary(_))
    }
}

impl<E: fmt::Display, S: fmt::Display> fmt::Display for TargetReport<E, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{}", Escaped(text.as_bytes())),
            Self::Event(TargetEvent { fact, is_alone: true, .. }) => fact.fmt(f),
            Self::Event(TargetEvent { fact, target, .. }) => write!(f, "{}: {fact}", Escaped(target.as_bytes())),
            Self::Summary(summary) => summary.fmt(f),
        }
    }
}
