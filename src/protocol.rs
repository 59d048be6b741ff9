//! Interface between protocols and the event loops that carry them. A stream protocol receives bytes, the current
//! time and the end of the stream, and acts through [`Actions`]: what to send, which range of a file, when to close,
//! which events occurred. It sees no socket and no clock, so that `http` and `smtp` do not depend on `net`, `net`
//! does not depend on HTTP, and a test can run a whole session in memory, split at any byte.
//!
//! ```text
//!            opened · received · sent · woken · job_done · draining · ended
//!   net ──────────────────────────────────────────────────────────────────▶ protocol
//!       ◀──────────────────────────────────────────────────────────────────
//!            Actions: bytes · file · close · job · events    wake_at, is_paused
//! ```
//!
//! [`DatagramProtocol`] is the counterpart for datagrams.

mod datagram;
mod excerpt;
#[cfg(test)]
pub(crate) mod script;
mod traced;
mod traced_datagrams;
mod violation;
mod wait_reporter;

use std::fs::File;
use std::rc::Rc;

use crate::failure::Failure;
use crate::time::Moment;

pub(crate) use datagram::{Datagram, DatagramActions, DatagramProtocol, Transmit, TransmitError};
pub(crate) use excerpt::{datagram_excerpt, excerpt, is_text, is_utf8, last_line};
use traced::TracedInput;
pub(crate) use traced::{InputPiece, TraceObserver, Traced};
pub(crate) use traced_datagrams::{DatagramTraceObserver, TracedDatagrams};
pub(crate) use violation::Violation;
pub(crate) use wait_reporter::{Awaited, AwaitsInput, FIRST_REPORT, NEXT_REPORT, WaitReport, WaitReporter};

/// Protocol at one end of a stream connection.
pub(crate) trait StreamProtocol {
    /// Event reported to the observer as it happens.
    type Event;

    /// True if input is accepted while output is still queued. False for a server: a client that never reads must not
    /// make it queue replies without limit. True for a client: a peer that replies early and stops reading would
    /// otherwise block both sides.
    const FULL_DUPLEX: bool;

    /// Called when the connection is established and, with TLS, the handshake is done; `tls` is the version,
    /// such as `1.3`.
    fn opened(&mut self, tls: Option<&'static str>, now: Moment, actions: &mut Actions<Self::Event>);

    /// Called when a client has sent plain text to a TLS port. Returns true if the session answers it unencrypted; otherwise
    /// the handshake fails.
    fn opened_in_clear(&mut self, _: Moment, _: &mut Actions<Self::Event>) -> bool {
        false
    }

    /// Called with the bytes received but not consumed so far. Returns the number consumed now; the rest is
    /// offered again once more bytes have arrived or all queued output has been sent.
    fn received(&mut self, bytes: &[u8], now: Moment, actions: &mut Actions<Self::Event>) -> usize;

    /// Called when the kernel has accepted everything queued.
    fn sent(&mut self, now: Moment, actions: &mut Actions<Self::Event>);

    /// Called when the kernel accepts no more for now, with the number of bytes sent since the last
    /// [`sent`](Self::sent).
    fn partly_sent(&mut self, _: u64, _: &mut Actions<Self::Event>) {}

    /// Called at the moment given by [`wake_at`](Self::wake_at).
    fn woken(&mut self, now: Moment, actions: &mut Actions<Self::Event>);

    /// Called when the requested [`Job`] is done. A protocol that requests no jobs need not implement it.
    fn job_done(&mut self, _: Moment, _: &mut Actions<Self::Event>) {}

    /// Called when the server shuts down: finish what is running, start nothing new.
    fn draining(&mut self, now: Moment, actions: &mut Actions<Self::Event>);

    /// Called when no more input will arrive; unless the reason is [`CloseReason::Finished`], nothing more
    /// can be sent either.
    fn ended(&mut self, reason: &CloseReason, now: Moment, actions: &mut Actions<Self::Event>);

    /// Returns the next wakeup, if nothing happens before; asked after each call.
    fn wake_at(&self) -> Option<Moment>;

    /// Returns the next wakeup during a TLS handshake, when the protocol is not called otherwise.
    fn handshake_wake_at(&self) -> Option<Moment> {
        None
    }

    /// Called at the moment given by [`handshake_wake_at`](Self::handshake_wake_at); may only emit events.
    fn handshake_woken(&mut self, _: Moment, _: &mut Actions<Self::Event>) {}

    /// Returns the end of the idle timeout if the connection is idle: it may be closed earlier in favour of another one.
    fn idle_deadline(&self) -> Option<Moment> {
        None
    }

    /// Returns true if no input is wanted for now: a job is running, or a reply is held back. The peer's
    /// bytes then wait in the kernel until flow control stops the peer.
    fn is_paused(&self) -> bool {
        false
    }
}

/// Work that may block, run on a thread without connections; one job at a time. The job stores its result
/// where the protocol finds it.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// End of the peer's side of a connection.
#[derive(Debug)]
pub(crate) enum CloseReason {
    /// Orderly end: FIN, and with TLS a `close_notify` before it (RFC 8446 §6.1). The peer may still be reading.
    Finished,
    /// FIN within TLS without `close_notify`: an attacker may have truncated the stream.
    Truncated,
    /// The connection failed, or could not be established.
    Broken(Failure),
}

/// Actions requested by a protocol, in order. They belong to the loop's thread and are empty before each
/// call, so that an idle connection owns no buffer.
pub(crate) struct Actions<E> {
    queue: Vec<Action>,
    bytes: Vec<u8>,
    events: Vec<E>,
    job: Option<Job>,
    bytes_sent: u64,
    /// Input shown by a [`Traced`] session; `None` if none is traced.
    inputs: Option<Vec<TracedInput>>,
}

/// One call of a stream protocol: its time, and the actions in response.
pub(crate) struct Turn<'a, E> {
    pub now: Moment,
    pub actions: &'a mut Actions<E>,
}

