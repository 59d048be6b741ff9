//! One exchange with its sockets.
//!
//! Owns the order of a turn: errors and send stamps, then datagrams, then timers, and after each
//! of them what the exchange wants sent. A timer fires only after the sockets were found empty
//! later than its moment: after a pause of the whole process, an answer that lies in the socket
//! must be seen before its time-out is.

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
use crate::error::Result;
use crate::net::clock;
use crate::net::udp::SocketOptions;
use crate::protocol::{DatagramActions, DatagramProtocol, TransmitError};
use crate::time::Moment;

/// How often the sockets are looked at before a timer fires although they are never empty, and
/// how often answers to failures are sent within one turn.
const MAX_ROUNDS: usize = 64;

/// An exchange and the sockets that carry it.
pub(crate) struct Endpoint<E: DatagramProtocol> {
    protocol: E,
    pub(super) actions: DatagramActions<E::Event>,
    pub(super) sockets: Vec<DatagramSocket>,
    /// How a client makes further sockets.
    client: Option<(SocketOptions, SocketAddr)>,
}

/// What belongs to the thread.
pub(super) struct Buffers {
    pub receive: BatchBuffer,
    pub send: SendBuffers,
    pub failures: Vec<(u64, Errno)>,
    pub now: Moment,
}

impl<E: DatagramProtocol> Endpoint<E> {
    /// A client's side, connected to `peer`; facts are only built if somebody is `listening`.
    pub(crate) fn connected(
        protocol: E,
        peer: SocketAddr,
        options: SocketOptions,
        events_wanted: bool,
    ) -> Result<Self> {
        let socket = options.connect(peer).map_err(|error| options.connect_error(peer, error))?;
        let ports = vec![DatagramSocket::connected(0, socket, peer, clock::now())];
        Ok(Self {
            protocol,
            actions: DatagramActions::new(events_wanted),
            sockets: ports,
            client: Some((options, peer)),
        })
    }

    /// A client's side that bears it if there is no way to `peer` yet: the socket is made as soon as
    /// there is one and something is to be sent.
    pub(crate) fn connect_when_reachable(
        protocol: E,
        peer: SocketAddr,
        options: SocketOptions,
        events_wanted: bool,
    ) -> Result<Self> {
        let ports = match options.connect(peer) {
            Ok(socket) => vec![DatagramSocket::connected(0, socket, peer, clock::now())],
            Err(error) if is_unreachable(&error) => Vec::new(),
            Err(error) => return Err(options.connect_error(peer, error)),
        };
        Ok(Self {
            protocol,
            actions: DatagramActions::new(events_wanted),
            sockets: ports,
            client: Some((options, peer)),
        })
    }

    /// A server's side, with the sockets of one thread.
    pub(super) fn bound(protocol: E, sockets: Vec<(Socket, SocketAddr)>, events_wanted: bool) -> Self {
        let now = clock::now();
        let port = |(number, (socket, address))| DatagramSocket::bound(number, socket, address, now);
        Self {
            protocol,
            actions: DatagramActions::new(events_wanted),
            sockets: (0..).zip(sockets).map(port).collect(),
            client: None,
        }
    }

    /// The exchange.
    pub(crate) fn protocol(&self) -> &E {
        &self.protocol
    }

    /// Sleeps as soon as there is nothing, for an exchange that is not in a hurry.
    pub(super) fn prefer_batching(&mut self) {
        self.sockets.iter_mut().for_each(DatagramSocket::prefer_batching);
    }

    /// The exchange, to be told something.
    pub(crate) fn protocol_mut(&mut self) -> &mut E {
        &mut self.protocol
    }

    /// The exchange alone; its sockets are closed.
    pub(crate) fn into_protocol(self) -> E {
        self.protocol
    }

    pub(super) fn is_ready(&self) -> bool {
        self.sockets.iter().any(DatagramSocket::is_ready)
    }

