//! One thread of a stream server: its poll, listeners, timers and connections.
//!
//! Owns the turn: what is ready, what is due, who wants more, who comes in. It never blocks but in
//! its poll.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::atomic::Ordering;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustix::net::{SocketFlags, acceptfrom_with};
use slab::Slab;
use socket2::Socket;

use super::clock::now;
use super::connect::is_exhausted;
use super::connection::StartTls;
use super::connection::{Connection, ConnectionTimeouts, Scratch, Status};
use super::server::{Accepted, DRAINING, Incoming, Notice, RUNNING, Service, Shutdown};
use super::thread_pool::{ConnectionId, PoolHandle};
use super::timers::{ConnectionTimer, Timers};
use crate::error::io_error_text;
use crate::protocol::StreamProtocol;
use crate::time::Moment;

/// Connections accepted in one turn before the others are looked after again.
const MAX_ACCEPTS_PER_TURN: usize = 64;
/// How long accepting rests when there is no descriptor left. Spinning would only take the
/// processor from those whose end frees one.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Between two notices of the same kind.
const NOTICE_INTERVAL: Duration = Duration::from_secs(1);
const MAX_EVENTS_PER_TURN: usize = 1024;

/// What wakes a worker from outside.
pub(super) const WAKER_TOKEN: Token = Token(usize::MAX);
/// Tokens below are listeners', those from here on connections'.
const FIRST_CONNECTION_TOKEN: usize = 1024;

/// A thread's share of a server.
pub(super) struct Worker<S: Service> {
    poll: Poll,
    listeners: Vec<Acceptor>,
    thread_pool: PoolHandle,
    timeouts: ConnectionTimeouts,
    /// How many connections it has at once.
    max_connections: usize,
    /// Who makes its conversations.
    pub service: S,
    connections: Slab<ConnectionEntry<S::Protocol>>,
    timers: Timers,
    /// Connections that have more to do without being woken.
    busy: Vec<usize>,
    scratch: Scratch<<S::Protocol as StreamProtocol>::Event>,
    /// Accepting rests until then.
    accept_paused_until: Option<Moment>,
    last_notice: Option<Moment>,
    last_ordinal: u64,
}

struct Acceptor {
    /// Its token.
    index: usize,
    group: usize,
    socket: Socket,
    /// Edge-triggered: stays true until accept says that nobody waits.
    ready: bool,
}

struct ConnectionEntry<T> {
    connection: Connection,
    protocol: T,
    timer: ConnectionTimer,
    /// The how-manieth of this thread it is.
    ordinal: u64,
}

impl<S: Service> Worker<S> {
    /// A worker with listeners of its own.
    pub(super) fn new(
        poll: Poll,
        listener_groups: Vec<Vec<Socket>>,
        thread_pool: PoolHandle,
        timeouts: ConnectionTimeouts,
        max_connections: usize,
        service: S,
    ) -> io::Result<Self> {
        let mut listeners = Vec::new();
        for (door, socket) in
            (0..).zip(listener_groups).flat_map(|(door, all)| all.into_iter().map(move |one| (door, one)))
        {
            let number = listeners.len();
            poll.registry().register(&mut SourceFd(&socket.as_raw_fd()), Token(number), Interest::READABLE)?;
            listeners.push(Acceptor { index: number, group: door, socket, ready: true });
        }
        Ok(Self {
            poll,
            listeners,
            thread_pool,
            timeouts,
            max_connections,
            service,
            connections: Slab::new(),
            timers: Timers::default(),
            busy: Vec::new(),
            scratch: Scratch::default(),
            accept_paused_until: None,
            last_notice: None,
            last_ordinal: 0,
        })
    }

    /// Serves until told to stop.
    pub(super) fn run(&mut self, stop: &Shutdown) -> io::Result<()> {
        let mut events = Events::with_capacity(MAX_EVENTS_PER_TURN);
        let mut ready = Vec::new();
        let mut draining = false;
        loop {
            let wait = self.poll_timeout(now());
            match self.poll.poll(&mut events, wait) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            let now = now();
            for event in &events {
                self.mark_ready(event);
            }
            match stop.state.load(Ordering::Acquire) {
                DRAINING if !draining => {
                    draining = true;
                    self.drain(now);
                }
                RUNNING | DRAINING => {}
                _ => {
                    self.abort_connections();
                    return Ok(());
                }
            }
            while let Some(ConnectionId { slot, ordinal: number }) = self.thread_pool.next_completed() {
                if let Some(connection) = self.connections.get_mut(slot).filter(|found| found.ordinal == number) {
                    connection.connection.job_done(&mut connection.protocol, &mut self.scratch, now);
                    self.turn(slot, now);
                }
            }
            std::mem::swap(&mut self.busy, &mut ready);
            for slot in ready.drain(..) {
                self.turn(slot, now);
            }
            while let Some((slot, generation)) = self.timers.pop_due(now) {
                if self.connections.get_mut(slot).is_some_and(|connection| connection.timer.fires(generation)) {
                    self.turn(slot, now);
                }
            }
            // Those who are there come first: whoever has gone makes room, and gives a descriptor back.
            self.accept(now);
            if draining && self.connections.is_empty() {
                return Ok(());
            }
        }
    }

    /// How long nothing can happen unless a descriptor becomes ready.
    fn poll_timeout(&self, now: Moment) -> Option<Duration> {
        let accepts = self.accept_paused_until.is_none()
            && self.has_capacity()
            && self.listeners.iter().any(|listener| listener.ready);
        if accepts || !self.busy.is_empty() {
            return Some(Duration::ZERO);
        }
        // mio rounds down to milliseconds; one more keeps a timer from spinning through its last.
        let until = self.timers.next_deadline().into_iter().chain(self.accept_paused_until).min()?;
        Some((until - now) + Duration::from_millis(1))
    }

