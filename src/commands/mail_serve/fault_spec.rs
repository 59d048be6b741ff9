//! How `--fault` is spelt.
//!
//! Owns the grammar `WHERE[WHOSE]OCCASIONS = ACTION, ACTION` and which action goes where. What a rule
//! does is said by [`smtp::server::fault`](crate::smtp::server::fault).
//!
//! ```text
//!   rcpt[user@x]#1..2 = 451 4.7.1 greylisted      banner = delay 6s
//!   └──┘└──────┘└───┘   └────────────────────┘    starttls = inject "250-x\r\n"
//!   WHERE WHOSE  OCCASIONS         ACTION         mail p=30% = 451 later, delay 1s
//! ```

mod quoting;

use std::str::FromStr;

use crate::commands::args::{duration, one_line, size};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::impair::Occurrences;
use crate::smtp::Stage;
use crate::smtp::server::ServerReply;
use crate::smtp::server::fault::{CertificateFault, Effect, FaultAction, FaultPoint, FaultRule};
use quoting::{find_closing_bracket, parse_text, split_at_commas, unquote};

/// Where, as it is written.
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
/// What EHLO says.
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

/// One `--fault`.
#[derive(Clone, Debug)]
pub(super) struct FaultSpec(pub FaultRule);

impl FromStr for FaultSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |why: &str| {
            Error::new(Exit::Usage, format!("--fault '{text}' cannot be read: {why}"))
                .expected("WHERE[#N|#A..B|every K|p=R] = ACTION[, ACTION]")
                .remedy("for example --fault 'rcpt[user@x]#1..2 = 451 4.7.1 greylisted' or --fault 'dot = drop'")
        };
        parse_rule(text).map(Self).map_err(|why| wrong(&why))
    }
}

