//! Ratio of counts with its confidence interval.
//!
//! Owns the 95 % Wilson score interval (E. B. Wilson, 1927; recommended over the normal approximation by L.
//! Brown et al., 2001), which stays inside 0…1 and does not collapse at 0 of n: ten good probes prove little.

/// Standard normal quantile for a two-sided 95 % interval.
const Z: f64 = 1.959_963_984_540_054;

/// Ratio of `part` to `whole`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ratio {
    part: u64,
    whole: u64,
}

impl Ratio {
    /// Creates a ratio; a part larger than its whole is reduced to it.
    pub(crate) fn new(part: u64, whole: u64) -> Self {
        Self { part: part.min(whole), whole }
    }

    /// Returns the ratio between 0 and 1, or `None` if the whole is 0.
    pub(crate) fn value(self) -> Option<f64> {
        (self.whole > 0).then(|| float(self.part) / float(self.whole))
    }

    /// Returns the 95 % Wilson interval as (low, high), or `None` without data.
    pub(crate) fn wilson_interval95(self) -> Option<(f64, f64)> {
        let p = self.value()?;
        let n = float(self.whole);
        let z2 = Z * Z;
        let centre = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
        let half = Z / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
        // Exact at the ends, where rounding would leave a small remainder.
        let low = if self.part == 0 { 0.0 } else { (centre - half).max(0.0) };
        let high = if self.part == self.whole { 1.0 } else { (centre + half).min(1.0) };
        Some((low, high))
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::Ratio;

    #[track_caller]
    fn assert_close(got: Option<(f64, f64)>, low: f64, high: f64) {
        let (l, h) = got.expect("there is data");
        assert!((l - low).abs() < 5e-4 && (h - high).abs() < 5e-4, "{l} {h}");
    }

    #[test]
    fn four_of_ten_lies_between_17_and_69_percent() {
        assert_close(Ratio::new(4, 10).wilson_interval95(), 0.168, 0.687);
    }

    #[test]
    fn none_of_ten_does_not_prove_zero() {
        assert_close(Ratio::new(0, 10).wilson_interval95(), 0.0, 0.278);
        assert_close(Ratio::new(10, 10).wilson_interval95(), 0.722, 1.0);
    }

    #[test]
    fn the_ends_are_exact() {
        for whole in 1..200 {
            assert_eq!(Ratio::new(0, whole).wilson_interval95().map(|(low, _)| low), Some(0.0));
            assert_eq!(Ratio::new(whole, whole).wilson_interval95().map(|(_, high)| high), Some(1.0));
        }
    }

    #[test]
    fn zero_of_zero_has_no_data() {
        assert_eq!(Ratio::new(0, 0).value(), None);
        assert_eq!(Ratio::new(0, 0).wilson_interval95(), None);
    }
}
