//! The loop that carries datagrams.
//!
//! Owns the wait: until a socket is ready, a timer is due, somebody calls, or the end has come,
//! with nanosecond precision. A [`Side`] knows its sockets and its exchange; neither knows the
//! other's business. One thread carries any number of targets of a client, or a server's share.
//!
//! ```text
//!           ┌──────────────── turn of each side ────────────────┐
//!   wait ─▶ │ errors, send stamps ─▶ datagrams ─▶ timers ─▶ send │ ─▶ facts ─▶ watch ─┐
//!     ▲     └───────────────────────────────────────────────────┘                     │
//!     └──────────────── only if no socket had anything the last time ◀────────────────┘
//! ```
//!
//! ```text
//!   datagram            the loop; for clients
//!     ├─ answer         the loop for servers, on several threads
//!     ├─ side           an exchange and its sockets
//!     ├─ port           one socket          ├─ batch    recvmmsg
//!     ├─ stamps         wall time to ours   └─ run      sendmmsg
//!     ├─ drops          what a socket dropped last
//!     └─ trouble        words for errors
//! ```

mod drops;
mod endpoint;
mod icmp;
mod recv;
mod send;
mod server;
mod socket;
mod timestamps;

use std::array;
use std::num::NonZeroU64;
use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

use self::endpoint::Buffers;
use self::recv::BatchBuffer;
use self::send::SendBuffers;
use self::socket::DatagramSocket;
use super::clock::{now, timespec};
use super::signals::{Signal, Signals};
use crate::protocol::DatagramProtocol;
use crate::time::Moment;

pub(crate) use self::endpoint::Endpoint;
pub(crate) use self::server::{DatagramServerConfig, serve};

/// The largest payload of any datagram without a jumbo header.
pub(crate) const MAX_PAYLOAD: usize = 65_535;

/// After so many turns without a wait, everybody is looked at again.
const MAX_BUSY_TURNS: u32 = 16;
/// So many descriptors are waited for without an allocation.
const INLINE_FDS: usize = 16;
/// How long before a moment the processor is kept busy, if that was asked for: what a sleeping
/// one takes to wake up.
const SPIN_TIME: Duration = Duration::from_micros(50);

/// Who hears what happens.
pub(crate) trait DatagramObserver<E: DatagramProtocol> {
    /// One of the exchanges told a fact; `side` is its place.
    fn on_event(&mut self, endpoint: usize, fact: E::Event);

    /// A turn is over. Breaking ends the loop.
    fn on_turn(&mut self, endpoints: &mut [Endpoint<E>], now: Moment) -> ControlFlow<()>;

    /// SIGQUIT: somebody wants to know how it goes.
    fn on_status_request(&mut self, endpoints: &mut [Endpoint<E>], now: Moment);
}

/// How a loop waits.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DatagramTimeouts {
    /// When to end at the latest.
    pub deadline: Option<Moment>,
    /// Whether to spin through the last microseconds before a timer.
    pub spin: bool,
    /// How long to let datagrams gather once all have been read. The kernel's stamps say when each came, so
    /// who need not answer at once is woken once for many.
    pub coalesce_delay: Duration,
}

/// Why a loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopReason {
    /// Whoever watches has seen enough.
    Observer,
    /// The moment to end has come.
    Deadline,
    /// A signal came.
    Signal(Signal),
    /// Another thread said so.
    Waker,
}

/// Carries every side until one of the ends comes, on this thread.
pub(crate) fn run_client<E: DatagramProtocol>(
    endpoints: &mut [Endpoint<E>],
    timeouts: DatagramTimeouts,
    signals: &mut Signals,
    observer: &mut impl DatagramObserver<E>,
) -> StopReason {
    run_loop(endpoints, timeouts, MAX_PAYLOAD, signals, observer)
}

/// From outside the loop.
enum Wakeup {
    StatusRequest,
    Stop(StopReason),
}

/// Who may call into a loop.
trait WakeupSource {
    /// What becomes readable then.
    fn fds(&self) -> [BorrowedFd<'_>; 2];
    /// What was called since the last time.
    fn take_wakeup(&mut self) -> Option<Wakeup>;
}

impl WakeupSource for Signals {
    fn fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.fd(), self.waker_fd()]
    }

    fn take_wakeup(&mut self) -> Option<Wakeup> {
        match self.take() {
            Some(Signal::Quit) => Some(Wakeup::StatusRequest),
            Some(signal) => Some(Wakeup::Stop(StopReason::Signal(signal))),
            None => self.take_wake().then_some(Wakeup::Stop(StopReason::Waker)),
        }
    }
}

