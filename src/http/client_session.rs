//! Session of a client: one exchange, which sends the request and passes the response to a [`ResponseSink`].
//!
//! Owns the times from which the phases are computed, and the result of the exchange.

use std::time::Duration;

use super::client::{RequestHead, ResponseDecoder, ResponsePart};
use super::response::{ResponseError, ResponseHead};
use crate::failure::{Failure, FailureKind, Result};
use crate::protocol::{Actions, CloseReason, StreamProtocol, excerpt, last_line};
use crate::time::Moment;

/// Maximum bytes traced of a response that cannot be parsed.
const MAX_TRACED_BYTES: usize = 512;

/// Expected end of an incomplete head.
const EXPECTED_HEAD_END: &str = "an empty line after the last field line";

/// Receiver of a response, part by part.
pub(crate) trait ResponseSink {
    /// Called when the kernel accepts no more of the request for now; it has accepted `sent` of `total` bytes.
    fn on_request_blocked(&mut self, _sent: u64, _total: u64) {}
    /// Called when the kernel has accepted the whole request.
    fn on_request_sent(&mut self) {}
    /// Receives the last line of a head of which only a part has arrived.
    fn on_partial_head(&mut self, _last_line: &[u8]) {}
    /// Receives an interim response (1xx).
    fn on_interim(&mut self, head: &ResponseHead);
    /// Receives the head of the final response.
    fn on_head(&mut self, head: &ResponseHead, now: Moment) -> Result<()>;
    /// Receives a part of the body.
    fn on_data(&mut self, data: &[u8], now: Moment) -> Result<()>;
    /// Receives a description of a tolerated deviation.
    fn on_warning(&mut self, text: &str);
    /// Receives the beginning of input that cannot be parsed.
    fn on_malformed(&mut self, _: &[u8]) {}
}

/// Protocol state of one exchange.
pub(crate) struct ClientExchange<'s> {
    decoder: ResponseDecoder,
    request: Vec<u8>,
    request_size: u64,
    sink: &'s mut dyn ResponseSink,
    timeout: Duration,
    deadline: Option<Moment>,
    /// Input that the decoder has not consumed.
    unconsumed: Vec<u8>,
    times: ExchangeTimes,
    head: Option<ResponseHead>,
    result: Option<Result<()>>,
}

/// Times of the events of an exchange.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ExchangeTimes {
    /// Connection established, including TLS.
    pub established: Option<Moment>,
    pub first_byte: Option<Moment>,
    pub completed: Option<Moment>,
}

impl<'s> ClientExchange<'s> {
    /// Creates an exchange that times out after `timeout` without progress.
    pub(crate) fn new(
        head: &RequestHead,
        body: Option<&[u8]>,
        timeout: Duration,
        sink: &'s mut dyn ResponseSink,
    ) -> Self {
        let mut request = Vec::new();
        head.write(&mut request);
        request.extend_from_slice(body.unwrap_or_default());
        Self {
            decoder: ResponseDecoder::new(&head.method),
            request_size: request.len() as u64,
            request,
            sink,
            timeout,
            deadline: None,
            unconsumed: Vec::new(),
            times: ExchangeTimes::default(),
            head: None,
            result: None,
        }
    }

    /// Returns the response head and the times if the response is complete.
    pub(crate) fn into_result(self) -> Result<(ResponseHead, ExchangeTimes)> {
        match (self.result, self.head) {
            (Some(Ok(())), Some(head)) => Ok((head, self.times)),
            (Some(Err(error)), _) => Err(error),
            _ => Err(Failure::new(FailureKind::Bug, "the exchange ended without a result")),
        }
    }

    /// Decodes input; returns true once the response is complete.
    fn consume(&mut self, bytes: &[u8], taken: &mut usize, now: Moment) -> Result<bool> {
        loop {
            let (more, part) = self.decoder.receive(bytes.get(*taken..).unwrap_or_default()).map_err(|error| {
                let rest = bytes.get(*taken..).unwrap_or_default();
                self.sink.on_malformed(rest.get(..MAX_TRACED_BYTES).unwrap_or(rest));
                to_failure(error)
            })?;
            *taken += more;
            match part {
                ResponsePart::NeedMore => return Ok(false),
                ResponsePart::End => {
                    if *taken < bytes.len() {
                        self.sink.on_warning(&self.excess_warning());
                    }
                    return Ok(true);
                }
                ResponsePart::Interim(head) => self.sink.on_interim(&head),
                ResponsePart::Data(data) => self.sink.on_data(data, now)?,
                ResponsePart::Head(head) => {
                    head.warnings.iter().for_each(|warning| self.sink.on_warning(warning));
                    self.sink.on_head(&head, now)?;
                    self.head = Some(head);
                }
            }
        }
    }

