//! Exact probability, parsed from an option value.
//!
//! Owns the fraction behind `30%`, `0.3` and `4/11`. It stays a fraction of integers: `4/11` then means
//! exactly what the textbook's server does, a random integer 0…10 with a loss if it is below 4, and `30%`,
//! `0.3` and `3/10` lead to the same decisions.

use std::fmt;
use std::str::FromStr;

use crate::failure::{Failure, FailureKind, Result};

/// Probability: `numerator` out of `denominator` equally likely outcomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Probability {
    numerator: u64,
    denominator: u64,
}

/// Maximum number of digits in a decimal; more would overflow the arithmetic and mean nothing.
const MAX_DIGITS: usize = 15;

impl Probability {
    pub(crate) const NEVER: Self = Self { numerator: 0, denominator: 1 };
    pub(crate) const ALWAYS: Self = Self { numerator: 1, denominator: 1 };

    /// Creates a probability, or returns `None` for an invalid fraction.
    pub(crate) fn new(numerator: u64, denominator: u64) -> Option<Self> {
        (numerator <= denominator && denominator > 0).then_some(Self { numerator, denominator })
    }

    /// Returns true if a 64-bit draw hits: scaled to an integer below the denominator, it is below the numerator.
    pub(crate) fn hits(self, draw: u64) -> bool {
        (u128::from(draw) * u128::from(self.denominator)) >> 64 < u128::from(self.numerator)
    }

    pub(crate) fn is_possible(self) -> bool {
        self.numerator > 0
    }

    /// Returns the probability as a number between 0 and 1.
    #[expect(clippy::cast_precision_loss, reason = "a figure to show, not to decide")]
    pub(crate) fn value(self) -> f64 {
        self.numerator as f64 / self.denominator as f64
    }

    /// Returns the probability of the opposite.
    #[must_use]
    pub(crate) fn complement(self) -> Self {
        Self { numerator: self.denominator - self.numerator, denominator: self.denominator }
    }
}

impl FromStr for Probability {
    type Err = Failure;

    /// Parses `30%`, `0.3` or `4/11`. A bare number above 1 is ambiguous and rejected, except 100.
    fn from_str(text: &str) -> Result<Self> {
        let probability = if let Some((part, whole)) = text.split_once('/') {
            parse_fraction(part, whole)
        } else if let Some(percent) = text.strip_suffix('%') {
            parse_decimal(percent.trim_end()).and_then(|(part, whole)| Self::new(part, whole * 100))
        } else if text == "100" {
            Some(Self::ALWAYS)
        } else {
            parse_decimal(text).and_then(|(part, whole)| Self::new(part, whole))
        };
        probability.ok_or_else(|| {
            Failure::new(FailureKind::InvalidValue, format!("'{text}' is not a probability"))
                .expected("a percentage up to 100%, a number from 0 to 1 or a fraction, such as 30%, 0.3 or 4/11")
        })
    }
}

fn parse_fraction(part: &str, whole: &str) -> Option<Probability> {
    let ((part, 1), (whole, 1)) = (parse_decimal(part)?, parse_decimal(whole)?) else {
        return None;
    };
    Probability::new(part, whole)
}

