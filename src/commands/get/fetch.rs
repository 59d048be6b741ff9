//! One URL to its final answer: resolve, connect, TLS, exchange, and again for each redirect.
//!
//! Owns the phases and the policy on redirects.

use std::time::Duration;

use super::body_sink::{BodySink, is_redirect};
use super::exchange::{ClientExchange, ExchangeTimes, ResponseSink};
use super::request::{RequestTemplate, Target};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::http::{RequestHead, ResponseHead};
use crate::net::tls::{ClientTls, TlsOptions};
use crate::net::{self, Connection, ConnectionTimeouts, Signals};
use crate::output::{Trace, TraceKind};
use crate::time::{HumanDuration, Moment};

/// How long to wait and how far to follow.
#[derive(Clone, Copy, Debug)]
pub(super) struct FetchLimits {
    /// The longest silence within one phase.
    pub phase_timeout: Duration,
    /// The longest wait for a connection.
    pub connect_timeout: Duration,
    /// When everything must be over.
    pub deadline: Option<Moment>,
    /// The most redirects.
    pub max_redirects: u32,
}

/// How long each phase took; `None` where there was none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Phases {
    /// The name's look-up.
    pub resolve: Option<Duration>,
    /// The TCP handshake of the connection that was used, with the attempts before it.
    pub connect: Option<Duration>,
    /// The TLS handshake.
    pub tls: Option<Duration>,
    /// From the request to the first octet of the response.
    pub first_byte: Option<Duration>,
    /// From there to the last octet.
    pub body: Option<Duration>,
    /// Everything, redirects included.
    pub total: Option<Duration>,
}

/// A final answer.
#[derive(Clone, Debug)]
pub(super) struct FetchResult {
    /// The URL that answered, after redirects.
    pub url: String,
    /// Its status.
    pub status: u16,
    /// Its reason phrase.
    pub reason: String,
    /// The address that answered.
    pub peer: std::net::SocketAddr,
    /// The TLS version, if TLS was used.
    pub tls: Option<&'static str>,
    /// Octets of content.
    pub bytes: u64,
    /// Redirects followed.
    pub redirects: u32,
    /// How long the phases of the last hop took.
    pub phases: Phases,
}

/// Fetches.
pub(super) struct Fetcher {
    limits: FetchLimits,
    trust: TlsOptions,
    /// Made when the first https URL needs it: reading the trust store takes a while.
    tls: Option<ClientTls>,
    trace: Trace,
}

/// One hop's answer.
struct Hop {
    head: ResponseHead,
    peer: std::net::SocketAddr,
    tls: Option<&'static str>,
    phases: Phases,
    /// When its last octet came.
    completed_at: Moment,
}

impl Fetcher {
    /// A fetcher that trusts, waits and shows as told.
    pub(super) fn new(limits: FetchLimits, trust: TlsOptions, trace: Trace) -> Self {
        Self { limits, trust, tls: None, trace }
    }

    /// Fetches `target`, following redirects; the body goes to `delivery`.
    pub(super) fn fetch(
        &mut self,
        target: &Target,
        request: &RequestTemplate,
        sink: &mut BodySink<'_>,
        signals: &mut Signals,
    ) -> Result<FetchResult> {
        // Reading the trust store takes a while and is no part of what is measured; one that cannot
        // be used is found out before anybody is bothered.
        if target.is_secure() {
            self.client_tls(sink)?;
        }
        let started = net::now();
        let (mut target, mut request) = (target.clone(), request.clone());
        let mut redirects = 0;
        loop {
            let hop = self.hop(&target, &request, sink, signals)?;
            let location =
                hop.head.field("location").filter(|_| self.limits.max_redirects > 0 && is_redirect(&hop.head));
            let Some(location) = location else {
                let phases = Phases { total: Some(hop.completed_at - started), ..hop.phases };
                return Ok(FetchResult {
                    url: target.as_str().to_owned(),
                    status: hop.head.status,
                    reason: hop.head.reason,
                    peer: hop.peer,
                    tls: hop.tls,
                    bytes: sink.bytes(),
                    redirects,
                    phases,
                });
            };
            redirects += 1;
            if redirects > self.limits.max_redirects {
                return Err(Error::new(Exit::Protocol, format!("more than {} redirects", self.limits.max_redirects))
                    .expected("an answer in the end")
                    .remedy("allow more with --max-redirects, or look at the loop with --trace"));
            }
            let next = target.resolve_redirect(location)?;
            self.trace.info(&format!("redirected to {}", next.as_str()));
            request = request.after_redirect(hop.head.status, !target.is_same_origin(&next));
            target = next;
        }
    }

