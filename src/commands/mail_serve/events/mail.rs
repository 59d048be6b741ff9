//! Event of a captured mail: envelope, connection, and parts.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

use crate::commands::report::plural;
use crate::output::Escaped;
use crate::smtp::server::EnvelopeRecipient;
use crate::time::Moment;

/// A captured mail.
#[derive(Debug, JsonSchema, Serialize)]
pub(crate) struct MessageEvent {
    /// Time when the last byte was received.
    #[serde(skip)]
    pub time: Moment,
    /// Ordinal of the mail.
    pub number: u64,
    /// Ordinal of the connection.
    pub session: u64,
    pub peer: String,
    /// Name sent with EHLO or HELO.
    pub helo: String,
    /// TLS version; `null` without TLS.
    pub tls: Option<&'static str>,
    /// Authenticated user.
    pub auth: Option<String>,
    #[serde(rename = "auth_mechanism")]
    pub mechanism: Option<&'static str>,
    /// Envelope sender, empty for `<>`.
    pub from: String,
    pub recipients: Vec<EnvelopeRecipient>,
    pub bytes: usize,
    pub subject: Option<String>,
    pub message_id: Option<String>,
    pub parts: Vec<Part>,
    /// Whether `parts` is complete.
    pub all_parts: bool,
    /// Whether the sender gave BODY=8BITMIME.
    #[serde(rename = "eight_bit")]
    pub is_8bit: bool,
    /// Whether the sender gave SMTPUTF8.
    #[serde(rename = "smtputf8")]
    pub is_smtputf8: bool,
    pub ret: Option<String>,
    pub envid: Option<String>,
    /// Whether the message was sent with BDAT.
    #[serde(rename = "chunked")]
    pub is_chunked: bool,
    /// LFs without a preceding CR: content, not line ends.
    pub bare_lf: usize,
    /// CRs without a following LF.
    pub bare_cr: usize,
    /// Rules of RFC 5322 that the message breaks.
    pub warnings: Vec<String>,
    /// Path of the saved message.
    pub file: Option<String>,
}

/// A part of a message that holds no other parts.
#[derive(Debug, JsonSchema, Serialize)]
pub(crate) struct Part {
    #[serde(rename = "content_type")]
    pub content_type: String,
    pub name: Option<String>,
    /// Decoded size.
    pub bytes: usize,
}

impl fmt::Display for MessageEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} mail {} from <{}>", self.peer, self.number, Escaped(self.from.as_bytes()))?;
        for (index, recipient) in self.recipients.iter().enumerate() {
            let before = if index == 0 { " to" } else { "," };
            write!(f, "{before} <{}>", Escaped(recipient.address.as_bytes()))?;
        }
        write!(f, ", {} {}", self.bytes, byte_or_bytes(self.bytes))?;
        match (self.tls, &self.auth) {
            (None, None) => {}
            (Some(tls), None) => write!(f, ", TLS {tls}")?,
            (None, Some(user)) => write!(f, ", not encrypted, user {}", Escaped(user.as_bytes()))?,
            (Some(tls), Some(user)) => write!(f, ", TLS {tls}, user {}", Escaped(user.as_bytes()))?,
        }
        if let Some(subject) = &self.subject {
            write!(f, ": {}", Escaped(subject.as_bytes()))?;
        }
        for part in self.parts.iter().filter(|part| part.name.is_some() || self.parts.len() > 1) {
            let name = part.name.as_deref().unwrap_or("-");
            write!(
                f,
                "\n  {} {} {} {}",
                Escaped(part.content_type.as_bytes()),
                Escaped(name.as_bytes()),
                part.bytes,
                byte_or_bytes(part.bytes)
            )?;
        }
        if !self.all_parts {
            write!(f, "\n  further parts not listed: too many")?;
        }
        if self.bare_lf + self.bare_cr > 0 {
            let counts = [(self.bare_lf, "bare LF", "bare LFs"), (self.bare_cr, "bare CR", "bare CRs")]
                .map(|(count, one, many)| (count > 0).then(|| format!("{count} {}", plural(count as u64, one, many))));
            let found = counts.into_iter().flatten().collect::<Vec<_>>().join(" and ");
            write!(f, "\n  warning: {found} in the message (RFC 5321 §2.3.8)")?;
        }
        for warning in &self.warnings {
            write!(f, "\n  warning: {}", Escaped(warning.as_bytes()))?;
        }
        if let Some(file) = &self.file {
            write!(f, "\n  {}", Escaped(file.as_bytes()))?;
        }
        Ok(())
    }
}

fn byte_or_bytes(count: usize) -> &'static str {
    plural(count as u64, "byte", "bytes")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::MessageEvent;
    use crate::smtp::server::EnvelopeRecipient;
    use crate::time::Moment;
    use std::time::Duration;

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
            warnings: Vec::new(),
            file: None,
        }
    }

    #[test]
    fn control_characters_of_a_mail_are_escaped() {
        let hostile =
            MessageEvent { subject: Some("a\n\x1b[2Jb".into()), from: "\"a\nb\"@x".into(), ..message_event(1) };
        let text = hostile.to_string();
        assert!(text.lines().count() == 1 && !text.contains('\x1b'), "{text}");
    }
}
