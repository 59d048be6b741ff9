//! Again, for those who were deferred.
//!
//! Owns who is tried again: whoever was told to come later (4xx), and nobody else. Whoever has accepted
//! the mail would get it twice, whoever has refused it would refuse it again, and where the line broke
//! after the dot nobody knows (RFC 5321 §4.5.4.1, §6.1).

use std::time::Duration;

use super::events::{MailEvent, MailReport, Retry};
use super::session::{ConnectionInfo, SessionRunner};
use super::session_exit;
use crate::error::Result;
use crate::exit::Exit;
use crate::net::tls::ClientTls;
use crate::net::{self, Signals, WakeReason};
use crate::output::Output;
use crate::smtp::{self, ClientConfig, DeliveryOutcome, Mailbox, RecipientStatus, SessionResult};

/// How often, and how far apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct RetryPolicy {
    pub max_retries: u32,
    pub wait: Duration,
}

/// Carries a plan out, and again for those who are deferred. Beside what came of it the code: what is known
/// of all attempts together decides it.
pub(super) fn send_with_retries(
    session: &SessionRunner<'_>,
    config: &ClientConfig,
    policy: RetryPolicy,
    tls: Option<&ClientTls>,
    output: &mut Output,
    signals: &mut Signals,
) -> Result<(SessionResult, ConnectionInfo, Exit)> {
    let (mut done, mut line) = session.run(config.clone(), tls, output, signals)?;
    let mut exit = session_exit(&done);
    for attempt in 2..=policy.max_retries.saturating_add(1) {
        let again = if line.is_interrupted { Vec::new() } else { deferred(&done, config.all_or_nothing) };
        if again.is_empty() || session.deadline().is_some_and(|end| end <= net::now() + policy.wait) {
            break;
        }
        let told = Retry { attempt, recipients: again.len(), wait: policy.wait };
        line.write_error = line.write_error.take().or(output.emit(&MailReport::Event(MailEvent::Retry(told))).err());
        if let WakeReason::Signal(_) = signals.wait(Some(net::now() + policy.wait)) {
            break;
        }
        let mut next = config.clone();
        if let Some(envelope) = &mut next.envelope {
            envelope.recipients = again;
        }
        let (settled, unwritten) = (std::mem::take(&mut done.recipients), line.write_error.take());
        (done, line) = session.run(next, tls, output, signals)?;
        line.write_error = unwritten.or(line.write_error);
        exit = session_exit(&done);
        let newest = std::mem::replace(&mut done.recipients, settled);
        if config.all_or_nothing && newest.iter().any(|recipient| recipient.outcome.is_some()) {
            // It is about all of them, and so nothing of before holds.
            done.recipients = newest;
            continue;
        }
        merge(&mut done.recipients, &newest);
        // A line that cannot be made now takes nothing back of what was said before.
        if done.recipients.iter().any(|recipient| recipient.outcome.is_some()) {
            exit = smtp::exit_for_recipients(&done.recipients);
        }
    }
    Ok((done, line, exit))
}

/// Those whom it is safe and of use to try again.
fn deferred(result: &SessionResult, all_or_nothing: bool) -> Vec<Mailbox> {
    let may_help = result.failure.as_ref().is_none_or(|error| error.exit() == Exit::TemporaryFailure);
    let count =
        |wanted: DeliveryOutcome| result.recipients.iter().filter(|known| known.outcome == Some(wanted)).count();
    if !may_help || count(DeliveryOutcome::Unknown) > 0 {
        return Vec::new();
    }
    // Who is undecided was not sent to: the line was never made or broke early, or all are to get it together.
    let is_waiting = result.failure.is_some() || (all_or_nothing && count(DeliveryOutcome::Deferred) > 0);
    let is_deferred = |known: &&RecipientStatus| match known.outcome {
        Some(outcome) => outcome == DeliveryOutcome::Deferred,
        None => is_waiting,
    };
    result.recipients.iter().filter(is_deferred).map(|recipient| recipient.mailbox.clone()).collect()
}

/// What is known of each, the newest word counting.
fn merge(recipients: &mut [RecipientStatus], newest: &[RecipientStatus]) {
    // An attempt that broke off before it decided anything takes nothing back.
    for recipient in newest.iter().filter(|recipient| recipient.outcome.is_some()) {
        if let Some(known) = recipients.iter_mut().find(|known| known.mailbox == recipient.mailbox) {
            *known = recipient.clone();
        }
    }
}
