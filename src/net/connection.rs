//! State machine between a socket and its protocol. Owns the phases of a connection and three timeouts: TLS handshake,
//! stalled peer, lingering close. STARTTLS returns to `Handshake`. Both loops mark readiness, call [`Connection::turn`] and wait.
//!
//! ```text
//!   Handshake ──▶ Open ──▶ Lingering ──▶ Closed
//!       └──────────┴── error, stall, reset ─▲
//! ```

use std::os::fd::BorrowedFd;
use std::time::Duration;

use socket2::Socket;

use super::clock;
use super::recv_buffer::{ReceiveBuffer, Scratch};
use super::send_queue::{Flush, SendQueue};
use super::stream::{HandshakeStatus, ReadOutcome, Stream};
use super::timers::ConnectionTimeouts;
use super::tls::{self, PendingStartTls, StartTls};
use crate::failure::{Failure, FailureKind, Result};
use crate::protocol::{CloseReason, StreamProtocol};
use crate::time::Moment;

const MAX_STEPS_PER_TURN: usize = 32;
/// Limits of a lingering close: the wait for the peer's FIN, and the bytes read and discarded meanwhile.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
const MAX_LINGER_BYTES: usize = 256 * 1024 * 1024;

/// Connection with its queues. An idle one owns no buffer.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Stream,
    send_queue: SendQueue,
    phase: Phase,
    receive_buffer: ReceiveBuffer,
    eof_received: bool,
    /// Send failure, held back until the peer's last bytes have been read.
    send_error: Option<Box<Failure>>,
    start_tls: Option<Box<PendingStartTls>>,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Handshake { deadline: Moment },
    Open,
    Lingering { deadline: Moment, remaining: usize },
    Closed,
}

/// State of a connection after its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// Blocked until the socket is ready or the wake-up time is reached.
    Waiting,
    /// Ready for another turn, after the other connections.
    Busy,
    /// Everything was sent; waiting for the peer's FIN.
    Lingering,
    Closed,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum StepOutcome {
    Progress,
    Blocked,
    /// More can be done, after the other connections.
    Yield,
}

impl Connection {
    /// Creates a connection over a connected, non-blocking socket.
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

    /// Allows the protocol to start TLS later (STARTTLS).
    #[must_use]
    pub(crate) fn with_start_tls(mut self, tls: StartTls, handshake_timeout: Duration) -> Self {
        self.start_tls = Some(Box::new(PendingStartTls { tls, handshake_timeout }));
        self
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.stream.fd()
    }

    pub(crate) fn set_readable(&mut self) {
        self.stream.set_readable();
    }

    /// Records that the peer has shut down its sending side; bytes it sent earlier are still read.
    pub(crate) fn set_read_closed(&mut self) {
        self.stream.set_read_closed();
    }

    pub(crate) fn set_writable(&mut self) {
        self.stream.set_writable();
    }

    /// Returns whether to wait for readability and for writability (level-triggered loops).
    pub(crate) fn interest(&self) -> (bool, bool) {
        let (read_blocked, write_blocked) = self.stream.would_block();
        (read_blocked && !self.eof_received, write_blocked)
    }

    pub(crate) fn tls(&self) -> Option<&rustls::Connection> {
        self.stream.tls()
    }

    /// Returns the earliest deadline of the connection and its protocol.
    pub(crate) fn wake_at(&self, protocol: &impl StreamProtocol) -> Option<Moment> {
        match self.phase {
            Phase::Handshake { deadline } => protocol.handshake_wake_at().into_iter().chain([deadline]).min(),
            Phase::Lingering { deadline, .. } => Some(deadline),
            Phase::Open => self.send_queue.stall_deadline().into_iter().chain(protocol.wake_at()).min(),
            Phase::Closed => None,
        }
    }

