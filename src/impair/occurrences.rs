//! Selection of the occurrences of a fault point.
//!
//! Owns the middle of `--fault 'WHERE[#N|#A..B|every K|p=R] = ACTION'`. Occurrences are counted from 1, so
//! that the second message is `#2`; what an occurrence is, and what happens at it, is defined elsewhere.

use std::fmt;
use std::str::FromStr;

use super::probability::Probability;
use super::random::{DecisionKind, SeededRandom};
use crate::failure::{Failure, FailureKind, Result};

/// Occurrences at which a rule fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Occurrences {
    All,
    /// From the first ordinal to the last, inclusive.
    Range(u64, u64),
    /// Each occurrence whose ordinal is a multiple of this.
    EveryNth(u64),
    Probability(Probability),
}

impl Occurrences {
    /// Returns true if the occurrence with this ordinal is selected. The same ordinal and `random` give the
    /// same answer.
    pub(crate) fn contains(self, ordinal: u64, random: SeededRandom) -> bool {
        match self {
            Self::All => true,
            Self::Range(first, last) => (first..=last).contains(&ordinal),
            Self::EveryNth(step) => ordinal.is_multiple_of(step),
            Self::Probability(probability) => probability.hits(random.draw(DecisionKind::FAULT, ordinal)),
        }
    }
}

impl FromStr for Occurrences {
    type Err = Failure;

    /// Parses an empty string, `#2`, `#1..3`, `#3..`, `every 4` or `p=30%`.
    fn from_str(text: &str) -> Result<Self> {
        let invalid = || {
            Failure::new(FailureKind::InvalidValue, format!("'{}' is not a valid occurrence", text.trim()))
                .expected("#N, #A..B, #A.., every K or p=R, counted from 1, such as #2, #1..2, every 3 or p=30%")
        };
        let number = |text: &str| {
            let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|number: &u64| is_plain && *number > 0).ok_or_else(invalid)
        };
        let text = text.trim();
        if text.is_empty() {
            return Ok(Self::All);
        }
        if let Some(numbers) = text.strip_prefix('#') {
            return match numbers.split_once("..") {
                None => number(numbers).map(|only| Self::Range(only, only)),
                Some((first, "")) => Ok(Self::Range(number(first)?, u64::MAX)),
                Some((first, last)) => match (number(first)?, number(last)?) {
                    (first, last) if first <= last => Ok(Self::Range(first, last)),
                    _ => Err(invalid()),
                },
            };
        }
        if let Some(step) = text.strip_prefix("every ") {
            return number(step.trim()).map(Self::EveryNth);
        }
        text.strip_prefix("p=").ok_or_else(invalid)?.parse().map(Self::Probability)
    }
}

impl fmt::Display for Occurrences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => Ok(()),
            Self::Range(first, u64::MAX) => write!(f, "#{first}.."),
            Self::Range(first, last) if first == last => write!(f, "#{first}"),
            Self::Range(first, last) => write!(f, "#{first}..{last}"),
            Self::EveryNth(step) => write!(f, " every {step}"),
            Self::Probability(probability) => write!(f, " p={probability}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Occurrences;
    use crate::failure::FailureKind;
    use crate::impair::SeededRandom;

    fn selected(text: &str) -> Vec<u64> {
        let occurrences: Occurrences = text.parse().expect(text);
        (1..=9).filter(|number| occurrences.contains(*number, SeededRandom::new(1, 1))).collect()
    }

    #[test]
    fn occurrences_are_counted_from_1() {
        for (text, expected) in [
            ("", vec![1, 2, 3, 4, 5, 6, 7, 8, 9]),
            ("#2", vec![2]),
            ("#1..2", vec![1, 2]),
            ("#8..", vec![8, 9]),
            (" every 4", vec![4, 8]),
            ("p=0", vec![]),
            ("p=100%", vec![1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ] {
            assert_eq!(selected(text), expected, "{text}");
        }
    }

    #[test]
    fn equal_probabilities_decide_the_same() {
        assert_eq!(selected("p=1/2"), selected("p=50%"));
        let hits = (1..=10_000).filter(|number| {
            let half: Occurrences = "p=1/2".parse().expect("a probability");
            half.contains(*number, SeededRandom::new(1, 1))
        });
        assert!(hits.count().abs_diff(5_000) < 250);
    }

    #[test]
    fn an_invalid_selection_is_rejected_as_a_usage_error() {
        for text in ["#", "#0", "#2..1", "#-1", "#+1", "#1..x", "every 0", "every", "every x", "p=", "p=2", "2", "#٢"]
        {
            assert_eq!(text.parse::<Occurrences>().expect_err(text).kind(), FailureKind::InvalidValue);
        }
    }

    #[test]
    fn they_are_shown_as_they_are_written() {
        for text in ["", "#2", "#1..3", "#3..", "every 4", "p=30%"] {
            assert_eq!(text.parse::<Occurrences>().expect(text).to_string().trim(), text);
        }
    }
}
