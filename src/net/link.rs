//! One non-blocking stream connection, with or without TLS, and the conversation on it.
//!
//! Owns the order of a connection's life: handshake, octets in, steps out, half-closes, lingering,
//! and the three waits that only it can see: a handshake that never ends, a peer that never
//! reads, a close that is never answered. Both loops drive it the same way: say what is ready,
//! take a [`turn`](Link::turn), ask when to come back.
//!
//! ```text
//!   Handshake ──▶ Open ──▶ Closing ──▶ Lingering ──▶ Over
//!       └──────────┴── error, stall, reset ───────────▲
//! ```

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::time::Duration;

use rustix::fs::sendfile;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{SendFlags, send};
use rustls::Connection;
use socket2::Socket;

use super::clock::now as fresh;
use super::dial::word;
use super::tls;
use crate::conversation::{Conversation, End, Outbox, Step};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::time::Moment;

/// The thread's read buffer, and so the most a conversation may leave untaken.
const READ_BUFFER: usize = 128 * 1024;
/// Octets of a file per call, so that one large download does not hold up the others.
const FILE_SLICE: usize = 1024 * 1024;
/// Octets of a file that are encrypted at a time: four full TLS records.
const TLS_SLICE: usize = 64 * 1024;
/// Steps before the other connections have their turn.
const STEPS_PER_TURN: usize = 32;
/// How long to wait for the peer's FIN after ours, and how much of what it still sends to read.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_OCTETS: usize = 1024 * 1024;
/// A peer that takes less than this within one stall limit is not reading, it is holding us.
const LEAST_PROGRESS: u64 = 1024;

/// How long a link waits for what only it can see.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a TLS handshake, all of it.
    pub handshake: Duration,
    /// For the peer to take something of what is queued.
    pub stall: Duration,
}

/// Buffers that belong to the thread, lent to whichever link has its turn.
#[derive(Debug)]
pub struct Scratch<F> {
    read: Box<[u8]>,
    pub(super) out: Outbox<F>,
}

impl<F> Default for Scratch<F> {
    fn default() -> Self {
        Self { read: vec![0; READ_BUFFER].into_boxed_slice(), out: Outbox::default() }
    }
}

/// A connection. Idle, it owns no buffer.
#[derive(Debug)]
pub struct Link {
    socket: Socket,
    tls: Option<Box<Connection>>,
    phase: Phase,
    patience: Patience,
    /// Octets that came and were not taken.
    inbox: Vec<u8>,
    /// Whether the conversation has not been asked about the inbox since something changed.
    offer: bool,
    /// What could not be sent at once.
    queue: VecDeque<Rest>,
    /// Whether the conversation waits to hear that all is sent.
    owes_sent: bool,
    can_read: bool,
    can_write: bool,
    heard_end: bool,
    stall: Option<Stall>,
    /// Octets handed on since everything was last sent.
    gone: u64,
}

#[derive(Debug)]
enum Phase {
    Handshake { until: Moment },
    Open,
    Closing,
    Lingering { until: Moment, left: usize },
    Over,
}

#[derive(Debug)]
enum Rest {
    Bytes { bytes: Vec<u8>, sent: usize },
    File { file: Rc<File>, offset: u64, left: u64 },
    Close,
}

/// A queue that does not move.
#[derive(Clone, Copy, Debug)]
struct Stall {
    until: Moment,
    progress: u64,
}

/// What a link wants after its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Wait until the socket is ready or the moment has come.
    Waiting,
    /// Another turn, after the others had theirs.
    Busy,
    /// All is said; only the peer's FIN is awaited.
    Lingering,
    /// The connection is gone.
    Over,
}

enum Progress {
    Made,
    None,
}

impl Link {
    /// A connection that stands, `socket` being non-blocking.
    pub fn new(socket: Socket, tls: Option<Connection>, patience: Patience, now: Moment) -> Self {
        Self {
            socket,
            tls: tls.map(Box::new),
            phase: Phase::Handshake { until: now + patience.handshake },
            patience,
            inbox: Vec::new(),
            offer: false,
            queue: VecDeque::new(),
            owes_sent: false,
            can_read: true,
            can_write: true,
            heard_end: false,
            stall: None,
            gone: 0,
        }
    }

    /// The descriptor to wait for.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The socket has something to read, or its end.
    pub fn readable(&mut self) {
        self.can_read = true;
    }

    /// The socket takes octets again.
    pub fn writable(&mut self) {
        self.can_write = true;
    }

