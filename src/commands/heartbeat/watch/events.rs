//! Text and JSON of the events and the summary of `heartbeat watch`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use crate::commands::report::{plural, write_closing_note, write_dropped_events};
use crate::commands::schema::EventSchemas;
use crate::heartbeat::{RejectReason, SenderReport, SenderStatus, StateCounts, Watcher, WatcherCounters, WatcherEvent};
use crate::output::{Escaped, Event, TextTime, Tone};
use crate::time::{HumanDuration, Moment, Nanoseconds};

/// Lists the events for the JSON schema.
pub(in crate::commands) fn list_events(schemas: &mut EventSchemas) {
    schemas.add::<HeartbeatWatchEvent>("heartbeat-watch");
    schemas.add::<Summary>("heartbeat-watch");
}

/// Maximum number of senders listed in the text summary and in JSON, late and down ones first.
const MAX_LISTED_SENDERS: (usize, usize) = (20, 1_000);

/// Event of a run.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(untagged)]
pub(super) enum HeartbeatWatchEvent {
    Listening(Listening),
    Watcher(WatcherEvent),
    Own(OwnEvent),
}

/// Failure of the watcher itself.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(tag = "type")]
pub(super) enum OwnEvent {
    /// A command of `--on-change` failed.
    #[serde(rename = "hook_failed")]
    HookFailed {
        /// Sender whose change started the command.
        name: Arc<str>,
        why: String,
    },
    /// The state file could not be written.
    #[serde(rename = "not_kept")]
    StateNotWritten { why: String },
}

impl Event for HeartbeatWatchEvent {
    fn text_time(&self) -> TextTime {
        if matches!(self, Self::Listening(_)) { TextTime::Never } else { TextTime::Always }
    }

    fn tone(&self) -> Tone {
        use SenderStatus::{Down, Late, Up};
        match self {
            Self::Own(_) => Tone::Bad,
            Self::Watcher(event) => match event {
                WatcherEvent::State { to: Up, .. } => Tone::Good,
                WatcherEvent::State { to: Down, .. } | WatcherEvent::Lost { .. } => Tone::Bad,
                WatcherEvent::State { to: Late, .. }
                | WatcherEvent::Rejected { .. }
                | WatcherEvent::Conflict { .. }
                | WatcherEvent::Flapping { flapping: true, .. }
                | WatcherEvent::LocalDrop { .. } => Tone::Warning,
                _ => Tone::Plain,
            },
            Self::Listening(_) => Tone::Plain,
        }
    }
}

impl fmt::Display for HeartbeatWatchEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listening(listening) => listening.fmt(f),
            Self::Watcher(event) => write_event(event, f),
            Self::Own(OwnEvent::HookFailed { name, why }) => {
                let (name, why) = (Escaped(name.as_bytes()), Escaped(why.as_bytes()));
                write!(f, "{name}: hook failed: {why}")
            }
            Self::Own(OwnEvent::StateNotWritten { why }) => write!(f, "state not saved: {}", Escaped(why.as_bytes())),
        }
    }
}

/// Listening addresses, and the URLs of the status page.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(tag = "type", rename = "listening")]
pub(super) struct Listening {
    addresses: Vec<String>,
    pages: Vec<String>,
    #[serde(skip)]
    is_public: bool,
}

impl Listening {
    pub(super) fn new(addresses: Vec<String>, pages: Vec<String>, is_public: bool) -> Self {
        Self { addresses, pages, is_public }
    }
}

impl fmt::Display for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("watching heartbeats on")?;
        self.addresses.iter().try_for_each(|address| write!(f, "\n  {address}"))?;
        self.pages.iter().try_for_each(|page| write!(f, "\n  status page: {page}"))?;
        write_closing_note(f, self.is_public)
    }
}

