//! When probes are sent.
//!
//! Owns the schedule: place *i* is at t₀ + *i* · interval, so that errors do not add up.

use std::time::Duration;

use super::ledger::MAX_TRACKED;
use crate::time::Moment;

/// A schedule that is behind by more than this and by more than one interval is begun anew.
pub(super) const RESTART_THRESHOLD: Duration = Duration::from_millis(100);

/// When probes are sent, and how long they are waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SenderConfig {
    /// How many; `None` for until stopped.
    pub count: Option<u64>,
    /// How far apart; zero for the next as soon as there is room in flight.
    pub interval: Duration,
    /// The least between two probes, whatever came back meanwhile.
    pub min_interval: Duration,
    /// From when on nothing more is sent.
    pub deadline: Option<Moment>,
    /// How many may be in flight: 1 is the textbook's stop-and-wait.
    pub max_in_flight: usize,
    /// With a full flight of which nothing comes back, one more this long after the last: so a
    /// flood that loses everything goes on.
    pub stalled_interval: Option<Duration>,
    /// Up to when an answer is in time.
    pub timeout: Duration,
    /// For how long after that it is late; then it is nothing.
    pub linger: Duration,
}

impl SenderConfig {
    /// The textbook's ten pings with a second of patience each, a second apart.
    pub(crate) fn textbook() -> Self {
        Self {
            count: Some(10),
            interval: Duration::from_secs(1),
            min_interval: Duration::ZERO,
            deadline: None,
            max_in_flight: MAX_TRACKED,
            stalled_interval: None,
            timeout: Duration::from_secs(1),
            linger: Duration::from_secs(1),
        }
    }

    /// The next probe as soon as the last is answered or timed out: the textbook's way.
    #[must_use]
    pub(crate) fn stop_and_wait(self) -> Self {
        Self { interval: Duration::ZERO, max_in_flight: 1, ..self }
    }

    /// As fast as answers come, `window` in flight, and a hundred a second if none come.
    #[must_use]
    pub(crate) fn flood(self, window: usize) -> Self {
        Self {
            interval: Duration::ZERO,
            max_in_flight: window,
            stalled_interval: Some(Duration::from_millis(10)),
            ..self
        }
    }
}

/// Where the next probe belongs.
pub(super) struct Schedule {
    pub anchor: Moment,
    /// How many intervals after the anchor.
    pub index: u32,
    /// When the last probe was sent.
    pub last_sent: Option<Moment>,
    /// When there was room in flight again, after there was none.
    pub window_freed_at: Moment,
}

impl Schedule {
    /// A schedule whose first place is at `start`.
    pub(super) fn new(start: Moment) -> Self {
        Self { anchor: start, index: 0, last_sent: None, window_freed_at: start }
    }

    /// Where the next probe belongs.
    pub(super) fn slot(&self, interval: Duration) -> Moment {
        self.anchor + interval.saturating_mul(self.index)
    }

    /// Begins anew.
    pub(super) fn restart(&mut self, now: Moment) {
        (self.anchor, self.index) = (now, 0);
    }

    /// Goes on to the next place.
    pub(super) fn advance(&mut self, now: Moment) {
        self.index += 1;
        self.last_sent = Some(now);
    }

    /// Moves the anchor, long before the index is used up.
    pub(super) fn rebase(&mut self, interval: Duration) {
        if self.index >= 1 << 16 {
            (self.anchor, self.index) = (self.slot(interval), 0);
        }
    }
}
