//! `netlab serve-http`: HTTP file server.
//!
//! Owns the flags and the course of a run: open the root, listen, report the addresses, serve until stopped, print
//! the summary. [`web`] has the HTTP session, [`response`] maps requests to files, [`events`] formats the output.

mod counters;
mod events;
mod file_response;
mod listing_response;
mod response;
mod site_args;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::args::{duration, number, positive_duration};
use super::dialogue_trace::{DialogueTrace, TraceArgs, TracedProtocol};
use super::listen_args::{ServerArgs, bind_help};
use super::report;
use super::server_tls::ServerTlsArgs;
use super::web;
use crate::error::Result;
use crate::exit::Exit;
use crate::http::{
    Admission, Exchange, Handler, HttpTimeouts, NEXT_REQUEST, Request, Response, ServerSession, SessionEvent, Status,
};
use crate::net::tls::ServerTls;
use crate::net::{
    self, Accepted, ConnectionTimeouts, Incoming, Listeners, Notice, ServerConfig, Service, Signals, Waker,
};
use crate::output::{Format, Output, Recorder, WaitNotice};
use crate::protocol::{Traced, WaitReport, WaitReporter};
use crate::site::Root;
use crate::time::Moment;
use counters::Counters;
pub(in crate::commands) use events::list_events;
use events::{Listening, ServeHttpEvent};
use response::{SiteConfig, SiteHandle};
use site_args::{SiteArgs, Target};

/// Port of the textbook exercise.
const DEFAULT_PORT: u16 = 6789;

/// Serve the files of a directory over HTTP.
#[derive(Debug, Args)]
#[command(mut_arg("bind", |bind| bind_help(bind, DEFAULT_PORT, true)))]
#[command(mut_arg("tls_self_signed", |flag| flag.hide_short_help(true)))]
#[command(after_help = "\
Examples:
  netlab serve-http assets/site --threads
  netlab serve-http --bind '*:8080' --log combined > access.log")]
pub(crate) struct ServeHttp {
    #[command(flatten)]
    site: SiteArgs,

    #[command(flatten)]
    server: ServerArgs,

    #[command(flatten)]
    trace: TraceArgs,

    /// Log: off, common, combined, json
    ///
    /// The access log is written to stdout. common and combined are the formats of Apache and nginx; --json
    /// implies json.
    #[arg(long, value_enum, default_value_t = LogFormat::Common, hide_possible_values = true)]
    log: LogFormat,

    /// Stop after N requests; 0 = no limit
    #[arg(short, long, value_name = "N", default_value_t = 0, hide_default_value = true, value_parser = number::<u64>(0..))]
    count: u64,

    #[command(flatten)]
    tls: ServerTlsArgs,

    /// Time for responses in progress after SIGINT, SIGTERM or the end of --for
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration, hide_short_help = true)]
    grace: Duration,

    /// Time limit for a request head, from its first byte to its last
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = positive_duration, hide_short_help = true, help_heading = "Limits")]
    head_timeout: Duration,

    /// Time limit for an idle connection between requests
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = positive_duration, hide_short_help = true, help_heading = "Limits")]
    idle_timeout: Duration,

    /// Time limit for a client that does not read its response or send its request body
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = positive_duration, hide_short_help = true, help_heading = "Limits")]
    stall_timeout: Duration,
}

/// Format of the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// No access log
    Off,
    /// Common Log Format
    Common,
    /// Common Log Format with Referer and User-Agent
    Combined,
    /// One JSON object per event
    Json,
}

impl ServeHttp {
    pub(crate) fn run(&self, mut output: Output) -> Result<Exit> {
        let mut ready_file = self.server.listen.prepare_ready_file()?;
        if self.log == LogFormat::Json {
            output.set_format(Format::Json);
        }
        let target = self.site.target();
        let root = self.site.open_root(&target)?;
        let certificate = self.tls.certificate(None, self.tls.authority()?.as_ref())?;
        // Before another socket is opened, which could have the number of one that a service manager passes.
        let listeners = self.server.listen.listeners(DEFAULT_PORT, self.server.threads)?;
        let mut signals = Signals::install()?;
        let stop = self.server.listen.stop_conditions(&signals);
        output.stop_stderr_on(stop.clone());
        self.tls.write_ca(certificate.as_ref(), &stop)?;
        let listening = Listening::new(&listeners, certificate.as_ref(), self.site.path());
        self.print_warnings(&output, &listeners, &listening);

        let waker = signals.waker()?;
        let (recorder, writer) = Recorder::start(output.clone(), move || waker.wake())?;
        recorder.emit(ServeHttpEvent::Listening(listening));
        let scheme = if certificate.is_some() { "https" } else { "http" };
        ready_file.write(listeners.addresses().map(|address| web::url(scheme, address)), &stop)?;

        let started = net::now();
        let total = self.serve(
            listeners,
            certificate.as_ref().map(|certificate| &certificate.tls),
            (target, root),
            &mut signals,
            (&recorder, &output),
            started,
        )?;
        let elapsed = net::now() - started;
        drop(recorder);
        let (mut output, dropped, written) = writer.finish();
        report::emit_summary(&mut output, &total.summary(elapsed, dropped), Exit::Success)?;
        written?;
        Ok(Exit::Success)
    }

