//! Event loop of a stream server: one thread with its poll, listeners, timers and connections.
//!
//! Owns the order of a turn: ready sockets, finished jobs, busy connections, due timers, new connections.
//! It blocks only in its poll.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::atomic::Ordering;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SocketFlags, acceptfrom_with};
use slab::Slab;
use socket2::Socket;

use super::clock::now;
use super::connect::is_exhausted;
use super::connection::{Connection, Status};
use super::recv_buffer::Scratch;
use super::server::{Accepted, DRAINING, Incoming, Notice, RUNNING, Service, Shutdown};
use super::thread_pool::{ConnectionId, PoolHandle};
use super::timers::{ConnectionTimeouts, ConnectionTimer, Timers};
use super::tls::StartTls;
use crate::failure::io_error_text;
use crate::protocol::StreamProtocol;
use crate::time::Moment;

/// Connections accepted in one turn before the existing ones are served again.
const MAX_ACCEPTS_PER_TURN: usize = 64;
/// Pause of accepting when descriptors run out. Retrying at once would only take CPU time from the
/// connections whose end frees a descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Least time between two notices.
const NOTICE_INTERVAL: Duration = Duration::from_secs(1);
const MAX_EVENTS_PER_TURN: usize = 1024;

pub(super) const WAKER_TOKEN: Token = Token(usize::MAX);
/// Token of connection slot 0; smaller tokens belong to listeners.
const FIRST_CONNECTION_TOKEN: usize = 1024;

/// Worker of a server: the state of one thread.
pub(super) struct Worker<S: Service> {
    poll: Poll,
    listeners: Vec<Acceptor>,
    thread_pool: PoolHandle,
    timeouts: ConnectionTimeouts,
    max_connections: usize,
    pub service: S,
    connections: Slab<ConnectionEntry<S::Protocol>>,
    timers: Timers,
    /// Slots that can proceed without waiting.
    busy: Vec<usize>,
    scratch: Scratch<<S::Protocol as StreamProtocol>::Event>,
    accept_pause: AcceptPause,
    last_ordinal: u64,
}

/// Pause of accepting while descriptors have run out, or all connections are in use.
#[derive(Default)]
struct AcceptPause {
    until: Option<Moment>,
    /// The limit of connections is reached, and none is idle.
    is_full: bool,
    last_notice: Option<Moment>,
}

struct Acceptor {
    /// Token of the listener.
    index: usize,
    group: usize,
    socket: Socket,
    /// Edge-triggered readiness: stays true until accept reports EAGAIN.
    ready: bool,
}

struct ConnectionEntry<T> {
    connection: Connection,
    protocol: T,
    timer: ConnectionTimer,
    /// Number of the connection on this thread, from 1.
    ordinal: u64,
}

/// Returns whether a connection waits on a listener.
fn is_readable(listener: &Socket) -> bool {
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&at_once)).is_ok_and(|ready| ready > 0)
}

