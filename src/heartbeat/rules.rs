//! How a watcher judges.

use std::time::Duration;

#[cfg(test)]
use super::detect::Detect;
use super::detect::Patience;
use crate::seal::MacKey;
use crate::time::Moment;

/// How a watcher judges.
#[derive(Clone)]
pub struct Rules {
    /// How long silence is borne.
    pub patience: Patience,
    /// With a key only what it vouches for is heard.
    pub key: Option<MacKey>,
    /// How long those that are expected may take to be heard first.
    pub expect_within: Duration,
    /// How long somebody is remembered who is down or stopped.
    pub forget: Duration,
    /// How fast it is forgiven to come and go.
    pub flap_half_life: Duration,
    /// How many senders there may be.
    pub most: usize,
    /// How many datagrams are heard; what comes after them is not.
    pub datagrams: Option<u64>,
    /// Since when datagrams are heard.
    pub started: Moment,
    /// Since when we have been awake: silence before it may have been our own.
    pub awake: Moment,
}

#[cfg(test)]
impl Rules {
    /// The defaults without slack or damping, since `started`.
    pub fn strict(started: Moment) -> Self {
        Self {
            patience: Patience { detect: Detect::Times(None), slack: Duration::ZERO, rise: 1, fall: 1 },
            key: None,
            expect_within: Duration::from_secs(10),
            forget: Duration::from_secs(3_600),
            flap_half_life: Duration::ZERO,
            most: 100,
            datagrams: None,
            started,
            awake: started,
        }
    }
}
