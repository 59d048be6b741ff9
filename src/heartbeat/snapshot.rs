//! What outlives a watcher.
//!
//! Owns the form in which senders are written down, so that the next watcher announces nobody who
//! was up before, and forgets no downtime. What was sent while nobody watched is not lost.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::event::Liveness;
use super::loss::{BeatCounts, SequenceLoss};
use super::sender_state::{Incarnation, SenderState};
use super::watcher::Watcher;
use crate::time::Moment;

/// The version of the form; another one is not read.
pub(crate) const SNAPSHOT_VERSION: u32 = 1;

/// Everybody, written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    /// Which form this is.
    pub version: u32,
    /// When it was written, in milliseconds since 1970.
    pub saved_ms: u64,
    /// Everybody who was heard.
    pub senders: Vec<SenderSnapshot>,
    /// Those that were expected and are missed.
    #[serde(default)]
    pub missed: Vec<MissingSenderSnapshot>,
}

/// One who was never heard, written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MissingSenderSnapshot {
    name: Arc<str>,
    since_ms: u64,
}

impl MissingSenderSnapshot {
    /// What is to be written down of a sender that did not come in time.
    pub(crate) fn of(record: &SenderState) -> Option<Self> {
        let is_missed = record.incarnation.is_none() && record.is_expected && record.liveness == Liveness::Down;
        is_missed.then(|| Self { name: Arc::clone(&record.name), since_ms: saturating_millis(record.since.wall()) })
    }
}

/// One sender, written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SenderSnapshot {
    name: Arc<str>,
    textbook: bool,
    state: Liveness,
    since_ms: u64,
    peer: SocketAddr,
    /// Sixteen hexadecimal digits: JSON's numbers end at 2⁵³ for some readers.
    incarnation: String,
    last_seq: u64,
    heard_ms: u64,
    sent_ms: u64,
    interval_ms: Option<u64>,
    multiplier: Option<u8>,
    restarts: u32,
    exit: Option<u8>,
    counts: BeatCounts,
}

impl SenderSnapshot {
    /// What is to be written down of a sender; one that was never heard leaves no trace.
    pub(crate) fn of(record: &SenderState) -> Option<Self> {
        let run = record.incarnation?;
        Some(Self {
            name: Arc::clone(&record.name),
            textbook: record.is_textbook,
            state: record.liveness,
            since_ms: saturating_millis(record.since.wall()),
            peer: run.peer,
            incarnation: format!("{:016x}", run.id),
            last_seq: run.restored_seq.or_else(|| record.loss.highest_seq())?,
            heard_ms: saturating_millis(run.last_received.wall()),
            sent_ms: saturating_millis(run.sent_at),
            interval_ms: run.advertised_timing.map(|(interval, _)| saturating_millis(interval)),
            multiplier: run.advertised_timing.map(|(_, multiplier)| multiplier),
            restarts: record.restarts,
            exit: record.exit_code,
            counts: *record.loss.counts(),
        })
    }

    /// The sender again, if what was written down makes sense.
    fn restore(&self, now: Moment) -> Option<SenderState> {
        let promise = match (self.interval_ms, self.multiplier) {
            (Some(interval @ 1..=86_400_000), Some(times @ 1..)) => Some((Duration::from_millis(interval), times)),
            (None, None) if self.textbook => None,
            _ => return None,
        };
        let incarnation = u64::from_str_radix(&self.incarnation, 16).ok()?;
        let sent = Duration::from_millis(self.sent_ms);
        let run = Incarnation::from_snapshot(
            self.peer,
            incarnation,
            promise,
            moment_from_wall_ms(self.heard_ms, now),
            sent,
            self.last_seq,
        );
        let since = moment_from_wall_ms(self.since_ms, now);
        let mut record = SenderState::from_snapshot(
            Arc::clone(&self.name),
            self.state,
            since,
            SequenceLoss::from_counts(self.counts),
            run,
            now,
        );
        (record.restarts, record.exit_code, record.is_textbook) = (self.restarts, self.exit, self.textbook);
        Some(record)
    }
}

impl Watcher {
    /// Takes in everybody who was written down, and says how many could not be: there is no room for
    /// them, or what was written makes no sense.
    pub(crate) fn restore_snapshot(&mut self, snapshot: &Snapshot, now: Moment) -> usize {
        let mut refused = 0;
        for sender in &snapshot.senders {
            let is_restored = sender.restore(now).is_some_and(|record| self.restore(record));
            refused += usize::from(!is_restored);
        }
        for missed in &snapshot.missed {
            self.restore_missing(&missed.name, moment_from_wall_ms(missed.since_ms, now));
        }
        refused
    }
}

/// A moment that was written down by its wall half; how long ago that was, the wall clock must say.
fn moment_from_wall_ms(ms: u64, now: Moment) -> Moment {
    let wall = Duration::from_millis(ms);
    let ago = now.wall().saturating_sub(wall);
    Moment::new(now.since_start().saturating_sub(ago), wall)
}

fn saturating_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
