//! The clocks. Nobody else reads one.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::time::Moment;

/// Reads both clocks: `CLOCK_MONOTONIC` and `CLOCK_REALTIME`, two vDSO calls. A loop does it once per
/// turn.
pub fn now() -> Moment {
    Moment::new(duration(clock_gettime(ClockId::Monotonic)), duration(clock_gettime(ClockId::Realtime)))
}

/// Negative times, of a clock set before 1970, count as zero.
fn duration(time: Timespec) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanoseconds)
}

/// How long until `until`, as ppoll wants it.
pub fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}
