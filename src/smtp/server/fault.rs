//! How a mail server misbehaves on order.
//!
//! Owns what a rule of `--fault` does and at which of its occasions. Each rule counts its own occasions
//! over the whole server, from 1, whether or not it fires; the first rule that fires at a place is the
//! one that acts. It must not know how a rule is spelt (`commands`), nor count anything else.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::super::stage::Stage;
use super::ServerReply;
use crate::impair::{Occurrences, SeededRandom};

/// Where a rule has its occasions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultPoint {
    /// A connection that was accepted, before its banner.
    Connect,
    /// The reply to a stage; the banner is one too.
    Reply(Stage),
    /// Every reply.
    AnyReply,
    /// The words of each EHLO.
    EhloExtensions,
    /// A login's challenges.
    AuthChallenge,
    /// A TLS handshake that is to begin.
    TlsHandshake,
    /// A message's first octets.
    Body,
    /// The certificate of each connection.
    Certificate,
}

/// A rule.
#[derive(Clone, Debug)]
pub(crate) struct FaultRule {
    /// As it was written.
    pub text: String,
    /// Where.
    pub point: FaultPoint,
    /// Whose: an address, a user, a name; `*` in it stands for anything.
    pub pattern: Option<String>,
    /// Which of the occasions.
    pub occurrences: Occurrences,
    /// What is done.
    pub action: FaultAction,
}

/// What is done, all of it at one occasion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FaultAction {
    /// How long everything is held back.
    pub delay: Duration,
    /// At how many octets a second the reply goes out.
    pub bytes_per_second: Option<u64>,
    /// What goes out in the same write behind the reply.
    pub injected: Vec<u8>,
    /// What takes the reply's place.
    pub effect: Effect,
}

/// What is done in place of what is usual.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing: the usual is done.
    #[default]
    None,
    /// Another reply. One that refuses means that nothing is done.
    Reply(ServerReply),
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
    Certificate(CertificateFault),
}

/// A certificate that nobody should accept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CertificateFault {
    /// It was valid once.
    Expired,
    /// It is another's.
    WrongName(String),
    /// Nobody but itself vouches for it.
    SelfSigned,
}

/// A rule that fires.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FiredRule<'r> {
    /// Its place on the command line, from 0.
    pub rule_index: usize,
    /// The how-manieth of its occasions it is.
    pub ordinal: u64,
    /// What is done.
    pub action: &'r FaultAction,
}

/// All rules, and how often each was asked.
#[derive(Debug, Default)]
pub(crate) struct FaultRules {
    seed: u64,
    rules: Vec<(FaultRule, AtomicU64)>,
}

impl FaultRules {
    /// These rules in their order.
    pub(crate) fn new(seed: u64, rules: Vec<FaultRule>) -> Self {
        Self { seed, rules: rules.into_iter().map(|rule| (rule, AtomicU64::new(0))).collect() }
    }

    /// The rules.
    pub(crate) fn rules(&self) -> impl Iterator<Item = &FaultRule> {
        self.rules.iter().map(|(rule, _)| rule)
    }

    /// The rule with this number.
    pub(crate) fn rule_text(&self, rule_index: usize) -> &str {
        self.rules.get(rule_index).map_or("", |(rule, _)| rule.text.as_str())
    }

