//! Fetch of one URL up to its final response: resolve, connect, TLS, exchange, repeated for each redirect.
//!
//! Owns the phases and the redirect policy.

use std::time::Duration;

use super::body_sink::{BodySink, is_redirect};
use super::request::{RequestTemplate, Target};
use crate::commands::peer::AddressArgs;
use crate::commands::report::plural;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::failure::{Failure, FailureKind};
use crate::http::redact::{CREDENTIAL_FIELDS, redact_head};
use crate::http::{ClientExchange, ExchangeTimes, RequestHead, ResponseHead, ResponseSink, explain};
use crate::net::tls::{ClientTls, TlsOptions};
use crate::net::{self, Connection, ConnectionTimeouts, Signals};
use crate::output::{Trace, TraceKind, WaitNotice};
use crate::protocol::excerpt;
use crate::time::{HumanDuration, Moment};

/// Time limits and the redirect limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct FetchLimits {
    /// Longest time without progress within a phase.
    pub phase_timeout: Duration,
    pub connect_timeout: Duration,
    /// End of the whole run.
    pub deadline: Option<Moment>,
    pub max_redirects: u32,
    pub addressing: AddressArgs,
}

/// Durations of the phases; `None` for a phase that did not occur.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Phases {
    /// Name resolution.
    pub resolve: Option<Duration>,
    /// TCP handshake of the connection in use, including earlier attempts.
    pub connect: Option<Duration>,
    /// TLS handshake.
    pub tls: Option<Duration>,
    /// Time from the request to the first byte of the response.
    pub first_byte: Option<Duration>,
    /// Time from the first to the last byte.
    pub body: Option<Duration>,
    /// Whole fetch, including redirects.
    pub total: Option<Duration>,
}

/// Result of a fetch: the final response.
#[derive(Clone, Debug)]
pub(super) struct FetchResult {
    /// URL of the final response, after redirects.
    pub url: String,
    pub status: u16,
    pub reason: String,
    pub peer: std::net::SocketAddr,
    /// TLS version, if TLS was used.
    pub tls: Option<&'static str>,
    /// Bytes of content.
    pub bytes: u64,
    pub redirects: u32,
    /// Phases of the last hop; `total` covers the whole fetch.
    pub phases: Phases,
}

/// Executor of fetches, with their limits and TLS configuration.
pub(super) struct Fetcher {
    limits: FetchLimits,
    trust: TlsOptions,
    /// Created for the first https URL, because loading the trust store takes time.
    tls: Option<ClientTls>,
    trace: Trace,
    notice: WaitNotice,
}

/// Response of one hop of a redirect chain.
struct Hop {
    head: ResponseHead,
    peer: std::net::SocketAddr,
    tls: Option<&'static str>,
    phases: Phases,
    completed_at: Moment,
}

impl Fetcher {
    pub(super) fn new(limits: FetchLimits, trust: TlsOptions, trace: Trace, notice: WaitNotice) -> Self {
        Self { limits, trust, tls: None, trace, notice }
    }

    /// Fetches `target`, following redirects; the body goes to `sink`.
    pub(super) fn fetch(
        &mut self,
        target: &Target,
        request: &RequestTemplate,
        sink: &mut BodySink<'_>,
        signals: &mut Signals,
    ) -> Result<FetchResult> {
        // Loading the trust store takes time and is not measured; an unusable one is reported before connecting.
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
                let limit = self.limits.max_redirects;
                let noun = plural(limit.into(), "redirect", "redirects");
                return Err(Error::new(Exit::Protocol, format!("more than {limit} {noun}"))
                    .expected("a final response")
                    .remedy("raise --max-redirects, or inspect the redirects with --trace"));
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
        let session = if target.is_secure() { Some(self.tls_connection(&host, sink)?) } else { None };
        self.notice.waiting_for(format!("resolving {host}"));
        let started = net::now();
        let addresses =
            net::resolve(&host, target.port(), self.cap_deadline(started + self.limits.phase_timeout), signals)
                .and_then(|addresses| self.limits.addressing.select(&host, addresses))
                .map_err(|failure| failure.in_stage("resolve"))?;
        let resolved = net::now();
        self.notice.waiting_for(format!("connecting to {host}:{}", target.port()));
        let connected = net::connect(
            &host,
            &addresses,
            self.limits.addressing.source,
            self.cap_deadline(resolved + self.limits.connect_timeout),
            signals,
        )
        .map_err(|failure| with_connect_timeout_advice(failure.in_stage("connect")))?;
        self.trace.info(&format!(
            "connected to {} in {}",
            connected.peer,
            HumanDuration(connected.connected_at - resolved)
        ));
        if session.is_some() {
            self.notice.waiting_for(format!("connected to {}, waiting for the TLS handshake", connected.peer));
        }
        self.trace.set_encrypted(session.is_some());
        let timeouts = ConnectionTimeouts { handshake: self.limits.phase_timeout, stall: self.limits.phase_timeout };
        let mut connection = Connection::new(connected.socket, session, timeouts, connected.connected_at);
        let head = request.head_for(target);
        self.trace_request(&head, request.body.as_deref());
        let mut sink =
            TracingSink { inner: sink, trace: self.trace.clone(), notice: self.notice.clone(), upload_notice: None };
        let mut exchange = ClientExchange::new(&head, request.body.as_deref(), self.limits.phase_timeout, &mut sink);
        net::run_client(&mut connection, &mut exchange, self.limits.deadline, signals, |()| Ok(()))?;
        let (head, times) = exchange.into_result()?;
        let tls = connection.tls().and_then(net::tls::version);
        let phases = phases(started, resolved, connected.connected_at, target.is_secure(), times);
        let completed_at = times.completed.unwrap_or(connected.connected_at);
        Ok(Hop { head, peer: connected.peer, tls, phases, completed_at })
    }

