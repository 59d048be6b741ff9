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

use super::icmp::ErrorQueueEntry;
use super::recv::{AddressFamily, BATCH_SIZE, BatchBuffer, CONTROL_SIZE, RawDatagram, ReceivedBatch};
use super::send::{SendBatch, SendHeaders};
use super::timestamps::{PendingTimestamps, to_monotonic};
use crate::net::udp;
use crate::protocol::{Datagram, DatagramActions, DatagramProtocol, TransmitError};
use crate::time::Moment;

/// What is asked for once two datagrams came without a pause between them. More would save little,
/// and whoever waits for the first answers would wait for all of them.
const GROWN_BATCH_SIZE: usize = 8;
/// How long a server looks again before it sleeps. To be woken costs both sides more than that, and
/// whoever sends in answer to what it gets would be slowed down to a step at a time.
const BUSY_POLL_TIME: Duration = Duration::from_micros(15);
/// How often a send is repeated that failed with what may be an earlier one's error.
const MAX_SEND_RETRIES: u32 = 4;

/// A socket and what is known of it.
pub(super) struct DatagramSocket {
    /// What the exchange calls it.
    pub id: u64,
    socket: Socket,
    pub is_v6: bool,
    /// The one address it is bound to, unless that is every address.
    local_ip: Option<IpAddr>,
    is_connected: bool,
    /// Whether what it sends may be merged: not if each is to have a stamp, nor if the device
    /// cannot make the checksums.
    gso_enabled: bool,
    /// Of a socket that stamps what it sends.
    pending_timestamps: Option<PendingTimestamps>,
    dropped: u32,
    /// How many datagrams the next call asks for, one or as many as it has grown to.
    batch_size: usize,
    grown_batch_size: usize,
    /// How much room there is for what the kernel tells beside each.
    control_len: usize,
    /// Whether the last one came right after another.
    back_to_back: bool,
    /// When the last one came.
    last_received: Moment,
    /// How long after that it is looked at again before anybody sleeps.
    busy_poll_time: Duration,
    /// When it was last known to be empty: what comes now came later.
    last_empty: Moment,
    /// Whether there may be something to receive.
    readable: Cell<bool>,
    /// Whether there may be something in the error queue.
    errors_pending: Cell<bool>,
}

impl DatagramSocket {
    /// A server's socket.
    pub(super) fn bound(id: u64, socket: Socket, address: SocketAddr, now: Moment) -> Self {
        let local = Some(address.ip()).filter(|ip| !ip.is_unspecified());
        Self::new(id, socket, address, local, now)
    }

    /// A client's socket, connected to `peer`.
    pub(super) fn connected(id: u64, socket: Socket, peer: SocketAddr, now: Moment) -> Self {
        let local = socket.local_addr().ok().and_then(|local| local.as_socket()).map(|local| local.ip());
        let departures = udp::enable_timestamps(&socket).then(PendingTimestamps::default);
        Self {
            gso_enabled: departures.is_none(),
            pending_timestamps: departures,
            is_connected: true,
            busy_poll_time: Duration::ZERO,
            ..Self::new(id, socket, peer, local, now)
        }
    }

    fn new(id: u64, socket: Socket, address: SocketAddr, local: Option<IpAddr>, now: Moment) -> Self {
        Self {
            id,
            socket,
            is_v6: address.is_ipv6(),
            local_ip: local,
            is_connected: false,
            gso_enabled: true,
            pending_timestamps: None,
            dropped: 0,
            batch_size: 1,
            grown_batch_size: GROWN_BATCH_SIZE,
            control_len: CONTROL_SIZE,
            back_to_back: false,
            last_received: now,
            busy_poll_time: BUSY_POLL_TIME,
            last_empty: now,
            readable: Cell::new(true),
            errors_pending: Cell::new(false),
        }
    }

