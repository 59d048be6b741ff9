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

use super::{Body, Decision, Pages, Turn};
use crate::conversation::{Actions, CloseReason, StreamProtocol};
use crate::http::{Answer, HttpDate, Incoming, Refusal, Request, Server, Status};
use crate::site;
use crate::time::Moment;

/// Files up to this size are read and go out with their head in one write; larger ones are worth
/// a `sendfile` of their own.
const SMALL_FILE: u64 = 16 * 1024;

/// How long a session waits for its client.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For a head, from its first octet to its last.
    pub head: Duration,
    /// Between requests.
    pub idle: Duration,
    /// For the rest of a body that nobody wants.
    pub stall: Duration,
}

/// The most octets of one field that a log keeps: thousands of events may wait to be written.
const LOGGED: usize = 2048;

fn clipped(octets: &[u8]) -> Vec<u8> {
    octets.get(..LOGGED).unwrap_or(octets).to_owned()
}

/// What a session tells.
#[derive(Debug)]
pub enum Fact {
    /// A request was answered, or refused.
    Exchange(Exchange),
    /// The connection failed before there was a request: why.
    Failed {
        /// From where.
        peer: Option<SocketAddr>,
        /// When.
        at: Moment,
        /// What happened.
        why: String,
    },
}

/// One request and what became of it.
#[derive(Debug)]
pub struct Exchange {
    /// From where; `None` is a Unix socket.
    pub peer: Option<SocketAddr>,
    /// When its head was complete.
    pub began: Moment,
    /// Until its last octet had left.
    pub took: Duration,
    /// `None` if there was no answer.
    pub status: Option<Status>,
    /// Octets of content that left.
    pub octets: u64,
    /// Whether all of the answer left.
    pub complete: bool,
    /// Why it was refused or cut.
    pub why: Option<String>,
    /// What only a log wants to know.
    pub details: Option<Box<Details>>,
}

/// What a log says about a request.
#[derive(Debug, Default)]
pub struct Details {
    /// The first line, as sent.
    pub line: Vec<u8>,
    /// Referer, as sent.
    pub referer: Option<Vec<u8>>,
    /// User-Agent, as sent.
    pub user_agent: Option<Vec<u8>>,
}

/// A connection's conversation.
#[derive(Debug)]
pub struct Session<P> {
    pages: Rc<P>,
    http: Server,
    peer: Option<SocketAddr>,
    waiting: Waiting,
    running: Option<Running>,
    draining: bool,
    /// Whether the connection ever stood, TLS and all.
    is_open: bool,
}

#[derive(Clone, Copy, Debug)]
enum Waiting {
    Idle { until: Moment },
    Head { until: Moment },
    Body { until: Moment },
    Answering,
}

/// An answer on its way out.
#[derive(Debug)]
struct Running {
    exchange: Exchange,
    head: u64,
    /// Whether it is one of the requests that `--count` counts.
    is_counted: bool,
}

impl<P: Pages> Session<P> {
    /// A session with a client that has not said anything yet.
    pub fn new(pages: Rc<P>, peer: Option<SocketAddr>, now: Moment) -> Self {
        let waiting = Waiting::Idle { until: now + pages.limits().idle };
        Self { pages, http: Server::default(), peer, waiting, running: None, draining: false, is_open: false }
    }

    fn request(&mut self, request: &Request<'_>, now: Moment, out: &mut Actions<Fact>) {
        let last = match self.pages.turn() {
            Turn::Served => self.draining,
            Turn::Last => true,
            Turn::TooLate => return out.close(),
        };
        let details = self.pages.listens().then(|| {
            Box::new(Details {
                line: clipped(request.line),
                referer: request.referer.map(clipped),
                user_agent: request.user_agent.map(clipped),
            })
        });
        let decision = self.pages.decide(request, now);
        self.send(decision, None, details, (last, true), now, out);
    }

    /// Answers what is no request, if it is worth an answer, and ends the connection.
    fn refuse(&mut self, refusal: Refusal, bytes: &[u8], now: Moment, out: &mut Actions<Fact>) {
        let line = bytes.split(|byte| matches!(byte, b'\r' | b'\n')).find(|line| !line.is_empty()).unwrap_or_default();
        let details = self.pages.listens().then(|| Box::new(Details { line: clipped(line), ..Details::default() }));
        let why = Some(refusal.why.to_owned());
        if let Some(status) = refusal.status {
            return self.send(Decision::error(status, refusal.why), why, details, (true, false), now, out);
        }
        let took = Duration::ZERO;
        let exchange =
            Exchange { peer: self.peer, began: now, took, status: None, octets: 0, complete: true, why, details };
        out.emit(Fact::Exchange(exchange));
        out.close();
    }

