//! The rules of `--fault` taken together: what they require, and the plan of `--plan`.
//!
//! Owns the checks that a single rule cannot make. [`fault_spec`](super::fault_spec) parses each rule.

use std::time::Duration;

use super::counters::Counters;
use super::events::{MailServeEvent, PlannedFault, Summary};
use crate::commands::report;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::net::Signals;
use crate::output::Output;
use crate::smtp::Stage;
use crate::smtp::server::fault::{Effect, FaultPoint, FaultRule, FaultRules};

/// Rejects rules that cannot take effect without TLS or users.
pub(super) fn check_requirements(faults: &FaultRules, has_tls: bool, has_users: bool) -> Result<()> {
    let hides = |rule: &FaultRule, word: &str| match &rule.action.effect {
        Effect::Hide(words) => words.iter().all(|hidden| hidden.eq_ignore_ascii_case(word)),
        _ => false,
    };
    for rule in faults.rules() {
        let flag = format!("--fault '{}'", rule.text);
        let needs_tls = matches!(rule.point, FaultPoint::TlsHandshake | FaultPoint::Reply(Stage::Starttls));
        if !has_tls && (needs_tls || hides(rule, "STARTTLS")) {
            return Err(tls_required(&flag));
        }
        let needs_users = matches!(rule.point, FaultPoint::AuthChallenge | FaultPoint::Reply(Stage::Auth));
        if !has_users && (needs_users || hides(rule, "AUTH")) {
            return Err(Error::new(Exit::Usage, format!("{flag} requires a login, but no users were given"))
                .expected("--auth-file FILE"));
        }
    }
    Ok(())
}

pub(super) fn tls_required(flag: &str) -> Error {
    Error::new(Exit::Usage, format!("{flag} requires TLS, but no certificate was given"))
        .expected("--tls-self-signed, or --tls-cert and --tls-key")
}

/// Prints the first `count` decisions of each rule.
pub(super) fn print_plan(faults: &FaultRules, (seed, count): (u64, u64), output: &mut Output) -> Result<Exit> {
    let mut signals = Signals::install()?;
    output.stop_on(signals.stop_conditions(None));
    let mut exit = Exit::Success;
    'rules: for (index, rule) in (0..).zip(faults.rules()) {
        for number in 1..=count {
            if let Some(signal) = signals.take() {
                exit = signal.into();
                break 'rules;
            }
            let planned = PlannedFault { rule: rule.text.clone(), number, fires: faults.fires(index, rule, number) };
            output.emit(&MailServeEvent::Decision(planned))?;
            if output.is_closed() {
                break 'rules;
            }
        }
    }
    let summary = Counters::default().summary(Duration::ZERO, None, 0);
    report::emit_summary(output, &Summary { planned_seed: Some(seed), ..summary }, exit)?;
    Ok(exit)
}
