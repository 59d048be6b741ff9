//! One-way loss and delay variation, measured with STAMP. Splits loss and delay into up (forward, to the reflector)
//! and down (backward, to the sender). Two unsynchronised clocks cannot measure a one-way delay, but their offset is
//! the same in every sample, so the difference from the smallest sample is meaningful.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::ntp::TimestampFormat;
use super::stamp::Reflection;
use crate::stats::{DurationSummary, Ratio, SequenceStatus, SequenceWindow, Series};

/// Samples kept per direction; beyond that the oldest are dropped.
pub(super) const MAX_SAMPLES: usize = 100_000;

/// Tolerated lead of the reflector's sequence number over the probe's, due to reordering.
const REORDER_TOLERANCE: u64 = 64;

/// Tolerated difference between kernel and user-space timestamps.
const TIMESTAMP_TOLERANCE: Duration = Duration::from_micros(100);

/// Samples and sequence numbers of one session.
#[derive(Debug, Default)]
pub(super) struct OneWay {
    up: RelativeDelay,
    down: RelativeDelay,
    reflector_delay: Series,
    /// Highest sequence number of the reflector plus one: a lower bound of the replies it sent.
    reflector_sent: u64,
    /// Sequence number of the probe whose reply had the highest reflector number.
    last_reflected: u64,
    /// Replies received, without duplicates.
    replies_received: u64,
    /// Replies to further copies of a probe that was duplicated in the forward direction.
    duplicated_forward: u64,
    window: SequenceWindow,
}

/// One-way statistics of both directions.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize)]
pub(crate) struct OneWayStatistics {
    pub lost_up: u64,
    /// Replies lost in the backward direction.
    pub lost_down: u64,
    /// Probes lost after the last reply, in an unknown direction.
    pub lost_somewhere: u64,
    /// Ratio of `lost_up` to the probes up to the last answered one.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub loss_up: Option<f64>,
    /// Ratio of `lost_down` to the probes that reached the reflector.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub loss_down: Option<f64>,
    /// Turnaround time of the reflector (T3 − T2).
    pub server: Option<DurationSummary>,
    /// Forward delay above its minimum.
    pub up_above_min: Option<DurationSummary>,
    /// Backward delay above its minimum.
    pub down_above_min: Option<DurationSummary>,
}

impl OneWay {
    /// Records a reply to probe `seq` (counted from 1), with the times since 1970 of sending and arrival.
    /// Returns the turnaround time of the reflector, if its timestamps are plausible.
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
        // One corrupt timestamp could become the minimum and shift every other sample. The turnaround cannot
        // exceed the round trip; the rates of two clocks differ by less than 0.1 %.
        let round_trip = arrived.saturating_sub(sent);
        if held > round_trip + round_trip / 1_000 + TIMESTAMP_TOLERANCE {
            return None;
        }
        self.up.push(difference(received, sent));
        self.down.push(difference(arrived, returned));
        self.reflector_delay.push(held);
        Some(held)
    }

    fn count_reply(&mut self, seq: u64, reflector_seq: u32, is_first: bool) {
        let number = u64::from(reflector_seq);
        // A reflector cannot have answered more probes than were sent or duplicated by the network.
        if number > seq + self.duplicated_forward + REORDER_TOLERANCE {
            return;
        }
        if number >= self.reflector_sent {
            self.reflector_sent = number + 1;
            self.last_reflected = seq;
        }
        if self.window.record(number) == SequenceStatus::New {
            self.replies_received += 1;
            self.duplicated_forward += u64::from(!is_first);
        }
    }

    /// Statistics of a session in which `lost` of the `decided` probes got no reply.
    pub(super) fn statistics(&self, decided: u64, lost: u64) -> OneWayStatistics {
        let arrived = self.reflector_sent.saturating_sub(self.duplicated_forward);
        // Bounded by the total loss, so that a forged sequence number cannot exceed it.
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

/// Differences between two clocks; only the excess over the smallest difference is meaningful.
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

/// `later − earlier` in nanoseconds; may be negative, since the times come from two clocks.
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

    /// A reflection with a clock one hour behind and a turnaround of 1 ms.
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

    /// A session with these replies, as (probe, reflector's sequence number).
    fn session(replies: &[(u64, u32)]) -> OneWay {
        let mut one_way = OneWay::default();
        let mut last = 0;
        for (seq, number) in replies {
            let up = Duration::from_millis(10 + seq % 2);
            one_way.record_reply(*seq, &reflection(*number, up), WALL, WALL + 2 * up, *seq != last);
            last = *seq;
        }
        one_way
    }

    #[test]
    fn the_reflectors_own_numbers_split_the_loss() {
        // 1 was answered, 2 was lost on the way up, the reply to 3 on the way down, 5 on either.
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
    fn a_corrupt_sequence_number_neither_hides_nor_adds_loss() {
        let mut one_way = session(&[(1, 0)]);
        one_way.record_reply(2, &reflection(1 << 20, Duration::ZERO), WALL, WALL, true);
        one_way.record_reply(4, &reflection(2, Duration::ZERO), WALL, WALL, true);
        let ways = one_way.statistics(4, 1);
        assert_eq!((ways.lost_up, ways.lost_down, ways.loss_up), (1, 0, Some(0.25)));
    }

    #[test]
    fn a_corrupt_timestamp_changes_no_other_sample() {
        let mut one_way = session(&[(1, 0), (2, 1)]);
        let intact = reflection(2, Duration::from_millis(10));
        for bit in 33..64 {
            let corrupt = Reflection { received: intact.received ^ 1 << bit, ..intact };
            let arrived = WALL + Duration::from_millis(21);
            assert_eq!(one_way.record_reply(3, &corrupt, WALL, arrived, true), None, "bit {bit}");
        }
        assert_eq!(one_way.statistics(3, 0).up_above_min.expect("two samples").max, Duration::from_millis(1));
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
        let mut one_way = OneWay::default();
        for (timestamp, received) in [(0, u64::MAX), (u64::MAX, 0), (0, 0)] {
            let forged = Reflection { seq: u32::MAX, timestamp, received, ..reflection(0, WALL) };
            one_way.record_reply(1, &forged, WALL, WALL, true);
        }
        let ways = one_way.statistics(2, 2);
        assert_eq!(ways.lost_up + ways.lost_down + ways.lost_somewhere, 2);
    }

    #[test]
    fn the_oldest_samples_are_dropped_beyond_the_limit() {
        let mut delays = RelativeDelay::default();
        delays.push(-1_000);
        (1..MAX_SAMPLES).for_each(|_| delays.push(5));
        assert_eq!(delays.summary().expect("many").max, Duration::from_nanos(1_005));
        delays.push(6);
        assert_eq!(delays.samples.len(), MAX_SAMPLES);
        assert_eq!(delays.summary().expect("many").max, Duration::from_nanos(1));
    }
}