    /// Does what is possible without blocking, in at most `MAX_STEPS_PER_TURN` steps.
    pub(crate) fn turn<C: StreamProtocol>(
        &mut self,
        protocol: &mut C,
        scratch: &mut Scratch<C::Event>,
        now: Moment,
    ) -> Status {
        let mut step = self.check_deadlines(protocol, scratch, now);
        for _ in 0..MAX_STEPS_PER_TURN {
            match step {
                Ok(StepOutcome::Progress) => {}
                Ok(StepOutcome::Blocked) => return self.status(Status::Waiting),
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

    /// Asks the protocol to finish: the server is shutting down.
    pub(crate) fn drain<C: StreamProtocol>(&mut self, protocol: &mut C, scratch: &mut Scratch<C::Event>, now: Moment) {
        match self.phase {
            Phase::Handshake { .. } => self.phase = Phase::Closed,
            Phase::Open => {
                // Nothing was exchanged, so there is no sent data that an RST could discard: do not linger.
                self.eof_received |= self.receive_buffer.is_empty() && self.send_queue.is_unused();
                protocol.draining(now, &mut scratch.actions);
                if let Err(error) = self.apply_actions(scratch) {
                    self.fail(protocol, scratch, error);
                }
            }
            Phase::Lingering { .. } | Phase::Closed => {}
        }
    }

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

    /// Ends an open connection at once: the server's drain timeout has passed.
    pub(crate) fn abort<C: StreamProtocol>(&mut self, protocol: &mut C, scratch: &mut Scratch<C::Event>) {
        if matches!(self.phase, Phase::Open) {
            self.fail(protocol, scratch, Failure::new(FailureKind::ConnectionLost, "the server stopped"));
        }
    }

    fn status(&self, if_open: Status) -> Status {
        match self.phase {
            Phase::Closed => Status::Closed,
            Phase::Lingering { .. } => Status::Lingering,
            Phase::Handshake { .. } | Phase::Open => if_open,
        }
    }

    /// Handles a deadline that has passed. A stall is detected when the queue is flushed.
    fn check_deadlines<C: StreamProtocol>(
        &mut self,
        protocol: &mut C,
        scratch: &mut Scratch<C::Event>,
        now: Moment,
    ) -> Result<StepOutcome> {
        match self.phase {
            Phase::Handshake { deadline } if deadline <= now => {
                return Err(Failure::new(FailureKind::TimedOut, "the TLS handshake timed out"));
            }
            Phase::Handshake { .. } if protocol.handshake_wake_at().is_some_and(|at| at <= now) => {
                protocol.handshake_woken(now, &mut scratch.actions);
            }
            Phase::Lingering { deadline, .. } if deadline <= now => self.phase = Phase::Closed,
            // The kernel reports writability only once a third of its buffer is free: try before counting a stall.
            Phase::Open if self.send_queue.stall_deadline().is_some_and(|at| at <= now) => self.stream.set_writable(),
            Phase::Open if protocol.wake_at().is_some_and(|at| at <= now) => {
                self.receive_buffer.mark_changed();
                protocol.woken(now, &mut scratch.actions);
                self.apply_actions(scratch)?;
            }
            _ => {}
        }
        Ok(StepOutcome::Progress)
    }

    fn step<C: StreamProtocol>(
        &mut self,
        protocol: &mut C,
        scratch: &mut Scratch<C::Event>,
        now: Moment,
    ) -> Result<StepOutcome> {
        match self.phase {
            Phase::Closed => Ok(StepOutcome::Blocked),
            Phase::Handshake { .. } => match self.stream.handshake()? {
                HandshakeStatus::InProgress => Ok(StepOutcome::Progress),
                HandshakeStatus::Waiting => Ok(StepOutcome::Blocked),
                HandshakeStatus::PlainText => {
                    if protocol.opened_in_clear(now, &mut scratch.actions) {
                        self.stream.leave_tls();
                        self.phase = Phase::Open;
                    }
                    self.apply_actions(scratch)
                }
                HandshakeStatus::Complete => {
                    self.phase = Phase::Open;
                    protocol.opened(self.stream.tls().and_then(tls::version), clock::now(), &mut scratch.actions);
                    self.apply_actions(scratch)
                }
            },
            Phase::Lingering { remaining, .. } => Ok(self.linger(remaining, scratch)),
            Phase::Open => match self.flush::<C>(scratch, now)? {
                Flush::Complete if self.send_queue.take_unreported() => self.report_sent(protocol, scratch),
                Flush::StartTls => self.begin_tls(now),
                Flush::Close => {
                    self.report_sent(protocol, scratch)?;
                    self.begin_lingering_close(now);
                    Ok(StepOutcome::Progress)
                }
                Flush::Blocked if !C::FULL_DUPLEX => Ok(StepOutcome::Blocked),
                Flush::Complete if protocol.is_paused() => Ok(StepOutcome::Blocked),
                Flush::BudgetSpent => Ok(StepOutcome::Yield),
                Flush::Stalled => Err(Failure::new(FailureKind::TimedOut, "the peer stopped reading")),
                Flush::Blocked => {
                    protocol.partly_sent(self.send_queue.bytes_sent(), &mut scratch.actions);
                    self.receive(protocol, scratch)
                }
                Flush::Complete => self.receive(protocol, scratch),
            },
        }
    }

    /// Sends what the kernel accepts. After a send failure a full-duplex protocol still reads: a response that
    /// explains the failure may have arrived already (RFC 9112 §9.5).
    fn flush<C: StreamProtocol>(&mut self, scratch: &mut Scratch<C::Event>, now: Moment) -> Result<Flush> {
        match self.send_queue.flush(&mut self.stream, &mut scratch.read_buffer, now) {
            Err(error) if C::FULL_DUPLEX && !self.eof_received && self.send_queue.discard() => {
                self.send_error = Some(Box::new(error));
                self.stream.set_readable();
                Ok(Flush::Blocked)
            }
            flush => flush,
        }
    }

    fn report_sent<C: StreamProtocol>(
        &mut self,
        protocol: &mut C,
        scratch: &mut Scratch<C::Event>,
    ) -> Result<StepOutcome> {
        self.receive_buffer.mark_changed();
        scratch.actions.set_bytes_sent(self.send_queue.take_bytes_sent());
        // The clock is read again: making and sending a response within one turn still took time.
        protocol.sent(clock::now(), &mut scratch.actions);
        self.apply_actions(scratch)
    }

    /// Passes kept bytes to the protocol if something changed, else reads more.
    fn receive<C: StreamProtocol>(&mut self, protocol: &mut C, scratch: &mut Scratch<C::Event>) -> Result<StepOutcome> {
        let kept = self.receive_buffer.len();
        if !self.receive_buffer.take_changed() {
            if self.eof_received {
                return Ok(StepOutcome::Blocked);
            }
            let Some(free) = scratch.read_buffer.get_mut(kept..).filter(|free| !free.is_empty()) else {
                return Err(Failure::new(
                    FailureKind::Protocol,
                    "the peer sent more data than the receive buffer holds",
                ));
            };
            match self.stream.read(free)? {
                ReadOutcome::WouldBlock => return Ok(StepOutcome::Blocked),
                ReadOutcome::Closed(CloseReason::Finished) if self.send_error.is_some() => {
                    return self.send_error.take().map_or(Ok(StepOutcome::Blocked), |error| Err(*error));
                }
                ReadOutcome::Closed(reason) => return self.deliver_eof(&reason, protocol, scratch),
                ReadOutcome::Bytes(length) => return self.deliver(kept + length, protocol, scratch),
            }
        }
        self.deliver(kept, protocol, scratch)
    }

    /// Passes `length` bytes to the protocol: the kept ones, followed by those just read.
    fn deliver<C: StreamProtocol>(
        &mut self,
        length: usize,
        protocol: &mut C,
        scratch: &mut Scratch<C::Event>,
    ) -> Result<StepOutcome> {
        let received = self.receive_buffer.prepend_to(&mut scratch.read_buffer, length);
        let consumed = protocol.received(received, clock::now(), &mut scratch.actions).min(received.len());
        self.receive_buffer.keep_unconsumed(received, consumed);
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

    fn apply_actions<F>(&mut self, scratch: &mut Scratch<F>) -> Result<StepOutcome> {
        if !self.send_queue.enqueue(&mut scratch.actions, &mut self.stream)? {
            self.stream.reset_on_close();
            self.phase = Phase::Closed;
        }
        Ok(StepOutcome::Progress)
    }

    /// Starts TLS. Plaintext left unread must not be processed after the handshake (CVE-2011-0411).
    fn begin_tls(&mut self, now: Moment) -> Result<StepOutcome> {
        let pending = self.start_tls.take().filter(|_| self.receive_buffer.is_empty());
        let Some(PendingStartTls { tls, handshake_timeout }) = pending.map(|pending| *pending) else {
            return Err(Failure::new(FailureKind::Protocol, "cannot start TLS: unencrypted data was left unread"));
        };
        self.stream.start_tls(tls.into_connection());
        self.phase = Phase::Handshake { deadline: now + handshake_timeout };
        Ok(StepOutcome::Progress)
    }

    fn begin_lingering_close(&mut self, now: Moment) {
        self.phase = Phase::Closed;
        if self.stream.shutdown_write() && !self.eof_received {
            self.phase = Phase::Lingering { deadline: now + LINGER_TIMEOUT, remaining: MAX_LINGER_BYTES };
        }
    }

    /// Reads and discards until the peer closes too: closing at once would answer its last bytes with an
    /// RST, which can make the peer lose the end of the response (RFC 9112 §9.6). Limited by `remaining` bytes.
    fn linger<F>(&mut self, remaining: usize, scratch: &mut Scratch<F>) -> StepOutcome {
        match (self.stream.discard(&mut scratch.read_buffer), &mut self.phase) {
            (Some(0), _) => return StepOutcome::Blocked,
            (Some(length), Phase::Lingering { remaining: left, .. }) if length < remaining => *left -= length,
            (_, phase) => *phase = Phase::Closed,
        }
        StepOutcome::Progress
    }

    fn fail<C: StreamProtocol>(&mut self, protocol: &mut C, scratch: &mut Scratch<C::Event>, error: Failure) {
        self.phase = Phase::Closed;
        if error.kind() != FailureKind::ReadWrite && self.send_queue.discard() {
            // The kernel would keep what the peer does not read.
            self.stream.reset_on_close();
        }
        scratch.actions.set_bytes_sent(self.send_queue.bytes_sent());
        protocol.ended(&CloseReason::Broken(error), clock::now(), &mut scratch.actions);
        // The connection is closed: drop what the protocol queued in reply.
        let (actions, bytes) = scratch.actions.queued();
        actions.clear();
        bytes.clear();
    }
}
