//! Clock readings; the only module that reads a clock.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::time::Moment;

/// Maximum time between the two monotonic readings around a wall-clock reading.
const MAX_READING_GAP: Duration = Duration::from_micros(1);
/// Attempts to get a reading within [`MAX_READING_GAP`].
const MAX_READINGS: usize = 4;

/// Reads `CLOCK_MONOTONIC`, `CLOCK_REALTIME` and `CLOCK_MONOTONIC` again: three vDSO calls, once per turn.
///
/// A thread preempted between the readings gets a pair that does not belong together, and a kernel
/// timestamp converted with it would be wrong by the pause. Such a pair is read again.
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

/// Converts a reading; negative times, from a clock set before 1970, become zero.
fn duration(time: Timespec) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanoseconds)
}
