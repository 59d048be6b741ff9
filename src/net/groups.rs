//! The sockets that a server is bound to, one per address and thread.
//!
//! Owns the walk from `--bind` to bound sockets for streams and datagrams alike: both families on
//! one port, all addresses of a name, siblings for every thread, and the words for what is refused.
//! What a socket of its kind needs is said by [`Kind`].

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::path::Path;

use socket2::{SockAddr, Socket};

use super::bind::Bind;
use super::dial::is_exhausted;
use super::listen::Address;
use crate::error::{Error, Result, io_error_text};
use crate::exit::Exit;

/// How often to look for a port that is free in both families.
const PORT_ATTEMPTS: usize = 16;

/// What a server's sockets are.
pub struct Kind {
    /// Makes one for this address, not bound yet.
    pub make: fn(SocketAddr) -> io::Result<Socket>,
    /// What it needs once it is bound.
    pub ready: fn(&Socket) -> io::Result<()>,
    /// What `unix:PATH` means for it.
    pub unix: fn(&Path, usize) -> Result<Group>,
}

/// The sockets of one address, one per thread.
#[derive(Debug)]
pub struct Group {
    /// Where they are really bound.
    pub address: Address,
    /// As many as there are threads.
    pub sockets: Vec<Socket>,
    /// The file that a Unix socket is: device and inode.
    pub made: Option<(u64, u64)>,
}

/// The sockets of all addresses.
#[derive(Debug)]
pub struct Groups {
    /// Main address first.
    pub all: Vec<Group>,
    /// What was wanted by default but this host does not have.
    pub missing: Vec<String>,
}

impl Groups {
    /// Binds everywhere, `threads` times.
    pub fn bind(binds: &[Bind], threads: usize, kind: &Kind) -> Result<Self> {
        let mut groups = Self { all: Vec::new(), missing: Vec::new() };
        for bind in binds {
            match bind {
                Bind::Loopback(port) => groups.both(Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST, *port, threads, kind)?,
                Bind::Everywhere(port) => {
                    groups.both(Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED, *port, threads, kind)?;
                }
                Bind::Host(host, port) => groups.host(host, *port, threads, kind)?,
                Bind::Unix(path) => groups.all.push((kind.unix)(path, threads)?),
            }
        }
        Ok(groups)
    }

    /// The addresses, main one first.
    pub fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.all.iter().map(|group| &group.address)
    }

    /// Both families on one port. A host without IPv6 still serves IPv4, and says so.
    fn both(&mut self, v4: Ipv4Addr, v6: Ipv6Addr, port: u16, threads: usize, kind: &Kind) -> Result<()> {
        for attempt in 1.. {
            let (first, bound) = group(SocketAddr::new(IpAddr::V4(v4), port), threads, kind)
                .map_err(|error| refused(&format!("{v4}:{port}"), error))?;
            match group(SocketAddr::new(IpAddr::V6(v6), bound.port()), threads, kind) {
                Ok((second, _)) => self.all.extend([first, second]),
                Err(error) if is_without(&error) => {
                    self.missing
                        .push(format!("no IPv6 on this host ({}), listening on IPv4 alone", io_error_text(&error)));
                    self.all.push(first);
                }
                // Port 0 gave one that is free in IPv4 alone: ask for another.
                Err(error) if port == 0 && error.kind() == io::ErrorKind::AddrInUse && attempt < PORT_ATTEMPTS => {
                    continue;
                }
                Err(error) => return Err(refused(&format!("[{v6}]:{}", bound.port()), error)),
            }
            break;
        }
        Ok(())
    }

    /// All addresses of a name, on the port that the first one got; a resolver may repeat itself.
    fn host(&mut self, host: &str, port: u16, threads: usize, kind: &Kind) -> Result<()> {
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
            let (group, bound) = group(address, threads, kind).map_err(|error| refused(&address.to_string(), error))?;
            port = bound.port();
            self.all.push(group);
        }
        Ok(())
    }
}

/// The first socket takes the port without `SO_REUSEPORT`, so that nobody else's port is shared
/// unseen, and sets it afterwards, so that its siblings may join.
fn group(address: SocketAddr, threads: usize, kind: &Kind) -> io::Result<(Group, SocketAddr)> {
    let first = (kind.make)(address)?;
    first.bind(&SockAddr::from(address))?;
    first.set_reuse_port(threads > 1)?;
    (kind.ready)(&first)?;
    let bound = first.local_addr()?.as_socket().ok_or(io::ErrorKind::InvalidInput)?;
    let mut sockets = vec![first];
    for _ in 1..threads {
        let sibling = (kind.make)(bound)?;
        sibling.set_reuse_port(true)?;
        sibling.bind(&SockAddr::from(bound))?;
        (kind.ready)(&sibling)?;
        sockets.push(sibling);
    }
    Ok((Group { address: Address::Inet(bound), sockets, made: None }, bound))
}

/// The family is not there at all, as opposed to one address that is taken.
fn is_without(error: &io::Error) -> bool {
    use rustix::io::Errno;
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error())
}

/// Why an address cannot be had, and what to do about it.
pub fn refused(address: &str, error: io::Error) -> Error {
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
