//! Bound sockets of a server, one per address and thread. Binds the addresses of `--bind`, for streams and datagrams:
//! both families on one port, all addresses of a name, one socket per thread, and the error messages. [`SocketKind`]
//! has the differences between streams and datagrams.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::path::Path;

use socket2::{SockAddr, Socket};

use super::bind_address::{Address, BindAddress};
use super::connect::is_exhausted;
use crate::failure::{Failure, FailureKind, Result, io_error_text};

/// Attempts to find a port that is free in both families.
const PORT_ATTEMPTS: usize = 16;

/// Stream or datagram socket type: the functions that create and set up its sockets.
pub(super) struct SocketKind {
    /// Creates an unbound socket for the address.
    pub create: fn(SocketAddr) -> io::Result<Socket>,
    pub after_bind: fn(&Socket) -> io::Result<()>,
    /// Binds `unix:PATH` for a number of threads.
    pub bind_unix: fn(&Path, usize) -> Result<SocketGroup>,
}

/// Sockets of one address, one per thread.
#[derive(Debug)]
pub(super) struct SocketGroup {
    /// Address with the port that the kernel assigned.
    pub address: Address,
    pub sockets: Vec<Socket>,
    /// Device and inode of a Unix socket's file.
    pub unix_file: Option<(u64, u64)>,
}

/// Sockets of all addresses.
#[derive(Debug)]
pub(super) struct BoundSockets {
    /// Groups in the order of the flags, the main address first.
    pub groups: Vec<SocketGroup>,
    /// Address families of the default that this host does not support.
    pub warnings: Vec<String>,
}

impl BoundSockets {
    /// Binds all addresses, with one socket per thread for each.
    pub(super) fn bind(binds: &[BindAddress], threads: usize, kind: &SocketKind) -> Result<Self> {
        let mut bound = Self { groups: Vec::new(), warnings: Vec::new() };
        for bind in binds {
            match bind {
                BindAddress::Loopback(port) => {
                    bound.bind_both_families(Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST, *port, threads, kind)?;
                }
                BindAddress::Wildcard(port) => {
                    bound.bind_both_families(Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED, *port, threads, kind)?;
                }
                BindAddress::Host(host, port) => bound.bind_host(host, *port, threads, kind)?,
                BindAddress::Unix(path) => bound.groups.push((kind.bind_unix)(path, threads)?),
            }
        }
        Ok(bound)
    }

    /// Returns the bound addresses, the main one first.
    pub(super) fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.groups.iter().map(|group| &group.address)
    }

    /// Binds both families on one port. Without IPv6, a server listens on IPv4 and warns.
    fn bind_both_families(
        &mut self,
        v4: Ipv4Addr,
        v6: Ipv6Addr,
        port: u16,
        threads: usize,
        kind: &SocketKind,
    ) -> Result<()> {
        for attempt in 1.. {
            let (first, bound) = bind_group(SocketAddr::new(IpAddr::V4(v4), port), threads, kind)
                .map_err(|error| bind_error(&format!("{v4}:{port}"), error))?;
            match bind_group(SocketAddr::new(IpAddr::V6(v6), bound.port()), threads, kind) {
                Ok((second, _)) => self.groups.extend([first, second]),
                Err(error) if is_family_unavailable(&error) => {
                    self.warnings
                        .push(format!("no IPv6 on this host ({}); listening on IPv4 only", io_error_text(&error)));
                    self.groups.push(first);
                }
                // Port 0 gave a port that is free in IPv4 only: try another.
                Err(error) if port == 0 && error.kind() == io::ErrorKind::AddrInUse && attempt < PORT_ATTEMPTS => {
                    continue;
                }
                Err(error) => return Err(bind_error(&format!("[{v6}]:{}", bound.port()), error)),
            }
            break;
        }
        Ok(())
    }

    /// Binds all addresses of a name on the port of the first one. A resolver may return duplicates.
    fn bind_host(&mut self, host: &str, port: u16, threads: usize, kind: &SocketKind) -> Result<()> {
        let unknown = |error| {
            Failure::new(FailureKind::NoSuchHost, format!("cannot listen on {host}:{port}: no such host"))
                .with_source(error)
        };
        let mut port = port;
        let mut seen = Vec::new();
        for mut address in (host, port).to_socket_addrs().map_err(unknown)? {
            if seen.contains(&address.ip()) {
                continue;
            }
            seen.push(address.ip());
            address.set_port(port);
            let (group, bound) =
                bind_group(address, threads, kind).map_err(|error| bind_error(&address.to_string(), error))?;
            port = bound.port();
            self.groups.push(group);
        }
        Ok(())
    }
}

/// Binds one address, with one socket per thread. The first socket binds without `SO_REUSEPORT`, so that
/// the port of another server is never shared unnoticed, and sets it afterwards for its siblings.
fn bind_group(address: SocketAddr, threads: usize, kind: &SocketKind) -> io::Result<(SocketGroup, SocketAddr)> {
    let first = (kind.create)(address)?;
    first.bind(&SockAddr::from(address))?;
    first.set_reuse_port(threads > 1)?;
    (kind.after_bind)(&first)?;
    let bound = first.local_addr()?.as_socket().ok_or(io::ErrorKind::InvalidInput)?;
    let mut sockets = vec![first];
    for _ in 1..threads {
        let sibling = (kind.create)(bound)?;
        sibling.set_reuse_port(true)?;
        sibling.bind(&SockAddr::from(bound))?;
        (kind.after_bind)(&sibling)?;
        sockets.push(sibling);
    }
    Ok((SocketGroup { address: Address::Inet(bound), sockets, unix_file: None }, bound))
}

/// Returns whether the host lacks the address family, as opposed to an address already in use.
fn is_family_unavailable(error: &io::Error) -> bool {
    use rustix::io::Errno;
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error())
}

/// Describes why an address cannot be bound, and what to do.
pub(super) fn bind_error(address: &str, error: io::Error) -> Failure {
    let message = format!("cannot listen on {address}: {}", io_error_text(&error));
    let kind = match error.kind() {
        io::ErrorKind::AddrInUse => FailureKind::AddressInUse,
        io::ErrorKind::PermissionDenied => FailureKind::PortNotPermitted,
        io::ErrorKind::AddrNotAvailable => FailureKind::AddressNotLocal,
        _ if is_exhausted(&error) => FailureKind::ResourcesExhausted,
        _ => FailureKind::System,
    };
    let failure = match kind {
        FailureKind::PortNotPermitted => {
            Failure::new(kind, message).expected("permission to use this address; ports below 1024 require root")
        }
        FailureKind::AddressNotLocal => Failure::new(kind, message).expected("an address of this machine"),
        _ => Failure::new(kind, message),
    };
    failure.with_source(error)
}
