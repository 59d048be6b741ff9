//! The conversation of one exchange: the request goes out, the response comes in.
//!
//! Owns the moments that the phases are made of, and the verdict on how it ended.

use std::time::Duration;

use crate::conversation::{Actions, CloseReason, StreamProtocol};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::http::{Arrived, Client, Fault, RequestHead, ResponseHead};
use crate::time::Moment;

/// What takes a response as it comes.
pub trait Sink {
    /// An interim response (1xx).
    fn interim(&mut self, head: &ResponseHead);
    /// The final response's head.
    fn head(&mut self, head: &ResponseHead, now: Moment) -> Result<()>;
    /// A piece of its body.
    fn data(&mut self, data: &[u8], now: Moment) -> Result<()>;
    /// Something odd that does not make the response wrong.
    fn odd(&mut self, what: &str);
}

/// One exchange.
pub struct Transfer<'s> {
    client: Client,
    request: Vec<u8>,
    sink: &'s mut dyn Sink,
    silence: Duration,
    quiet_until: Option<Moment>,
    pending: usize,
    marks: Marks,
    head: Option<ResponseHead>,
    verdict: Option<Result<()>>,
}

/// When what happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Marks {
    /// The connection stood, with TLS if wanted.
    pub opened: Option<Moment>,
    /// The first octet of the response came.
    pub first_byte: Option<Moment>,
    /// The last one came.
    pub done: Option<Moment>,
}

impl<'s> Transfer<'s> {
    /// An exchange that gives up after `silence` without an octet.
    pub fn new(head: &RequestHead, body: Option<&[u8]>, silence: Duration, sink: &'s mut dyn Sink) -> Self {
        let mut request = Vec::new();
        head.write(&mut request);
        request.extend_from_slice(body.unwrap_or_default());
        Self {
            client: Client::new(&head.method),
            request,
            sink,
            silence,
            quiet_until: None,
            pending: 0,
            marks: Marks::default(),
            head: None,
            verdict: None,
        }
    }

    /// The response's head and the moments, if the response is complete; else why not.
    pub fn outcome(self) -> Result<(ResponseHead, Marks)> {
        match (self.verdict, self.head) {
            (Some(Ok(())), Some(head)) => Ok((head, self.marks)),
            (Some(Err(error)), _) => Err(error),
            _ => Err(Error::new(Exit::Bug, "the exchange ended without a verdict")),
        }
    }

    /// Takes what came; `true` once the response is complete.
    fn take(&mut self, bytes: &[u8], taken: &mut usize, now: Moment) -> Result<bool> {
        loop {
            let (more, arrived) =
                self.client.receive(bytes.get(*taken..).unwrap_or_default()).map_err(|fault| error(&fault))?;
            *taken += more;
            match arrived {
                Arrived::More => return Ok(false),
                Arrived::End => {
                    if *taken < bytes.len() {
                        self.sink.odd("the peer sent more than the response it announced; the rest is ignored");
                    }
                    return Ok(true);
                }
                Arrived::Interim(head) => self.sink.interim(&head),
                Arrived::Data(data) => self.sink.data(data, now)?,
                Arrived::Head(head) => {
                    head.oddities.iter().for_each(|odd| self.sink.odd(odd));
                    self.sink.head(&head, now)?;
                    self.head = Some(head);
                }
            }
        }
    }

    fn settle(&mut self, verdict: Result<()>, now: Moment) {
        self.marks.done.get_or_insert(now);
        self.verdict.get_or_insert(verdict);
    }
}