    /// Whether to wait for reading and for writing; for a loop that is told levels, not edges.
    pub fn wants(&self) -> (bool, bool) {
        (!self.can_read && !self.heard_end, !self.can_write)
    }

    /// The TLS session, once there is one.
    pub fn tls(&self) -> Option<&Connection> {
        self.tls.as_deref()
    }

    /// When the link or its conversation wants to be woken.
    pub fn wake_at(&self, talk: &impl Conversation) -> Option<Moment> {
        let own = match self.phase {
            Phase::Handshake { until } | Phase::Lingering { until, .. } => Some(until),
            Phase::Open | Phase::Closing => self.stall.map(|stall| stall.until),
            Phase::Over => None,
        };
        let theirs = if matches!(self.phase, Phase::Open) { talk.wake_at() } else { None };
        [own, theirs].into_iter().flatten().min()
    }

    /// Does what can be done without waiting.
    pub fn turn<C: Conversation>(&mut self, talk: &mut C, scratch: &mut Scratch<C::Fact>, now: Moment) -> Status {
        self.keep_time(talk, scratch, now);
        for _ in 0..STEPS_PER_TURN {
            match self.step(talk, scratch, now) {
                Ok(Progress::Made) => {}
                Ok(Progress::None) => return self.status(Status::Waiting),
                Err(error) => self.break_off(talk, scratch, End::Broken(error), now),
            }
            if matches!(self.phase, Phase::Over) {
                return Status::Over;
            }
        }
        self.status(Status::Busy)
    }

    /// Tells the conversation that the server goes down.
    pub fn drain<C: Conversation>(&mut self, talk: &mut C, scratch: &mut Scratch<C::Fact>, now: Moment) {
        if matches!(self.phase, Phase::Open) {
            talk.draining(now, &mut scratch.out);
            self.absorb(scratch);
        } else if matches!(self.phase, Phase::Handshake { .. }) {
            self.phase = Phase::Over;
        }
    }

    fn status(&self, otherwise: Status) -> Status {
        match self.phase {
            Phase::Over => Status::Over,
            Phase::Lingering { .. } => Status::Lingering,
            _ => otherwise,
        }
    }

    /// Acts on whichever deadline has passed.
    fn keep_time<C: Conversation>(&mut self, talk: &mut C, scratch: &mut Scratch<C::Fact>, now: Moment) {
        match self.phase {
            Phase::Handshake { until } if until <= now && self.tls.is_some() => {
                let end = End::Broken(Error::new(Exit::TryAgain, "the TLS handshake did not end in time"));
                self.break_off(talk, scratch, end, now);
            }
            Phase::Lingering { until, .. } if until <= now => self.phase = Phase::Over,
            Phase::Open | Phase::Closing if self.stall.is_some_and(|stall| stall.until <= now) => {
                let end = End::Broken(Error::new(Exit::TryAgain, "the peer stopped reading"));
                self.break_off(talk, scratch, end, now);
            }
            Phase::Open if talk.wake_at().is_some_and(|at| at <= now) => {
                talk.woken(now, &mut scratch.out);
                self.absorb(scratch);
            }
            _ => {}
        }
    }

    fn step<C: Conversation>(&mut self, talk: &mut C, scratch: &mut Scratch<C::Fact>, now: Moment) -> Result<Progress> {
        match self.phase {
            Phase::Over => Ok(Progress::None),
            Phase::Handshake { .. } => self.shake(talk, scratch, now),
            Phase::Lingering { .. } => Ok(self.linger(scratch)),
            Phase::Open | Phase::Closing => {
                let flushed = self.flush(scratch, now)?;
                if flushed && std::mem::take(&mut self.owes_sent) {
                    self.offer = true;
                    scratch.out.set_gone(std::mem::take(&mut self.gone));
                    // Read again: an answer that is made and sent within one turn still took time.
                    talk.sent(fresh(), &mut scratch.out);
                    self.absorb(scratch);
                    return Ok(Progress::Made);
                }
                if matches!(self.phase, Phase::Closing) {
                    return if flushed { Ok(self.say_goodbye(now)) } else { Ok(Progress::None) };
                }
                if !flushed && !C::FULL_DUPLEX {
                    return Ok(Progress::None);
                }
                self.listen(talk, scratch, now)
            }
        }
    }

