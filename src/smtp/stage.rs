//! Stages of an SMTP session, shared by client and server.
//!
//! Owns their order, their names and the reply timeouts of RFC 5321 §4.5.3.2.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

/// Stage of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Stage {
    /// Name resolution.
    Resolve,
    /// TCP handshake.
    Connect,
    /// Greeting of the server.
    Banner,
    /// EHLO and its reply, before and after TLS.
    Ehlo,
    /// STARTTLS and its reply.
    Starttls,
    /// TLS handshake.
    Tls,
    Auth,
    /// MAIL FROM and its reply.
    Mail,
    /// RCPT TO and the reply for every recipient.
    Rcpt,
    /// DATA and its 354.
    Data,
    /// Transmission of the message.
    Body,
    /// Wait for the reply to the final dot.
    Dot,
    Quit,
}

impl Stage {
    /// Every stage, in order.
    pub(crate) const ALL: [Self; 13] = [
        Self::Resolve,
        Self::Connect,
        Self::Banner,
        Self::Ehlo,
        Self::Starttls,
        Self::Tls,
        Self::Auth,
        Self::Mail,
        Self::Rcpt,
        Self::Data,
        Self::Body,
        Self::Dot,
        Self::Quit,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Banner => "banner",
            Self::Ehlo => "ehlo",
            Self::Starttls => "starttls",
            Self::Tls => "tls",
            Self::Auth => "auth",
            Self::Mail => "mail",
            Self::Rcpt => "rcpt",
            Self::Data => "data",
            Self::Body => "body",
            Self::Dot => "dot",
            Self::Quit => "quit",
        }
    }

    /// Returns the timeout for the reply (RFC 5321 §4.5.3.2).
    pub(crate) fn reply_timeout(self) -> Duration {
        const MINUTE: Duration = Duration::from_secs(60);
        match self {
            Self::Data => 2 * MINUTE,
            Self::Body => 3 * MINUTE,
            // A shorter timeout makes duplicates: the mail may have been accepted already.
            Self::Dot => 10 * MINUTE,
            // The outcome is known by then.
            Self::Quit => Duration::from_secs(5),
            _ => 5 * MINUTE,
        }
    }
}

impl FromStr for Stage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const STOP_STAGES: [Stage; 7] =
            [Stage::Banner, Stage::Ehlo, Stage::Tls, Stage::Auth, Stage::Mail, Stage::Rcpt, Stage::Data];
        STOP_STAGES
            .into_iter()
            .find(|stage| stage.name() == text)
            .ok_or_else(|| "expected banner, ehlo, tls, auth, mail, rcpt or data".to_owned())
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