    fn excess_warning(&self) -> String {
        match self.head.as_ref().and_then(|head| head.length) {
            Some(length) => format!("the server sent more than the {length} bytes it announced; the rest is ignored"),
            None => "the server sent more data than announced; the rest is ignored".to_owned(),
        }
    }

    /// Adds what is missing to a failure of the body.
    fn with_expected_body(&self, failure: Failure) -> Failure {
        match self.head.as_ref().map(|head| head.length) {
            Some(Some(length)) => {
                failure.expected(format!("{length} bytes, as announced by Content-Length (RFC 9110 §8.6)"))
            }
            Some(None) if self.decoder.is_close_delimited() => {
                failure.expected("the end of the connection, which delimits this body (RFC 9112 §6.3)")
            }
            _ => failure,
        }
    }

    /// Describes a head without its empty line; `failure` says why the rest is missing.
    fn with_incomplete_head(&self, failure: Failure) -> Failure {
        match last_line(&self.unconsumed) {
            Some(line) => failure.expected(EXPECTED_HEAD_END).violates("RFC 9112 §2.1", excerpt(line)),
            None => failure,
        }
    }

    /// Shows the part of a head that was received.
    fn trace_unconsumed(&mut self) {
        if !self.unconsumed.is_empty() {
            self.sink.on_malformed(self.unconsumed.get(..MAX_TRACED_BYTES).unwrap_or(&self.unconsumed));
        }
    }

    fn finish(&mut self, result: Result<()>, now: Moment) {
        self.times.completed.get_or_insert(now);
        let stage = self.stage();
        self.result.get_or_insert(result.map_err(|error| error.in_stage(stage)));
    }

    /// Stage of the exchange; only TLS lies between the connection and the established state.
    fn stage(&self) -> &'static str {
        match (&self.head, self.times.established) {
            (Some(_), _) => "body",
            (None, Some(_)) => "head",
            (None, None) => "tls",
        }
    }
}

impl StreamProtocol for ClientExchange<'_> {
    type Event = ();
    // A server may respond before it has read all of a large request.
    const FULL_DUPLEX: bool = true;

    fn opened(&mut self, _: Option<&'static str>, now: Moment, actions: &mut Actions<()>) {
        self.times.established = Some(now);
        // While the request is sent, the stall timer of the connection applies; the timeout for the response
        // starts when all of it was sent.
        actions.send(&std::mem::take(&mut self.request));
    }

    fn received(&mut self, bytes: &[u8], now: Moment, actions: &mut Actions<()>) -> usize {
        self.times.first_byte.get_or_insert(now);
        self.deadline = Some(now + self.timeout);
        let mut taken = 0;
        match self.consume(bytes, &mut taken, now) {
            Ok(true) => {
                self.finish(Ok(()), now);
                actions.close();
            }
            Ok(false) => {}
            Err(error) => {
                self.finish(Err(error), now);
                actions.reset();
            }
        }
        self.unconsumed = bytes.get(taken..).unwrap_or_default().to_vec();
        if self.head.is_none() && !self.unconsumed.is_empty() {
            self.sink.on_partial_head(last_line(&self.unconsumed).unwrap_or_default());
        }
        taken
    }

    fn partly_sent(&mut self, bytes: u64, _: &mut Actions<()>) {
        self.sink.on_request_blocked(bytes, self.request_size);
    }

    fn sent(&mut self, now: Moment, _: &mut Actions<()>) {
        self.deadline = Some(now + self.timeout);
        if self.times.first_byte.is_none() {
            self.sink.on_request_sent();
        }
    }

    fn woken(&mut self, now: Moment, actions: &mut Actions<()>) {
        let what = match (&self.head, self.times.first_byte) {
            (Some(_), _) => "response body timed out",
            (None, Some(_)) => "response head timed out",
            (None, None) => "response timed out",
        };
        let message = format!("{what} after {}", humantime::format_duration(self.timeout));
        let failure = Failure::new(FailureKind::TimedOut, message);
        let failure =
            if self.head.is_some() { self.with_expected_body(failure) } else { self.with_incomplete_head(failure) };
        if self.head.is_none() {
            self.trace_unconsumed();
        }
        self.finish(Err(failure), now);
        actions.reset();
    }

    fn draining(&mut self, _: Moment, _: &mut Actions<()>) {}

    fn ended(&mut self, reason: &CloseReason, now: Moment, actions: &mut Actions<()>) {
        let result = match reason {
            CloseReason::Finished => self.decoder.ended(self.unconsumed.len(), true).map_err(to_failure),
            CloseReason::Truncated => self.decoder.ended(self.unconsumed.len(), false).map_err(to_failure),
            CloseReason::Broken(broken) => {
                let failure = broken.without_source();
                Err(if self.head.is_some() { failure.with_kind(FailureKind::Incomplete) } else { failure })
            }
        };
        let result = result.map_err(|failure| match (&self.head, reason) {
            (Some(_), _) => self.with_expected_body(failure),
            // After an orderly close the server has sent all of its head, so the head is malformed, not truncated.
            (None, CloseReason::Finished) if !self.unconsumed.is_empty() => {
                self.with_incomplete_head(failure.with_kind(FailureKind::Protocol))
            }
            (None, _) => failure,
        });
        if self.head.is_none() && result.is_err() {
            self.trace_unconsumed();
        }
        self.finish(result, now);
        actions.close();
    }

    fn wake_at(&self) -> Option<Moment> {
        self.deadline.filter(|_| self.result.is_none())
    }
}

