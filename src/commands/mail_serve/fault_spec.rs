//! Parser of `--fault`.
//!
//! Owns the grammar `WHERE[PATTERN]OCCURRENCES = ACTION, ACTION` and which action is valid at which point. The
//! effect of a rule is in [`smtp::server::fault`](crate::smtp::server::fault).
//!
//! ```text
//!   rcpt[user@x]#1..2 = 451 4.7.1 greylisted      banner = delay 6s
//!   └──┘└──────┘└───┘   └────────────────────┘    starttls = inject "250-x\r\n"
//!   WHERE PATTERN OCCURRENCES        ACTION         mail p=30% = 451 later, delay 1s
//! ```

mod quoting;

use std::str::FromStr;

use crate::commands::args::{duration, one_line, parse_arg, size};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::impair::Occurrences;
use crate::smtp::Stage;
use crate::smtp::server::ServerReply;
use crate::smtp::server::fault::{CertificateFault, Effect, FaultAction, FaultPoint, FaultRule};
use quoting::{find_closing_bracket, parse_text, split_at_commas, unquote};

const STAGES: [(&str, Stage); 9] = [
    ("banner", Stage::Banner),
    ("ehlo", Stage::Ehlo),
    ("starttls", Stage::Starttls),
    ("auth", Stage::Auth),
    ("mail", Stage::Mail),
    ("rcpt", Stage::Rcpt),
    ("data", Stage::Data),
    ("dot", Stage::Dot),
    ("quit", Stage::Quit),
];
/// Keywords of the EHLO reply.
const EHLO_KEYWORDS: [&str; 10] = [
    "SIZE",
    "8BITMIME",
    "SMTPUTF8",
    "PIPELINING",
    "CHUNKING",
    "DSN",
    "ENHANCEDSTATUSCODES",
    "AUTH",
    "STARTTLS",
    "HELP",
];
const POINTS: &str = "connect, banner, ehlo, starttls, tls, cert, auth, mail, rcpt, data, body, dot, quit or *";

#[derive(Clone, Debug)]
pub(super) struct FaultSpec(pub FaultRule);

impl FromStr for FaultSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let error = |why: &str| {
            Error::new(Exit::Usage, format!("'{text}' is not a fault rule: {why}"))
                .expected("WHERE[PATTERN][#N|#A..B|every K|p=R] = ACTION[, ACTION]")
                .remedy("for example --fault 'rcpt[user@x]#1..2 = 451 4.7.1 greylisted' or --fault 'dot = drop'")
        };
        parse_rule(text).map(Self).map_err(|why| error(&why))
    }
}

fn parse_rule(text: &str) -> Result<FaultRule, String> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_alphabetic() && c != '*').unwrap_or(text.len());
    let (point_name, rest) = text.split_at(end);
    let (pattern, rest) = match rest.strip_prefix('[') {
        Some(inner) => {
            let end = find_closing_bracket(inner).ok_or("missing ]")?;
            let (pattern, rest) = inner.split_at(end);
            (Some(pattern.to_owned()), rest.get(1..).unwrap_or_default())
        }
        None => (None, rest),
    };
    let rest = rest.trim_start();
    // `p=R` has an equals sign of its own.
    let from = if rest.starts_with("p=") { 2 } else { 0 };
    let sign = rest.get(from..).and_then(|rest| rest.find('=')).ok_or("missing = after the fault point")? + from;
    let (occurrences, actions) = (rest.get(..sign).unwrap_or_default(), rest.get(sign + 1..).unwrap_or_default());
    let occurrences: Occurrences = parse_arg(occurrences).map_err(|error| one_line(&error))?;
    let mut rule = FaultRule {
        text: text.to_owned(),
        point: parse_point(point_name)
            .ok_or_else(|| format!("'{point_name}' is not a fault point; expected {POINTS}"))?,
        pattern,
        occurrences,
        action: FaultAction::default(),
    };
    for action in split_at_commas(actions)? {
        parse_action(&mut rule, point_name, action.trim())?;
    }
    check_rule(&rule, point_name)?;
    Ok(rule)
}

fn parse_point(word: &str) -> Option<FaultPoint> {
    match word {
        "*" => Some(FaultPoint::AnyReply),
        "connect" => Some(FaultPoint::Connect),
        "tls" => Some(FaultPoint::TlsHandshake),
        "cert" => Some(FaultPoint::Certificate),
        "body" => Some(FaultPoint::Body),
        word => STAGES.iter().find(|(name, _)| *name == word).map(|(_, stage)| FaultPoint::Reply(*stage)),
    }
}

