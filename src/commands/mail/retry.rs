//! Again, for those who were deferred.
//!
//! Owns who is tried again: whoever was told to come later (4xx), and nobody else. Whoever has accepted
//! the mail would get it twice, whoever has refused it would refuse it again, and where the line broke
//! after the dot nobody knows (RFC 5321 §4.5.4.1, §6.1).

use std::time::Duration;

use super::events::{Event, Note, Retry};
use super::run::{Line, Run};
use crate::error::Result;
use crate::exit::Exit;
use crate::net::tls::ClientSide;
use crate::net::{self, Signals, Woken};
use crate::output::Output;
use crate::smtp::{Done, Mailbox, Outcome, Plan, Recipient};

/// How often, and how far apart.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    pub times: u32,
    pub wait: Duration,
}

/// Carries a plan out, and again for those who are deferred.
pub fn carry(
    run: &Run<'_>,
    plan: &Plan,
    patience: Patience,
    tls: Option<&ClientSide>,
    output: &mut Output,
    signals: &mut Signals,
) -> Result<(Done, Line)> {
    let mut last = run.carry(plan.clone(), tls, output, signals);
    // What became of those who are not tried again.
    let mut settled: Vec<Recipient> = Vec::new();
    for attempt in 2..=patience.times.saturating_add(1) {
        let everybody = || plan.envelope.iter().flat_map(|envelope| envelope.recipients.clone()).collect();
        let again: Vec<Mailbox> = match &last {
            Ok((done, _)) => deferred(done),
            // The line was never made; nobody has heard anything.
            Err(error) if error.exit() == Exit::TryAgain && settled.is_empty() => everybody(),
            Err(_) => Vec::new(),
        };
        if again.is_empty() || !waited(run, patience.wait, attempt, again.len(), output, signals)? {
            break;
        }
        if let Ok((done, _)) = &last {
            merge(&mut settled, &done.recipients);
        }
        let mut plan = plan.clone();
        if let Some(envelope) = &mut plan.envelope {
            envelope.recipients = again;
        }
        last = match (run.carry(plan, tls, output, signals), last) {
            // What was known before is still known.
            (Err(error), Ok((done, line))) => Ok((Done { failure: Some(error), ..done }, line)),
            (next, _) => next,
        };
    }
    let (mut done, line) = last?;
    merge(&mut settled, &done.recipients);
    done.recipients = settled;
    Ok((done, line))
}

/// Those whom it is safe and of use to try again.
fn deferred(done: &Done) -> Vec<Mailbox> {
    let may_help = done.failure.as_ref().is_none_or(|error| error.exit() == Exit::TryAgain);
    let deferred = |recipient: &&Recipient| recipient.outcome == Some(Outcome::Deferred);
    let recipients = done.recipients.iter().filter(deferred).filter(|_| may_help);
    recipients.map(|recipient| recipient.mailbox.clone()).collect()
}

/// Waits for the next attempt, and says whether there is one: not after a signal or the deadline.
fn waited(
    run: &Run<'_>,
    wait: Duration,
    attempt: u32,
    recipients: usize,
    output: &mut Output,
    signals: &mut Signals,
) -> Result<bool> {
    let until = net::now() + wait;
    if run.until().is_some_and(|end| end <= until) {
        return Ok(false);
    }
    output.event(&Event::Fact(Note::Retry(Retry { attempt, recipients, wait })))?;
    Ok(!matches!(signals.wait(Some(until)), Woken::Signal(_)))
}

/// What is known of each, the newest word counting.
fn merge(settled: &mut Vec<Recipient>, newest: &[Recipient]) {
    for recipient in newest {
        match settled.iter_mut().find(|known| known.mailbox == recipient.mailbox) {
            // An attempt that broke off before it decided anything takes nothing back.
            Some(known) if recipient.outcome.is_some() => *known = recipient.clone(),
            Some(_) => {}
            None => settled.push(recipient.clone()),
        }
    }
}
