//! The loop that every stream server shares.
//!
//! Owns readiness: each thread has its own poll, listeners, timers and connections, and never
//! blocks on any of them. It must not know what is said on a connection; a [`Service`] makes the
//! conversations and hears their facts. Ten thousand slow clients cost ten thousand small
//! records and no stack.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use mio::Poll;

use super::clock::now;
use super::connection::ConnectionTimeouts;
use super::event_loop::{WAKER_TOKEN, Worker};
use super::listen::Listeners;
use super::signals::{Signals, WakeReason, Waker};
use super::thread_pool::ThreadPool;
use super::tls::ServerTls;
use crate::error::{Error, Result, io_error_text};
use crate::exit::Exit;
use crate::protocol::StreamProtocol;
use crate::time::Moment;

/// What a server does with its connections. Each thread has one of its own.
pub(crate) trait Service {
    /// The conversation on each connection.
    type Protocol: StreamProtocol;

    /// A connection came: what is said on it, and under which TLS.
    fn accepted(&mut self, incoming: Incoming, now: Moment) -> Accepted<Self::Protocol>;

    /// One of the conversations told a fact.
    fn on_event(&mut self, fact: <Self::Protocol as StreamProtocol>::Event);

    /// A connection that was accepted is gone.
    fn on_closed(&mut self, _: Self::Protocol) {}

    /// Something that concerns the server itself.
    fn on_notice(&mut self, notice: Notice);
}

/// A connection that came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Incoming {
    /// From where; `None` is a Unix socket.
    pub peer: Option<SocketAddr>,
    /// Through which of the [`Plan::doors`].
    pub listener_group: usize,
}

/// What a connection gets.
#[derive(Debug)]
pub(crate) struct Accepted<T> {
    /// The conversation on it.
    pub protocol: T,
    /// What it shows at once, if TLS begins with the first octet.
    pub tls: Option<ServerTls>,
    /// What it shows when the conversation begins TLS.
    pub start_tls: Option<ServerTls>,
}

/// What a server has to say about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// Accepting rests for a moment; the text is the system's word.
    Exhausted(String),
}

/// How to serve.
pub(crate) struct ServerConfig {
    /// Where, in groups that the service can tell apart.
    pub listener_groups: Vec<Listeners>,
    /// On how many threads.
    pub threads: usize,
    /// How many more do the jobs of the conversations.
    pub pool_threads: usize,
    /// How many connections a thread has at once; more wait in the kernel's queue.
    pub max_connections: usize,
    /// How long each link waits.
    pub timeouts: ConnectionTimeouts,
    /// How long running conversations may go on after the stop.
    pub drain_timeout: Duration,
    /// When to stop by itself.
    pub deadline: Option<Moment>,
}

/// What a worker is to do.
pub(super) const RUNNING: u8 = 0;
pub(super) const DRAINING: u8 = 1;
pub(super) const STOPPED: u8 = 2;

/// How all workers are told.
pub(super) struct Shutdown {
    pub(super) state: AtomicU8,
    wakers: Vec<Arc<mio::Waker>>,
}

impl Shutdown {
    fn advance(&self, state: u8) {
        self.state.fetch_max(state, Ordering::Release);
        for waker in &self.wakers {
            // Fails only if the thread's poll is gone, and then so is the thread.
            let _ = waker.wake();
        }
    }
}

/// Serves until a signal, a nudge or the plan's end, then lets running conversations finish.
///
/// `make` and `finish` are called once per thread, on that thread: one makes its service, the
/// other takes it back in the end.
pub(crate) fn serve<S: Service>(
    mut config: ServerConfig,
    signals: &mut Signals,
    make: impl Fn() -> S + Sync,
    finish: impl Fn(S) + Sync,
) -> Result<()> {
    let failed = |error: io::Error| {
        Error::new(Exit::OsError, format!("cannot start serving: {}", io_error_text(&error))).with_source(error)
    };
    raise_descriptor_limit();
    let polls = (0..config.threads).map(|_| Poll::new()).collect::<io::Result<Vec<_>>>().map_err(failed)?;
    let waker = |poll: &Poll| mio::Waker::new(poll.registry(), WAKER_TOKEN).map(Arc::new);
    let wakers = polls.iter().map(waker).collect::<io::Result<Vec<_>>>().map_err(failed)?;
    let stop = Shutdown { state: AtomicU8::new(RUNNING), wakers };
    let nudge = signals.waker()?;
    let drained = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mut workers = Vec::new();
        let helpers = ThreadPool::start(scope, config.pool_threads).map_err(failed)?;
        for (number, poll) in polls.into_iter().enumerate() {
            let doors: Vec<_> = config.listener_groups.iter_mut().map(Listeners::take).collect();
            let counter = helpers.handle(&stop.wakers[number]);
            let (stop, make, finish, patience, most) = (&stop, &make, &finish, config.timeouts, config.max_connections);
            let end = WakeOnExit(signals.waker()?);
            let run = move || {
                // Dropped at the end of the thread, whatever ends it.
                let _end = end;
                let mut worker = Worker::new(poll, doors, counter, patience, most, make())?;
                worker.run(stop)?;
                finish(worker.service);
                Ok(())
            };
            match std::thread::Builder::new().name(format!("serve-{number}")).spawn_scoped(scope, run) {
                Ok(worker) => workers.push(worker),
                Err(error) => {
                    stop.advance(STOPPED);
                    return Err(failed(error));
                }
            }
        }
        signals.wait(config.deadline);
        stop.advance(DRAINING);
        let (drained, nudge) = (&drained, &nudge);
        let waiter = scope.spawn(move || {
            let results: Vec<io::Result<()>> =
                workers.into_iter().map(|worker| worker.join().unwrap_or(Ok(()))).collect();
            drained.store(true, Ordering::Release);
            nudge.wake();
            results
        });
        // The grace, unless all are done before or a second signal says: now.
        let patience = now() + config.drain_timeout;
        while !drained.load(Ordering::Acquire) {
            match signals.wait(Some(patience)) {
                WakeReason::Waker => {}
                WakeReason::Signal(_) | WakeReason::Timeout => break,
            }
        }
        stop.advance(STOPPED);
        let results = waiter.join().unwrap_or_default();
        helpers.join();
        results.into_iter().collect::<io::Result<()>>().map_err(failed)
    })
}

/// Tells the waiting thread that one of the others is over: a server with a dead thread is not one.
struct WakeOnExit(Waker);

impl Drop for WakeOnExit {
    fn drop(&mut self) {
        self.0.wake();
    }
}

/// The soft limit is what old programs with `select` need; a server takes what it is allowed.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}
