//! How a watcher judges.

use std::time::Duration;

#[cfg(test)]
use super::failure_detector::DetectionMethod;
use super::failure_detector::FailureDetector;
use crate::mac::MacKey;
use crate::time::Moment;

/// How a watcher judges.
#[derive(Clone)]
pub struct WatcherConfig {
    /// How long silence is borne.
    pub failure_detector: FailureDetector,
    /// With a key only what it vouches for is heard.
    pub key: Option<MacKey>,
    /// How long those that are expected may take to be heard first.
    pub expect_within: Duration,
    /// How long somebody is remembered who is down or stopped.
    pub forget_after: Duration,
    /// How fast it is forgiven to come and go.
    pub flap_half_life: Duration,
    /// How many senders there may be.
    pub max_senders: usize,
    /// How many datagrams are heard; what comes after them is not.
    pub max_datagrams: Option<u64>,
    /// Since when datagrams are heard.
    pub started_at: Moment,
    /// Since when we have been awake: silence before it may have been our own.
    pub awake_since: Moment,
}

#[cfg(test)]
impl WatcherConfig {
    /// The defaults without slack or damping, since `started`.
    pub fn strict(started: Moment) -> Self {
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
            awake_since: started,
        }
    }
}
