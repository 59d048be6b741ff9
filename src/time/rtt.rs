//! How long a round trip really took.
//!
//! Owns the choice between clocks. The kernel's stamps are the better ones, because they leave
//! out how long this process slept; but they are wall time, and a wall clock can be set. So they
//! are believed only while both halves of our own readings agree about how much time has passed.

use std::time::Duration;

use super::Moment;

/// How far the two clocks may drift apart without a step: this much…
const STEP_TOLERANCE: Duration = Duration::from_millis(1);

/// …and one two-thousandth of the time between the readings: 500 ppm, what adjtimex(2) allows.
const MAX_SLEW_DIVISOR: u32 = 2_000;

/// All that is known of when a probe went and its reply came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timestamps {
    /// When it was handed over.
    pub sent: Moment,
    /// When the kernel says it left.
    pub kernel_sent: Option<Moment>,
    /// When the reply came.
    pub received: Moment,
    /// Whether that is the kernel's word.
    pub timestamped: bool,
    /// When the reply was read.
    pub read: Moment,
}

/// What follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RttSample {
    /// The round trip.
    pub rtt: Duration,
    /// What this host added, where the kernel's stamps show it.
    pub host_delay: Option<Duration>,
    /// Whether the wall clock was set meanwhile.
    pub clock_stepped: bool,
}

impl Timestamps {
    /// The round trip, by the best clock that can be trusted.
    pub(crate) fn rtt_sample(&self) -> RttSample {
        let whole = self.read - self.sent;
        if clock_step(self.sent, self.read).is_some() {
            return RttSample { rtt: whole, host_delay: None, clock_stepped: true };
        }
        // A stamp outside our own two readings is not worth more than they are.
        let between = |moment: Moment| self.sent <= moment && moment <= self.read;
        let came = if between(self.received) { self.received } else { self.read };
        match self.kernel_sent {
            Some(left) if self.timestamped && between(left) && left <= came => {
                let rtt = came - left;
                RttSample { rtt, host_delay: Some(whole.saturating_sub(rtt)), clock_stepped: false }
            }
            _ => RttSample { rtt: came - self.sent, host_delay: None, clock_stepped: false },
        }
    }
}

/// By how much the wall clock was set between two readings, in nanoseconds, if it was.
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

    /// A reading with both clocks this many microseconds after their start.
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
        let trip = timestamps().rtt_sample();
        assert_eq!(trip.rtt, Duration::from_micros(400));
        assert_eq!(trip.host_delay, Some(Duration::from_micros(50)));
        assert!(!trip.clock_stepped);
    }

    #[test]
    fn without_a_send_timestamp_our_own_reading_counts() {
        let trip = Timestamps { kernel_sent: None, ..timestamps() }.rtt_sample();
        assert_eq!((trip.rtt, trip.host_delay), (Duration::from_micros(410), None));
    }

    #[test]
    fn a_step_of_an_hour_flags_the_probe_and_does_not_bend_it() {
        for wall in [450 + HOUR, 450] {
            let sent = if wall > HOUR { at(0, 0) } else { at(0, HOUR) };
            let trip = Timestamps { sent, read: at(450, wall), ..timestamps() }.rtt_sample();
            assert!(trip.clock_stepped);
            assert_eq!(trip.rtt, Duration::from_micros(450));
        }
    }

    #[test]
    fn a_timestamp_outside_our_own_readings_is_ignored() {
        let early = Timestamps { received: same(5), ..timestamps() }.rtt_sample();
        assert_eq!(early.host_delay, None, "the reply cannot come before the probe has left");
        let late = Timestamps { received: same(9_000), ..timestamps() }.rtt_sample();
        assert_eq!(late.rtt, Duration::from_micros(440));
    }

    #[test]
    fn slewing_is_no_step_and_a_millisecond_more_is() {
        let ten_seconds = 10_000_000;
        let slewed = at(ten_seconds, ten_seconds + 6_000);
        assert_eq!(clock_step(same(0), slewed), None);
        let stepped = at(ten_seconds, ten_seconds + 6_001);
        assert_eq!(clock_step(same(0), stepped), Some(6_001_000));
        assert_eq!(clock_step(at(0, HOUR), same(0)), Some(-3_600_000_000_000));
    }
}