fn write_event(event: &WatcherEvent, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if let Some(name) = event.sender_name() {
        write!(f, "{}: ", Escaped(name.as_bytes()))?;
    }
    match event {
        WatcherEvent::State { to, silent, before, exit, from, .. } => match (to, silent) {
            (SenderStatus::Down, None) => f.write_str("down: no beat received"),
            (SenderStatus::Late | SenderStatus::Down, Some(silent)) => {
                write!(f, "{}: no beat for {}", to.as_str(), HumanDuration(*silent))
            }
            (SenderStatus::Up, _) if *from == SenderStatus::Down => {
                write!(f, "up: after {} down", HumanDuration(*before))
            }
            (SenderStatus::Stopped, _) => match exit {
                Some(code) => write!(f, "stopped: exit code {code}"),
                None => f.write_str("stopped"),
            },
            _ => f.write_str(to.as_str()),
        },
        WatcherEvent::Beat { seq, delay, .. } => match delay {
            Some(delay) => write!(f, "beat {seq}, delay {} above minimum", HumanDuration(*delay)),
            None => write!(f, "beat {seq}"),
        },
        WatcherEvent::Lost { first_seq, count: 1, .. } => write!(f, "lost beat {first_seq}"),
        WatcherEvent::Lost { first_seq, count, .. } => {
            write!(f, "lost {count} beats ({first_seq}–{})", first_seq.saturating_add(count - 1))
        }
        WatcherEvent::Late { seq, .. } => write!(f, "beat {seq} arrived late, no longer counted as lost"),
        WatcherEvent::Restarted { peer, .. } => write!(f, "restarted (from {peer})"),
        WatcherEvent::Moved { from, to, .. } => write!(f, "moved from {from} to {to}"),
        WatcherEvent::Conflict { peer, .. } => write!(f, "{peer} also uses this name; its beats are ignored"),
        WatcherEvent::Flapping { flapping: true, .. } => {
            f.write_str("flapping; state changes suppressed until the sender is stable")
        }
        WatcherEvent::Flapping { flapping: false, .. } => f.write_str("no longer flapping"),
        WatcherEvent::ClockStep { step_ns, .. } => {
            let step = HumanDuration(Duration::from_nanos(step_ns.unsigned_abs()));
            write!(f, "sender clock set {} by {step}", if *step_ns < 0 { "back" } else { "forward" })
        }
        WatcherEvent::Forgotten { .. } => f.write_str("removed: down or stopped for too long"),
        WatcherEvent::MonitorStall { gap } => {
            write!(f, "watcher stalled for {}; deadlines extended by that much", HumanDuration(*gap))
        }
        WatcherEvent::Rejected { peer, reason, got, count } => {
            let datagrams = plural(*count, "datagram", "datagrams");
            let last = if *count == 1 { "" } else { "the last " };
            write!(f, "ignored {count} {datagrams}, {last}from {peer}: {}", describe_reason(*reason))?;
            if *reason == RejectReason::Malformed {
                let got = Escaped(got.as_bytes());
                write!(
                    f,
                    "\n  got: '{got}'\n  expected: BEAT NAME INCARNATION SEQ MS INTERVAL MULTIPLIER, or [WORD ]SEQ TIME"
                )?;
            }
            Ok(())
        }
        WatcherEvent::LocalDrop { count } => {
            write!(f, "{count} {} dropped: receive buffer full", plural(*count, "datagram", "datagrams"))
        }
    }
}

fn describe_reason(reason: RejectReason) -> &'static str {
    match reason {
        RejectReason::Malformed => "malformed",
        RejectReason::Oversize => "too large",
        RejectReason::Unauthentic => "failed authentication",
        RejectReason::Replayed => "replayed beat",
        RejectReason::Stray => "echo, stop message of an unknown sender, or unexpected sequence number",
        RejectReason::Conflict => "name in use by another sender",
        RejectReason::Full => "sender table full",
    }
}

/// Counters of the commands of `--on-change`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize)]
pub(super) struct HookCounters {
    /// Commands started.
    pub run: u64,
    /// Commands that could not be started, failed, or timed out.
    pub failed: u64,
    /// Changes dropped because the queue was full or the run ended.
    pub dropped: u64,
}

