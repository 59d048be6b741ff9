//! Flap damping (RFC 2439) of one sender.
//!
//! Each change to down adds a penalty that decays with a half-life. Above the suppress threshold the sender is
//! flapping and its changes are suppressed, until the penalty falls below the lower reuse threshold. The gap
//! between the two keeps the flapping state itself from flapping.

use std::time::Duration;

use crate::time::Moment;

/// Penalty for each change to down.
const PENALTY_PER_FAILURE: f64 = 1_000.0;
/// Penalty at which a sender is flapping: reached at the third failure in a short time.
const SUPPRESS_THRESHOLD: f64 = 2_500.0;
/// Penalty below which flapping ends.
const REUSE_THRESHOLD: f64 = 1_000.0;

/// Penalty and suppression state of one sender.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FlapDamping {
    penalty: f64,
    updated_at: Option<Moment>,
    is_suppressed: bool,
}

impl FlapDamping {
    /// Records a failure and returns whether the sender starts flapping with it. A half-life of zero disables
    /// damping.
    pub(crate) fn record_failure(&mut self, now: Moment, half_life: Duration) -> bool {
        if half_life.is_zero() {
            return false;
        }
        self.penalty = self.penalty_at(now, half_life) + PENALTY_PER_FAILURE;
        self.updated_at = Some(now);
        let starts = !self.is_suppressed && self.penalty >= SUPPRESS_THRESHOLD;
        self.is_suppressed |= starts;
        starts
    }

    pub(crate) fn is_flapping(&self) -> bool {
        self.is_suppressed
    }

    /// Returns the time at which a flapping sender falls below the reuse threshold if no failure follows.
    pub(crate) fn reuse_at(&self, half_life: Duration) -> Option<Moment> {
        let at = self.updated_at.filter(|_| self.is_suppressed)?;
        let half_lives = (self.penalty / REUSE_THRESHOLD).log2().max(0.0);
        Some(at + half_life.mul_f64(half_lives))
    }

    /// Ends the suppression if it is due and returns whether it did.
    pub(crate) fn reuse_if_due(&mut self, now: Moment, half_life: Duration) -> bool {
        let over = self.reuse_at(half_life).is_some_and(|end| end <= now);
        self.is_suppressed &= !over;
        over
    }

    fn penalty_at(&self, now: Moment, half_life: Duration) -> f64 {
        let passed = self.updated_at.map_or(0.0, |at| (now - at).as_secs_f64());
        self.penalty * (-passed / half_life.as_secs_f64()).exp2()
    }
}

#[cfg(test)]
mod tests {
    use super::FlapDamping;
    use crate::time::Moment;
    use std::time::Duration;

    const HALF_LIFE: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> Moment {
        Moment::new(Duration::from_secs(seconds), Duration::ZERO)
    }

    #[test]
    fn the_third_failure_in_a_short_time_is_flapping_and_stability_ends_it() {
        let mut flap = FlapDamping::default();
        assert_eq!([1, 5, 9].map(|second| flap.record_failure(at(second), HALF_LIFE)), [false, false, true]);
        assert!(!flap.record_failure(at(13), HALF_LIFE), "flapping starts once");
        let end = flap.reuse_at(HALF_LIFE).expect("it is flapping");
        assert!(end > at(100) && end < at(150));
        assert!(!flap.reuse_if_due(at(100), HALF_LIFE) && flap.is_flapping());
        assert!(flap.reuse_if_due(end, HALF_LIFE) && !flap.is_flapping());
        assert_eq!(flap.reuse_at(HALF_LIFE), None);
    }

    #[test]
    fn failures_far_apart_are_not_flapping_and_a_zero_half_life_disables_damping() {
        let mut flap = FlapDamping::default();
        assert!((0..100).all(|number| !flap.record_failure(at(number * 120), HALF_LIFE)));
        assert!((0..100).all(|number| !flap.record_failure(at(number), Duration::ZERO)));
    }
}
