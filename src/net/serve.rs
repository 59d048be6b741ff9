//! The loop that every stream server shares.
//!
//! Owns readiness: each thread has its own poll, listeners, timers and connections, and never
//! blocks on any of them. It must not know what is said on a connection; a [`Service`] makes the
//! conversations and hears their facts. Ten thousand slow clients cost ten thousand small
//! records and no stack.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use rustix::net::{SocketFlags, acceptfrom_with};
use slab::Slab;
use socket2::Socket;

use super::clock::now;
use super::dial::{is_exhausted, word};
use super::link::{Link, Patience, Scratch, Status};
use super::listen::Listeners;
use super::signals::{Nudge, Signals, Woken};
use super::timers::{Alarm, Timers};
use super::tls::ServerSide;
use crate::conversation::Conversation;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::time::Moment;

/// Connections accepted in one turn before the others are looked after again.
const ACCEPTS_PER_TURN: usize = 64;
/// How long accepting rests when there is no descriptor left. Spinning would only take the
/// processor from those whose end frees one.
const ACCEPT_REST: Duration = Duration::from_millis(100);
/// Between two notices of the same kind.
const NOTICE_EVERY: Duration = Duration::from_secs(1);
const EVENTS_PER_TURN: usize = 1024;

/// What a server does with its connections. Each thread has one of its own.
pub trait Service {
    /// The conversation on each connection.
    type Talk: Conversation;

    /// A connection came from `peer` (`None`: a Unix socket).
    fn accepted(&mut self, peer: Option<SocketAddr>, now: Moment) -> Self::Talk;

    /// One of the conversations told a fact.
    fn fact(&mut self, fact: <Self::Talk as Conversation>::Fact);

    /// Something that concerns the server itself.
    fn notice(&mut self, notice: Notice);
}

/// What a server has to say about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Accepting rests for a moment; the text is the system's word.
    Exhausted(String),
}

/// How to serve.
pub struct Plan {
    /// Where.
    pub listeners: Listeners,
    /// On how many threads.
    pub threads: usize,
    /// With which certificate, if with TLS.
    pub tls: Option<ServerSide>,
    /// How long each link waits.
    pub patience: Patience,
    /// How long running conversations may go on after the stop.
    pub grace: Duration,
    /// When to stop by itself.
    pub until: Option<Moment>,
}

const RUNNING: u8 = 0;
const DRAINING: u8 = 1;
const STOPPED: u8 = 2;

struct Stop {
    state: AtomicU8,
    wakers: Vec<Waker>,
}

impl Stop {
    fn set(&self, state: u8) {
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
pub fn serve<S: Service>(
    mut plan: Plan,
    signals: &mut Signals,
    make: impl Fn() -> S + Sync,
    finish: impl Fn(S) + Sync,
) -> Result<()> {
    let failed =
        |error: io::Error| Error::new(Exit::System, format!("cannot start serving: {}", word(&error))).because(error);
    raise_descriptor_limit();
    let polls = (0..plan.threads).map(|_| Poll::new()).collect::<io::Result<Vec<_>>>().map_err(failed)?;
    let wakers =
        polls.iter().map(|poll| Waker::new(poll.registry(), WAKER)).collect::<io::Result<Vec<_>>>().map_err(failed)?;
    let stop = Stop { state: AtomicU8::new(RUNNING), wakers };
    let nudge = signals.nudger()?;
    let drained = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mut workers = Vec::new();
        for (number, poll) in polls.into_iter().enumerate() {
            let (listeners, tls) = (plan.listeners.take(), plan.tls.clone());
            let (stop, make, finish, patience) = (&stop, &make, &finish, plan.patience);
            let end = End(signals.nudger()?);
            let run = move || {
                // Dropped at the end of the thread, whatever ends it.
                let _end = end;
                let mut worker = Worker::new(poll, listeners, tls, patience, make())?;
                worker.run(stop)?;
                finish(worker.service);
                Ok(())
            };
            match std::thread::Builder::new().name(format!("serve-{number}")).spawn_scoped(scope, run) {
                Ok(worker) => workers.push(worker),
                Err(error) => {
                    stop.set(STOPPED);
                    return Err(failed(error));
                }
            }
        }
        signals.wait(plan.until);
        stop.set(DRAINING);
        let (drained, nudge) = (&drained, &nudge);
        let waiter = scope.spawn(move || {
            let results: Vec<io::Result<()>> =
                workers.into_iter().map(|worker| worker.join().unwrap_or(Ok(()))).collect();
            drained.store(true, Ordering::Release);
            nudge.nudge();
            results
        });
        // The grace, unless all are done before or a second signal says: now.
        let patience = now() + plan.grace;
        while !drained.load(Ordering::Acquire) {
            match signals.wait(Some(patience)) {
                Woken::Nudged => {}
                Woken::Signal(_) | Woken::Timeout => break,
            }
        }
        stop.set(STOPPED);
        let results = waiter.join().unwrap_or_default();
        results.into_iter().collect::<io::Result<()>>().map_err(failed)?;
        Ok(())
    })
}

