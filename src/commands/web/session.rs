//! The conversation on one connection: requests in, answers out, deadlines between.
//!
//! Owns the glue from `http` to the pages and back. One request is answered at a time; the next
//! one waits, unread, until the answer has left.
//!
//! ```text
//!   Idle ──first octet──▶ Head ──request──▶ Answering ──sent──▶ Idle (or Body, draining)
//!    │ idle limit          │ head limit: 408                      │ stall limit
//!    ▼                     ▼                                      ▼
//!   close                 close                                  close
//! ```

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::{Admission, Handler, Response, ResponseBody};
use crate::http::{HttpDate, OutgoingHead, Request, RequestError, ServerCodec, ServerInput, Status};
use crate::protocol::{Actions, CloseReason, StreamProtocol};
use crate::site;
use crate::time::Moment;

/// Files up to this size are read and go out with their head in one write; larger ones are worth
/// a `sendfile` of their own.
const MAX_INLINE_FILE: u64 = 16 * 1024;

/// How long a session waits for its client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HttpTimeouts {
    /// For a head, from its first octet to its last.
    pub head: Duration,
    /// Between requests.
    pub idle: Duration,
    /// For the rest of a body that nobody wants.
    pub stall: Duration,
}

/// The most octets of one field that a log keeps: thousands of events may wait to be written.
const MAX_LOGGED_BYTES: usize = 2048;

fn truncate_for_log(bytes: &[u8]) -> Vec<u8> {
    bytes.get(..MAX_LOGGED_BYTES).unwrap_or(bytes).to_owned()
}

/// What a session tells.
#[derive(Debug)]
pub(crate) enum SessionEvent {
    /// A request was answered, or refused.
    Exchange(Exchange),
    /// The connection failed before there was a request: why.
    ConnectionFailed {
        /// From where.
        peer: Option<SocketAddr>,
        /// When.
        at: Moment,
        /// What happened.
        reason: String,
    },
}

/// One request and what became of it.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// From where; `None` is a Unix socket.
    pub peer: Option<SocketAddr>,
    /// When its head was complete.
    pub started: Moment,
    /// Until its last octet had left.
    pub duration: Duration,
    /// `None` if there was no answer.
    pub status: Option<Status>,
    /// Octets of content that left.
    pub bytes: u64,
    /// Whether all of the answer left.
    pub is_complete: bool,
    /// Why it was refused or cut.
    pub error: Option<String>,
    /// What only a log wants to know.
    pub log_fields: Option<Box<LogFields>>,
}

/// What a log says about a request.
#[derive(Debug, Default)]
pub(crate) struct LogFields {
    /// The first line, as sent.
    pub request_line: Vec<u8>,
    /// Referer, as sent.
    pub referer: Option<Vec<u8>>,
    /// User-Agent, as sent.
    pub user_agent: Option<Vec<u8>>,
}

/// A connection's conversation.
#[derive(Debug)]
pub(crate) struct HttpSession<H> {
    handler: Rc<H>,
    codec: ServerCodec,
    peer: Option<SocketAddr>,
    state: State,
    in_flight: Option<ResponseInFlight>,
    close_after_response: bool,
    /// Whether the connection ever stood, TLS and all.
    is_open: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Idle { deadline: Moment },
    Head { deadline: Moment },
    DrainingBody { deadline: Moment },
    Responding,
}

/// An answer on its way out.
#[derive(Debug)]
struct ResponseInFlight {
    exchange: Exchange,
    head_bytes: u64,
    /// Whether it is one of the requests that `--count` counts.
    is_counted: bool,
}

impl<H: Handler> HttpSession<H> {
    /// A session with a client that has not said anything yet.
    pub(crate) fn new(handler: Rc<H>, peer: Option<SocketAddr>, now: Moment) -> Self {
        let waiting = State::Idle { deadline: now + handler.timeouts().idle };
        Self {
            handler,
            codec: ServerCodec::default(),
            peer,
            state: waiting,
            in_flight: None,
            close_after_response: false,
            is_open: false,
        }
    }

