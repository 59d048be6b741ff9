//! Events and summary of `serve-http`: addresses, one line per request, totals.
//!
//! Owns the text format (Common and Combined Log Format, as written by Apache and nginx) and the JSON keys.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Serialize, Serializer};

use crate::commands::report::{self, plural, write_closing_note, write_counts, write_dropped_events, write_headline};
use crate::commands::schema::EventSchemas;
use crate::commands::server_tls::ServerCertificate;
use crate::commands::web;
use crate::http::{Exchange, LogFields, SessionEvent};
use crate::net::{Address, Listeners};
use crate::output::{Escaped, Event, TextTime, Tone};
use crate::stats;
use crate::time::{Moment, Nanoseconds};

/// Lists the events for the JSON schema.
pub(in crate::commands) fn list_events(schemas: &mut EventSchemas) {
    schemas.add::<ServeHttpEvent>("serve-http");
    schemas.add::<Summary>("serve-http");
}

/// Events before the summary.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ServeHttpEvent {
    Listening(Listening),
    /// Request that was answered, rejected or cut short.
    Response(AccessLogEntry),
    /// Connection that failed before a request.
    Failed(FailedConnection),
    /// Condition of the server itself, such as running out of file descriptors.
    Notice {
        what: String,
    },
}

impl ServeHttpEvent {
    /// Converts an event of a session; returns `None` if it is not logged.
    pub(super) fn from_session_event(event: SessionEvent, combined: bool) -> Option<Self> {
        match event {
            SessionEvent::Exchange(exchange) => AccessLogEntry::new(exchange, combined).map(Self::Response),
            SessionEvent::Waiting { .. } => None,
            SessionEvent::ConnectionFailed { peer, at, reason } => {
                Some(Self::Failed(FailedConnection { time: at, peer: report::display_peer(peer), why: reason }))
            }
        }
    }
}

/// The access log has a time of its own in each line.
impl Event for ServeHttpEvent {
    fn time(&self) -> Option<Moment> {
        match self {
            Self::Response(response) => Some(response.time),
            Self::Failed(failed) => Some(failed.time),
            Self::Listening(_) | Self::Notice { .. } => None,
        }
    }

    fn text_time(&self) -> TextTime {
        if matches!(self, Self::Notice { .. }) { TextTime::Always } else { TextTime::Never }
    }

    fn tone(&self) -> Tone {
        match self {
            Self::Response(response) if response.status.is_none_or(|status| status >= 500) || !response.complete => {
                Tone::Bad
            }
            Self::Response(response) if response.status.is_some_and(|status| status >= 400) => Tone::Warning,
            Self::Failed(_) => Tone::Bad,
            Self::Notice { .. } => Tone::Warning,
            Self::Listening(_) | Self::Response(_) => Tone::Plain,
        }
    }
}

impl fmt::Display for ServeHttpEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listening(listening) => listening.fmt(f),
            Self::Response(response) => response.fmt(f),
            Self::Failed(failed) => write!(f, "{} - - {} \"-\" 400 0", host(&failed.peer), ClfTime(failed.time)),
            Self::Notice { what } => f.write_str(what),
        }
    }
}

/// Addresses and URLs of the server.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct Listening {
    root: String,
    urls: Vec<String>,
    addresses: Vec<String>,
    /// SHA-256 of the certificate, if it was generated.
    certificate_sha256: Option<String>,
    #[serde(skip)]
    is_public: bool,
}

impl Listening {
    pub(super) fn new(listeners: &Listeners, certificate: Option<&ServerCertificate>, root: &Path) -> Self {
        let scheme = if certificate.is_some() { "https" } else { "http" };
        let root = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
        let mut urls = Vec::new();
        for address in listeners.addresses() {
            urls.extend(address.reachable().iter().map(|address| web::url(scheme, address)));
        }
        Self {
            root: root.display().to_string(),
            urls,
            addresses: listeners.addresses().map(ToString::to_string).collect(),
            certificate_sha256: certificate.and_then(|certificate| certificate.sha256.clone()),
            is_public: listeners.addresses().any(Address::is_public),
        }
    }

