//! Envelope of stdout events and the final summary. Marks the summary line and combines an event with its target. The
//! events come from the layers below; each command formats its own.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::output::{self, Escaped};
use crate::time::HumanDuration;

/// Line of a command: an event, or the summary at the end.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Report<E, S> {
    Event(E),
    Summary(Box<S>),
}

impl<E, S> Report<E, S> {
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
            Self::Event(event) => event.fmt(f),
            Self::Summary(summary) => summary.fmt(f),
        }
    }
}

/// Chooses the singular or plural of a noun.
pub(super) fn plural(count: u64, one: &'static str, many: &'static str) -> &'static str {
    if count == 1 { one } else { many }
}

/// Writes the first line of a server's summary: count, connections, elapsed time.
pub(super) fn write_headline(
    f: &mut fmt::Formatter<'_>,
    (count, one, many): (u64, &'static str, &'static str),
    connections: u64,
    elapsed: Duration,
) -> fmt::Result {
    let (noun, over) = (plural(count, one, many), plural(connections, "connection", "connections"));
    writeln!(f, "--- {count} {noun} on {connections} {over} in {} ---", HumanDuration(elapsed))
}

/// Writes the last lines of a server's first report: which hosts can connect, and how to stop it.
pub(super) fn write_closing_note(f: &mut fmt::Formatter<'_>, is_public: bool) -> fmt::Result {
    let scope = if is_public { "" } else { "\nloopback only (for other hosts: --bind '*:PORT')" };
    write!(f, "{scope}\nCtrl-C stops the server")
}

/// Writes the last line of a summary if stdout was too slow or full for some events.
pub(super) fn write_dropped_events(f: &mut fmt::Formatter<'_>, dropped_events: u64) -> fmt::Result {
    if dropped_events == 0 {
        return Ok(());
    }
    let lines = plural(dropped_events, "line", "lines");
    write!(f, "\n{dropped_events} {lines} dropped: standard output too slow or full")
}

/// Writes the counts that are not zero.
pub(super) fn write_counts(f: &mut fmt::Formatter<'_>, counts: &[(u64, &str)]) -> fmt::Result {
    counts.iter().filter(|(count, _)| *count > 0).try_for_each(|(count, noun)| write!(f, "; {count} {noun}"))
}

/// Formats a peer for logs.
pub(super) fn display_peer(peer: Option<SocketAddr>) -> String {
    peer.map_or_else(|| "unix".to_owned(), |peer| peer.to_string())
}

/// Line of a client with several targets: an event, the summary, or text.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum TargetReport<E, S> {
    /// Text before the first event; never printed as JSON.
    #[serde(skip)]
    Text(String),
    Event(TargetEvent<E>),
    Summary(Box<S>),
}

#[derive(Debug, Serialize)]
pub(super) struct TargetEvent<E> {
    #[serde(flatten)]
    event: E,
    target: Arc<str>,
    #[serde(skip)]
    is_only_target: bool,
}

impl<E, S> TargetReport<E, S> {
    /// Creates the line of an event; the text includes the target unless there is only one.
    pub(super) fn event(event: E, target: Arc<str>, is_alone: bool) -> Self {
        Self::Event(TargetEvent { event, target, is_only_target: is_alone })
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
            Self::Event(TargetEvent { event, is_only_target: true, .. }) => event.fmt(f),
            Self::Event(TargetEvent { event, target, .. }) => write!(f, "{}: {event}", Escaped(target.as_bytes())),
            Self::Summary(summary) => summary.fmt(f),
        }
    }
}
