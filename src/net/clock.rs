//! The clocks. Nobody else reads one.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::time::Moment;

/// How far apart the two halves of a reading may be.
const MAX_READING_GAP: Duration = Duration::from_micros(1);
/// How often to read again when they were further apart.
const MAX_READINGS: usize = 4;

/// Reads both clocks: `CLOCK_MONOTONIC`, `CLOCK_REALTIME` and the first one again, three vDSO calls.
/// A loop does it once per turn.
///
/// Whoever is put to sleep between the two readings gets a pair that never was; a kernel stamp
/// brought over by it would be wrong by as much. So such a pair is read again.
pub(crate) fn now() -> Moment {
    let mut mono = duration(clock_gettime(ClockId::Monotonic));
    let mut wall = Duration::ZERO;
    for _ in 0..MAX_READINGS {
        wall = duration(clock_gettime(ClockId::Realtime));
        let after = duration(clock_gettime(ClockId::Monotonic));
        if after.saturating_sub(mono) <= MAX_READING_GAP {
            break;
        }
        mono = after;
    }
    Moment::new(mono, wall)
}

/// Negative times, of a clock set before 1970, count as zero.
fn duration(time: Timespec) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanoseconds)
}

/// How long until `until`, as ppoll wants it.
pub(super) fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}
