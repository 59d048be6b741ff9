//! The conversation of one exchange: the request goes out, the response comes in.
//!
//! Owns the moments that the phases are made of, and the verdict on how it ended.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::http::{RequestHead, ResponseDecoder, ResponseError, ResponseHead, ResponsePart};
use crate::protocol::{Actions, CloseReason, StreamProtocol};
use crate::time::Moment;

/// What takes a response as it comes.
pub(super) trait ResponseSink {
    /// An interim response (1xx).
    fn on_interim(&mut self, head: &ResponseHead);
    /// The final response's head.
    fn on_head(&mut self, head: &ResponseHead, now: Moment) -> Result<()>;
    /// A piece of its body.
    fn on_data(&mut self, data: &[u8], now: Moment) -> Result<()>;
    /// Something odd that does not make the response wrong.
    fn on_warning(&mut self, text: &str);
}

/// One exchange.
pub(super) struct ClientExchange<'s> {
    decoder: ResponseDecoder,
    request: Vec<u8>,
    sink: &'s mut dyn ResponseSink,
    timeout: Duration,
    deadline: Option<Moment>,
    unconsumed: usize,
    times: ExchangeTimes,
    head: Option<ResponseHead>,
    result: Option<Result<()>>,
}

/// When what happened.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ExchangeTimes {
    /// The connection stood, with TLS if wanted.
    pub established: Option<Moment>,
    /// The first octet of the response came.
    pub first_byte: Option<Moment>,
    /// The last one came.
    pub completed: Option<Moment>,
}

impl<'s> ClientExchange<'s> {
    /// An exchange that gives up after `silence` without an octet.
    pub(super) fn new(
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
            request,
            sink,
            timeout,
            deadline: None,
            unconsumed: 0,
            times: ExchangeTimes::default(),
            head: None,
            result: None,
        }
    }

    /// The response's head and the moments, if the response is complete; else why not.
    pub(super) fn into_result(self) -> Result<(ResponseHead, ExchangeTimes)> {
        match (self.result, self.head) {
            (Some(Ok(())), Some(head)) => Ok((head, self.times)),
            (Some(Err(error)), _) => Err(error),
            _ => Err(Error::new(Exit::Bug, "the exchange ended without a verdict")),
        }
    }

    /// Takes what came; `true` once the response is complete.
    fn consume(&mut self, bytes: &[u8], taken: &mut usize, now: Moment) -> Result<bool> {
        loop {
            let (more, arrived) =
                self.decoder.receive(bytes.get(*taken..).unwrap_or_default()).map_err(|fault| to_error(&fault))?;
            *taken += more;
            match arrived {
                ResponsePart::NeedMore => return Ok(false),
                ResponsePart::End => {
                    if *taken < bytes.len() {
                        self.sink.on_warning("the peer sent more than the response it announced; the rest is ignored");
                    }
                    return Ok(true);
                }
                ResponsePart::Interim(head) => self.sink.on_interim(&head),
                ResponsePart::Data(data) => self.sink.on_data(data, now)?,
                ResponsePart::Head(head) => {
                    head.warnings.iter().for_each(|odd| self.sink.on_warning(odd));
                    self.sink.on_head(&head, now)?;
                    self.head = Some(head);
                }
            }
        }
    }

    fn finish(&mut self, result: Result<()>, now: Moment) {
        self.times.completed.get_or_insert(now);
        self.result.get_or_insert(result);
    }
}

