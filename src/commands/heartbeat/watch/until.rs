//! `--until`: condition that ends a run of the watcher.

use std::ffi::OsStr;
use std::fmt;
use std::str::FromStr;

use clap::builder::{PossibleValue, TypedValueParser};
use clap::{Arg, Command, Error};

use crate::heartbeat::{SenderStatus, Watcher};

/// Condition on the states of all senders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UntilCondition {
    all: bool,
    state: SenderStatus,
}

impl UntilCondition {
    /// Returns whether the condition holds. It never holds without senders, not even 'all up'.
    pub(super) fn holds(self, watcher: &Watcher) -> bool {
        let count = watcher.count_in_state(self.state);
        count > 0 && (!self.all || count == watcher.sender_count())
    }
}

impl fmt::Display for UntilCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", if self.all { "all" } else { "any" }, self.state.as_str())
    }
}

/// Conditions that a shell offers.
const COMPLETIONS: [&str; 10] = [
    "all-new",
    "all-up",
    "all-late",
    "all-down",
    "all-stopped",
    "any-new",
    "any-up",
    "any-late",
    "any-down",
    "any-stopped",
];

/// Parser of `--until`, which completes to conditions with a hyphen: a shell would split the words.
#[derive(Clone, Copy, Debug)]
pub(super) struct UntilParser;

impl TypedValueParser for UntilParser {
    type Value = UntilCondition;

    fn parse_ref(&self, command: &Command, argument: Option<&Arg>, value: &OsStr) -> Result<UntilCondition, Error> {
        UntilCondition::from_str.parse_ref(command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(COMPLETIONS.into_iter().map(PossibleValue::new)))
    }
}

impl FromStr for UntilCondition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split([' ', '-']).filter(|word| !word.is_empty()).collect();
        let parsed = match words[..] {
            [quantity @ ("all" | "any"), word] => SenderStatus::ALL
                .into_iter()
                .find(|state| state.as_str() == word)
                .map(|state| Self { all: quantity == "all", state }),
            _ => None,
        };
        let expected =
            "expected 'all' or 'any' and a state (new, up, late, down or stopped), such as 'all up' or 'any down'";
        parsed.ok_or_else(|| expected.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::{COMPLETIONS, UntilCondition};
    use crate::heartbeat::SenderStatus;

    #[test]
    fn a_condition_is_a_quantity_and_a_state() {
        assert_eq!("all up".parse(), Ok(UntilCondition { all: true, state: SenderStatus::Up }));
        assert_eq!("all-up".parse(), Ok(UntilCondition { all: true, state: SenderStatus::Up }));
        assert_eq!(" any  down".parse(), Ok(UntilCondition { all: false, state: SenderStatus::Down }));
        for text in ["", "up", "all", "some up", "all up now", "all UP"] {
            assert!(text.parse::<UntilCondition>().is_err_and(|error| error.contains("'all up'")), "{text}");
        }
    }

    #[test]
    fn a_shell_offers_all_conditions() {
        let parsed: Vec<UntilCondition> = COMPLETIONS.iter().filter_map(|text| text.parse().ok()).collect();
        assert_eq!(parsed.len(), 2 * SenderStatus::ALL.len());
    }
}
