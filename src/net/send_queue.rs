//! What is on its way out of one connection and could not go at once.
//!
//! Owns the unsent rest, in order, and the watch over a peer that does not take it.

use std::collections::VecDeque;
use std::fs::File;
use std::rc::Rc;
use std::time::Duration;

use super::stream::Stream;
use crate::error::Result;
use crate::protocol::{Action, Actions};
use crate::time::Moment;

/// A peer that takes less than this within one stall limit is not reading, it is holding us.
const MIN_PROGRESS: u64 = 1024;

/// Octets per turn, so that one large download does not hold up the others.
const BYTES_PER_TURN: u64 = 1024 * 1024;

/// The unsent rest. Empty, it owns no buffer.
#[derive(Debug)]
pub(super) struct SendQueue {
    stall_timeout: Duration,
    items: VecDeque<Item>,
    stall: Option<StallTimer>,
    /// Octets handed on since everything was last sent.
    bytes_sent: u64,
    /// Whether there was something to send that nobody has been told about.
    unreported: bool,
    /// Whether there never was anything to send.
    unused: bool,
}

#[derive(Debug)]
enum Item {
    Bytes { bytes: Vec<u8>, sent: usize },
    File { file: Rc<File>, offset: u64, remaining: u64 },
    StartTls,
    Close,
}

/// A queue that does not move.
#[derive(Clone, Copy, Debug)]
struct StallTimer {
    deadline: Moment,
    progress: u64,
}

/// What became of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flush {
    /// The peer has to take something first.
    Blocked,
    /// And has taken nothing for too long.
    Stalled,
    /// All is sent.
    Complete,
    /// Enough for one turn; the others come first.
    BudgetSpent,
    /// All that was to go in clear is sent; what follows goes encrypted.
    StartTls,
    /// All is sent, and the end is to follow.
    Close,
}

impl SendQueue {
    /// Nothing to send yet; the peer may take nothing for at most `limit`.
    pub(super) fn new(stall_timeout: Duration) -> Self {
        Self { stall_timeout, items: VecDeque::new(), stall: None, bytes_sent: 0, unreported: false, unused: true }
    }

    /// Octets handed on since everything was last sent.
    pub(super) fn bytes_sent(&self) -> u64 {
        self.bytes_sent
    }

    /// Drops what nobody takes any longer; whether there was something.
    pub(super) fn discard(&mut self) -> bool {
        let had = !self.is_idle();
        self.items.clear();
        self.stall = None;
        self.unreported = false;
        had
    }

    /// Whether there never was anything to send.
    pub(super) fn is_unused(&self) -> bool {
        self.unused
    }

    /// Whether nothing is on its way.
    fn is_idle(&self) -> bool {
        self.items.is_empty() && !self.unreported
    }

    /// Whether everything has been sent since the last call that said so.
    pub(super) fn take_unreported(&mut self) -> bool {
        std::mem::take(&mut self.unreported)
    }

    /// The count of [`gone`](Self::gone), begun anew.
    pub(super) fn take_bytes_sent(&mut self) -> u64 {
        std::mem::take(&mut self.bytes_sent)
    }

    /// When a peer that takes nothing is given up.
    pub(super) fn stall_deadline(&self) -> Option<Moment> {
        self.stall.map(|stall| stall.deadline)
    }

    /// Takes over what a conversation wants sent; what can go at once never gets copied. `false`
    /// if everything is to be dropped.
    pub(super) fn enqueue<F>(&mut self, actions: &mut Actions<F>, stream: &mut Stream) -> Result<bool> {
        let (steps, bytes) = actions.queued();
        let (mut at, mut keep) = (0, true);
        let mut failure = Ok(());
        let mut upcoming = steps.drain(..).peekable();
        while let Some(step) = upcoming.next() {
            self.unreported = true;
            self.unused = false;
            match step {
                Action::Bytes(length) => {
                    let piece = bytes.get(at..at + length).unwrap_or_default();
                    at += length;
                    let more = matches!(upcoming.peek(), Some(Action::File { .. }));
                    let sent = if self.items.is_empty() { stream.write(piece, more) } else { Ok(0) };
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

    /// Sends what can be sent. `buffer` is for file content on its way into TLS.
    pub(super) fn flush(&mut self, stream: &mut Stream, buffer: &mut [u8], now: Moment) -> Result<Flush> {
        let mut progress = 0;
        let flow = loop {
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
            let moved = self.send_item(front, stream, buffer)?;
            progress += moved;
            if moved == 0 {
                break Flush::Blocked;
            }
            if progress >= BYTES_PER_TURN {
                break Flush::BudgetSpent;
            }
        };
        self.bytes_sent += progress;
        Ok(if self.update_stall_timer(flow, progress, now) { Flush::Stalled } else { flow })
    }

    fn send_item(&mut self, mut front: Item, stream: &mut Stream, buffer: &mut [u8]) -> Result<u64> {
        let (moved, is_left) = match &mut front {
            Item::Bytes { bytes, sent } => {
                let moved = stream.write(bytes.get(*sent..).unwrap_or_default(), false)?;
                *sent += moved;
                (moved as u64, *sent < bytes.len())
            }
            Item::File { file, offset, remaining: left } => {
                let moved = if stream.would_block().1 { 0 } else { stream.write_file(file, *offset, *left, buffer)? };
                *offset += moved;
                *left -= moved;
                (moved, *left > 0)
            }
            Item::StartTls | Item::Close => (0, true),
        };
        if is_left {
            self.items.push_front(front);
        }
        Ok(moved)
    }

    /// A queue may be slow but not still: each stall limit has to see some progress.
    fn update_stall_timer(&mut self, flow: Flush, progress: u64, now: Moment) -> bool {
        if matches!(flow, Flush::Complete | Flush::StartTls | Flush::Close) {
            self.stall = None;
            return false;
        }
        let until = now + self.stall_timeout;
        let stall = self.stall.get_or_insert(StallTimer { deadline: until, progress: 0 });
        stall.progress += progress;
        if stall.progress >= MIN_PROGRESS {
            *stall = StallTimer { deadline: until, progress: 0 };
        }
        stall.deadline <= now
    }
}
