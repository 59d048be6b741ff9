//! Sockets for datagrams.
//!
//! Owns their making: which address, and what the kernel is to tell beside each datagram. It must
//! not send or receive.
//!
//! ```text
//!   server   one per thread and address   came when · TTL · to which address · dropped before it
//!   client   one per target, connected    came when · TTL · left when · what ICMP says
//! ```
//!
//! All of that is asked for and none of it is insisted on: without a stamp the loop's clock is
//! good enough, and a smaller buffer drops sooner and says so. Only a server on a wildcard address
//! must know where a datagram was sent to, or its answers leave from an address nobody asked.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use nix::sys::socket::sockopt::{
    Ipv4PacketInfo, Ipv4RecvErr, Ipv4RecvTtl, Ipv6RecvErr, Ipv6RecvHopLimit, Ipv6RecvPacketInfo, ReceiveTimestampns,
    RxqOvfl, Timestamping,
};
use nix::sys::socket::{TimestampingFlag, setsockopt};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::bind::BindAddress;
use super::bound::{BoundSockets, SocketKind};
use super::connect::is_exhausted;
use super::listen::Address;
use crate::error::{Error, Result, io_error_text};
use crate::exit::Exit;

/// What may wait in a receive buffer; the kernel cuts it to `net.core.rmem_max`.
const RECEIVE_BUFFER_SIZE: usize = 4 << 20;

/// What a client's socket is asked to stamp: `OPT_ID` numbers the datagrams it sends, and
/// `OPT_TSONLY` keeps their payload out of the error queue.
const TIMESTAMPING_FLAGS: TimestampingFlag = TimestampingFlag::SOF_TIMESTAMPING_SOFTWARE
    .union(TimestampingFlag::SOF_TIMESTAMPING_RX_SOFTWARE)
    .union(TimestampingFlag::SOF_TIMESTAMPING_TX_SOFTWARE)
    .union(TimestampingFlag::SOF_TIMESTAMPING_OPT_ID)
    .union(TimestampingFlag::SOF_TIMESTAMPING_OPT_TSONLY);

/// What a datagram server's sockets are. `SO_REUSEADDR` stays off: for UDP it would share the port
/// with anybody.
const DATAGRAM: SocketKind =
    SocketKind { create: server_socket, after_bind: |_| Ok(()), bind_unix: |path, _| Err(unix_unsupported(path)) };

fn unix_unsupported(path: &Path) -> Error {
    Error::new(Exit::Usage, format!("cannot receive at unix:{}", path.display()))
        .expected("an address for UDP: PORT, HOST:PORT or *:PORT")
}

/// A server's sockets, one per thread and address.
#[derive(Debug)]
pub(crate) struct DatagramSockets(BoundSockets);

impl DatagramSockets {
    /// Binds everywhere, `threads` times.
    pub(crate) fn bind(binds: &[BindAddress], threads: usize) -> Result<Self> {
        BoundSockets::bind(binds, threads, &DATAGRAM).map(Self)
    }

    /// The addresses, main one first.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.0.addresses()
    }

    /// The same as plain socket addresses.
    pub(crate) fn socket_addresses(&self) -> Vec<SocketAddr> {
        self.addresses().filter_map(Address::inet).collect()
    }

    /// Families that were asked for by default and that this host does not have.
    pub(crate) fn warnings(&self) -> &[String] {
        &self.0.warnings
    }

    /// One socket per address, for one thread.
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
    // A stamp of this kind is a third as long as the other one, and a server needs no more.
    let _ = setsockopt(&socket, ReceiveTimestampns, &true);
    Ok(socket)
}

/// What every socket of ours has: never blocking, a large buffer, the TTL, what was dropped.
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

/// How a client's datagrams leave this host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SocketOptions {
    /// From which of our addresses.
    pub source: Option<IpAddr>,
    /// With which TTL or hop limit.
    pub ttl: Option<u8>,
    /// With which code point of RFC 2474, 0 to 63.
    pub dscp: Option<u8>,
}

impl SocketOptions {
    /// A socket connected to `peer`, so that nobody else is heard and ICMP errors show.
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