/// Action on the connection.
#[derive(Debug)]
pub(crate) enum Action {
    /// Send this many of the bytes in the output buffer.
    Bytes(usize),
    /// Send `length` bytes of a file, starting at `offset`.
    File { file: Rc<File>, offset: u64, length: u64 },
    /// Orderly close: everything before is sent, then FIN, then the peer's input is discarded for a while, so
    /// that no RST overtakes the last reply (RFC 9112 §9.6).
    Close,
    /// Start TLS once everything before is sent. The protocol has made sure that no plaintext input is left
    /// over; [`StreamProtocol::opened`] reports the end of the handshake.
    StartTls,
    /// Abort: queued output is discarded, and the peer sees an RST.
    Reset,
}

impl<E> Default for Actions<E> {
    fn default() -> Self {
        Self { queue: Vec::new(), bytes: Vec::new(), events: Vec::new(), job: None, bytes_sent: 0, inputs: None }
    }
}

impl<E> Actions<E> {
    /// Appends bytes to the output; `write` puts them straight into the thread's buffer.
    pub(crate) fn send_with<T>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let before = self.bytes.len();
        let result = write(&mut self.bytes);
        let added = self.bytes.len().saturating_sub(before);
        match self.queue.last_mut() {
            _ if added == 0 => {}
            Some(Action::Bytes(length)) => *length += added,
            _ => self.queue.push(Action::Bytes(added)),
        }
        result
    }

    /// Appends bytes to the output.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.send_with(|buffer| buffer.extend_from_slice(bytes));
    }

    /// Returns the number of bytes appended during this call.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Appends a range of a file to the output.
    pub(crate) fn send_file(&mut self, file: Rc<File>, offset: u64, length: u64) {
        if length > 0 {
            self.queue.push(Action::File { file, offset, length });
        }
    }

    /// Closes the connection once everything before is sent.
    pub(crate) fn close(&mut self) {
        self.queue.push(Action::Close);
    }

    /// Starts TLS once everything before is sent.
    pub(crate) fn start_tls(&mut self) {
        self.queue.push(Action::StartTls);
    }

    /// Aborts the connection at once.
    pub(crate) fn reset(&mut self) {
        self.queue.push(Action::Reset);
    }

    /// Requests a job; the protocol must pause until it is done.
    pub(crate) fn run_job(&mut self, job: Job) {
        self.job = Some(job);
    }

    pub(crate) fn take_job(&mut self) -> Option<Job> {
        self.job.take()
    }

    /// Reports an event.
    pub(crate) fn emit(&mut self, event: E) {
        self.events.push(event);
    }

    /// Returns the bytes sent since the last [`sent`](StreamProtocol::sent). Set before `sent` and `ended`,
    /// so that a truncated response can report how much of it was sent.
    pub(crate) fn bytes_sent(&self) -> u64 {
        self.bytes_sent
    }

    pub(crate) fn set_bytes_sent(&mut self, bytes: u64) {
        self.bytes_sent = bytes;
    }

    /// Returns whether the input is traced.
    pub(crate) fn is_traced(&self) -> bool {
        self.inputs.is_some()
    }

    /// Shows a piece of input in the trace, if there is one.
    pub(crate) fn trace_input(&mut self, input: impl FnOnce() -> InputPiece) {
        let queued_bytes = self.bytes.len();
        if let Some(inputs) = &mut self.inputs {
            inputs.push(TracedInput { piece: input(), queued_bytes });
        }
    }

    /// Drains the events since the last call, oldest first.
    pub(crate) fn events(&mut self) -> impl Iterator<Item = E> {
        self.events.drain(..)
    }

    /// Returns the queued actions, oldest first, and the bytes that [`Action::Bytes`] counts.
    pub(crate) fn queued(&mut self) -> (&mut Vec<Action>, &mut Vec<u8>) {
        (&mut self.queue, &mut self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::{Action, Actions};

    #[test]
    fn adjacent_bytes_become_one_action() {
        let mut actions = Actions::<()>::default();
        actions.send(b"head");
        actions.send(b"");
        actions.send(b"body");
        actions.close();
        actions.send(b"more");
        let (queue, bytes) = actions.queued();
        assert!(matches!(queue[..], [Action::Bytes(8), Action::Close, Action::Bytes(4)]));
        assert_eq!(bytes, b"headbodymore");
    }
}
