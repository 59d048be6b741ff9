//! Senders that come and go.
//!
//! Owns the damping of RFC 2439: each death adds a penalty that halves with time. Above one limit the
//! sender is flapping and its changes are no longer told one by one; it stops flapping below a lower
//! limit, so that the flapping does not flap.

use std::time::Duration;

use crate::time::Moment;

/// What a death costs.
const PENALTY: f64 = 1_000.0;
/// From here on a sender is flapping: at the third death in a short while.
const SUPPRESS: f64 = 2_500.0;
/// Below it a sender no longer is.
const REUSE: f64 = 1_000.0;

/// The penalty of one sender.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flap {
    penalty: f64,
    at: Option<Moment>,
    flapping: bool,
}

impl Flap {
    /// Notes a death, and says whether the sender begins to flap with it. A half-life of zero never
    /// damps.
    pub fn died(&mut self, now: Moment, half_life: Duration) -> bool {
        if half_life.is_zero() {
            return false;
        }
        self.penalty = self.penalty_at(now, half_life) + PENALTY;
        self.at = Some(now);
        let begins = !self.flapping && self.penalty >= SUPPRESS;
        self.flapping |= begins;
        begins
    }

    /// Whether the sender is flapping.
    pub fn is_flapping(&self) -> bool {
        self.flapping
    }

    /// When it will have stopped, if it is and nothing happens before.
    pub fn ends(&self, half_life: Duration) -> Option<Moment> {
        let at = self.at.filter(|_| self.flapping)?;
        let halves = (self.penalty / REUSE).log2().max(0.0);
        Some(at + half_life.mul_f64(halves))
    }

    /// Stops if it is time, and says whether it did.
    pub fn rest(&mut self, now: Moment, half_life: Duration) -> bool {
        let over = self.ends(half_life).is_some_and(|end| end <= now);
        self.flapping &= !over;
        over
    }

    fn penalty_at(&self, now: Moment, half_life: Duration) -> f64 {
        let passed = self.at.map_or(0.0, |at| (now - at).as_secs_f64());
        self.penalty * (-passed / half_life.as_secs_f64()).exp2()
    }
}

#[cfg(test)]
mod tests {
    use super::Flap;
    use crate::time::Moment;
    use std::time::Duration;

    const HALF_LIFE: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> Moment {
        Moment::new(Duration::from_secs(seconds), Duration::ZERO)
    }

    #[test]
    fn the_third_death_in_a_short_while_is_flapping_and_rest_ends_it() {
        let mut flap = Flap::default();
        assert_eq!([1, 5, 9].map(|second| flap.died(at(second), HALF_LIFE)), [false, false, true]);
        assert!(!flap.died(at(13), HALF_LIFE), "it begins once");
        let end = flap.ends(HALF_LIFE).expect("it flaps");
        assert!(end > at(100) && end < at(150));
        assert!(!flap.rest(at(100), HALF_LIFE) && flap.is_flapping());
        assert!(flap.rest(end, HALF_LIFE) && !flap.is_flapping());
        assert_eq!(flap.ends(HALF_LIFE), None);
    }

    #[test]
    fn deaths_far_apart_are_no_flapping_and_without_half_life_nothing_is() {
        let mut flap = Flap::default();
        assert!((0..100).all(|death| !flap.died(at(death * 120), HALF_LIFE)));
        assert!((0..100).all(|death| !flap.died(at(death), Duration::ZERO)));
    }
}
