//! Send queue of one connection: bytes and file ranges the kernel has not accepted yet.
//!
//! Owns the order of what is sent and the stall timer. Does not know what the bytes mean.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::rc::Rc;
use std::time::Duration;

use super::stream::Stream;
use crate::failure::Result;
use crate::protocol::{Action, Actions};
use crate::time::Moment;

/// Least progress per stall timeout, so that a client that reads one byte at a time cannot hold a connection
/// open (slow-read attack).
const MIN_PROGRESS: u64 = 1024;

/// Send budget per turn; keeps one large download from delaying other connections.
const BYTES_PER_TURN: u64 = 64 * 1024;

/// Maximum size of a file that is read into memory and sent in one write with the bytes before it; larger files are sent
/// by `sendfile`.
const MAX_INLINE_FILE: u64 = 16 * 1024;

/// Actions waiting to be sent. An empty queue owns no buffer.
#[derive(Debug)]
pub(super) struct SendQueue {
    stall_timeout: Duration,
    items: VecDeque<Item>,
    stall: Option<StallTimer>,
    /// Bytes accepted by the kernel since the queue was last reported as sent.
    bytes_sent: u64,
    /// Set while the protocol has not been notified that everything was sent.
    unreported: bool,
    /// Set until anything is queued for the first time.
    unused: bool,
}

/// Appends a range of a file; returns false, and appends nothing, if the file is shorter or cannot be read.
fn append_file(file: &File, offset: u64, length: u64, bytes: &mut Vec<u8>) -> bool {
    let start = bytes.len();
    bytes.resize(start + usize::try_from(length).unwrap_or_default(), 0);
    let is_read = bytes.get_mut(start..).is_some_and(|space| file.read_exact_at(space, offset).is_ok());
    if !is_read {
        bytes.truncate(start);
    }
    is_read
}

#[derive(Debug)]
enum Item {
    Bytes { bytes: Vec<u8>, sent: usize },
    File { file: Rc<File>, offset: u64, remaining: u64 },
    StartTls,
    Close,
}

/// Deadline for the next [`MIN_PROGRESS`] bytes of a blocked queue.
#[derive(Clone, Copy, Debug)]
struct StallTimer {
    deadline: Moment,
    progress: u64,
}

/// Result of [`SendQueue::flush`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flush {
    /// The socket buffer is full; wait until it is writable.
    Blocked,
    /// Too little progress within the stall timeout.
    Stalled,
    /// Everything was sent.
    Complete,
    /// The send budget of this turn is used up.
    BudgetSpent,
    /// Everything before STARTTLS was sent; the handshake follows.
    StartTls,
    /// Everything was sent; the connection must be closed.
    Close,
}

impl SendQueue {
    pub(super) fn new(stall_timeout: Duration) -> Self {
        Self { stall_timeout, items: VecDeque::new(), stall: None, bytes_sent: 0, unreported: false, unused: true }
    }

    pub(super) fn bytes_sent(&self) -> u64 {
        self.bytes_sent
    }

    /// Drops everything queued; returns whether anything was waiting.
    pub(super) fn discard(&mut self) -> bool {
        let was_pending = !self.is_idle();
        self.items.clear();
        self.stall = None;
        self.unreported = false;
        was_pending
    }

    pub(super) fn is_unused(&self) -> bool {
        self.unused
    }

    fn is_idle(&self) -> bool {
        self.items.is_empty() && !self.unreported
    }

    /// Returns whether the protocol must be notified that everything was sent; resets the mark.
    pub(super) fn take_unreported(&mut self) -> bool {
        std::mem::take(&mut self.unreported)
    }

    /// Returns [`bytes_sent`](Self::bytes_sent) and resets it to 0.
    pub(super) fn take_bytes_sent(&mut self) -> u64 {
        std::mem::take(&mut self.bytes_sent)
    }

    pub(super) fn stall_deadline(&self) -> Option<Moment> {
        self.stall.map(|stall| stall.deadline)
    }

