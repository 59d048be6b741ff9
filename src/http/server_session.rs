//! Session of a server on one connection: requests, responses and timeouts.
//!
//! Connects the codec with the [`Handler`] that chooses the content. One request is answered at a time; the next one
//! is not read until the response was sent. `Responding` includes a job that produces the body.
//!
//! ```text
//!   Idle ──first byte──▶ Head ──request──▶ Responding ──sent──▶ Idle (or DrainingBody)
//!    │ idle timeout       │ head timeout: 408                         │ stall timeout
//!    ▼                    ▼                                           ▼
//!   close                close                                       close
//! ```

mod responding;

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::exchange::{Exchange, LogFields, SessionEvent};
use super::handler::{Admission, Handler, ResponseBody};
use super::redact::{redact_head, redact_line};
use super::request::Request;
use super::request_error::RequestError;
use super::server::{ServerCodec, ServerInput, TLS_HANDSHAKE};
use super::status::Status;
use crate::protocol::{
    Actions, Awaited, AwaitsInput, CloseReason, InputPiece, StreamProtocol, Turn, WaitReport, excerpt, last_line,
};
use crate::time::Moment;
use responding::{GeneratingResponse, ReadyResponse, ResponseInFlight};

/// Reason of a 408 response.
const HEAD_TIMED_OUT: &str = "request head timed out: no empty line after the fields (RFC 9112 §2.1)";

/// Reason of a 400 response on a TLS port.
const PLAIN_HTTP: &str = "plain HTTP on a TLS port: the URL begins with https://";

/// Request line of a TLS handshake in the log.
const TLS_REQUEST_LINE: &[u8] = b"TLS handshake";

/// Head as the trace shows it.
fn traced_head(bytes: &[u8]) -> InputPiece {
    InputPiece::Lines(redact_head(bytes))
}

/// Maximum number of logged bytes of a field, because thousands of events may be queued.
const MAX_LOGGED_BYTES: usize = 2048;

fn truncate_for_log(bytes: &[u8]) -> Vec<u8> {
    bytes.get(..MAX_LOGGED_BYTES).unwrap_or(bytes).to_owned()
}

/// Awaited by a connection that is kept open after a response; often the client waits for its end.
pub(crate) const NEXT_REQUEST: Awaited = Awaited { what: "another request", is_begun: false };

/// Protocol state of one connection.
#[derive(Debug)]
pub(crate) struct ServerSession<H> {
    handler: Rc<H>,
    codec: ServerCodec,
    peer: Option<SocketAddr>,
    state: State,
    in_flight: Option<ResponseInFlight>,
    generating: Option<Box<GeneratingResponse>>,
    close_after_response: bool,
    progress: Progress,
    /// Excerpt of the last line of a head that has not ended.
    last_line: Option<String>,
}

/// Progress of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Connecting,
    /// The connection was established, including TLS.
    Open,
    /// A client has sent plain HTTP to a TLS port.
    OpenInClear,
    /// A response was sent.
    Answered,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Idle { deadline: Moment },
    Head { deadline: Moment },
    DrainingBody { deadline: Moment },
    Responding,
}

impl<H: Handler> ServerSession<H> {
    pub(crate) fn new(handler: Rc<H>, peer: Option<SocketAddr>, now: Moment) -> Self {
        let state = State::Idle { deadline: now + handler.timeouts().idle };
        Self {
            handler,
            codec: ServerCodec::default(),
            peer,
            state,
            in_flight: None,
            generating: None,
            close_after_response: false,
            progress: Progress::Connecting,
            last_line: None,
        }
    }

    /// Returns whether a response is being produced or sent.
    fn is_responding(&self) -> bool {
        self.in_flight.is_some() || self.generating.is_some()
    }

    fn handle_request(&mut self, request: &Request<'_>, turn: &mut Turn<'_, SessionEvent>) {
        let last = match self.handler.admit() {
            Admission::Accept => self.close_after_response,
            Admission::AcceptLast => true,
            Admission::Reject => return turn.actions.close(),
        };
        let log_fields = self.handler.events_wanted().then(|| {
            Box::new(LogFields {
                request_line: truncate_for_log(request.request_line),
                client: self.handler.client_address(request.fields, self.peer),
                referer: request.fields.first("referer").map(truncate_for_log),
                user_agent: request.fields.first("user-agent").map(truncate_for_log),
            })
        });
        let mut response = self.handler.respond(request, self.peer, turn.now);
        let job = match response.body {
            ResponseBody::Generated(job) => {
                response.body = ResponseBody::Empty;
                Some(job)
            }
            _ => None,
        };
        let ready =
            ReadyResponse { response, error: None, log_fields, started: turn.now, is_last: last, is_counted: true };
        match job {
            Some(job) => self.generate(ready, job, turn),
            None => self.send_response(ready, turn),
        }
    }

