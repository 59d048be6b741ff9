//! What machines look like to the loops that carry them.
//!
//! A stream conversation takes bytes, moments and ends, and answers through its [`Outbox`]: what
//! to send, which part of a file, when to close, which facts came out. It sees no socket and no
//! clock, so that `http` and `smtp` never know `net`, `net` never knows HTTP, and a test can play
//! the whole dialogue in memory, split at any byte.
//!
//! ```text
//!            opened · received · sent · woken · job_done · draining · ended
//!   net ──────────────────────────────────────────────────────────────────▶ conversation
//!       ◀──────────────────────────────────────────────────────────────────
//!            Outbox: bytes · file · close · job · facts      wake_at, is_paused
//! ```
//!
//! Its sibling for datagrams is [`Exchange`].

mod datagram;

use std::fs::File;
use std::rc::Rc;

use crate::error::Error;
use crate::time::Moment;

pub(crate) use datagram::{Datagram, DatagramActions, DatagramProtocol, Transmit, TransmitError};

/// One side of one stream connection.
pub(crate) trait StreamProtocol {
    /// What its owner may want to know, told as it happens.
    type Event;

    /// Whether it wants to hear while its own bytes are still on the way out. A server does not
    /// (a client that never reads must not make it queue answers without end), a client must
    /// (a peer that answers early and stops reading would otherwise hang both).
    const FULL_DUPLEX: bool;

    /// The connection stands, and with TLS the handshake is done: which version, as `1.3`.
    fn opened(&mut self, tls: Option<&'static str>, now: Moment, actions: &mut Actions<Self::Event>);

    /// Bytes that arrived and were not taken before. Returns how many are taken now; the rest is
    /// offered again once something changed: more bytes came, or all that was queued is sent.
    fn received(&mut self, bytes: &[u8], now: Moment, actions: &mut Actions<Self::Event>) -> usize;

    /// Everything queued has been handed to the kernel.
    fn sent(&mut self, now: Moment, actions: &mut Actions<Self::Event>);

    /// The kernel takes no more for now; so many octets have gone since the last [`sent`](Self::sent).
    fn partly_sent(&mut self, _: u64, _: &mut Actions<Self::Event>) {}

    /// The moment named by [`wake_at`](Self::wake_at) has come.
    fn woken(&mut self, now: Moment, actions: &mut Actions<Self::Event>);

    /// The [`Job`] it asked for is done. Only those who ask for jobs hear of them.
    fn job_done(&mut self, _: Moment, _: &mut Actions<Self::Event>) {}

    /// The server is going down: finish what is running, start nothing new.
    fn draining(&mut self, now: Moment, actions: &mut Actions<Self::Event>);

    /// Nothing more will arrive, and unless the end is [`End::Finished`] nothing more can be sent.
    fn ended(&mut self, reason: &CloseReason, now: Moment, actions: &mut Actions<Self::Event>);

    /// When to be woken, if nothing happens before; asked after each call.
    fn wake_at(&self) -> Option<Moment>;

    /// Whether it wants to hear nothing for now: a job of its is under way, or it holds its answer
    /// back. The peer's octets then wait in the kernel, and so in the end does the peer.
    fn is_paused(&self) -> bool {
        false
    }
}

/// Work that may block, for a thread that serves nobody meanwhile. What comes of it, it leaves where
/// the conversation finds it. One at a time.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// How the peer's side of a connection ended.
#[derive(Debug)]
pub(crate) enum CloseReason {
    /// An orderly end: FIN, and with TLS a `close_notify` before it (RFC 8446 §6.1). The peer may
    /// still be reading.
    Finished,
    /// A FIN within TLS without `close_notify`: somebody may have cut the stream.
    Truncated,
    /// The connection broke, or never came to stand: what happened.
    Broken(Error),
}

/// What a conversation wants done, in order. It belongs to the loop's thread and is empty before
/// each call, so that an idle connection owns no buffer.
pub(crate) struct Actions<E> {
    queue: Vec<Action>,
    bytes: Vec<u8>,
    events: Vec<E>,
    job: Option<Job>,
    bytes_sent: u64,
}

/// One thing to do with the connection.
#[derive(Debug)]
pub(crate) enum Action {
    /// Send this many of the bytes that [`Outbox::bytes`] collected.
    Bytes(usize),
    /// Send `length` octets of a file from `offset` on.
    File {
        /// The opened file.
        file: Rc<File>,
        /// Its first octet to send.
        offset: u64,
        /// How many.
        length: u64,
    },
    /// Close in an orderly way: everything before is sent, then FIN, then what the peer still
    /// sends is thrown away for a moment, so that no RST overtakes our last words (RFC 9112 §9.6).
    Close,
    /// Begin TLS once everything before is sent. The conversation has made sure that nothing is left
    /// of what it received in clear; [`Conversation::opened`] tells when the handshake is done.
    StartTls,
    /// Break off: nothing that is still queued is sent, and the peer sees an RST.
    Reset,
}

impl<E> Default for Actions<E> {
    fn default() -> Self {
        Self { queue: Vec::new(), bytes: Vec::new(), events: Vec::new(), job: None, bytes_sent: 0 }
    }
}

impl<E> Actions<E> {
    /// Appends bytes to what is sent; `write` puts them straight into the thread's buffer.
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