/// Parses a decimal without sign and exponent into a numerator and a power of ten.
fn parse_decimal(text: &str) -> Option<(u64, u64)> {
    let (integer, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = integer.len() + fraction.len();
    let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if digits == 0 || digits > MAX_DIGITS || !plain(integer) || !plain(fraction) {
        return None;
    }
    let scale = 10_u64.pow(u32::try_from(fraction.len()).ok()?);
    let read = |part: &str| {
        if part.is_empty() { Some(0) } else { part.parse::<u64>().ok() }
    };
    Some((read(integer)? * scale + read(fraction)?, scale))
}

/// Formats `4/11` as a fraction, and every decimal as a percentage.
impl fmt::Display for Probability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let power_of_ten = 10_u64.pow(self.denominator.ilog10()) == self.denominator;
        if power_of_ten {
            // Rounded to what the user may have written: 0.07 · 100 is not 7 in binary.
            let percent = (self.value() * 1e14).round() / 1e12;
            write!(f, "{percent}%")
        } else {
            write!(f, "{}/{}", self.numerator, self.denominator)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_DIGITS, Probability};
    use crate::failure::FailureKind;
    use crate::impair::{DecisionKind, SeededRandom};

    fn probability(text: &str) -> Option<Probability> {
        text.parse().ok()
    }

    #[test]
    fn percent_decimal_and_fraction_are_parsed() {
        assert_eq!(probability("4/11"), Probability::new(4, 11));
        assert_eq!(probability("30%"), Probability::new(30, 100));
        assert_eq!(probability("0.3"), Probability::new(3, 10));
        assert_eq!(probability(".5"), Probability::new(5, 10));
        assert_eq!(probability("12.5 %"), Probability::new(125, 1000));
    }

    #[test]
    fn zero_and_one_are_probabilities() {
        for text in ["0", "0%", "0/1", "0.0"] {
            assert!(!probability(text).expect(text).is_possible());
        }
        for text in ["1", "100%", "11/11", "100", "1.0"] {
            assert!(probability(text).expect(text).hits(u64::MAX), "{text}");
        }
    }

    #[test]
    fn an_invalid_probability_is_rejected_with_the_right_spelling() {
        let wrong = [
            "", "NaN", "inf", "-1", "-0.1", "+0.1", "1e-3", "101%", "100.1%", "1.1", "30", "101", "12/11", "1/0",
            "0/0", "/", "1/", "0.3/1", "%", ".", "0.3.3", "½", "٣%", " 1",
        ];
        for text in wrong {
            let error = text.parse::<Probability>().expect_err(text);
            assert_eq!(error.kind(), FailureKind::InvalidValue);
            assert!(error.into_parts().1.is_some_and(|expected| expected.contains("4/11")));
        }
    }

    #[test]
    fn as_many_digits_as_the_arithmetic_holds_and_no_more() {
        let longest = format!("0.{}", "1".repeat(MAX_DIGITS - 1));
        assert!(probability(&longest).is_some());
        assert!(probability(&format!("{longest}1")).is_none());
        assert!(probability(&format!("{}%", "0".repeat(MAX_DIGITS))).is_some());
    }

    #[test]
    fn four_elevenths_is_an_integer_below_eleven_that_is_below_four() {
        let textbook = Probability::new(4, 11).expect("a probability");
        let random = SeededRandom::new(7, 1);
        for number in 1..=10_000 {
            let draw = random.draw(DecisionKind::LOSS, number);
            let integer = (u128::from(draw) * 11) >> 64;
            assert_eq!(textbook.hits(draw), integer < 4);
        }
    }

    #[test]
    fn the_three_spellings_of_thirty_percent_decide_alike() {
        let random = SeededRandom::new(7, 1);
        let spellings = ["30%", "0.3", "3/10"].map(|text| probability(text).expect(text));
        for number in 1..=10_000 {
            let hits = spellings.map(|spelling| spelling.hits(random.draw(DecisionKind::LOSS, number)));
            assert!(hits == [true; 3] || hits == [false; 3]);
        }
    }

    #[test]
    fn the_observed_rate_is_within_five_deviations_of_the_probability() {
        let textbook = Probability::new(4, 11).expect("a probability");
        let random = SeededRandom::new(2026, 3);
        let lost = (1..=110_000).filter(|number| textbook.hits(random.draw(DecisionKind::LOSS, *number)));
        // σ = √(110 000 · 4/11 · 7/11) ≈ 160
        assert!(lost.count().abs_diff(40_000) < 800);
    }

    #[test]
    fn a_probability_is_shown_as_it_would_be_written() {
        let shown = |text: &str| probability(text).expect(text).to_string();
        assert_eq!(shown("4/11"), "4/11");
        assert_eq!(shown("0.3"), "30%");
        assert_eq!(shown("7%"), "7%");
        assert_eq!(shown("0.125%"), "0.125%");
        assert_eq!(shown("1"), "100%");
    }
}