fn parse_action(rule: &mut FaultRule, point_name: &str, text: &str) -> Result<(), String> {
    let (word, rest) = text.split_once(' ').map_or((text, ""), |(word, rest)| (word, rest.trim()));
    let action = &mut rule.action;
    let bare = |effect| if rest.is_empty() { Ok(effect) } else { Err(format!("'{word}' takes no argument")) };
    let effect = match word {
        "delay" if !action.delay.is_zero() => return duplicate_action(word),
        "slow" if action.bytes_per_second.is_some() => return duplicate_action(word),
        "inject" if !action.injected.is_empty() => return duplicate_action(word),
        "delay" => {
            action.delay = duration(rest)?;
            return Ok(());
        }
        "slow" => {
            let rate = rest.strip_suffix("/s").and_then(|rate| size(rate).ok()).filter(|rate| *rate > 0);
            action.bytes_per_second = Some(rate.ok_or("slow requires a rate such as 10B/s")? as u64);
            return Ok(());
        }
        "inject" => {
            action.injected = unquote(rest)?;
            return Ok(());
        }
        "raw" => Effect::Raw(unquote(rest)?),
        "drop" => bare(Effect::Drop)?,
        "reset" => bare(Effect::Reset)?,
        "stall" => bare(Effect::Stall)?,
        "alert" => bare(Effect::Alert)?,
        "hide" => parse_hide(rule, point_name, rest)?,
        "expired" if point_name == "cert" => bare(Effect::Certificate(CertificateFault::Expired))?,
        "self-signed" if point_name == "cert" => bare(Effect::Certificate(CertificateFault::SelfSigned))?,
        word if point_name == "cert" => {
            let name = word.strip_prefix("name=").filter(|name| !name.is_empty());
            let name = name.ok_or("cert takes expired, name=OTHER or self-signed")?;
            bare(Effect::Certificate(CertificateFault::WrongName(name.to_owned())))?
        }
        code if code.len() == 3 && code.bytes().all(|digit| digit.is_ascii_digit()) => {
            parse_reply(rule, point_name, code, rest)?
        }
        "" => return Err("missing action".to_owned()),
        other => {
            return Err(format!(
                "'{other}' is not an action; expected a reply such as 451 4.7.1 later, or delay, slow, drop, reset, \
                 stall, raw, inject, hide or alert"
            ));
        }
    };
    if rule.action.effect != Effect::None {
        return Err("only one of the actions can replace the normal behaviour".to_owned());
    }
    rule.action.effect = effect;
    Ok(())
}

fn duplicate_action(word: &str) -> Result<(), String> {
    Err(format!("'{word}' is given twice"))
}

fn parse_hide(rule: &mut FaultRule, point_name: &str, rest: &str) -> Result<Effect, String> {
    let words: Vec<String> = rest.split_ascii_whitespace().map(str::to_owned).collect();
    let words = match point_name {
        "starttls" | "auth" if words.is_empty() => vec![point_name.to_owned()],
        "ehlo" if !words.is_empty() => {
            let unknown = words.iter().find(|word| !EHLO_KEYWORDS.iter().any(|known| known.eq_ignore_ascii_case(word)));
            if let Some(unknown) = unknown {
                return Err(format!("'{unknown}' is not a keyword of EHLO; expected {}", EHLO_KEYWORDS.join(", ")));
            }
            words
        }
        _ => return Err("hide is valid as 'starttls = hide', 'auth = hide' or 'ehlo = hide KEYWORD'".to_owned()),
    };
    rule.point = FaultPoint::EhloExtensions;
    Ok(Effect::Hide(words))
}

fn parse_reply(rule: &mut FaultRule, point_name: &str, code: &str, rest: &str) -> Result<Effect, String> {
    let code: u16 = code.parse().unwrap_or_default();
    if !(200..600).contains(&code) {
        return Err(format!("reply code {code} is not from 200 to 599; use raw to send it"));
    }
    let count = rest.strip_prefix('x').filter(|count| count.bytes().all(|digit| digit.is_ascii_digit()));
    if let Some(count) = count.filter(|_| code == 334) {
        if point_name != "auth" {
            return Err("334 xN is valid for auth only".to_owned());
        }
        rule.point = FaultPoint::AuthChallenge;
        let count = count.parse().ok().filter(|count| *count > 0);
        return count.map(Effect::Challenges).ok_or_else(|| "334 xN requires a number greater than 0".to_owned());
    }
    let text = if rest.contains('"') { parse_text(rest)? } else { rest.to_owned() };
    if text.chars().any(char::is_control) {
        return Err("a reply is one line of text; use raw for other bytes".to_owned());
    }
    Ok(Effect::Reply(ServerReply::new(code, text)))
}