    /// Returns true if other hosts can connect.
    pub(super) fn is_public(&self) -> bool {
        self.is_public
    }
}

impl fmt::Display for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "serving {}", Escaped(self.root.as_bytes()))?;
        for url in &self.urls {
            write!(f, "\n  {}", Escaped(url.as_bytes()))?;
        }
        if let Some((sha256, url)) = self.certificate_sha256.as_ref().zip(self.urls.first()) {
            let url = Escaped(url.as_bytes());
            write!(f, "\ncertificate fingerprint (SHA-256): {sha256}\ntry: netlab get {url} --pin {sha256}")?;
        }
        write_closing_note(f, self.is_public)
    }
}

/// Request and its response, as one line of the access log.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct AccessLogEntry {
    #[serde(skip)]
    time: Moment,
    peer: String,
    /// Address of the client that a proxy of `--trust-proxy` names.
    client: Option<IpAddr>,
    method: Option<String>,
    target: Option<String>,
    status: Option<u16>,
    bytes: u64,
    #[serde(with = "Nanoseconds")]
    took_ns: Duration,
    complete: bool,
    error: Option<String>,
    #[serde(serialize_with = "lossy")]
    #[schemars(with = "Option<String>")]
    referer: Option<Vec<u8>>,
    #[serde(serialize_with = "lossy")]
    #[schemars(with = "Option<String>")]
    user_agent: Option<Vec<u8>>,
    #[serde(skip)]
    line: String,
    #[serde(skip)]
    combined: bool,
}

impl AccessLogEntry {
    fn new(exchange: Exchange, combined: bool) -> Option<Self> {
        let LogFields { request_line: line, client, referer, user_agent } = *exchange.log_fields?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let words: Vec<_> = line.split(|byte| *byte == b' ').collect();
        let word = |index: usize| match words[..] {
            [_, _, _] => words.get(index).map(|word| text(word.to_vec())),
            _ => None,
        };
        Some(Self {
            time: exchange.started,
            peer: report::display_peer(exchange.peer),
            client,
            method: word(0),
            target: word(1),
            status: exchange.status.map(crate::http::Status::code),
            bytes: exchange.bytes,
            took_ns: exchange.duration,
            complete: exchange.is_complete,
            error: exchange.error,
            referer,
            user_agent,
            line: if line.is_empty() { "-".to_owned() } else { Quoted(&line).to_string() },
            combined,
        })
    }
}

/// Format: `host - - [date] "request" status bytes`, and for combined `"referer" "user agent"`.
impl fmt::Display for AccessLogEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Input other than HTTP gets no response, but programs that read these logs reject a line without a status.
        let status = self.status.unwrap_or(400);
        let host = self.client.map_or_else(|| host(&self.peer).to_owned(), |client| client.to_string());
        write!(f, "{host} - - {} \"{}\" {status} {}", ClfTime(self.time), self.line, self.bytes)?;
        if self.combined {
            let quoted = |value: Option<&[u8]>| value.map_or_else(|| "-".to_owned(), |value| Quoted(value).to_string());
            write!(f, " \"{}\" \"{}\"", quoted(self.referer.as_deref()), quoted(self.user_agent.as_deref()))?;
        }
        Ok(())
    }
}

/// Address of a peer without its port.
fn host(peer: &str) -> &str {
    peer.rsplit_once(':').map_or(peer, |(host, _)| host).trim_matches(['[', ']'])
}

/// Connection that failed before a request.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct FailedConnection {
    #[serde(skip)]
    time: Moment,
    peer: String,
    why: String,
}