impl<S: Service> Worker<S> {
    /// Creates a worker with its own listeners.
    pub(super) fn new(
        poll: Poll,
        listener_groups: Vec<Vec<Socket>>,
        thread_pool: PoolHandle,
        timeouts: ConnectionTimeouts,
        max_connections: usize,
        service: S,
    ) -> io::Result<Self> {
        let mut listeners = Vec::new();
        for (group, socket) in
            (0..).zip(listener_groups).flat_map(|(group, all)| all.into_iter().map(move |socket| (group, socket)))
        {
            let index = listeners.len();
            poll.registry().register(&mut SourceFd(&socket.as_raw_fd()), Token(index), Interest::READABLE)?;
            listeners.push(Acceptor { index, group, socket, ready: true });
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
            accept_pause: AcceptPause::default(),
            last_ordinal: 0,
        })
    }

    /// Serves until `stop` requests shutdown.
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
            while let Some(ConnectionId { slot, ordinal }) = self.thread_pool.next_completed() {
                if let Some(entry) = self.connections.get_mut(slot).filter(|found| found.ordinal == ordinal) {
                    entry.connection.job_done(&mut entry.protocol, &mut self.scratch, now);
                    self.turn(slot, now);
                }
            }
            std::mem::swap(&mut self.busy, &mut ready);
            for slot in ready.drain(..) {
                self.turn(slot, now);
            }
            while let Some((slot, generation)) = self.timers.pop_due(now) {
                if self.connections.get_mut(slot).is_some_and(|entry| entry.timer.fires(generation)) {
                    self.turn(slot, now);
                }
            }
            // Existing connections come first: those that close free a slot and a descriptor.
            self.accept(now);
            if draining && self.connections.is_empty() {
                return Ok(());
            }
        }
    }

    /// Returns the timeout for the poll; `None` waits for readiness only.
    fn poll_timeout(&self, now: Moment) -> Option<Duration> {
        let accepts = self.accept_pause.until.is_none()
            && !self.accept_pause.is_full
            && self.listeners.iter().any(|listener| listener.ready);
        if accepts || !self.busy.is_empty() {
            return Some(Duration::ZERO);
        }
        // mio rounds down to milliseconds; one more avoids spinning through a timer's last millisecond.
        let deadline = self.timers.next_deadline().into_iter().chain(self.accept_pause.until).min()?;
        Some((deadline - now) + Duration::from_millis(1))
    }

    fn mark_ready(&mut self, event: &mio::event::Event) {
        match event.token() {
            WAKER_TOKEN => {}
            Token(index) if index < FIRST_CONNECTION_TOKEN => {
                if let Some(listener) = self.listeners.iter_mut().find(|listener| listener.index == index) {
                    listener.ready = true;
                }
            }
            Token(index) => {
                let slot = index - FIRST_CONNECTION_TOKEN;
                let Some(entry) = self.connections.get_mut(slot) else { return };
                if event.is_readable() || event.is_error() {
                    entry.connection.set_readable();
                }
                if event.is_read_closed() {
                    entry.connection.set_read_closed();
                }
                if event.is_writable() || event.is_error() {
                    entry.connection.set_writable();
                }
                self.busy.push(slot);
            }
        }
    }

    fn has_capacity(&self) -> bool {
        self.connections.len() < self.max_connections
    }

    fn accept(&mut self, now: Moment) {
        if self.accept_pause.until.is_some_and(|until| until > now) {
            return;
        }
        self.accept_pause.until = None;
        self.accept_pause.is_full = false;
        for _ in 0..MAX_ACCEPTS_PER_TURN {
            // Listeners are served in rotation, so that a flood on one does not starve the others.
            let one = self.listeners.len().min(1);
            self.listeners.rotate_left(one);
            let Some(index) = self.listeners.iter().position(|listener| listener.ready) else { return };
            if !self.has_capacity() && !self.close_oldest_idle(index, now) {
                return;
            }
            let Some(listener) = self.listeners.get_mut(index) else { return };
            match acceptfrom_with(listener.socket.as_fd(), SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok((descriptor, peer)) => {
                    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
                    let incoming = Incoming { peer, listener_group: listener.group };
                    self.add_connection(Socket::from(descriptor), incoming, now);
                }
                Err(errno) if errno == rustix::io::Errno::AGAIN => listener.ready = false,
                Err(errno) => {
                    let error = io::Error::from(errno);
                    if is_exhausted(&error) {
                        self.accept_pause.until = Some(now + ACCEPT_PAUSE);
                        self.emit_notice(Notice::Exhausted(io_error_text(&error)), now);
                        return;
                    }
                    // Other errors concern only the connection that was not accepted.
                }
            }
        }
    }

    /// Closes a connection for one that waits on a listener; returns false if none waits, or no connection is idle.
    fn close_oldest_idle(&mut self, index: usize, now: Moment) -> bool {
        let Some(listener) = self.listeners.get_mut(index) else { return false };
        if !is_readable(&listener.socket) {
            listener.ready = false;
            return false;
        }
        let idle =
            |(slot, entry): (usize, &ConnectionEntry<S::Protocol>)| Some((entry.protocol.idle_deadline()?, slot));
        let Some((_, slot)) = self.connections.iter().filter_map(idle).min() else {
            self.accept_pause.is_full = true;
            self.emit_notice(Notice::Full, now);
            return false;
        };
        let ConnectionEntry { protocol, .. } = self.connections.remove(slot);
        self.service.on_closed(protocol);
        true
    }

    fn add_connection(&mut self, socket: Socket, incoming: Incoming, now: Moment) {
        let Accepted { protocol, tls, start_tls } = self.service.accepted(incoming, now);
        let mut connection = Connection::new(socket, tls.map(|tls| tls.connection()), self.timeouts, now);
        if let Some(tls) = start_tls {
            connection = connection.with_start_tls(StartTls::Server(tls), self.timeouts.handshake);
        }
        self.last_ordinal += 1;
        let ordinal = self.last_ordinal;
        let timer = ConnectionTimer::new(ordinal << 32);
        let slot = self.connections.insert(ConnectionEntry { connection, protocol, timer, ordinal });
        let registered = self.connections.get(slot).is_some_and(|entry| {
            let descriptor = entry.connection.fd().as_raw_fd();
            let token = Token(FIRST_CONNECTION_TOKEN + slot);
            self.poll
                .registry()
                .register(&mut SourceFd(&descriptor), token, Interest::READABLE | Interest::WRITABLE)
                .is_ok()
        });
        if registered {
            self.turn(slot, now);
        } else {
            let ConnectionEntry { protocol, .. } = self.connections.remove(slot);
            self.service.on_closed(protocol);
        }
    }

    fn turn(&mut self, slot: usize, now: Moment) {
        let Some(entry) = self.connections.get_mut(slot) else { return };
        let status = entry.connection.turn(&mut entry.protocol, &mut self.scratch, now);
        for event in self.scratch.actions.events() {
            self.service.on_event(event);
        }
        if let Some(job) = self.scratch.actions.take_job() {
            self.thread_pool.submit(job, ConnectionId { slot, ordinal: entry.ordinal });
        }
        match status {
            Status::Closed => {
                // Dropping the socket closes it, which also removes it from the poll.
                let ConnectionEntry { protocol, .. } = self.connections.remove(slot);
                self.service.on_closed(protocol);
            }
            Status::Busy => self.busy.push(slot),
            Status::Waiting | Status::Lingering => {
                let deadline = entry.connection.wake_at(&entry.protocol);
                self.timers.arm(slot, &mut entry.timer, deadline);
            }
        }
    }

    /// Stops accepting and asks every connection to finish.
    fn drain(&mut self, now: Moment) {
        self.listeners.clear();
        let slots: Vec<usize> = self.connections.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            if let Some(entry) = self.connections.get_mut(slot) {
                entry.connection.drain(&mut entry.protocol, &mut self.scratch, now);
            }
            self.turn(slot, now);
        }
    }

    /// Ends all connections and reports their last events, such as an incomplete response.
    fn abort_connections(&mut self) {
        for (_, entry) in &mut self.connections {
            entry.connection.abort(&mut entry.protocol, &mut self.scratch);
            for event in self.scratch.actions.events() {
                self.service.on_event(event);
            }
        }
    }

    fn emit_notice(&mut self, notice: Notice, now: Moment) {
        if self.accept_pause.last_notice.is_none_or(|last| now - last >= NOTICE_INTERVAL) {
            self.accept_pause.last_notice = Some(now);
            self.service.on_notice(notice);
        }
    }
}
