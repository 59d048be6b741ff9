//! UDP sockets: creation and options.
//!
//! Owns addresses and the ancillary data that is requested from the kernel. Must not send or receive.
//!
//! ```text
//!   server   one per thread and address   receive time · TTL · drop count · destination (wildcard only)
//!   client   one or more per target, connected    receive time · TTL · drop count · send time · ICMP errors
//! ```
//! All are optional except the destination address: without kernel timestamps the loop's clock is used, and a smaller
//! buffer only drops more datagrams, which are counted. A server on a wildcard address needs the destination;
//! otherwise its replies could leave from another address.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use nix::sys::socket::sockopt::{
    Ipv4PacketInfo, Ipv4RecvErr, Ipv4RecvTtl, Ipv6RecvErr, Ipv6RecvHopLimit, Ipv6RecvPacketInfo, ReceiveTimestampns,
    RxqOvfl, Timestamping,
};
use nix::sys::socket::{TimestampingFlag, setsockopt};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::bind_address::{Address, BindAddress};
use super::bound::{BoundSockets, SocketKind};
use super::connect::is_exhausted;
use crate::failure::{Failure, FailureKind, Result, io_error_text};

/// Size of a receive buffer; the kernel limits it to `net.core.rmem_max`.
const RECEIVE_BUFFER_SIZE: usize = 4 << 20;

/// Timestamps of a client socket: `OPT_ID` numbers the sent datagrams, and `OPT_TSONLY` keeps their payload
/// out of the error queue.
const TIMESTAMPING_FLAGS: TimestampingFlag = TimestampingFlag::SOF_TIMESTAMPING_SOFTWARE
    .union(TimestampingFlag::SOF_TIMESTAMPING_RX_SOFTWARE)
    .union(TimestampingFlag::SOF_TIMESTAMPING_TX_SOFTWARE)
    .union(TimestampingFlag::SOF_TIMESTAMPING_OPT_ID)
    .union(TimestampingFlag::SOF_TIMESTAMPING_OPT_TSONLY);

/// Socket type of a UDP server. `SO_REUSEADDR` stays off: with it, any other process that sets it could bind the same
/// UDP port.
const DATAGRAM: SocketKind =
    SocketKind { create: server_socket, after_bind: |_| Ok(()), bind_unix: |path, _| Err(unix_unsupported(path)) };

fn unix_unsupported(path: &Path) -> Failure {
    Failure::new(FailureKind::InvalidValue, format!("cannot receive datagrams on unix:{}", path.display()))
        .expected("a UDP address: PORT, HOST:PORT or *:PORT")
}

/// Sockets of a UDP server, one per thread and address.
#[derive(Debug)]
pub(crate) struct DatagramSockets(BoundSockets);

impl DatagramSockets {
    /// Binds all addresses, with one socket per thread for each.
    pub(crate) fn bind(binds: &[BindAddress], threads: usize) -> Result<Self> {
        BoundSockets::bind(binds, threads, &DATAGRAM).map(Self)
    }

    /// Returns the bound addresses, the main one first.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.0.addresses()
    }

    pub(crate) fn socket_addresses(&self) -> Vec<SocketAddr> {
        self.addresses().filter_map(Address::inet).collect()
    }

    /// Returns the address families of the default that this host does not support.
    pub(crate) fn warnings(&self) -> &[String] {
        &self.0.warnings
    }

    /// Takes the sockets of one thread, one per address.
    pub(super) fn take(&mut self) -> Vec<(Socket, SocketAddr)> {
        self.0.groups.iter_mut().filter_map(|group| Some((group.sockets.pop()?, group.address.inet()?))).collect()
    }
}

fn server_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = udp_socket(address)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => setsockopt(&socket, Ipv4PacketInfo, &true)?,
        IpAddr::V6(ip) if ip.is_unspecified() => setsockopt(&socket, Ipv6RecvPacketInfo, &true)?,
        _ => {}
    }
    // The SO_TIMESTAMPNS control message is a third the size of SO_TIMESTAMPING's, and a server needs only receive
    // times.
    let _ = setsockopt(&socket, ReceiveTimestampns, &true);
    Ok(socket)
}

/// Creates a socket with the options common to servers and clients.
fn udp_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER_SIZE);
    let _ = setsockopt(&socket, RxqOvfl, &1);
    let _ = match address {
        SocketAddr::V4(_) => setsockopt(&socket, Ipv4RecvTtl, &true),
        SocketAddr::V6(_) => setsockopt(&socket, Ipv6RecvHopLimit, &true),
    };
    Ok(socket)
}

/// Options of a client socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SocketOptions {
    pub source: Option<IpAddr>,
    /// TTL, or hop limit for IPv6.
    pub ttl: Option<u8>,
    /// Differentiated services code point (RFC 2474), 0 to 63.
    pub dscp: Option<u8>,
}

