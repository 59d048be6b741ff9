//! One stream connection and the conversation on it.
//!
//! Owns the order of a connection's life: handshake, octets in, steps out, half-closes, lingering,
//! and the three waits that only it can see: a handshake that never ends, a peer that never
//! reads, a close that is never answered. Both loops drive it the same way: say what is ready,
//! take a [`turn`](Link::turn), ask when to come back.
//!
//! ```text
//!   Handshake ──▶ Open ──▶ Lingering ──▶ Over
//!       └──────────┴── error, stall, reset ─▲
//! ```

use std::os::fd::BorrowedFd;
use std::time::Duration;

use socket2::Socket;

use super::clock;
use super::recv_buffer::ReceiveBuffer;
use super::send_queue::{Flush, SendQueue};
use super::stream::{HandshakeStatus, ReadOutcome, Stream};
use super::tls;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::protocol::{Actions, CloseReason, StreamProtocol};
use crate::time::Moment;

/// The thread's read buffer, and so the most a conversation may leave untaken.
const READ_BUFFER_SIZE: usize = 128 * 1024;
/// Steps before the other connections have their turn.
const MAX_STEPS_PER_TURN: usize = 32;
/// How long to wait for the peer's FIN after ours, and how much of what it still sends to read.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
const MAX_LINGER_BYTES: usize = 256 * 1024 * 1024;

/// How long a link waits for what only it can see.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionTimeouts {
    /// For a TLS handshake, all of it.
    pub handshake: Duration,
    /// For the peer to take something of what is queued.
    pub stall: Duration,
}

/// Buffers that belong to the thread, lent to whichever link has its turn.
pub(crate) struct Scratch<F> {
    read_buffer: Box<[u8]>,
    pub(super) actions: Actions<F>,
}

impl<F> Default for Scratch<F> {
    fn default() -> Self {
        Self { read_buffer: vec![0; READ_BUFFER_SIZE].into_boxed_slice(), actions: Actions::default() }
    }
}

/// A connection. Idle, it owns no buffer.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Stream,
    send_queue: SendQueue,
    phase: Phase,
    receive_buffer: ReceiveBuffer,
    eof_received: bool,
    /// Why the peer stopped listening before it had heard everything.
    send_error: Option<Box<Error>>,
    /// The TLS session that the conversation may begin.
    start_tls: Option<Box<PendingStartTls>>,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Handshake { deadline: Moment },
    Open,
    Lingering { deadline: Moment, remaining: usize },
    Closed,
}

/// What a link wants after its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// Wait until the socket is ready or the moment has come.
    Waiting,
    /// Another turn, after the others had theirs.
    Busy,
    /// All is said; only the peer's FIN is awaited.
    Lingering,
    /// The connection is gone.
    Closed,
}

/// Whether a step led anywhere.
#[derive(Clone, Copy, PartialEq, Eq)]
enum StepOutcome {
    Made,
    None,
    /// It leads on, after the others had their turn.
    Yield,
}

impl Connection {
    /// A connection that stands, `socket` being non-blocking.
    pub(crate) fn new(
        socket: Socket,
        tls: Option<rustls::Connection>,
        timeouts: ConnectionTimeouts,
        now: Moment,
    ) -> Self {
        Self {
            stream: Stream::new(socket, tls),
            send_queue: SendQueue::new(timeouts.stall),
            phase: Phase::Handshake { deadline: now + timeouts.handshake },
            receive_buffer: ReceiveBuffer::default(),
            eof_received: false,
            send_error: None,
            start_tls: None,
        }
    }

    /// Lets the conversation begin this TLS session, whose handshake may take so long.
    #[must_use]
    pub(crate) fn with_start_tls(mut self, tls: StartTls, handshake_timeout: Duration) -> Self {
        self.start_tls = Some(Box::new(PendingStartTls { tls, handshake_timeout }));
        self
    }

