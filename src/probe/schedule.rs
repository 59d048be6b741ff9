//! Send schedule: probe *i* is due at t₀ + *i* · interval, so that errors do not add up.

use std::time::Duration;

use super::ledger::MAX_TRACKED;
use crate::time::Moment;

/// A schedule that is behind by more than this, and by more than one interval, is restarted.
pub(super) const RESTART_THRESHOLD: Duration = Duration::from_millis(100);

/// Number, spacing and timeouts of the probes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PingConfig {
    /// Number of probes; `None` is unlimited.
    pub count: Option<u64>,
    /// Time between probes; with zero, the next is sent as soon as the in-flight limit allows.
    pub interval: Duration,
    /// Minimum time between two probes, regardless of replies.
    pub min_interval: Duration,
    /// Time after which nothing is sent.
    pub deadline: Option<Moment>,
    /// Maximum number of probes in flight; 1 is the textbook's stop-and-wait.
    pub max_in_flight: usize,
    /// Time after which another probe is sent although the window is full, so that a flood continues when all replies
    /// are lost.
    pub stalled_interval: Option<Duration>,
    /// Time after which a reply is late.
    pub timeout: Duration,
    /// Time after the timeout during which late replies are awaited.
    pub linger: Duration,
}

impl PingConfig {
    /// The textbook's ten pings, one per second, with a timeout of one second.
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

    /// Sends the next probe when the last one was answered or timed out, as in the textbook.
    #[must_use]
    pub(crate) fn stop_and_wait(self) -> Self {
        Self { interval: Duration::ZERO, max_in_flight: 1, ..self }
    }

    /// Sends as fast as replies arrive, with `window` probes in flight; 100 per second without replies.
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

/// Position in the send schedule.
pub(super) struct Schedule {
    pub anchor: Moment,
    /// Intervals since the anchor.
    pub index: u32,
    pub last_sent: Option<Moment>,
    /// Time at which the window was last full and got space for another probe.
    pub window_freed_at: Moment,
}

impl Schedule {
    /// Creates a schedule whose first probe is due at `start`.
    pub(super) fn new(start: Moment) -> Self {
        Self { anchor: start, index: 0, last_sent: None, window_freed_at: start }
    }

    /// Due time of the next probe.
    pub(super) fn slot(&self, interval: Duration) -> Moment {
        self.anchor + interval.saturating_mul(self.index)
    }

    pub(super) fn restart(&mut self, now: Moment) {
        (self.anchor, self.index) = (now, 0);
    }

    pub(super) fn advance(&mut self, now: Moment) {
        self.index += 1;
        self.last_sent = Some(now);
    }

    /// Moves the anchor long before the index overflows.
    pub(super) fn rebase(&mut self, interval: Duration) {
        if self.index >= 1 << 16 {
            (self.anchor, self.index) = (self.slot(interval), 0);
        }
    }
}