    /// Is never looked at again before somebody sleeps, and read in the largest batches then: nobody
    /// waits for an answer to the first of them.
    pub(super) fn prefer_batching(&mut self) {
        (self.busy_poll_time, self.grown_batch_size) = (Duration::ZERO, BATCH_SIZE);
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Where it can be reached.
    #[cfg(test)]
    pub(super) fn local_address(&self) -> SocketAddr {
        self.socket.local_addr().ok().and_then(|local| local.as_socket()).expect("an inet socket is bound")
    }

    fn raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Notes what poll says.
    pub(super) fn set_ready(&self, ready: PollFlags) {
        self.readable.set(self.readable.get() || ready.contains(PollFlags::IN));
        self.errors_pending.set(self.errors_pending.get() || ready.contains(PollFlags::ERR));
    }

    /// Whether it is worth a look without waiting.
    pub(super) fn is_ready(&self) -> bool {
        self.readable.get() || self.errors_pending.get()
    }

    /// Reads what the error queue holds, then a batch of datagrams, and says whether there was
    /// anything. `now` moves on with each call that brought something.
    pub(super) fn read<E: DatagramProtocol>(
        &mut self,
        buffer: &mut BatchBuffer,
        protocol: &mut E,
        actions: &mut DatagramActions<E::Event>,
        now: &mut Moment,
    ) -> bool {
        let told = (self.errors_pending.get() || self.pending_timestamp_count() > 0)
            && self.read_error_queue(buffer, protocol, actions, now);
        let came = if self.is_v6 {
            self.read_batch::<SockaddrIn6, E>(buffer, protocol, actions, now)
        } else {
            self.read_batch::<SockaddrIn, E>(buffer, protocol, actions, now)
        };
        told || came
    }

    fn pending_timestamp_count(&self) -> usize {
        self.pending_timestamps.as_ref().map_or(0, PendingTimestamps::count)
    }

    fn read_error_queue<E: DatagramProtocol>(
        &mut self,
        buffer: &mut BatchBuffer,
        protocol: &mut E,
        actions: &mut DatagramActions<E::Event>,
        now: &mut Moment,
    ) -> bool {
        let mut told = 0;
        loop {
            let wanted = self.pending_timestamp_count().clamp(1, BATCH_SIZE);
            let (socket, floor) = (self.id, self.last_empty);
            let departures = &mut self.pending_timestamps;
            let fd = self.socket.as_raw_fd();
            let read = buffer.receive::<()>(fd, wanted, CONTROL_SIZE, MsgFlags::MSG_ERRQUEUE, |arrival, at| {
                *now = at;
                match arrival.ancillary.error.map(ErrorQueueEntry::from_kernel) {
                    Some(ErrorQueueEntry::Transmitted(number)) => {
                        let ticket = departures.as_mut().and_then(|departures| departures.take(number));
                        if let Some((ticket, stamp)) = ticket.zip(arrival.ancillary.timestamp) {
                            protocol.transmitted(ticket, to_monotonic(stamp, at, floor));
                        }
                    }
                    Some(ErrorQueueEntry::Undeliverable(error)) => {
                        let failure = TransmitError::Unreachable { socket, error: &error, bytes: arrival.bytes };
                        protocol.failed(&failure, at, actions);
                    }
                    Some(ErrorQueueEntry::AlreadyReported) | None => {}
                }
            });
            let read = read.map(|received| received.count);
            told += read.unwrap_or(0);
            let settled = !self.errors_pending.get() && self.pending_timestamp_count() == 0;
            if read != Err(Errno::EINTR) && (settled || read.unwrap_or(0) < wanted) {
                break;
            }
        }
        // An error without an entry sticks to the socket until something else is tried on it.
        if self.errors_pending.take() && told == 0 {
            self.readable.set(true);
        }
        told > 0
    }

    fn read_batch<S: AddressFamily, E: DatagramProtocol>(
        &mut self,
        buffer: &mut BatchBuffer,
        protocol: &mut E,
        actions: &mut DatagramActions<E::Event>,
        now: &mut Moment,
    ) -> bool {
        let (fd, wanted, before) = (self.raw_fd(), self.batch_size, *now);
        let (mut dropped, mut last) = (self.dropped, *now);
        let read =
            buffer.receive::<S>(fd, wanted, self.control_len, MsgFlags::empty(), |arrival: RawDatagram<'_, S>, at| {
                let Some(peer) = arrival.peer.into_std() else { return };
                let stamp = arrival.ancillary.timestamp;
                let datagram = Datagram {
                    peer,
                    local: arrival.ancillary.local.or(self.local_ip),
                    socket: self.id,
                    received_at: stamp.map_or(at, |stamp| to_monotonic(stamp, at, self.last_empty)),
                    has_kernel_timestamp: stamp.is_some(),
                    ttl: arrival.ancillary.ttl,
                    truncated: arrival.truncated,
                    bytes: arrival.bytes,
                };
                protocol.received(&datagram, at, actions);
                dropped = arrival.ancillary.dropped.unwrap_or(dropped);
                last = at;
            });
        *now = last;
        self.report_overflow(dropped, protocol, actions, *now);
        let readable = match read {
            Ok(ReceivedBatch { count, control_len: filled }) => {
                self.last_received = before;
                if count < wanted {
                    self.last_empty = before;
                }
                self.adapt_batch_size(count);
                self.adjust_control_len(filled);
                true
            }
            Err(Errno::EINTR) => true,
            Err(Errno::EAGAIN) => {
                self.last_empty = before;
                let hot = before - self.last_received < self.busy_poll_time;
                self.back_to_back &= hot;
                hot
            }
            Err(_) => {
                // An ICMP error that came just now; its entry in the error queue says more.
                self.errors_pending.set(true);
                false
            }
        };
        self.readable.set(readable);
        read.is_ok_and(|received| received.count > 0)
    }

