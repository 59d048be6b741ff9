//! Datagram socket of an endpoint.
//!
//! Owns the state of a socket between system calls: readiness, drop count, pending send timestamps. It must not
//! wait.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, SockaddrIn, SockaddrIn6};
use rustix::event::PollFlags;
use socket2::Socket;

use super::icmp::ErrorQueueEntry;
use super::read_strategy::ReadStrategy;
use super::recv::{AddressFamily, BATCH_SIZE, BatchBuffer, CONTROL_SIZE, RawDatagram, ReceivedBatch};
use super::send::{SendBatch, SendHeaders};
use super::timestamps::{PendingTimestamps, to_monotonic};
use crate::net::udp;
use crate::protocol::{Datagram, DatagramActions, DatagramProtocol, TransmitError};
use crate::time::Moment;

/// Maximum retries of a send whose error may be that of an earlier datagram.
const MAX_SEND_RETRIES: u32 = 4;

/// Datagram socket with its batching and timestamp state.
pub(super) struct DatagramSocket {
    /// Number that the protocol uses, as in [`Datagram::socket`].
    pub id: u64,
    socket: Socket,
    pub is_v6: bool,
    /// Address the socket is bound to, unless that is the wildcard address.
    local_ip: Option<IpAddr>,
    is_connected: bool,
    offload: SegmentationOffload,
    /// Present if the socket timestamps what it sends.
    pending_timestamps: Option<PendingTimestamps>,
    dropped: u32,
    /// Control-buffer size per datagram.
    control_len: usize,
    read_strategy: ReadStrategy,
    /// Last moment at which the socket was known to be empty; later datagrams arrived after it.
    last_empty: Moment,
    readiness: Readiness,
}

/// UDP segmentation offload (`UDP_SEGMENT`): one message carries several datagrams, which the kernel splits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SegmentationOffload {
    Enabled,
    /// Each datagram needs its own timestamp, or the device cannot compute the checksums.
    Disabled,
}

/// Readiness of a socket since the last poll.
struct Readiness {
    /// There may be datagrams to receive.
    readable: Cell<bool>,
    /// There may be entries in the error queue.
    errors_pending: Cell<bool>,
}

impl DatagramSocket {
    /// Creates a server's socket.
    pub(super) fn bound(id: u64, socket: Socket, address: SocketAddr, now: Moment) -> Self {
        let local = Some(address.ip()).filter(|ip| !ip.is_unspecified());
        Self::new(id, socket, address, local, now)
    }

    /// Creates a socket that receives what other peers send to the port of this one.
    pub(super) fn unconnected(&self, id: u64, now: Moment) -> io::Result<Self> {
        let (socket, address) = udp::unconnected_socket(&self.socket)?;
        Ok(Self::bound(id, socket, address, now))
    }

    /// Creates a client's socket, connected to `peer`.
    pub(super) fn connected(id: u64, socket: Socket, peer: SocketAddr, now: Moment) -> Self {
        let local = socket.local_addr().ok().and_then(|local| local.as_socket()).map(|local| local.ip());
        let pending = udp::enable_timestamps(&socket).then(PendingTimestamps::default);
        Self {
            offload: if pending.is_some() { SegmentationOffload::Disabled } else { SegmentationOffload::Enabled },
            pending_timestamps: pending,
            is_connected: true,
            read_strategy: ReadStrategy::without_busy_polling(now),
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
            offload: SegmentationOffload::Enabled,
            pending_timestamps: None,
            dropped: 0,
            control_len: CONTROL_SIZE,
            read_strategy: ReadStrategy::new(now),
            last_empty: now,
            readiness: Readiness { readable: Cell::new(true), errors_pending: Cell::new(false) },
        }
    }

