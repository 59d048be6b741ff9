//! A mail as it is told: to whom, over which line, what is in it.

use std::fmt;

use serde::Serialize;

use crate::output::Escaped;
use crate::smtp::server::EnvelopeRecipient;
use crate::time::{Moment, serialize_rfc3339};

/// A mail that was taken.
#[derive(Debug, Serialize)]
pub(crate) struct MessageEvent {
    /// When its last octet had come.
    #[serde(serialize_with = "serialize_rfc3339")]
    pub time: Moment,
    /// The how-manieth mail it is.
    pub number: u64,
    /// Over the how-manieth connection it came.
    pub session: u64,
    /// From where.
    pub peer: String,
    /// How the client named itself.
    pub helo: String,
    /// Under which TLS.
    pub tls: Option<&'static str>,
    /// As whom it was logged in.
    pub auth: Option<String>,
    /// And how.
    #[serde(rename = "auth_mechanism")]
    pub mechanism: Option<&'static str>,
    /// The sender, empty for `<>`.
    pub from: String,
    /// The recipients.
    pub recipients: Vec<EnvelopeRecipient>,
    /// How long the message is.
    pub bytes: usize,
    /// What it is about.
    pub subject: Option<String>,
    /// What it is called.
    pub message_id: Option<String>,
    /// What it holds.
    pub parts: Vec<Part>,
    /// Whether that is all it holds.
    pub all_parts: bool,
    /// Whether it said BODY=8BITMIME.
    #[serde(rename = "eight_bit")]
    pub is_8bit: bool,
    /// Whether it said SMTPUTF8.
    #[serde(rename = "smtputf8")]
    pub is_smtputf8: bool,
    /// RET.
    pub ret: Option<String>,
    /// ENVID.
    pub envid: Option<String>,
    /// Whether it came by BDAT.
    #[serde(rename = "chunked")]
    pub is_chunked: bool,
    /// Line feeds without a CR in front: content, and no line ends.
    pub bare_lf: usize,
    /// CRs without a line feed behind.
    pub bare_cr: usize,
    /// Where it was written.
    pub file: Option<String>,
}

/// A part of a message that holds no other parts.
#[derive(Debug, Serialize)]
pub(crate) struct Part {
    /// Its media type.
    #[serde(rename = "content_type")]
    pub content_type: String,
    /// Its file name.
    pub name: Option<String>,
    /// How long it is, decoded.
    pub bytes: usize,
}

impl fmt::Display for MessageEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} mail {} from <{}>",
            TimeOfDay(self.time),
            self.peer,
            self.number,
            Escaped(self.from.as_bytes())
        )?;
        for (at, recipient) in self.recipients.iter().enumerate() {
            let before = if at == 0 { " to" } else { "," };
            write!(f, "{before} <{}>", Escaped(recipient.address.as_bytes()))?;
        }
        write!(f, ", {} bytes", self.bytes)?;
        match (self.tls, &self.auth) {
            (None, None) => {}
            (Some(tls), None) => write!(f, ", TLS {tls}")?,
            (None, Some(user)) => write!(f, ", in clear as {}", Escaped(user.as_bytes()))?,
            (Some(tls), Some(user)) => write!(f, ", TLS {tls} as {}", Escaped(user.as_bytes()))?,
        }
        if let Some(subject) = &self.subject {
            write!(f, ": {}", Escaped(subject.as_bytes()))?;
        }
        for part in self.parts.iter().filter(|part| part.name.is_some() || self.parts.len() > 1) {
            let name = part.name.as_deref().unwrap_or("-");
            write!(
                f,
                "\n  {} {} {} bytes",
                Escaped(part.content_type.as_bytes()),
                Escaped(name.as_bytes()),
                part.bytes
            )?;
        }
        if !self.all_parts {
            write!(f, "\n  and parts that are not told, for there are too many")?;
        }
        if self.bare_lf + self.bare_cr > 0 {
            write!(f, "\n  {} bare LF and {} bare CR, which end no line", self.bare_lf, self.bare_cr)?;
        }
        if let Some(file) = &self.file {
            write!(f, "\n  {}", Escaped(file.as_bytes()))?;
        }
        Ok(())
    }
}

/// The time of day, here.
pub(super) struct TimeOfDay(pub Moment);

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.zoned().strftime("%H:%M:%S"))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::MessageEvent;
    use crate::smtp::server::EnvelopeRecipient;
    use crate::time::Moment;
    use std::time::Duration;

    /// A mail like any other.
    pub(crate) fn message_event(number: u64) -> MessageEvent {
        MessageEvent {
            time: Moment::new(Duration::ZERO, Duration::from_secs(1_764_000_000)),
            number,
            session: 1,
            peer: "127.0.0.1:5000".into(),
            helo: "me".into(),
            tls: None,
            auth: None,
            mechanism: None,
            from: "a@x.test".into(),
            recipients: vec![EnvelopeRecipient { address: "b@x.test".into(), notify: None, orcpt: None }],
            bytes: 9,
            subject: Some("hi".into()),
            message_id: None,
            parts: Vec::new(),
            all_parts: true,
            is_8bit: false,
            is_smtputf8: false,
            ret: None,
            envid: None,
            is_chunked: false,
            bare_lf: 0,
            bare_cr: 0,
            file: None,
        }
    }

    #[test]
    fn a_hostile_mail_stays_on_its_lines() {
        let hostile =
            MessageEvent { subject: Some("a\n\x1b[2Jb".into()), from: "\"a\nb\"@x".into(), ..message_event(1) };
        let text = hostile.to_string();
        assert!(text.lines().count() == 1 && !text.contains('\x1b'), "{text}");
    }
}
