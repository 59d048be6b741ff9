//! One-way delay above its minimum, measured with two unsynchronised clocks.
//!
//! Time of arrival minus time of sending is the delay plus an unknown offset of the clocks, which drifts:
//! 50 ppm move it by 15 ms in five minutes. The baseline below all samples is the edge of their lower convex
//! hull at the middle (Moon, Skelly and Towsley, "Estimation and removal of clock skew from network delay
//! measurements", INFOCOM 1999). Its slope is the clock skew, and the distance of a sample from it is real
//! delay. The absolute delay cannot be measured.
//!
//! ```text
//!   arrival − sent │    ·        ·  ·
//!                  │  ·    · ·  ·    ·  __·──────  baseline
//!                  │___·──────·────────
//!                  └──────────────────────────── arrival
//! ```

use std::time::Duration;

use crate::stats::JitterEstimator;

/// Maximum number of hull points kept.
const MAX_HULL_POINTS: usize = 8;
/// Maximum age of a hull point: the rate of an oscillator changes with its temperature.
const MAX_POINT_AGE_SECONDS: f64 = 3_600.0;
/// Minimum time span for a slope; over a shorter one it is more noise than skew.
const MIN_SLOPE_SPAN_SECONDS: f64 = 60.0;
/// Number of newest delays kept for the chart on the status page.
const RECENT_LIMIT: usize = 32;
/// Distance below the baseline at which a sample means that the sender's clock was set forward.
const FORWARD_STEP_SECONDS: f64 = 0.1;
/// Number of consecutive beats, and their delay above the baseline in seconds, from which the sender's clock counts
/// as set back.
const BACKWARD_STEP: (u8, f64) = (3, 2.0);

/// Delays of one incarnation of a sender.
#[derive(Clone, Debug, Default)]
pub(crate) struct DelayEstimator {
    /// First arrival and offset, subtracted from every sample to keep the numbers small.
    base: Option<(Duration, i64)>,
    hull_points: [Point; MAX_HULL_POINTS],
    hull_len: u8,
    slow_streak: u8,
    jitter: JitterEstimator,
    /// Ring of the newest delays, encoded by [`pack`].
    recent: [u16; RECENT_LIMIT],
    next_recent: u8,
    sample_count: u64,
}

/// Sample in seconds: time of arrival, and arrival minus sending, both relative to the first beat.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Point {
    arrival: f64,
    offset: f64,
}

/// Result of one sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DelaySample {
    AboveMinimum(Duration),
    /// Nanoseconds by which the sender's clock was set; the estimate starts over.
    ClockStep(i64),
}

impl DelayEstimator {
    /// Adds a beat received at `received_at` by our monotonic clock and sent at `sent_at` by the sender's.
    pub(crate) fn push(&mut self, received_at: Duration, sent_at: Duration) -> DelaySample {
        let difference = signed_nanos(received_at).saturating_sub(signed_nanos(sent_at));
        let (start, base) = *self.base.get_or_insert((received_at, difference));
        let point = Point {
            arrival: received_at.saturating_sub(start).as_secs_f64(),
            offset: nanos_to_seconds(difference.saturating_sub(base)),
        };
        if let Some(step) = self.detect_step(point) {
            // Jitter is a difference of two delays, which is meaningless across a step.
            *self = Self {
                base: Some((received_at, difference)),
                recent: self.recent,
                next_recent: self.next_recent,
                sample_count: self.sample_count,
                ..Self::default()
            };
            self.push(received_at, sent_at);
            return DelaySample::ClockStep(step);
        }
        self.add_to_hull(point);
        // An offset of 2^62 ns keeps it positive; only differences count.
        self.jitter.push(Duration::from_nanos(difference.saturating_add(1 << 62).unsigned_abs()));
        let above = Duration::from_secs_f64((point.offset - self.baseline(point.arrival)).clamp(0.0, 1e9));
        if let Some(slot) = self.recent.get_mut(usize::from(self.next_recent)) {
            *slot = pack(above);
        }
        self.next_recent = if usize::from(self.next_recent) + 1 == RECENT_LIMIT { 0 } else { self.next_recent + 1 };
        self.sample_count += 1;
        DelaySample::AboveMinimum(above)
    }

    /// Returns the nanoseconds by which the sender's clock was set, if it was.
    fn detect_step(&mut self, point: Point) -> Option<i64> {
        if self.hull_len == 0 {
            return None;
        }
        let above = point.offset - self.baseline(point.arrival);
        let (beats, threshold) = BACKWARD_STEP;
        self.slow_streak = if above > threshold { self.slow_streak + 1 } else { 0 };
        let stepped = above < -FORWARD_STEP_SECONDS || self.slow_streak >= beats;
        // A sender clock that was set forward makes delays appear smaller.
        stepped.then(|| seconds_to_nanos(-above))
    }

