//! How a mail server misbehaves on order.
//!
//! Owns what a rule of `--fault` does and at which of its occasions. Each rule counts its own occasions
//! over the whole server, from 1, whether or not it fires; the first rule that fires at a place is the
//! one that acts. It must not know how a rule is spelt (`commands`), nor count anything else.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::plan::Stage;
use super::server::Answer;
use crate::impair::{Occurrences, SeededRandom};

/// Where a rule has its occasions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A connection that was accepted, before its banner.
    Connect,
    /// The reply to a stage; the banner is one too.
    Reply(Stage),
    /// Every reply.
    AnyReply,
    /// The words of each EHLO.
    Offer,
    /// A login's challenges.
    Challenge,
    /// A TLS handshake that is to begin.
    Handshake,
    /// A message's first octets.
    Body,
    /// The certificate of each connection.
    Certificate,
}

/// A rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// As it was written.
    pub text: String,
    /// Where.
    pub place: Place,
    /// Whose: an address, a user, a name; `*` in it stands for anything.
    pub whose: Option<String>,
    /// Which of the occasions.
    pub occasions: Occurrences,
    /// What is done.
    pub action: FaultAction,
}

/// What is done, all of it at one occasion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultAction {
    /// How long everything is held back.
    pub delay: Duration,
    /// At how many octets a second the reply goes out.
    pub pace: Option<u64>,
    /// What goes out in the same write behind the reply.
    pub behind: Vec<u8>,
    /// What takes the reply's place.
    pub instead: Instead,
}

/// What is done in place of what is usual.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Instead {
    /// Nothing: the usual is done.
    #[default]
    Usual,
    /// Another reply. One that refuses means that nothing is done.
    Answer(Answer),
    /// These octets, whatever they are.
    Raw(Vec<u8>),
    /// The connection is closed.
    Drop,
    /// The connection is reset.
    Reset,
    /// Nothing is said any more, and nothing heard.
    Stall,
    /// These words of EHLO are not said, and what they offer is not known.
    Hide(Vec<String>),
    /// So many challenges, whatever the answers.
    Challenges(u32),
    /// A TLS alert in place of the handshake.
    Alert,
    /// This certificate.
    Certificate(Certificate),
}

/// A certificate that nobody should accept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Certificate {
    /// It was valid once.
    Expired,
    /// It is another's.
    Name(String),
    /// Nobody but itself vouches for it.
    SelfSigned,
}

/// A rule that fires.
#[derive(Clone, Copy, Debug)]
pub struct Fired<'r> {
    /// Its place on the command line, from 0.
    pub rule: usize,
    /// The how-manieth of its occasions it is.
    pub number: u64,
    /// What is done.
    pub action: &'r FaultAction,
}

/// All rules, and how often each was asked.
#[derive(Debug, Default)]
pub struct Faults {
    seed: u64,
    rules: Vec<(Rule, AtomicU64)>,
}

impl Faults {
    /// These rules in their order.
    pub fn new(seed: u64, rules: Vec<Rule>) -> Self {
        Self { seed, rules: rules.into_iter().map(|rule| (rule, AtomicU64::new(0))).collect() }
    }

