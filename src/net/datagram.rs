//! Event loop for datagram sockets.
//!
//! Owns the wait, with nanosecond precision: until a socket is ready, a timer is due, a signal or waker
//! fires, or the deadline has passed. An [`Endpoint`] joins sockets and a protocol, which do not know each
//! other. One thread runs any number of client endpoints, or one of a server's endpoints.
//!
//! ```text
//!           ┌──────────────── turn of each endpoint ─────────────────┐
//!   wait ─▶ │ errors, send timestamps ─▶ datagrams ─▶ timers ─▶ send │ ─▶ events ─▶ observer ─┐
//!     ▲     └────────────────────────────────────────────────────────┘                        │
//!     └────────────── only if no socket was ready in the previous turn ◀──────────────────────┘
//! ```
//!
//! ```text
//!   datagram            the loop itself, and its use by clients
//!     ├─ server         runs the loop on several threads, for servers
//!     ├─ endpoint       a protocol and its sockets
//!     ├─ socket         one socket              ├─ recv    recvmmsg
//!     ├─ read_strategy  batches, busy polling   └─ send    sendmmsg
//!     ├─ timestamps     wall to monotonic
//!     ├─ drops          the kernel's drop counts
//!     └─ icmp           error texts
//! ```

mod drops;
mod endpoint;
mod icmp;
mod read_strategy;
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

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use self::endpoint::Buffers;
use self::recv::BatchBuffer;
use self::send::SendBuffers;
use self::socket::DatagramSocket;
use super::clock::now;
use super::signals::{Signal, Signals};
use crate::protocol::DatagramProtocol;
use crate::time::Moment;

pub(crate) use self::endpoint::Endpoint;
pub(crate) use self::server::{DatagramServerConfig, serve};

/// Upper bound of a UDP payload; jumbograms (RFC 2675) are not supported.
pub(crate) const MAX_PAYLOAD: usize = 65_535;

/// Maximum number of turns without a wait, after which signals, wakers and all sockets are polled again.
const MAX_BUSY_TURNS: u32 = 16;
/// Number of descriptors that are polled without an allocation.
const INLINE_FDS: usize = 16;

/// Receiver of the loop's events.
pub(crate) trait DatagramObserver<E: DatagramProtocol> {
    /// Called for each event of an endpoint; `endpoint` is its index.
    fn on_event(&mut self, endpoint: usize, event: E::Event);

    /// Called after each turn; `Break` ends the loop.
    fn on_turn(&mut self, endpoints: &mut [Endpoint<E>], now: Moment) -> ControlFlow<()>;

    /// Called on SIGQUIT, with which the user asks for a status report.
    fn on_status_request(&mut self, endpoints: &mut [Endpoint<E>], now: Moment);
}

/// Timeouts of the loop.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DatagramTimeouts {
    pub deadline: Option<Moment>,
    /// Time to wait, once all datagrams have been read, so that more arrive before the next read. Kernel timestamps
    /// keep the arrival times, so an endpoint that need not reply at once is woken once for many datagrams.
    pub coalesce_delay: Duration,
}

/// Reason for the end of the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopReason {
    /// The observer returned `Break`, or a server thread panicked.
    Observer,
    Deadline,
    Signal(Signal),
    /// Another thread used the waker.
    Waker,
}

/// Runs the loop for all endpoints on this thread, until the observer, the deadline, a signal other than SIGQUIT, or
/// the waker ends it.
pub(crate) fn run_client<E: DatagramProtocol>(
    endpoints: &mut [Endpoint<E>],
    timeouts: DatagramTimeouts,
    signals: &mut Signals,
    observer: &mut impl DatagramObserver<E>,
) -> StopReason {
    run_loop(endpoints, timeouts, MAX_PAYLOAD, signals, observer)
}

/// Request from outside the loop.
enum Wakeup {
    StatusRequest,
    Stop(StopReason),
}