    /// Disables busy polling and reads the largest batches, for a protocol without waiting clients.
    pub(super) fn prefer_batching(&mut self) {
        self.read_strategy.prefer_batching();
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    #[cfg(test)]
    pub(super) fn local_address(&self) -> SocketAddr {
        self.socket.local_addr().ok().and_then(|local| local.as_socket()).expect("an inet socket is bound")
    }

    fn raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Records the readiness that poll reported.
    pub(super) fn set_ready(&self, ready: PollFlags) {
        self.readiness.readable.set(self.readiness.readable.get() || ready.contains(PollFlags::IN));
        self.readiness.errors_pending.set(self.readiness.errors_pending.get() || ready.contains(PollFlags::ERR));
    }

    /// Returns true if a read may find something without waiting.
    pub(super) fn is_ready(&self) -> bool {
        self.readiness.readable.get() || self.readiness.errors_pending.get()
    }

    /// Reads the error queue, then a batch of datagrams; returns true if there was anything. `now` advances
    /// with each successful call.
    pub(super) fn read<E: DatagramProtocol>(
        &mut self,
        buffer: &mut BatchBuffer,
        protocol: &mut E,
        actions: &mut DatagramActions<E::Event>,
        now: &mut Moment,
    ) -> bool {
        let had_entries = (self.readiness.errors_pending.get() || self.pending_timestamp_count() > 0)
            && self.read_error_queue(buffer, protocol, actions, now);
        let had_datagrams = if self.is_v6 {
            self.read_batch::<SockaddrIn6, E>(buffer, protocol, actions, now)
        } else {
            self.read_batch::<SockaddrIn, E>(buffer, protocol, actions, now)
        };
        had_entries || had_datagrams
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
        let mut entries = 0;
        loop {
            let max_count = self.pending_timestamp_count().clamp(1, BATCH_SIZE);
            let (socket, not_before) = (self.id, self.last_empty);
            let pending = &mut self.pending_timestamps;
            let fd = self.socket.as_raw_fd();
            let result = buffer.receive::<()>(fd, max_count, CONTROL_SIZE, MsgFlags::MSG_ERRQUEUE, |raw, at| {
                *now = at;
                match raw.ancillary.error.map(ErrorQueueEntry::from_kernel) {
                    Some(ErrorQueueEntry::Transmitted(number)) => {
                        let ticket = pending.as_mut().and_then(|pending| pending.take(number));
                        if let Some((ticket, timestamp)) = ticket.zip(raw.ancillary.timestamp) {
                            protocol.transmitted(ticket, to_monotonic(timestamp, at, not_before));
                        }
                    }
                    Some(ErrorQueueEntry::Undeliverable(error)) => {
                        let failure = TransmitError::Unreachable { socket, error: &error, bytes: raw.bytes };
                        protocol.failed(&failure, at, actions);
                    }
                    Some(ErrorQueueEntry::AlreadyReported) | None => {}
                }
            });
            let result = result.map(|batch| batch.count);
            entries += result.unwrap_or(0);
            let is_settled = !self.readiness.errors_pending.get() && self.pending_timestamp_count() == 0;
            if result != Err(Errno::EINTR) && (is_settled || result.unwrap_or(0) < max_count) {
                break;
            }
        }
        // An error without an entry stays on the socket until another operation returns it.
        if self.readiness.errors_pending.take() && entries == 0 {
            self.readiness.readable.set(true);
        }
        entries > 0
    }

    fn read_batch<S: AddressFamily, E: DatagramProtocol>(
        &mut self,
        buffer: &mut BatchBuffer,
        protocol: &mut E,
        actions: &mut DatagramActions<E::Event>,
        now: &mut Moment,
    ) -> bool {
        let (fd, max_count, before) = (self.raw_fd(), self.read_strategy.batch_size(), *now);
        let (mut dropped, mut last) = (self.dropped, *now);
        let result =
            buffer.receive::<S>(fd, max_count, self.control_len, MsgFlags::empty(), |raw: RawDatagram<'_, S>, at| {
                let Some(peer) = raw.peer.into_std() else { return };
                let timestamp = raw.ancillary.timestamp;
                let datagram = Datagram {
                    peer,
                    local: raw.ancillary.local.or(self.local_ip),
                    socket: self.id,
                    received_at: timestamp.map_or(at, |timestamp| to_monotonic(timestamp, at, self.last_empty)),
                    has_kernel_timestamp: timestamp.is_some(),
                    ttl: raw.ancillary.ttl,
                    truncated: raw.truncated,
                    bytes: raw.bytes,
                };
                protocol.received(&datagram, at, actions);
                dropped = raw.ancillary.dropped.unwrap_or(dropped);
                last = at;
            });
        *now = last;
        self.report_overflow(dropped, protocol, actions, *now);
        let readable = match result {
            Ok(ReceivedBatch { count, control_len }) => {
                if count < max_count {
                    self.last_empty = before;
                }
                self.read_strategy.on_batch(count, before);
                self.adjust_control_len(control_len);
                true
            }
            Err(Errno::EINTR) => true,
            Err(Errno::EAGAIN) => {
                self.last_empty = before;
                self.read_strategy.on_empty(before)
            }
            Err(_) => {
                // An ICMP error that arrived just now; its entry in the error queue has the details.
                self.readiness.errors_pending.set(true);
                false
            }
        };
        self.readiness.readable.set(readable);
        result.is_ok_and(|batch| batch.count > 0)
    }