    /// Drives the handshake, if there is one, and opens the conversation.
    fn shake<C: Conversation>(
        &mut self,
        talk: &mut C,
        scratch: &mut Scratch<C::Fact>,
        now: Moment,
    ) -> Result<Progress> {
        if self.tls.as_ref().is_some_and(|tls| tls.is_handshaking()) {
            let wrote = self.write_tls()?;
            if !self.tls.as_ref().is_some_and(|tls| tls.is_handshaking()) {
                return Ok(Progress::Made);
            }
            return match self.read_tls()? {
                Heard::Octets => Ok(Progress::Made),
                Heard::Nothing if wrote => Ok(Progress::Made),
                Heard::Nothing => Ok(Progress::None),
                Heard::End => Err(Error::new(Exit::TryAgain, "the connection closed within the TLS handshake")
                    .expected("a TLS server on this port")),
            };
        }
        self.phase = Phase::Open;
        talk.opened(fresh(), &mut scratch.out);
        self.absorb(scratch);
        Ok(Progress::Made)
    }

    /// Offers what is there, then reads more.
    fn listen<C: Conversation>(
        &mut self,
        talk: &mut C,
        scratch: &mut Scratch<C::Fact>,
        now: Moment,
    ) -> Result<Progress> {
        if std::mem::take(&mut self.offer) && !self.inbox.is_empty() {
            let taken = talk.received(&self.inbox, fresh(), &mut scratch.out).min(self.inbox.len());
            self.inbox.drain(..taken);
            if self.inbox.is_empty() {
                self.inbox = Vec::new();
            }
            return Ok(self.heard_out(taken, scratch));
        }
        if self.heard_end {
            return Ok(Progress::None);
        }
        let kept = self.inbox.len();
        let Some(room) = scratch.read.get_mut(kept..).filter(|room| !room.is_empty()) else {
            return Err(Error::new(Exit::Protocol, "the peer sends more than can be kept"));
        };
        let length = match self.read(room)? {
            Read::Octets(length) => length,
            Read::Nothing => return Ok(Progress::None),
            Read::End(end) => {
                self.heard_end = true;
                scratch.out.set_gone(self.gone);
                talk.ended(&end, fresh(), &mut scratch.out);
                self.absorb(scratch);
                return Ok(Progress::Made);
            }
        };
        // The tail goes in front, so that the conversation sees one run of octets.
        if let Some(front) = scratch.read.get_mut(..kept) {
            front.copy_from_slice(&self.inbox);
        }
        let all = scratch.read.get(..kept + length).unwrap_or_default();
        let taken = talk.received(all, fresh(), &mut scratch.out).min(all.len());
        self.inbox.clear();
        self.inbox.extend_from_slice(all.get(taken..).unwrap_or_default());
        if self.inbox.is_empty() {
            self.inbox = Vec::new();
        }
        let _ = self.heard_out(taken, scratch);
        Ok(Progress::Made)
    }

    fn heard_out<F>(&mut self, taken: usize, scratch: &mut Scratch<F>) -> Progress {
        self.offer = taken > 0;
        let acted = !scratch.out.is_empty();
        self.absorb(scratch);
        if taken > 0 || acted { Progress::Made } else { Progress::None }
    }

    /// Takes over what the conversation wants done. What can be sent at once never gets copied.
    fn absorb<F>(&mut self, scratch: &mut Scratch<F>) {
        let (steps, bytes) = scratch.out.steps();
        let mut at = 0;
        let mut upcoming = steps.drain(..).peekable();
        while let Some(step) = upcoming.next() {
            self.owes_sent = true;
            match step {
                Step::Bytes(length) => {
                    let piece = bytes.get(at..at + length).unwrap_or_default();
                    at += length;
                    let more = matches!(upcoming.peek(), Some(Step::File { .. }));
                    let sent = if self.queue.is_empty() { self.send_now(piece, more) } else { 0 };
                    self.gone += sent as u64;
                    if let Some(rest) = piece.get(sent..).filter(|rest| !rest.is_empty()) {
                        self.queue.push_back(Rest::Bytes { bytes: rest.to_owned(), sent: 0 });
                    }
                }
                Step::File { file, offset, length } => self.queue.push_back(Rest::File { file, offset, left: length }),
                Step::Close => self.queue.push_back(Rest::Close),
                Step::Reset => {
                    // Zero linger makes the kernel drop what is queued and send RST.
                    let _ = self.socket.set_linger(Some(Duration::ZERO));
                    self.phase = Phase::Over;
                }
            }
        }
        drop(upcoming);
        bytes.clear();
    }

    /// Sends without queueing; an error shows again when the rest is flushed.
    fn send_now(&mut self, bytes: &[u8], more: bool) -> usize {
        match &mut self.tls {
            Some(tls) => tls.writer().write(bytes).unwrap_or(0),
            None if !self.can_write => 0,
            None => self.send(bytes, more).unwrap_or(0),
        }
    }