    /// The rules.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().map(|(rule, _)| rule)
    }

    /// The rule with this number.
    pub fn text(&self, rule: usize) -> &str {
        self.rules.get(rule).map_or("", |(rule, _)| rule.text.as_str())
    }

    /// Counts an occasion of every rule that belongs here; the first that fires.
    pub fn decide(&self, is_here: impl Fn(Place) -> bool, whose: &str) -> Option<Fired<'_>> {
        self.all(is_here, whose).next()
    }

    /// Whether any of them is left to chance.
    pub fn rolls_dice(&self) -> bool {
        self.rules().any(|rule| matches!(rule.occasions, Occurrences::Probability(_)))
    }

    /// The same for a reply.
    pub fn reply(&self, stage: Option<Stage>, whose: &str) -> Option<Fired<'_>> {
        let is_here = |place| place == Place::AnyReply || stage.is_some_and(|stage| place == Place::Reply(stage));
        self.decide(is_here, whose)
    }

    /// Every rule that fires here.
    pub fn all(&self, is_here: impl Fn(Place) -> bool, whose: &str) -> impl Iterator<Item = Fired<'_>> {
        let mut fired = Vec::new();
        for (number, (rule, count)) in self.rules.iter().enumerate() {
            if !is_here(rule.place) || !rule.whose.as_deref().is_none_or(|pattern| fits(pattern, whose)) {
                continue;
            }
            let occasion = count.fetch_add(1, Ordering::Relaxed) + 1;
            if self.fires(number, rule, occasion) {
                fired.push(Fired { rule: number, number: occasion, action: &rule.action });
            }
        }
        fired.into_iter()
    }

    /// Whether a rule fires at one of its occasions; asked again, the answer is the same.
    pub fn fires(&self, number: usize, rule: &Rule, occasion: u64) -> bool {
        let place = u32::try_from(number + 1).unwrap_or(u32::MAX);
        rule.occasions.contains(occasion, SeededRandom::new(self.seed, place))
    }
}

/// Whether a text fits a pattern, without case; `*` stands for any text.
fn fits(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.to_lowercase(), text.to_lowercase());
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = rest.get(at + part.len()..).unwrap_or_default();
    }
    true
}

impl FaultAction {
    /// The reply that refuses, if this is one: then nothing of what was asked is done.
    pub fn refusal(&self) -> Option<&Answer> {
        match &self.instead {
            Instead::Answer(answer) if answer.is_refusal() => Some(answer),
            _ => None,
        }
    }
}

impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired => f.write_str("expired"),
            Self::Name(name) => write!(f, "name={name}"),
            Self::SelfSigned => f.write_str("self-signed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{FaultAction, Faults, Place, Rule, fits};
    use crate::smtp::Stage;

    fn rule(place: Place, whose: Option<&str>, occasions: &str) -> Rule {
        Rule {
            text: String::new(),
            place,
            whose: whose.map(str::to_owned),
            occasions: occasions.parse().expect("occasions"),
            action: FaultAction::default(),
        }
    }

    #[test]
    fn patterns_fit_without_case() {
        for (pattern, text, expected) in [
            ("a@x", "A@X", true),
            ("a@x", "aa@x", false),
            ("*@x", "aa@x", true),
            ("*@x", "aa@xx", false),
            ("a*", "a", true),
            ("*", "", true),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "abXbc", true),
            ("a*b*c", "acb", false),
            ("a*a", "a", false),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn each_rule_counts_its_own_occasions() {
        let faults = Faults::new(
            1,
            vec![
                rule(Place::Reply(Stage::Rcpt), Some("a@x"), "#1..2"),
                rule(Place::Reply(Stage::Rcpt), None, "#3"),
                rule(Place::AnyReply, None, "#5"),
            ],
        );
        let fired = |whose: &str| faults.reply(Some(Stage::Rcpt), whose).map(|fired| (fired.rule, fired.number));
        assert_eq!(fired("b@x"), None);
        assert_eq!(fired("a@x"), Some((0, 1)));
        assert_eq!(fired("a@x"), Some((0, 2)));
        assert_eq!(fired("a@x"), None);
        assert_eq!(faults.reply(None, "").map(|fired| (fired.rule, fired.number)), Some((2, 5)));
    }

    #[test]
    fn a_rule_that_does_not_act_counts_all_the_same() {
        let faults = Faults::new(
            1,
            vec![rule(Place::Reply(Stage::Rcpt), None, ""), rule(Place::Reply(Stage::Rcpt), None, "#2")],
        );
        assert!((0..2).all(|_| faults.reply(Some(Stage::Rcpt), "").is_some_and(|fired| fired.rule == 0)));
        let (second, count) = (&faults.rules[1].0, &faults.rules[1].1);
        assert!(faults.fires(1, second, 2) && count.load(std::sync::atomic::Ordering::Relaxed) == 2);
    }
}
