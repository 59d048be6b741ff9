//! What is on its way out of one connection and could not go at once.
//!
//! Owns the unsent rest, in order, and the watch over a peer that does not take it.

use std::collections::VecDeque;
use std::fs::File;
use std::rc::Rc;
use std::time::Duration;

use super::wire::Wire;
use crate::conversation::{Action, Actions};
use crate::error::Result;
use crate::time::Moment;

/// A peer that takes less than this within one stall limit is not reading, it is holding us.
const LEAST_PROGRESS: u64 = 1024;

/// Octets per turn, so that one large download does not hold up the others.
const PER_TURN: u64 = 1024 * 1024;

/// The unsent rest. Empty, it owns no buffer.
#[derive(Debug)]
pub struct Outflow {
    limit: Duration,
    queue: VecDeque<Rest>,
    stall: Option<Stall>,
    /// Octets handed on since everything was last sent.
    gone: u64,
    /// Whether there was something to send that nobody has been told about.
    owes: bool,
    /// Whether there never was anything to send.
    untouched: bool,
}

#[derive(Debug)]
enum Rest {
    Bytes { bytes: Vec<u8>, sent: usize },
    File { file: Rc<File>, offset: u64, left: u64 },
    StartTls,
    Close,
}

/// A queue that does not move.
#[derive(Clone, Copy, Debug)]
struct Stall {
    until: Moment,
    progress: u64,
}

/// What became of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// The peer has to take something first.
    Blocked,
    /// And has taken nothing for too long.
    Stalled,
    /// All is sent.
    Sent,
    /// Enough for one turn; the others come first.
    Enough,
    /// All that was to go in clear is sent; what follows goes encrypted.
    Encrypting,
    /// All is sent, and the end is to follow.
    Closing,
}

impl Outflow {
    /// Nothing to send yet; the peer may take nothing for at most `limit`.
    pub fn new(limit: Duration) -> Self {
        Self { limit, queue: VecDeque::new(), stall: None, gone: 0, owes: false, untouched: true }
    }

    /// Octets handed on since everything was last sent.
    pub fn gone(&self) -> u64 {
        self.gone
    }

    /// Drops what nobody takes any longer; whether there was something.
    pub fn abandon(&mut self) -> bool {
        let had = !self.is_idle();
        self.queue.clear();
        self.stall = None;
        self.owes = false;
        had
    }

    /// Whether there never was anything to send.
    pub fn is_untouched(&self) -> bool {
        self.untouched
    }

    /// Whether nothing is on its way.
    fn is_idle(&self) -> bool {
        self.queue.is_empty() && !self.owes
    }

    /// Whether everything has been sent since the last call that said so.
    pub fn settles(&mut self) -> bool {
        std::mem::take(&mut self.owes)
    }

    /// The count of [`gone`](Self::gone), begun anew.
    pub fn take_gone(&mut self) -> u64 {
        std::mem::take(&mut self.gone)
    }

    /// When a peer that takes nothing is given up.
    pub fn stalls_at(&self) -> Option<Moment> {
        self.stall.map(|stall| stall.until)
    }

    /// Takes over what a conversation wants sent; what can go at once never gets copied. `false`
    /// if everything is to be dropped.
    pub fn absorb<F>(&mut self, out: &mut Actions<F>, wire: &mut Wire) -> Result<bool> {
        let (steps, bytes) = out.queued();
        let (mut at, mut keep) = (0, true);
        let mut failure = Ok(());
        let mut upcoming = steps.drain(..).peekable();
        while let Some(step) = upcoming.next() {
            self.owes = true;
            self.untouched = false;
            match step {
                Action::Bytes(length) => {
                    let piece = bytes.get(at..at + length).unwrap_or_default();
                    at += length;
                    let more = matches!(upcoming.peek(), Some(Action::File { .. }));
                    let sent = if self.queue.is_empty() { wire.write(piece, more) } else { Ok(0) };
                    let sent = sent.unwrap_or_else(|error| {
                        failure = Err(error);
                        0
                    });
                    self.gone += sent as u64;
                    if let Some(rest) = piece.get(sent..).filter(|rest| !rest.is_empty()) {
                        self.queue.push_back(Rest::Bytes { bytes: rest.to_owned(), sent: 0 });
                    }
                }
                Action::File { file, offset, length } => {
                    self.queue.push_back(Rest::File { file, offset, left: length })
                }
                Action::StartTls => self.queue.push_back(Rest::StartTls),
                Action::Close => self.queue.push_back(Rest::Close),
                Action::Reset => keep = false,
            }
        }
        drop(upcoming);
        bytes.clear();
        failure.map(|()| keep)
    }

    /// Sends what can be sent. `buffer` is for file content on its way into TLS.
    pub fn flush(&mut self, wire: &mut Wire, buffer: &mut [u8], now: Moment) -> Result<Flow> {
        let mut progress = 0;
        let flow = loop {
            if !wire.flush()? {
                break Flow::Blocked;
            }
            let Some(front) = self.queue.pop_front() else { break Flow::Sent };
            match front {
                Rest::StartTls => break Flow::Encrypting,
                Rest::Close => {
                    self.queue.clear();
                    break Flow::Closing;
                }
                Rest::Bytes { .. } | Rest::File { .. } => {}
            }
            let moved = self.send(front, wire, buffer)?;
            progress += moved;
            if moved == 0 {
                break Flow::Blocked;
            }
            if progress >= PER_TURN {
                break Flow::Enough;
            }
        };
        self.gone += progress;
        Ok(if self.stalls(flow, progress, now) { Flow::Stalled } else { flow })
    }

    fn send(&mut self, mut front: Rest, wire: &mut Wire, buffer: &mut [u8]) -> Result<u64> {
        let (moved, is_left) = match &mut front {
            Rest::Bytes { bytes, sent } => {
                let moved = wire.write(bytes.get(*sent..).unwrap_or_default(), false)?;
                *sent += moved;
                (moved as u64, *sent < bytes.len())
            }
            Rest::File { file, offset, left } => {
                let moved = if wire.is_dry_and_full().1 { 0 } else { wire.write_file(file, *offset, *left, buffer)? };
                *offset += moved;
                *left -= moved;
                (moved, *left > 0)
            }
            Rest::StartTls | Rest::Close => (0, true),
        };
        if is_left {
            self.queue.push_front(front);
        }
        Ok(moved)
    }

    /// A queue may be slow but not still: each stall limit has to see some progress.
    fn stalls(&mut self, flow: Flow, progress: u64, now: Moment) -> bool {
        if matches!(flow, Flow::Sent | Flow::Encrypting | Flow::Closing) {
            self.stall = None;
            return false;
        }
        let until = now + self.limit;
        let stall = self.stall.get_or_insert(Stall { until, progress: 0 });
        stall.progress += progress;
        if stall.progress >= LEAST_PROGRESS {
            *stall = Stall { until, progress: 0 };
        }
        stall.until <= now
    }
}