impl SocketOptions {
    /// Creates a socket connected to `peer`: it receives from no other address, and reports ICMP errors.
    pub(super) fn connect(&self, peer: SocketAddr) -> io::Result<Socket> {
        let socket = udp_socket(peer)?;
        if let Some(source) = self.source {
            socket.bind(&SockAddr::from(SocketAddr::new(source, 0)))?;
        }
        if peer.is_ipv4() {
            self.ttl.map_or(Ok(()), |ttl| socket.set_ttl_v4(ttl.into()))?;
            self.dscp.map_or(Ok(()), |dscp| socket.set_tos_v4(u32::from(dscp) << 2))?;
            let _ = setsockopt(&socket, Ipv4RecvErr, &true);
        } else {
            self.ttl.map_or(Ok(()), |ttl| socket.set_unicast_hops_v6(ttl.into()))?;
            self.dscp.map_or(Ok(()), |dscp| socket.set_tclass_v6(u32::from(dscp) << 2))?;
            let _ = setsockopt(&socket, Ipv6RecvErr, &true);
        }
        socket.connect(&SockAddr::from(peer))?;
        Ok(socket)
    }
}

/// Creates a socket that receives, on the port of a connected socket, what comes from other peers.
pub(super) fn unconnected_socket(connected: &Socket) -> io::Result<(Socket, SocketAddr)> {
    let local = connected.local_addr()?.as_socket().ok_or(io::ErrorKind::Unsupported)?;
    let socket = udp_socket(local)?;
    // SO_REUSEADDR is set only after bind; set earlier, it would let the kernel pick a port that another such socket uses.
    connected.set_reuse_address(true)?;
    socket.set_reuse_address(true)?;
    let bound = socket.bind(&SockAddr::from(local));
    connected.set_reuse_address(false)?;
    bound.map(|()| (socket, local))
}

/// Describes why a socket could not be connected, and what to do.
pub(super) fn connect_error(peer: SocketAddr, error: io::Error) -> Failure {
    let message = format!("cannot send to {peer}: {}", io_error_text(&error));
    let (kind, expected) = match error.kind() {
        io::ErrorKind::AddrNotAvailable => (FailureKind::SourceNotLocal, "a source address of this machine"),
        io::ErrorKind::PermissionDenied => (FailureKind::BroadcastDenied, "a unicast address"),
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => {
            (FailureKind::Unreachable, "a route to the target")
        }
        _ if is_exhausted(&error) => (FailureKind::ResourcesExhausted, "a free file descriptor"),
        _ => return Failure::new(FailureKind::System, message).with_source(error),
    };
    Failure::new(kind, message).expected(expected).with_source(error)
}

/// Enables kernel timestamps of sent and received datagrams, the sent ones numbered from 0. Returns whether
/// the kernel supports it.
pub(super) fn enable_timestamps(socket: &Socket) -> bool {
    // The numbering restarts at 0 only if timestamps were off before.
    let off = setsockopt(socket, Timestamping, &TimestampingFlag::empty());
    off.and_then(|()| setsockopt(socket, Timestamping, &TIMESTAMPING_FLAGS)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::{DatagramSockets, SocketOptions, connect_error};
    use crate::failure::FailureKind;
    use crate::net::bind_address::BindAddress;
    use std::net::{Ipv4Addr, SocketAddr};

    const LOCAL: &str = "127.0.0.1";

    #[test]
    fn port_0_is_the_same_port_in_both_families_and_for_every_thread() {
        let mut sockets = DatagramSockets::bind(&[BindAddress::Loopback(0)], 3).expect("a free port");
        let bound = sockets.socket_addresses();
        assert!(bound.windows(2).all(|pair| pair[0].port() == pair[1].port() && pair[0].port() != 0));
        assert_eq!(bound.len() + sockets.warnings().len(), 2);
        for _ in 0..3 {
            assert_eq!(sockets.take().len(), bound.len());
        }
        assert!(sockets.take().is_empty());
    }

    #[test]
    fn a_port_of_another_server_is_never_shared() {
        for threads in [1, 2] {
            let first = DatagramSockets::bind(&[BindAddress::Host(LOCAL.into(), 0)], threads).expect("a free port");
            let bind = BindAddress::Host(LOCAL.into(), first.socket_addresses()[0].port());
            let error = DatagramSockets::bind(&[bind], threads).expect_err("taken");
            assert_eq!(error.kind(), FailureKind::AddressInUse);
        }
    }

    #[test]
    fn a_foreign_address_and_a_unix_path_are_rejected() {
        let bind =
            |host: &str| DatagramSockets::bind(&[BindAddress::Host(host.into(), 0)], 1).expect_err("refused").kind();
        assert_eq!(bind("192.0.2.1"), FailureKind::AddressNotLocal);
        let unix = DatagramSockets::bind(&[BindAddress::Unix("/tmp/s".into())], 1).expect_err("no UDP");
        assert_eq!(unix.kind(), FailureKind::InvalidValue);
    }

    #[test]
    fn a_foreign_source_is_rejected() {
        let kind = |peer: SocketAddr, source: &str| {
            let options = SocketOptions { source: source.parse().ok(), ..SocketOptions::default() };
            let error = options.connect(peer).expect_err("refused");
            connect_error(peer, error).kind()
        };
        let peer = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 9);
        assert_eq!(kind(peer, "192.0.2.1"), FailureKind::SourceNotLocal);
        assert_eq!(kind(SocketAddr::new(Ipv4Addr::BROADCAST.into(), 9), "0.0.0.0"), FailureKind::BroadcastDenied);
    }

    #[test]
    fn ttl_and_code_point_are_set_as_requested() {
        let options = SocketOptions { ttl: Some(7), dscp: Some(46), ..SocketOptions::default() };
        let socket = options.connect(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 9)).expect("a socket");
        assert_eq!(socket.ttl_v4().expect("set"), 7);
        assert_eq!(socket.tos_v4().expect("set"), 184);
    }
}