    fn handle_request(&mut self, request: &Request<'_>, now: Moment, actions: &mut Actions<SessionEvent>) {
        let last = match self.handler.admit() {
            Admission::Accept => self.close_after_response,
            Admission::AcceptLast => true,
            Admission::Reject => return actions.close(),
        };
        let details = self.handler.events_wanted().then(|| {
            Box::new(LogFields {
                request_line: truncate_for_log(request.request_line),
                referer: request.referer.map(truncate_for_log),
                user_agent: request.user_agent.map(truncate_for_log),
            })
        });
        let decision = self.handler.respond(request, now);
        self.send_response(decision, None, details, (last, true), now, actions);
    }

    /// Answers what is no request, if it is worth an answer, and ends the connection.
    fn reject(&mut self, error: RequestError, bytes: &[u8], now: Moment, actions: &mut Actions<SessionEvent>) {
        let line = bytes.split(|byte| matches!(byte, b'\r' | b'\n')).find(|line| !line.is_empty()).unwrap_or_default();
        let details = self
            .handler
            .events_wanted()
            .then(|| Box::new(LogFields { request_line: truncate_for_log(line), ..LogFields::default() }));
        let why = Some(error.reason.to_owned());
        if let Some(status) = error.status {
            return self.send_response(
                Response::error(status, error.reason),
                why,
                details,
                (true, false),
                now,
                actions,
            );
        }
        let took = Duration::ZERO;
        let exchange = Exchange {
            peer: self.peer,
            started: now,
            duration: took,
            status: None,
            bytes: 0,
            is_complete: true,
            error: why,
            log_fields: details,
        };
        actions.emit(SessionEvent::Exchange(exchange));
        actions.close();
    }

    fn send_response(
        &mut self,
        response: Response,
        error: Option<String>,
        log_fields: Option<Box<LogFields>>,
        (last, is_counted): (bool, bool),
        now: Moment,
        actions: &mut Actions<SessionEvent>,
    ) {
        let Response { status, fields, mut body } = response;
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let date = HttpDate::from_wall_time(now.wall());
        let mut why = error;
        let (after, head) = actions.send_with(|buffer| {
            let start = buffer.len();
            let answer = OutgoingHead { status, fields: &fields, length: body.length() };
            let after = self.codec.respond(&answer, date, last, buffer);
            let head = buffer.len() - start;
            if after.send_body {
                match &body {
                    ResponseBody::Page(page) => buffer.extend_from_slice(page.as_bytes()),
                    ResponseBody::Bytes(octets) => buffer.extend_from_slice(octets),
                    ResponseBody::File(file, length) if *length <= MAX_INLINE_FILE => {
                        if !matches!(site::read_file_into(file, *length, buffer), Ok(true)) {
                            why = Some("the file became shorter while it was read".to_owned());
                        }
                        body = ResponseBody::Empty;
                    }
                    _ => {}
                }
            }
            (after, head as u64)
        });
        if let (true, ResponseBody::File(file, length)) = (after.send_body, body) {
            actions.send_file(file, 0, length);
        }
        if after.close_connection {
            actions.close();
        } else if why.is_some() {
            // Fewer octets than announced: only the end of the connection can tell the client.
            actions.close();
        }
        let exchange = Exchange {
            peer: self.peer,
            started: now,
            duration: Duration::ZERO,
            status: Some(status),
            bytes: 0,
            is_complete: true,
            error: why,
            log_fields,
        };
        self.in_flight = Some(ResponseInFlight { exchange, head_bytes: head, is_counted });
        self.state = State::Responding;
    }