impl StreamProtocol for Transfer<'_> {
    type Event = ();
    // A peer may answer before it has read all of a large request.
    const FULL_DUPLEX: bool = true;

    fn opened(&mut self, _: Option<&'static str>, now: Moment, out: &mut Actions<()>) {
        self.marks.opened = Some(now);
        // While the request goes out, the link watches that it moves; the wait for an answer begins
        // when all of it has left.
        out.send(&std::mem::take(&mut self.request));
    }

    fn received(&mut self, bytes: &[u8], now: Moment, out: &mut Actions<()>) -> usize {
        self.marks.first_byte.get_or_insert(now);
        self.quiet_until = Some(now + self.silence);
        let mut taken = 0;
        match self.take(bytes, &mut taken, now) {
            Ok(true) => {
                self.settle(Ok(()), now);
                out.close();
            }
            Ok(false) => {}
            Err(error) => {
                self.settle(Err(error), now);
                out.reset();
            }
        }
        self.pending = bytes.len().saturating_sub(taken);
        taken
    }

    fn sent(&mut self, now: Moment, _: &mut Actions<()>) {
        self.quiet_until = Some(now + self.silence);
    }

    fn woken(&mut self, now: Moment, out: &mut Actions<()>) {
        let what = match (&self.head, self.marks.first_byte) {
            (Some(_), _) => "the body stopped coming",
            (None, Some(_)) => "the response head stopped coming",
            (None, None) => "no answer came",
        };
        let error = Error::new(Exit::TryAgain, format!("{what} for {:.1} s", self.silence.as_secs_f64()))
            .remedy("try again later, or wait longer with --timeout");
        self.settle(Err(error), now);
        out.reset();
    }

    fn draining(&mut self, _: Moment, _: &mut Actions<()>) {}

    fn ended(&mut self, end: &CloseReason, now: Moment, out: &mut Actions<()>) {
        let verdict = match end {
            CloseReason::Finished => self.client.ended(self.pending, true).map_err(|fault| error(&fault)),
            CloseReason::Truncated => self.client.ended(self.pending, false).map_err(|fault| error(&fault)),
            CloseReason::Broken(broken) => {
                let exit = if self.head.is_some() { Exit::Incomplete } else { broken.exit() };
                Err(broken.retold(exit))
            }
        };
        self.settle(verdict, now);
        out.close();
    }

    fn wake_at(&self) -> Option<Moment> {
        self.quiet_until.filter(|_| self.verdict.is_none())
    }
}

fn error(fault: &Fault) -> Error {
    match fault {
        Fault::Malformed(_) => Error::new(Exit::Protocol, fault.to_string()).expected("an HTTP/1.1 response"),
        Fault::Nothing | Fault::CutHead => {
            Error::new(Exit::TryAgain, fault.to_string()).expected("an HTTP/1.1 response")
        }
        Fault::CutBody(_) => Error::new(Exit::Incomplete, fault.to_string()).expected("the whole body"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Sink, Transfer};
    use crate::conversation::{Actions, CloseReason, StreamProtocol as _};
    use crate::error::{Error, Result};
    use crate::exit::Exit;
    use crate::http::{RequestHead, ResponseHead};
    use crate::time::Moment;
    use std::time::Duration;

    #[derive(Default)]
    struct Kept(Vec<u8>);

    impl Sink for Kept {
        fn interim(&mut self, _: &ResponseHead) {}
        fn head(&mut self, _: &ResponseHead, _: Moment) -> Result<()> {
            Ok(())
        }
        fn data(&mut self, data: &[u8], _: Moment) -> Result<()> {
            self.0.extend_from_slice(data);
            Ok(())
        }
        fn odd(&mut self, _: &str) {}
    }

    const NOW: Moment = Moment::new(Duration::from_secs(5), Duration::ZERO);

    /// Plays a response and an end; the exit code of the outcome.
    fn play(bytes: &[u8], end: Option<CloseReason>) -> Exit {
        let mut kept = Kept::default();
        let head = RequestHead { method: "GET".into(), target: "/".into(), fields: vec![] };
        let mut transfer = Transfer::new(&head, None, Duration::from_secs(1), &mut kept);
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
        transfer.outcome().map_or_else(|error| error.exit(), |_| Exit::Done)
    }

    #[test]
    fn each_way_to_end_has_its_code() {
        let reset = || Some(CloseReason::Broken(Error::new(Exit::TryAgain, "reset")));
        for (bytes, end, exit) in [
            (&b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab"[..], Some(CloseReason::Finished), Exit::Done),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na", Some(CloseReason::Finished), Exit::Incomplete),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na", reset(), Exit::Incomplete),
            (b"HTTP/1.1 200 OK\r\n\r\nab", Some(CloseReason::Finished), Exit::Done),
            (b"HTTP/1.1 200 OK\r\n\r\nab", Some(CloseReason::Truncated), Exit::Incomplete),
            (b"HTTP/1.1 200 OK\r\n\r\nab", reset(), Exit::Incomplete),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n",
                Some(CloseReason::Finished),
                Exit::Incomplete,
            ),
            (b"<html>", Some(CloseReason::Finished), Exit::Protocol),
            (b"", Some(CloseReason::Finished), Exit::TryAgain),
            (b"", reset(), Exit::TryAgain),
            (b"", None, Exit::TryAgain),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na", None, Exit::TryAgain),
        ] {
            let shown = String::from_utf8_lossy(bytes).into_owned();
            assert_eq!(play(bytes, end), exit, "{shown:?}");
        }
    }
}
