//! What `heartbeat watch` says.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::commands::report::{Report, write_dropped_events};
use crate::heartbeat::{Liveness, RejectReason, SenderReport, StateCounts, Watcher, WatcherCounters, WatcherEvent};
use crate::output::Escaped;
use crate::time::{HumanDuration, Moment, serialize_ns};

/// Senders the text summary lists, and those that JSON does; the worst first.
const MAX_LISTED_SENDERS: (usize, usize) = (20, 1_000);

/// Everything `heartbeat watch` says.
pub(super) type HeartbeatWatchReport = Report<HeartbeatWatchEvent, Summary>;

/// What it says before the end.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum HeartbeatWatchEvent {
    /// It listens.
    Listening(Listening),
    /// Something happened to a sender.
    Watcher(WatcherEvent),
    /// A command of `--on-change` went wrong.
    #[serde(serialize_with = "hook_failed")]
    HookFailed {
        /// Whose change it was for.
        name: Arc<str>,
        /// What went wrong.
        why: String,
    },
    /// The state file could not be written.
    #[serde(serialize_with = "not_kept")]
    StateNotWritten {
        /// Why not.
        why: String,
    },
}

fn hook_failed<S: Serializer>(name: &Arc<str>, why: &str, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    #[serde(tag = "type", rename = "hook_failed")]
    struct Tagged<'e> {
        name: &'e str,
        why: &'e str,
    }
    Tagged { name, why }.serialize(serializer)
}

fn not_kept<S: Serializer>(why: &str, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    #[serde(tag = "type", rename = "not_kept")]
    struct Tagged<'e> {
        why: &'e str,
    }
    Tagged { why }.serialize(serializer)
}

impl fmt::Display for HeartbeatWatchEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listening(listening) => listening.fmt(f),
            Self::Watcher(fact) => write_event(fact, f),
            Self::HookFailed { name, why } => {
                write!(
                    f,
                    "{}: the command of --on-change failed: {}",
                    Escaped(name.as_bytes()),
                    Escaped(why.as_bytes())
                )
            }
            Self::StateNotWritten { why } => write!(f, "the state is not kept: {}", Escaped(why.as_bytes())),
        }
    }
}

/// Where it listens.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "listening")]
pub(super) struct Listening {
    addresses: Vec<String>,
    pages: Vec<String>,
}

impl Listening {
    /// What is promised.
    pub(super) fn new(addresses: Vec<String>, pages: Vec<String>) -> Self {
        Self { addresses, pages }
    }
}

impl fmt::Display for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "watching on {}", self.addresses.join(" and "))?;
        if !self.pages.is_empty() {
            write!(f, "; status on {}", self.pages.join(" and "))?;
        }
        Ok(())
    }
}

fn write_event(event: &WatcherEvent, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if let Some(name) = event.sender_name() {
        write!(f, "{}: ", Escaped(name.as_bytes()))?;
    }
    match event {
        WatcherEvent::State { to, silent, before, exit, from, .. } => match (to, silent) {
            (Liveness::Down, None) => write!(f, "down, it was never heard"),
            (Liveness::Late | Liveness::Down, Some(silent)) => {
                write!(f, "{}, nothing heard for {}", to.as_str(), HumanDuration(*silent))
            }
            (Liveness::Up, _) if *from == Liveness::Down => {
                write!(f, "up again, it was down for {}", HumanDuration(*before))
            }
            (Liveness::Stopped, _) => match exit {
                Some(code) => write!(f, "stopped, it said goodbye with exit code {code}"),
                None => f.write_str("stopped, it said goodbye"),
            },
            _ => f.write_str(to.as_str()),
        },
        WatcherEvent::Beat { seq, delay, .. } => match delay {
            Some(delay) => write!(f, "beat {seq}, {} above the least delay", HumanDuration(*delay)),
            None => write!(f, "beat {seq}"),
        },
        WatcherEvent::Lost { first_seq, count: 1, .. } => write!(f, "beat {first_seq} got lost"),
        WatcherEvent::Lost { first_seq, count, .. } => {
            write!(f, "{count} beats got lost, {first_seq} to {}", first_seq.saturating_add(count - 1))
        }
        WatcherEvent::Late { seq, .. } => write!(f, "beat {seq} came late; it is not lost after all"),
        WatcherEvent::Restarted { peer, .. } => write!(f, "was started anew, on {peer}"),
        WatcherEvent::Moved { from, to, .. } => write!(f, "moved from {from} to {to}"),
        WatcherEvent::Conflict { peer, .. } => write!(f, "{peer} beats under this name too, and is not believed"),
        WatcherEvent::Flapping { flapping: true, .. } => {
            f.write_str("comes and goes; changes are not told until it is steady")
        }
        WatcherEvent::Flapping { flapping: false, .. } => f.write_str("is steady again"),
        WatcherEvent::ClockStep { step_ns, .. } => {
            let step = HumanDuration(Duration::from_nanos(step_ns.unsigned_abs()));
            write!(f, "its clock was set {} by {step}", if *step_ns < 0 { "back" } else { "forward" })
        }
        WatcherEvent::Forgotten { .. } => f.write_str("forgotten"),
        WatcherEvent::MonitorStall { gap } => {
            write!(f, "this watcher did not run for {}; every deadline is moved by as much", HumanDuration(*gap))
        }
        WatcherEvent::Refused { peer, reason, count } => {
            write!(f, "not a beat: {}, from {peer} ({count} so far)", describe_reason(*reason))
        }
        WatcherEvent::LocalDrop { count } => write!(f, "{count} datagrams found no room in our own buffer"),
    }
}