    /// Why there is no socket, for the person who asked for it.
    pub(super) fn connect_error(&self, peer: SocketAddr, error: io::Error) -> Error {
        let what = format!("cannot send to {peer}: {}", io_error_text(&error));
        let other_family = self.source.is_some_and(|source| source.is_ipv4() != peer.is_ipv4());
        match error.kind() {
            _ if other_family => Error::new(Exit::Usage, format!("the source address cannot reach {peer}"))
                .expected("both of one family")
                .remedy("choose the family of the target with -4 or -6"),
            io::ErrorKind::AddrNotAvailable => Error::new(Exit::OsError, what)
                .expected("an address of this machine as --source")
                .remedy("leave out --source, the system knows the way"),
            io::ErrorKind::PermissionDenied => Error::new(Exit::Permission, what)
                .expected("one host, not a broadcast address")
                .remedy("name a single target; or a firewall of this host forbids it"),
            io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => Error::new(Exit::Unavailable, what)
                .expected("a route to it")
                .remedy("check the address, or try the other family with -4 or -6"),
            _ if is_exhausted(&error) => Error::new(Exit::OsError, what)
                .expected("a free descriptor")
                .remedy("raise the limit with ulimit -n, or name fewer targets"),
            _ => Error::new(Exit::OsError, what),
        }
        .with_source(error)
    }
}

/// Has datagrams stamped as they come and as they leave, the leaving ones numbered from 0 on. Says
/// whether the kernel will.
pub(super) fn enable_timestamps(socket: &Socket) -> bool {
    // The count begins anew only if it was off before.
    let off = setsockopt(socket, Timestamping, &TimestampingFlag::empty());
    off.and_then(|()| setsockopt(socket, Timestamping, &TIMESTAMPING_FLAGS)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::{DatagramSockets, SocketOptions};
    use crate::exit::Exit;
    use crate::net::bind::BindAddress;
    use std::net::{Ipv4Addr, SocketAddr};

    const LOCAL: &str = "127.0.0.1";

    #[test]
    fn port_0_is_the_same_port_in_both_families_and_for_every_thread() {
        let mut receivers = DatagramSockets::bind(&[BindAddress::Loopback(0)], 3).expect("a free port");
        let bound = receivers.socket_addresses();
        assert!(bound.windows(2).all(|pair| pair[0].port() == pair[1].port() && pair[0].port() != 0));
        assert_eq!(bound.len() + receivers.warnings().len(), 2);
        for _ in 0..3 {
            assert_eq!(receivers.take().len(), bound.len());
        }
        assert!(receivers.take().is_empty());
    }

    #[test]
    fn a_port_of_another_server_is_never_shared() {
        for threads in [1, 2] {
            let first = DatagramSockets::bind(&[BindAddress::Host(LOCAL.into(), 0)], threads).expect("a free port");
            let bind = BindAddress::Host(LOCAL.into(), first.socket_addresses()[0].port());
            let error = DatagramSockets::bind(&[bind], threads).expect_err("taken");
            assert_eq!(error.exit(), Exit::OsError);
            assert!(error.advice().is_some_and(|advice| advice.contains("--bind")));
        }
    }

    #[test]
    fn what_is_not_ours_or_not_udp_is_refused_with_its_code() {
        let bind =
            |host: &str| DatagramSockets::bind(&[BindAddress::Host(host.into(), 0)], 1).expect_err("refused").exit();
        assert_eq!(bind("192.0.2.1"), Exit::OsError);
        let unix = DatagramSockets::bind(&[BindAddress::Unix("/tmp/s".into())], 1).expect_err("no UDP");
        assert_eq!(unix.exit(), Exit::Usage);
    }

    #[test]
    fn a_source_that_is_not_ours_or_of_the_other_family_is_refused_with_its_code() {
        let exit = |peer: SocketAddr, source: &str| {
            let origin = SocketOptions { source: source.parse().ok(), ..SocketOptions::default() };
            let error = origin.connect(peer).expect_err("refused");
            origin.connect_error(peer, error).exit()
        };
        let peer = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 9);
        assert_eq!(exit(peer, "192.0.2.1"), Exit::OsError);
        assert_eq!(exit(peer, "::1"), Exit::Usage);
        assert_eq!(exit(SocketAddr::new(Ipv4Addr::BROADCAST.into(), 9), "0.0.0.0"), Exit::Permission);
    }

    #[test]
    fn ttl_and_code_point_are_what_was_asked_for() {
        let origin = SocketOptions { ttl: Some(7), dscp: Some(46), ..SocketOptions::default() };
        let socket = origin.connect(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 9)).expect("a socket");
        assert_eq!(socket.ttl_v4().expect("set"), 7);
        assert_eq!(socket.tos_v4().expect("set"), 184);
    }
}
