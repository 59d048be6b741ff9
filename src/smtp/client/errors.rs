//! Words for what goes wrong in a dialogue, and the code each earns.

use std::time::Duration;

use crate::error::Error;
use crate::exit::Exit;
use crate::smtp::auth::Mechanism;
use crate::smtp::client::config::{DeliveryOutcome, RecipientStatus};
use crate::smtp::reply::Reply;
use crate::smtp::stage::Stage;

/// What a stage waits for the answer to, as the client said it.
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

/// The server says no: for now with 4yz, for good with 5yz (RFC 5321 §4.2.1).
pub(super) fn rejection(stage: Stage, reply: &Reply) -> Error {
    let what = format!("the server answers {} with {reply}", describe_stage(stage));
    let exit = match (stage, reply.code) {
        // RFC 4954 §6.
        (_, 530) | (Stage::Auth, 534 | 535 | 538) => Exit::Permission,
        (_, code) if code / 100 == 4 => Exit::TemporaryFailure,
        (_, code) if code / 100 == 5 => Exit::Unavailable,
        _ => Exit::Protocol,
    };
    let error = Error::new(exit, what);
    match (stage, reply.code) {
        (_, 530) => error.expected("a login, or STARTTLS, before that").remedy("log in with --user"),
        (Stage::Auth, 534) => {
            error.remedy("the password is not the kind it wants: look for an app password, or use XOAUTH2")
        }
        (Stage::Auth, 535) => error.remedy("check user and password; many providers want an app password here"),
        (_, code) if code / 100 == 4 => error.expected("a yes").remedy("try again later"),
        (_, code) if code / 100 == 5 => error.expected("a yes"),
        _ => error.expected("a reply that fits the command"),
    }
}

/// The first recipient who was refused, or else deferred, and with which words.
pub(crate) fn first_rejection(recipients: &[RecipientStatus]) -> Option<Error> {
    let first = |outcome: DeliveryOutcome| recipients.iter().find(|known| known.outcome == Some(outcome));
    let found = first(DeliveryOutcome::Refused).or_else(|| first(DeliveryOutcome::Deferred))?;
    Some(rejection(Stage::Rcpt, found.reply.as_ref()?).with_context(found.mailbox.as_str()))
}

/// What came is no reply.
pub(super) fn protocol_error(violation: &str) -> Error {
    Error::new(Exit::Protocol, format!("the server broke the protocol: {violation}"))
        .expected("one reply per command, each line with the same three digits (RFC 5321 §4.2)")
}

/// The greeting is none: somebody else sits on this port.
pub(super) fn wrong_protocol(bytes: &[u8], fallback: Error) -> Error {
    let who = match bytes {
        [b'H', b'T', b'T', b'P', b'/', ..] => "HTTP",
        [b'S', b'S', b'H', b'-', ..] => "SSH",
        [0x15 | 0x16, 0x03, ..] => "TLS",
        [b'*', b' ', b'O', b'K', ..] => "IMAP",
        [b'+', b'O', b'K', ..] => "POP3",
        _ => return fallback,
    };
    Error::new(Exit::Protocol, format!("this port speaks {who}"))
        .expected("an SMTP server that greets with 220")
        .remedy("ports are 587 (STARTTLS), 465 (TLS) and 25")
}

/// No way to log in.
pub(super) fn no_common_mechanism(offered: &[String], requested: Option<Mechanism>) -> Error {
    let offers = if offered.is_empty() { "nothing".to_owned() } else { offered.join(", ") };
    let what = match requested {
        Some(wanted) => format!("the server does not offer AUTH {}; it offers {offers}", wanted.name()),
        None => format!("the server offers no way to log in that netlab can take; it offers {offers}"),
    };
    Error::new(Exit::Unavailable, what).expected("SCRAM-SHA-256, PLAIN or LOGIN among the words of AUTH")
}

/// No reply in time.
pub(super) fn timed_out(stage: Stage, waited: Duration) -> Error {
    let waited =
        humantime::format_duration(Duration::from_millis(u64::try_from(waited.as_millis()).unwrap_or(u64::MAX)));
    let error = Error::new(Exit::TemporaryFailure, format!("no answer to {} within {waited}", describe_stage(stage)));
    if stage == Stage::Banner {
        return error.expected("a greeting").remedy("port 25 is often blocked on the way; try 587");
    }
    error.expected("a reply").remedy("allow more time with --timeout, or try again later")
}

/// The line is gone before the mail could be taken: it is safe to try again.
pub(super) fn connection_lost(stage: Stage, cause: Option<&Error>) -> Error {
    match cause {
        // What TLS says of a certificate, or the system of a socket, has its own code.
        Some(error) if !matches!(error.exit(), Exit::Unavailable | Exit::Io) => error.with_exit(error.exit()),
        Some(error) => Error::new(
            Exit::TemporaryFailure,
            format!("{} before the answer to {}", error.message(), describe_stage(stage)),
        ),
        None => Error::new(
            Exit::TemporaryFailure,
            format!("the server closed the line before its answer to {}", describe_stage(stage)),
        )
        .remedy("the mail was not taken; try again later"),
    }
}

/// The same after the dot: the mail may have been taken.
pub(super) fn outcome_unknown(error: &Error) -> Error {
    Error::new(Exit::OutcomeUnknown, format!("{}; the mail may have been accepted", error.message()))
        .expected("a reply to the final dot")
        .remedy("look for its Message-ID before you send it again")
}