    fn mark_ready(&mut self, event: &mio::event::Event) {
        match event.token() {
            WAKER_TOKEN => {}
            Token(number) if number < FIRST_CONNECTION_TOKEN => {
                if let Some(listener) = self.listeners.iter_mut().find(|listener| listener.index == number) {
                    listener.ready = true;
                }
            }
            Token(number) => {
                let slot = number - FIRST_CONNECTION_TOKEN;
                let Some(connection) = self.connections.get_mut(slot) else { return };
                if event.is_readable() || event.is_error() {
                    connection.connection.set_readable();
                }
                if event.is_read_closed() {
                    connection.connection.set_read_closed();
                }
                if event.is_writable() || event.is_error() {
                    connection.connection.set_writable();
                }
                self.busy.push(slot);
            }
        }
    }

    fn has_capacity(&self) -> bool {
        self.connections.len() < self.max_connections
    }

    fn accept(&mut self, now: Moment) {
        if self.accept_paused_until.is_some_and(|rest| rest > now) {
            return;
        }
        self.accept_paused_until = None;
        for _ in 0..MAX_ACCEPTS_PER_TURN {
            if !self.has_capacity() {
                return;
            }
            // Listeners take turns, so that a flood on one does not starve the others.
            let one = self.listeners.len().min(1);
            self.listeners.rotate_left(one);
            let Some(listener) = self.listeners.iter_mut().find(|listener| listener.ready) else { return };
            match acceptfrom_with(listener.socket.as_fd(), SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok((descriptor, peer)) => {
                    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
                    let arrival = Incoming { peer, listener_group: listener.group };
                    self.add_connection(Socket::from(descriptor), arrival, now);
                }
                Err(errno) if errno == rustix::io::Errno::AGAIN => listener.ready = false,
                Err(errno) => {
                    let error = io::Error::from(errno);
                    if is_exhausted(&error) {
                        self.accept_paused_until = Some(now + ACCEPT_PAUSE);
                        self.emit_notice(Notice::Exhausted(io_error_text(&error)), now);
                        return;
                    }
                    // Everything else concerns the one connection that did not come to be.
                }
            }
        }
    }

    fn add_connection(&mut self, socket: Socket, incoming: Incoming, now: Moment) {
        let Accepted { protocol: talk, tls, start_tls: upgrade } = self.service.accepted(incoming, now);
        let link = Connection::new(socket, tls.map(|side| side.connection()), self.timeouts, now);
        let link = match upgrade {
            Some(side) => link.with_start_tls(StartTls::Server(side), self.timeouts.handshake),
            None => link,
        };
        self.last_ordinal += 1;
        let number = self.last_ordinal;
        let connection = ConnectionEntry {
            connection: link,
            protocol: talk,
            timer: ConnectionTimer::new(number << 32),
            ordinal: number,
        };
        let slot = self.connections.insert(connection);
        let registered = self.connections.get(slot).is_some_and(|connection| {
            let descriptor = connection.connection.fd().as_raw_fd();
            let token = Token(FIRST_CONNECTION_TOKEN + slot);
            self.poll
                .registry()
                .register(&mut SourceFd(&descriptor), token, Interest::READABLE | Interest::WRITABLE)
                .is_ok()
        });
        if registered {
            self.turn(slot, now);
        } else {
            let ConnectionEntry { protocol: talk, .. } = self.connections.remove(slot);
            self.service.on_closed(talk);
        }
    }

    fn turn(&mut self, slot: usize, now: Moment) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let status = connection.connection.turn(&mut connection.protocol, &mut self.scratch, now);
        for fact in self.scratch.actions.events() {
            self.service.on_event(fact);
        }
        if let Some(job) = self.scratch.actions.take_job() {
            self.thread_pool.submit(job, ConnectionId { slot, ordinal: connection.ordinal });
        }
        match status {
            Status::Closed => {
                // Dropping the socket closes it, which takes it out of the poll as well.
                let ConnectionEntry { protocol: talk, .. } = self.connections.remove(slot);
                self.service.on_closed(talk);
            }
            Status::Busy => self.busy.push(slot),
            Status::Waiting | Status::Lingering => {
                let wanted = connection.connection.wake_at(&connection.protocol);
                self.timers.arm(slot, &mut connection.timer, wanted);
            }
        }
    }

    /// Stops accepting, and lets every conversation know.
    fn drain(&mut self, now: Moment) {
        self.listeners.clear();
        let slots: Vec<usize> = self.connections.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            if let Some(connection) = self.connections.get_mut(slot) {
                connection.connection.drain(&mut connection.protocol, &mut self.scratch, now);
            }
            self.turn(slot, now);
        }
    }

    /// Breaks off what runs, and hears what it came to: an answer that was cut is told as well.
    fn abort_connections(&mut self) {
        for (_, connection) in &mut self.connections {
            connection.connection.abort(&mut connection.protocol, &mut self.scratch);
            for fact in self.scratch.actions.events() {
                self.service.on_event(fact);
            }
        }
    }

    fn emit_notice(&mut self, notice: Notice, now: Moment) {
        if self.last_notice.is_none_or(|last| now - last >= NOTICE_INTERVAL) {
            self.last_notice = Some(now);
            self.service.on_notice(notice);
        }
    }
}
