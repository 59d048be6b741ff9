//! What STAMP says about each way by itself.
//!
//! Owns the split of loss and delay into up (towards the reflector) and down (back). Two clocks
//! that were never set by one another cannot tell how long one way takes, but whatever their
//! offset is, it is in every sample alike: what each sample has above the smallest is real.

use std::time::Duration;

use serde::Serialize;

use super::ntp::TimestampFormat;
use super::stamp::Reflection;
use crate::stats::{DurationSummary, Ratio, SequenceStatus, SequenceWindow, Series};

/// How many samples of each way are kept; beyond that the oldest go.
pub(super) const MAX_SAMPLES: usize = 100_000;

/// How many answers a reflector may be ahead of the probe it answers, reordered as they may be.
const REORDER_TOLERANCE: u64 = 64;

/// What stamps of two kinds may differ by.
const TIMESTAMP_TOLERANCE: Duration = Duration::from_micros(100);

/// Both ways of one session.
#[derive(Debug, Default)]
pub(super) struct OneWay {
    up: RelativeDelay,
    down: RelativeDelay,
    reflector_delay: Series,
    /// One more than the reflector's highest number seen: how many answers it has sent at least.
    reflector_sent: u64,
    /// The probe that this highest number answered.
    last_reflected: u64,
    /// How many of its answers came, each counted once.
    replies_received: u64,
    /// How many of them were a further answer to a probe that was doubled on the way up.
    duplicated_up: u64,
    window: SequenceWindow,
}

/// The figures of both ways.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct OneWayStatistics {
    /// Probes lost on the way up.
    pub lost_up: u64,
    /// Answers lost on the way down.
    pub lost_down: u64,
    /// Lost after the last answer, where nobody can say which way.
    pub lost_somewhere: u64,
    /// `lost_up` of all probes up to the last that was answered.
    pub loss_up: Option<f64>,
    /// `lost_down` of those that came up.
    pub loss_down: Option<f64>,
    /// How long the reflector held each probe (T3 − T2).
    pub server: Option<DurationSummary>,
    /// The way up, above its minimum.
    pub up_above_min: Option<DurationSummary>,
    /// The way down, above its minimum.
    pub down_above_min: Option<DurationSummary>,
}

impl OneWay {
    /// Notes an answer to probe `seq` (counted from 1) that was sent and came at these times
    /// since 1970. Returns how long the reflector held it, if its stamps make sense.
    pub(super) fn record_reply(
        &mut self,
        seq: u64,
        reflection: &Reflection,
        sent: Duration,
        arrived: Duration,
        is_first: bool,
    ) -> Option<Duration> {
        self.count_reply(seq, reflection.seq, is_first);
        if !is_first {
            return None;
        }
        let format: TimestampFormat = reflection.estimate.format();
        let received = format.decode(reflection.received, sent)?;
        let returned = format.decode(reflection.timestamp, sent)?;
        let held = returned.checked_sub(received)?;
        // A single damaged stamp would be the minimum of a way, and bend every other sample. It can
        // not have been held for longer than it was away; two clocks count a second alike to 0.1 %.
        let away = arrived.saturating_sub(sent);
        if held > away + away / 1_000 + TIMESTAMP_TOLERANCE {
            return None;
        }
        self.up.push(difference(received, sent));
        self.down.push(difference(arrived, returned));
        self.reflector_delay.push(held);
        Some(held)
    }

    fn count_reply(&mut self, seq: u64, reflector_seq: u32, is_first: bool) {
        let number = u64::from(reflector_seq);
        // A reflector cannot have answered more than was asked and doubled on the way.
        if number > seq + self.duplicated_up + REORDER_TOLERANCE {
            return;
        }
        if number >= self.reflector_sent {
            self.reflector_sent = number + 1;
            self.last_reflected = seq;
        }
        if self.window.record(number) == SequenceStatus::New {
            self.replies_received += 1;
            self.duplicated_up += u64::from(!is_first);
        }
    }

    /// The figures, where `lost` of the `decided` probes of the session never came back.
    pub(super) fn statistics(&self, decided: u64, lost: u64) -> OneWayStatistics {
        let arrived = self.reflector_sent.saturating_sub(self.duplicated_up);
        // Bounded by what was lost at all: a forged number must not make more of it.
        let through = self.last_reflected.min(decided);
        let lost_up = self.last_reflected.saturating_sub(arrived).min(lost);
        let lost_down = self.reflector_sent.saturating_sub(self.replies_received).min(lost - lost_up);
        OneWayStatistics {
            lost_up,
            lost_down,
            lost_somewhere: lost - lost_up - lost_down,
            loss_up: Ratio::new(lost_up, through).value(),
            loss_down: Ratio::new(lost_down, through.saturating_sub(lost_up)).value(),
            server: self.reflector_delay.summary(),
            up_above_min: self.up.summary(),
            down_above_min: self.down.summary(),
        }
    }
}

/// Differences of two clocks, of which only what is above the smallest means something.
#[derive(Debug, Default)]
struct RelativeDelay {
    samples: Vec<i64>,
    oldest: usize,
}

impl RelativeDelay {
    fn push(&mut self, sample: i64) {
        if self.samples.len() < MAX_SAMPLES {
            self.samples.push(sample);
        } else if let Some(oldest) = self.samples.get_mut(self.oldest) {
            *oldest = sample;
            self.oldest = (self.oldest + 1) % MAX_SAMPLES;
        }
    }

