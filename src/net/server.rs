//! Stream server: worker threads, start-up and graceful shutdown. Workers share only the shutdown state and the
//! thread pool.
//!
//! Each thread has its own poll, listeners, timers and connections. The server does not know the protocol;
//! a [`Service`] creates one per connection and receives its events. A connection costs a small record, not a thread.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use mio::Poll;

use super::clock::now;
use super::event_loop::{WAKER_TOKEN, Worker};
use super::listen::Listeners;
use super::service_manager::notify_stopping;
use super::signals::{Signals, WakeReason, Waker};
use super::thread_pool::ThreadPool;
use super::timers::ConnectionTimeouts;
use super::tls::ServerTls;
use crate::failure::{Failure, FailureKind, Result, io_error_text};
use crate::protocol::StreamProtocol;
use crate::time::Moment;

/// Application of a server: creates protocols and receives events. Each thread has its own.
pub(crate) trait Service {
    type Protocol: StreamProtocol;

    /// Returns the protocol and the TLS configuration for a new connection.
    fn accepted(&mut self, incoming: Incoming, now: Moment) -> Accepted<Self::Protocol>;

    fn on_event(&mut self, event: <Self::Protocol as StreamProtocol>::Event);

    /// Receives the protocol of a connection that has closed.
    fn on_closed(&mut self, _: Self::Protocol) {}

    fn on_notice(&mut self, notice: Notice);
}

/// Accepted connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Incoming {
    /// Address of the client; `None` for a Unix socket.
    pub peer: Option<SocketAddr>,
    /// Index into [`ServerConfig::listener_groups`].
    pub listener_group: usize,
}

/// Protocol and TLS configuration of a new connection.
#[derive(Debug)]
pub(crate) struct Accepted<T> {
    pub protocol: T,
    /// Configuration for TLS from the first byte (implicit TLS).
    pub tls: Option<ServerTls>,
    /// Configuration for STARTTLS.
    pub start_tls: Option<ServerTls>,
}

/// Problem that concerns the whole server, not one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// Accepting pauses: out of descriptors. Holds the system's error text.
    Exhausted(String),
    /// New connections wait: the limit is reached, and no connection is idle.
    Full,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exhausted(reason) => write!(f, "accepting new connections is paused: {reason}"),
            Self::Full => {
                f.write_str("accepting new connections is paused: the limit is reached, and no connection is idle")
            }
        }
    }
}

/// Configuration of [`serve`].
pub(crate) struct ServerConfig {
    /// Listener groups; [`Incoming::listener_group`] is the index.
    pub listener_groups: Vec<Listeners>,
    pub threads: usize,
    /// Number of threads for jobs that may block.
    pub pool_threads: usize,
    /// Maximum connections per thread. One more takes the place of the one that has been idle longest, or waits in the
    /// kernel's accept queue.
    pub max_connections: usize,
    pub timeouts: ConnectionTimeouts,
    /// Time that open connections have to finish during shutdown.
    pub drain_timeout: Duration,
    /// Time at which the server stops by itself.
    pub deadline: Option<Moment>,
}

/// States of [`Shutdown`], in their order.
pub(super) const RUNNING: u8 = 0;
pub(super) const DRAINING: u8 = 1;
pub(super) const STOPPED: u8 = 2;

/// Shutdown state that all workers read, and the wakers of their polls.
pub(super) struct Shutdown {
    pub(super) state: AtomicU8,
    wakers: Vec<Arc<mio::Waker>>,
}

impl Shutdown {
    fn advance(&self, state: u8) {
        self.state.fetch_max(state, Ordering::Release);
        for waker in &self.wakers {
            // Fails only if the poll is closed, and then its thread has ended.
            let _ = waker.wake();
        }
    }
}

/// Serves until a signal, a wake-up or the deadline, then lets open connections finish. On each thread, `make`
/// creates the service at the start, and `finish` receives it at the end unless the thread failed.
pub(crate) fn serve<S: Service>(
    mut config: ServerConfig,
    signals: &mut Signals,
    make: impl Fn() -> S + Sync,
    finish: impl Fn(S) + Sync,
) -> Result<()> {
    let failed = |error: io::Error| {
        Failure::new(FailureKind::System, format!("cannot start the server: {}", io_error_text(&error)))
            .with_source(error)
    };
    raise_descriptor_limit();
    let polls = (0..config.threads).map(|_| Poll::new()).collect::<io::Result<Vec<_>>>().map_err(failed)?;
    let waker = |poll: &Poll| mio::Waker::new(poll.registry(), WAKER_TOKEN).map(Arc::new);
    let wakers = polls.iter().map(waker).collect::<io::Result<Vec<_>>>().map_err(failed)?;
    let stop = Shutdown { state: AtomicU8::new(RUNNING), wakers };
    let main_waker = signals.waker()?;
    let drained = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mut workers = Vec::new();
        let thread_pool = ThreadPool::start(scope, config.pool_threads).map_err(failed)?;
        for (index, poll) in polls.into_iter().enumerate() {
            let groups: Vec<_> = config.listener_groups.iter_mut().map(Listeners::take).collect();
            let pool = thread_pool.handle(&stop.wakers[index]);
            let (stop, make, finish, timeouts, max) = (&stop, &make, &finish, config.timeouts, config.max_connections);
            let wake_on_exit = WakeOnExit(signals.waker()?);
            let run = move || {
                // Dropped at the end of the thread, also after a panic.
                let _wake_on_exit = wake_on_exit;
                let mut worker = Worker::new(poll, groups, pool, timeouts, max, make())?;
                worker.run(stop)?;
                finish(worker.service);
                Ok(())
            };
            match std::thread::Builder::new().name(format!("serve-{index}")).spawn_scoped(scope, run) {
                Ok(worker) => workers.push(worker),
                Err(error) => {
                    stop.advance(STOPPED);
                    return Err(failed(error));
                }
            }
        }
        signals.wait(config.deadline);
        notify_stopping();
        stop.advance(DRAINING);
        let (drained, main_waker) = (&drained, &main_waker);
        let waiter = scope.spawn(move || {
            let results: Vec<io::Result<()>> =
                workers.into_iter().map(|worker| worker.join().unwrap_or(Ok(()))).collect();
            drained.store(true, Ordering::Release);
            main_waker.wake();
            results
        });
        // Drain until all workers are done, the timeout passes or a signal arrives (a second one, if the first
        // stopped the server).
        let drain_deadline = now() + config.drain_timeout;
        while !drained.load(Ordering::Acquire) {
            match signals.wait(Some(drain_deadline)) {
                WakeReason::Waker => {}
                WakeReason::Signal(_) | WakeReason::Timeout => break,
            }
        }
        stop.advance(STOPPED);
        let results = waiter.join().unwrap_or_default();
        thread_pool.join();
        results.into_iter().collect::<io::Result<()>>().map_err(failed)
    })
}

/// Wakes the main thread when a worker ends: a server that has lost a thread must stop.
struct WakeOnExit(Waker);

impl Drop for WakeOnExit {
    fn drop(&mut self) {
        self.0.wake();
    }
}

/// Descriptors of the process itself: listeners, polls, files of the command.
const OWN_DESCRIPTORS: u64 = 64;

/// Number of connections for which there are descriptors, with an open file for each.
pub(crate) fn connection_capacity() -> usize {
    use rustix::process::{Resource, getrlimit};
    let limit = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let free = limit - OWN_DESCRIPTORS.min(limit / 2);
    usize::try_from(free / 2).unwrap_or(usize::MAX).max(1)
}

/// Raises the soft limit of descriptors to the hard one; the low default is for programs that use `select`.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}
