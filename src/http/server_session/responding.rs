//! Response of a session: produced by a helper thread if that may block, sent, reported.

use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use super::super::date::HttpDate;
use super::super::exchange::{Exchange, LogFields, SessionEvent};
use super::super::handler::{BodyJob, FilePart, Handler, Response, ResponseBody};
use super::super::server::OutgoingHead;
use super::super::status::Status;
use super::{Progress, ServerSession, State};
use crate::failure::io_error_text;
use crate::protocol::Turn;
use crate::time::Moment;

/// Response whose body a helper thread produces.
#[derive(Debug)]
pub(super) struct GeneratingResponse {
    pub ready: ReadyResponse,
    body: Arc<Mutex<Option<io::Result<Vec<u8>>>>>,
}

/// Response to be sent, and what is reported with it.
#[derive(Debug)]
pub(super) struct ReadyResponse {
    pub response: Response,
    pub error: Option<String>,
    pub log_fields: Option<Box<LogFields>>,
    /// Time at which the request head was complete.
    pub started: Moment,
    /// The connection is closed after it.
    pub is_last: bool,
    /// The request counts for `--count`.
    pub is_counted: bool,
}

/// Response that is being sent.
#[derive(Debug)]
pub(super) struct ResponseInFlight {
    exchange: Exchange,
    head_bytes: u64,
    /// The request counts for `--count`.
    is_counted: bool,
}

impl<H: Handler> ServerSession<H> {
    /// Has a helper thread produce the body; until then no input is read.
    pub(super) fn generate(&mut self, ready: ReadyResponse, BodyJob(job): BodyJob, turn: &mut Turn<'_, SessionEvent>) {
        let body = Arc::new(Mutex::new(None));
        let result = Arc::clone(&body);
        turn.actions.run_job(Box::new(move || {
            let produced = job();
            *result.lock().unwrap_or_else(PoisonError::into_inner) = Some(produced);
        }));
        self.generating = Some(Box::new(GeneratingResponse { ready, body }));
        self.state = State::Responding;
    }

    /// Returns the response with the body that was produced, or 500.
    pub(super) fn take_produced(&self, generating: GeneratingResponse) -> ReadyResponse {
        let GeneratingResponse { mut ready, body } = generating;
        let produced = body.lock().unwrap_or_else(PoisonError::into_inner).take();
        ready.error = match produced {
            Some(Ok(bytes)) => {
                ready.response.body = ResponseBody::Bytes(bytes);
                return ready;
            }
            Some(Err(error)) => Some(io_error_text(&error)),
            None => Some("the response was not produced".to_owned()),
        };
        ready.response =
            self.handler.error_response(Status::INTERNAL_SERVER_ERROR, "The server failed to read the files.");
        ready
    }

    /// Queues the head and the body.
    pub(super) fn send_response(&mut self, ready: ReadyResponse, turn: &mut Turn<'_, SessionEvent>) {
        let ReadyResponse { response, error, log_fields, started, is_last, is_counted } = ready;
        let Response { status, fields, body, reason } = response;
        let error = error.or_else(|| reason.map(str::to_owned));
        let fields = if let ResponseBody::Prepared(prepared) = &body { &prepared.fields } else { &fields };
        let fields: Vec<_> = fields.iter().map(|(name, value)| (&**name, value.as_str())).collect();
        let date = HttpDate::from_wall_time(turn.now.wall());
        let (after, head_bytes) = turn.actions.send_with(|buffer| {
            let start = buffer.len();
            let head = OutgoingHead { status, fields: &fields, length: body.length() };
            let after = self.codec.respond(&head, date, is_last, buffer);
            let head_bytes = buffer.len() - start;
            match &body {
                ResponseBody::Page(page) if after.send_body => buffer.extend_from_slice(page.as_bytes()),
                ResponseBody::Bytes(bytes) if after.send_body => buffer.extend_from_slice(bytes),
                ResponseBody::Prepared(prepared) if after.send_body => buffer.extend_from_slice(&prepared.content),
                _ => {}
            }
            (after, head_bytes as u64)
        });
        if after.send_body {
            send_file_body(body, turn);
        }
        if after.close_connection {
            turn.actions.close();
        }
        let exchange = self.exchange(Some(status), error, log_fields, started);
        self.in_flight = Some(ResponseInFlight { exchange, head_bytes, is_counted });
        self.state = State::Responding;
    }

    /// Reports the response as sent, completely or in part.
    pub(super) fn finish_response(&mut self, error: Option<String>, turn: &mut Turn<'_, SessionEvent>) {
        let Some(ResponseInFlight { mut exchange, head_bytes, is_counted }) = self.in_flight.take() else { return };
        exchange.duration = turn.now - exchange.started;
        exchange.bytes = turn.actions.bytes_sent().saturating_sub(head_bytes);
        if error.is_some() {
            exchange.is_complete = false;
            exchange.error = error;
        }
        self.progress = Progress::Answered;
        if is_counted {
            self.handler.response_sent();
        }
        turn.actions.emit(SessionEvent::Exchange(exchange));
    }
}

/// Sends the parts of a file after the head.
fn send_file_body(body: ResponseBody, turn: &mut Turn<'_, SessionEvent>) {
    let length = |range: &Range<u64>| range.end.saturating_sub(range.start);
    match body {
        ResponseBody::File(file, range) => turn.actions.send_file(file, range.start, length(&range)),
        ResponseBody::Parts(file, parts, end) => {
            for FilePart { head, range } in parts {
                turn.actions.send(&head);
                turn.actions.send_file(Rc::clone(&file), range.start, length(&range));
            }
            turn.actions.send(&end);
        }
        ResponseBody::Empty
        | ResponseBody::Page(_)
        | ResponseBody::Bytes(_)
        | ResponseBody::Generated(_)
        | ResponseBody::Prepared(_) => {}
    }
}