fn to_failure(error: ResponseError) -> Failure {
    let message = error.to_string();
    match error {
        ResponseError::Malformed { violation, got } => {
            Failure::new(FailureKind::Protocol, message).expected(violation.expected).violates(violation.clause, got)
        }
        ResponseError::NoResponse | ResponseError::NoFinalResponse(_) | ResponseError::TruncatedHead => {
            Failure::new(FailureKind::ConnectionLost, message).expected("an HTTP/1.1 response")
        }
        ResponseError::TruncatedBody(_) => Failure::new(FailureKind::Incomplete, message),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::{ClientExchange, ResponseSink};
    use crate::failure::{Failure, FailureKind, Result};
    use crate::http::{RequestHead, ResponseHead};
    use crate::protocol::{Actions, CloseReason, StreamProtocol as _};
    use crate::time::Moment;
    use std::time::Duration;

    /// Sink that keeps the body.
    #[derive(Default)]
    pub(in crate::http) struct BufferSink(pub Vec<u8>);

    impl ResponseSink for BufferSink {
        fn on_interim(&mut self, _: &ResponseHead) {}
        fn on_head(&mut self, _: &ResponseHead, _: Moment) -> Result<()> {
            Ok(())
        }
        fn on_data(&mut self, data: &[u8], _: Moment) -> Result<()> {
            self.0.extend_from_slice(data);
            Ok(())
        }
        fn on_warning(&mut self, _: &str) {}
    }

    const NOW: Moment = Moment::new(Duration::from_secs(5), Duration::ZERO);

    /// Runs an exchange with a response and an end, and returns the kind of its failure.
    fn run(bytes: &[u8], end: Option<CloseReason>) -> Option<FailureKind> {
        let mut sink = BufferSink::default();
        let head = RequestHead { method: "GET".into(), target: "/".into(), fields: vec![] };
        let mut exchange = ClientExchange::new(&head, None, Duration::from_secs(1), &mut sink);
        let mut actions = Actions::default();
        exchange.opened(None, NOW, &mut actions);
        exchange.sent(NOW, &mut actions);
        if !bytes.is_empty() {
            exchange.received(bytes, NOW, &mut actions);
        }
        if let Some(end) = end {
            exchange.ended(&end, NOW, &mut actions);
        } else {
            let at = exchange.wake_at().expect("a deadline");
            assert_eq!(at, NOW + Duration::from_secs(1));
            exchange.woken(at, &mut actions);
        }
        exchange.into_result().err().map(|failure| failure.kind())
    }

    #[test]
    fn each_way_to_end_has_its_kind_of_failure() {
        let reset = || Some(CloseReason::Broken(Failure::new(FailureKind::ConnectionLost, "reset")));
        for (bytes, end, kind) in [
            (&b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab"[..], Some(CloseReason::Finished), None),
            (
                b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na",
                Some(CloseReason::Finished),
                Some(FailureKind::Incomplete),
            ),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na", reset(), Some(FailureKind::Incomplete)),
            (b"HTTP/1.1 200 OK\r\n\r\nab", Some(CloseReason::Finished), None),
            (b"HTTP/1.1 200 OK\r\n\r\nab", Some(CloseReason::Truncated), Some(FailureKind::Incomplete)),
            (b"HTTP/1.1 200 OK\r\n\r\nab", reset(), Some(FailureKind::Incomplete)),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n",
                Some(CloseReason::Finished),
                Some(FailureKind::Incomplete),
            ),
            (b"<html>", Some(CloseReason::Finished), Some(FailureKind::Protocol)),
            (b"", Some(CloseReason::Finished), Some(FailureKind::ConnectionLost)),
            (b"", reset(), Some(FailureKind::ConnectionLost)),
            (b"", None, Some(FailureKind::TimedOut)),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na", None, Some(FailureKind::TimedOut)),
        ] {
            let shown = String::from_utf8_lossy(bytes).into_owned();
            assert_eq!(run(bytes, end), kind, "{shown:?}");
        }
    }
}
