//! One socket of an exchange.
//!
//! Owns what a socket remembers from call to call: how much it is worth asking for at once, what
//! it dropped, which stamps have not come. It must not wait.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, RawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, SockaddrIn, SockaddrIn6};
use rustix::event::PollFlags;
use socket2::Socket;

use super::batch::{Arrival, BATCH, Buffer, CONTROL, Family, Received};
use super::run::{Run, Sending};
use super::stamps::{Departures, brought};
use super::trouble::Entry;
use crate::conversation::{Datagram, DatagramActions, DatagramProtocol, TransmitError};
use crate::net::udp;
use crate::time::Moment;

/// What is asked for once two datagrams came without a pause between them. More would save little,
/// and whoever waits for the first answers would wait for all of them.
const GROWN: usize = 8;
/// How long a server looks again before it sleeps. To be woken costs both sides more than that, and
/// whoever sends in answer to what it gets would be slowed down to a step at a time.
const HOT: Duration = Duration::from_micros(15);
/// How often a send is repeated that failed with what may be an earlier one's error.
const REPEATS: u32 = 4;

/// A socket and what is known of it.
pub struct Port {
    /// What the exchange calls it.
    pub number: u64,
    socket: Socket,
    pub is_v6: bool,
    /// The one address it is bound to, unless that is every address.
    local: Option<IpAddr>,
    is_connected: bool,
    /// Whether what it sends may be merged: not if each is to have a stamp, nor if the device
    /// cannot make the checksums.
    merges: bool,
    /// Of a socket that stamps what it sends.
    departures: Option<Departures>,
    dropped: u32,
    /// How many datagrams the next call asks for, one or as many as it has grown to.
    wanted: usize,
    grown: usize,
    /// How much room there is for what the kernel tells beside each.
    room: usize,
    /// Whether the last one came right after another.
    again: bool,
    /// When the last one came.
    came: Moment,
    /// How long after that it is looked at again before anybody sleeps.
    hot: Duration,
    /// When it was last known to be empty: what comes now came later.
    floor: Moment,
    /// Whether there may be something to receive.
    readable: Cell<bool>,
    /// Whether there may be something in the error queue.
    errors: Cell<bool>,
}

impl Port {
    /// A server's socket.
    pub fn bound(number: u64, socket: Socket, address: SocketAddr, now: Moment) -> Self {
        let local = Some(address.ip()).filter(|ip| !ip.is_unspecified());
        Self::new(number, socket, address, local, now)
    }

    /// A client's socket, connected to `peer`.
    pub fn connected(number: u64, socket: Socket, peer: SocketAddr, now: Moment) -> Self {
        let local = socket.local_addr().ok().and_then(|local| local.as_socket()).map(|local| local.ip());
        let departures = udp::stamp(&socket).then(Departures::default);
        Self {
            merges: departures.is_none(),
            departures,
            is_connected: true,
            hot: Duration::ZERO,
            ..Self::new(number, socket, peer, local, now)
        }
    }

    fn new(number: u64, socket: Socket, family: SocketAddr, local: Option<IpAddr>, now: Moment) -> Self {
        Self {
            number,
            socket,
            is_v6: family.is_ipv6(),
            local,
            is_connected: false,
            merges: true,
            departures: None,
            dropped: 0,
            wanted: 1,
            grown: GROWN,
            room: CONTROL,
            again: false,
            came: now,
            hot: HOT,
            floor: now,
            readable: Cell::new(true),
            errors: Cell::new(false),
        }
    }