    /// The descriptor to wait for.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.stream.fd()
    }

    /// The socket has something to read, or its end.
    pub(crate) fn set_readable(&mut self) {
        self.stream.set_readable();
    }

    /// The peer has ended its side; what it sent before is still to be read.
    pub(crate) fn set_read_closed(&mut self) {
        self.stream.set_read_closed();
    }

    /// The socket takes octets again.
    pub(crate) fn set_writable(&mut self) {
        self.stream.set_writable();
    }

    /// Whether to wait for reading and for writing; for a loop that is told levels, not edges.
    pub(crate) fn interest(&self) -> (bool, bool) {
        let (dry, full) = self.stream.would_block();
        (dry && !self.eof_received, full)
    }

    /// The TLS session, if there is one.
    pub(crate) fn tls(&self) -> Option<&rustls::Connection> {
        self.stream.tls()
    }

    /// When the link or its conversation wants to be woken.
    pub(crate) fn wake_at(&self, protocol: &impl StreamProtocol) -> Option<Moment> {
        match self.phase {
            Phase::Handshake { deadline: until } | Phase::Lingering { deadline: until, .. } => Some(until),
            Phase::Open => self.send_queue.stall_deadline().into_iter().chain(protocol.wake_at()).min(),
            Phase::Closed => None,
        }
    }

    /// Does what can be done without waiting.
    pub(crate) fn turn<C: StreamProtocol>(
        &mut self,
        protocol: &mut C,
        scratch: &mut Scratch<C::Event>,
        now: Moment,
    ) -> Status {
        let mut step = self.check_deadlines(protocol, scratch, now);
        for _ in 0..MAX_STEPS_PER_TURN {
            match step {
                Ok(StepOutcome::Made) => {}
                Ok(StepOutcome::None) => return self.status(Status::Waiting),
                Ok(StepOutcome::Yield) => return self.status(Status::Busy),
                Err(error) => self.fail(protocol, scratch, error),
            }
            if matches!(self.phase, Phase::Closed) {
                return Status::Closed;
            }
            step = self.step(protocol, scratch, now);
        }
        if matches!(self.phase, Phase::Closed) { Status::Closed } else { Status::Busy }
    }

    /// Tells the conversation that the server goes down.
    pub(crate) fn drain<C: StreamProtocol>(&mut self, protocol: &mut C, scratch: &mut Scratch<C::Event>, now: Moment) {
        match self.phase {
            Phase::Handshake { .. } => self.phase = Phase::Closed,
            Phase::Open => {
                // Nothing was ever said: there are no last words that an RST could overtake.
                self.eof_received |= self.receive_buffer.is_empty() && self.send_queue.is_unused();
                protocol.draining(now, &mut scratch.actions);
                if let Err(error) = self.apply_actions(scratch) {
                    self.fail(protocol, scratch, error);
                }
            }
            Phase::Lingering { .. } | Phase::Closed => {}
        }
    }

    /// Tells the conversation that its job is done.
    pub(crate) fn job_done<C: StreamProtocol>(
        &mut self,
        protocol: &mut C,
        scratch: &mut Scratch<C::Event>,
        now: Moment,
    ) {
        if matches!(self.phase, Phase::Open) {
            self.receive_buffer.mark_changed();
            protocol.job_done(now, &mut scratch.actions);
            if let Err(error) = self.apply_actions(scratch) {
                self.fail(protocol, scratch, error);
            }
        }
    }

    /// Breaks off: the server does not wait any longer.
    pub(crate) fn abort<C: StreamProtocol>(&mut self, protocol: &mut C, scratch: &mut Scratch<C::Event>) {
        if matches!(self.phase, Phase::Open) {
            self.fail(protocol, scratch, Error::new(Exit::TemporaryFailure, "the server stopped"));
        }
    }

    fn status(&self, if_open: Status) -> Status {
        match self.phase {
            Phase::Closed => Status::Closed,
            Phase::Lingering { .. } => Status::Lingering,
            Phase::Handshake { .. } | Phase::Open => if_open,
        }
    }

    /// Acts on whichever deadline has passed; a stall shows when the queue is flushed.
    fn check_deadlines<C: StreamProtocol>(
        &mut self,
        protocol: &mut C,
        scratch: &mut Scratch<C::Event>,
        now: Moment,
    ) -> Result<StepOutcome> {
        match self.phase {
            Phase::Handshake { deadline: until } if until <= now => {
                return Err(Error::new(Exit::TemporaryFailure, "the TLS handshake did not end in time"));
            }
            Phase::Lingering { deadline: until, .. } if until <= now => self.phase = Phase::Closed,
            // The kernel says that there is room again only once a third of its buffer is free; a
            // slow but steady reader must not be given up before it was asked.
            Phase::Open if self.send_queue.stall_deadline().is_some_and(|at| at <= now) => self.stream.set_writable(),
            Phase::Open if protocol.wake_at().is_some_and(|at| at <= now) => {
                self.receive_buffer.mark_changed();
                protocol.woken(now, &mut scratch.actions);
                self.apply_actions(scratch)?;
            }
            _ => {}
        }
        Ok(StepOutcome::Made)
    }

    fn step<C: StreamProtocol>(
        &mut self,
        protocol: &mut C,
        scratch: &mut Scratch<C::Event>,
        now: Moment,
    ) -> Result<StepOutcome> {
        match self.phase {
            Phase::Closed => Ok(StepOutcome::None),
            Phase::Handshake { .. } => match self.stream.handshake()? {
                HandshakeStatus::InProgress => Ok(StepOutcome::Made),
                HandshakeStatus::Waiting => Ok(StepOutcome::None),
                HandshakeStatus::Complete => {
                    self.phase = Phase::Open;
                    protocol.opened(self.stream.tls().and_then(tls::version), clock::now(), &mut scratch.actions);
                    self.apply_actions(scratch)
                }
            },
            Phase::Lingering { remaining: left, .. } => Ok(self.linger(left, scratch)),
            Phase::Open => match self.flush::<C>(scratch, now)? {
                Flush::Complete if self.send_queue.take_unreported() => self.report_sent(protocol, scratch),
                Flush::StartTls => self.begin_tls(now),
                Flush::Close => {
                    self.report_sent(protocol, scratch)?;
                    self.begin_lingering_close(now);
                    Ok(StepOutcome::Made)
                }
                Flush::Blocked if !C::FULL_DUPLEX => Ok(StepOutcome::None),
                Flush::Complete if protocol.is_paused() => Ok(StepOutcome::None),
                Flush::BudgetSpent => Ok(StepOutcome::Yield),
                Flush::Stalled => Err(Error::new(Exit::TemporaryFailure, "the peer stopped reading")),
                Flush::Blocked => {
                    protocol.partly_sent(self.send_queue.bytes_sent(), &mut scratch.actions);
                    self.receive(protocol, scratch)
                }
                Flush::Complete => self.receive(protocol, scratch),
            },
        }
    }

    /// Sends what can be sent. A client whose peer has stopped listening still hears it out: the
    /// answer that explains it may be there already (RFC 9112 §9.5).
    fn flush<C: StreamProtocol>(&mut self, scratch: &mut Scratch<C::Event>, now: Moment) -> Result<Flush> {
        match self.send_queue.flush(&mut self.stream, &mut scratch.read_buffer, now) {
            Err(error) if C::FULL_DUPLEX && !self.eof_received && self.send_queue.discard() => {
                self.send_error = Some(Box::new(error));
                self.stream.set_readable();
                Ok(Flush::Blocked)
            }
            flow => flow,
        }
    }

    /// Everything queued is on its way.
    fn report_sent<C: StreamProtocol>(
        &mut self,
        protocol: &mut C,
        scratch: &mut Scratch<C::Event>,
    ) -> Result<StepOutcome> {
        self.receive_buffer.mark_changed();
        scratch.actions.set_bytes_sent(self.send_queue.take_bytes_sent());
        // Read again: an answer that is made and sent within one turn still took time.
        protocol.sent(clock::now(), &mut scratch.actions);
        self.apply_actions(scratch)
    }

    /// Offers what is there, then reads more.
    fn receive<C: StreamProtocol>(&mut self, protocol: &mut C, scratch: &mut Scratch<C::Event>) -> Result<StepOutcome> {
        let kept = self.receive_buffer.len();
        if !self.receive_buffer.take_changed() {
            if self.eof_received {
                return Ok(StepOutcome::None);
            }
            let Some(room) = scratch.read_buffer.get_mut(kept..).filter(|room| !room.is_empty()) else {
                return Err(Error::new(Exit::Protocol, "the peer sends more than can be kept"));
            };
            match self.stream.read(room)? {
                ReadOutcome::WouldBlock => return Ok(StepOutcome::None),
                ReadOutcome::Closed(CloseReason::Finished) if self.send_error.is_some() => {
                    return self.send_error.take().map_or(Ok(StepOutcome::None), |error| Err(*error));
                }
                ReadOutcome::Closed(end) => return self.deliver_eof(&end, protocol, scratch),
                ReadOutcome::Bytes(length) => return self.deliver(kept + length, protocol, scratch),
            }
        }
        self.deliver(kept, protocol, scratch)
    }

    /// Offers `length` octets: what was kept, and what the read buffer has behind it.
    fn deliver<C: StreamProtocol>(
        &mut self,
        length: usize,
        protocol: &mut C,
        scratch: &mut Scratch<C::Event>,
    ) -> Result<StepOutcome> {
        let all = self.receive_buffer.prepend_to(&mut scratch.read_buffer, length);
        let taken = protocol.received(all, clock::now(), &mut scratch.actions).min(all.len());
        self.receive_buffer.keep_unparsed(all, taken);
        self.apply_actions(scratch)
    }

    fn deliver_eof<C: StreamProtocol>(
        &mut self,
        reason: &CloseReason,
        protocol: &mut C,
        scratch: &mut Scratch<C::Event>,
    ) -> Result<StepOutcome> {
        self.eof_received = true;
        scratch.actions.set_bytes_sent(self.send_queue.bytes_sent());
        protocol.ended(reason, clock::now(), &mut scratch.actions);
        self.apply_actions(scratch)
    }

    /// Takes over what the conversation wants sent.
    fn apply_actions<F>(&mut self, scratch: &mut Scratch<F>) -> Result<StepOutcome> {
        if !self.send_queue.enqueue(&mut scratch.actions, &mut self.stream)? {
            self.stream.reset_on_close();
            self.phase = Phase::Closed;
        }
        Ok(StepOutcome::Made)
    }

    /// Begins TLS. What came in clear and was not taken must not be believed after the handshake.
    fn begin_tls(&mut self, now: Moment) -> Result<StepOutcome> {
        let upgrade = self.start_tls.take().filter(|_| self.receive_buffer.is_empty());
        let Some(PendingStartTls { tls, handshake_timeout: handshake }) = upgrade.map(|upgrade| *upgrade) else {
            return Err(Error::new(Exit::Protocol, "TLS cannot begin here: something is left of what came in clear"));
        };
        self.stream.start_tls(tls.into_connection());
        self.phase = Phase::Handshake { deadline: now + handshake };
        Ok(StepOutcome::Made)
    }

    fn begin_lingering_close(&mut self, now: Moment) {
        let finished = self.stream.shutdown_write();
        let linger = Phase::Lingering { deadline: now + LINGER_TIMEOUT, remaining: MAX_LINGER_BYTES };
        self.phase = if finished && !self.eof_received { linger } else { Phase::Closed };
    }

    /// Reads and throws away, until the peer has ended too: closing at once would answer its last
    /// octets with an RST that overtakes our last words (RFC 9112 §9.6).
    fn linger<F>(&mut self, remaining: usize, scratch: &mut Scratch<F>) -> StepOutcome {
        match (self.stream.discard(&mut scratch.read_buffer), &mut self.phase) {
            (Some(0), _) => StepOutcome::None,
            (Some(length), Phase::Lingering { remaining: rest, .. }) if length < remaining => {
                *rest -= length;
                StepOutcome::Made
            }
            (_, phase) => {
                *phase = Phase::Closed;
                StepOutcome::Made
            }
        }
    }

    fn fail<C: StreamProtocol>(&mut self, protocol: &mut C, scratch: &mut Scratch<C::Event>, error: Error) {
        self.phase = Phase::Closed;
        scratch.actions.set_bytes_sent(self.send_queue.bytes_sent());
        protocol.ended(&CloseReason::Broken(error), clock::now(), &mut scratch.actions);
        // Whatever it still wants to say, there is nobody to say it to.
        let (steps, bytes) = scratch.actions.queued();
        steps.clear();
        bytes.clear();
    }
}

/// What is kept.
#[derive(Debug)]
pub(super) struct PendingStartTls {
    /// The session, or what makes one.
    pub tls: StartTls,
    /// How long its handshake may take.
    pub handshake_timeout: Duration,
}

/// A session, or what makes one when it is needed.
#[derive(Debug)]
pub(crate) enum StartTls {
    /// A client's.
    Client(Box<rustls::Connection>),
    /// A server's.
    Server(tls::ServerTls),
}

impl StartTls {
    /// The session.
    pub(crate) fn into_connection(self) -> Box<rustls::Connection> {
        match self {
            Self::Client(session) => session,
            Self::Server(side) => Box::new(side.connection()),
        }
    }
}