/// Tells the waiting thread that one of the others is over: a server with a dead thread is not one.
struct End(Nudge);

impl Drop for End {
    fn drop(&mut self) {
        self.0.nudge();
    }
}

/// The soft limit is what old programs with `select` need; a server takes what it is allowed.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}

const WAKER: Token = Token(usize::MAX);
/// Tokens below are listeners', those from here on connections'.
const FIRST_CONNECTION: usize = 1024;

struct Worker<S: Service> {
    poll: Poll,
    listeners: Vec<Acceptor>,
    tls: Option<ServerSide>,
    patience: Patience,
    service: S,
    connections: Slab<Connection<S::Talk>>,
    timers: Timers,
    /// Connections that have more to do without being woken.
    busy: Vec<usize>,
    scratch: Scratch<<S::Talk as Conversation>::Fact>,
    /// Accepting rests until then.
    rest: Option<Moment>,
    noticed: Option<Moment>,
    generation: u64,
}

struct Acceptor {
    /// Its token.
    number: usize,
    socket: Socket,
    /// Edge-triggered: stays true until accept says that nobody waits.
    ready: bool,
}

struct Connection<T> {
    link: Link,
    talk: T,
    alarm: Alarm,
}

impl<S: Service> Worker<S> {
    fn new(
        poll: Poll,
        listeners: Vec<Socket>,
        tls: Option<ServerSide>,
        patience: Patience,
        service: S,
    ) -> io::Result<Self> {
        for (number, socket) in listeners.iter().enumerate() {
            poll.registry().register(&mut SourceFd(&socket.as_raw_fd()), Token(number), Interest::READABLE)?;
        }
        Ok(Self {
            poll,
            listeners: (0..).zip(listeners).map(|(number, socket)| Acceptor { number, socket, ready: true }).collect(),
            tls,
            patience,
            service,
            connections: Slab::new(),
            timers: Timers::default(),
            busy: Vec::new(),
            scratch: Scratch::default(),
            rest: None,
            noticed: None,
            generation: 0,
        })
    }

