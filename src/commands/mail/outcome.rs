//! Exit codes of SMTP sessions, and the report of their failures.

use super::provider;
use crate::commands::failure::exit_for;
use crate::error::Error;
use crate::exit::Exit;
use crate::failure::{Failure, FailureKind};
use crate::smtp::{DeliveryOutcome, Mechanism, RecipientStatus, Reply};

/// Exit code of a session or a transaction.
pub(super) fn session_exit(failure: Option<&Failure>, recipients: &[RecipientStatus]) -> Exit {
    failure.map_or_else(|| exit_for_recipients(recipients), |failure| exit_for(failure.kind()))
}

/// Exit code for the outcomes of all recipients.
pub(super) fn exit_for_recipients(recipients: &[RecipientStatus]) -> Exit {
    let count = |outcome| recipients.iter().filter(|recipient| recipient.outcome == Some(outcome)).count();
    // Accepted at RCPT, but the transaction was abandoned before DATA.
    let is_accepted =
        |status: &&RecipientStatus| status.outcome.is_none() && status.reply.as_ref().is_some_and(Reply::is_positive);
    let accepted_at_rcpt = recipients.iter().filter(is_accepted).count();
    match () {
        () if count(DeliveryOutcome::Unknown) > 0 => Exit::OutcomeUnknown,
        () if count(DeliveryOutcome::Deferred) > 0 => Exit::TemporaryFailure,
        () if count(DeliveryOutcome::Rejected) == 0 => Exit::Success,
        () if count(DeliveryOutcome::Accepted) + accepted_at_rcpt > 0 => Exit::RecipientsRejected,
        () => Exit::Unavailable,
    }
}

/// Report of the recipients that did not get the mail, in a session that ended as it should.
pub(super) fn recipients_error(recipients: &[RecipientStatus], exit: Exit) -> Option<Error> {
    // The outcome that decides the exit code.
    let (outcome, word) = match exit {
        Exit::Success => return None,
        Exit::TemporaryFailure => (DeliveryOutcome::Deferred, "deferred"),
        Exit::OutcomeUnknown => (DeliveryOutcome::Unknown, "unknown"),
        _ => (DeliveryOutcome::Rejected, "rejected"),
    };
    let failed = |status: &&RecipientStatus| status.outcome == Some(outcome);
    let count = recipients.iter().filter(failed).count();
    let first = recipients.iter().find(failed)?;
    let reply = first.reply.as_ref().map(|reply| format!(": '{reply}'")).unwrap_or_default();
    let message = format!("{count} of {} recipients {word}: {}{reply}", recipients.len(), first.mailbox);
    Some(Error::new(exit, message))
}

/// Report of a failed session; advice for a rejected login depends on the mechanism and the provider.
pub(super) fn error_for(failure: Failure, mechanism: Option<Mechanism>, host: &str) -> Error {
    let is_login = failure.kind() == FailureKind::LoginRejected;
    let error = Error::from(failure);
    match (mechanism, provider::auth_hint(host)) {
        _ if !is_login => error,
        (Some(Mechanism::Xoauth2), _) => error.remedy("check user and token; most tokens expire after an hour"),
        (_, Some(hint)) => error.remedy(hint),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::{error_for, exit_for_recipients};
    use crate::exit::Exit;
    use crate::failure::{Failure, FailureKind};
    use crate::smtp::{DeliveryOutcome, Mechanism, RecipientStatus};

    #[test]
    fn the_worst_outcome_of_the_recipients_decides_the_exit_code() {
        use DeliveryOutcome::{Accepted, Deferred, Rejected, Unknown};
        for (outcomes, exit) in [
            (&[Accepted, Accepted][..], Exit::Success),
            (&[Accepted, Rejected], Exit::RecipientsRejected),
            (&[Rejected, Rejected], Exit::Unavailable),
            (&[Accepted, Rejected, Deferred], Exit::TemporaryFailure),
            (&[Accepted, Deferred, Unknown], Exit::OutcomeUnknown),
        ] {
            let status = |outcome: &DeliveryOutcome| RecipientStatus {
                mailbox: "a@x.test".parse().expect("an address"),
                outcome: Some(*outcome),
                reply: None,
            };
            let recipients: Vec<_> = outcomes.iter().map(status).collect();
            assert_eq!(exit_for_recipients(&recipients), exit, "{outcomes:?}");
        }
    }

    #[test]
    fn advice_for_a_rejected_login_depends_on_mechanism_and_provider() {
        for (kind, mechanism, host, word) in [
            (FailureKind::LoginRejected, Mechanism::Plain, "smtp.gmail.com", "app password"),
            (FailureKind::LoginRejected, Mechanism::Plain, "smtp.office365.com", "XOAUTH2"),
            (FailureKind::LoginRejected, Mechanism::Plain, "mx.test", "check user"),
            (FailureKind::LoginRejected, Mechanism::Xoauth2, "smtp.gmail.com", "token"),
            (FailureKind::LoginRequired, Mechanism::Plain, "smtp.gmail.com", "--user"),
        ] {
            let error = error_for(Failure::new(kind, "no"), Some(mechanism), host);
            assert!(error.advice().is_some_and(|advice| advice.contains(word)), "{host}: {error:?}");
        }
    }
}