/// Summary of a run.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(tag = "type", rename = "summary")]
pub(super) struct Summary {
    command: &'static str,
    #[serde(rename = "elapsed_ns", with = "Nanoseconds")]
    elapsed: Duration,
    /// Whether the condition of `--until` was met.
    met: Option<bool>,
    #[serde(flatten)]
    state_counts: StateCounts,
    #[serde(flatten)]
    counters: WatcherCounters,
    hooks: HookCounters,
    dropped_events: u64,
    senders: Vec<SenderReport>,
    #[serde(skip)]
    reasons: Vec<(u64, &'static str)>,
}

impl Summary {
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
        let is_healthy = |sender: &SenderReport| !matches!(sender.state, SenderStatus::Down | SenderStatus::Late);
        senders.sort_by(|one, other| is_healthy(one).cmp(&is_healthy(other)).then_with(|| one.name.cmp(&other.name)));
        senders.truncate(MAX_LISTED_SENDERS.1);
        let reasons = RejectReason::ALL.into_iter().zip(watcher.counters().by_reason);
        Self {
            command: "heartbeat watch",
            elapsed,
            met,
            state_counts: watcher.state_counts(),
            counters: watcher.counters().clone(),
            hooks,
            dropped_events,
            senders,
            reasons: reasons.map(|(reason, count)| (count, describe_reason(reason))).collect(),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let StateCounts { total, up, late, down, stopped, new } = self.state_counts;
        let senders = plural(total as u64, "sender", "senders");
        writeln!(f, "--- {total} {senders} watched for {} ---", HumanDuration(self.elapsed))?;
        write!(f, "{up} up, {late} late, {down} down, {stopped} stopped")?;
        let others = [
            (new as u64, "new", "new"),
            (self.counters.local_drops, "dropped datagram", "dropped datagrams"),
            (self.counters.stalls, "watcher stall", "watcher stalls"),
            (self.hooks.failed, "failed hook", "failed hooks"),
            (self.hooks.dropped, "dropped change", "dropped changes"),
        ];
        write_plurals(f, others)?;
        for (count, why) in self.reasons.iter().filter(|(count, _)| *count > 0) {
            write!(f, "\n{count} {} ignored: {why}", plural(*count, "datagram", "datagrams"))?;
        }
        for sender in self.senders.iter().take(MAX_LISTED_SENDERS.0) {
            write!(f, "\n  {}", SenderLine(sender))?;
        }
        if let Some(more @ 1..) = total.checked_sub(MAX_LISTED_SENDERS.0) {
            write!(f, "\n  and {more} more")?;
        }
        write_dropped_events(f, self.dropped_events)
    }
}

/// Writes the counts that are not zero, each with its singular or plural.
fn write_plurals<const N: usize>(
    f: &mut fmt::Formatter<'_>,
    counts: [(u64, &'static str, &'static str); N],
) -> fmt::Result {
    let mut counts = counts.into_iter().filter(|(count, ..)| *count > 0);
    counts.try_for_each(|(count, one, many)| write!(f, ", {count} {}", plural(count, one, many)))
}

/// Line of one sender in the text summary.
struct SenderLine<'a>(&'a SenderReport);

impl fmt::Display for SenderLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sender = self.0;
        write!(f, "{}: {}", Escaped(sender.name.as_bytes()), sender.state.as_str())?;
        if sender.flapping {
            f.write_str(", flapping")?;
        }
        let counts = &sender.counts;
        write!(f, ", {} {}, {} lost", counts.beats, plural(counts.beats, "beat", "beats"), counts.lost)?;
        if let (Some(loss), Some((low, high))) = (sender.loss.filter(|loss| *loss > 0.0), sender.loss_ci95) {
            write!(f, " ({:.1} %, 95 % interval {:.1} to {:.1} %)", loss * 100.0, low * 100.0, high * 100.0)?;
        }
        let others = [
            (counts.duplicates, "duplicate", "duplicates"),
            (counts.reordered, "out of order", "out of order"),
            (counts.too_late, "too late to classify", "too late to classify"),
            (sender.restarts.into(), "restart", "restarts"),
        ];
        write_plurals(f, others)?;
        if let Some(jitter) = sender.jitter {
            write!(f, ", jitter {}", HumanDuration(jitter))?;
        }
        if let Some(skew) = sender.skew_ppm {
            write!(f, ", clock skew {skew:.1} ppm")?;
        }
        Ok(())
    }
}