    /// Appends bytes to what is sent.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.send_with(|buffer| buffer.extend_from_slice(bytes));
    }

    /// How many octets this call has appended so far.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Appends a part of a file to what is sent.
    pub(crate) fn send_file(&mut self, file: Rc<File>, offset: u64, length: u64) {
        if length > 0 {
            self.queue.push(Action::File { file, offset, length });
        }
    }

    /// Closes once everything before is sent.
    pub(crate) fn close(&mut self) {
        self.queue.push(Action::Close);
    }

    /// Begins TLS once everything before is sent.
    pub(crate) fn start_tls(&mut self) {
        self.queue.push(Action::StartTls);
    }

    /// Breaks off at once.
    pub(crate) fn reset(&mut self) {
        self.queue.push(Action::Reset);
    }

    /// Has a job done; the conversation pauses until then.
    pub(crate) fn run_job(&mut self, job: Job) {
        self.job = Some(job);
    }

    /// The job that was asked for, if there is one.
    pub(crate) fn take_job(&mut self) -> Option<Job> {
        self.job.take()
    }

    /// Tells a fact.
    pub(crate) fn emit(&mut self, event: E) {
        self.events.push(event);
    }

    /// How many octets have gone to the kernel since the last [`sent`](Conversation::sent); told
    /// with `sent` and `ended`, so that a cut answer can say how much of it left.
    pub(crate) fn bytes_sent(&self) -> u64 {
        self.bytes_sent
    }

    /// Tells how many octets have gone.
    pub(crate) fn set_bytes_sent(&mut self, bytes: u64) {
        self.bytes_sent = bytes;
    }

    /// The facts told since the last call, oldest first.
    pub(crate) fn events(&mut self) -> impl Iterator<Item = E> {
        self.events.drain(..)
    }

    /// What is to be done, oldest first, and the bytes that its [`Step::Bytes`] count.
    pub(crate) fn queued(&mut self) -> (&mut Vec<Action>, &mut Vec<u8>) {
        (&mut self.queue, &mut self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::{Action, Actions};

    #[test]
    fn neighbouring_bytes_become_one_step() {
        let mut out = Actions::<()>::default();
        out.send(b"head");
        out.send(b"");
        out.send(b"body");
        out.close();
        out.send(b"more");
        let (steps, bytes) = out.queued();
        assert!(matches!(steps[..], [Action::Bytes(8), Action::Close, Action::Bytes(4)]));
        assert_eq!(bytes, b"headbodymore");
    }
}