    fn send(
        &mut self,
        decision: Decision,
        why: Option<String>,
        details: Option<Box<Details>>,
        (last, is_counted): (bool, bool),
        now: Moment,
        out: &mut Actions<Fact>,
    ) {
        let Decision { status, fields, mut body } = decision;
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let date = HttpDate::at(now.wall());
        let mut why = why;
        let (after, head) = out.send_with(|buffer| {
            let start = buffer.len();
            let answer = Answer { status, fields: &fields, length: body.length() };
            let after = self.http.answer(&answer, date, last, buffer);
            let head = buffer.len() - start;
            if after.body {
                match &body {
                    Body::Page(page) => buffer.extend_from_slice(page.as_bytes()),
                    Body::Octets(octets) => buffer.extend_from_slice(octets),
                    Body::File(file, length) if *length <= SMALL_FILE => {
                        if !matches!(site::append(file, *length, buffer), Ok(true)) {
                            why = Some("the file became shorter while it was read".to_owned());
                        }
                        body = Body::Empty;
                    }
                    _ => {}
                }
            }
            (after, head as u64)
        });
        if let (true, Body::File(file, length)) = (after.body, body) {
            out.send_file(file, 0, length);
        }
        if after.close {
            out.close();
        } else if why.is_some() {
            // Fewer octets than announced: only the end of the connection can tell the client.
            out.close();
        }
        let exchange = Exchange {
            peer: self.peer,
            began: now,
            took: Duration::ZERO,
            status: Some(status),
            octets: 0,
            complete: true,
            why,
            details,
        };
        self.running = Some(Running { exchange, head, is_counted });
        self.waiting = Waiting::Answering;
    }

    /// The answer has left, or as much of it as ever will.
    fn done(&mut self, cut: Option<String>, now: Moment, out: &mut Actions<Fact>) {
        let Some(Running { mut exchange, head, is_counted }) = self.running.take() else { return };
        exchange.took = now - exchange.began;
        exchange.octets = out.bytes_sent().saturating_sub(head);
        if let Some(cut) = cut {
            exchange.complete = false;
            exchange.why = Some(cut);
        }
        if is_counted {
            self.pages.answered();
        }
        out.emit(Fact::Exchange(exchange));
    }
}

impl<P: Pages> StreamProtocol for Session<P> {
    type Event = Fact;
    const FULL_DUPLEX: bool = false;

    fn opened(&mut self, _: Option<&'static str>, now: Moment, out: &mut Actions<Fact>) {
        self.is_open = true;
        self.waiting = Waiting::Idle { until: now + self.pages.limits().idle };
        if self.draining {
            out.close();
        }
    }

    fn received(&mut self, bytes: &[u8], now: Moment, out: &mut Actions<Fact>) -> usize {
        if self.running.is_some() {
            return 0;
        }
        let (taken, incoming) = self.http.receive(bytes);
        match incoming {
            Incoming::Request(request) => self.request(&request, now, out),
            Incoming::Refused(refusal) => self.refuse(refusal, bytes, now, out),
            Incoming::More => {
                // An empty line in front of a request is none of it yet (RFC 9112 §2.2).
                let begun = bytes.iter().skip(taken).any(|byte| !matches!(byte, b'\r' | b'\n'));
                let within_head = begun && self.http.is_in_head();
                match self.waiting {
                    // The limit is for the whole head: a drip of octets does not stretch it.
                    Waiting::Head { .. } if within_head => {}
                    Waiting::Body { .. } if !self.http.is_draining() => {
                        self.waiting = Waiting::Idle { until: now + self.pages.limits().idle };
                    }
                    _ if within_head => self.waiting = Waiting::Head { until: now + self.pages.limits().head },
                    _ => {}
                }
            }
        }
        taken
    }

    fn sent(&mut self, now: Moment, out: &mut Actions<Fact>) {
        self.done(None, now, out);
        self.waiting = if self.http.is_draining() {
            Waiting::Body { until: now + self.pages.limits().stall }
        } else {
            Waiting::Idle { until: now + self.pages.limits().idle }
        };
        if self.draining {
            out.close();
        }
    }

    fn woken(&mut self, now: Moment, out: &mut Actions<Fact>) {
        match self.waiting {
            Waiting::Head { .. } => {
                let refusal =
                    Refusal { status: Some(Status::REQUEST_TIMEOUT), why: "the request head did not come in time" };
                self.refuse(refusal, b"", now, out);
            }
            _ => out.close(),
        }
    }

    fn draining(&mut self, _: Moment, out: &mut Actions<Fact>) {
        self.draining = true;
        if self.running.is_none() {
            out.close();
        }
    }

    fn ended(&mut self, end: &CloseReason, now: Moment, out: &mut Actions<Fact>) {
        match end {
            // A client may close its side once it has asked; the answer still goes out.
            CloseReason::Finished | CloseReason::Truncated => {
                if self.running.is_none() {
                    out.close();
                } else {
                    self.draining = true;
                }
            }
            CloseReason::Broken(error) => {
                if self.running.is_some() {
                    self.done(Some(error.what().to_owned()), now, out);
                } else if !self.is_open || matches!(self.waiting, Waiting::Head { .. }) {
                    out.emit(Fact::Failed { peer: self.peer, at: now, why: error.what().to_owned() });
                }
            }
        }
    }

    fn wake_at(&self) -> Option<Moment> {
        match self.waiting {
            Waiting::Idle { until } | Waiting::Head { until } | Waiting::Body { until } => Some(until),
            Waiting::Answering => None,
        }
    }
}
