//! Moments: monotonic and wall time, read together.
//!
//! Owns the arithmetic of time; `net::clock` is the only place that reads a clock. Durations come from the
//! monotonic half, so that a step of the wall clock can neither distort a measurement nor make a sender look
//! down. The wall half is for display and for wire formats.

mod rtt;
mod serial;

use std::cmp::Ordering;
use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

pub(crate) use rtt::{Timestamps, clock_step};
pub(crate) use serial::{Nanoseconds, OptionalNanoseconds, Rfc3339};

/// Reading of both clocks, taken together.
///
/// Compared and subtracted by its monotonic half alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// Time since an arbitrary start; never steps.
    mono: Duration,
    /// Time since 1970-01-01T00:00:00Z by this host's clock.
    wall: Duration,
}

impl Moment {
    /// Creates a moment from two clock readings; tests pass fixed values.
    pub(crate) const fn new(mono: Duration, wall: Duration) -> Self {
        Self { mono, wall }
    }

    /// Returns the time since 1970-01-01T00:00:00Z.
    pub(crate) const fn wall(self) -> Duration {
        self.wall
    }

    /// Returns the time since `earlier`, or zero if `earlier` is not before it.
    pub(crate) const fn since(self, earlier: Self) -> Duration {
        self.mono.saturating_sub(earlier.mono)
    }

    /// Returns the monotonic half: time since the arbitrary start that all moments share.
    pub(crate) const fn since_start(self) -> Duration {
        self.mono
    }

    /// Returns the moment that is `earlier` before this one.
    #[must_use]
    pub(crate) const fn before(self, earlier: Duration) -> Self {
        Self { mono: self.mono.saturating_sub(earlier), wall: self.wall.saturating_sub(earlier) }
    }

    /// Returns the wall half as a civil date in this host's time zone.
    pub(crate) fn zoned(self) -> jiff::ZonedDateTime {
        self.timestamp().to_zoned_datetime(jiff::tz::TimeZone::system())
    }

    /// Returns the wall half as an instant of civil time, UTC.
    pub(crate) fn timestamp(self) -> jiff::Timestamp {
        let seconds = i64::try_from(self.wall.as_secs()).unwrap_or(i64::MAX);
        let nanoseconds = i32::try_from(self.wall.subsec_nanos()).unwrap_or(0);
        jiff::Timestamp::new(seconds, nanoseconds).unwrap_or(jiff::Timestamp::MAX)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, later: Duration) -> Self {
        Self { mono: self.mono.saturating_add(later), wall: self.wall.saturating_add(later) }
    }
}

impl Sub for Moment {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

impl PartialEq for Moment {
    fn eq(&self, other: &Self) -> bool {
        self.mono == other.mono
    }
}

impl Eq for Moment {}

impl PartialOrd for Moment {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Moment {
    fn cmp(&self, other: &Self) -> Ordering {
        self.mono.cmp(&other.mono)
    }
}

/// Converts a duration to whole nanoseconds, the unit of every `_ns` key.
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Duration formatted for users: three significant digits and one unit.
///
/// `HumanDuration(Duration::from_micros(412))` reads `0.412 ms`, as in ping; seconds from one second on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HumanDuration(pub Duration);

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs_f64();
        let (value, unit) = if seconds >= 1.0 { (seconds, "s") } else { (seconds * 1e3, "ms") };
        let digits = match value {
            v if v >= 100.0 => 0,
            v if v >= 10.0 => 1,
            v if v >= 1.0 => 2,
            _ => 3,
        };
        write!(f, "{value:.digits$} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::{HumanDuration, Moment};
    use std::time::Duration;

    const fn at(mono: u64, wall: u64) -> Moment {
        Moment::new(Duration::from_secs(mono), Duration::from_secs(wall))
    }

    #[test]
    fn a_wall_clock_step_does_not_change_a_duration() {
        let before = at(10, 1_000_000);
        let after = at(12, 996_400);
        assert_eq!(after - before, Duration::from_secs(2));
        assert!(after > before);
    }

    #[test]
    fn the_time_since_a_later_moment_is_zero() {
        assert_eq!(at(1, 0) - at(2, 0), Duration::ZERO);
    }

    #[test]
    fn a_human_duration_keeps_three_digits() {
        let shown = |micros| HumanDuration(Duration::from_micros(micros)).to_string();
        assert_eq!(shown(412), "0.412 ms");
        assert_eq!(shown(1_234), "1.23 ms");
        assert_eq!(shown(12_345), "12.3 ms");
        assert_eq!(shown(123_456), "123 ms");
        assert_eq!(shown(1_234_567), "1.23 s");
    }

    #[test]
    fn the_wall_half_is_civil_time() {
        assert_eq!(at(0, 784_111_777).timestamp().to_string(), "1994-11-06T08:49:37Z");
    }
}