/// Summary of a run.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(tag = "type", rename = "summary")]
pub(super) struct Summary {
    pub command: &'static str,
    #[serde(rename = "elapsed_ns", with = "Nanoseconds")]
    pub elapsed: Duration,
    pub connections: u64,
    /// Requests, including rejected ones.
    pub requests: u64,
    /// Responses by status class.
    pub status: BTreeMap<&'static str, u64>,
    /// Requests rejected without a response because they are not HTTP.
    pub unanswered: u64,
    /// Responses that were not sent completely.
    pub cut: u64,
    /// Connections that failed before a request.
    pub failed: u64,
    /// Bytes of content sent.
    pub bytes: u64,
    /// Time from a complete head to the last byte of its response.
    pub latency: Option<stats::DurationSummary>,
    /// Events dropped because stdout was too slow or full.
    pub dropped_events: u64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_headline(f, (self.requests, "request", "requests"), self.connections, self.elapsed)?;
        let classes: Vec<_> = self.status.iter().map(|(class, count)| format!("{class} {count}")).collect();
        let bytes = plural(self.bytes, "byte", "bytes");
        write!(f, "{}; {} {bytes} of content", classes.join(", "), self.bytes)?;
        let counts = [(self.unanswered, "not HTTP"), (self.cut, "cut short"), (self.failed, "failed before a request")];
        write_counts(f, &counts)?;
        if let Some(latency) = &self.latency {
            write!(f, "\nlatency {latency}")?;
        }
        write_dropped_events(f, self.dropped_events)
    }
}

/// Local time in the format `[10/Oct/2000:13:55:36 -0700]`.
struct ClfTime(Moment);

impl fmt::Display for ClfTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}]", self.0.zoned().strftime("%d/%b/%Y:%H:%M:%S %z"))
    }
}

/// Bytes within quotes, escaped as by Apache, so that every request is one line with the same number of fields.
struct Quoted<'b>(&'b [u8]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| match byte {
            b'"' => f.write_str("\\\""),
            b'\\' => f.write_str("\\\\"),
            0x20..=0x7e => write!(f, "{}", char::from(*byte)),
            other => write!(f, "\\x{other:02x}"),
        })
    }
}

/// Serializes bytes as a JSON string, with invalid UTF-8 replaced.
#[expect(clippy::ref_option, reason = "serde's signature")]
fn lossy<S: Serializer>(bytes: &Option<Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
    match bytes {
        Some(bytes) => serializer.serialize_str(&String::from_utf8_lossy(bytes)),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Exchange, ServeHttpEvent, SessionEvent};
    use crate::http::LogFields;
    use crate::http::Status;
    use crate::time::Moment;
    use std::time::Duration;

    fn line(request: &[u8], combined: bool) -> String {
        let exchange = Exchange {
            peer: Some("[::1]:5000".parse().expect("an address")),
            started: Moment::new(Duration::ZERO, Duration::from_secs(784_111_777)),
            duration: Duration::from_millis(1),
            status: Some(Status::OK),
            bytes: 7,
            is_complete: true,
            error: None,
            log_fields: Some(Box::new(LogFields {
                request_line: request.to_owned(),
                client: None,
                referer: None,
                user_agent: Some(b"a \"b\" \x1b[m".to_vec()),
            })),
        };
        ServeHttpEvent::from_session_event(SessionEvent::Exchange(exchange), combined).expect("a line").to_string()
    }

    #[test]
    fn a_common_log_line_has_seven_fields() {
        let line = line(b"GET / HTTP/1.1", false);
        assert!(line.starts_with("::1 - - [06/Nov/1994:") && line.ends_with("] \"GET / HTTP/1.1\" 200 7"), "{line}");
    }

    #[test]
    fn a_hostile_request_is_logged_as_one_line_and_one_field() {
        let line = line(b"GET /\"\r\n\x1b HTTP/1.1", true);
        assert!(line.ends_with("\"GET /\\\"\\x0d\\x0a\\x1b HTTP/1.1\" 200 7 \"-\" \"a \\\"b\\\" \\x1b[m\""), "{line}");
    }
}