    /// Is never looked at again before somebody sleeps, and read in the largest batches then: nobody
    /// waits for an answer to the first of them.
    pub fn cool_down(&mut self) {
        (self.hot, self.grown) = (Duration::ZERO, BATCH);
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Where it can be reached.
    #[cfg(test)]
    pub fn local_address(&self) -> SocketAddr {
        self.socket.local_addr().ok().and_then(|local| local.as_socket()).expect("an inet socket is bound")
    }

    fn raw(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Notes what poll says.
    pub fn note(&self, ready: PollFlags) {
        self.readable.set(self.readable.get() || ready.contains(PollFlags::IN));
        self.errors.set(self.errors.get() || ready.contains(PollFlags::ERR));
    }

    /// Whether it is worth a look without waiting.
    pub fn is_busy(&self) -> bool {
        self.readable.get() || self.errors.get()
    }

    /// Reads what the error queue holds, then a batch of datagrams, and says whether there was
    /// anything. `now` moves on with each call that brought something.
    pub fn read<E: DatagramProtocol>(
        &mut self,
        buffer: &mut Buffer,
        exchange: &mut E,
        post: &mut DatagramActions<E::Event>,
        now: &mut Moment,
    ) -> bool {
        let told = (self.errors.get() || self.awaited() > 0) && self.read_errors(buffer, exchange, post, now);
        let came = if self.is_v6 {
            self.read_batch::<SockaddrIn6, E>(buffer, exchange, post, now)
        } else {
            self.read_batch::<SockaddrIn, E>(buffer, exchange, post, now)
        };
        told || came
    }

    fn awaited(&self) -> usize {
        self.departures.as_ref().map_or(0, Departures::awaited)
    }

    fn read_errors<E: DatagramProtocol>(
        &mut self,
        buffer: &mut Buffer,
        exchange: &mut E,
        post: &mut DatagramActions<E::Event>,
        now: &mut Moment,
    ) -> bool {
        let mut told = 0;
        loop {
            let wanted = self.awaited().clamp(1, BATCH);
            let (socket, floor) = (self.number, self.floor);
            let departures = &mut self.departures;
            let fd = self.socket.as_raw_fd();
            let read = buffer.receive::<()>(fd, wanted, CONTROL, MsgFlags::MSG_ERRQUEUE, |arrival, at| {
                *now = at;
                match arrival.notes.error.map(Entry::of) {
                    Some(Entry::Left(number)) => {
                        let ticket = departures.as_mut().and_then(|departures| departures.left(number));
                        if let Some((ticket, stamp)) = ticket.zip(arrival.notes.stamp) {
                            exchange.transmitted(ticket, brought(stamp, at, floor));
                        }
                    }
                    Some(Entry::Undelivered(error)) => {
                        let failure = TransmitError::Unreachable { socket, error: &error, bytes: arrival.bytes };
                        exchange.failed(&failure, at, post);
                    }
                    Some(Entry::Known) | None => {}
                }
            });
            let read = read.map(|received| received.count);
            told += read.unwrap_or(0);
            let settled = !self.errors.get() && self.awaited() == 0;
            if read != Err(Errno::EINTR) && (settled || read.unwrap_or(0) < wanted) {
                break;
            }
        }
        // An error without an entry sticks to the socket until something else is tried on it.
        if self.errors.take() && told == 0 {
            self.readable.set(true);
        }
        told > 0
    }

    fn read_batch<S: Family, E: DatagramProtocol>(
        &mut self,
        buffer: &mut Buffer,
        exchange: &mut E,
        post: &mut DatagramActions<E::Event>,
        now: &mut Moment,
    ) -> bool {
        let (fd, wanted, before) = (self.raw(), self.wanted, *now);
        let (mut dropped, mut last) = (self.dropped, *now);
        let read = buffer.receive::<S>(fd, wanted, self.room, MsgFlags::empty(), |arrival: Arrival<'_, S>, at| {
            let Some(peer) = arrival.peer.address() else { return };
            let stamp = arrival.notes.stamp;
            let datagram = Datagram {
                peer,
                local: arrival.notes.local.or(self.local),
                socket: self.number,
                received_at: stamp.map_or(at, |stamp| brought(stamp, at, self.floor)),
                has_kernel_timestamp: stamp.is_some(),
                ttl: arrival.notes.ttl,
                truncated: arrival.truncated,
                bytes: arrival.bytes,
            };
            exchange.received(&datagram, at, post);
            dropped = arrival.notes.dropped.unwrap_or(dropped);
            last = at;
        });
        *now = last;
        self.overflowed(dropped, exchange, post, *now);
        let readable = match read {
            Ok(Received { count, filled }) => {
                self.came = before;
                if count < wanted {
                    self.floor = before;
                }
                self.expect(count);
                self.fit(filled);
                true
            }
            Err(Errno::EINTR) => true,
            Err(Errno::EAGAIN) => {
                self.floor = before;
                let hot = before - self.came < self.hot;
                self.again &= hot;
                hot
            }
            Err(_) => {
                // An ICMP error that came just now; its entry in the error queue says more.
                self.errors.set(true);
                false
            }
        };
        self.readable.set(readable);
        read.is_ok_and(|received| received.count > 0)
    }

    /// What the kernel's table of sockets calls it.
    pub fn inode(&self) -> Option<u64> {
        rustix::fs::fstat(&self.socket).ok().map(|stat| stat.st_ino)
    }

    /// Tells how many datagrams have found no room since this was last asked; `dropped` is the
    /// kernel's count, which begins anew after 2³².
    pub fn overflowed<E: DatagramProtocol>(
        &mut self,
        dropped: u32,
        exchange: &mut E,
        post: &mut DatagramActions<E::Event>,
        now: Moment,
    ) {
        let lost = dropped.wrapping_sub(self.dropped);
        self.dropped = dropped;
        if lost > 0 {
            exchange.overflowed(lost.into(), now, post);
        }
    }

    /// Gives exactly the room that was filled, so that the headers can be used again. Where the
    /// datagram was sent to must never be cut off for that: an answer would leave from an address
    /// nobody asked. What can be is the stamps of the first batch after the first overflow, whose
    /// count then comes with the next one.
    fn fit(&mut self, filled: Option<usize>) {
        if self.local.is_some() && !self.is_connected {
            self.room = filled.unwrap_or(CONTROL);
        }
    }

    /// How much to ask for next time, after so much came.
    fn expect(&mut self, came: usize) {
        self.wanted = if came > 1 || (self.again && self.wanted == 1) { self.grown } else { 1 };
        self.again = true;
    }

    /// Sends a run of datagrams out of `octets`, and notes which failed.
    pub fn send<S: Family>(
        &mut self,
        sending: &mut Sending<S>,
        run: &Run<'_>,
        octets: &[u8],
        failures: &mut Vec<(u64, Errno)>,
    ) {
        // The system takes the address a socket is bound to by itself.
        let from = run.from().filter(|from| Some(*from) != self.local);
        let (mut next, mut repeats) = (0, 0);
        if self.merges && from.is_none() {
            // What does not go merged is told why when it is sent by itself.
            let merged = sending.send_merged(self.raw(), run, octets);
            self.merges = merged != Err(Errno::EIO);
            next = merged.unwrap_or(0);
        }
        sending.address(run);
        while let Some(ticket) = run.tickets().nth(next) {
            match sending.send(self.raw(), run, next, from) {
                Ok(count) => {
                    if let Some(departures) = &mut self.departures {
                        run.tickets().skip(next).take(count).for_each(|ticket| departures.sent(ticket));
                    }
                    (next, repeats) = (next + count.max(1), 0);
                }
                Err(Errno::EINTR) => {}
                Err(errno) if repeats < REPEATS && self.is_about_another(errno) => {
                    self.errors.set(true);
                    repeats += 1;
                }
                Err(errno) => {
                    failures.push((ticket, errno));
                    self.count_anew();
                    (next, repeats) = (next + 1, 0);
                }
            }
        }
        // The stamp of what left without a queue in between is there already.
        if self.awaited() > 0 {
            self.errors.set(true);
        }
    }

    /// Whether the error of a send may be what ICMP says about an earlier datagram: the kernel
    /// tells it to whoever calls next, and the error queue tells it in full.
    fn is_about_another(&self, errno: Errno) -> bool {
        self.is_connected && !matches!(errno, Errno::EAGAIN | Errno::ENOBUFS | Errno::EPERM | Errno::EMSGSIZE)
    }

    /// Whether a datagram that was not sent has used up a number depends on the kernel's version
    /// and on where it failed, so the count begins anew, without those whose stamps have not come.
    fn count_anew(&mut self) {
        if self.departures.is_some() {
            self.departures = udp::stamp(&self.socket).then(Departures::default);
        }
    }
}
