//! Endpoint: a datagram protocol with its sockets. Owns the order of a turn: for each socket, errors and send
//! timestamps, then datagrams; then timers; then the datagrams the protocol wants to send. A timer fires only after
//! the sockets were found empty past its deadline: after a suspension of the process, a reply that is already in the
//! socket must be seen before its timeout is.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;

use nix::errno::Errno;
use socket2::Socket;

use super::icmp::describe_errno;
use super::recv::BatchBuffer;
use super::send::{SendBatch, SendBuffers};
use super::socket::DatagramSocket;
use crate::failure::Result;
use crate::net::clock;
use crate::net::udp::{SocketOptions, connect_error};
use crate::protocol::{DatagramActions, DatagramProtocol, TransmitError};
use crate::time::Moment;

/// Limits per turn: rounds of reading before a due timer fires even if the sockets are not empty, and rounds of
/// sending, each of which may report failures that queue more datagrams.
const MAX_ROUNDS: usize = 64;

/// Number of the socket of [`Endpoint::receive_from_other_peers`].
const UNCONNECTED_SOCKET: u64 = u64::MAX;

/// Datagram protocol and the sockets that carry it.
pub(crate) struct Endpoint<E: DatagramProtocol> {
    protocol: E,
    pub(super) actions: DatagramActions<E::Event>,
    pub(super) sockets: Vec<DatagramSocket>,
    /// Options and peer of a client's further sockets.
    client: Option<(SocketOptions, SocketAddr)>,
}

/// Buffers of one thread, and the time of its current turn.
pub(super) struct Buffers {
    pub receive: BatchBuffer,
    pub send: SendBuffers,
    pub failures: Vec<(u64, Errno)>,
    pub now: Moment,
}

impl<E: DatagramProtocol> Endpoint<E> {
    /// Creates a client endpoint connected to `peer`; events are only built if `events_wanted`.
    pub(crate) fn connected(
        protocol: E,
        peer: SocketAddr,
        options: SocketOptions,
        events_wanted: bool,
    ) -> Result<Self> {
        let socket = options.connect(peer).map_err(|error| connect_error(peer, error))?;
        let sockets = vec![DatagramSocket::connected(0, socket, peer, clock::now())];
        Ok(Self { protocol, actions: DatagramActions::new(events_wanted), sockets, client: Some((options, peer)) })
    }

    /// Also receives datagrams from other peers on the client's port, which the kernel drops otherwise. Only for
    /// diagnosis: without the second socket, the client works as before.
    pub(crate) fn receive_from_other_peers(&mut self) {
        let unconnected = self.sockets.first().map(|socket| socket.unconnected(UNCONNECTED_SOCKET, clock::now()));
        if let Some(Ok(socket)) = unconnected {
            self.sockets.push(socket);
        }
    }

    /// Creates a client endpoint that tolerates a missing route to `peer`: the socket is then created by the first
    /// send after a route exists. A given source must be an address of this machine at the start.
    pub(crate) fn connect_when_reachable(
        protocol: E,
        peer: SocketAddr,
        options: SocketOptions,
        events_wanted: bool,
    ) -> Result<Self> {
        let is_source_wrong =
            |error: &io::Error| options.source.is_some() && error.kind() == io::ErrorKind::AddrNotAvailable;
        let sockets = match options.connect(peer) {
            Ok(socket) => vec![DatagramSocket::connected(0, socket, peer, clock::now())],
            Err(error) if is_unreachable(&error) && !is_source_wrong(&error) => Vec::new(),
            Err(error) => return Err(connect_error(peer, error)),
        };
        Ok(Self { protocol, actions: DatagramActions::new(events_wanted), sockets, client: Some((options, peer)) })
    }

    /// Creates a server endpoint with the sockets of one thread.
    pub(super) fn bound(protocol: E, sockets: Vec<(Socket, SocketAddr)>, events_wanted: bool) -> Self {
        let now = clock::now();
        let bind = |(number, (socket, address))| DatagramSocket::bound(number, socket, address, now);
        Self {
            protocol,
            actions: DatagramActions::new(events_wanted),
            sockets: (0..).zip(sockets).map(bind).collect(),
            client: None,
        }
    }

    pub(crate) fn protocol(&self) -> &E {
        &self.protocol
    }

    /// Trades latency for larger batches, for a protocol whose clients do not wait for replies.
    pub(super) fn prefer_batching(&mut self) {
        self.sockets.iter_mut().for_each(DatagramSocket::prefer_batching);
    }

    pub(crate) fn protocol_mut(&mut self) -> &mut E {
        &mut self.protocol
    }

    /// Returns the protocol and closes the sockets.
    pub(crate) fn into_protocol(self) -> E {
        self.protocol
    }

