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

mod answer;
mod batch;
mod drops;
mod port;
mod run;
mod side;
mod stamps;
mod trouble;

use std::array;
use std::num::NonZeroU64;
use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

use self::batch::Buffer;
use self::port::Port;
use self::run::Outgoings;
use self::side::Gear;
use super::clock::{now, timespec};
use super::signals::{Signal, Signals};
use crate::conversation::DatagramProtocol;
use crate::time::Moment;

pub use self::answer::{Plan, answer};
pub use self::side::Side;

/// The largest payload of any datagram without a jumbo header.
pub const LARGEST: usize = 65_535;

/// After so many turns without a wait, everybody is looked at again.
const STREAK: u32 = 16;
/// So many descriptors are waited for without an allocation.
const FEW: usize = 16;
/// How long before a moment the processor is kept busy, if that was asked for: what a sleeping
/// one takes to wake up.
const SPIN: Duration = Duration::from_micros(50);

/// Who hears what happens.
pub trait Watch<E: DatagramProtocol> {
    /// One of the exchanges told a fact; `side` is its place.
    fn fact(&mut self, side: usize, fact: E::Event);

    /// A turn is over. Breaking ends the loop.
    fn turned(&mut self, sides: &mut [Side<E>], now: Moment) -> ControlFlow<()>;

    /// SIGQUIT: somebody wants to know how it goes.
    fn asked(&mut self, sides: &mut [Side<E>], now: Moment);
}

/// How a loop waits.
#[derive(Clone, Copy, Debug, Default)]
pub struct Patience {
    /// When to end at the latest.
    pub until: Option<Moment>,
    /// Whether to spin through the last microseconds before a timer.
    pub spin: bool,
    /// How long to let datagrams gather once all have been read. The kernel's stamps say when each came, so
    /// who need not answer at once is woken once for many.
    pub rest: Duration,
}

/// Why a loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Whoever watches has seen enough.
    Enough,
    /// The moment to end has come.
    Deadline,
    /// A signal came.
    Signal(Signal),
    /// Another thread said so.
    Nudged,
}

/// Carries every side until one of the ends comes, on this thread.
pub fn exchange<E: DatagramProtocol>(
    sides: &mut [Side<E>],
    patience: Patience,
    signals: &mut Signals,
    watch: &mut impl Watch<E>,
) -> Ended {
    carry(sides, patience, LARGEST, signals, watch)
}

/// From outside the loop.
enum Call {
    Asked,
    End(Ended),
}

/// Who may call into a loop.
trait Caller {
    /// What becomes readable then.
    fn fds(&self) -> [BorrowedFd<'_>; 2];
    /// What was called since the last time.
    fn call(&mut self) -> Option<Call>;
}

impl Caller for Signals {
    fn fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.fd(), self.nudged_fd()]
    }

    fn call(&mut self) -> Option<Call> {
        match self.take() {
            Some(Signal::Quit) => Some(Call::Asked),
            Some(signal) => Some(Call::End(Ended::Signal(signal))),
            None => self.take_nudge().then_some(Call::End(Ended::Nudged)),
        }
    }
}

fn carry<E: DatagramProtocol>(
    sides: &mut [Side<E>],
    patience: Patience,
    largest: usize,
    caller: &mut impl Caller,
    watch: &mut impl Watch<E>,
) -> Ended {
    wake_sharply();
    let (buffer, outgoings) = (Buffer::new(largest), Outgoings::new());
    let mut gear = Gear { buffer, outgoings, failures: Vec::new(), now: now() };
    let mut streak = 0;
    let ended = 'turns: loop {
        let busy = sides.iter().any(Side::is_busy);
        streak += 1;
        if !busy || streak > STREAK {
            streak = 0;
            let called = wait(sides, busy, patience, &*caller);
            // All that has come: what wakes us does so once, however much it brings.
            while let Some(call) = called.then(|| caller.call()).flatten() {
                match call {
                    Call::End(ended) => break 'turns ended,
                    Call::Asked => watch.asked(sides, now()),
                }
            }
        }
        let begun = now();
        gear.now = begun;
        for (place, side) in sides.iter_mut().enumerate() {
            side.turn(&mut gear);
            side.post.events().for_each(|fact| watch.fact(place, fact));
        }
        if watch.turned(sides, gear.now).is_break() {
            break Ended::Enough;
        }
        if patience.until.is_some_and(|until| until <= begun) {
            break Ended::Deadline;
        }
        if !patience.rest.is_zero() && !sides.iter().any(Side::is_busy) {
            rest(sides, patience, &*caller);
        }
    };
    // Drops with no datagram behind them have not been told yet.
    let dropped = drops::by_inode();
    for (place, side) in sides.iter_mut().enumerate() {
        side.settle(&dropped, now());
        side.post.events().for_each(|fact| watch.fact(place, fact));
    }
    ended
}

/// The kernel lets timers of a thread be 50 µs late to wake several at once; nobody here wants
/// that.
fn wake_sharply() {
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
}

/// Sleeps for a while whatever the sockets hold, unless a timer is due or somebody calls.
fn rest<E: DatagramProtocol>(sides: &[Side<E>], patience: Patience, caller: &impl Caller) {
    let timers = sides.iter().filter_map(|side| side.exchange().wake_at());
    let left = timers.chain(patience.until).min().map_or(patience.rest, |wake| wake - now());
    let [first, second] = caller.fds();
    let look = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
    // Whatever ends it, the next wait sees it again.
    let _ = poll(&mut [look(first), look(second)], Some(&timespec(left.min(patience.rest))));
}

/// Sleeps until a socket is ready, a timer is due or somebody calls, and says whether it is the
/// last of these. If a side is `busy` it only looks.
fn wait<E: DatagramProtocol>(sides: &[Side<E>], busy: bool, patience: Patience, caller: &impl Caller) -> bool {
    let timers = sides.iter().filter_map(|side| side.exchange().wake_at());
    let wake = timers.chain(patience.until).min();
    let spin = if patience.spin { SPIN } else { Duration::ZERO };
    let left = match wake {
        _ if busy => Some(Duration::ZERO),
        None => None,
        Some(wake) => Some((wake - now()).saturating_sub(spin)),
    };
    let ports = || sides.iter().flat_map(|side| &side.ports);
    let [first, second] = caller.fds();
    let look = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
    let count = 2 + ports().count();
    let mut fds = [first, second].into_iter().chain(ports().map(Port::fd)).map(look);
    let (mut few, mut many);
    let fds = if count <= FEW {
        // What is past the count is never looked at.
        few = array::from_fn::<_, FEW, _>(|_| fds.next().unwrap_or_else(|| look(first)));
        few.get_mut(..count).unwrap_or_default()
    } else {
        many = fds.collect::<Vec<_>>();
        many.as_mut_slice()
    };
    // EINTR is a signal on its way to the pipe; every other failure ends in a look as well.
    let called =
        poll(fds, left.map(timespec).as_ref()).is_err() || fds.iter().take(2).any(|fd| !fd.revents().is_empty());
    fds.iter().skip(2).zip(ports()).for_each(|(fd, port)| port.note(fd.revents()));
    if let Some(wake) = wake.filter(|_| patience.spin && !called && !ports().any(Port::is_busy)) {
        while now() < wake {
            std::hint::spin_loop();
        }
    }
    called
}

#[cfg(test)]
mod tests;
