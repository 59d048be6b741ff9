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

use rustls::Connection;
use socket2::Socket;

use super::clock;
use super::inbox::Inbox;
use super::outflow::{Flow, Outflow};
use super::tls;
use super::upgrade::{Later, Upgrade};
use super::wire::{Read, Shake, Wire};
use crate::conversation::{Actions, CloseReason, StreamProtocol};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::time::Moment;

/// The thread's read buffer, and so the most a conversation may leave untaken.
const READ_BUFFER: usize = 128 * 1024;
/// Steps before the other connections have their turn.
const STEPS_PER_TURN: usize = 32;
/// How long to wait for the peer's FIN after ours, and how much of what it still sends to read.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_OCTETS: usize = 256 * 1024 * 1024;

/// How long a link waits for what only it can see.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a TLS handshake, all of it.
    pub handshake: Duration,
    /// For the peer to take something of what is queued.
    pub stall: Duration,
}

/// Buffers that belong to the thread, lent to whichever link has its turn.
pub struct Scratch<F> {
    read: Box<[u8]>,
    pub(super) out: Actions<F>,
}

impl<F> Default for Scratch<F> {
    fn default() -> Self {
        Self { read: vec![0; READ_BUFFER].into_boxed_slice(), out: Actions::default() }
    }
}

/// A connection. Idle, it owns no buffer.
#[derive(Debug)]
pub struct Link {
    wire: Wire,
    outflow: Outflow,
    phase: Phase,
    inbox: Inbox,
    heard_end: bool,
    /// Why the peer stopped listening before it had heard everything.
    unheard: Option<Box<Error>>,
    /// The TLS session that the conversation may begin.
    upgrade: Option<Box<Upgrade>>,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Handshake { until: Moment },
    Open,
    Lingering { until: Moment, left: usize },
    Over,
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

/// Whether a step led anywhere.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Made,
    None,
    /// It leads on, after the others had their turn.
    Yield,
}

impl Link {
    /// A connection that stands, `socket` being non-blocking.
    pub fn new(socket: Socket, tls: Option<Connection>, patience: Patience, now: Moment) -> Self {
        Self {
            wire: Wire::new(socket, tls),
            outflow: Outflow::new(patience.stall),
            phase: Phase::Handshake { until: now + patience.handshake },
            inbox: Inbox::default(),
            heard_end: false,
            unheard: None,
            upgrade: None,
        }
    }

    /// Lets the conversation begin this TLS session, whose handshake may take so long.
    #[must_use]
    pub fn with_upgrade(mut self, tls: Later, handshake: Duration) -> Self {
        self.upgrade = Some(Box::new(Upgrade { tls, handshake }));
        self
    }