    fn send(&mut self, bytes: &[u8], more: bool) -> Result<usize, Errno> {
        let flags = if more { SendFlags::NOSIGNAL | SendFlags::MORE } else { SendFlags::NOSIGNAL };
        match retry_on_intr(|| send(&self.socket, bytes, flags)) {
            Ok(sent) => Ok(sent),
            Err(Errno::AGAIN) => {
                self.can_write = false;
                Ok(0)
            }
            Err(error) => Err(error),
        }
    }

    /// Sends what is queued; `true` once nothing is left.
    fn flush<F>(&mut self, scratch: &mut Scratch<F>, now: Moment) -> Result<bool> {
        let mut progress = 0;
        let done = loop {
            if self.tls.is_some() {
                self.write_tls()?;
                if self.tls.as_ref().is_some_and(|tls| tls.wants_write()) {
                    break false;
                }
            }
            match self.queue.front() {
                None => break true,
                Some(Rest::Close) => {
                    self.queue.clear();
                    self.phase = Phase::Closing;
                }
                Some(_) if !self.can_write => break false,
                Some(_) => progress += self.flush_front(scratch)?,
            }
        };
        self.gone += progress;
        self.watch_stall(done, progress, now);
        Ok(done)
    }

    fn flush_front<F>(&mut self, scratch: &mut Scratch<F>) -> Result<u64> {
        let Some(mut front) = self.queue.pop_front() else { return Ok(0) };
        let moved = match &mut front {
            Rest::Bytes { bytes, sent } => {
                let rest = bytes.get(*sent..).unwrap_or_default();
                let moved = match &mut self.tls {
                    Some(tls) => tls.writer().write(rest).map_err(|error| broken(&error))?,
                    None => self.send(rest, false).map_err(|errno| broken(&errno.into()))?,
                };
                *sent += moved;
                if *sent < bytes.len() {
                    self.queue.push_front(front);
                }
                moved
            }
            Rest::File { file, offset, left } => {
                let moved = self.send_slice(file, offset, *left, scratch)?;
                *left -= moved as u64;
                if *left > 0 {
                    self.queue.push_front(front);
                }
                moved
            }
            Rest::Close => 0,
        };
        Ok(moved as u64)
    }

    /// Sends a slice of a file: by `sendfile` in clear, through a buffer under TLS. A file that
    /// has become shorter ends the connection: the peer was promised more, and must not take
    /// padding for content.
    fn send_slice<F>(&mut self, file: &File, offset: &mut u64, left: u64, scratch: &mut Scratch<F>) -> Result<usize> {
        let most = |limit: usize| usize::try_from(left).unwrap_or(usize::MAX).min(limit);
        let moved = if let Some(tls) = &mut self.tls {
            let buffer = scratch.read.get_mut(..most(TLS_SLICE)).unwrap_or_default();
            let read =
                std::os::unix::fs::FileExt::read_at(file, buffer, *offset).map_err(|error| unreadable(&error))?;
            let written = tls.writer().write(buffer.get(..read).unwrap_or_default()).map_err(|error| broken(&error))?;
            *offset += written as u64;
            if read == 0 { None } else { Some(written) }
        } else {
            match retry_on_intr(|| sendfile(&self.socket, file, Some(&mut *offset), most(FILE_SLICE))) {
                Ok(0) => None,
                Ok(sent) => Some(sent),
                Err(Errno::AGAIN) => {
                    self.can_write = false;
                    Some(0)
                }
                Err(Errno::IO | Errno::OVERFLOW) => return Err(unreadable(&Errno::IO.into())),
                Err(errno) => return Err(broken(&errno.into())),
            }
        };
        moved.ok_or_else(|| Error::new(Exit::InputOutput, "the file became shorter while it was sent"))
    }

    /// A queue may be slow but not still: each stall limit has to see some progress.
    fn watch_stall(&mut self, done: bool, progress: u64, now: Moment) {
        if done {
            self.stall = None;
            return;
        }
        let until = now + self.patience.stall;
        let stall = self.stall.get_or_insert(Stall { until, progress: 0 });
        stall.progress += progress;
        if stall.progress >= LEAST_PROGRESS {
            *stall = Stall { until, progress: 0 };
        }
    }