    pub(super) fn is_ready(&self) -> bool {
        self.sockets.iter().any(DatagramSocket::is_ready)
    }

    /// Runs one turn: reads, fires the timer, sends.
    pub(super) fn turn(&mut self, buffers: &mut Buffers) {
        for _ in 0..MAX_ROUNDS {
            let checked_at = buffers.now;
            let due = self.protocol.wake_at().is_some_and(|wake| wake <= checked_at);
            let mut found = false;
            for socket in &mut self.sockets {
                if due || socket.is_ready() {
                    found |= socket.read(&mut buffers.receive, &mut self.protocol, &mut self.actions, &mut buffers.now);
                }
            }
            if due && !found {
                self.protocol.woken(checked_at, &mut self.actions);
            }
            self.flush(buffers);
            if !due || !found {
                return;
            }
        }
        self.protocol.woken(buffers.now, &mut self.actions);
        self.flush(buffers);
    }

    /// Reports the drops that were not reported before; `dropped` has the totals by inode.
    pub(super) fn report_drops(&mut self, dropped: &HashMap<u64, u32>, now: Moment) {
        for socket in &mut self.sockets {
            if let Some(total) = socket.inode().and_then(|inode| dropped.get(&inode)) {
                socket.report_overflow(*total, &mut self.protocol, &mut self.actions, now);
            }
        }
    }

    /// Sends the queued datagrams, and those queued in response to failed sends.
    fn flush(&mut self, buffers: &mut Buffers) {
        for _ in 0..MAX_ROUNDS {
            if self.actions.is_empty() {
                return;
            }
            self.send_all(buffers);
            let retired = self.actions.retired();
            if !retired.is_empty() {
                self.sockets.retain(|socket| socket.id == 0 || !retired.contains(&socket.id));
            }
            self.actions.clear();
            for (ticket, errno) in buffers.failures.drain(..) {
                let failure = TransmitError::NotSent { ticket, error: &describe_errno(errno) };
                self.protocol.failed(&failure, buffers.now, &mut self.actions);
            }
        }
    }

    /// Sends in queue order; neighbours with the same socket and source address share a batch.
    fn send_all(&mut self, buffers: &mut Buffers) {
        let payloads = self.actions.payloads();
        let mut remaining = self.actions.transmits().peekable();
        while let Some(batch) = SendBatch::next(&mut remaining) {
            let failures = &mut buffers.failures;
            match socket_with_id(&mut self.sockets, self.client, batch.socket(), buffers.now) {
                Ok(socket) if socket.is_v6 => socket.send(&mut buffers.send.v6, &batch, payloads, failures),
                Ok(socket) => socket.send(&mut buffers.send.v4, &batch, payloads, failures),
                Err(errno) => failures.extend(batch.tickets().map(|ticket| (ticket, errno))),
            }
        }
    }
}

/// Returns true for errors that may go away once the host has booted or its network has changed.
fn is_unreachable(error: &io::Error) -> bool {
    use io::ErrorKind::{AddrNotAvailable, HostUnreachable, NetworkDown, NetworkUnreachable};
    matches!(error.kind(), AddrNotAvailable | HostUnreachable | NetworkDown | NetworkUnreachable)
}

/// Returns the socket with this number; a client's is created on first use.
fn socket_with_id(
    sockets: &mut Vec<DatagramSocket>,
    client: Option<(SocketOptions, SocketAddr)>,
    id: u64,
    now: Moment,
) -> Result<&mut DatagramSocket, Errno> {
    let position = sockets.iter().position(|socket| socket.id == id);
    if position.is_none() {
        let (options, peer) = client.ok_or(Errno::ENOTSOCK)?;
        let socket = options.connect(peer).map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))?;
        sockets.push(DatagramSocket::connected(id, socket, peer, now));
    }
    let index = position.unwrap_or(sockets.len() - 1);
    sockets.get_mut(index).ok_or(Errno::ENOTSOCK)
}

impl<E: DatagramProtocol + fmt::Debug> fmt::Debug for Endpoint<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("protocol", &self.protocol).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::is_unreachable;
    use std::io::{Error, ErrorKind};

    #[test]
    fn a_missing_route_is_temporary_and_a_refused_address_is_not() {
        assert!(
            [ErrorKind::NetworkUnreachable, ErrorKind::HostUnreachable]
                .into_iter()
                .all(|kind| is_unreachable(&Error::from(kind)))
        );
        assert!(
            ![ErrorKind::PermissionDenied, ErrorKind::InvalidInput]
                .into_iter()
                .any(|kind| is_unreachable(&Error::from(kind)))
        );
    }
}