    /// Rejects invalid input, with a response if the error has a status, and ends the connection.
    fn reject(&mut self, error: &RequestError, bytes: &[u8], turn: &mut Turn<'_, SessionEvent>) {
        let line = bytes.split(|byte| matches!(byte, b'\r' | b'\n')).find(|line| !line.is_empty()).unwrap_or_default();
        let line = if line.first() == Some(&TLS_HANDSHAKE) { TLS_REQUEST_LINE } else { line };
        let log_fields = self
            .handler
            .events_wanted()
            .then(|| Box::new(LogFields { request_line: truncate_for_log(line), ..LogFields::default() }));
        let reason = Some(match &error.got {
            Some(got) => format!("{}: '{got}'", error.reason),
            None => error.reason.to_owned(),
        });
        if let Some(status) = error.status {
            let response = self.handler.error_response(status, error.reason);
            let started = turn.now;
            let ready =
                ReadyResponse { response, error: reason, log_fields, started, is_last: true, is_counted: false };
            return self.send_response(ready, turn);
        }
        turn.actions.emit(SessionEvent::Exchange(self.exchange(None, reason, log_fields, turn.now)));
        turn.actions.close();
    }

    /// Describes an exchange whose response is not sent yet, or never will be.
    fn exchange(
        &self,
        status: Option<Status>,
        error: Option<String>,
        log_fields: Option<Box<LogFields>>,
        now: Moment,
    ) -> Exchange {
        Exchange {
            peer: self.peer,
            started: now,
            duration: Duration::ZERO,
            status,
            bytes: 0,
            is_complete: true,
            error,
            log_fields,
        }
    }
}

impl<H: Handler> StreamProtocol for ServerSession<H> {
    type Event = SessionEvent;
    const FULL_DUPLEX: bool = false;

    fn opened(&mut self, _: Option<&'static str>, now: Moment, actions: &mut Actions<SessionEvent>) {
        let turn = &mut Turn { now, actions };
        self.progress = Progress::Open;
        self.state = State::Idle { deadline: turn.now + self.handler.timeouts().idle };
        if self.close_after_response {
            turn.actions.close();
        }
    }

    fn opened_in_clear(&mut self, now: Moment, actions: &mut Actions<SessionEvent>) -> bool {
        self.opened(None, now, actions);
        self.progress = Progress::OpenInClear;
        true
    }

    fn received(&mut self, bytes: &[u8], now: Moment, actions: &mut Actions<SessionEvent>) -> usize {
        let turn = &mut Turn { now, actions };
        if self.is_responding() {
            return 0;
        }
        let is_body = matches!(self.state, State::DrainingBody { .. });
        let (taken, input) = self.codec.receive(bytes);
        let shown =
            if matches!(input, ServerInput::Invalid(_)) { bytes } else { bytes.get(..taken).unwrap_or_default() };
        if !shown.is_empty() {
            turn.actions
                .trace_input(|| if is_body { InputPiece::Content(shown.len() as u64) } else { traced_head(shown) });
        }
        match input {
            ServerInput::Request(_) if self.progress == Progress::OpenInClear => {
                self.reject(&RequestError::new(Status::BAD_REQUEST, PLAIN_HTTP), bytes, turn);
            }
            ServerInput::Request(request) => self.handle_request(&request, turn),
            ServerInput::Invalid(error) => self.reject(&error, bytes, turn),
            ServerInput::NeedMore => {
                // An empty line before a request is not part of it (RFC 9112 §2.2).
                let has_begun = bytes.iter().skip(taken).any(|byte| !matches!(byte, b'\r' | b'\n'));
                let within_head = has_begun && self.codec.is_in_head();
                let line = last_line(bytes.get(taken..).unwrap_or_default()).filter(|_| within_head);
                self.last_line = line.map(|line| excerpt(&redact_line(line)));
                match self.state {
                    // The timeout is for the whole head, so single bytes do not extend it.
                    State::Head { .. } if within_head => {}
                    State::DrainingBody { .. } if !self.codec.is_draining() => {
                        self.state = State::Idle { deadline: turn.now + self.handler.timeouts().idle };
                    }
                    _ if within_head => self.state = State::Head { deadline: turn.now + self.handler.timeouts().head },
                    _ => {}
                }
            }
        }
        taken
    }

