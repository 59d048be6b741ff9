//! The datagram loop of a server, on several threads.
//!
//! Owns the threads and their end. Each has sockets of its own, so that the kernel spreads the
//! peers and no thread waits for another, and an exchange of its own. Nothing runs on after the
//! stop: a datagram owes nobody an orderly end.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};

use super::{Call, Caller, Ended, Patience, Side, Watch, carry};
use crate::conversation::DatagramProtocol;
use crate::error::{Error, Result, io_error_text};
use crate::exit::Exit;
use crate::net::signals::{Nudge, Signal, Signals, Woken};
use crate::net::udp::Receivers;
use crate::time::Moment;

/// How to answer.
#[derive(Debug)]
pub struct Plan {
    /// Where.
    pub receivers: Receivers,
    /// On how many threads, as the receivers were bound for.
    pub threads: usize,
    /// The largest datagram that is taken whole.
    pub largest: usize,
    /// Whether facts are built.
    pub listening: bool,
    /// When to stop by itself.
    pub until: Option<Moment>,
    /// How long to let datagrams gather, as [`Patience::rest`]; zero answers at once.
    pub rest: Duration,
}

/// Answers until a signal, a nudge or the plan's end comes, or one of the threads has seen enough.
///
/// `make` and `finish` are called once per thread, on that thread: one makes its exchange and who
/// watches it, the other takes both back in the end.
pub fn answer<E: DatagramProtocol, W: Watch<E>>(
    mut plan: Plan,
    signals: &mut Signals,
    make: impl Fn() -> (E, W) + Sync,
    finish: impl Fn(E, W) + Sync,
) -> Result<Ended> {
    let failed = |error: io::Error| {
        Error::new(Exit::OsError, format!("cannot start answering: {}", io_error_text(&error))).with_source(error)
    };
    let bells = (0..plan.threads).map(|_| Bell::new()).collect::<io::Result<Vec<_>>>().map_err(failed)?;
    let over = AtomicBool::new(false);
    let end = || Ok(End { over: &over, nudge: signals.nudger()? });
    let ends = bells.iter().map(|_| end()).collect::<Result<Vec<_>>>()?;
    std::thread::scope(|scope| {
        for (number, (bell, end)) in bells.iter().zip(ends).enumerate() {
            let (sockets, listening, largest) = (plan.receivers.take(), plan.listening, plan.largest);
            let rest = plan.rest;
            let (make, finish) = (&make, &finish);
            let run = move || {
                // Dropped at the end of the thread, whatever ends it.
                let _end = end;
                let (exchange, mut watch) = make();
                let mut sides = [Side::bound(exchange, sockets, listening)];
                if !rest.is_zero() {
                    sides.iter_mut().for_each(Side::cool_down);
                }
                carry(&mut sides, Patience { rest, ..Patience::default() }, largest, &mut &*bell, &mut watch);
                let [side] = sides;
                finish(side.into_exchange(), watch);
            };
            if let Err(error) = std::thread::Builder::new().name(format!("answer-{number}")).spawn_scoped(scope, run) {
                bells.iter().for_each(Bell::stop);
                return Err(failed(error));
            }
        }
        let ended = loop {
            match signals.wait(plan.until) {
                Woken::Signal(Signal::Quit) => bells.iter().for_each(Bell::ask),
                Woken::Signal(signal) => break Ended::Signal(signal),
                Woken::Nudged if over.load(Ordering::Acquire) => break Ended::Enough,
                Woken::Nudged => break Ended::Nudged,
                Woken::Timeout => break Ended::Deadline,
            }
        };
        bells.iter().for_each(Bell::stop);
        Ok(ended)
    })
}

/// Tells the waiting thread that one of the others is over.
struct End<'a> {
    over: &'a AtomicBool,
    nudge: Nudge,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        self.nudge.nudge();
    }
}

/// Wakes one thread.
struct Bell {
    event: OwnedFd,
    stopped: AtomicBool,
}

impl Bell {
    fn new() -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self { event, stopped: AtomicBool::new(false) })
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.ask();
    }

    /// Can only fail if it rings already.
    fn ask(&self) {
        let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
    }
}

impl Caller for &Bell {
    fn fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.event.as_fd(); 2]
    }

    fn call(&mut self) -> Option<Call> {
        let rung = rustix::io::read(&self.event, &mut [0; 8]).is_ok();
        let stopped = self.stopped.load(Ordering::Acquire);
        if stopped { Some(Call::End(Ended::Nudged)) } else { rung.then_some(Call::Asked) }
    }
}