    /// The descriptor to wait for.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.wire.fd()
    }

    /// The socket has something to read, or its end.
    pub fn readable(&mut self) {
        self.wire.readable();
    }

    /// The peer has ended its side; what it sent before is still to be read.
    pub fn hung_up(&mut self) {
        self.wire.hung_up();
    }

    /// The socket takes octets again.
    pub fn writable(&mut self) {
        self.wire.writable();
    }

    /// Whether to wait for reading and for writing; for a loop that is told levels, not edges.
    pub fn wants(&self) -> (bool, bool) {
        let (dry, full) = self.wire.is_dry_and_full();
        (dry && !self.heard_end, full)
    }

    /// The TLS session, if there is one.
    pub fn tls(&self) -> Option<&Connection> {
        self.wire.tls()
    }

    /// When the link or its conversation wants to be woken.
    pub fn wake_at(&self, talk: &impl StreamProtocol) -> Option<Moment> {
        match self.phase {
            Phase::Handshake { until } | Phase::Lingering { until, .. } => Some(until),
            Phase::Open => self.outflow.stalls_at().into_iter().chain(talk.wake_at()).min(),
            Phase::Over => None,
        }
    }

    /// Does what can be done without waiting.
    pub fn turn<C: StreamProtocol>(&mut self, talk: &mut C, scratch: &mut Scratch<C::Event>, now: Moment) -> Status {
        let mut step = self.keep_time(talk, scratch, now);
        for _ in 0..STEPS_PER_TURN {
            match step {
                Ok(Step::Made) => {}
                Ok(Step::None) => return self.status(Status::Waiting),
                Ok(Step::Yield) => return self.status(Status::Busy),
                Err(error) => self.break_off(talk, scratch, error),
            }
            if matches!(self.phase, Phase::Over) {
                return Status::Over;
            }
            step = self.step(talk, scratch, now);
        }
        if matches!(self.phase, Phase::Over) { Status::Over } else { Status::Busy }
    }

    /// Tells the conversation that the server goes down.
    pub fn drain<C: StreamProtocol>(&mut self, talk: &mut C, scratch: &mut Scratch<C::Event>, now: Moment) {
        match self.phase {
            Phase::Handshake { .. } => self.phase = Phase::Over,
            Phase::Open => {
                // Nothing was ever said: there are no last words that an RST could overtake.
                self.heard_end |= self.inbox.is_empty() && self.outflow.is_untouched();
                talk.draining(now, &mut scratch.out);
                if let Err(error) = self.absorb(scratch) {
                    self.break_off(talk, scratch, error);
                }
            }
            Phase::Lingering { .. } | Phase::Over => {}
        }
    }

    /// Tells the conversation that its job is done.
    pub fn job_done<C: StreamProtocol>(&mut self, talk: &mut C, scratch: &mut Scratch<C::Event>, now: Moment) {
        if matches!(self.phase, Phase::Open) {
            self.inbox.reoffer();
            talk.job_done(now, &mut scratch.out);
            if let Err(error) = self.absorb(scratch) {
                self.break_off(talk, scratch, error);
            }
        }
    }

    /// Breaks off: the server does not wait any longer.
    pub fn cut<C: StreamProtocol>(&mut self, talk: &mut C, scratch: &mut Scratch<C::Event>) {
        if matches!(self.phase, Phase::Open) {
            self.break_off(talk, scratch, Error::new(Exit::TemporaryFailure, "the server stopped"));
        }
    }

    fn status(&self, otherwise: Status) -> Status {
        match self.phase {
            Phase::Over => Status::Over,
            Phase::Lingering { .. } => Status::Lingering,
            Phase::Handshake { .. } | Phase::Open => otherwise,
        }
    }

    /// Acts on whichever deadline has passed; a stall shows when the queue is flushed.
    fn keep_time<C: StreamProtocol>(
        &mut self,
        talk: &mut C,
        scratch: &mut Scratch<C::Event>,
        now: Moment,
    ) -> Result<Step> {
        match self.phase {
            Phase::Handshake { until } if until <= now => {
                return Err(Error::new(Exit::TemporaryFailure, "the TLS handshake did not end in time"));
            }
            Phase::Lingering { until, .. } if until <= now => self.phase = Phase::Over,
            // The kernel says that there is room again only once a third of its buffer is free; a
            // slow but steady reader must not be given up before it was asked.
            Phase::Open if self.outflow.stalls_at().is_some_and(|at| at <= now) => self.wire.writable(),
            Phase::Open if talk.wake_at().is_some_and(|at| at <= now) => {
                self.inbox.reoffer();
                talk.woken(now, &mut scratch.out);
                self.absorb(scratch)?;
            }
            _ => {}
        }
        Ok(Step::Made)
    }

    fn step<C: StreamProtocol>(&mut self, talk: &mut C, scratch: &mut Scratch<C::Event>, now: Moment) -> Result<Step> {
        match self.phase {
            Phase::Over => Ok(Step::None),
            Phase::Handshake { .. } => match self.wire.shake()? {
                Shake::Further => Ok(Step::Made),
                Shake::Waiting => Ok(Step::None),
                Shake::Done => {
                    self.phase = Phase::Open;
                    talk.opened(self.wire.tls().and_then(tls::version), clock::now(), &mut scratch.out);
                    self.absorb(scratch)
                }
            },
            Phase::Lingering { left, .. } => Ok(self.linger(left, scratch)),
            Phase::Open => match self.flush::<C>(scratch, now)? {
                Flow::Sent if self.outflow.settles() => self.settle(talk, scratch),
                Flow::Encrypting => self.encrypt(now),
                Flow::Closing => {
                    self.settle(talk, scratch)?;
                    self.say_goodbye(now);
                    Ok(Step::Made)
                }
                Flow::Blocked if !C::FULL_DUPLEX => Ok(Step::None),
                Flow::Sent if talk.is_paused() => Ok(Step::None),
                Flow::Enough => Ok(Step::Yield),
                Flow::Stalled => Err(Error::new(Exit::TemporaryFailure, "the peer stopped reading")),
                Flow::Blocked => {
                    talk.partly_sent(self.outflow.gone(), &mut scratch.out);
                    self.listen(talk, scratch)
                }
                Flow::Sent => self.listen(talk, scratch),
            },
        }
    }

    /// Sends what can be sent. A client whose peer has stopped listening still hears it out: the
    /// answer that explains it may be there already (RFC 9112 §9.5).
    fn flush<C: StreamProtocol>(&mut self, scratch: &mut Scratch<C::Event>, now: Moment) -> Result<Flow> {
        match self.outflow.flush(&mut self.wire, &mut scratch.read, now) {
            Err(error) if C::FULL_DUPLEX && !self.heard_end && self.outflow.abandon() => {
                self.unheard = Some(Box::new(error));
                self.wire.readable();
                Ok(Flow::Blocked)
            }
            flow => flow,
        }
    }

    /// Everything queued is on its way.
    fn settle<C: StreamProtocol>(&mut self, talk: &mut C, scratch: &mut Scratch<C::Event>) -> Result<Step> {
        self.inbox.reoffer();
        scratch.out.set_bytes_sent(self.outflow.take_gone());
        // Read again: an answer that is made and sent within one turn still took time.
        talk.sent(clock::now(), &mut scratch.out);
        self.absorb(scratch)
    }

    /// Offers what is there, then reads more.
    fn listen<C: StreamProtocol>(&mut self, talk: &mut C, scratch: &mut Scratch<C::Event>) -> Result<Step> {
        let kept = self.inbox.len();
        if !self.inbox.is_due() {
            if self.heard_end {
                return Ok(Step::None);
            }
            let Some(room) = scratch.read.get_mut(kept..).filter(|room| !room.is_empty()) else {
                return Err(Error::new(Exit::Protocol, "the peer sends more than can be kept"));
            };
            match self.wire.read(room)? {
                Read::Nothing => return Ok(Step::None),
                Read::End(CloseReason::Finished) if self.unheard.is_some() => {
                    return self.unheard.take().map_or(Ok(Step::None), |error| Err(*error));
                }
                Read::End(end) => return self.hear_end(&end, talk, scratch),
                Read::Octets(length) => return self.hear(kept + length, talk, scratch),
            }
        }
        self.hear(kept, talk, scratch)
    }

    /// Offers `length` octets: what was kept, and what the read buffer has behind it.
    fn hear<C: StreamProtocol>(
        &mut self,
        length: usize,
        talk: &mut C,
        scratch: &mut Scratch<C::Event>,
    ) -> Result<Step> {
        let all = self.inbox.join(&mut scratch.read, length);
        let taken = talk.received(all, clock::now(), &mut scratch.out).min(all.len());
        self.inbox.keep(all, taken);
        self.absorb(scratch)
    }

    fn hear_end<C: StreamProtocol>(
        &mut self,
        end: &CloseReason,
        talk: &mut C,
        scratch: &mut Scratch<C::Event>,
    ) -> Result<Step> {
        self.heard_end = true;
        scratch.out.set_bytes_sent(self.outflow.gone());
        talk.ended(end, clock::now(), &mut scratch.out);
        self.absorb(scratch)
    }

    /// Takes over what the conversation wants sent.
    fn absorb<F>(&mut self, scratch: &mut Scratch<F>) -> Result<Step> {
        if !self.outflow.absorb(&mut scratch.out, &mut self.wire)? {
            self.wire.reset();
            self.phase = Phase::Over;
        }
        Ok(Step::Made)
    }

    /// Begins TLS. What came in clear and was not taken must not be believed after the handshake.
    fn encrypt(&mut self, now: Moment) -> Result<Step> {
        let upgrade = self.upgrade.take().filter(|_| self.inbox.is_empty());
        let Some(Upgrade { tls, handshake }) = upgrade.map(|upgrade| *upgrade) else {
            return Err(Error::new(Exit::Protocol, "TLS cannot begin here: something is left of what came in clear"));
        };
        self.wire.encrypt(tls.session());
        self.phase = Phase::Handshake { until: now + handshake };
        Ok(Step::Made)
    }

    fn say_goodbye(&mut self, now: Moment) {
        let finished = self.wire.finish();
        let linger = Phase::Lingering { until: now + LINGER, left: LINGER_OCTETS };
        self.phase = if finished && !self.heard_end { linger } else { Phase::Over };
    }

    /// Reads and throws away, until the peer has ended too: closing at once would answer its last
    /// octets with an RST that overtakes our last words (RFC 9112 §9.6).
    fn linger<F>(&mut self, left: usize, scratch: &mut Scratch<F>) -> Step {
        match (self.wire.discard(&mut scratch.read), &mut self.phase) {
            (Some(0), _) => Step::None,
            (Some(length), Phase::Lingering { left: rest, .. }) if length < left => {
                *rest -= length;
                Step::Made
            }
            (_, phase) => {
                *phase = Phase::Over;
                Step::Made
            }
        }
    }

    fn break_off<C: StreamProtocol>(&mut self, talk: &mut C, scratch: &mut Scratch<C::Event>, error: Error) {
        self.phase = Phase::Over;
        scratch.out.set_bytes_sent(self.outflow.gone());
        talk.ended(&CloseReason::Broken(error), clock::now(), &mut scratch.out);
        // Whatever it still wants to say, there is nobody to say it to.
        let (steps, bytes) = scratch.out.queued();
        steps.clear();
        bytes.clear();
    }
}
