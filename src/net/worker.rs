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
use super::dial::is_exhausted;
use super::jobs::{Counter, Ticket};
use super::link::{Link, Patience, Scratch, Status};
use super::serve::{Arrival, DRAINING, Notice, RUNNING, Service, Stop, Welcome};
use super::timers::{Alarm, Timers};
use super::upgrade::Later;
use crate::conversation::StreamProtocol;
use crate::error::io_error_text;
use crate::time::Moment;

/// Connections accepted in one turn before the others are looked after again.
const ACCEPTS_PER_TURN: usize = 64;
/// How long accepting rests when there is no descriptor left. Spinning would only take the
/// processor from those whose end frees one.
const ACCEPT_REST: Duration = Duration::from_millis(100);
/// Between two notices of the same kind.
const NOTICE_EVERY: Duration = Duration::from_secs(1);
const EVENTS_PER_TURN: usize = 1024;

/// What wakes a worker from outside.
pub const WAKER: Token = Token(usize::MAX);
/// Tokens below are listeners', those from here on connections'.
const FIRST_CONNECTION: usize = 1024;

/// A thread's share of a server.
pub struct Worker<S: Service> {
    poll: Poll,
    listeners: Vec<Acceptor>,
    counter: Counter,
    patience: Patience,
    /// How many connections it has at once.
    most: usize,
    /// Who makes its conversations.
    pub service: S,
    connections: Slab<Connection<S::Talk>>,
    timers: Timers,
    /// Connections that have more to do without being woken.
    busy: Vec<usize>,
    scratch: Scratch<<S::Talk as StreamProtocol>::Event>,
    /// Accepting rests until then.
    rest: Option<Moment>,
    noticed: Option<Moment>,
    generation: u64,
}

struct Acceptor {
    /// Its token.
    number: usize,
    door: usize,
    socket: Socket,
    /// Edge-triggered: stays true until accept says that nobody waits.
    ready: bool,
}

struct Connection<T> {
    link: Link,
    talk: T,
    alarm: Alarm,
    /// The how-manieth of this thread it is.
    number: u64,
}

impl<S: Service> Worker<S> {
    /// A worker with listeners of its own.
    pub fn new(
        poll: Poll,
        doors: Vec<Vec<Socket>>,
        counter: Counter,
        patience: Patience,
        most: usize,
        service: S,
    ) -> io::Result<Self> {
        let mut listeners = Vec::new();
        for (door, socket) in (0..).zip(doors).flat_map(|(door, all)| all.into_iter().map(move |one| (door, one))) {
            let number = listeners.len();
            poll.registry().register(&mut SourceFd(&socket.as_raw_fd()), Token(number), Interest::READABLE)?;
            listeners.push(Acceptor { number, door, socket, ready: true });
        }
        Ok(Self {
            poll,
            listeners,
            counter,
            patience,
            most,
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

    /// Serves until told to stop.
    pub fn run(&mut self, stop: &Stop) -> io::Result<()> {
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
            while let Some(Ticket { slot, number }) = self.counter.done() {
                if let Some(connection) = self.connections.get_mut(slot).filter(|found| found.number == number) {
                    connection.link.job_done(&mut connection.talk, &mut self.scratch, now);
                    self.turn(slot, now);
                }
            }
            std::mem::swap(&mut self.busy, &mut ready);
            for slot in ready.drain(..) {
                self.turn(slot, now);
            }
            while let Some((slot, generation)) = self.timers.due(now) {
                if self.connections.get_mut(slot).is_some_and(|connection| connection.alarm.rings(generation)) {
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
    fn next_wait(&self, now: Moment) -> Option<Duration> {
        let accepts = self.rest.is_none() && self.has_room() && self.listeners.iter().any(|listener| listener.ready);
        if accepts || !self.busy.is_empty() {
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

    fn has_room(&self) -> bool {
        self.connections.len() < self.most
    }

    fn accept(&mut self, now: Moment) {
        if self.rest.is_some_and(|rest| rest > now) {
            return;
        }
        self.rest = None;
        for _ in 0..ACCEPTS_PER_TURN {
            if !self.has_room() {
                return;
            }
            // Listeners take turns, so that a flood on one does not starve the others.
            let one = self.listeners.len().min(1);
            self.listeners.rotate_left(one);
            let Some(listener) = self.listeners.iter_mut().find(|listener| listener.ready) else { return };
            match acceptfrom_with(listener.socket.as_fd(), SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok((descriptor, peer)) => {
                    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
                    let arrival = Arrival { peer, door: listener.door };
                    self.admit(Socket::from(descriptor), arrival, now);
                }
                Err(errno) if errno == rustix::io::Errno::AGAIN => listener.ready = false,
                Err(errno) => {
                    let error = io::Error::from(errno);
                    if is_exhausted(&error) {
                        self.rest = Some(now + ACCEPT_REST);
                        self.notice(Notice::Exhausted(io_error_text(&error)), now);
                        return;
                    }
                    // Everything else concerns the one connection that did not come to be.
                }
            }
        }
    }

    fn admit(&mut self, socket: Socket, arrival: Arrival, now: Moment) {
        let Welcome { talk, tls, upgrade } = self.service.accepted(arrival, now);
        let link = Link::new(socket, tls.map(|side| side.connection()), self.patience, now);
        let link = match upgrade {
            Some(side) => link.with_upgrade(Later::Side(side), self.patience.handshake),
            None => link,
        };
        self.generation += 1;
        let number = self.generation;
        let connection = Connection { link, talk, alarm: Alarm::new(number << 32), number };
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
            let Connection { talk, .. } = self.connections.remove(slot);
            self.service.gone(talk);
        }
    }

    fn turn(&mut self, slot: usize, now: Moment) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let status = connection.link.turn(&mut connection.talk, &mut self.scratch, now);
        for fact in self.scratch.out.events() {
            self.service.fact(fact);
        }
        if let Some(job) = self.scratch.out.take_job() {
            self.counter.hand_in(job, Ticket { slot, number: connection.number });
        }
        match status {
            Status::Over => {
                // Dropping the socket closes it, which takes it out of the poll as well.
                let Connection { talk, .. } = self.connections.remove(slot);
                self.service.gone(talk);
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
            for fact in self.scratch.out.events() {
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