/// Rejects rules with parts that would have no effect.
fn check_rule(rule: &FaultRule, point_name: &str) -> Result<(), String> {
    let FaultAction { delay, bytes_per_second, injected, effect } = &rule.action;
    let sends_nothing = matches!(effect, Effect::Drop | Effect::Reset | Effect::Stall);
    let (is_valid, actions) = match rule.point {
        FaultPoint::Connect => (matches!(effect, Effect::None) || sends_nothing, "delay, drop, reset or stall"),
        FaultPoint::TlsHandshake => {
            (sends_nothing || matches!(effect, Effect::Alert | Effect::Raw(_)), "drop, reset, stall, alert or raw")
        }
        FaultPoint::Certificate => (matches!(effect, Effect::Certificate(_)), "expired, name=OTHER or self-signed"),
        // A positive reply would accept the message, which is not possible in the middle of it.
        FaultPoint::Body => (
            sends_nothing || matches!(effect, Effect::None) || rule.action.negative_reply().is_some(),
            "a 4xx or 5xx reply, delay, drop, reset or stall",
        ),
        FaultPoint::EhloExtensions => (true, "hide"),
        FaultPoint::AuthChallenge => (true, "334 xN"),
        FaultPoint::Reply(_) | FaultPoint::AnyReply => {
            (!matches!(effect, Effect::Alert), "a reply, raw, inject, delay, slow, drop, reset or stall")
        }
    };
    if !is_valid {
        return Err(format!("{point_name} takes {actions}"));
    }
    let is_reply = matches!(rule.point, FaultPoint::Reply(_) | FaultPoint::AnyReply);
    if !is_reply && (bytes_per_second.is_some() || !injected.is_empty()) {
        return Err(format!("slow and inject apply to replies; {point_name} takes {actions}"));
    }
    let takes_no_delay = matches!(
        rule.point,
        FaultPoint::TlsHandshake | FaultPoint::Certificate | FaultPoint::EhloExtensions | FaultPoint::AuthChallenge
    );
    if takes_no_delay && !delay.is_zero() {
        return Err(format!("{point_name} takes {actions}, without a delay"));
    }
    if sends_nothing && (bytes_per_second.is_some() || !injected.is_empty()) {
        return Err("drop, reset and stall send no reply for slow or inject".to_owned());
    }
    let takes_pattern = matches!(
        rule.point,
        FaultPoint::Reply(Stage::Ehlo | Stage::Auth | Stage::Mail | Stage::Rcpt | Stage::Dot)
            | FaultPoint::EhloExtensions
    );
    if rule.pattern.is_some() && !takes_pattern {
        return Err(format!("{point_name} takes no [PATTERN]; ehlo, auth, mail, rcpt and dot do"));
    }
    // Only a sender can be empty: `<>`.
    if rule.pattern.as_deref() == Some("") && !matches!(rule.point, FaultPoint::Reply(Stage::Mail | Stage::Dot)) {
        return Err(format!("{point_name}[] would never fire: only a sender can be empty"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{FaultSpec, parse_rule};
    use crate::exit::Exit;
    use crate::impair::Occurrences;
    use crate::smtp::Stage;
    use crate::smtp::server::ServerReply;
    use crate::smtp::server::fault::{CertificateFault, Effect, FaultAction, FaultPoint};
    use proptest::prelude::*;
    use std::time::Duration;

    proptest! {
        #![proptest_config(crate::protocol::script::property_config())]

        #[test]
        fn random_rules_cause_no_panic(
            rule in "(rcpt|dot|ehlo|cert|\\*)?(\\[[a-z@*]{0,5}\\])?(#[0-9.]{0,4}| every [0-9]| p=[0-9]%)? ?=? ?(drop|451 x|hide SIZE|delay 1s|raw \"[a-z\\\\]{0,4}\"|[ -~é]{0,9})(, ?[a-z0-9 /]{0,12})?",
        ) {
            if let Ok(parsed) = parse_rule(&rule) {
                prop_assert!(rule.contains('='), "{rule}: {parsed:?}");
            }
        }
    }

    fn action(text: &str) -> FaultAction {
        parse_rule(text).expect(text).action
    }

    #[test]
    fn the_examples_of_the_manual_are_parsed() {
        let rule = parse_rule("rcpt[user@x]#1..2 = 451 4.7.1 greylisted").expect("an example");
        assert_eq!((rule.point, rule.pattern.as_deref()), (FaultPoint::Reply(Stage::Rcpt), Some("user@x")));
        assert_eq!(rule.occurrences, Occurrences::Range(1, 2));
        assert_eq!(rule.action.effect, Effect::Reply(ServerReply::new(451, "4.7.1 greylisted")));
        assert_eq!(action("dot = drop").effect, Effect::Drop);
        assert_eq!(action("banner = delay 6s").delay, Duration::from_secs(6));
        assert_eq!(action("ehlo = slow 1B/s").bytes_per_second, Some(1));
        assert_eq!(action("starttls = hide").effect, Effect::Hide(vec!["starttls".into()]));
        assert_eq!(action("starttls = 454").effect, Effect::Reply(ServerReply::new(454, "")));
        assert_eq!(action("starttls = inject \"250-x\\r\\n\"").injected, b"250-x\r\n");
        assert_eq!(action("starttls = stall").effect, Effect::Stall);
        assert_eq!(action("cert = expired").effect, Effect::Certificate(CertificateFault::Expired));
        assert_eq!(action("cert=name=other").effect, Effect::Certificate(CertificateFault::WrongName("other".into())));
        assert_eq!(action("cert = self-signed").effect, Effect::Certificate(CertificateFault::SelfSigned));
        assert_eq!(action("* = raw \"250\\r\\n\"").effect, Effect::Raw(b"250\r\n".to_vec()));
        assert_eq!(action("auth = 334 x10").effect, Effect::Challenges(10));
    }

    #[test]
    fn occurrences_are_between_the_fault_point_and_the_equals_sign() {
        for (text, occurrences) in [
            ("dot#2=drop", Occurrences::Range(2, 2)),
            ("dot #2 = drop", Occurrences::Range(2, 2)),
            ("dot every 3 = drop", Occurrences::EveryNth(3)),
            ("dot p=30% = drop", Occurrences::Probability("30%".parse().expect("a probability"))),
            ("dot[a@[1.2.3.4]]#3.. = drop", Occurrences::Range(3, u64::MAX)),
        ] {
            assert_eq!(parse_rule(text).expect(text).occurrences, occurrences, "{text}");
        }
    }

    #[test]
    fn actions_of_a_rule_are_combined() {
        let combined = action("rcpt = delay 2s, 451 4.7.1 \"later, please\", slow 1kB/s");
        assert_eq!((combined.delay, combined.bytes_per_second), (Duration::from_secs(2), Some(1000)));
        assert_eq!(combined.effect, Effect::Reply(ServerReply::new(451, "4.7.1 later, please")));
        assert_eq!(action("* = raw \"\\x1b[2J, \\\"\\\\\\0\"").effect, Effect::Raw(b"\x1b[2J, \"\\\0".to_vec()));
    }

    #[test]
    fn rules_without_effect_are_rejected() {
        for text in [
            "",
            "=",
            "dot",
            "dot =",
            "dot = ",
            "dot == drop",
            "foo = drop",
            "dot = foo",
            "dot = drop now",
            "dot = drop, reset",
            "dot = 700",
            "dot = 99",
            "dot = delay",
            "dot = slow",
            "dot = slow 10",
            "dot = raw x",
            "dot = raw \"x",
            "dot = raw \"\\x1\"",
            "dot = raw \"\\q\"",
            "dot = raw \"a\"b\"",
            "dot#0 = drop",
            "dot p=2 = drop",
            "dot[x = drop",
            "connect = 554",
            "tls = 554",
            "tls = delay 1s",
            "dot = alert",
            "dot = hide",
            "ehlo = hide",
            "mail = 334 x3x, drop",
            "auth = 334 x0",
            "cert = stall",
            "cert = foo",
            "body = slow 1B/s",
            "body = inject \"x\"",
            "data[x] = drop",
            "banner[x] = 554",
            "ehlo = hide SZIE",
            "ehlo = hide SIZE, delay 1s",
            "auth = 334 x3, delay 1s",
            "rcpt = delay 1s, delay 2s",
            "rcpt = slow 1B/s, slow 2B/s",
            "rcpt = inject \"x\", inject \"y\"",
            "rcpt = 334 x3",
            "* = 334 x5",
            "rcpt[] = drop",
            "dot = drop, inject \"x\"",
            "cert = expired, delay 1s",
            "dot = expired",
        ] {
            let error = text.parse::<FaultSpec>().expect_err(text);
            assert_eq!(error.exit(), Exit::Usage);
            assert!(error.advice().is_some_and(|advice| advice.contains("greylisted")), "{text}");
        }
    }
}
