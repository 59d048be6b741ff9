//! Service of `serve-http`: creates the session of each connection, counts and reports what happens to it.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::LogFormat;
use super::counters::Counters;
use super::events::ServeHttpEvent;
use super::response::SiteHandle;
use crate::commands::dialogue_trace::{DialogueTrace, TraceArgs, TracedProtocol};
use crate::commands::report;
use crate::http::{
    Admission, Exchange, FieldLines, Handler, HttpTimeouts, NEXT_REQUEST, Request, Response, ServerSession,
    SessionEvent, Status,
};
use crate::net::tls::ServerTls;
use crate::net::{Accepted, Incoming, Notice, Service, Waker};
use crate::output::{Output, Recorder, WaitNotice};
use crate::protocol::{Traced, WaitReport, WaitReporter};
use crate::time::Moment;

/// Request counter for `--count`, shared by all threads.
#[derive(Debug)]
pub(super) struct RequestLimit {
    max_requests: u64,
    admitted: AtomicU64,
    responses_sent: AtomicU64,
    waker: Waker,
}

impl RequestLimit {
    /// Creates the counter; `waker` stops the server after the last response.
    pub(super) fn new(max_requests: u64, waker: Waker) -> Self {
        Self { max_requests, admitted: AtomicU64::new(0), responses_sent: AtomicU64::new(0), waker }
    }

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
pub(super) struct SiteHandler {
    pub site: SiteHandle,
    pub timeouts: HttpTimeouts,
    pub request_limit: Arc<RequestLimit>,
    pub events_wanted: bool,
}

impl Handler for SiteHandler {
    fn timeouts(&self) -> HttpTimeouts {
        self.timeouts
    }

    fn respond(&self, request: &Request<'_>, peer: Option<SocketAddr>, now: Moment) -> Response {
        self.site.respond(request, peer, now)
    }

    fn error_response(&self, status: Status, reason: &str) -> Response {
        self.site.error_response(status, reason)
    }

    fn client_address(&self, fields: FieldLines<'_>, peer: Option<SocketAddr>) -> Option<IpAddr> {
        self.site.client_address(fields, peer)
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
pub(super) struct HttpService {
    pub handler: Rc<SiteHandler>,
    pub recorder: Recorder<ServeHttpEvent>,
    pub output: Output,
    pub trace: TraceArgs,
    pub is_waiting_reported: bool,
    /// The hint for clients that wait for the end of a persistent connection was printed.
    pub is_hint_printed: Arc<AtomicBool>,
    /// Present until the first client connects.
    pub first_wait: Option<WaitNotice>,
    pub log: LogFormat,
    /// Stdout has the lines of requests only.
    pub is_log_alone: bool,
    pub tls: Option<ServerTls>,
    pub counters: Counters,
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
        if let Some(notice) = self.first_wait.take() {
            notice.done();
        }
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
        let is_logged = self.handler.events_wanted
            && !(self.is_log_alone && matches!(event, SessionEvent::ConnectionFailed { .. }));
        if is_logged && let Some(event) = ServeHttpEvent::from_session_event(event, self.log == LogFormat::Combined) {
            self.recorder.emit(event);
        }
        if let Some(reason) = reason {
            self.recorder.note(&reason);
        }
    }

    fn on_notice(&mut self, notice: Notice) {
        let what = notice.to_string();
        if self.is_log_alone {
            self.recorder.note(&what);
        } else {
            self.recorder.emit(ServeHttpEvent::Notice { what });
        }
    }
}
