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

use super::{DatagramObserver, DatagramTimeouts, Endpoint, StopReason, Wakeup, WakeupSource, run_loop};
use crate::error::{Error, Result, io_error_text};
use crate::exit::Exit;
use crate::net::signals::{Signal, Signals, WakeReason, Waker};
use crate::net::udp::DatagramSockets;
use crate::protocol::DatagramProtocol;
use crate::time::Moment;

/// How to answer.
#[derive(Debug)]
pub(crate) struct DatagramServerConfig {
    /// Where.
    pub sockets: DatagramSockets,
    /// On how many threads, as the receivers were bound for.
    pub threads: usize,
    /// The largest datagram that is taken whole.
    pub max_payload: usize,
    /// Whether facts are built.
    pub events_wanted: bool,
    /// When to stop by itself.
    pub deadline: Option<Moment>,
    /// How long to let datagrams gather, as [`Patience::rest`]; zero answers at once.
    pub coalesce_delay: Duration,
}

/// Answers until a signal, a nudge or the plan's end comes, or one of the threads has seen enough.
///
/// `make` and `finish` are called once per thread, on that thread: one makes its exchange and who
/// watches it, the other takes both back in the end.
pub(crate) fn serve<E: DatagramProtocol, W: DatagramObserver<E>>(
    mut config: DatagramServerConfig,
    signals: &mut Signals,
    make: impl Fn() -> (E, W) + Sync,
    finish: impl Fn(E, W) + Sync,
) -> Result<StopReason> {
    let failed = |error: io::Error| {
        Error::new(Exit::OsError, format!("cannot start answering: {}", io_error_text(&error))).with_source(error)
    };
    let bells = (0..config.threads).map(|_| EventfdWaker::new()).collect::<io::Result<Vec<_>>>().map_err(failed)?;
    let over = AtomicBool::new(false);
    let end = || Ok(ExitNotifier { thread_exited: &over, waker: signals.waker()? });
    let ends = bells.iter().map(|_| end()).collect::<Result<Vec<_>>>()?;
    std::thread::scope(|scope| {
        for (number, (bell, end)) in bells.iter().zip(ends).enumerate() {
            let (sockets, listening, largest) = (config.sockets.take(), config.events_wanted, config.max_payload);
            let rest = config.coalesce_delay;
            let (make, finish) = (&make, &finish);
            let run = move || {
                // Dropped at the end of the thread, whatever ends it.
                let _end = end;
                let (exchange, mut watch) = make();
                let mut sides = [Endpoint::bound(exchange, sockets, listening)];
                if !rest.is_zero() {
                    sides.iter_mut().for_each(Endpoint::prefer_batching);
                }
                run_loop(
                    &mut sides,
                    DatagramTimeouts { coalesce_delay: rest, ..DatagramTimeouts::default() },
                    largest,
                    &mut &*bell,
                    &mut watch,
                );
                let [side] = sides;
                finish(side.into_protocol(), watch);
            };
            if let Err(error) = std::thread::Builder::new().name(format!("answer-{number}")).spawn_scoped(scope, run) {
                bells.iter().for_each(EventfdWaker::stop);
                return Err(failed(error));
            }
        }
        let ended = loop {
            match signals.wait(config.deadline) {
                WakeReason::Signal(Signal::Quit) => bells.iter().for_each(EventfdWaker::wake),
                WakeReason::Signal(signal) => break StopReason::Signal(signal),
                WakeReason::Waker if over.load(Ordering::Acquire) => break StopReason::Observer,
                WakeReason::Waker => break StopReason::Waker,
                WakeReason::Timeout => break StopReason::Deadline,
            }
        };
        bells.iter().for_each(EventfdWaker::stop);
        Ok(ended)
    })
}

/// Tells the waiting thread that one of the others is over.
struct ExitNotifier<'a> {
    thread_exited: &'a AtomicBool,
    waker: Waker,
}

impl Drop for ExitNotifier<'_> {
    fn drop(&mut self) {
        self.thread_exited.store(true, Ordering::Release);
        self.waker.wake();
    }
}

/// Wakes one thread.
struct EventfdWaker {
    eventfd: OwnedFd,
    stopped: AtomicBool,
}

impl EventfdWaker {
    fn new() -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self { eventfd: event, stopped: AtomicBool::new(false) })
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.wake();
    }

    /// Can only fail if it rings already.
    fn wake(&self) {
        let _ = rustix::io::write(&self.eventfd, &1_u64.to_ne_bytes());
    }
}

impl WakeupSource for &EventfdWaker {
    fn fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.eventfd.as_fd(); 2]
    }

    fn take_wakeup(&mut self) -> Option<Wakeup> {
        let rung = rustix::io::read(&self.eventfd, &mut [0; 8]).is_ok();
        let stopped = self.stopped.load(Ordering::Acquire);
        if stopped { Some(Wakeup::Stop(StopReason::Waker)) } else { rung.then_some(Wakeup::StatusRequest) }
    }
}
