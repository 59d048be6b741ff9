//! Settings of a watcher, which it shares with the senders it watches.

use std::time::Duration;

#[cfg(test)]
use super::failure_detector::DetectionMethod;
use super::failure_detector::FailureDetector;
use crate::mac::MacKey;
use crate::time::Moment;

/// Settings of a watcher.
#[derive(Clone)]
pub(crate) struct WatcherConfig {
    pub failure_detector: FailureDetector,
    /// MAC key; if present, only beats with a valid tag are accepted.
    pub key: Option<MacKey>,
    /// Time allowed for the first beat of an expected sender.
    pub expect_within: Duration,
    /// Time after which a sender that is down or stopped is removed.
    pub forget_after: Duration,
    /// Half-life of the flap penalty; zero disables damping.
    pub flap_half_life: Duration,
    pub max_senders: usize,
    /// Number of datagrams to process; later datagrams are ignored.
    pub max_datagrams: Option<u64>,
    /// Time from which datagrams are received.
    pub started_at: Moment,
    /// End of the last stall of this process; silence before it does not count.
    pub resumed_at: Moment,
}

#[cfg(test)]
impl WatcherConfig {
    /// Returns the defaults without slack or damping.
    pub(crate) fn strict(started: Moment) -> Self {
        Self {
            failure_detector: FailureDetector {
                method: DetectionMethod::Multiplier(None),
                slack: Duration::ZERO,
                rise: 1,
                fall: 1,
            },
            key: None,
            expect_within: Duration::from_secs(10),
            forget_after: Duration::from_secs(3_600),
            flap_half_life: Duration::ZERO,
            max_senders: 100,
            max_datagrams: None,
            started_at: started,
            resumed_at: started,
        }
    }
}