    fn run(&mut self, stop: &Stop) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        let mut ready = Vec::new();
        let mut draining = false;
        loop {
            let wait = self.next_wait(now());
            match self.poll.poll(&mut events, wait) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            let now = now();
            for event in &events {
                self.note(event);
            }
            match stop.state.load(Ordering::Acquire) {
                DRAINING if !draining => {
                    draining = true;
                    self.drain(now);
                }
                RUNNING | DRAINING => {}
                _ => {
                    self.cut();
                    return Ok(());
                }
            }
            self.accept(now);
            std::mem::swap(&mut self.busy, &mut ready);
            for slot in ready.drain(..) {
                self.turn(slot, now);
            }
            while let Some((slot, generation)) = self.timers.due(now) {
                if self.connections.get_mut(slot).is_some_and(|connection| connection.alarm.rings(generation)) {
                    self.turn(slot, now);
                }
            }
            if draining && self.connections.is_empty() {
                return Ok(());
            }
        }
    }

    /// How long nothing can happen unless a descriptor becomes ready.
    fn next_wait(&self, now: Moment) -> Option<Duration> {
        if !self.busy.is_empty() || (self.rest.is_none() && self.listeners.iter().any(|listener| listener.ready)) {
            return Some(Duration::ZERO);
        }
        // mio rounds down to milliseconds; one more keeps a timer from spinning through its last.
        let until = self.timers.next().into_iter().chain(self.rest).min()?;
        Some((until - now) + Duration::from_millis(1))
    }

    fn note(&mut self, event: &mio::event::Event) {
        match event.token() {
            WAKER => {}
            Token(number) if number < FIRST_CONNECTION => {
                if let Some(listener) = self.listeners.iter_mut().find(|listener| listener.number == number) {
                    listener.ready = true;
                }
            }
            Token(number) => {
                let slot = number - FIRST_CONNECTION;
                let Some(connection) = self.connections.get_mut(slot) else { return };
                if event.is_readable() || event.is_error() {
                    connection.link.readable();
                }
                if event.is_read_closed() {
                    connection.link.hung_up();
                }
                if event.is_writable() || event.is_error() {
                    connection.link.writable();
                }
                self.busy.push(slot);
            }
        }
    }

    fn accept(&mut self, now: Moment) {
        if self.rest.is_some_and(|rest| rest > now) {
            return;
        }
        self.rest = None;
        for _ in 0..ACCEPTS_PER_TURN {
            // Listeners take turns, so that a flood on one does not starve the others.
            let one = self.listeners.len().min(1);
            self.listeners.rotate_left(one);
            let Some(listener) = self.listeners.iter_mut().find(|listener| listener.ready) else { return };
            match acceptfrom_with(listener.socket.as_fd(), SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok((descriptor, peer)) => {
                    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
                    self.admit(Socket::from(descriptor), peer, now);
                }
                Err(errno) if errno == rustix::io::Errno::AGAIN => listener.ready = false,
                Err(errno) => {
                    let error = io::Error::from(errno);
                    if is_exhausted(&error) {
                        self.rest = Some(now + ACCEPT_REST);
                        self.notice(Notice::Exhausted(word(&error)), now);
                        return;
                    }
                    // Everything else concerns the one connection that did not come to be.
                }
            }
        }
    }

    fn admit(&mut self, socket: Socket, peer: Option<SocketAddr>, now: Moment) {
        if peer.is_some() {
            // Without it, an answer of two writes waits for the peer's delayed ACK.
            let _ = socket.set_tcp_nodelay(true);
        }
        let tls = self.tls.as_ref().map(ServerSide::connection);
        self.generation += 1;
        let connection = Connection {
            link: Link::new(socket, tls, self.patience, now),
            talk: self.service.accepted(peer, now),
            alarm: Alarm::new(self.generation << 32),
        };
        let slot = self.connections.insert(connection);
        let registered = self.connections.get(slot).is_some_and(|connection| {
            let descriptor = connection.link.fd().as_raw_fd();
            let token = Token(FIRST_CONNECTION + slot);
            self.poll
                .registry()
                .register(&mut SourceFd(&descriptor), token, Interest::READABLE | Interest::WRITABLE)
                .is_ok()
        });
        if registered {
            self.turn(slot, now);
        } else {
            self.connections.remove(slot);
        }
    }

    fn turn(&mut self, slot: usize, now: Moment) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let status = connection.link.turn(&mut connection.talk, &mut self.scratch, now);
        for fact in self.scratch.out.facts() {
            self.service.fact(fact);
        }
        match status {
            Status::Over => {
                // Dropping the socket closes it, which takes it out of the poll as well.
                self.connections.remove(slot);
            }
            Status::Busy => self.busy.push(slot),
            Status::Waiting | Status::Lingering => {
                let wanted = connection.link.wake_at(&connection.talk);
                self.timers.arm(slot, &mut connection.alarm, wanted);
            }
        }
    }

    /// Stops accepting, and lets every conversation know.
    fn drain(&mut self, now: Moment) {
        self.listeners.clear();
        let slots: Vec<usize> = self.connections.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            if let Some(connection) = self.connections.get_mut(slot) {
                connection.link.drain(&mut connection.talk, &mut self.scratch, now);
            }
            self.turn(slot, now);
        }
    }

    /// Breaks off what runs, and hears what it came to: an answer that was cut is told as well.
    fn cut(&mut self) {
        for (_, connection) in &mut self.connections {
            connection.link.cut(&mut connection.talk, &mut self.scratch);
            for fact in self.scratch.out.facts() {
                self.service.fact(fact);
            }
        }
    }

    fn notice(&mut self, notice: Notice, now: Moment) {
        if self.noticed.is_none_or(|last| now - last >= NOTICE_EVERY) {
            self.noticed = Some(now);
            self.service.notice(notice);
        }
    }
}