    fn hop(
        &mut self,
        target: &Target,
        request: &RequestTemplate,
        sink: &mut BodySink<'_>,
        signals: &mut Signals,
    ) -> Result<Hop> {
        let host = target.host();
        let session = if target.is_secure() { Some(self.tls_session(&host, sink)?) } else { None };
        let started = net::now();
        let addresses =
            net::resolve(&host, target.port(), self.cap_deadline(started + self.limits.phase_timeout), signals)?;
        let resolved = net::now();
        let dialled =
            net::connect(&host, &addresses, self.cap_deadline(resolved + self.limits.connect_timeout), signals)
                .map_err(with_connect_timeout_advice)?;
        self.trace.info(&format!(
            "connected to {} in {}",
            dialled.peer,
            HumanDuration(dialled.connected_at - resolved)
        ));
        self.trace.set_encrypted(session.is_some());
        let patience = ConnectionTimeouts { handshake: self.limits.phase_timeout, stall: self.limits.phase_timeout };
        let mut link = Connection::new(dialled.socket, session, patience, dialled.connected_at);
        let head = request.head_for(target);
        self.trace_request(&head, request.body.as_deref());
        let mut traced = TracingSink { inner: sink, trace: self.trace };
        let mut transfer = ClientExchange::new(&head, request.body.as_deref(), self.limits.phase_timeout, &mut traced);
        net::run_client(&mut link, &mut transfer, self.limits.deadline, signals, |()| Ok(()))?;
        let (head, marks) = transfer.into_result()?;
        let tls = link.tls().and_then(net::tls::version);
        let phases = phases(started, resolved, dialled.connected_at, target.is_secure(), marks);
        Ok(Hop { head, peer: dialled.peer, tls, phases, completed_at: marks.completed.unwrap_or(dialled.connected_at) })
    }

    fn cap_deadline(&self, until: Moment) -> Moment {
        self.limits.deadline.map_or(until, |deadline| deadline.min(until))
    }

    fn tls_session(&mut self, host: &str, sink: &mut BodySink<'_>) -> Result<net::tls::Session> {
        self.client_tls(sink)?.connection(host)
    }

    /// Whom to believe, read once.
    fn client_tls(&mut self, sink: &mut BodySink<'_>) -> Result<&ClientTls> {
        if self.tls.is_none() {
            let side = ClientTls::new(&self.trust)?;
            side.warnings().iter().for_each(|warning| sink.on_warning(warning));
            self.tls = Some(side);
        }
        self.tls.as_ref().ok_or_else(|| Error::new(Exit::Bug, "the trust store vanished"))
    }

    /// Secrets stay out of the trace: what stands in these fields opens doors.
    fn trace_request(&self, head: &RequestHead, body: Option<&[u8]>) {
        if !self.trace.is_enabled() {
            return;
        }
        let mut shown = head.clone();
        for (name, value) in &mut shown.fields {
            if ["authorization", "proxy-authorization", "cookie"].iter().any(|secret| name.eq_ignore_ascii_case(secret))
            {
                "[hidden]".clone_into(value);
            }
        }
        let mut bytes = Vec::new();
        shown.write(&mut bytes);
        self.trace.write_lines(TraceKind::Sent, &bytes);
        if let Some(body) = body {
            self.trace.info(&format!("{} bytes of body sent", body.len()));
        }
    }
}

/// A field's value as a trace may show it: what opens doors is hidden, credentials in a redirect too.
/// Where time was short, the flag that allows more.
fn with_connect_timeout_advice(error: Error) -> Error {
    if error.exit() != Exit::TemporaryFailure {
        return error;
    }
    error.remedy("check the address and the firewall, or wait longer with --connect-timeout")
}

fn redact_field(name: &str, value: &str) -> String {
    let is = |known: &str| name.eq_ignore_ascii_case(known);
    if ["authorization", "proxy-authorization", "cookie"].into_iter().any(is) {
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

/// A head as a trace may show it.
fn redact_head(raw: &[u8]) -> Vec<u8> {
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

fn phases(started: Moment, resolved: Moment, connected: Moment, is_secure: bool, times: ExchangeTimes) -> Phases {
    let opened = times.established.unwrap_or(connected);
    Phases {
        resolve: Some(resolved - started),
        connect: Some(connected - resolved),
        tls: is_secure.then(|| opened - connected),
        first_byte: times.first_byte.map(|first| first - opened),
        body: times.first_byte.zip(times.completed).map(|(first, done)| done - first),
        total: None,
    }
}

/// Shows heads on their way to the delivery.
struct TracingSink<'d, 'o> {
    inner: &'d mut BodySink<'o>,
    trace: Trace,
}

impl ResponseSink for TracingSink<'_, '_> {
    fn on_interim(&mut self, head: &ResponseHead) {
        self.trace.write_lines(TraceKind::Received, &redact_head(&head.raw));
        self.inner.on_interim(head);
    }

    fn on_head(&mut self, head: &ResponseHead, now: Moment) -> Result<()> {
        self.trace.write_lines(TraceKind::Received, &redact_head(&head.raw));
        self.inner.on_head(head, now)
    }

    fn on_data(&mut self, data: &[u8], now: Moment) -> Result<()> {
        if self.trace.is_enabled() {
            self.trace.info(&format!("{} bytes of body received", data.len()));
        }
        self.inner.on_data(data, now)
    }

    fn on_warning(&mut self, text: &str) {
        self.inner.on_warning(text);
    }
}

#[cfg(test)]
mod tests {
    use super::{redact_field, redact_head};

    #[test]
    fn what_opens_doors_is_hidden_in_both_directions() {
        assert_eq!(redact_field("AUTHORIZATION", "Bearer t"), "[hidden]");
        assert_eq!(redact_field("Set-Cookie", "sid=t; Path=/"), "sid=[hidden]; Path=/");
        assert_eq!(redact_field("Location", "http://u:t@h/x?y"), "http://[hidden]@h/x?y");
        assert_eq!(redact_field("Location", "/x@y"), "/x@y");
        assert_eq!(redact_field("X", "t"), "t");
        let head = b"HTTP/1.1 302 Found\r\nset-cookie: a=t\r\nX: y\r\n\r\n";
        assert_eq!(redact_head(head), b"HTTP/1.1 302 Found\r\nset-cookie: a=[hidden]\r\nX: y\r\n\r\n");
    }
}
