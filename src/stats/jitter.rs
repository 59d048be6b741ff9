//! Interarrival jitter.
//!
//! Owns the estimator of RFC 3550 §6.4.1. It needs no common clock: only differences of transit times matter,
//! and a constant offset cancels out. Packets count in the order of their arrival.

use std::time::Duration;

use crate::time::nanoseconds;

/// Running estimate of the difference in transit time from one arrival to the next.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct JitterEstimator {
    last_transit: Option<u64>,
    estimate: Option<f64>,
}

impl JitterEstimator {
    /// Adds the transit time of the packet that arrived next: J += (|D| − J) / 16.
    #[expect(clippy::cast_precision_loss, reason = "2^53 ns is a hundred days")]
    pub(crate) fn push(&mut self, transit: Duration) {
        let transit = nanoseconds(transit);
        if let Some(last) = self.last_transit.replace(transit) {
            let difference = transit.abs_diff(last) as f64;
            let estimate = self.estimate.unwrap_or_default();
            self.estimate = Some(estimate + (difference - estimate) / 16.0);
        }
    }

    /// Returns the estimate, or `None` before the second packet.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a mean of u64")]
    pub(crate) fn value(self) -> Option<Duration> {
        let estimate = self.estimate?;
        Some(Duration::from_nanos(estimate.round() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::JitterEstimator;
    use std::time::Duration;

    fn jitter(transits: &[u64]) -> Option<Duration> {
        let mut jitter = JitterEstimator::default();
        for ms in transits {
            jitter.push(Duration::from_millis(*ms));
        }
        jitter.value()
    }

    #[test]
    fn one_packet_has_no_jitter_and_equal_transits_have_zero() {
        assert_eq!(jitter(&[]), None);
        assert_eq!(jitter(&[7]), None);
        assert_eq!(jitter(&[7, 7, 7]), Some(Duration::ZERO));
    }

    #[test]
    fn a_sixteenth_of_each_difference_counts() {
        assert_eq!(jitter(&[10, 26]), Some(Duration::from_millis(1)));
        // 1 + (16 − 1) / 16
        assert_eq!(jitter(&[10, 26, 10]), Some(Duration::from_nanos(1_937_500)));
    }

    #[test]
    fn the_estimate_converges_to_a_constant_difference() {
        let transits: Vec<_> = (0..500).map(|i| 10 + 10 * (i % 2)).collect();
        let jitter = jitter(&transits).expect("many packets");
        assert!(jitter.abs_diff(Duration::from_millis(10)) < Duration::from_nanos(10));
    }
}