    /// Reads, wakes and sends once.
    pub(super) fn turn(&mut self, buffers: &mut Buffers) {
        for _ in 0..MAX_ROUNDS {
            let checked = buffers.now;
            let due = self.protocol.wake_at().is_some_and(|wake| wake <= checked);
            let mut came = false;
            for port in &mut self.sockets {
                if due || port.is_ready() {
                    came |= port.read(&mut buffers.receive, &mut self.protocol, &mut self.actions, &mut buffers.now);
                }
            }
            if due && !came {
                self.protocol.woken(checked, &mut self.actions);
            }
            self.flush(buffers);
            if !due || !came {
                return;
            }
        }
        self.protocol.woken(buffers.now, &mut self.actions);
        self.flush(buffers);
    }

    /// Tells what the sockets dropped, by their inodes, and nothing told of before.
    pub(super) fn report_drops(&mut self, dropped: &HashMap<u64, u32>, now: Moment) {
        for port in &mut self.sockets {
            if let Some(total) = port.inode().and_then(|inode| dropped.get(&inode)) {
                port.report_overflow(*total, &mut self.protocol, &mut self.actions, now);
            }
        }
    }

    /// Sends what is posted, and what is posted because that failed.
    fn flush(&mut self, buffers: &mut Buffers) {
        for _ in 0..MAX_ROUNDS {
            if self.actions.is_empty() {
                return;
            }
            self.send_all(buffers);
            let retired = self.actions.retired();
            if !retired.is_empty() {
                self.sockets.retain(|port| port.id == 0 || !retired.contains(&port.id));
            }
            self.actions.clear();
            for (ticket, errno) in buffers.failures.drain(..) {
                let failure = TransmitError::NotSent { ticket, error: &describe_errno(errno) };
                self.protocol.failed(&failure, buffers.now, &mut self.actions);
            }
        }
    }

    /// Sends in the order of posting, neighbours together if they leave from the same place.
    fn send_all(&mut self, buffers: &mut Buffers) {
        let octets = self.actions.payloads();
        let mut rest = self.actions.transmits().peekable();
        while let Some(run) = SendBatch::next(&mut rest) {
            let failures = &mut buffers.failures;
            match socket_with_id(&mut self.sockets, self.client, run.socket(), buffers.now) {
                Ok(port) if port.is_v6 => port.send(&mut buffers.send.v6, &run, octets, failures),
                Ok(port) => port.send(&mut buffers.send.v4, &run, octets, failures),
                Err(errno) => failures.extend(run.tickets().map(|ticket| (ticket, errno))),
            }
        }
    }
}

/// Whether a host that boots, or has just changed its network, will bear it better later.
fn is_unreachable(error: &io::Error) -> bool {
    use io::ErrorKind::{AddrNotAvailable, HostUnreachable, NetworkDown, NetworkUnreachable};
    matches!(error.kind(), AddrNotAvailable | HostUnreachable | NetworkDown | NetworkUnreachable)
}

/// The socket of this number; a client's is made when it is first named.
fn socket_with_id(
    sockets: &mut Vec<DatagramSocket>,
    client: Option<(SocketOptions, SocketAddr)>,
    id: u64,
    now: Moment,
) -> Result<&mut DatagramSocket, Errno> {
    let known = sockets.iter().position(|port| port.id == id);
    if known.is_none() {
        let (origin, peer) = client.ok_or(Errno::ENOTSOCK)?;
        let socket = origin.connect(peer).map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))?;
        sockets.push(DatagramSocket::connected(id, socket, peer, now));
    }
    let place = known.unwrap_or(sockets.len() - 1);
    sockets.get_mut(place).ok_or(Errno::ENOTSOCK)
}

impl<E: DatagramProtocol + fmt::Debug> fmt::Debug for Endpoint<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Side").field("exchange", &self.protocol).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::is_unreachable;
    use std::io::{Error, ErrorKind};

    #[test]
    fn a_missing_route_may_come_and_a_forbidden_one_will_not() {
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
