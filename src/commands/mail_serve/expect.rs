//! `--expect`: what a run has to have seen.
//!
//! Owns the grammar `WORD=VALUE WORD>=N …` and the verdict. Counts are compared; what is said of mails
//! has to hold for every one of them, and so there has to be one.

use std::str::FromStr;

use crate::error::{Error, Result};
use crate::exit::Exit;

/// What can be counted.
const COUNTERS: [&str; 7] = ["messages", "recipients", "connections", "refused", "logins", "failed", "faults"];
/// What can be said of every mail.
pub(super) const PROPERTIES: [&str; 5] = ["tls", "auth", "from", "to", "subject"];

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Condition {
    Counter(&'static str, Comparison, u64),
    EveryMessage(&'static str, String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    AtLeast,
    AtMost,
    Greater,
    Less,
}

/// One `--expect`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Expectation {
    text: String,
    conditions: Vec<Condition>,
}

/// What a run has seen.
pub(super) trait Observations {
    /// How many.
    fn counter(&self, name: &str) -> u64;

    /// The different values that mails had.
    fn values(&self, property: &str) -> Vec<String>;
}

impl FromStr for Expectation {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let words = shlex::split(text).filter(|words| !words.is_empty());
        let conditions: Option<Vec<_>> =
            words.and_then(|words| words.iter().map(|word| parse_condition(word)).collect());
        conditions.map(|conditions| Self { text: text.to_owned(), conditions }).ok_or_else(|| {
            Error::new(Exit::Usage, format!("--expect '{text}' cannot be read"))
                .expected(format!(
                    "COUNT=N, >=N, <=N, >N or <N with {}; WORD=VALUE with {}",
                    COUNTERS.join(", "),
                    PROPERTIES.join(", ")
                ))
                .remedy("for example --expect 'messages=2 tls=1.3', or tls=none for mails in clear")
        })
    }
}

fn parse_condition(word: &str) -> Option<Condition> {
    let at = word.find(['=', '<', '>'])?;
    let (name, rest) = word.split_at(at);
    let relations = [
        (">=", Comparison::AtLeast),
        ("<=", Comparison::AtMost),
        ("=", Comparison::Equal),
        (">", Comparison::Greater),
        ("<", Comparison::Less),
    ];
    let (relation, value) =
        relations.iter().find_map(|(sign, relation)| Some((*relation, rest.strip_prefix(sign)?)))?;
    if let Some(count) = COUNTERS.iter().find(|count| **count == name) {
        let is_plain = !value.is_empty() && value.bytes().all(|digit| digit.is_ascii_digit());
        return value.parse().ok().filter(|_| is_plain).map(|number| Condition::Counter(count, relation, number));
    }
    let feature = PROPERTIES.iter().find(|feature| **feature == name)?;
    let can_be = match *feature {
        "tls" => ["none", "1.2", "1.3"].contains(&value),
        _ => !value.is_empty(),
    };
    // Addresses may be written as in MAIL FROM and RCPT TO; so the null sender has a word too.
    let is_address = matches!(*feature, "from" | "to");
    let bare = value.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')).filter(|_| is_address);
    let value = bare.unwrap_or(value);
    let can_be = can_be && (!value.is_empty() || *feature == "from");
    (relation == Comparison::Equal && can_be).then(|| Condition::EveryMessage(feature, value.to_owned()))
}

impl Expectation {
    /// Whether the values of mails have to be remembered.
    pub(super) fn needs_property(&self, property: &str) -> bool {
        self.conditions
            .iter()
            .any(|condition| matches!(condition, Condition::EveryMessage(word, _) if *word == property))
    }

    /// Whether it holds; the error says what does not.
    pub(super) fn check(&self, observed: &impl Observations) -> Result<()> {
        let broken = self.conditions.iter().find_map(|condition| match condition {
            Condition::Counter(word, relation, number) => {
                let count = observed.counter(word);
                let holds = match relation {
                    Comparison::Equal => count == *number,
                    Comparison::AtLeast => count >= *number,
                    Comparison::AtMost => count <= *number,
                    Comparison::Greater => count > *number,
                    Comparison::Less => count < *number,
                };
                (!holds).then(|| format!("{word} is {count}"))
            }
            Condition::EveryMessage(word, value) => {
                let values = observed.values(word);
                match values.iter().find(|found| !found.eq_ignore_ascii_case(value)) {
                    Some(other) => {
                        Some(format!("{word} of a mail is {}", if other.is_empty() { "empty" } else { other }))
                    }
                    None if values.is_empty() => Some(format!("no mail came, so {word} is not {value}")),
                    None => None,
                }
            }
        });
        let broken = broken.map(|found| {
            Error::new(Exit::Negative, format!("{found}, and --expect '{}' wants something else", self.text))
        });
        broken.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::{Expectation, Observations};
    use crate::exit::Exit;

    struct TwoMessages;

    impl Observations for TwoMessages {
        fn counter(&self, word: &str) -> u64 {
            if word == "messages" { 2 } else { 0 }
        }

        fn values(&self, word: &str) -> Vec<String> {
            match word {
                "tls" => vec!["1.3".into()],
                "auth" => vec!["tim".into(), "none".into()],
                _ => Vec::new(),
            }
        }
    }

    fn holds(text: &str) -> bool {
        text.parse::<Expectation>().expect(text).check(&TwoMessages).is_ok()
    }

    #[test]
    fn counts_are_compared_and_features_hold_for_every_mail() {
        for text in
            ["messages=2", "messages>=1 messages<=2 refused=0", "messages>1 messages<3", "messages=2 tls=1.3", "TLS"]
        {
            assert_eq!(
                text.parse::<Expectation>().is_ok_and(|expect| expect.check(&TwoMessages).is_ok()),
                text != "TLS",
                "{text}"
            );
        }
        for text in [
            "messages=1",
            "messages>=3",
            "messages>2",
            "messages<2",
            "tls=1.2",
            "auth=tim",
            "from=a@x",
            "messages=2 tls=none",
        ] {
            assert!(!holds(text), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_says_what_can() {
        for text in [
            "",
            " ",
            "messages",
            "messages=",
            "messages=-1",
            "messages=+1",
            "messages!=1",
            "to=<>",
            "mails=1",
            "tls>=1",
            "tls=",
            "tls=1.9",
            "tls=yes",
            "from=",
        ] {
            assert_eq!(text.parse::<Expectation>().expect_err(text).exit(), Exit::Usage, "{text}");
        }
        let error = "messages=3".parse::<Expectation>().expect("read").check(&TwoMessages).expect_err("two came");
        assert!(error.exit() == Exit::Negative && error.message().contains("messages is 2"));
    }
}