    /// The answer has left, or as much of it as ever will.
    fn finish_response(&mut self, error: Option<String>, now: Moment, actions: &mut Actions<SessionEvent>) {
        let Some(ResponseInFlight { mut exchange, head_bytes: head, is_counted }) = self.in_flight.take() else {
            return;
        };
        exchange.duration = now - exchange.started;
        exchange.bytes = actions.bytes_sent().saturating_sub(head);
        if let Some(cut) = error {
            exchange.is_complete = false;
            exchange.error = Some(cut);
        }
        if is_counted {
            self.handler.response_sent();
        }
        actions.emit(SessionEvent::Exchange(exchange));
    }
}

impl<H: Handler> StreamProtocol for HttpSession<H> {
    type Event = SessionEvent;
    const FULL_DUPLEX: bool = false;

    fn opened(&mut self, _: Option<&'static str>, now: Moment, actions: &mut Actions<SessionEvent>) {
        self.is_open = true;
        self.state = State::Idle { deadline: now + self.handler.timeouts().idle };
        if self.close_after_response {
            actions.close();
        }
    }

    fn received(&mut self, bytes: &[u8], now: Moment, actions: &mut Actions<SessionEvent>) -> usize {
        if self.in_flight.is_some() {
            return 0;
        }
        let (taken, incoming) = self.codec.receive(bytes);
        match incoming {
            ServerInput::Request(request) => self.handle_request(&request, now, actions),
            ServerInput::Invalid(refusal) => self.reject(refusal, bytes, now, actions),
            ServerInput::NeedMore => {
                // An empty line in front of a request is none of it yet (RFC 9112 §2.2).
                let begun = bytes.iter().skip(taken).any(|byte| !matches!(byte, b'\r' | b'\n'));
                let within_head = begun && self.codec.is_in_head();
                match self.state {
                    // The limit is for the whole head: a drip of octets does not stretch it.
                    State::Head { .. } if within_head => {}
                    State::DrainingBody { .. } if !self.codec.is_draining() => {
                        self.state = State::Idle { deadline: now + self.handler.timeouts().idle };
                    }
                    _ if within_head => self.state = State::Head { deadline: now + self.handler.timeouts().head },
                    _ => {}
                }
            }
        }
        taken
    }

    fn sent(&mut self, now: Moment, actions: &mut Actions<SessionEvent>) {
        self.finish_response(None, now, actions);
        self.state = if self.codec.is_draining() {
            State::DrainingBody { deadline: now + self.handler.timeouts().stall }
        } else {
            State::Idle { deadline: now + self.handler.timeouts().idle }
        };
        if self.close_after_response {
            actions.close();
        }
    }

    fn woken(&mut self, now: Moment, actions: &mut Actions<SessionEvent>) {
        match self.state {
            State::Head { .. } => {
                let refusal = RequestError {
                    status: Some(Status::REQUEST_TIMEOUT),
                    reason: "the request head did not come in time",
                };
                self.reject(refusal, b"", now, actions);
            }
            _ => actions.close(),
        }
    }

    fn draining(&mut self, _: Moment, actions: &mut Actions<SessionEvent>) {
        self.close_after_response = true;
        if self.in_flight.is_none() {
            actions.close();
        }
    }

    fn ended(&mut self, reason: &CloseReason, now: Moment, actions: &mut Actions<SessionEvent>) {
        match reason {
            // A client may close its side once it has asked; the answer still goes out.
            CloseReason::Finished | CloseReason::Truncated => {
                if self.in_flight.is_none() {
                    actions.close();
                } else {
                    self.close_after_response = true;
                }
            }
            CloseReason::Broken(error) => {
                if self.in_flight.is_some() {
                    self.finish_response(Some(error.message().to_owned()), now, actions);
                } else if !self.is_open || matches!(self.state, State::Head { .. }) {
                    actions.emit(SessionEvent::ConnectionFailed {
                        peer: self.peer,
                        at: now,
                        reason: error.message().to_owned(),
                    });
                }
            }
        }
    }

    fn wake_at(&self) -> Option<Moment> {
        match self.state {
            State::Idle { deadline: until }
            | State::Head { deadline: until }
            | State::DrainingBody { deadline: until } => Some(until),
            State::Responding => None,
        }
    }
}