    /// Queues the actions of a protocol; bytes that the kernel accepts at once are not copied. Returns
    /// `false` if the connection must be reset.
    pub(super) fn enqueue<F>(&mut self, actions: &mut Actions<F>, stream: &mut Stream) -> Result<bool> {
        let (queued, bytes) = actions.queued();
        let (mut at, mut keep) = (0, true);
        let mut failure = Ok(());
        let mut upcoming = queued.drain(..).peekable();
        while let Some(action) = upcoming.next() {
            self.unreported = true;
            self.unused = false;
            match action {
                Action::Bytes(length) => {
                    let mut end = at + length;
                    if let (true, Some(Action::File { file, offset, length: size @ ..=MAX_INLINE_FILE })) =
                        (end == bytes.len(), upcoming.peek())
                        && append_file(file, *offset, *size, bytes)
                    {
                        end = bytes.len();
                        upcoming.next();
                    }
                    let piece = bytes.get(at..end).unwrap_or_default();
                    at = end;
                    let has_more = matches!(upcoming.peek(), Some(Action::File { .. }));
                    let sent = if self.items.is_empty() { stream.write(piece, has_more) } else { Ok(0) };
                    let sent = sent.unwrap_or_else(|error| {
                        failure = Err(error);
                        0
                    });
                    self.bytes_sent += sent as u64;
                    if let Some(rest) = piece.get(sent..).filter(|rest| !rest.is_empty()) {
                        self.items.push_back(Item::Bytes { bytes: rest.to_owned(), sent: 0 });
                    }
                }
                Action::File { file, offset, length } => {
                    self.items.push_back(Item::File { file, offset, remaining: length });
                }
                Action::StartTls => self.items.push_back(Item::StartTls),
                Action::Close => self.items.push_back(Item::Close),
                Action::Reset => keep = false,
            }
        }
        drop(upcoming);
        bytes.clear();
        failure.map(|()| keep)
    }

    /// Sends what the kernel accepts. `buffer` holds file content before encryption.
    pub(super) fn flush(&mut self, stream: &mut Stream, buffer: &mut [u8], now: Moment) -> Result<Flush> {
        let before = self.bytes_sent;
        let result = loop {
            if !stream.flush()? {
                break Flush::Blocked;
            }
            let Some(front) = self.items.pop_front() else { break Flush::Complete };
            match front {
                Item::StartTls => break Flush::StartTls,
                Item::Close => {
                    self.items.clear();
                    break Flush::Close;
                }
                Item::Bytes { .. } | Item::File { .. } => {}
            }
            let sent = self.send_item(front, stream, buffer)?;
            // Counted at once: a file that shrinks ends this turn with an error.
            self.bytes_sent += sent;
            if sent == 0 {
                break Flush::Blocked;
            }
            if self.bytes_sent - before >= BYTES_PER_TURN {
                break Flush::BudgetSpent;
            }
        };
        let progress = self.bytes_sent - before;
        Ok(if self.update_stall_timer(result, progress, now) { Flush::Stalled } else { result })
    }

    fn send_item(&mut self, mut item: Item, stream: &mut Stream, buffer: &mut [u8]) -> Result<u64> {
        let (written, has_rest) = match &mut item {
            Item::Bytes { bytes, sent } => {
                let written = stream.write(bytes.get(*sent..).unwrap_or_default(), false)?;
                *sent += written;
                (written as u64, *sent < bytes.len())
            }
            Item::File { file, offset, remaining } => {
                let is_full = stream.would_block().1;
                let written = if is_full { 0 } else { stream.write_file(file, *offset, *remaining, buffer)? };
                *offset += written;
                *remaining -= written;
                (written, *remaining > 0)
            }
            Item::StartTls | Item::Close => (0, true),
        };
        if has_rest {
            self.items.push_front(item);
        }
        Ok(written)
    }

    /// Returns whether the queue is stalled: less than [`MIN_PROGRESS`] within the stall timeout.
    fn update_stall_timer(&mut self, result: Flush, progress: u64, now: Moment) -> bool {
        if matches!(result, Flush::Complete | Flush::StartTls | Flush::Close) {
            self.stall = None;
            return false;
        }
        let deadline = now + self.stall_timeout;
        let stall = self.stall.get_or_insert(StallTimer { deadline, progress: 0 });
        stall.progress += progress;
        if stall.progress >= MIN_PROGRESS {
            *stall = StallTimer { deadline, progress: 0 };
        }
        stall.deadline <= now
    }
}
