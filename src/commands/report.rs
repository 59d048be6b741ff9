//! Wording that the events and summaries of several commands share, and the target of a client's event.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use crate::disk;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::output::{Escaped, Event, Output, Tone};
use crate::stop::StopConditions;
use crate::time::HumanDuration;

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
    write!(f, "\n{dropped_events} {lines} dropped: standard output too slow, full or closed")
}

/// Writes the counts that are not zero.
pub(super) fn write_counts(f: &mut fmt::Formatter<'_>, counts: &[(u64, &str)]) -> fmt::Result {
    counts.iter().filter(|(count, _)| *count > 0).try_for_each(|(count, noun)| write!(f, "; {count} {noun}"))
}

/// Formats a peer for logs.
pub(super) fn display_peer(peer: Option<SocketAddr>) -> String {
    peer.map_or_else(|| "unix".to_owned(), |peer| peer.to_string())
}

/// Prints the summary of a run that ends with `exit`. A run that fails has at least one error before it.
pub(super) fn emit_summary(output: &mut Output, summary: &(impl Serialize + fmt::Display), exit: Exit) -> Result<()> {
    if exit != Exit::Success && !output.has_reported_error() {
        output.report_error(&Error::new(exit, exit.meaning()));
    }
    Ok(output.emit_summary(summary, exit.code())?)
}

/// Writes `content` to a file given on the command line. Does not wait for the reader of a FIFO beyond the run.
pub(super) fn write_file(path: &Path, content: &[u8], stop: &StopConditions) -> Result<()> {
    Ok(disk::replace_within(path, content, stop)?)
}

/// Collects what is ready for each target. A target that failed is reported and does not stop the others; the exit
/// code is that of the failures. Fails if no target is left, or if the run was interrupted.
pub(super) fn skip_failed_targets<T>(
    attempts: impl Iterator<Item = Result<T>>,
    output: &mut Output,
) -> Result<(Vec<T>, Exit)> {
    let (mut ready, mut failures) = (Vec::new(), Vec::new());
    for attempt in attempts {
        match attempt {
            Ok(target) => ready.push(target),
            Err(error) if matches!(error.exit(), Exit::Interrupted | Exit::Terminated) => return Err(error),
            Err(error) => failures.push(error),
        }
    }
    let exit = Exit::combined(failures.iter().map(Error::exit));
    let last = if ready.is_empty() { failures.pop() } else { None };
    failures.iter().for_each(|error| output.report_error(error));
    match last {
        Some(error) if failures.is_empty() => Err(error),
        Some(error) => Err(error.with_exit(exit)),
        None => Ok((ready, exit)),
    }
}

/// Event of a client with several targets. The text includes the target unless there is only one.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct TargetEvent<E> {
    #[serde(flatten)]
    event: E,
    target: Arc<str>,
    peer: SocketAddr,
    #[serde(skip)]
    is_only_target: bool,
}

impl<E> TargetEvent<E> {
    pub(super) fn new(event: E, (target, peer): (Arc<str>, SocketAddr), is_only_target: bool) -> Self {
        Self { event, target, peer, is_only_target }
    }
}

impl<E: Event> Event for TargetEvent<E> {
    fn tone(&self) -> Tone {
        self.event.tone()
    }
}

impl<E: fmt::Display> fmt::Display for TargetEvent<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.is_only_target {
            write!(f, "{}: ", Escaped(self.target.as_bytes()))?;
        }
        self.event.fmt(f)
    }
}