    fn summary(&self) -> Option<DurationSummary> {
        let min = *self.samples.iter().min()?;
        let mut series = Series::default();
        for sample in &self.samples {
            series.push(Duration::from_nanos(sample.abs_diff(min)));
        }
        series.summary()
    }
}

/// `later − earlier` in nanoseconds, which may well be negative between two clocks.
fn difference(later: Duration, earlier: Duration) -> i64 {
    let nanos = |time: Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
    match later.checked_sub(earlier) {
        Some(after) => nanos(after),
        None => -nanos(earlier.saturating_sub(later)),
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_SAMPLES, OneWay, RelativeDelay};
    use crate::probe::ntp::{ErrorEstimate, TimestampFormat};
    use crate::probe::stamp::{Probe, Reflection};
    use std::time::Duration;

    const WALL: Duration = Duration::from_secs(1_764_000_000);

    /// The reflector's clock is an hour behind, and it holds each probe for a millisecond.
    fn reflection(number: u32, up: Duration) -> Reflection {
        let received = Duration::from_secs(1_763_996_400) + up;
        Reflection {
            seq: number,
            timestamp: TimestampFormat::Ntp.encode(received + Duration::from_millis(1)),
            estimate: ErrorEstimate::UNKNOWN,
            received: TimestampFormat::Ntp.encode(received),
            ttl: 255,
            probe: Probe { seq: 0, timestamp: 0, estimate: ErrorEstimate::UNKNOWN, ssid: 0 },
        }
    }

    /// Answers as (probe, reflector's number).
    fn session(answers: &[(u64, u32)]) -> OneWay {
        let mut ways = OneWay::default();
        let mut last = 0;
        for (seq, number) in answers {
            let up = Duration::from_millis(10 + seq % 2);
            ways.record_reply(*seq, &reflection(*number, up), WALL, WALL + 2 * up, *seq != last);
            last = *seq;
        }
        ways
    }

    #[test]
    fn the_reflectors_own_numbers_split_the_loss() {
        // 1 came back, 2 was lost on the way up, the answer to 3 on the way down, 5 somewhere.
        let ways = session(&[(1, 0), (4, 2)]).statistics(5, 3);
        assert_eq!((ways.lost_up, ways.lost_down, ways.lost_somewhere), (1, 1, 1));
        assert_eq!((ways.loss_up, ways.loss_down), (Some(0.25), Some(1.0 / 3.0)));
    }

    #[test]
    fn without_replies_the_direction_of_a_loss_is_unknown() {
        let ways = OneWay::default().statistics(5, 5);
        assert_eq!((ways.lost_somewhere, ways.loss_up, ways.loss_down), (5, None, None));
    }

    #[test]
    fn a_damaged_number_hides_no_loss_and_makes_none() {
        let mut ways = session(&[(1, 0)]);
        ways.record_reply(2, &reflection(1 << 20, Duration::ZERO), WALL, WALL, true);
        ways.record_reply(4, &reflection(2, Duration::ZERO), WALL, WALL, true);
        let ways = ways.statistics(4, 1);
        assert_eq!((ways.lost_up, ways.lost_down, ways.loss_up), (1, 0, Some(0.25)));
    }

    #[test]
    fn a_corrupt_timestamp_changes_no_other_sample() {
        let mut ways = session(&[(1, 0), (2, 1)]);
        let whole = reflection(2, Duration::from_millis(10));
        for bit in 33..64 {
            let damaged = Reflection { received: whole.received ^ 1 << bit, ..whole };
            let came = WALL + Duration::from_millis(21);
            assert_eq!(ways.record_reply(3, &damaged, WALL, came, true), None, "bit {bit}");
        }
        assert_eq!(ways.statistics(3, 0).up_above_min.expect("two samples").max, Duration::from_millis(1));
    }

    #[test]
    fn a_probe_duplicated_on_the_way_up_does_not_hide_a_loss() {
        let ways = session(&[(1, 0), (1, 1), (3, 2)]).statistics(3, 1);
        assert_eq!((ways.lost_up, ways.lost_down, ways.lost_somewhere), (1, 0, 0));
    }

    #[test]
    fn an_offset_between_the_clocks_does_not_matter_above_the_minimum() {
        let ways = session(&[(1, 0), (2, 1), (3, 2), (4, 3)]).statistics(4, 0);
        let up = ways.up_above_min.expect("four samples");
        assert_eq!((up.min, up.max), (Duration::ZERO, Duration::from_millis(1)));
        assert_eq!(ways.server.expect("four samples").p50, Duration::from_millis(1));
    }

    #[test]
    fn forged_sequence_numbers_and_timestamps_are_tolerated() {
        let mut ways = OneWay::default();
        for (timestamp, received) in [(0, u64::MAX), (u64::MAX, 0), (0, 0)] {
            let forged = Reflection { seq: u32::MAX, timestamp, received, ..reflection(0, WALL) };
            ways.record_reply(1, &forged, WALL, WALL, true);
        }
        let ways = ways.statistics(2, 2);
        assert_eq!(ways.lost_up + ways.lost_down + ways.lost_somewhere, 2);
    }

    #[test]
    fn samples_are_kept_up_to_the_limit_and_then_the_oldest_go() {
        let mut above = RelativeDelay::default();
        above.push(-1_000);
        (1..MAX_SAMPLES).for_each(|_| above.push(5));
        assert_eq!(above.summary().expect("many").max, Duration::from_nanos(1_005));
        above.push(6);
        assert_eq!(above.samples.len(), MAX_SAMPLES);
        assert_eq!(above.summary().expect("many").max, Duration::from_nanos(1));
    }
}
