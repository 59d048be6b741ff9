//! How long a round trip really took.
//!
//! Owns the choice between clocks. The kernel's stamps are the better ones, because they leave
//! out how long this process slept; but they are wall time, and a wall clock can be set. So they
//! are believed only while both halves of our own readings agree about how much time has passed.

use std::time::Duration;

use super::Moment;

/// How far the two clocks may drift apart without a step: this much…
const SLACK: Duration = Duration::from_millis(1);

/// …and one two-thousandth of the time between the readings: 500 ppm, what adjtimex(2) allows.
const SLEW: u32 = 2_000;

/// All that is known of when a probe went and its reply came.
#[derive(Clone, Copy, Debug)]
pub struct Stamps {
    /// When it was handed over.
    pub sent: Moment,
    /// When the kernel says it left.
    pub left: Option<Moment>,
    /// When the reply came.
    pub came: Moment,
    /// Whether that is the kernel's word.
    pub stamped: bool,
    /// When the reply was read.
    pub read: Moment,
}

/// What follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trip {
    /// The round trip.
    pub rtt: Duration,
    /// What this host added, where the kernel's stamps show it.
    pub host: Option<Duration>,
    /// Whether the wall clock was set meanwhile.
    pub stepped: bool,
}

impl Stamps {
    /// The round trip, by the best clock that can be trusted.
    pub fn trip(&self) -> Trip {
        let whole = self.read - self.sent;
        if step(self.sent, self.read).is_some() {
            return Trip { rtt: whole, host: None, stepped: true };
        }
        // A stamp outside our own two readings is not worth more than they are.
        let between = |moment: Moment| self.sent <= moment && moment <= self.read;
        let came = if between(self.came) { self.came } else { self.read };
        match self.left {
            Some(left) if self.stamped && between(left) && left <= came => {
                let rtt = came - left;
                Trip { rtt, host: Some(whole.saturating_sub(rtt)), stepped: false }
            }
            _ => Trip { rtt: came - self.sent, host: None, stepped: false },
        }
    }
}

/// By how much the wall clock was set between two readings, in nanoseconds, if it was.
pub fn step(earlier: Moment, later: Moment) -> Option<i64> {
    let passed = later - earlier;
    let signed = |time: Duration| i128::try_from(time.as_nanos()).unwrap_or(i128::MAX);
    let step = signed(later.wall()) - signed(earlier.wall()) - signed(passed);
    let allowed = SLACK + passed / SLEW;
    (step.unsigned_abs() > allowed.as_nanos())
        .then(|| i64::try_from(step).unwrap_or(if step < 0 { i64::MIN } else { i64::MAX }))
}

#[cfg(test)]
mod tests {
    use super::{Stamps, step};
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

    fn stamps() -> Stamps {
        Stamps { sent: same(0), left: Some(same(10)), came: same(410), stamped: true, read: same(450) }
    }

    #[test]
    fn kernel_stamps_leave_out_what_this_host_added() {
        let trip = stamps().trip();
        assert_eq!(trip.rtt, Duration::from_micros(400));
        assert_eq!(trip.host, Some(Duration::from_micros(50)));
        assert!(!trip.stepped);
    }

    #[test]
    fn without_a_send_stamp_our_own_reading_counts() {
        let trip = Stamps { left: None, ..stamps() }.trip();
        assert_eq!((trip.rtt, trip.host), (Duration::from_micros(410), None));
    }

    #[test]
    fn a_step_of_an_hour_flags_the_probe_and_does_not_bend_it() {
        for wall in [450 + HOUR, 450] {
            let sent = if wall > HOUR { at(0, 0) } else { at(0, HOUR) };
            let trip = Stamps { sent, read: at(450, wall), ..stamps() }.trip();
            assert!(trip.stepped);
            assert_eq!(trip.rtt, Duration::from_micros(450));
        }
    }

    #[test]
    fn a_stamp_outside_our_own_readings_is_not_believed() {
        let early = Stamps { came: same(5), ..stamps() }.trip();
        assert_eq!(early.host, None, "the reply cannot come before the probe has left");
        let late = Stamps { came: same(9_000), ..stamps() }.trip();
        assert_eq!(late.rtt, Duration::from_micros(440));
    }

    #[test]
    fn slewing_is_no_step_and_a_millisecond_more_is() {
        let ten_seconds = 10_000_000;
        let slewed = at(ten_seconds, ten_seconds + 6_000);
        assert_eq!(step(same(0), slewed), None);
        let stepped = at(ten_seconds, ten_seconds + 6_001);
        assert_eq!(step(same(0), stepped), Some(6_001_000));
        assert_eq!(step(at(0, HOUR), same(0)), Some(-3_600_000_000_000));
    }
}
