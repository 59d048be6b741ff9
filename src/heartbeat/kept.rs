//! What outlives a watcher.
//!
//! Owns the form in which senders are written down, so that the next watcher announces nobody who
//! was up before, and forgets no downtime. What was sent while nobody watched is not lost.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::fact::State;
use super::gaps::{Counts, Gaps};
use super::record::{Record, Run};
use super::watcher::Watcher;
use crate::time::Moment;

/// The version of the form; another one is not read.
pub const VERSION: u32 = 1;

/// Everybody, written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Which form this is.
    pub version: u32,
    /// When it was written, in milliseconds since 1970.
    pub saved_ms: u64,
    /// Everybody who was heard.
    pub senders: Vec<KeptSender>,
    /// Those that were expected and are missed.
    #[serde(default)]
    pub missed: Vec<KeptMissed>,
}

/// One who was never heard, written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptMissed {
    name: Arc<str>,
    since_ms: u64,
}

impl KeptMissed {
    /// What is to be written down of a sender that did not come in time.
    pub fn of(record: &Record) -> Option<Self> {
        let is_missed = record.run.is_none() && record.is_expected && record.state == State::Down;
        is_missed.then(|| Self { name: Arc::clone(&record.name), since_ms: millis(record.since.wall()) })
    }
}

/// One sender, written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptSender {
    name: Arc<str>,
    textbook: bool,
    state: State,
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
    counts: Counts,
}

impl KeptSender {
    /// What is to be written down of a sender; one that was never heard leaves no trace.
    pub fn of(record: &Record) -> Option<Self> {
        let run = record.run?;
        Some(Self {
            name: Arc::clone(&record.name),
            textbook: record.is_textbook,
            state: record.state,
            since_ms: millis(record.since.wall()),
            peer: run.peer,
            incarnation: format!("{:016x}", run.incarnation),
            last_seq: run.unwatched.or_else(|| record.gaps.highest())?,
            heard_ms: millis(run.heard.wall()),
            sent_ms: millis(run.sent),
            interval_ms: run.promise.map(|(interval, _)| millis(interval)),
            multiplier: run.promise.map(|(_, multiplier)| multiplier),
            restarts: record.restarts,
            exit: record.exit,
            counts: *record.gaps.counts(),
        })
    }

    /// The sender again, if what was written down makes sense.
    fn restored(&self, now: Moment) -> Option<Record> {
        let promise = match (self.interval_ms, self.multiplier) {
            (Some(interval @ 1..=86_400_000), Some(times @ 1..)) => Some((Duration::from_millis(interval), times)),
            (None, None) if self.textbook => None,
            _ => return None,
        };
        let incarnation = u64::from_str_radix(&self.incarnation, 16).ok()?;
        let sent = Duration::from_millis(self.sent_ms);
        let run = Run::restored(self.peer, incarnation, promise, then(self.heard_ms, now), sent, self.last_seq);
        let since = then(self.since_ms, now);
        let mut record =
            Record::restored(Arc::clone(&self.name), self.state, since, Gaps::restored(self.counts), run, now);
        (record.restarts, record.exit, record.is_textbook) = (self.restarts, self.exit, self.textbook);
        Some(record)
    }
}

impl Watcher {
    /// Takes in everybody who was written down, and says how many could not be: there is no room for
    /// them, or what was written makes no sense.
    pub fn restore_all(&mut self, kept: &Kept, now: Moment) -> usize {
        let mut refused = 0;
        for sender in &kept.senders {
            let is_restored = sender.restored(now).is_some_and(|record| self.restore(record));
            refused += usize::from(!is_restored);
        }
        for missed in &kept.missed {
            self.miss(&missed.name, then(missed.since_ms, now));
        }
        refused
    }
}

/// A moment that was written down by its wall half; how long ago that was, the wall clock must say.
fn then(ms: u64, now: Moment) -> Moment {
    let wall = Duration::from_millis(ms);
    let ago = now.wall().saturating_sub(wall);
    Moment::new(now.since_start().saturating_sub(ago), wall)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