fn run_loop<E: DatagramProtocol>(
    endpoints: &mut [Endpoint<E>],
    timeouts: DatagramTimeouts,
    max_payload: usize,
    wakeups: &mut impl WakeupSource,
    observer: &mut impl DatagramObserver<E>,
) -> StopReason {
    minimize_timer_slack();
    let (buffer, outgoings) = (BatchBuffer::new(max_payload), SendBuffers::new());
    let mut gear = Buffers { receive: buffer, send: outgoings, failures: Vec::new(), now: now() };
    let mut streak = 0;
    let ended = 'turns: loop {
        let busy = endpoints.iter().any(Endpoint::is_ready);
        streak += 1;
        if !busy || streak > MAX_BUSY_TURNS {
            streak = 0;
            let called = wait(endpoints, busy, timeouts, &*wakeups);
            // All that has come: what wakes us does so once, however much it brings.
            while let Some(call) = called.then(|| wakeups.take_wakeup()).flatten() {
                match call {
                    Wakeup::Stop(ended) => break 'turns ended,
                    Wakeup::StatusRequest => observer.on_status_request(endpoints, now()),
                }
            }
        }
        let begun = now();
        gear.now = begun;
        for (place, side) in endpoints.iter_mut().enumerate() {
            side.turn(&mut gear);
            side.actions.events().for_each(|fact| observer.on_event(place, fact));
        }
        if observer.on_turn(endpoints, gear.now).is_break() {
            break StopReason::Observer;
        }
        if timeouts.deadline.is_some_and(|until| until <= begun) {
            break StopReason::Deadline;
        }
        if !timeouts.coalesce_delay.is_zero() && !endpoints.iter().any(Endpoint::is_ready) {
            coalesce(endpoints, timeouts, &*wakeups);
        }
    };
    // Drops with no datagram behind them have not been told yet.
    let dropped = drops::by_inode();
    for (place, side) in endpoints.iter_mut().enumerate() {
        side.report_drops(&dropped, now());
        side.actions.events().for_each(|fact| observer.on_event(place, fact));
    }
    ended
}

/// The kernel lets timers of a thread be 50 µs late to wake several at once; nobody here wants
/// that.
fn minimize_timer_slack() {
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
}

/// Sleeps for a while whatever the sockets hold, unless a timer is due or somebody calls.
fn coalesce<E: DatagramProtocol>(endpoints: &[Endpoint<E>], timeouts: DatagramTimeouts, wakeups: &impl WakeupSource) {
    let timers = endpoints.iter().filter_map(|side| side.protocol().wake_at());
    let left = timers.chain(timeouts.deadline).min().map_or(timeouts.coalesce_delay, |wake| wake - now());
    let [first, second] = wakeups.fds();
    let look = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
    // Whatever ends it, the next wait sees it again.
    let _ = poll(&mut [look(first), look(second)], Some(&timespec(left.min(timeouts.coalesce_delay))));
}

/// Sleeps until a socket is ready, a timer is due or somebody calls, and says whether it is the
/// last of these. If a side is `busy` it only looks.
fn wait<E: DatagramProtocol>(
    endpoints: &[Endpoint<E>],
    is_busy: bool,
    timeouts: DatagramTimeouts,
    wakeups: &impl WakeupSource,
) -> bool {
    let timers = endpoints.iter().filter_map(|side| side.protocol().wake_at());
    let wake = timers.chain(timeouts.deadline).min();
    let spin = if timeouts.spin { SPIN_TIME } else { Duration::ZERO };
    let left = match wake {
        _ if is_busy => Some(Duration::ZERO),
        None => None,
        Some(wake) => Some((wake - now()).saturating_sub(spin)),
    };
    let ports = || endpoints.iter().flat_map(|side| &side.sockets);
    let [first, second] = wakeups.fds();
    let look = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
    let count = 2 + ports().count();
    let mut fds = [first, second].into_iter().chain(ports().map(DatagramSocket::fd)).map(look);
    let (mut few, mut many);
    let fds = if count <= INLINE_FDS {
        // What is past the count is never looked at.
        few = array::from_fn::<_, INLINE_FDS, _>(|_| fds.next().unwrap_or_else(|| look(first)));
        few.get_mut(..count).unwrap_or_default()
    } else {
        many = fds.collect::<Vec<_>>();
        many.as_mut_slice()
    };
    // EINTR is a signal on its way to the pipe; every other failure ends in a look as well.
    let called =
        poll(fds, left.map(timespec).as_ref()).is_err() || fds.iter().take(2).any(|fd| !fd.revents().is_empty());
    fds.iter().skip(2).zip(ports()).for_each(|(fd, port)| port.set_ready(fd.revents()));
    if let Some(wake) = wake.filter(|_| timeouts.spin && !called && !ports().any(DatagramSocket::is_ready)) {
        while now() < wake {
            std::hint::spin_loop();
        }
    }
    called
}

#[cfg(test)]
mod tests;