    fn sent(&mut self, now: Moment, actions: &mut Actions<SessionEvent>) {
        let turn = &mut Turn { now, actions };
        self.finish_response(None, turn);
        self.state = if self.codec.is_draining() {
            State::DrainingBody { deadline: turn.now + self.handler.timeouts().stall }
        } else {
            State::Idle { deadline: turn.now + self.handler.timeouts().idle }
        };
        if self.close_after_response {
            turn.actions.close();
        }
    }

    fn job_done(&mut self, now: Moment, actions: &mut Actions<SessionEvent>) {
        let turn = &mut Turn { now, actions };
        let Some(generating) = self.generating.take() else { return };
        let mut ready = self.take_produced(*generating);
        ready.is_last |= self.close_after_response;
        self.send_response(ready, turn);
    }

    fn idle_deadline(&self) -> Option<Moment> {
        if let State::Idle { deadline } = self.state { Some(deadline) } else { None }
    }

    fn is_paused(&self) -> bool {
        self.generating.is_some()
    }

    fn woken(&mut self, now: Moment, actions: &mut Actions<SessionEvent>) {
        let turn = &mut Turn { now, actions };
        match self.state {
            State::Head { .. } => {
                self.reject(&RequestError::new(Status::REQUEST_TIMEOUT, HEAD_TIMED_OUT), b"", turn);
            }
            _ => turn.actions.close(),
        }
    }

    fn draining(&mut self, _: Moment, actions: &mut Actions<SessionEvent>) {
        self.close_after_response = true;
        if !self.is_responding() {
            actions.close();
        }
    }

    fn ended(&mut self, reason: &CloseReason, now: Moment, actions: &mut Actions<SessionEvent>) {
        let turn = &mut Turn { now, actions };
        match reason {
            // A client may shut down its side after its request; the response is still sent.
            CloseReason::Finished | CloseReason::Truncated => {
                if self.is_responding() {
                    self.close_after_response = true;
                } else {
                    if let Some(line) = self.last_line.take() {
                        let reason = format!(
                            "connection closed within the request head: no empty line after '{line}' (RFC 9112 §2.1)"
                        );
                        turn.actions.emit(SessionEvent::ConnectionFailed { peer: self.peer, at: turn.now, reason });
                    }
                    turn.actions.close();
                }
            }
            CloseReason::Broken(error) => {
                if let Some(generating) = self.generating.take() {
                    let ReadyResponse { response, log_fields, started, .. } = generating.ready;
                    let reason = Some(error.message().to_owned());
                    let exchange = self.exchange(Some(response.status), reason, log_fields, started);
                    turn.actions.emit(SessionEvent::Exchange(Exchange { is_complete: false, ..exchange }));
                } else if self.in_flight.is_some() {
                    self.finish_response(Some(error.message().to_owned()), turn);
                } else if self.progress == Progress::Connecting || matches!(self.state, State::Head { .. }) {
                    turn.actions.emit(SessionEvent::ConnectionFailed {
                        peer: self.peer,
                        at: turn.now,
                        reason: error.message().to_owned(),
                    });
                }
            }
        }
    }

    fn wake_at(&self) -> Option<Moment> {
        match self.state {
            State::Idle { deadline } | State::Head { deadline } | State::DrainingBody { deadline } => Some(deadline),
            State::Responding => None,
        }
    }
}

impl<H: Handler> AwaitsInput for ServerSession<H> {
    fn awaited(&self) -> Option<Awaited> {
        match self.state {
            State::Idle { .. } if self.progress == Progress::Answered => Some(NEXT_REQUEST),
            State::Idle { .. } => Some(Awaited { what: "a request", is_begun: false }),
            State::Head { .. } => {
                Some(Awaited { what: "the empty line that ends the request head (RFC 9112 §2.1)", is_begun: true })
            }
            State::DrainingBody { .. } => Some(Awaited { what: "the rest of the request body", is_begun: true }),
            State::Responding => None,
        }
    }

    fn shown_line(&self, line: &[u8]) -> Option<String> {
        Some(excerpt(&redact_line(line)))
    }

    fn waiting_event(&self, report: WaitReport) -> SessionEvent {
        SessionEvent::Waiting { peer: self.peer, report }
    }
}