    fn read(&mut self, room: &mut [u8]) -> Result<Read> {
        if self.tls.is_none() {
            if !self.can_read {
                return Ok(Read::Nothing);
            }
            return match retry_on_intr(|| rustix::io::read(&self.socket, &mut *room)) {
                Ok(0) => Ok(Read::End(End::Finished)),
                Ok(length) => {
                    // A short read has emptied the socket; asking again would only say so.
                    self.can_read = length == room.len();
                    Ok(Read::Octets(length))
                }
                Err(Errno::AGAIN) => {
                    self.can_read = false;
                    Ok(Read::Nothing)
                }
                Err(errno) => Err(broken(&errno.into())),
            };
        }
        loop {
            let Some(tls) = &mut self.tls else { return Ok(Read::Nothing) };
            match tls.reader().read(room) {
                Ok(0) => return Ok(Read::End(End::Finished)),
                Ok(length) => return Ok(Read::Octets(length)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Read::End(End::Cut)),
                Err(error) => return Err(broken(&error)),
            }
            match self.read_tls()? {
                Heard::Octets => {}
                Heard::Nothing => return Ok(Read::Nothing),
                // The reader knows whether the end was announced; ask it once more.
                Heard::End => {
                    let Some(tls) = &mut self.tls else { return Ok(Read::End(End::Cut)) };
                    return match tls.reader().read(room) {
                        Ok(0) => Ok(Read::End(End::Finished)),
                        Ok(length) => Ok(Read::Octets(length)),
                        Err(_) => Ok(Read::End(End::Cut)),
                    };
                }
            }
        }
    }

    fn read_tls(&mut self) -> Result<Heard> {
        let Some(tls) = &mut self.tls else { return Ok(Heard::Nothing) };
        if !self.can_read {
            return Ok(Heard::Nothing);
        }
        match tls.read_tls(&mut &self.socket) {
            Ok(0) => Ok(Heard::End),
            Ok(_) => match tls.process_new_packets() {
                Ok(_) => Ok(Heard::Octets),
                Err(error) => {
                    // Tell the peer why, if it still listens (RFC 8446 §6.2).
                    let _ = tls.write_tls(&mut &self.socket);
                    Err(tls::fault(error))
                }
            },
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.can_read = false;
                Ok(Heard::Nothing)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Heard::Octets),
            Err(error) => Err(broken(&error)),
        }
    }

    /// Hands encrypted octets to the socket; whether any went.
    fn write_tls(&mut self) -> Result<bool> {
        let mut wrote = false;
        while let Some(tls) = self.tls.as_mut().filter(|tls| self.can_write && tls.wants_write()) {
            match tls.write_tls(&mut &self.socket) {
                Ok(_) => wrote = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.can_write = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(broken(&error)),
            }
        }
        Ok(wrote)
    }

    /// Sends the end: `close_notify` under TLS, then FIN.
    fn say_goodbye(&mut self, now: Moment) -> Progress {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            let _ = self.write_tls();
        }
        self.stall = None;
        let shut = self.socket.shutdown(Shutdown::Write);
        self.phase = if shut.is_err() || self.heard_end {
            Phase::Over
        } else {
            Phase::Lingering { until: now + LINGER, left: LINGER_OCTETS }
        };
        Progress::Made
    }

    /// Reads and throws away, until the peer has ended too.
    fn linger<F>(&mut self, scratch: &mut Scratch<F>) -> Progress {
        let Phase::Lingering { left, .. } = &mut self.phase else { return Progress::None };
        if !self.can_read {
            return Progress::None;
        }
        match retry_on_intr(|| rustix::io::read(&self.socket, &mut *scratch.read)) {
            Ok(length) if length > 0 && length < *left => {
                *left -= length;
                Progress::Made
            }
            Err(Errno::AGAIN) => {
                self.can_read = false;
                Progress::None
            }
            _ => {
                self.phase = Phase::Over;
                Progress::Made
            }
        }
    }

    fn break_off<C: Conversation>(&mut self, talk: &mut C, scratch: &mut Scratch<C::Fact>, end: End, now: Moment) {
        self.phase = Phase::Over;
        self.queue.clear();
        scratch.out.set_gone(self.gone);
        talk.ended(&end, now, &mut scratch.out);
        // Whatever it still wants to say, there is nobody to say it to.
        let (steps, bytes) = scratch.out.steps();
        steps.clear();
        bytes.clear();
    }
}

enum Read {
    Octets(usize),
    Nothing,
    End(End),
}

enum Heard {
    Octets,
    Nothing,
    End,
}

fn broken(error: &io::Error) -> Error {
    Error::new(Exit::TryAgain, format!("the connection broke: {}", word(error)))
}

fn unreadable(error: &io::Error) -> Error {
    Error::new(Exit::InputOutput, format!("the file cannot be read: {}", word(error)))
}
