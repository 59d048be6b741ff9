//! Series of durations and its summary.
//!
//! Owns minimum, mean, standard deviation and percentiles. Percentiles are nearest-rank, ⌈p·n⌉, so each is a
//! value that was observed; that needs the samples themselves, of which up to [`MAX_EXACT_SAMPLES`] are kept.
//! Beyond that an HDR histogram with three significant digits takes over, and the summary says so. Mean and
//! deviation are running moments (Welford), exact in both cases.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use schemars::JsonSchema;
use serde::Serialize;

use crate::time::{HumanDuration, Nanoseconds, OptionalNanoseconds, nanoseconds};

/// Maximum number of samples that are kept: 8 MB.
const MAX_EXACT_SAMPLES: usize = 1_000_000;

/// Series of durations that can be summarised at any time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Series {
    samples: Samples,
    count: u64,
    mean: f64,
    /// Sum of squared distances from the mean.
    squared_deviations: f64,
    min: u64,
    max: u64,
}

#[derive(Clone, Debug)]
enum Samples {
    Exact(Vec<u64>),
    Histogram(Box<Histogram<u64>>),
}

impl Default for Samples {
    fn default() -> Self {
        Self::Exact(Vec::new())
    }
}

impl Series {
    #[expect(clippy::cast_precision_loss, reason = "2^53 ns is a hundred days")]
    pub(crate) fn push(&mut self, duration: Duration) {
        let sample = nanoseconds(duration);
        self.samples.push(sample);
        self.min = if self.count == 0 { sample } else { self.min.min(sample) };
        self.max = self.max.max(sample);
        self.count += 1;
        let distance = sample as f64 - self.mean;
        self.mean += distance / self.count as f64;
        self.squared_deviations += distance * (sample as f64 - self.mean);
    }

    /// Adds all durations of another series, as if they had been pushed here (Chan et al., 1979).
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
    pub(crate) fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        self.min = if self.count == 0 { other.min } else { self.min.min(other.min) };
        self.max = self.max.max(other.max);
        let (here, there) = (self.count as f64, other.count as f64);
        let distance = other.mean - self.mean;
        self.count += other.count;
        self.mean += distance * there / (here + there);
        self.squared_deviations += other.squared_deviations + distance * distance * here * there / (here + there);
        match &other.samples {
            Samples::Exact(samples) => samples.iter().for_each(|sample| self.samples.push(*sample)),
            Samples::Histogram(theirs) => {
                // Both resize automatically, so adding cannot run out of range.
                let _ = self.samples.histogram().add(&**theirs);
            }
        }
    }

    /// Returns the summary so far, or `None` if nothing was measured.
    pub(crate) fn summary(&self) -> Option<DurationSummary> {
        if self.count == 0 {
            return None;
        }
        let [p50, p90, p95, p99] = self.samples.percentiles([0.50, 0.90, 0.95, 0.99]);
        Some(DurationSummary {
            count: self.count,
            min: Duration::from_nanos(self.min),
            mean: nanos(self.mean),
            p50,
            p90,
            p95,
            p99,
            max: Duration::from_nanos(self.max),
            stddev: self.stddev(),
            percentiles: match self.samples {
                Samples::Exact(_) => PercentileMethod::Exact,
                Samples::Histogram(_) => PercentileMethod::Hdr,
            },
        })
    }

    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
    fn stddev(&self) -> Option<Duration> {
        (self.count > 1).then(|| nanos((self.squared_deviations / (self.count - 1) as f64).max(0.0).sqrt()))
    }
}

impl Samples {
    fn push(&mut self, sample: u64) {
        match self {
            Self::Exact(samples) if samples.len() < MAX_EXACT_SAMPLES => samples.push(sample),
            _ => record(self.histogram(), sample),
        }
    }

    /// Returns the histogram, converting exact samples to it once.
    fn histogram(&mut self) -> &mut Histogram<u64> {
        if let Self::Exact(samples) = self {
            let mut histogram = Histogram::new(3).expect("three digits are within HDR's range");
            samples.iter().for_each(|sample| record(&mut histogram, *sample));
            *self = Self::Histogram(Box::new(histogram));
        }
        match self {
            Self::Histogram(histogram) => histogram,
            Self::Exact(_) => unreachable!("replaced above"),
        }
    }

    fn percentiles<const N: usize>(&self, wanted: [f64; N]) -> [Duration; N] {
        match self {
            Self::Exact(samples) => {
                let mut sorted = samples.clone();
                sorted.sort_unstable();
                wanted.map(|p| Duration::from_nanos(nearest_rank(&sorted, p)))
            }
            Self::Histogram(histogram) => wanted.map(|p| Duration::from_nanos(histogram.value_at_quantile(p))),
        }
    }
}

fn record(histogram: &mut Histogram<u64>, sample: u64) {
    histogram.record(sample).expect("a histogram made by `new` grows with its values");
}

