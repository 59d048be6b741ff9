//! Delay of a datagram, with jitter.
//!
//! Owns the distributions of the jitter. Only integers and the four basic operations are used: logarithms and roots
//! of the C library differ in their last bit between platforms, and a seed must give the same results everywhere.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::random::{DecisionKind, SeededRandom};
use crate::failure::{Failure, FailureKind, Result};
use crate::time::nanoseconds;

/// Variation of the delays of a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Jitter {
    /// Maximum distance from the mean for uniform jitter, else one standard deviation.
    pub spread: Duration,
    pub distribution: Distribution,
}

/// Distribution of the jitter, always around the requested delay and never below zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Distribution {
    /// All values within the spread are equally likely.
    #[default]
    Uniform,
    /// Bell curve: the sum of twelve uniform draws, so it ends at six deviations.
    Normal,
    /// Many slightly early, few very late: Pareto with exponent 3, as in netem's table.
    Pareto,
}

impl Jitter {
    /// Returns the delay of a datagram on a path with this mean delay.
    pub(super) fn sample_delay(
        self,
        mean: Duration,
        random: SeededRandom,
        kind: DecisionKind,
        ordinal: u64,
    ) -> Duration {
        if self.spread.is_zero() {
            return mean;
        }
        let distance = match self.distribution {
            Distribution::Uniform => 2.0 * unit_interval(random.draw(kind, ordinal)) - 1.0,
            Distribution::Normal => normal(random, kind, ordinal),
            Distribution::Pareto => pareto(unit_interval(random.draw(kind, ordinal))),
        };
        deviate(mean, distance, self.spread)
    }
}

/// Returns `mean + distance · spread`, in whole nanoseconds and not below zero.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "half a nanosecond does not matter, and casts from float saturate"
)]
fn deviate(mean: Duration, distance: f64, spread: Duration) -> Duration {
    let shift = (distance * nanoseconds(spread) as f64).round();
    let shift = Duration::from_nanos(shift.abs() as u64);
    if distance < 0.0 { mean.saturating_sub(shift) } else { mean.saturating_add(shift) }
}

/// Converts a draw to a number from 0 up to, but not including, 1.
#[expect(clippy::cast_precision_loss, reason = "53 bits fit exactly")]
fn unit_interval(draw: u64) -> f64 {
    (draw >> 11) as f64 / (1_u64 << 53) as f64
}

/// Returns a normal variate with mean 0 and variance 1.
fn normal(random: SeededRandom, kind: DecisionKind, ordinal: u64) -> f64 {
    let draws = (0..3).flat_map(|index| random.block(kind.nth_draw(index), ordinal));
    draws.map(|word| unit_interval(u64::from(word) << 32)).sum::<f64>() - 6.0
}

/// Returns a Pareto variate with mean 0 and variance 1: 1/∛u has mean 3/2 and variance 3/4.
fn pareto(unit: f64) -> f64 {
    const DEVIATION: f64 = 0.866_025_403_784_438_6;
    (1.0 / cube_root(1.0 - unit) - 1.5) / DEVIATION
}

/// Computes the cube root by Newton's method from above, whose steps are exact operations everywhere.
fn cube_root(value: f64) -> f64 {
    let mut root = 1.0;
    // From 1 down to ∛2⁻⁵³ the distance shrinks by a third per step, then the correct digits double.
    for _ in 0..48 {
        root -= (root - value / (root * root)) / 3.0;
    }
    root
}

impl FromStr for Distribution {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "uniform" => Ok(Self::Uniform),
            "normal" => Ok(Self::Normal),
            "pareto" => Ok(Self::Pareto),
            _ => Err(Failure::new(FailureKind::InvalidValue, format!("'{text}' is not a distribution"))
                .expected("uniform, normal or pareto")),
        }
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uniform => "uniform",
            Self::Normal => "normal",
            Self::Pareto => "pareto",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Distribution, Jitter, cube_root};
    use crate::impair::{DecisionKind, SeededRandom};
    use crate::stats::Series;
    use std::time::Duration;

    const MEAN: Duration = Duration::from_millis(100);
    const SPREAD: Duration = Duration::from_millis(10);

    fn delays(distribution: Distribution) -> impl Iterator<Item = Duration> {
        let jitter = Jitter { spread: SPREAD, distribution };
        (1..=20_000)
            .map(move |ordinal| jitter.sample_delay(MEAN, SeededRandom::new(5, 1), DecisionKind::JITTER, ordinal))
    }

    #[test]
    fn uniform_jitter_stays_within_its_spread() {
        assert!(delays(Distribution::Uniform).all(|delay| delay.abs_diff(MEAN) <= SPREAD));
    }

    #[test]
    fn normal_and_pareto_have_the_requested_mean_and_deviation() {
        for (distribution, tolerance) in [(Distribution::Normal, 200), (Distribution::Pareto, 1_500)] {
            let mut series = Series::default();
            delays(distribution).for_each(|delay| series.push(delay));
            let summary = series.summary().expect("there is data");
            assert!(summary.mean.abs_diff(MEAN) < Duration::from_micros(300), "{distribution}: {summary}");
            let deviation = summary.stddev.expect("many");
            assert!(deviation.abs_diff(SPREAD) < Duration::from_micros(tolerance), "{distribution}: {summary}");
        }
    }

    #[test]
    fn pareto_is_late_far_more_often_than_early() {
        let beyond = |limit: Duration| delays(Distribution::Pareto).filter(|delay| *delay > limit).count();
        assert!(delays(Distribution::Pareto).all(|delay| delay > Duration::from_millis(90)));
        assert!(beyond(MEAN + 4 * SPREAD) > 50);
    }

    #[test]
    fn jitter_around_zero_is_never_negative() {
        let jitter = Jitter { spread: SPREAD, distribution: Distribution::Uniform };
        let early = (1..=1_000)
            .map(|ordinal| jitter.sample_delay(Duration::ZERO, SeededRandom::new(5, 1), DecisionKind::JITTER, ordinal))
            .filter(Duration::is_zero);
        assert!(early.count() > 400);
    }

    #[test]
    fn the_cube_root_is_accurate_over_its_whole_range() {
        for value in [1.0, 0.5, 0.125, 1e-6, f64::powi(0.5, 53)] {
            let root = cube_root(value);
            assert!((root * root * root / value - 1.0).abs() < 1e-12, "{value}: {root}");
        }
    }
}
