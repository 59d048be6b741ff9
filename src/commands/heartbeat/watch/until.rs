//! `--until`: when a watcher has seen enough.

use std::str::FromStr;

use crate::heartbeat::{State, Watcher};

/// A condition on all senders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Until {
    all: bool,
    state: State,
}

impl Until {
    /// Whether it holds. Nobody at all is not everybody: somebody must be there.
    pub fn holds(self, watcher: &Watcher) -> bool {
        let count = watcher.in_state(self.state);
        count > 0 && (!self.all || count == watcher.senders())
    }
}

impl FromStr for Until {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let parsed = match words[..] {
            [quantity @ ("all" | "any"), word] => State::ALL
                .into_iter()
                .find(|state| state.word() == word)
                .map(|state| Self { all: quantity == "all", state }),
            _ => None,
        };
        parsed.ok_or_else(|| "expected all or any, and new, up, late, down or stopped: 'all up', 'any down'".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::Until;
    use crate::heartbeat::State;

    #[test]
    fn a_condition_is_a_quantity_and_a_state() {
        assert_eq!("all up".parse(), Ok(Until { all: true, state: State::Up }));
        assert_eq!(" any  down".parse(), Ok(Until { all: false, state: State::Down }));
        for text in ["", "up", "all", "some up", "all up now", "all UP"] {
            assert!(text.parse::<Until>().is_err_and(|error| error.contains("'all up'")), "{text}");
        }
    }
}