    fn cap_deadline(&self, limit: Moment) -> Moment {
        self.limits.deadline.map_or(limit, |deadline| deadline.min(limit))
    }

    fn tls_connection(&mut self, host: &str, sink: &mut BodySink<'_>) -> Result<net::tls::TlsConnection> {
        Ok(self.client_tls(sink)?.connection(host)?)
    }

    /// Returns the TLS client; loads the trust store on first use.
    fn client_tls(&mut self, sink: &mut BodySink<'_>) -> Result<&ClientTls> {
        if self.tls.is_none() {
            let client = ClientTls::new(&self.trust)?;
            client.warnings().iter().for_each(|warning| sink.on_warning(warning));
            self.tls = Some(client);
        }
        self.tls.as_ref().ok_or_else(|| Error::new(Exit::Bug, "the TLS client is missing"))
    }

    /// Traces the request with the fields that carry credentials hidden.
    fn trace_request(&self, head: &RequestHead, body: Option<&[u8]>) {
        if !self.trace.is_enabled() {
            return;
        }
        let mut shown = head.clone();
        for (name, value) in &mut shown.fields {
            if CREDENTIAL_FIELDS.iter().any(|known| name.eq_ignore_ascii_case(known)) {
                "[hidden]".clone_into(value);
            }
        }
        let mut bytes = Vec::new();
        shown.write(&mut bytes);
        self.trace.write_lines(TraceKind::Sent, &bytes);
        self.trace.explain(explain::request(&head.method));
        if let Some(body) = body {
            self.trace.info(&format!("sent body: {} {}", body.len(), plural(body.len() as u64, "byte", "bytes")));
        }
    }
}

/// Adds the advice to raise `--connect-timeout` to a failure to connect.
fn with_connect_timeout_advice(failure: Failure) -> Error {
    match failure.kind() {
        FailureKind::ConnectTimedOut => {
            Error::from(failure).remedy("check the address and the firewall, or raise --connect-timeout")
        }
        _ => failure.into(),
    }
}

fn phases(started: Moment, resolved: Moment, connected: Moment, is_secure: bool, times: ExchangeTimes) -> Phases {
    let established = times.established.unwrap_or(connected);
    Phases {
        resolve: Some(resolved - started),
        connect: Some(connected - resolved),
        tls: is_secure.then(|| established - connected),
        first_byte: times.first_byte.map(|first| first - established),
        body: times.first_byte.zip(times.completed).map(|(first, last)| last - first),
        total: None,
    }
}

/// Sink that traces the response before the inner sink receives it.
struct TracingSink<'d, 'o> {
    inner: &'d mut BodySink<'o>,
    trace: Trace,
    notice: WaitNotice,
    /// Last notice about the request that is being sent.
    upload_notice: Option<String>,
}

impl ResponseSink for TracingSink<'_, '_> {
    fn on_request_blocked(&mut self, sent: u64, total: u64) {
        let text = format!("waiting for the server to read the request, {sent} of {total} bytes sent");
        if self.upload_notice.as_ref() != Some(&text) {
            self.notice.waiting_for(text.clone());
            self.upload_notice = Some(text);
        }
    }

    fn on_request_sent(&mut self) {
        self.notice.waiting_for("connected, request sent, waiting for the response");
    }

    fn on_partial_head(&mut self, last_line: &[u8]) {
        let line = excerpt(last_line);
        self.notice.waiting_for(format!("waiting for the rest of the response head, last line: '{line}'"));
    }

    fn on_interim(&mut self, head: &ResponseHead) {
        self.notice.progress();
        self.trace.write_lines(TraceKind::Received, &redact_head(&head.raw));
        self.inner.on_interim(head);
    }

    fn on_head(&mut self, head: &ResponseHead, now: Moment) -> Result<(), Failure> {
        self.trace.write_lines(TraceKind::Received, &redact_head(&head.raw));
        self.trace.explain(explain::status(head.status));
        self.trace.explain(explain::body_end(
            head.fields.iter().map(|(name, value)| (name.as_str(), std::str::from_utf8(value).unwrap_or_default())),
        ));
        let end = match head.length {
            Some(length) => format!("of {length} bytes"),
            None if head.field("transfer-encoding").is_some() => "in chunks (RFC 9112 §7.1)".to_owned(),
            None => "until the server closes the connection (no Content-Length, RFC 9112 §6.3)".to_owned(),
        };
        self.notice.waiting_for(format!("head received, waiting for the body {end}"));
        self.inner.on_head(head, now)
    }

    fn on_data(&mut self, data: &[u8], now: Moment) -> Result<(), Failure> {
        if self.trace.is_enabled() {
            self.trace.info(&format!("received body: {} {}", data.len(), plural(data.len() as u64, "byte", "bytes")));
        }
        let inner = &mut *self.inner;
        self.notice.suspend(|| inner.on_data(data, now))
    }

    fn on_malformed(&mut self, bytes: &[u8]) {
        self.trace.write_lines(TraceKind::Received, bytes);
    }

    fn on_warning(&mut self, text: &str) {
        self.inner.on_warning(text);
    }
}
