//! Fault rules of the mail server (`--fault`).
//!
//! Owns the effect of each rule and the decision at which occurrences it fires. Each rule counts its own
//! occurrences over the whole server, from 1, whether or not it fires; the first rule that fires at a point
//! acts. It must not know the syntax of a rule (`commands`), nor count anything else.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::super::stage::Stage;
use super::ServerReply;
use crate::impair::{Occurrences, SeededRandom};

/// Point in a session at which a rule may fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultPoint {
    /// Accepted connection, before the banner.
    Connect,
    /// Reply of a stage; the banner is one of them.
    Reply(Stage),
    AnyReply,
    /// Extensions listed in the reply to EHLO.
    EhloExtensions,
    /// Challenges of an authentication exchange.
    AuthChallenge,
    /// Start of a TLS handshake.
    TlsHandshake,
    /// First bytes of a message body.
    Body,
    /// Server certificate of a connection.
    Certificate,
}

#[derive(Clone, Debug)]
pub(crate) struct FaultRule {
    /// The rule as written on the command line.
    pub text: String,
    pub point: FaultPoint,
    /// Pattern for an address, a user or a host name; `*` matches any text.
    pub pattern: Option<String>,
    pub occurrences: Occurrences,
    pub action: FaultAction,
}

/// Action of a rule at one occurrence; all parts apply together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FaultAction {
    /// Delay before the reply or the effect.
    pub delay: Duration,
    /// Send rate of the reply.
    pub bytes_per_second: Option<u64>,
    /// Bytes sent in the same write after the reply.
    pub injected: Vec<u8>,
    pub effect: Effect,
}

/// Effect in place of the normal behaviour.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Effect {
    /// No effect: normal behaviour.
    #[default]
    None,
    /// Different reply. If it is negative, the command is not executed.
    Reply(ServerReply),
    /// Raw bytes in place of the reply.
    Raw(Vec<u8>),
    /// Close the connection.
    Drop,
    /// Reset the connection.
    Reset,
    /// Stop sending and discard all input.
    Stall,
    /// Hide these EHLO keywords and reject the use of their extensions.
    Hide(Vec<String>),
    /// Send this number of challenges, whatever the responses.
    Challenges(u32),
    /// Send a TLS alert in place of the handshake.
    Alert,
    /// Present an invalid certificate.
    Certificate(CertificateFault),
}

/// Defect of the certificate, for which a client must reject it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CertificateFault {
    Expired,
    /// Issued for this other host name.
    WrongName(String),
    SelfSigned,
}

/// Rule that fires at an occurrence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FiredRule<'r> {
    /// Position of the rule on the command line, from 0.
    pub rule_index: usize,
    /// Ordinal of the occurrence, from 1.
    pub ordinal: u64,
    pub action: &'r FaultAction,
}

/// All rules, each with its count of occurrences.
#[derive(Debug, Default)]
pub(crate) struct FaultRules {
    seed: u64,
    rules: Vec<(FaultRule, AtomicU64)>,
}

impl FaultRules {
    pub(crate) fn new(seed: u64, rules: Vec<FaultRule>) -> Self {
        Self { seed, rules: rules.into_iter().map(|rule| (rule, AtomicU64::new(0))).collect() }
    }

    pub(crate) fn rules(&self) -> impl Iterator<Item = &FaultRule> {
        self.rules.iter().map(|(rule, _)| rule)
    }

    pub(crate) fn rule_text(&self, rule_index: usize) -> &str {
        self.rules.get(rule_index).map_or("", |(rule, _)| rule.text.as_str())
    }

    /// Counts an occurrence of every matching rule; returns the first rule that fires.
    pub(crate) fn evaluate(&self, matches_point: impl Fn(FaultPoint) -> bool, identity: &str) -> Option<FiredRule<'_>> {
        self.evaluate_all(matches_point, identity).next()
    }

    /// Returns whether any rule fires at random.
    pub(crate) fn is_randomized(&self) -> bool {
        self.rules().any(|rule| matches!(rule.occurrences, Occurrences::Probability(_)))
    }

    /// Evaluates the rules for a reply of `stage`.
    pub(crate) fn evaluate_reply(&self, stage: Option<Stage>, identity: &str) -> Option<FiredRule<'_>> {
        let matches_point =
            |point| point == FaultPoint::AnyReply || stage.is_some_and(|stage| point == FaultPoint::Reply(stage));
        self.evaluate(matches_point, identity)
    }

    /// Counts an occurrence of every matching rule; returns all rules that fire.
    pub(crate) fn evaluate_all(
        &self,
        matches_point: impl Fn(FaultPoint) -> bool,
        identity: &str,
    ) -> impl Iterator<Item = FiredRule<'_>> {
        let mut fired = Vec::new();
        for (rule_index, (rule, count)) in self.rules.iter().enumerate() {
            if !matches_point(rule.point)
                || !rule.pattern.as_deref().is_none_or(|pattern| matches_pattern(pattern, identity))
            {
                continue;
            }
            let ordinal = count.fetch_add(1, Ordering::Relaxed) + 1;
            if self.fires(rule_index, rule, ordinal) {
                fired.push(FiredRule { rule_index, ordinal, action: &rule.action });
            }
        }
        fired.into_iter()
    }

    /// Returns whether a rule fires at an occurrence. The result is deterministic.
    pub(crate) fn fires(&self, rule_index: usize, rule: &FaultRule, ordinal: u64) -> bool {
        let stream = u32::try_from(rule_index + 1).unwrap_or(u32::MAX);
        rule.occurrences.contains(ordinal, SeededRandom::new(self.seed, stream))
    }
}

/// Matches a text against a case-insensitive pattern; `*` matches any text.
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
    /// Returns the replacement reply if it is negative; the command is not executed then.
    pub(crate) fn negative_reply(&self) -> Option<&ServerReply> {
        match &self.effect {
            Effect::Reply(reply) if reply.is_negative() => Some(reply),
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
            occurrences: occurrences.parse().expect("occurrences"),
            action: FaultAction::default(),
        }
    }

    #[test]
    fn patterns_match_case_insensitively() {
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
    fn each_rule_counts_its_own_occurrences() {
        let faults = FaultRules::new(
            1,
            vec![
                rule(FaultPoint::Reply(Stage::Rcpt), Some("a@x"), "#1..2"),
                rule(FaultPoint::Reply(Stage::Rcpt), None, "#3"),
                rule(FaultPoint::AnyReply, None, "#5"),
            ],
        );
        let fired = |address: &str| {
            faults.evaluate_reply(Some(Stage::Rcpt), address).map(|fired| (fired.rule_index, fired.ordinal))
        };
        assert_eq!(fired("b@x"), None);
        assert_eq!(fired("a@x"), Some((0, 1)));
        assert_eq!(fired("a@x"), Some((0, 2)));
        assert_eq!(fired("a@x"), None);
        assert_eq!(faults.evaluate_reply(None, "").map(|fired| (fired.rule_index, fired.ordinal)), Some((2, 5)));
    }

    #[test]
    fn a_rule_counts_occurrences_at_which_another_rule_acts() {
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