    /// What the kernel's table of sockets calls it.
    pub(super) fn inode(&self) -> Option<u64> {
        rustix::fs::fstat(&self.socket).ok().map(|stat| stat.st_ino)
    }

    /// Tells how many datagrams have found no room since this was last asked; `dropped` is the
    /// kernel's count, which begins anew after 2³².
    pub(super) fn report_overflow<E: DatagramProtocol>(
        &mut self,
        dropped: u32,
        protocol: &mut E,
        actions: &mut DatagramActions<E::Event>,
        now: Moment,
    ) {
        let lost = dropped.wrapping_sub(self.dropped);
        self.dropped = dropped;
        if lost > 0 {
            protocol.overflowed(lost.into(), now, actions);
        }
    }

    /// Gives exactly the room that was filled, so that the headers can be used again. Where the
    /// datagram was sent to must never be cut off for that: an answer would leave from an address
    /// nobody asked. What can be is the stamps of the first batch after the first overflow, whose
    /// count then comes with the next one.
    fn adjust_control_len(&mut self, control_len: Option<usize>) {
        if self.local_ip.is_some() && !self.is_connected {
            self.control_len = control_len.unwrap_or(CONTROL_SIZE);
        }
    }

    /// How much to ask for next time, after so much came.
    fn adapt_batch_size(&mut self, received: usize) {
        self.batch_size =
            if received > 1 || (self.back_to_back && self.batch_size == 1) { self.grown_batch_size } else { 1 };
        self.back_to_back = true;
    }

    /// Sends a run of datagrams out of `octets`, and notes which failed.
    pub(super) fn send<S: AddressFamily>(
        &mut self,
        headers: &mut SendHeaders<S>,
        batch: &SendBatch<'_>,
        payload_bytes: &[u8],
        failures: &mut Vec<(u64, Errno)>,
    ) {
        // The system takes the address a socket is bound to by itself.
        let from = batch.from().filter(|from| Some(*from) != self.local_ip);
        let (mut next, mut repeats) = (0, 0);
        if self.gso_enabled && from.is_none() {
            // What does not go merged is told why when it is sent by itself.
            let merged = headers.send_gso(self.raw_fd(), batch, payload_bytes);
            self.gso_enabled = merged != Err(Errno::EIO);
            next = merged.unwrap_or(0);
        }
        headers.set_destinations(batch);
        while let Some(ticket) = batch.tickets().nth(next) {
            match headers.send(self.raw_fd(), batch, next, from) {
                Ok(count) => {
                    if let Some(departures) = &mut self.pending_timestamps {
                        batch.tickets().skip(next).take(count).for_each(|ticket| departures.push(ticket));
                    }
                    (next, repeats) = (next + count.max(1), 0);
                }
                Err(Errno::EINTR) => {}
                Err(errno) if repeats < MAX_SEND_RETRIES && self.may_be_earlier_error(errno) => {
                    self.errors_pending.set(true);
                    repeats += 1;
                }
                Err(errno) => {
                    failures.push((ticket, errno));
                    self.restart_timestamp_numbers();
                    (next, repeats) = (next + 1, 0);
                }
            }
        }
        // The stamp of what left without a queue in between is there already.
        if self.pending_timestamp_count() > 0 {
            self.errors_pending.set(true);
        }
    }

    /// Whether the error of a send may be what ICMP says about an earlier datagram: the kernel
    /// tells it to whoever calls next, and the error queue tells it in full.
    fn may_be_earlier_error(&self, errno: Errno) -> bool {
        self.is_connected && !matches!(errno, Errno::EAGAIN | Errno::ENOBUFS | Errno::EPERM | Errno::EMSGSIZE)
    }

    /// Whether a datagram that was not sent has used up a number depends on the kernel's version
    /// and on where it failed, so the count begins anew, without those whose stamps have not come.
    fn restart_timestamp_numbers(&mut self) {
        if self.pending_timestamps.is_some() {
            self.pending_timestamps = udp::enable_timestamps(&self.socket).then(PendingTimestamps::default);
        }
    }
}