fn parse_rule(text: &str) -> Result<FaultRule, String> {
    let text = text.trim();
    let end = text.find(|letter: char| !letter.is_ascii_alphabetic() && letter != '*').unwrap_or(text.len());
    let (place, rest) = text.split_at(end);
    let (whose, rest) = match rest.strip_prefix('[') {
        Some(inner) => {
            let end = find_closing_bracket(inner).ok_or("a [ is not closed")?;
            let (whose, rest) = inner.split_at(end);
            (Some(whose.to_owned()), rest.get(1..).unwrap_or_default())
        }
        None => (None, rest),
    };
    let rest = rest.trim_start();
    // `p=R` has an equals sign of its own.
    let from = if rest.starts_with("p=") { 2 } else { 0 };
    let sign = rest.get(from..).and_then(|rest| rest.find('=')).ok_or("there is no = behind the place")? + from;
    let (occasions, actions) = (rest.get(..sign).unwrap_or_default(), rest.get(sign + 1..).unwrap_or_default());
    let occasions: Occurrences = occasions.parse().map_err(|error| one_line(&error))?;
    let mut rule = FaultRule {
        text: text.to_owned(),
        point: parse_point(place).ok_or_else(|| format!("`{place}` is no place; there are {POINTS}"))?,
        pattern: whose,
        occurrences: occasions,
        action: FaultAction::default(),
    };
    for action in split_at_commas(actions)? {
        parse_action(&mut rule, place, action.trim())?;
    }
    check_rule(&rule, place)?;
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

/// Adds one action to a rule.
fn parse_action(rule: &mut FaultRule, point_name: &str, text: &str) -> Result<(), String> {
    let (word, rest) = text.split_once(' ').map_or((text, ""), |(word, rest)| (word, rest.trim()));
    let action = &mut rule.action;
    let bare = |instead| if rest.is_empty() { Ok(instead) } else { Err(format!("`{word}` takes nothing behind it")) };
    let instead = match word {
        "delay" if !action.delay.is_zero() => return duplicate_action(word),
        "slow" if action.bytes_per_second.is_some() => return duplicate_action(word),
        "inject" if !action.injected.is_empty() => return duplicate_action(word),
        "delay" => {
            action.delay = duration(rest)?;
            return Ok(());
        }
        "slow" => {
            let pace = rest.strip_suffix("/s").and_then(|rate| size(rate).ok()).filter(|rate| *rate > 0);
            action.bytes_per_second = Some(pace.ok_or("slow wants a rate such as 10B/s")? as u64);
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
            let name = name.ok_or("cert is expired, name=OTHER or self-signed")?;
            bare(Effect::Certificate(CertificateFault::WrongName(name.to_owned())))?
        }
        code if code.len() == 3 && code.bytes().all(|digit| digit.is_ascii_digit()) => {
            parse_reply(rule, point_name, code, rest)?
        }
        "" => return Err("there is no action".to_owned()),
        other => {
            return Err(format!(
                "`{other}` is no action; there are a reply such as 451 4.7.1 later, delay, slow, drop, reset, stall, \
                 raw, inject, hide, alert"
            ));
        }
    };
    if rule.action.effect != Effect::None {
        return Err("only one thing can be done in place of what is usual".to_owned());
    }
    rule.action.effect = instead;
    Ok(())
}

fn duplicate_action(word: &str) -> Result<(), String> {
    Err(format!("`{word}` is said twice"))
}

fn parse_hide(rule: &mut FaultRule, point_name: &str, rest: &str) -> Result<Effect, String> {
    let words: Vec<String> = rest.split_ascii_whitespace().map(str::to_owned).collect();
    let words = match point_name {
        "starttls" | "auth" if words.is_empty() => vec![point_name.to_owned()],
        "ehlo" if !words.is_empty() => {
            let unknown = words.iter().find(|word| !EHLO_KEYWORDS.iter().any(|known| known.eq_ignore_ascii_case(word)));
            if let Some(unknown) = unknown {
                return Err(format!("`{unknown}` is no word of EHLO; there are {}", EHLO_KEYWORDS.join(", ")));
            }
            words
        }
        _ => return Err("it is `starttls = hide`, `auth = hide` or `ehlo = hide WORD`".to_owned()),
    };
    rule.point = FaultPoint::EhloExtensions;
    Ok(Effect::Hide(words))
}

fn parse_reply(rule: &mut FaultRule, point_name: &str, code: &str, rest: &str) -> Result<Effect, String> {
    let code: u16 = code.parse().unwrap_or_default();
    if !(200..600).contains(&code) {
        return Err("a reply's code is from 200 to 599; anything else is raw".to_owned());
    }
    let count = rest.strip_prefix('x').filter(|count| count.bytes().all(|digit| digit.is_ascii_digit()));
    if let Some(count) = count.filter(|_| code == 334) {
        if point_name != "auth" {
            return Err("334 xN goes with auth".to_owned());
        }
        rule.point = FaultPoint::AuthChallenge;
        let count = count.parse().ok().filter(|count| *count > 0);
        return count.map(Effect::Challenges).ok_or_else(|| "334 xN wants a number".to_owned());
    }
    let text = if rest.contains('"') { parse_text(rest)? } else { rest.to_owned() };
    if text.chars().any(char::is_control) {
        return Err("a reply is one line of text; anything else is raw".to_owned());
    }
    Ok(Effect::Reply(ServerReply::new(code, text)))
}

/// Refuses what would be read and never done.
fn check_rule(rule: &FaultRule, point_name: &str) -> Result<(), String> {
    let FaultAction { delay, bytes_per_second: pace, injected: behind, effect: instead } = &rule.action;
    let silent = matches!(instead, Effect::Drop | Effect::Reset | Effect::Stall);
    let (may, what) = match rule.point {
        FaultPoint::Connect => (matches!(instead, Effect::None) || silent, "delay, drop, reset or stall"),
        FaultPoint::TlsHandshake => {
            (silent || matches!(instead, Effect::Alert | Effect::Raw(_)), "drop, reset, stall, alert or raw")
        }
        FaultPoint::Certificate => (matches!(instead, Effect::Certificate(_)), "expired, name=OTHER or self-signed"),
        // What was answered with a yes is there; in the middle of a message nothing is.
        FaultPoint::Body => (
            silent || matches!(instead, Effect::None) || rule.action.negative_reply().is_some(),
            "a reply that refuses, delay, drop, reset or stall",
        ),
        FaultPoint::EhloExtensions => (true, "hide"),
        FaultPoint::AuthChallenge => (true, "334 xN"),
        FaultPoint::Reply(_) | FaultPoint::AnyReply => {
            (!matches!(instead, Effect::Alert), "a reply, raw, inject, delay, slow, drop, reset or stall")
        }
    };
    if !may {
        return Err(format!("{point_name} takes {what}"));
    }
    let is_reply = matches!(rule.point, FaultPoint::Reply(_) | FaultPoint::AnyReply);
    if !is_reply && (pace.is_some() || !behind.is_empty()) {
        return Err(format!("slow and inject are about a reply, and `{point_name} = {what}` is about none"));
    }
    let has_no_time = matches!(
        rule.point,
        FaultPoint::TlsHandshake | FaultPoint::Certificate | FaultPoint::EhloExtensions | FaultPoint::AuthChallenge
    );
    if has_no_time && !delay.is_zero() {
        return Err(format!("{point_name} takes {what}, without a delay"));
    }
    if silent && (pace.is_some() || !behind.is_empty()) {
        return Err("who says nothing can neither be slow nor inject".to_owned());
    }
    let has_somebody = matches!(
        rule.point,
        FaultPoint::Reply(Stage::Ehlo | Stage::Auth | Stage::Mail | Stage::Rcpt | Stage::Dot)
            | FaultPoint::EhloExtensions
    );
    if rule.pattern.is_some() && !has_somebody {
        return Err(format!("{point_name} is nobody's: [...] goes with ehlo, auth, mail, rcpt and dot"));
    }
    // Only a sender can be nobody: `<>`.
    if rule.pattern.as_deref() == Some("") && !matches!(rule.point, FaultPoint::Reply(Stage::Mail | Stage::Dot)) {
        return Err(format!("nobody is called nothing, so {point_name}[] would never fire"));
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
    use std::time::Duration;

    fn action(text: &str) -> FaultAction {
        parse_rule(text).expect(text).action
    }

    #[test]
    fn the_examples_of_the_manual_are_read() {
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
    fn occasions_stand_between_the_place_and_the_sign() {
        for (text, occasions) in [
            ("dot#2=drop", Occurrences::Range(2, 2)),
            ("dot #2 = drop", Occurrences::Range(2, 2)),
            ("dot every 3 = drop", Occurrences::EveryNth(3)),
            ("dot p=30% = drop", Occurrences::Probability("30%".parse().expect("a chance"))),
            ("dot[a@[1.2.3.4]]#3.. = drop", Occurrences::Range(3, u64::MAX)),
        ] {
            assert_eq!(parse_rule(text).expect(text).occurrences, occasions, "{text}");
        }
    }

    #[test]
    fn several_actions_are_one() {
        let whole = action("rcpt = delay 2s, 451 4.7.1 \"later, please\", slow 1kB/s");
        assert_eq!((whole.delay, whole.bytes_per_second), (Duration::from_secs(2), Some(1000)));
        assert_eq!(whole.effect, Effect::Reply(ServerReply::new(451, "4.7.1 later, please")));
        assert_eq!(action("* = raw \"\\x1b[2J, \\\"\\\\\\0\"").effect, Effect::Raw(b"\x1b[2J, \"\\\0".to_vec()));
    }

    #[test]
    fn what_would_never_be_done_is_refused() {
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
