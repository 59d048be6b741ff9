//! `--trace` and `--explain` of the stream servers and `get`: the dialogue on stderr, with the peer in front of each line.
//!
//! Owns what is shown of each piece: heads line by line, bodies as a count, logins hidden.

use std::net::SocketAddr;

use clap::Args;

use super::report::{display_peer, plural};
use crate::http;
use crate::output::{Style, Trace, TraceKind};
use crate::protocol::TraceObserver;
use crate::smtp::explain;

/// Flags of commands that can show their dialogue.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct TraceArgs {
    /// Print the dialogue on stderr
    #[arg(long)]
    trace: bool,

    /// As --trace, with a sentence and the RFC clause for each step
    #[arg(long, hide_short_help = true)]
    explain: bool,
}

impl TraceArgs {
    pub(super) fn is_wanted(self) -> bool {
        self.trace || self.explain
    }

    /// Creates the trace of a client.
    pub(super) fn trace(self, style: Style) -> ExplainedTrace {
        ExplainedTrace { trace: Trace::new(self.is_wanted(), style), explain: self.explain }
    }

    /// Creates the trace of one connection of a server, if it is wanted.
    pub(super) fn observe(
        self,
        protocol: TracedProtocol,
        peer: Option<SocketAddr>,
        style: Style,
    ) -> Option<DialogueTrace> {
        let trace = Trace::new(self.is_wanted(), style);
        self.is_wanted().then(|| DialogueTrace {
            peer: display_peer(peer),
            trace,
            explain: self.explain,
            protocol,
            smtp_input: SmtpInput::Commands,
        })
    }
}

/// Trace of a client, with explanations if they are wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct ExplainedTrace {
    pub trace: Trace,
    explain: bool,
}

impl ExplainedTrace {
    pub(super) fn explain(self, sentence: &str) {
        if self.explain {
            self.trace.info(sentence);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TracedProtocol {
    Http,
    Smtp,
}

/// Meaning of the next lines of an SMTP client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SmtpInput {
    Commands,
    /// Response to a challenge (334), which may be a secret.
    Response,
    /// Content of a message (354).
    Content,
}

/// Trace of one connection.
pub(super) struct DialogueTrace {
    peer: String,
    trace: Trace,
    explain: bool,
    protocol: TracedProtocol,
    smtp_input: SmtpInput,
}

impl DialogueTrace {
    fn line(&self, kind: TraceKind, line: &str) {
        self.trace.write_lines(kind, format!("{}: {line}", self.peer).as_bytes());
    }

    fn explain(&self, sentence: Option<&str>) {
        if let Some(sentence) = sentence.filter(|_| self.explain) {
            self.line(TraceKind::Info, sentence);
        }
    }

    /// Shows a head line by line, and the size of what follows it.
    fn http_message(&self, kind: TraceKind, bytes: &[u8]) {
        let end = memchr::memmem::find(bytes, b"\r\n\r\n").map_or(bytes.len(), |at| at + 4);
        let (head, body) = bytes.split_at_checked(end).unwrap_or((bytes, &[]));
        let head = redact_head(head);
        let text = String::from_utf8_lossy(&head);
        let lines: Vec<&str> = text.trim_end_matches("\r\n").lines().collect();
        lines.iter().for_each(|line| self.line(kind, line));
        let first = lines.first().copied().unwrap_or_default();
        if kind == TraceKind::Received {
            self.explain(Some(http::explain::request(first)));
        } else if let Some(code) = first.split(' ').nth(1).and_then(|code| code.parse().ok()) {
            self.explain(Some(http::explain::status(code)));
            self.explain(Some(http::explain::body_end(lines.iter().filter_map(|line| line.split_once(": ")))));
        }
        if !body.is_empty() {
            self.count(kind, body.len() as u64);
        }
    }

    fn count(&self, kind: TraceKind, bytes: u64) {
        let word = if kind == TraceKind::Received { "received" } else { "sent" };
        self.line(TraceKind::Info, &format!("{word} body: {bytes} {}", plural(bytes, "byte", "bytes")));
    }

    /// Line of a client, without a password.
    fn redacted<'l>(&self, line: &'l str) -> std::borrow::Cow<'l, str> {
        let mut words = line.split(' ');
        let is_auth = words.next().is_some_and(|verb| verb.eq_ignore_ascii_case("AUTH"));
        match (self.smtp_input, words.next()) {
            (SmtpInput::Response, _) => "[hidden]".into(),
            (SmtpInput::Commands, Some(mechanism)) if is_auth && words.next().is_some() => {
                format!("AUTH {mechanism} [hidden]").into()
            }
            _ => line.into(),
        }
    }
}