impl StreamProtocol for ClientExchange<'_> {
    type Event = ();
    // A peer may answer before it has read all of a large request.
    const FULL_DUPLEX: bool = true;

    fn opened(&mut self, _: Option<&'static str>, now: Moment, actions: &mut Actions<()>) {
        self.times.established = Some(now);
        // While the request goes out, the link watches that it moves; the wait for an answer begins
        // when all of it has left.
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
        self.unconsumed = bytes.len().saturating_sub(taken);
        taken
    }

    fn sent(&mut self, now: Moment, _: &mut Actions<()>) {
        self.deadline = Some(now + self.timeout);
    }

    fn woken(&mut self, now: Moment, actions: &mut Actions<()>) {
        let what = match (&self.head, self.times.first_byte) {
            (Some(_), _) => "the body stopped coming",
            (None, Some(_)) => "the response head stopped coming",
            (None, None) => "no answer came",
        };
        let error = Error::new(Exit::TemporaryFailure, format!("{what} for {:.1} s", self.timeout.as_secs_f64()))
            .remedy("try again later, or wait longer with --timeout");
        self.finish(Err(error), now);
        actions.reset();
    }

    fn draining(&mut self, _: Moment, _: &mut Actions<()>) {}

    fn ended(&mut self, reason: &CloseReason, now: Moment, actions: &mut Actions<()>) {
        let verdict = match reason {
            CloseReason::Finished => self.decoder.ended(self.unconsumed, true).map_err(|fault| to_error(&fault)),
            CloseReason::Truncated => self.decoder.ended(self.unconsumed, false).map_err(|fault| to_error(&fault)),
            CloseReason::Broken(broken) => {
                let exit = if self.head.is_some() { Exit::Incomplete } else { broken.exit() };
                Err(broken.with_exit(exit))
            }
        };
        self.finish(verdict, now);
        actions.close();
    }

    fn wake_at(&self) -> Option<Moment> {
        self.deadline.filter(|_| self.result.is_none())
    }
}

fn to_error(error: &ResponseError) -> Error {
    match error {
        ResponseError::Malformed(_) => Error::new(Exit::Protocol, error.to_string()).expected("an HTTP/1.1 response"),
        ResponseError::NoResponse | ResponseError::TruncatedHead => {
            Error::new(Exit::TemporaryFailure, error.to_string()).expected("an HTTP/1.1 response")
        }
        ResponseError::TruncatedBody(_) => Error::new(Exit::Incomplete, error.to_string()).expected("the whole body"),
    }
}

#[cfg(test)]
mod tests {
    use super::{ClientExchange, ResponseSink};
    use crate::error::{Error, Result};
    use crate::exit::Exit;
    use crate::http::{RequestHead, ResponseHead};
    use crate::protocol::{Actions, CloseReason, StreamProtocol as _};
    use crate::time::Moment;
    use std::time::Duration;

    #[derive(Default)]
    struct BufferSink(Vec<u8>);

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

    /// Plays a response and an end; the exit code of the outcome.
    fn play(bytes: &[u8], end: Option<CloseReason>) -> Exit {
        let mut kept = BufferSink::default();
        let head = RequestHead { method: "GET".into(), target: "/".into(), fields: vec![] };
        let mut transfer = ClientExchange::new(&head, None, Duration::from_secs(1), &mut kept);
        let mut out = Actions::default();
        transfer.opened(None, NOW, &mut out);
        transfer.sent(NOW, &mut out);
        if !bytes.is_empty() {
            transfer.received(bytes, NOW, &mut out);
        }
        if let Some(end) = end {
            transfer.ended(&end, NOW, &mut out);
        } else {
            let at = transfer.wake_at().expect("a deadline");
            assert_eq!(at, NOW + Duration::from_secs(1));
            transfer.woken(at, &mut out);
        }
        transfer.into_result().map_or_else(|error| error.exit(), |_| Exit::Success)
    }

    #[test]
    fn each_way_to_end_has_its_code() {
        let reset = || Some(CloseReason::Broken(Error::new(Exit::TemporaryFailure, "reset")));
        for (bytes, end, exit) in [
            (&b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab"[..], Some(CloseReason::Finished), Exit::Success),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na", Some(CloseReason::Finished), Exit::Incomplete),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na", reset(), Exit::Incomplete),
            (b"HTTP/1.1 200 OK\r\n\r\nab", Some(CloseReason::Finished), Exit::Success),
            (b"HTTP/1.1 200 OK\r\n\r\nab", Some(CloseReason::Truncated), Exit::Incomplete),
            (b"HTTP/1.1 200 OK\r\n\r\nab", reset(), Exit::Incomplete),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n",
                Some(CloseReason::Finished),
                Exit::Incomplete,
            ),
            (b"<html>", Some(CloseReason::Finished), Exit::Protocol),
            (b"", Some(CloseReason::Finished), Exit::TemporaryFailure),
            (b"", reset(), Exit::TemporaryFailure),
            (b"", None, Exit::TemporaryFailure),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na", None, Exit::TemporaryFailure),
        ] {
            let shown = String::from_utf8_lossy(bytes).into_owned();
            assert_eq!(play(bytes, end), exit, "{shown:?}");
        }
    }
}
