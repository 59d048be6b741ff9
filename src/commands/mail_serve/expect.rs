//! `--expect`: conditions that a run must meet.
//!
//! Owns the grammar `PROPERTY=VALUE COUNTER>=N …` and the check. A counter is compared with a number; a
//! property must have the value in every mail, so at least one mail is required.

use std::str::FromStr;

use crate::error::{Error, Result};
use crate::exit::Exit;

const COUNTERS: [&str; 7] = ["messages", "recipients", "connections", "rejected", "logins", "failed", "faults"];
pub(super) const PROPERTIES: [&str; 5] = ["tls", "auth", "from", "to", "subject"];

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

/// Conditions of one `--expect`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Expectation {
    text: String,
    conditions: Vec<Condition>,
}

/// Results of a run that conditions are checked against.
pub(super) trait Observations {
    fn counter(&self, name: &str) -> u64;

    /// Returns the distinct values that mails had.
    fn values(&self, property: &str) -> Vec<String>;
}

impl FromStr for Expectation {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let words = shlex::split(text).filter(|words| !words.is_empty());
        let conditions: Option<Vec<_>> =
            words.and_then(|words| words.iter().map(|word| parse_condition(word)).collect());
        conditions.map(|conditions| Self { text: text.to_owned(), conditions }).ok_or_else(|| {
            Error::new(Exit::Usage, format!("'{text}' is not an expectation"))
                .expected(format!(
                    "COUNTER=N, >=N, <=N, >N or <N with {}; PROPERTY=VALUE with {}",
                    COUNTERS.join(", "),
                    PROPERTIES.join(", ")
                ))
                .remedy("for example --expect 'messages=2 tls=1.3', or tls=none for mail without TLS")
        })
    }
}

fn parse_condition(word: &str) -> Option<Condition> {
    let at = word.find(['=', '<', '>'])?;
    let (name, rest) = word.split_at(at);
    let comparisons = [
        (">=", Comparison::AtLeast),
        ("<=", Comparison::AtMost),
        ("=", Comparison::Equal),
        (">", Comparison::Greater),
        ("<", Comparison::Less),
    ];
    let (comparison, value) =
        comparisons.iter().find_map(|(sign, comparison)| Some((*comparison, rest.strip_prefix(sign)?)))?;
    if let Some(counter) = COUNTERS.iter().find(|counter| **counter == name) {
        let is_plain = !value.is_empty() && value.bytes().all(|digit| digit.is_ascii_digit());
        return value.parse().ok().filter(|_| is_plain).map(|number| Condition::Counter(counter, comparison, number));
    }
    let property = PROPERTIES.iter().find(|property| **property == name)?;
    let is_valid = match *property {
        "tls" => ["none", "1.2", "1.3"].contains(&value),
        _ => !value.is_empty(),
    };
    // Addresses may be in angle brackets, as in MAIL FROM and RCPT TO: `<>` is the null sender.
    let is_address = matches!(*property, "from" | "to");
    let bare = value.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')).filter(|_| is_address);
    let value = bare.unwrap_or(value);
    let is_valid = is_valid && (!value.is_empty() || *property == "from");
    (comparison == Comparison::Equal && is_valid).then(|| Condition::EveryMessage(property, value.to_owned()))
}

impl Expectation {
    /// Returns whether the values of this property must be kept.
    pub(super) fn needs_property(&self, property: &str) -> bool {
        self.conditions
            .iter()
            .any(|condition| matches!(condition, Condition::EveryMessage(name, _) if *name == property))
    }

    /// Checks every condition; the error names the first that fails.
    pub(super) fn check(&self, observed: &impl Observations) -> Result<()> {
        let failure = self.conditions.iter().find_map(|condition| match condition {
            Condition::Counter(name, comparison, number) => {
                let count = observed.counter(name);
                let holds = match comparison {
                    Comparison::Equal => count == *number,
                    Comparison::AtLeast => count >= *number,
                    Comparison::AtMost => count <= *number,
                    Comparison::Greater => count > *number,
                    Comparison::Less => count < *number,
                };
                (!holds).then(|| format!("{name} is {count}"))
            }
            Condition::EveryMessage(name, value) => {
                let values = observed.values(name);
                match values.iter().find(|found| !found.eq_ignore_ascii_case(value)) {
                    Some(other) => {
                        Some(format!("{name} of a message is {}", if other.is_empty() { "empty" } else { other }))
                    }
                    None if values.is_empty() => {
                        Some(format!("no message was received, so {name}={value} cannot hold"))
                    }
                    None => None,
                }
            }
        });
        let error =
            failure.map(|found| Error::new(Exit::Negative, format!("--expect '{}' failed: {found}", self.text)));
        error.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::{Expectation, Observations};
    use crate::exit::Exit;

    struct TwoMessages;

    impl Observations for TwoMessages {
        fn counter(&self, name: &str) -> u64 {
            if name == "messages" { 2 } else { 0 }
        }

        fn values(&self, property: &str) -> Vec<String> {
            match property {
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
    fn counters_are_compared_and_properties_hold_for_every_mail() {
        for text in
            ["messages=2", "messages>=1 messages<=2 rejected=0", "messages>1 messages<3", "messages=2 tls=1.3", "TLS"]
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
    fn invalid_expectations_are_rejected() {
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
        let error = "messages=3".parse::<Expectation>().expect("valid").check(&TwoMessages).expect_err("two messages");
        assert!(error.exit() == Exit::Negative && error.message().contains("messages is 2"));
    }
}