impl TraceObserver for DialogueTrace {
    fn received(&mut self, bytes: &[u8]) {
        if self.protocol == TracedProtocol::Http {
            return self.http_message(TraceKind::Received, bytes);
        }
        for line in String::from_utf8_lossy(bytes).lines() {
            self.line(TraceKind::Received, &self.redacted(line));
            self.explain(explain::command(line).filter(|_| self.smtp_input == SmtpInput::Commands));
            // Lines that came together with AUTH may be responses; the next reply says what follows.
            let is_auth = line.get(..4).is_some_and(|verb| verb.eq_ignore_ascii_case("AUTH"));
            if is_auth && self.smtp_input == SmtpInput::Commands {
                self.smtp_input = SmtpInput::Response;
            }
        }
    }

    fn sent(&mut self, bytes: &[u8]) {
        if self.protocol == TracedProtocol::Http {
            return self.http_message(TraceKind::Sent, bytes);
        }
        for line in String::from_utf8_lossy(bytes).lines() {
            self.line(TraceKind::Sent, line);
            let code = line.get(..3).and_then(|code| code.parse().ok());
            if let Some(code) = code.filter(|_| line.as_bytes().get(3) != Some(&b'-')) {
                self.smtp_input = match code {
                    334 => SmtpInput::Response,
                    354 => SmtpInput::Content,
                    _ => SmtpInput::Commands,
                };
                self.explain(Some(explain::reply(code, line)));
            }
        }
    }

    fn sent_file(&mut self, length: u64) {
        self.count(TraceKind::Sent, length);
    }

    fn encrypted(&mut self) {
        self.trace.set_encrypted(true);
    }
}

/// Request fields whose values are hidden in the trace.
pub(super) const CREDENTIAL_FIELDS: [&str; 3] = ["authorization", "proxy-authorization", "cookie"];

/// Returns the value of a field for the trace, with credentials hidden, including those in a Location.
fn redact_field(name: &str, value: &str) -> String {
    let is = |known: &str| name.eq_ignore_ascii_case(known);
    if CREDENTIAL_FIELDS.into_iter().any(is) {
        return "[hidden]".to_owned();
    }
    if is("set-cookie") {
        let (cookie, rest) = value.split_once('=').unwrap_or((value, ""));
        let attributes = rest.find(';').and_then(|at| rest.get(at..)).unwrap_or_default();
        return format!("{cookie}=[hidden]{attributes}");
    }
    match (is("location"), value.split_once("://")) {
        (true, Some((scheme, rest))) => {
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            let (authority, path) = rest.split_at(end);
            match authority.rsplit_once('@') {
                Some((_, host)) => format!("{scheme}://[hidden]@{host}{path}"),
                None => value.to_owned(),
            }
        }
        _ => value.to_owned(),
    }
}

/// Returns a response head for the trace, with credentials hidden.
pub(super) fn redact_head(raw: &[u8]) -> Vec<u8> {
    let mut shown = Vec::with_capacity(raw.len());
    for line in raw.split_inclusive(|byte| *byte == b'\n') {
        let text = String::from_utf8_lossy(line);
        match text.trim_end_matches(['\r', '\n']).split_once(':') {
            Some((name, value)) if redact_field(name, value.trim()) != value.trim() => {
                shown.extend_from_slice(format!("{name}: {}\r\n", redact_field(name, value.trim())).as_bytes());
            }
            _ => shown.extend_from_slice(line),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::{redact_field, redact_head};

    #[test]
    fn credentials_are_hidden_in_both_directions() {
        assert_eq!(redact_field("AUTHORIZATION", "Bearer t"), "[hidden]");
        assert_eq!(redact_field("Set-Cookie", "sid=t; Path=/"), "sid=[hidden]; Path=/");
        assert_eq!(redact_field("Location", "http://u:t@h/x?y"), "http://[hidden]@h/x?y");
        assert_eq!(redact_field("Location", "/x@y"), "/x@y");
        assert_eq!(redact_field("X", "t"), "t");
        let head = b"HTTP/1.1 302 Found\r\nset-cookie: a=t\r\nX: y\r\n\r\n";
        assert_eq!(redact_head(head), b"HTTP/1.1 302 Found\r\nset-cookie: a=[hidden]\r\nX: y\r\n\r\n");
    }
}
