//! Failures of a client session: their kind and wording.

use std::time::Duration;

use crate::failure::{Failure, FailureKind};
use crate::protocol::{Violation, excerpt};
use crate::smtp::auth::Mechanism;
use crate::smtp::client::config::{DeliveryOutcome, RecipientStatus};
use crate::smtp::reply::Reply;
use crate::smtp::stage::Stage;

/// Command or step whose reply a stage waits for.
fn describe_stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Resolve | Stage::Connect | Stage::Banner => "the connection",
        Stage::Ehlo => "EHLO",
        Stage::Starttls => "STARTTLS",
        Stage::Tls => "the TLS handshake",
        Stage::Auth => "AUTH",
        Stage::Mail => "MAIL FROM",
        Stage::Rcpt => "RCPT TO",
        Stage::Data => "DATA",
        Stage::Body => "the message",
        Stage::Dot => "the final dot",
        Stage::Quit => "QUIT",
    }
}

/// Reply that a stage waits for.
fn expected_reply(stage: Stage) -> String {
    match stage {
        Stage::Banner => "greeting".to_owned(),
        stage => format!("reply to {}", describe_stage(stage)),
    }
}

/// Failure for a negative reply: temporary with 4yz, permanent with 5yz (RFC 5321 §4.2.1).
pub(super) fn rejection(stage: Stage, reply: &Reply) -> Failure {
    let message = format!("server replied '{reply}' to {}", describe_stage(stage));
    match (stage, reply.code) {
        // RFC 3207 §4 and RFC 4954 §6 share the code.
        (_, 530) if reply.text().to_ascii_uppercase().contains("STARTTLS") => {
            Failure::new(FailureKind::EncryptionRequired, message).expected("STARTTLS before this command")
        }
        (_, 530) => {
            Failure::new(FailureKind::LoginRequired, message).expected("a login or STARTTLS before this command")
        }
        (Stage::Auth, 534 | 535 | 538) => Failure::new(FailureKind::LoginRejected, message),
        (_, code) if code / 100 == 4 => Failure::new(FailureKind::RejectedTemporarily, message),
        (_, code) if code / 100 == 5 => Failure::new(FailureKind::Rejected, message),
        _ => Failure::new(FailureKind::Protocol, message)
            .expected("a reply code valid for this command")
            .violates("RFC 5321 §4.3.2", excerpt(reply.to_string().as_bytes())),
    }
}

/// Failure for the first rejected recipient, or else the first deferred one.
pub(crate) fn first_rejection(recipients: &[RecipientStatus]) -> Option<Failure> {
    let first = |outcome: DeliveryOutcome| recipients.iter().find(|known| known.outcome == Some(outcome));
    let found = first(DeliveryOutcome::Rejected).or_else(|| first(DeliveryOutcome::Deferred))?;
    Some(rejection(Stage::Rcpt, found.reply.as_ref()?).with_context(found.mailbox.as_str()))
}

/// Failure for a violation by the server; `got` is redacted.
pub(super) fn protocol_error(violation: Violation, got: &str) -> Failure {
    Failure::new(FailureKind::Protocol, format!("protocol violation by the server: {}", violation.what))
        .expected(violation.expected)
        .violates(violation.clause, excerpt(got.as_bytes()))
}

/// Failure for a reply that no command asked for; `got` is redacted.
pub(super) fn unsolicited_reply(stage: Stage, got: &str) -> Failure {
    Failure::new(FailureKind::Protocol, format!("protocol violation by the server: unsolicited reply after {stage}"))
        .expected("one reply per command")
        .violates("RFC 5321 §4.2", excerpt(got.as_bytes()))
}

/// Failure for a greeting of another protocol.
pub(super) fn wrong_protocol(bytes: &[u8], fallback: Failure) -> Failure {
    let protocol = match bytes {
        [b'H', b'T', b'T', b'P', b'/', ..] => "HTTP",
        [b'S', b'S', b'H', b'-', ..] => "SSH",
        [0x15 | 0x16, 0x03, ..] => "TLS",
        [b'*', b' ', b'O', b'K', ..] => "IMAP",
        [b'+', b'O', b'K', ..] => "POP3",
        _ => return fallback,
    };
    let failure = Failure::new(FailureKind::WrongProtocol, format!("this port serves {protocol}"))
        .expected("an SMTP server that greets with 220");
    // The bytes of a TLS record say nothing to a reader.
    if protocol == "TLS" { failure } else { failure.violates("RFC 5321 §4.2", excerpt(bytes)) }
}

/// Failure for a login without a common mechanism.
pub(super) fn no_common_mechanism(offered: &[String], requested: Option<Mechanism>) -> Failure {
    if offered.is_empty() {
        return Failure::new(FailureKind::LoginNotOffered, "the server does not offer AUTH")
            .expected("AUTH in the reply to EHLO");
    }
    let offers = offered.join(", ");
    let message = match requested {
        Some(wanted) => format!("the server does not offer AUTH {}; it offers {offers}", wanted.name()),
        None => format!("the server offers no supported AUTH mechanism; it offers {offers}"),
    };
    Failure::new(FailureKind::Rejected, message)
        .expected("SCRAM-SHA-256, PLAIN or LOGIN in the AUTH line of the reply to EHLO")
}

/// Failure for a missing reply.
pub(super) fn timed_out(stage: Stage, waited: Duration) -> Failure {
    let waited =
        humantime::format_duration(Duration::from_millis(u64::try_from(waited.as_millis()).unwrap_or(u64::MAX)));
    let kind = if stage == Stage::Banner { FailureKind::NoGreeting } else { FailureKind::TimedOut };
    Failure::new(kind, format!("no {} within {waited}", expected_reply(stage)))
}

/// Failure for a connection lost before the message was accepted; a retry is safe.
pub(super) fn connection_lost(stage: Stage, cause: Option<&Failure>) -> Failure {
    let when = match stage {
        Stage::Tls => "during the TLS handshake".to_owned(),
        stage => format!("before the {}", expected_reply(stage)),
    };
    match cause {
        // Failures of TLS and of the operating system keep their own kind.
        Some(failure)
            if !matches!(
                failure.kind(),
                FailureKind::ConnectionRefused | FailureKind::Unreachable | FailureKind::ReadWrite
            ) =>
        {
            failure.without_source()
        }
        Some(failure) => Failure::new(FailureKind::ConnectionLost, format!("{} {when}", failure.message())),
        None => Failure::new(FailureKind::ConnectionLost, format!("the server closed the connection {when}")),
    }
}

/// Failure for a connection lost after the final dot; the message may have been accepted.
pub(super) fn outcome_unknown(error: &Failure) -> Failure {
    Failure::new(FailureKind::OutcomeUnknown, format!("{}; the message may have been accepted", error.message()))
        .expected("a reply to the final dot")
}