    /// Warns about addresses that failed, a private root and access from other hosts.
    fn print_warnings(&self, output: &Output, listeners: &Listeners, listening: &Listening) {
        for warning in listeners.warnings() {
            output.note(&format!("note: {warning}"));
        }
        let home = std::env::home_dir();
        let root = std::fs::canonicalize(self.site.path()).unwrap_or_default();
        if root.parent().is_none() || home.is_some_and(|home| home == root) {
            output.note(&format!("warning: serving all of {}, including private files", root.display()));
        }
        if listening.is_public() {
            output.note("warning: any host that can reach this machine can read these files");
        }
    }

    fn serve(
        &self,
        listeners: Listeners,
        tls: Option<&ServerTls>,
        (target, root): (Target, Root),
        signals: &mut Signals,
        (recorder, output): (&Recorder<ServeHttpEvent>, &Output),
        started: Moment,
    ) -> Result<Counters> {
        let timeouts = HttpTimeouts { head: self.head_timeout, idle: self.idle_timeout, stall: self.stall_timeout };
        let config = ServerConfig {
            listener_groups: vec![listeners],
            threads: self.server.threads,
            pool_threads: 0,
            max_connections: usize::MAX,
            timeouts: ConnectionTimeouts { handshake: self.head_timeout, stall: self.stall_timeout },
            drain_timeout: self.grace,
            deadline: self.server.listen.lifetime.map(|lifetime| started + lifetime),
        };
        let request_limit = Arc::new(RequestLimit {
            max_requests: self.count,
            admitted: AtomicU64::new(0),
            responses_sent: AtomicU64::new(0),
            waker: signals.waker()?,
        });
        let (site, root) = (Arc::new(SiteConfig::new(&self.site, target)), Arc::new(root));
        let total = Mutex::new(Counters::default());
        let quiet = !output.style().prints_events();
        let is_hint_printed = Arc::new(AtomicBool::new(false));
        let notice = WaitNotice::new(output);
        notice.waiting_for("waiting for the first connection");
        let make = || HttpService {
            handler: Rc::new(SiteHandler {
                site: SiteHandle::new(Arc::clone(&site), Arc::clone(&root), reporter(recorder)),
                timeouts,
                request_limit: Arc::clone(&request_limit),
                events_wanted: self.log != LogFormat::Off && !quiet,
            }),
            recorder: recorder.clone(),
            output: output.clone(),
            trace: self.trace,
            is_waiting_reported: output.reports_waiting(),
            is_hint_printed: Arc::clone(&is_hint_printed),
            notice: notice.clone(),
            combined: self.log == LogFormat::Combined,
            tls: tls.cloned(),
            counters: Counters::default(),
        };
        let finish =
            |web: HttpService| total.lock().unwrap_or_else(std::sync::PoisonError::into_inner).merge(&web.counters);
        net::serve(config, signals, make, finish)?;
        Ok(total.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

/// Returns a function that prints a note through the writer thread.
fn reporter(recorder: &Recorder<ServeHttpEvent>) -> Box<dyn Fn(String)> {
    let recorder = recorder.clone();
    Box::new(move |text| recorder.note(&text))
}

/// Request counter for `--count`, shared by all threads.
#[derive(Debug)]
struct RequestLimit {
    max_requests: u64,
    admitted: AtomicU64,
    responses_sent: AtomicU64,
    waker: Waker,
}

impl RequestLimit {
    fn admit(&self) -> Admission {
        if self.max_requests == 0 {
            return Admission::Accept;
        }
        match self.admitted.fetch_add(1, Ordering::Relaxed) + 1 {
            number if number < self.max_requests => Admission::Accept,
            number if number == self.max_requests => Admission::AcceptLast,
            _ => Admission::Reject,
        }
    }

    fn response_sent(&self) {
        if self.max_requests > 0 && self.responses_sent.fetch_add(1, Ordering::Relaxed) + 1 == self.max_requests {
            self.waker.wake();
        }
    }
}

/// Request handler shared by all sessions of one thread.
struct SiteHandler {
    site: SiteHandle,
    timeouts: HttpTimeouts,
    request_limit: Arc<RequestLimit>,
    events_wanted: bool,
}

impl Handler for SiteHandler {
    fn timeouts(&self) -> HttpTimeouts {
        self.timeouts
    }

    fn respond(&self, request: &Request<'_>, now: Moment) -> Response {
        self.site.respond(request, now)
    }

    fn error_response(&self, status: Status, reason: &str) -> Response {
        self.site.error_response(status, reason)
    }

    fn events_wanted(&self) -> bool {
        self.events_wanted
    }

    fn admit(&self) -> Admission {
        self.request_limit.admit()
    }

    fn response_sent(&self) {
        self.request_limit.response_sent();
    }
}

/// Service of one worker thread.
struct HttpService {
    handler: Rc<SiteHandler>,
    recorder: Recorder<ServeHttpEvent>,
    output: Output,
    trace: TraceArgs,
    is_waiting_reported: bool,
    /// The hint for clients that wait for the end of a persistent connection was printed.
    is_hint_printed: Arc<AtomicBool>,
    /// Notice that is printed until the first client connects.
    notice: WaitNotice,
    combined: bool,
    tls: Option<ServerTls>,
    counters: Counters,
}

/// Describes why a request was rejected or cut short, which an access log does not say. `ordinary` answers, such as
/// 404, are only described on request.
fn describe_failure(event: &SessionEvent, ordinary: bool) -> Option<String> {
    let (peer, reason) = match event {
        SessionEvent::Exchange(Exchange {
            status: Some(Status::NOT_FOUND | Status::PRECONDITION_FAILED | Status::RANGE_NOT_SATISFIABLE),
            is_complete: true,
            ..
        }) if !ordinary => return None,
        SessionEvent::Exchange(Exchange { peer, error: Some(reason), .. })
        | SessionEvent::ConnectionFailed { peer, reason, .. } => (*peer, reason),
        SessionEvent::Exchange(_) | SessionEvent::Waiting { .. } => return None,
    };
    Some(format!("{}: {reason}", report::display_peer(peer)))
}

impl HttpService {
    /// Prints what the server waits for from a client; once what a client may wait for.
    fn report_waiting(&self, peer: Option<SocketAddr>, report: &WaitReport) {
        let peer = report::display_peer(peer);
        if report.awaited != NEXT_REQUEST {
            self.recorder.note(&format!("{peer}: {report}"));
        } else if !self.is_hint_printed.swap(true, Ordering::Relaxed) {
            self.recorder.note(&format!(
                "{peer}: the response is complete; HTTP/1.1 keeps the connection open. A client that waits for its \
                 end should send 'Connection: close' (RFC 9112 §9.3)"
            ));
        }
    }
}

impl Service for HttpService {
    type Protocol = Traced<WaitReporter<ServerSession<SiteHandler>>, DialogueTrace>;

    fn accepted(&mut self, Incoming { peer, .. }: Incoming, now: Moment) -> Accepted<Self::Protocol> {
        self.counters.connections += 1;
        self.notice.done();
        let session = ServerSession::new(Rc::clone(&self.handler), peer, now);
        let session = WaitReporter::new(session, self.is_waiting_reported, now);
        let observer =
            self.trace.server_dialogue_trace(TracedProtocol::Http, peer, (self.output.style(), self.recorder.notes()));
        let protocol = Traced::new(session, observer);
        Accepted { protocol, tls: self.tls.clone(), start_tls: None }
    }

    fn on_event(&mut self, event: SessionEvent) {
        if let SessionEvent::Waiting { peer, report } = &event {
            return self.report_waiting(*peer, report);
        }
        self.counters.record(&event);
        let ordinary = self.output.style().is_verbose();
        let reason = self.handler.events_wanted.then(|| describe_failure(&event, ordinary)).flatten();
        if self.handler.events_wanted
            && let Some(event) = ServeHttpEvent::from_session_event(event, self.combined)
        {
            self.recorder.emit(event);
        }
        if let Some(reason) = reason {
            self.recorder.note(&reason);
        }
    }

    fn on_notice(&mut self, Notice::Exhausted(reason): Notice) {
        self.recorder.emit(ServeHttpEvent::Notice { what: format!("accepting new connections is paused: {reason}") });
    }
}
