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

use super::batch::Buffer;
use super::port::Port;
use super::run::{Outgoings, Run};
use super::trouble::named;
use crate::conversation::{DatagramActions, DatagramProtocol, TransmitError};
use crate::error::Result;
use crate::net::clock;
use crate::net::udp::Origin;
use crate::time::Moment;

/// How often the sockets are looked at before a timer fires although they are never empty, and
/// how often answers to failures are sent within one turn.
const ROUNDS: usize = 64;

/// An exchange and the sockets that carry it.
pub struct Side<E: DatagramProtocol> {
    exchange: E,
    pub(super) post: DatagramActions<E::Event>,
    pub(super) ports: Vec<Port>,
    /// How a client makes further sockets.
    way: Option<(Origin, SocketAddr)>,
}

/// What belongs to the thread.
pub struct Gear {
    pub buffer: Buffer,
    pub outgoings: Outgoings,
    pub failures: Vec<(u64, Errno)>,
    pub now: Moment,
}

impl<E: DatagramProtocol> Side<E> {
    /// A client's side, connected to `peer`; facts are only built if somebody is `listening`.
    pub fn connected(exchange: E, peer: SocketAddr, origin: Origin, listening: bool) -> Result<Self> {
        let socket = origin.connect(peer).map_err(|error| origin.refused(peer, error))?;
        let ports = vec![Port::connected(0, socket, peer, clock::now())];
        Ok(Self { exchange, post: DatagramActions::new(listening), ports, way: Some((origin, peer)) })
    }

    /// A client's side that bears it if there is no way to `peer` yet: the socket is made as soon as
    /// there is one and something is to be sent.
    pub fn patient(exchange: E, peer: SocketAddr, origin: Origin, listening: bool) -> Result<Self> {
        let ports = match origin.connect(peer) {
            Ok(socket) => vec![Port::connected(0, socket, peer, clock::now())],
            Err(error) if is_no_way(&error) => Vec::new(),
            Err(error) => return Err(origin.refused(peer, error)),
        };
        Ok(Self { exchange, post: DatagramActions::new(listening), ports, way: Some((origin, peer)) })
    }

    /// A server's side, with the sockets of one thread.
    pub(super) fn bound(exchange: E, sockets: Vec<(Socket, SocketAddr)>, listening: bool) -> Self {
        let now = clock::now();
        let port = |(number, (socket, address))| Port::bound(number, socket, address, now);
        Self {
            exchange,
            post: DatagramActions::new(listening),
            ports: (0..).zip(sockets).map(port).collect(),
            way: None,
        }
    }

    /// The exchange.
    pub fn exchange(&self) -> &E {
        &self.exchange
    }

    /// Sleeps as soon as there is nothing, for an exchange that is not in a hurry.
    pub(super) fn cool_down(&mut self) {
        self.ports.iter_mut().for_each(Port::cool_down);
    }

    /// The exchange, to be told something.
    pub fn exchange_mut(&mut self) -> &mut E {
        &mut self.exchange
    }

    /// The exchange alone; its sockets are closed.
    pub fn into_exchange(self) -> E {
        self.exchange
    }

    pub(super) fn is_busy(&self) -> bool {
        self.ports.iter().any(Port::is_busy)
    }

    /// Reads, wakes and sends once.
    pub(super) fn turn(&mut self, gear: &mut Gear) {
        for _ in 0..ROUNDS {
            let checked = gear.now;
            let due = self.exchange.wake_at().is_some_and(|wake| wake <= checked);
            let mut came = false;
            for port in &mut self.ports {
                if due || port.is_busy() {
                    came |= port.read(&mut gear.buffer, &mut self.exchange, &mut self.post, &mut gear.now);
                }
            }
            if due && !came {
                self.exchange.woken(checked, &mut self.post);
            }
            self.flush(gear);
            if !due || !came {
                return;
            }
        }
        self.exchange.woken(gear.now, &mut self.post);
        self.flush(gear);
    }

    /// Tells what the sockets dropped, by their inodes, and nothing told of before.
    pub(super) fn settle(&mut self, dropped: &HashMap<u64, u32>, now: Moment) {
        for port in &mut self.ports {
            if let Some(total) = port.inode().and_then(|inode| dropped.get(&inode)) {
                port.overflowed(*total, &mut self.exchange, &mut self.post, now);
            }
        }
    }

    /// Sends what is posted, and what is posted because that failed.
    fn flush(&mut self, gear: &mut Gear) {
        for _ in 0..ROUNDS {
            if self.post.is_empty() {
                return;
            }
            self.send_all(gear);
            let retired = self.post.retired();
            if !retired.is_empty() {
                self.ports.retain(|port| port.number == 0 || !retired.contains(&port.number));
            }
            self.post.clear();
            for (ticket, errno) in gear.failures.drain(..) {
                let failure = TransmitError::NotSent { ticket, error: &named(errno) };
                self.exchange.failed(&failure, gear.now, &mut self.post);
            }
        }
    }

    /// Sends in the order of posting, neighbours together if they leave from the same place.
    fn send_all(&mut self, gear: &mut Gear) {
        let octets = self.post.payloads();
        let mut rest = self.post.transmits().peekable();
        while let Some(run) = Run::next(&mut rest) {
            let failures = &mut gear.failures;
            match port(&mut self.ports, self.way, run.socket(), gear.now) {
                Ok(port) if port.is_v6 => port.send(&mut gear.outgoings.v6, &run, octets, failures),
                Ok(port) => port.send(&mut gear.outgoings.v4, &run, octets, failures),
                Err(errno) => failures.extend(run.tickets().map(|ticket| (ticket, errno))),
            }
        }
    }
}

/// Whether a host that boots, or has just changed its network, will bear it better later.
fn is_no_way(error: &io::Error) -> bool {
    use io::ErrorKind::{AddrNotAvailable, HostUnreachable, NetworkDown, NetworkUnreachable};
    matches!(error.kind(), AddrNotAvailable | HostUnreachable | NetworkDown | NetworkUnreachable)
}

/// The socket of this number; a client's is made when it is first named.
fn port(
    ports: &mut Vec<Port>,
    way: Option<(Origin, SocketAddr)>,
    number: u64,
    now: Moment,
) -> Result<&mut Port, Errno> {
    let known = ports.iter().position(|port| port.number == number);
    if known.is_none() {
        let (origin, peer) = way.ok_or(Errno::ENOTSOCK)?;
        let socket = origin.connect(peer).map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))?;
        ports.push(Port::connected(number, socket, peer, now));
    }
    let place = known.unwrap_or(ports.len() - 1);
    ports.get_mut(place).ok_or(Errno::ENOTSOCK)
}

impl<E: DatagramProtocol + fmt::Debug> fmt::Debug for Side<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Side").field("exchange", &self.exchange).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::is_no_way;
    use std::io::{Error, ErrorKind};

    #[test]
    fn a_missing_route_may_come_and_a_forbidden_one_will_not() {
        assert!(
            [ErrorKind::NetworkUnreachable, ErrorKind::HostUnreachable]
                .into_iter()
                .all(|kind| is_no_way(&Error::from(kind)))
        );
        assert!(
            ![ErrorKind::PermissionDenied, ErrorKind::InvalidInput]
                .into_iter()
                .any(|kind| is_no_way(&Error::from(kind)))
        );
    }
}