/// Source of requests to the loop.
trait WakeupSource {
    /// Descriptors that become readable with a request.
    fn fds(&self) -> [BorrowedFd<'_>; 2];
    /// Takes the next pending request.
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
    let (receive, send) = (BatchBuffer::new(max_payload), SendBuffers::new());
    let mut buffers = Buffers { receive, send, failures: Vec::new(), now: now() };
    let mut busy_turns = 0;
    let reason = 'turns: loop {
        let busy = endpoints.iter().any(Endpoint::is_ready);
        busy_turns += 1;
        if !busy || busy_turns > MAX_BUSY_TURNS {
            busy_turns = 0;
            let requested = wait(endpoints, busy, timeouts, &*wakeups);
            // One readable descriptor may stand for several requests.
            while let Some(wakeup) = requested.then(|| wakeups.take_wakeup()).flatten() {
                match wakeup {
                    Wakeup::Stop(reason) => break 'turns reason,
                    Wakeup::StatusRequest => observer.on_status_request(endpoints, now()),
                }
            }
        }
        let started = now();
        buffers.now = started;
        for (index, endpoint) in endpoints.iter_mut().enumerate() {
            endpoint.turn(&mut buffers);
            endpoint.actions.events().for_each(|event| observer.on_event(index, event));
        }
        if observer.on_turn(endpoints, buffers.now).is_break() {
            break StopReason::Observer;
        }
        if timeouts.deadline.is_some_and(|until| until <= started) {
            break StopReason::Deadline;
        }
        if !timeouts.coalesce_delay.is_zero() && !endpoints.iter().any(Endpoint::is_ready) {
            coalesce(endpoints, timeouts, &*wakeups);
        }
    };
    // Drops that were followed by no datagram have not been reported yet.
    let dropped = drops::by_inode();
    for (index, endpoint) in endpoints.iter_mut().enumerate() {
        endpoint.report_drops(&dropped, now());
        endpoint.actions.events().for_each(|event| observer.on_event(index, event));
    }
    reason
}

/// Sets the timer slack to 1 ns. By default the kernel delays a thread's timers by up to 50 µs to group wakeups.
fn minimize_timer_slack() {
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
}

/// Sleeps, regardless of readable sockets, until the coalesce delay has passed, a timer is due or a request arrives.
fn coalesce<E: DatagramProtocol>(endpoints: &[Endpoint<E>], timeouts: DatagramTimeouts, wakeups: &impl WakeupSource) {
    let timers = endpoints.iter().filter_map(|endpoint| endpoint.protocol().wake_at());
    let remaining = timers.chain(timeouts.deadline).min().map_or(timeouts.coalesce_delay, |wake| wake - now());
    let [first, second] = wakeups.fds();
    let poll_fd = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
    // The next wait sees the reason for an early return again.
    let _ = poll(
        &mut [poll_fd(first), poll_fd(second)],
        Timespec::try_from(remaining.min(timeouts.coalesce_delay)).ok().as_ref(),
    );
}

/// Sleeps until a socket is ready, a timer is due or a request arrives; returns true for a request. If an
/// endpoint is busy, only polls.
fn wait<E: DatagramProtocol>(
    endpoints: &[Endpoint<E>],
    is_busy: bool,
    timeouts: DatagramTimeouts,
    wakeups: &impl WakeupSource,
) -> bool {
    let timers = endpoints.iter().filter_map(|endpoint| endpoint.protocol().wake_at());
    let wake = timers.chain(timeouts.deadline).min();
    let remaining = match wake {
        _ if is_busy => Some(Duration::ZERO),
        None => None,
        Some(wake) => Some(wake - now()),
    };
    let sockets = || endpoints.iter().flat_map(|endpoint| &endpoint.sockets);
    let [first, second] = wakeups.fds();
    let poll_fd = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
    let count = 2 + sockets().count();
    let mut fds = [first, second].into_iter().chain(sockets().map(DatagramSocket::fd)).map(poll_fd);
    let (mut inline_fds, mut heap_fds);
    let fds = if count <= INLINE_FDS {
        // Entries past the count are not polled.
        inline_fds = array::from_fn::<_, INLINE_FDS, _>(|_| fds.next().unwrap_or_else(|| poll_fd(first)));
        inline_fds.get_mut(..count).unwrap_or_default()
    } else {
        heap_fds = fds.collect::<Vec<_>>();
        heap_fds.as_mut_slice()
    };
    // EINTR: a signal is about to reach the pipe. Any other failure counts as a request too.
    let requested = poll(fds, remaining.and_then(|left| Timespec::try_from(left).ok()).as_ref()).is_err()
        || fds.iter().take(2).any(|fd| !fd.revents().is_empty());
    fds.iter().skip(2).zip(sockets()).for_each(|(fd, socket)| socket.set_ready(fd.revents()));
    requested
}

#[cfg(test)]
mod tests;
