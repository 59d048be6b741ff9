//! Failure detector: the silence after which a sender is late or down.
//!
//! By default each beat announces its own limit, multiplier times interval, as in BFD (RFC 5880 §6.8.4);
//! `--detect` selects another multiplier or a fixed time instead. A deadline counts from the kernel timestamp of the
//! last beat, so that a beat waiting in the socket counts as received even if the watcher reads it late.

use std::str::FromStr;
use std::time::Duration;

use crate::failure::{Failure, FailureKind};

/// Method that derives the silence timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DetectionMethod {
    /// Number of intervals; the multiplier of the beat by default.
    Multiplier(Option<u8>),
    /// Fixed time, independent of the beat.
    Fixed(Duration),
}

/// Settings of the failure detector.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FailureDetector {
    pub method: DetectionMethod,
    /// Added to every deadline.
    pub slack: Duration,
    /// Consecutive beats before a sender is up.
    pub rise: u32,
    /// Consecutive missed deadlines before a sender is down.
    pub fall: u32,
}

/// Mean of the inter-arrival times, each divided by the sequence numbers it spans.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct InterArrivalTimes {
    count: u32,
    mean: f64,
}

/// Silence timeouts of one sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SilenceTimeouts {
    /// Silence after which the sender is late: one beat is overdue.
    pub late: Duration,
    /// Silence after which the sender is down.
    pub down: Duration,
}

/// Number of newest inter-arrival times that are averaged.
const AVERAGING_WINDOW: u32 = 256;
impl FailureDetector {
    /// Returns the silence timeouts of a sender that announced `interval` and `multiplier`.
    pub(crate) fn timeouts(&self, interval: Duration, multiplier: u8) -> SilenceTimeouts {
        let intervals = |count: u8| interval.saturating_mul(count.into());
        let once = match self.method {
            DetectionMethod::Multiplier(own) => intervals(own.unwrap_or(multiplier)),
            DetectionMethod::Fixed(limit) => limit,
        };
        let down = once.saturating_mul(self.fall.max(1)).saturating_add(self.slack);
        // Half an interval more than announced: an exactly punctual sender is never late.
        let late = interval.saturating_add(interval / 2).saturating_add(self.slack);
        SilenceTimeouts { late: late.min(down), down }
    }
}

impl InterArrivalTimes {
    /// Adds the time between two beats whose sequence numbers are `seq_distance` apart.
    pub(crate) fn push(&mut self, elapsed: Duration, seq_distance: u64) {
        let steps = u32::try_from(seq_distance).unwrap_or(u32::MAX).max(1);
        let each = elapsed.as_secs_f64() / f64::from(steps);
        self.count = (self.count + 1).min(AVERAGING_WINDOW);
        self.mean += (each - self.mean) / f64::from(self.count);
    }

    /// Returns the mean, once there are two beats.
    pub(crate) fn mean(&self) -> Option<Duration> {
        (self.count > 0).then(|| Duration::try_from_secs_f64(self.mean).ok())?
    }
}

impl FromStr for DetectionMethod {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let invalid = || {
            Failure::new(FailureKind::InvalidValue, format!("invalid detection method '{text}'"))
                .expected("mult:N (1 to 255 intervals) or fixed:D (such as fixed:5s)")
        };
        let (method, value) = text.split_once(':').ok_or_else(invalid)?;
        let parsed = match method {
            "mult" => value.parse().ok().filter(|times| *times > 0).map(|times| Self::Multiplier(Some(times))),
            "fixed" => humantime::parse_duration(value).ok().filter(|limit| !limit.is_zero()).map(Self::Fixed),
            _ => None,
        };
        parsed.ok_or_else(invalid)
    }
}

#[cfg(test)]
mod tests {
    use super::{AVERAGING_WINDOW, DetectionMethod, FailureDetector, InterArrivalTimes, SilenceTimeouts};
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    fn failure_detector(method: DetectionMethod) -> FailureDetector {
        FailureDetector { method, slack: Duration::ZERO, rise: 1, fall: 1 }
    }

    fn timeouts(method: DetectionMethod) -> SilenceTimeouts {
        failure_detector(method).timeouts(SECOND, 3)
    }

    #[test]
    fn the_timeout_follows_the_beat_unless_the_watcher_overrides_it() {
        assert_eq!(
            timeouts(DetectionMethod::Multiplier(None)),
            SilenceTimeouts { late: SECOND * 3 / 2, down: 3 * SECOND }
        );
        assert_eq!(timeouts(DetectionMethod::Multiplier(Some(5))).down, 5 * SECOND);
        assert_eq!(
            timeouts(DetectionMethod::Fixed(SECOND / 2)),
            SilenceTimeouts { late: SECOND / 2, down: SECOND / 2 }
        );
        let slow = FailureDetector { slack: SECOND, fall: 2, ..failure_detector(DetectionMethod::Multiplier(None)) };
        assert_eq!(slow.timeouts(SECOND, 3), SilenceTimeouts { late: SECOND * 5 / 2, down: 7 * SECOND });
    }

    #[test]
    fn lost_beats_do_not_increase_the_mean() {
        let mut arrivals = InterArrivalTimes::default();
        for _ in 0..AVERAGING_WINDOW * 2 {
            arrivals.push(5 * SECOND, 5);
        }
        assert_eq!(arrivals.mean(), Some(SECOND));
    }

    #[test]
    fn an_unknown_detection_method_is_rejected() {
        for (text, method) in [
            ("mult:3", DetectionMethod::Multiplier(Some(3))),
            ("fixed:5s", DetectionMethod::Fixed(5 * SECOND)),
            ("fixed:1m 30s", DetectionMethod::Fixed(90 * SECOND)),
        ] {
            assert_eq!(text.parse::<DetectionMethod>().ok(), Some(method));
        }
        for text in ["", "mult", "mult:0", "mult:256", "mult:x", "fixed:0s", "fixed:-1s", "phi:8", "x:1"] {
            assert!(text.parse::<DetectionMethod>().is_err(), "{text}");
        }
    }
}
