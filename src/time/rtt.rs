//! Round-trip time of a probe.
//!
//! Owns the choice of the clock. Kernel timestamps are better, because they exclude the time this process
//! slept; but they are wall time, and a wall clock can be set. So they are used only while both halves of our
//! own readings agree on the time that has passed.

use std::time::Duration;

use super::Moment;

/// Maximum difference between the elapsed times of the two clocks that does not count as a step.
const STEP_TOLERANCE: Duration = Duration::from_millis(1);

/// Divisor of the time between the readings for the proportional part: 500 ppm, the most adjtimex(2) allows.
const MAX_SLEW_DIVISOR: u32 = 2_000;

/// Timestamps of a probe and its reply.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timestamps {
    /// Time at which the probe was passed to the kernel.
    pub sent: Moment,
    /// Kernel timestamp of the probe, if there is one.
    pub kernel_sent: Option<Moment>,
    /// Arrival time of the reply.
    pub received: Moment,
    /// `received` is a kernel timestamp.
    pub timestamped: bool,
    /// Time at which the reply was read.
    pub read: Moment,
}

/// Measured round trip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RttSample {
    pub rtt: Duration,
    /// Delay that this host added, if kernel timestamps show it.
    pub host_delay: Option<Duration>,
    /// The wall clock was set in between.
    pub clock_stepped: bool,
}

impl Timestamps {
    /// Returns the round-trip time by the most accurate clock that is consistent with the readings.
    pub(crate) fn rtt_sample(&self) -> RttSample {
        let total = self.read - self.sent;
        if clock_step(self.sent, self.read).is_some() {
            return RttSample { rtt: total, host_delay: None, clock_stepped: true };
        }
        // A timestamp outside our own two readings cannot be more accurate than they are.
        let between = |moment: Moment| self.sent <= moment && moment <= self.read;
        let received_at = if between(self.received) { self.received } else { self.read };
        match self.kernel_sent {
            Some(sent_at) if self.timestamped && between(sent_at) && sent_at <= received_at => {
                let rtt = received_at - sent_at;
                RttSample { rtt, host_delay: Some(total.saturating_sub(rtt)), clock_stepped: false }
            }
            _ => RttSample { rtt: received_at - self.sent, host_delay: None, clock_stepped: false },
        }
    }
}

/// Returns the step of the wall clock between two readings in nanoseconds, if it was set.
pub(crate) fn clock_step(earlier: Moment, later: Moment) -> Option<i64> {
    let passed = later - earlier;
    let signed = |time: Duration| i128::try_from(time.as_nanos()).unwrap_or(i128::MAX);
    let step = signed(later.wall()) - signed(earlier.wall()) - signed(passed);
    let allowed = STEP_TOLERANCE + passed / MAX_SLEW_DIVISOR;
    (step.unsigned_abs() > allowed.as_nanos())
        .then(|| i64::try_from(step).unwrap_or(if step < 0 { i64::MIN } else { i64::MAX }))
}

#[cfg(test)]
mod tests {
    use super::{Timestamps, clock_step};
    use crate::time::Moment;
    use std::time::Duration;

    const HOUR: u64 = 3_600_000_000;

    /// Returns a moment with both clocks this many microseconds after their start.
    fn at(mono: u64, wall: u64) -> Moment {
        Moment::new(Duration::from_micros(mono), Duration::from_micros(wall + 100 * HOUR))
    }

    fn same(micros: u64) -> Moment {
        at(micros, micros)
    }

    fn timestamps() -> Timestamps {
        Timestamps {
            sent: same(0),
            kernel_sent: Some(same(10)),
            received: same(410),
            timestamped: true,
            read: same(450),
        }
    }

    #[test]
    fn kernel_timestamps_exclude_the_delay_of_this_host() {
        let sample = timestamps().rtt_sample();
        assert_eq!(sample.rtt, Duration::from_micros(400));
        assert_eq!(sample.host_delay, Some(Duration::from_micros(50)));
        assert!(!sample.clock_stepped);
    }

    #[test]
    fn without_a_send_timestamp_our_own_reading_counts() {
        let sample = Timestamps { kernel_sent: None, ..timestamps() }.rtt_sample();
        assert_eq!((sample.rtt, sample.host_delay), (Duration::from_micros(410), None));
    }

    #[test]
    fn a_step_of_an_hour_flags_the_probe_and_does_not_change_its_rtt() {
        for wall in [450 + HOUR, 450] {
            let sent = if wall > HOUR { at(0, 0) } else { at(0, HOUR) };
            let sample = Timestamps { sent, read: at(450, wall), ..timestamps() }.rtt_sample();
            assert!(sample.clock_stepped);
            assert_eq!(sample.rtt, Duration::from_micros(450));
        }
    }

    #[test]
    fn a_timestamp_outside_our_own_readings_is_ignored() {
        let early = Timestamps { received: same(5), ..timestamps() }.rtt_sample();
        assert_eq!(early.host_delay, None, "a reply cannot arrive before the probe was sent");
        let late = Timestamps { received: same(9_000), ..timestamps() }.rtt_sample();
        assert_eq!(late.rtt, Duration::from_micros(440));
    }

    #[test]
    fn slewing_at_the_limit_is_not_a_step_and_one_microsecond_more_is() {
        let ten_seconds = 10_000_000;
        let slewed = at(ten_seconds, ten_seconds + 6_000);
        assert_eq!(clock_step(same(0), slewed), None);
        let stepped = at(ten_seconds, ten_seconds + 6_001);
        assert_eq!(clock_step(same(0), stepped), Some(6_001_000));
        assert_eq!(clock_step(at(0, HOUR), same(0)), Some(-3_600_000_000_000));
    }
}