    /// Inode in the kernel's socket tables.
    pub(super) fn inode(&self) -> Option<u64> {
        rustix::fs::fstat(&self.socket).ok().map(|stat| stat.st_ino)
    }

    /// Reports the datagrams dropped since the last call; `dropped` is the kernel's total, which wraps at 2³².
    pub(super) fn report_overflow<E: DatagramProtocol>(
        &mut self,
        dropped: u32,
        protocol: &mut E,
        actions: &mut DatagramActions<E::Event>,
        now: Moment,
    ) {
        let count = dropped.wrapping_sub(self.dropped);
        self.dropped = dropped;
        if count > 0 {
            protocol.overflowed(count.into(), now, actions);
        }
    }

    /// Sets the control-buffer size to what was used, so that the headers can be reused. The destination address must
    /// never be cut off for that: the reply would leave from an address the client did not contact. Only timestamps
    /// can be cut off, in the first batch after the first drop; the drop count then arrives with the next batch.
    fn adjust_control_len(&mut self, control_len: Option<usize>) {
        if self.local_ip.is_some() && !self.is_connected {
            self.control_len = control_len.unwrap_or(CONTROL_SIZE);
        }
    }

    /// Sends a batch out of `payload_bytes` and appends what failed to `failures`.
    pub(super) fn send<S: AddressFamily>(
        &mut self,
        headers: &mut SendHeaders<S>,
        batch: &SendBatch<'_>,
        payload_bytes: &[u8],
        failures: &mut Vec<(u64, Errno)>,
    ) {
        // The kernel uses the bound address by itself.
        let from = batch.from().filter(|from| Some(*from) != self.local_ip);
        let (mut next, mut retries) = (0, 0);
        if self.offload == SegmentationOffload::Enabled && from.is_none() {
            // A datagram that fails in a merged message gets its error below, where it is sent alone.
            let merged = headers.send_gso(self.raw_fd(), batch, payload_bytes);
            if merged == Err(Errno::EIO) {
                self.offload = SegmentationOffload::Disabled;
            }
            next = merged.unwrap_or(0);
        }
        headers.set_destinations(batch);
        while let Some(ticket) = batch.tickets().nth(next) {
            match headers.send(self.raw_fd(), batch, next, from) {
                Ok(count) => {
                    if let Some(pending) = &mut self.pending_timestamps {
                        batch.tickets().skip(next).take(count).for_each(|ticket| pending.push(ticket));
                    }
                    (next, retries) = (next + count.max(1), 0);
                }
                Err(Errno::EINTR) => {}
                Err(errno) if retries < MAX_SEND_RETRIES && self.may_be_earlier_error(errno) => {
                    self.readiness.errors_pending.set(true);
                    retries += 1;
                }
                Err(errno) => {
                    failures.push((ticket, errno));
                    self.restart_timestamp_numbers();
                    (next, retries) = (next + 1, 0);
                }
            }
        }
        // Datagrams that did not pass a device queue have their timestamps already.
        if self.pending_timestamp_count() > 0 {
            self.readiness.errors_pending.set(true);
        }
    }

    /// Returns true if a send error may be the ICMP error of an earlier datagram: the kernel returns it from
    /// the next call of any kind, and the error queue has the details.
    fn may_be_earlier_error(&self, errno: Errno) -> bool {
        self.is_connected && !matches!(errno, Errno::EAGAIN | Errno::ENOBUFS | Errno::EPERM | Errno::EMSGSIZE)
    }

    /// Restarts the numbering without the pending timestamps: whether a failed send uses up a number depends
    /// on the kernel version and on where it failed.
    fn restart_timestamp_numbers(&mut self) {
        if self.pending_timestamps.is_some() {
            self.pending_timestamps = udp::enable_timestamps(&self.socket).then(PendingTimestamps::default);
        }
    }
}
