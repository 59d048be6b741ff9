//! The sockets that a server is bound to, one per address and thread.
//!
//! Owns the walk from `--bind` to bound sockets for streams and datagrams alike: both families on
//! one port, all addresses of a name, siblings for every thread, and the words for what is refused.
//! What a socket of its kind needs is said by [`Kind`].

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::path::Path;

use socket2::{SockAddr, Socket};

use super::bind::BindAddress;
use super::connect::is_exhausted;
use super::listen::Address;
use crate::error::{Error, Result, io_error_text};
use crate::exit::Exit;

/// How often to look for a port that is free in both families.
const PORT_ATTEMPTS: usize = 16;

/// What a server's sockets are.
pub(super) struct SocketKind {
    /// Makes one for this address, not bound yet.
    pub create: fn(SocketAddr) -> io::Result<Socket>,
    /// What it needs once it is bound.
    pub after_bind: fn(&Socket) -> io::Result<()>,
    /// What `unix:PATH` means for it.
    pub bind_unix: fn(&Path, usize) -> Result<SocketGroup>,
}

/// The sockets of one address, one per thread.
#[derive(Debug)]
pub(super) struct SocketGroup {
    /// Where they are really bound.
    pub address: Address,
    /// As many as there are threads.
    pub sockets: Vec<Socket>,
    /// The file that a Unix socket is: device and inode.
    pub unix_file: Option<(u64, u64)>,
}

/// The sockets of all addresses.
#[derive(Debug)]
pub(super) struct BoundSockets {
    /// Main address first.
    pub groups: Vec<SocketGroup>,
    /// What was wanted by default but this host does not have.
    pub warnings: Vec<String>,
}

impl BoundSockets {
    /// Binds everywhere, `threads` times.
    pub(super) fn bind(binds: &[BindAddress], threads: usize, kind: &SocketKind) -> Result<Self> {
        let mut groups = Self { groups: Vec::new(), warnings: Vec::new() };
        for bind in binds {
            match bind {
                BindAddress::Loopback(port) => {
                    groups.bind_both_families(Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST, *port, threads, kind)?;
                }
                BindAddress::Wildcard(port) => {
                    groups.bind_both_families(Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED, *port, threads, kind)?;
                }
                BindAddress::Host(host, port) => groups.bind_host(host, *port, threads, kind)?,
                BindAddress::Unix(path) => groups.groups.push((kind.bind_unix)(path, threads)?),
            }
        }
        Ok(groups)
    }

    /// The addresses, main one first.
    pub(super) fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.groups.iter().map(|group| &group.address)
    }

    /// Both families on one port. A host without IPv6 still serves IPv4, and says so.
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
                        .push(format!("no IPv6 on this host ({}), listening on IPv4 alone", io_error_text(&error)));
                    self.groups.push(first);
                }
                // Port 0 gave one that is free in IPv4 alone: ask for another.
                Err(error) if port == 0 && error.kind() == io::ErrorKind::AddrInUse && attempt < PORT_ATTEMPTS => {
                    continue;
                }
                Err(error) => return Err(bind_error(&format!("[{v6}]:{}", bound.port()), error)),
            }
            break;
        }
        Ok(())
    }

    /// All addresses of a name, on the port that the first one got; a resolver may repeat itself.
    fn bind_host(&mut self, host: &str, port: u16, threads: usize, kind: &SocketKind) -> Result<()> {
        let unknown = |error| {
            Error::new(Exit::UnknownHost, format!("cannot listen on {host}:{port}: nobody knows the name"))
                .remedy("give an address of this machine, or a port alone for loopback")
                .with_source(error)
        };
        let mut port = port;
        let mut done = Vec::new();
        for mut address in (host, port).to_socket_addrs().map_err(unknown)? {
            if done.contains(&address.ip()) {
                continue;
            }
            done.push(address.ip());
            address.set_port(port);
            let (group, bound) =
                bind_group(address, threads, kind).map_err(|error| bind_error(&address.to_string(), error))?;
            port = bound.port();
            self.groups.push(group);
        }
        Ok(())
    }
}

/// The first socket takes the port without `SO_REUSEPORT`, so that nobody else's port is shared
/// unseen, and sets it afterwards, so that its siblings may join.
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

/// The family is not there at all, as opposed to one address that is taken.
fn is_family_unavailable(error: &io::Error) -> bool {
    use rustix::io::Errno;
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error())
}

/// Why an address cannot be had, and what to do about it.
pub(super) fn bind_error(address: &str, error: io::Error) -> Error {
    let what = format!("cannot listen on {address}: {}", io_error_text(&error));
    match error.kind() {
        io::ErrorKind::AddrInUse if address.starts_with("unix:") => Error::new(Exit::OsError, what)
            .expected("a path where nobody listens")
            .remedy("stop the other program, or take another path with --bind"),
        io::ErrorKind::AddrInUse => Error::new(Exit::OsError, what)
            .expected("a port that nobody else listens on")
            .remedy("stop the other program, or take another port with --bind; 0 picks a free one"),
        io::ErrorKind::PermissionDenied => Error::new(Exit::Permission, what)
            .expected("the right to this address; ports below 1024 belong to root")
            .remedy("take a port from 1024 on, for example --bind 8080"),
        io::ErrorKind::AddrNotAvailable => Error::new(Exit::OsError, what)
            .expected("an address of this machine")
            .remedy("--bind PORT listens on loopback, --bind '*:PORT' on every address"),
        _ if is_exhausted(&error) => Error::new(Exit::OsError, what)
            .expected("a free descriptor")
            .remedy("raise the limit with ulimit -n, or take fewer --threads"),
        _ => Error::new(Exit::OsError, what),
    }
    .with_source(error)
}
