//! Errors of a client session: their wording and exit codes.

use std::time::Duration;

use crate::error::Error;
use crate::exit::Exit;
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

/// Error for a negative reply: temporary with 4yz, permanent with 5yz (RFC 5321 §4.2.1).
pub(super) fn rejection(stage: Stage, reply: &Reply) -> Error {
    let message = format!("server replied '{reply}' to {}", describe_stage(stage));
    let exit = match (stage, reply.code) {
        // RFC 4954 §6.
        (_, 530) | (Stage::Auth, 534 | 535 | 538) => Exit::Permission,
        (_, code) if code / 100 == 4 => Exit::TemporaryFailure,
        (_, code) if code / 100 == 5 => Exit::Unavailable,
        _ => Exit::Protocol,
    };
    let error = Error::new(exit, message);
    match (stage, reply.code) {
        (_, 530) => error.expected("a login or STARTTLS before this command").remedy("log in with --user"),
        (Stage::Auth, 534) => error.remedy("this kind of password is not accepted; use an app password or XOAUTH2"),
        (Stage::Auth, 535) => error.remedy("check user and password; many providers require an app password"),
        (_, code) if code / 100 == 4 => error.remedy("try again later"),
        (_, code) if code / 100 == 5 => error,
        _ => error.expected("a reply code valid for this command"),
    }
}

/// Error for the first rejected recipient, or else the first deferred one.
pub(crate) fn first_rejection(recipients: &[RecipientStatus]) -> Option<Error> {
    let first = |outcome: DeliveryOutcome| recipients.iter().find(|known| known.outcome == Some(outcome));
    let found = first(DeliveryOutcome::Refused).or_else(|| first(DeliveryOutcome::Deferred))?;
    Some(rejection(Stage::Rcpt, found.reply.as_ref()?).with_context(found.mailbox.as_str()))
}

pub(super) fn protocol_error(violation: &str) -> Error {
    Error::new(Exit::Protocol, format!("protocol violation by the server: {violation}"))
        .expected("one reply per command, each line with the same three digits (RFC 5321 §4.2)")
}

/// Error for a greeting of another protocol.
pub(super) fn wrong_protocol(bytes: &[u8], fallback: Error) -> Error {
    let protocol = match bytes {
        [b'H', b'T', b'T', b'P', b'/', ..] => "HTTP",
        [b'S', b'S', b'H', b'-', ..] => "SSH",
        [0x15 | 0x16, 0x03, ..] => "TLS",
        [b'*', b' ', b'O', b'K', ..] => "IMAP",
        [b'+', b'O', b'K', ..] => "POP3",
        _ => return fallback,
    };
    Error::new(Exit::Protocol, format!("this port serves {protocol}"))
        .expected("an SMTP server that greets with 220")
        .remedy("SMTP ports are 587 (STARTTLS), 465 (TLS) and 25")
}

/// Error for a login without a common mechanism.
pub(super) fn no_common_mechanism(offered: &[String], requested: Option<Mechanism>) -> Error {
    if offered.is_empty() {
        return Error::new(Exit::Unavailable, "the server does not offer AUTH")
            .expected("AUTH in the reply to EHLO")
            .remedy("leave out --user to send without a login");
    }
    let offers = offered.join(", ");
    let message = match requested {
        Some(wanted) => format!("the server does not offer AUTH {}; it offers {offers}", wanted.name()),
        None => format!("the server offers no supported AUTH mechanism; it offers {offers}"),
    };
    Error::new(Exit::Unavailable, message)
        .expected("SCRAM-SHA-256, PLAIN or LOGIN in the AUTH line of the reply to EHLO")
}

/// Error for a missing reply.
pub(super) fn timed_out(stage: Stage, waited: Duration) -> Error {
    let waited =
        humantime::format_duration(Duration::from_millis(u64::try_from(waited.as_millis()).unwrap_or(u64::MAX)));
    let error = Error::new(Exit::TemporaryFailure, format!("no {} within {waited}", expected_reply(stage)));
    if stage == Stage::Banner {
        return error.remedy("many networks block port 25; try 587");
    }
    error.remedy("allow more time with --timeout, or try again later")
}

/// Error for a connection lost before the message was accepted; a retry is safe.
pub(super) fn connection_lost(stage: Stage, cause: Option<&Error>) -> Error {
    let when = match stage {
        Stage::Tls => "during the TLS handshake".to_owned(),
        stage => format!("before the {}", expected_reply(stage)),
    };
    match cause {
        // Errors of TLS and of the operating system keep their own exit code.
        Some(error) if !matches!(error.exit(), Exit::Unavailable | Exit::Io) => error.with_exit(error.exit()),
        Some(error) => Error::new(Exit::TemporaryFailure, format!("{} {when}", error.message())),
        None => Error::new(Exit::TemporaryFailure, format!("the server closed the connection {when}"))
            .remedy("the message was not accepted; try again later"),
    }
}

/// Error for a connection lost after the final dot; the message may have been accepted.
pub(super) fn outcome_unknown(error: &Error) -> Error {
    Error::new(Exit::OutcomeUnknown, format!("{}; the message may have been accepted", error.message()))
        .expected("a reply to the final dot")
        .remedy("look for its Message-ID before sending it again")
}
