//! Snapshot of a watcher's senders: the content of the `--state` file.
//!
//! Owns its JSON form. The next watcher does not report again a sender that was already up, and continues the
//! downtime of a sender that was down. Beats sent while no watcher was running do not count as lost.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::event::SenderStatus;
use super::loss::{BeatCounts, SequenceLoss};
use super::sender_state::{Incarnation, SenderState};
use super::watcher::Watcher;
use crate::time::Moment;

/// Version of the format; a file with another version is rejected.
pub(crate) const SNAPSHOT_VERSION: u32 = 1;

/// All senders of a watcher.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    pub version: u32,
    /// Time of writing, in milliseconds since 1970.
    pub saved_ms: u64,
    /// Senders from which at least one beat was received.
    pub senders: Vec<SenderSnapshot>,
    /// Expected senders that are down and from which no beat was ever received.
    #[serde(default)]
    pub missed: Vec<MissingSenderSnapshot>,
}

/// Expected sender from which no beat was ever received.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MissingSenderSnapshot {
    name: Arc<str>,
    since_ms: u64,
}

impl MissingSenderSnapshot {
    /// Returns the snapshot of an expected sender that is down and never sent a beat.
    pub(crate) fn of(record: &SenderState) -> Option<Self> {
        let is_missing = record.incarnation.is_none() && record.is_expected && record.liveness == SenderStatus::Down;
        is_missing.then(|| Self { name: Arc::clone(&record.name), since_ms: saturating_millis(record.since.wall()) })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SenderSnapshot {
    name: Arc<str>,
    textbook: bool,
    state: SenderStatus,
    since_ms: u64,
    peer: SocketAddr,
    /// Sixteen hexadecimal digits: some JSON readers lose precision above 2⁵³.
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
    /// Returns the snapshot of a sender from which at least one beat was received.
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

    /// Restores the sender if the entry is valid.
    fn restore(&self, now: Moment) -> Option<SenderState> {
        let timing = match (self.interval_ms, self.multiplier) {
            (Some(interval @ 1..=86_400_000), Some(multiplier @ 1..)) => {
                Some((Duration::from_millis(interval), multiplier))
            }
            (None, None) if self.textbook => None,
            _ => return None,
        };
        let incarnation = u64::from_str_radix(&self.incarnation, 16).ok()?;
        let run = Incarnation::from_snapshot(
            self.peer,
            incarnation,
            timing,
            moment_from_wall_ms(self.heard_ms, now),
            Duration::from_millis(self.sent_ms),
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
    /// Restores all senders and returns the number of skipped ones: the table is full, or the entry is invalid.
    pub(crate) fn restore_snapshot(&mut self, snapshot: &Snapshot, now: Moment) -> usize {
        let mut skipped = 0;
        for sender in &snapshot.senders {
            let is_restored = sender.restore(now).is_some_and(|record| self.restore(record));
            skipped += usize::from(!is_restored);
        }
        for missing in &snapshot.missed {
            self.restore_missing(&missing.name, moment_from_wall_ms(missing.since_ms, now));
        }
        skipped
    }
}

/// Converts a saved wall-clock time to a moment; its age is known only by the wall clock.
fn moment_from_wall_ms(ms: u64, now: Moment) -> Moment {
    let wall = Duration::from_millis(ms);
    let ago = now.wall().saturating_sub(wall);
    Moment::new(now.since_start().saturating_sub(ago), wall)
}

fn saturating_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