    fn add_to_hull(&mut self, point: Point) {
        while self.hull_len > 1
            && self.first_hull_point().is_some_and(|first| point.arrival - first.arrival > MAX_POINT_AGE_SECONDS)
        {
            self.hull_points.rotate_left(1);
            self.hull_len -= 1;
        }
        while let [.., a, b] = *self.hull() {
            if (b.offset - a.offset) * (point.arrival - a.arrival) < (point.offset - a.offset) * (b.arrival - a.arrival)
            {
                break;
            }
            self.hull_len -= 1;
        }
        if usize::from(self.hull_len) == MAX_HULL_POINTS {
            self.remove_flattest_point();
        }
        let end = usize::from(self.hull_len);
        if let Some(slot) = self.hull_points.get_mut(end) {
            *slot = point;
            self.hull_len += 1;
        }
    }

    /// Removes the point that bends the hull least, so that the baseline rises least.
    fn remove_flattest_point(&mut self) {
        let area = |points: &[Point]| match points {
            [a, b, c] => ((b.arrival - a.arrival) * (c.offset - a.offset)
                - (c.arrival - a.arrival) * (b.offset - a.offset))
                .abs(),
            _ => f64::MAX,
        };
        let bends = self.hull().windows(3).map(area).enumerate();
        let Some((flattest, _)) = bends.min_by(|(_, one), (_, other)| one.total_cmp(other)) else { return };
        if let Some(tail) = self.hull_points.get_mut(flattest + 1..) {
            tail.rotate_left(1);
        }
        self.hull_len -= 1;
    }

    fn hull(&self) -> &[Point] {
        self.hull_points.get(..usize::from(self.hull_len)).unwrap_or_default()
    }

    fn first_hull_point(&self) -> Option<Point> {
        self.hull().first().copied()
    }

    /// Returns the edge of the hull below the middle of the samples.
    fn middle_edge(&self) -> Option<(Point, Point)> {
        let (first, last) = (self.first_hull_point()?, *self.hull().last()?);
        let middle = f64::midpoint(first.arrival, last.arrival);
        let edge = self.hull().windows(2).find_map(|pair| match pair {
            [a, b] if b.arrival >= middle => Some((*a, *b)),
            _ => None,
        });
        Some(edge.unwrap_or((first, last)))
    }

    fn slope(&self) -> Option<f64> {
        let (first, last) = (self.first_hull_point()?, self.hull().last()?);
        let (a, b) = self.middle_edge()?;
        (last.arrival - first.arrival >= MIN_SLOPE_SPAN_SECONDS && b.arrival > a.arrival)
            .then(|| (b.offset - a.offset) / (b.arrival - a.arrival))
    }

    /// Returns the smallest possible delay, plus the clock offset, at that time of arrival.
    fn baseline(&self, arrival: f64) -> f64 {
        match (self.slope(), self.middle_edge()) {
            (Some(slope), Some((a, _))) => a.offset + slope * (arrival - a.arrival),
            _ => self.hull().iter().map(|point| point.offset).fold(f64::MAX, f64::min),
        }
    }

    /// Returns the rate of our clock relative to the sender's in parts per million, once it can be measured.
    pub(crate) fn skew_ppm(&self) -> Option<f64> {
        self.slope().map(|slope| slope * 1e6)
    }

    /// Returns the interarrival jitter (RFC 3550 §6.4.1).
    pub(crate) fn jitter(&self) -> Option<Duration> {
        self.jitter.value()
    }

    /// Returns the newest delays above the minimum, oldest first.
    pub(crate) fn recent(&self) -> impl Iterator<Item = Duration> {
        let count = usize::try_from(self.sample_count).unwrap_or(usize::MAX).min(RECENT_LIMIT);
        let start = (usize::from(self.next_recent) + RECENT_LIMIT - count) % RECENT_LIMIT;
        self.recent.iter().cycle().skip(start).take(count).copied().map(unpack)
    }

    pub(crate) fn sample_count(&self) -> u64 {
        self.sample_count
    }

    pub(crate) fn last(&self) -> Option<Duration> {
        self.recent().last()
    }
}

/// Flag of a delay in tenths of a second, so that 16 bits hold both 0.1 ms and almost an hour.
const COARSE_FLAG: u16 = 0x8000;

/// Encodes a delay in 16 bits: up to 3.3 s in tenths of a millisecond, beyond that in tenths of a second.
fn pack(delay: Duration) -> u16 {
    let fine = u16::try_from(delay.as_micros() / 100).ok().filter(|fine| *fine < COARSE_FLAG);
    let coarse = || COARSE_FLAG | u16::try_from(delay.as_millis() / 100).unwrap_or(u16::MAX).min(COARSE_FLAG - 1);
    fine.unwrap_or_else(coarse)
}

fn unpack(packed: u16) -> Duration {
    match packed.checked_sub(COARSE_FLAG) {
        Some(coarse) => Duration::from_millis(u64::from(coarse) * 100),
        None => Duration::from_micros(u64::from(packed) * 100),
    }
}

fn signed_nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "2^53 ns is a hundred days")]
fn nanos_to_seconds(nanos: i64) -> f64 {
    nanos as f64 / 1e9
}

#[expect(clippy::cast_possible_truncation, reason = "a cast of floats saturates")]
fn seconds_to_nanos(seconds: f64) -> i64 {
    (seconds * 1e9) as i64
}