fn describe_reason(reason: RejectReason) -> &'static str {
    match reason {
        RejectReason::Malformed => "malformed",
        RejectReason::Oversize => "too long",
        RejectReason::Unauthentic => "not authentic",
        RejectReason::Replayed => "it came before",
        RejectReason::Stray => "an echo, a goodbye of somebody unknown, or a number out of any order",
        RejectReason::Conflict => "another sender of a known name",
        RejectReason::Full => "no room for another sender",
    }
}

/// What the commands came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct HookCounters {
    /// Commands that were run.
    pub run: u64,
    /// Those that could not be started, failed, or took too long.
    pub failed: u64,
    /// Changes that had to be dropped because too many were waiting.
    pub dropped: u64,
}

/// What it all came to.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "summary")]
pub(super) struct Summary {
    command: &'static str,
    #[serde(rename = "elapsed_ns", serialize_with = "serialize_ns")]
    elapsed: Duration,
    /// Whether the condition of `--until` was met.
    met: Option<bool>,
    #[serde(flatten)]
    heads: StateCounts,
    #[serde(flatten)]
    tally: WatcherCounters,
    hooks: HookCounters,
    dropped_events: u64,
    senders: Vec<SenderReport>,
    #[serde(skip)]
    reasons: Vec<(u64, &'static str)>,
}

impl Summary {
    /// The end of a run.
    pub(super) fn new(
        watcher: &Watcher,
        now: Moment,
        elapsed: Duration,
        hooks: HookCounters,
        met: Option<bool>,
        dropped_events: u64,
    ) -> Self {
        let mut senders: Vec<SenderReport> =
            watcher.sender_table().iter().map(|(_, record)| record.report(now)).collect();
        let is_well = |sender: &SenderReport| !matches!(sender.state, Liveness::Down | Liveness::Late);
        senders.sort_by(|one, other| is_well(one).cmp(&is_well(other)).then_with(|| one.name.cmp(&other.name)));
        senders.truncate(MAX_LISTED_SENDERS.1);
        let reasons = RejectReason::ALL.into_iter().zip(watcher.counters().by_reason);
        Self {
            command: "heartbeat watch",
            elapsed,
            met,
            heads: watcher.state_counts(),
            tally: watcher.counters().clone(),
            hooks,
            dropped_events,
            senders,
            reasons: reasons.map(|(reason, count)| (count, describe_reason(reason))).collect(),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "--- {} senders watched for {} ---", self.heads.total, HumanDuration(self.elapsed))?;
        let StateCounts { up, late, down, stopped, new, .. } = self.heads;
        write!(f, "{up} up, {late} late, {down} down, {stopped} stopped")?;
        let others = [
            (new as u64, "not heard yet"),
            (self.tally.local_drops, "datagrams dropped by our own buffer"),
            (self.tally.stalls, "times we did not run ourselves"),
            (self.hooks.failed, "commands failed"),
            (self.hooks.dropped, "changes not told to the command"),
        ];
        for (count, what) in others.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, ", {count} {what}")?;
        }
        for (count, why) in self.reasons.iter().filter(|(count, _)| *count > 0) {
            write!(f, "\n{count} datagrams counted for nobody: {why}")?;
        }
        for sender in self.senders.iter().take(MAX_LISTED_SENDERS.0) {
            write!(f, "\n  {}", SenderLine(sender))?;
        }
        if let Some(more @ 1..) = self.heads.total.checked_sub(MAX_LISTED_SENDERS.0) {
            write!(f, "\n  and {more} more")?;
        }
        write_dropped_events(f, self.dropped_events)?;
        match self.met {
            Some(false) => f.write_str("\nwhat was waited for did not come"),
            _ => Ok(()),
        }
    }
}

/// One sender in a line.
struct SenderLine<'a>(&'a SenderReport);

impl fmt::Display for SenderLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sender = self.0;
        write!(f, "{}: {}", Escaped(sender.name.as_bytes()), sender.state.as_str())?;
        if sender.flapping {
            f.write_str(", comes and goes")?;
        }
        write!(f, ", {} beats, {} lost", sender.counts.beats, sender.counts.lost)?;
        if let (Some(loss), Some((low, high))) = (sender.loss.filter(|loss| *loss > 0.0), sender.loss_ci95) {
            write!(f, " ({:.1} %, 95 % interval {:.1} to {:.1} %)", loss * 100.0, low * 100.0, high * 100.0)?;
        }
        let counts = &sender.counts;
        let others = [
            (counts.duplicates, "duplicates"),
            (counts.reordered, "out of order"),
            (counts.too_late, "too late to be told from copies"),
            (sender.restarts.into(), "restarts"),
        ];
        for (count, what) in others.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, ", {count} {what}")?;
        }
        if let Some(jitter) = sender.jitter {
            write!(f, ", jitter {}", HumanDuration(jitter))?;
        }
        if let Some(skew) = sender.skew_ppm {
            write!(f, ", clock skew {skew:.1} ppm")?;
        }
        Ok(())
    }
}