/// Returns the ⌈p·n⌉-th smallest value; 0 for an empty series, which no caller passes.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "p is within 0…1 and n below a million"
)]
fn nearest_rank(sorted: &[u64], p: f64) -> u64 {
    // Subtracts far less than half a rank: 0.07 · 100 is a little more than 7 in binary.
    let rank = (p * sorted.len() as f64 - 1e-6).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the mean or deviation of u64 nanoseconds, never negative"
)]
fn nanos(value: f64) -> Duration {
    Duration::from_nanos(value.round() as u64)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize)]
pub(crate) struct DurationSummary {
    pub count: u64,
    #[serde(rename = "min_ns", with = "Nanoseconds")]
    pub min: Duration,
    /// Arithmetic mean.
    #[serde(rename = "mean_ns", with = "Nanoseconds")]
    pub mean: Duration,
    #[serde(rename = "p50_ns", with = "Nanoseconds")]
    pub p50: Duration,
    #[serde(rename = "p90_ns", with = "Nanoseconds")]
    pub p90: Duration,
    #[serde(rename = "p95_ns", with = "Nanoseconds")]
    pub p95: Duration,
    #[serde(rename = "p99_ns", with = "Nanoseconds")]
    pub p99: Duration,
    #[serde(rename = "max_ns", with = "Nanoseconds")]
    pub max: Duration,
    /// Sample standard deviation (n−1); `None` for a single duration.
    #[serde(rename = "stddev_ns", with = "OptionalNanoseconds")]
    pub stddev: Option<Duration>,
    pub percentiles: PercentileMethod,
}

/// Source of the percentiles of a summary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PercentileMethod {
    /// Nearest rank over all samples.
    Exact,
    /// HDR histogram with three significant digits.
    Hdr,
}

/// Formats `min/mean/p50/p90/p99/max/stddev = …` in milliseconds, as in the last line of ping.
impl fmt::Display for DurationSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("min/mean/p50/p90/p99/max/stddev = ")?;
        for duration in [self.min, self.mean, self.p50, self.p90, self.p99, self.max] {
            write!(f, "{}/", Millis(duration))?;
        }
        match self.stddev {
            Some(stddev) => write!(f, "{} ms", Millis(stddev)),
            None => f.write_str("- ms"),
        }
    }
}

/// Duration in milliseconds without its unit, for lists that name the unit once.
struct Millis(Duration);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < Duration::from_secs(1) {
            let shown = HumanDuration(self.0).to_string();
            f.write_str(shown.trim_end_matches(" ms"))
        } else {
            write!(f, "{:.0}", self.0.as_secs_f64() * 1e3)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{DurationSummary, MAX_EXACT_SAMPLES, PercentileMethod, Series};
    use std::time::Duration;

    fn series(values: impl IntoIterator<Item = u64>) -> Series {
        let mut series = Series::default();
        values.into_iter().for_each(|value| series.push(Duration::from_nanos(value)));
        series
    }

    fn summary(values: impl IntoIterator<Item = u64>) -> DurationSummary {
        series(values).summary().expect("there is data")
    }

    #[test]
    fn percentiles_are_observed_values() {
        let summary = summary([15, 20, 35, 40, 50]);
        assert_eq!(summary.p50, Duration::from_nanos(35));
        assert_eq!(summary.p90, Duration::from_nanos(50));
        assert_eq!((summary.min, summary.max), (Duration::from_nanos(15), Duration::from_nanos(50)));
        assert_eq!(summary.percentiles, PercentileMethod::Exact);
    }

    #[test]
    fn the_deviation_divides_by_one_less_than_the_count() {
        let summary = summary([2, 4, 4, 4, 5, 5, 7, 9]);
        assert_eq!(summary.mean, Duration::from_nanos(5));
        // √(32/7) = 2.138
        assert_eq!(summary.stddev, Some(Duration::from_nanos(2)));
    }

    #[test]
    fn an_empty_series_has_no_summary_and_one_sample_no_deviation() {
        assert_eq!(Series::default().summary(), None);
        assert_eq!(summary([7]).stddev, None);
    }

    #[test]
    fn merging_equals_pushing_everything_into_one() {
        let mut left = series(1..=40);
        left.merge(&series(41..=100));
        left.merge(&Series::default());
        assert_eq!(left.summary(), series(1..=100).summary());
        let mut empty = Series::default();
        empty.merge(&series(1..=100));
        assert_eq!(empty.summary(), series(1..=100).summary());
    }

    #[test]
    fn a_million_samples_are_exact_and_one_more_is_a_histogram() {
        let full = MAX_EXACT_SAMPLES as u64;
        assert_eq!(summary(1..=full).percentiles, PercentileMethod::Exact);
        let beyond = summary(1..=full + 1);
        assert_eq!(beyond.percentiles, PercentileMethod::Hdr);
        let error = beyond.p50.as_nanos().abs_diff(u128::from(full / 2));
        assert!(error <= u128::from(full / 2) / 1000, "three digits: off by {error}");
        assert_eq!(beyond.max, Duration::from_nanos(full + 1));
    }

    #[test]
    fn the_text_names_its_unit_once() {
        assert_eq!(
            summary([1_000_000, 3_000_000]).to_string(),
            "min/mean/p50/p90/p99/max/stddev = 1.00/2.00/1.00/3.00/3.00/3.00/1.41 ms"
        );
    }
}