#[cfg(test)]
mod tests {
    use super::{DelayEstimator, DelaySample, MAX_HULL_POINTS, RECENT_LIMIT, pack, unpack};
    use std::time::Duration;

    const HOUR: f64 = 3_600.0;

    #[test]
    fn a_packed_delay_keeps_its_precision_class() {
        for (delay, kept) in [(0, 0), (12_345, 12_300), (3_276_799, 3_276_700), (20_049_000, 20_000_000)] {
            assert_eq!(unpack(pack(Duration::from_micros(delay))), Duration::from_micros(kept));
        }
        assert_eq!(unpack(pack(Duration::MAX)), Duration::from_millis(3_276_700));
    }

    /// Simulates beats sent every second by a clock that is an hour behind and `ppm` slower than ours.
    fn beats(count: u32, ppm: f64, delay: impl Fn(u32) -> f64) -> (DelayEstimator, Vec<f64>) {
        let mut delays = DelayEstimator::default();
        let above = (0..count).map(|number| {
            let sent = f64::from(number);
            let received_at = Duration::from_secs_f64(9_000.0 + sent + delay(number));
            match delays.push(received_at, Duration::from_secs_f64(9_000.0 - HOUR + sent * (1.0 - ppm / 1e6))) {
                DelaySample::AboveMinimum(above) => above.as_secs_f64(),
                DelaySample::ClockStep(step) => panic!("stepped by {step}"),
            }
        });
        let above = above.collect();
        (delays, above)
    }

    /// Returns reproducible noise from 0 to 20 ms.
    fn noise(number: u32) -> f64 {
        f64::from(number.wrapping_mul(2_654_435_761) >> 8 & 0xFFFF) / 65_536.0 * 0.020
    }

    #[test]
    fn a_clock_offset_of_an_hour_does_not_change_the_delay() {
        let (_, above) = beats(200, 0.0, |number| if number % 2 == 0 { 0.010 } else { 0.013 });
        for pair in above[2..].chunks_exact(2) {
            assert!(pair[0] < 1e-5 && (pair[1] - 0.003).abs() < 1e-5, "{pair:?}");
        }
    }

    #[test]
    fn clock_drift_is_separated_from_delay() {
        for ppm in [-200.0, -50.0, 50.0, 200.0] {
            let (delays, above) = beats(3_000, ppm, noise);
            let skew = delays.skew_ppm().expect("an hour is enough");
            assert!((skew - ppm).abs() < 2.0, "{ppm}: {skew}");
            let worst = (2_000..3_000).map(|number| (above[number as usize] - noise(number)).abs()).fold(0.0, f64::max);
            assert!(worst < 0.002, "{ppm}: {worst}");
        }
    }

    #[test]
    fn the_hull_never_exceeds_its_limit() {
        // On a parabola every point belongs to the hull.
        let (delays, _) = beats(500, 0.0, |number| (f64::from(number) - 250.0).powi(2) / 1e6);
        assert_eq!(usize::from(delays.hull_len), MAX_HULL_POINTS);
    }

    #[test]
    fn a_clock_step_is_reported_and_later_delays_are_right() {
        let second = Duration::from_secs(1);
        for (step, beats_until_detected) in [(3_600, 1), (-3_600, 3)] {
            let (mut delays, _) = beats(100, 0.0, |_| 0.010);
            let mut steps = Vec::new();
            for number in 0..10_u32 {
                let sent = Duration::from_secs((9_100 - 3_600_i64 + step + i64::from(number)).unsigned_abs());
                let received_at = Duration::from_secs(9_100) + second * number + Duration::from_millis(10);
                if let DelaySample::ClockStep(by) = delays.push(received_at, sent) {
                    steps.push((number + 1, by / 1_000_000_000));
                }
            }
            assert_eq!(steps.len(), 1, "{step}: {steps:?}");
            assert_eq!(steps[0].0, beats_until_detected);
            assert!((steps[0].1 - step).abs() <= 1, "{steps:?}");
            assert!(delays.last().expect("many") < Duration::from_millis(1));
        }
    }

    #[test]
    fn the_newest_delays_are_kept_in_their_order() {
        let (delays, _) = beats(50, 0.0, |number| if number == 0 { 0.0 } else { f64::from(number) / 1e3 });
        let recent: Vec<_> = delays.recent().map(|delay| delay.as_millis()).collect();
        assert_eq!(recent.len(), RECENT_LIMIT);
        assert!(recent.is_sorted() && recent.last().is_some_and(|last| (5..=49).contains(last)), "{recent:?}");
        assert!(delays.jitter().is_some());
    }

    #[test]
    fn impossible_times_keep_the_skew_finite() {
        let mut delays = DelayEstimator::default();
        for (received_at, sent_at) in [(0, u64::MAX), (u64::MAX, 0), (1, 1), (u64::MAX, u64::MAX)] {
            delays.push(Duration::from_millis(received_at), Duration::from_millis(sent_at));
        }
        assert!(delays.skew_ppm().is_none_or(f64::is_finite));
    }
}
