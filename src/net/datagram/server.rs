//! Datagram server on several threads.
//!
//! Owns the threads and their shutdown. Each thread has its own protocol and its own sockets, so that no thread waits
//! for another; the kernel distributes the clients among the sockets. Stopping is immediate: datagrams need no
//! orderly close.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};

use super::{DatagramObserver, DatagramTimeouts, Endpoint, StopReason, Wakeup, WakeupSource, run_loop};
use crate::failure::{Failure, FailureKind, Result, io_error_text};
use crate::net::service_manager::notify_stopping;
use crate::net::signals::{Signal, Signals, WakeReason, Waker};
use crate::net::udp::DatagramSockets;
use crate::protocol::DatagramProtocol;
use crate::time::Moment;

/// Configuration of a datagram server.
#[derive(Debug)]
pub(crate) struct DatagramServerConfig {
    pub sockets: DatagramSockets,
    /// Number of threads that the sockets were bound for.
    pub threads: usize,
    /// Largest payload that is received in full.
    pub max_payload: usize,
    pub events_wanted: bool,
    pub deadline: Option<Moment>,
    /// As [`DatagramTimeouts::coalesce_delay`]; with zero, replies are sent at once.
    pub coalesce_delay: Duration,
}

/// Serves until a signal other than SIGQUIT, the waker, the deadline, or the end of any thread stops the server.
///
/// `make` and `finish` are called once per thread, on that thread: `make` returns its protocol and its
/// observer, `finish` receives both at the end.
pub(crate) fn serve<E: DatagramProtocol, W: DatagramObserver<E>>(
    mut config: DatagramServerConfig,
    signals: &mut Signals,
    make: impl Fn() -> (E, W) + Sync,
    finish: impl Fn(E, W) + Sync,
) -> Result<StopReason> {
    let failed = |error: io::Error| {
        Failure::new(FailureKind::System, format!("cannot start server threads: {}", io_error_text(&error)))
            .with_source(error)
    };
    let wakers = (0..config.threads).map(|_| EventfdWaker::new()).collect::<io::Result<Vec<_>>>().map_err(failed)?;
    let thread_exited = AtomicBool::new(false);
    let notifier = || Ok(ExitNotifier { thread_exited: &thread_exited, waker: signals.waker()? });
    let notifiers = wakers.iter().map(|_| notifier()).collect::<Result<Vec<_>>>()?;
    std::thread::scope(|scope| {
        for (index, (waker, notifier)) in wakers.iter().zip(notifiers).enumerate() {
            let (sockets, max_payload) = (config.sockets.take(), config.max_payload);
            let (events_wanted, coalesce_delay) = (config.events_wanted, config.coalesce_delay);
            let (make, finish) = (&make, &finish);
            let run = move || {
                // Dropped when the thread ends, even by a panic.
                let _notifier = notifier;
                let (protocol, mut observer) = make();
                let mut endpoints = [Endpoint::bound(protocol, sockets, events_wanted)];
                if !coalesce_delay.is_zero() {
                    endpoints.iter_mut().for_each(Endpoint::prefer_batching);
                }
                run_loop(
                    &mut endpoints,
                    DatagramTimeouts { coalesce_delay, ..DatagramTimeouts::default() },
                    max_payload,
                    &mut &*waker,
                    &mut observer,
                );
                let [endpoint] = endpoints;
                finish(endpoint.into_protocol(), observer);
            };
            if let Err(error) = std::thread::Builder::new().name(format!("datagram-{index}")).spawn_scoped(scope, run) {
                wakers.iter().for_each(EventfdWaker::stop);
                return Err(failed(error));
            }
        }
        let reason = loop {
            match signals.wait(config.deadline) {
                WakeReason::Signal(Signal::Quit) => wakers.iter().for_each(EventfdWaker::wake),
                WakeReason::Signal(signal) => break StopReason::Signal(signal),
                WakeReason::Waker if thread_exited.load(Ordering::Acquire) => break StopReason::Observer,
                WakeReason::Waker => break StopReason::Waker,
                WakeReason::Timeout => break StopReason::Deadline,
            }
        };
        notify_stopping();
        wakers.iter().for_each(EventfdWaker::stop);
        Ok(reason)
    })
}

/// Wakes the waiting thread when a server thread ends.
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

/// Waker of one thread.
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

    /// Wakes the thread. A write fails only if a wakeup is already pending.
    fn wake(&self) {
        let _ = rustix::io::write(&self.eventfd, &1_u64.to_ne_bytes());
    }
}

impl WakeupSource for &EventfdWaker {
    fn fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.eventfd.as_fd(); 2]
    }

    fn take_wakeup(&mut self) -> Option<Wakeup> {
        let woken = rustix::io::read(&self.eventfd, &mut [0; 8]).is_ok();
        let stopped = self.stopped.load(Ordering::Acquire);
        if stopped { Some(Wakeup::Stop(StopReason::Waker)) } else { woken.then_some(Wakeup::StatusRequest) }
    }
}