    /// Counts an occasion of every rule that belongs here; the first that fires.
    pub(crate) fn evaluate(&self, matches_point: impl Fn(FaultPoint) -> bool, identity: &str) -> Option<FiredRule<'_>> {
        self.evaluate_all(matches_point, identity).next()
    }

    /// Whether any of them is left to chance.
    pub(crate) fn is_randomized(&self) -> bool {
        self.rules().any(|rule| matches!(rule.occurrences, Occurrences::Probability(_)))
    }

    /// The same for a reply.
    pub(crate) fn evaluate_reply(&self, stage: Option<Stage>, identity: &str) -> Option<FiredRule<'_>> {
        let is_here =
            |place| place == FaultPoint::AnyReply || stage.is_some_and(|stage| place == FaultPoint::Reply(stage));
        self.evaluate(is_here, identity)
    }

    /// Every rule that fires here.
    pub(crate) fn evaluate_all(
        &self,
        matches_point: impl Fn(FaultPoint) -> bool,
        identity: &str,
    ) -> impl Iterator<Item = FiredRule<'_>> {
        let mut fired = Vec::new();
        for (number, (rule, count)) in self.rules.iter().enumerate() {
            if !matches_point(rule.point)
                || !rule.pattern.as_deref().is_none_or(|pattern| matches_pattern(pattern, identity))
            {
                continue;
            }
            let occasion = count.fetch_add(1, Ordering::Relaxed) + 1;
            if self.fires(number, rule, occasion) {
                fired.push(FiredRule { rule_index: number, ordinal: occasion, action: &rule.action });
            }
        }
        fired.into_iter()
    }

    /// Whether a rule fires at one of its occasions; asked again, the answer is the same.
    pub(crate) fn fires(&self, rule_index: usize, rule: &FaultRule, ordinal: u64) -> bool {
        let place = u32::try_from(rule_index + 1).unwrap_or(u32::MAX);
        rule.occurrences.contains(ordinal, SeededRandom::new(self.seed, place))
    }
}

/// Whether a text fits a pattern, without case; `*` stands for any text.
fn matches_pattern(pattern: &str, text: &str) -> bool {
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
    pub(crate) fn negative_reply(&self) -> Option<&ServerReply> {
        match &self.effect {
            Effect::Reply(answer) if answer.is_negative() => Some(answer),
            _ => None,
        }
    }
}

impl fmt::Display for CertificateFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired => f.write_str("expired"),
            Self::WrongName(name) => write!(f, "name={name}"),
            Self::SelfSigned => f.write_str("self-signed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{FaultAction, FaultPoint, FaultRule, FaultRules, matches_pattern};
    use crate::smtp::Stage;

    fn rule(point: FaultPoint, pattern: Option<&str>, occurrences: &str) -> FaultRule {
        FaultRule {
            text: String::new(),
            point,
            pattern: pattern.map(str::to_owned),
            occurrences: occurrences.parse().expect("occasions"),
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
            assert_eq!(matches_pattern(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn each_rule_counts_its_own_occasions() {
        let faults = FaultRules::new(
            1,
            vec![
                rule(FaultPoint::Reply(Stage::Rcpt), Some("a@x"), "#1..2"),
                rule(FaultPoint::Reply(Stage::Rcpt), None, "#3"),
                rule(FaultPoint::AnyReply, None, "#5"),
            ],
        );
        let fired = |whose: &str| {
            faults.evaluate_reply(Some(Stage::Rcpt), whose).map(|fired| (fired.rule_index, fired.ordinal))
        };
        assert_eq!(fired("b@x"), None);
        assert_eq!(fired("a@x"), Some((0, 1)));
        assert_eq!(fired("a@x"), Some((0, 2)));
        assert_eq!(fired("a@x"), None);
        assert_eq!(faults.evaluate_reply(None, "").map(|fired| (fired.rule_index, fired.ordinal)), Some((2, 5)));
    }

    #[test]
    fn a_rule_that_does_not_act_counts_all_the_same() {
        let faults = FaultRules::new(
            1,
            vec![rule(FaultPoint::Reply(Stage::Rcpt), None, ""), rule(FaultPoint::Reply(Stage::Rcpt), None, "#2")],
        );
        assert!(
            (0..2).all(|_| faults.evaluate_reply(Some(Stage::Rcpt), "").is_some_and(|fired| fired.rule_index == 0))
        );
        let (second, count) = (&faults.rules[1].0, &faults.rules[1].1);
        assert!(faults.fires(1, second, 2) && count.load(std::sync::atomic::Ordering::Relaxed) == 2);
    }
}
