//! Retries of `mail --retry`.
//!
//! Only recipients with a temporary failure (4xx) are retried. An accepted recipient would receive the mail
//! twice, a rejected one would be rejected again, and if the connection is lost between the final dot and its
//! reply, the outcome is unknown (RFC 5321 §4.5.4.1, §6.1).

use std::time::Duration;

use super::events::{MailEvent, Retry};
use super::outcome::{exit_for_recipients, session_exit};
use super::session::{ConnectionInfo, SessionRunner};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::net::tls::ClientTls;
use crate::net::{self, Signals, WakeReason};
use crate::output::Output;
use crate::smtp::{ClientConfig, DeliveryOutcome, Mailbox, RecipientStatus, SessionResult};

/// Number of retries and the time between them.
#[derive(Clone, Copy, Debug)]
pub(super) struct RetryPolicy {
    pub max_retries: u32,
    pub wait: Duration,
}

/// Sends the mail and retries the deferred recipients. The exit code covers all attempts.
pub(super) fn send_with_retries(
    session: &SessionRunner<'_>,
    config: &ClientConfig,
    policy: RetryPolicy,
    tls: Option<&ClientTls>,
    output: &mut Output,
    signals: &mut Signals,
) -> Result<(SessionResult, ConnectionInfo, Exit)> {
    let (mut result, mut connection) = session.run(config.clone(), tls, output, signals)?;
    let mut exit = session_exit(result.failure.as_ref(), &result.recipients);
    for attempt in 2..=policy.max_retries.saturating_add(1) {
        let deferred =
            if connection.is_interrupted { Vec::new() } else { deferred_recipients(&result, config.all_or_nothing) };
        if deferred.is_empty() || session.deadline().is_some_and(|end| end <= net::now() + policy.wait) {
            break;
        }
        let retry = Retry { attempt, recipients: deferred.len(), wait: policy.wait };
        let written = output.emit(&MailEvent::Retry(retry));
        connection.write_error = connection.write_error.take().or(written.err().map(Error::from));
        if let WakeReason::Signal(_) = signals.wait(Some(net::now() + policy.wait)) {
            break;
        }
        let mut next = config.clone();
        if let Some(envelope) = &mut next.envelope {
            envelope.recipients = deferred;
        }
        let (previous, write_error) = (std::mem::take(&mut result.recipients), connection.write_error.take());
        (result, connection) = session.run(next, tls, output, signals)?;
        connection.write_error = write_error.or(connection.write_error);
        exit = session_exit(result.failure.as_ref(), &result.recipients);
        let latest = std::mem::replace(&mut result.recipients, previous);
        if config.all_or_nothing && latest.iter().any(|recipient| recipient.outcome.is_some()) {
            // The attempt covered all recipients, so it replaces the earlier outcomes.
            result.recipients = latest;
            continue;
        }
        merge(&mut result.recipients, &latest);
        // A failed connection does not undo the outcomes of earlier attempts.
        if result.recipients.iter().any(|recipient| recipient.outcome.is_some()) {
            exit = exit_for_recipients(&result.recipients);
        }
    }
    Ok((result, connection, exit))
}

/// Recipients that can be retried safely and may be accepted.
fn deferred_recipients(result: &SessionResult, all_or_nothing: bool) -> Vec<Mailbox> {
    let may_help = result.failure.as_ref().is_none_or(|failure| failure.kind().is_temporary());
    let count =
        |wanted: DeliveryOutcome| result.recipients.iter().filter(|known| known.outcome == Some(wanted)).count();
    if !may_help || count(DeliveryOutcome::Unknown) > 0 {
        return Vec::new();
    }
    // Recipients without an outcome got nothing: the session failed early or --all-or-nothing stopped it.
    let is_waiting = result.failure.is_some() || (all_or_nothing && count(DeliveryOutcome::Deferred) > 0);
    let is_deferred = |known: &&RecipientStatus| match known.outcome {
        Some(outcome) => outcome == DeliveryOutcome::Deferred,
        None => is_waiting,
    };
    result.recipients.iter().filter(is_deferred).map(|recipient| recipient.mailbox.clone()).collect()
}

/// Replaces earlier outcomes with those of the latest attempt.
fn merge(recipients: &mut [RecipientStatus], latest: &[RecipientStatus]) {
    // A recipient without an outcome in the latest attempt keeps the earlier one.
    for recipient in latest.iter().filter(|recipient| recipient.outcome.is_some()) {
        if let Some(known) = recipients.iter_mut().find(|known| known.mailbox == recipient.mailbox) {
            *known = recipient.clone();
        }
    }
}
