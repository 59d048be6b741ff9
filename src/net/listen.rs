//! Where a server listens.
//!
//! Owns the making of listeners for every thread, and the truth about
//! the addresses that came of it. Each thread has a listener of its own, so that the kernel
//! spreads connections and no thread waits for another.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::bind::Bind;
use super::dial::is_exhausted;
use crate::error::{Error, Result, word};
use crate::exit::Exit;

/// What may wait to be accepted; the kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// How often to look for a port that is free in both families.
pub(super) const PORT_ATTEMPTS: usize = 16;

/// An address that is really listened on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A TCP address with its real port.
    Inet(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl Address {
    /// Whether others than this machine can come.
    pub fn is_public(&self) -> bool {
        matches!(self, Self::Inet(address) if !address.ip().is_loopback())
    }

    /// The addresses that a client can name: this one, or for an unspecified one those of every
    /// interface in its family.
    pub fn reachable(&self) -> Vec<Self> {
        let Self::Inet(address) = self else { return vec![self.clone()] };
        if !address.ip().is_unspecified() {
            return vec![self.clone()];
        }
        let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten().filter_map(|interface| interface.address);
        let mut reachable: Vec<_> = interfaces
            .filter_map(|found| match (address, found.as_sockaddr_in(), found.as_sockaddr_in6()) {
                (SocketAddr::V4(_), Some(v4), _) => Some(IpAddr::V4(v4.ip())),
                // A link-local address is of no use without its scope, which no browser takes.
                (SocketAddr::V6(_), _, Some(v6)) if !v6.ip().is_unicast_link_local() => Some(IpAddr::V6(v6.ip())),
                _ => None,
            })
            .map(|ip| Self::Inet(SocketAddr::new(ip, address.port())))
            .collect();
        reachable.dedup();
        if reachable.is_empty() { vec![self.clone()] } else { reachable }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Listening sockets, one per thread and address.
#[derive(Debug)]
pub struct Listeners {
    groups: Vec<Group>,
    /// What was wanted by default but this host does not have.
    missing: Vec<String>,
}

#[derive(Debug)]
struct Group {
    address: Address,
    sockets: Vec<Socket>,
    /// The file that a Unix socket is.
    made: Option<(u64, u64)>,
}

impl Listeners {
    /// Binds and listens everywhere, `threads` times.
    pub fn bind(binds: &[Bind], threads: usize) -> Result<Self> {
        let mut listeners = Self { groups: Vec::new(), missing: Vec::new() };
        for bind in binds {
            match bind {
                Bind::Loopback(port) => listeners.both(Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST, *port, threads)?,
                Bind::Everywhere(port) => {
                    listeners.both(Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED, *port, threads)?;
                }
                Bind::Host(host, port) => listeners.host(host, *port, threads)?,
                Bind::Unix(path) => listeners.groups.push(unix(path, threads)?),
            }
        }
        Ok(listeners)
    }

    /// The addresses, main one first.
    pub fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.groups.iter().map(|group| &group.address)
    }

    /// Families that were asked for by default and that this host does not have.
    pub fn missing(&self) -> &[String] {
        &self.missing
    }

    /// One listener per address, for one thread.
    pub(super) fn take(&mut self) -> Vec<Socket> {
        self.groups.iter_mut().filter_map(|group| group.sockets.pop()).collect()
    }

    /// Both families on one port. A host without IPv6 still serves IPv4, and says so.
    fn both(&mut self, v4: Ipv4Addr, v6: Ipv6Addr, port: u16, threads: usize) -> Result<()> {
        for attempt in 1.. {
            let first = tcp(SocketAddr::new(IpAddr::V4(v4), port), threads)
                .map_err(|error| refused(&format!("{v4}:{port}"), error))?;
            let Address::Inet(bound) = first.address else { unreachable!("a TCP group has a TCP address") };
            match tcp(SocketAddr::new(IpAddr::V6(v6), bound.port()), threads) {
                Ok(second) => self.groups.extend([first, second]),
                Err(error) if is_without(&error) => {
                    self.missing.push(format!("no IPv6 on this host ({}), listening on IPv4 alone", word(&error)));
                    self.groups.push(first);
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

    fn host(&mut self, host: &str, port: u16, threads: usize) -> Result<()> {
        let unknown = |error| {
            Error::new(Exit::NameUnknown, format!("cannot listen on {host}:{port}: nobody knows the name"))
                .remedy("give an address of this machine, or a port alone for loopback")
                .because(error)
        };
        let mut port = port;
        for mut address in (host, port).to_socket_addrs().map_err(unknown)? {
            address.set_port(port);
            let group = tcp(address, threads).map_err(|error| refused(&address.to_string(), error))?;
            if let Address::Inet(bound) = group.address {
                // All addresses of one name share the port that the first one got.
                port = bound.port();
            }
            if !self.groups.iter().any(|known| known.address == group.address) {
                self.groups.push(group);
            }
        }
        Ok(())
    }
}

/// The first listener takes the port without `SO_REUSEPORT`, so that nobody else's port is shared
/// unseen, and sets it afterwards, so that its siblings may join.
fn tcp(address: SocketAddr, threads: usize) -> io::Result<Group> {
    let first = tcp_socket(address)?;
    first.bind(&SockAddr::from(address))?;
    first.set_reuse_port(threads > 1)?;
    first.listen(BACKLOG)?;
    let bound = first.local_addr()?.as_socket().ok_or(io::ErrorKind::InvalidInput)?;
    let mut sockets = vec![first];
    for _ in 1..threads {
        let sibling = tcp_socket(bound)?;
        sibling.set_reuse_port(true)?;
        sibling.bind(&SockAddr::from(bound))?;
        sibling.listen(BACKLOG)?;
        sockets.push(sibling);
    }
    Ok(Group { address: Address::Inet(bound), sockets, made: None })
}

fn tcp_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    // A restarted server takes its port back from connections in TIME_WAIT.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// A Unix socket is shared by all threads. One that nobody answers on is left over and replaced.
fn unix(path: &Path, threads: usize) -> Result<Group> {
    let shown = format!("unix:{}", path.display());
    let address = SockAddr::unix(path).map_err(|error| refused(&shown, error))?;
    let new = || Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None);
    let first = new().map_err(|error| refused(&shown, error))?;
    let mut bound = first.bind(&address);
    if bound.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse) {
        let probe = new().and_then(|probe| probe.connect(&address));
        // A plain file refuses a connection as well, and must not be taken for a left-over.
        if is_socket(path)
            && probe.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
            && std::fs::remove_file(path).is_ok()
        {
            bound = first.bind(&address);
        }
    }
    bound.and_then(|()| first.listen(BACKLOG)).map_err(|error| refused(&shown, error))?;
    let mut sockets = vec![first];
    for _ in 1..threads {
        let copy = sockets[0].try_clone().map_err(|error| refused(&shown, error))?;
        sockets.push(copy);
    }
    Ok(Group { address: Address::Unix(path.to_owned()), sockets, made: identity(path) })
}

impl Drop for Listeners {
    /// Removes what was made here, and nothing that has taken its name since.
    fn drop(&mut self) {
        for group in &self.groups {
            let made = group.made.as_ref();
            if let (Address::Unix(path), Some(made)) = (&group.address, made)
                && identity(path).as_ref() == Some(made)
            {
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

/// Which file a name stands for: device and inode.
fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

fn is_socket(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

/// The family is not there at all, as opposed to one address that is taken.
pub(super) fn is_without(error: &io::Error) -> bool {
    use rustix::io::Errno;
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error())
}

pub(super) fn refused(address: &str, error: io::Error) -> Error {
    let what = format!("cannot listen on {address}: {}", word(&error));
    match error.kind() {
        io::ErrorKind::AddrInUse => Error::new(Exit::System, what)
            .expected("a port that nobody else listens on")
            .remedy("stop the other program, or take another port with --bind; 0 picks a free one"),
        io::ErrorKind::PermissionDenied => Error::new(Exit::Permission, what)
            .expected("the right to this address; ports below 1024 belong to root")
            .remedy("take a port from 1024 on, for example --bind 8080"),
        io::ErrorKind::AddrNotAvailable => Error::new(Exit::System, what)
            .expected("an address of this machine")
            .remedy("--bind PORT listens on loopback, --bind '*:PORT' on every address"),
        _ if is_exhausted(&error) => Error::new(Exit::System, what)
            .expected("a free descriptor")
            .remedy("raise the limit with ulimit -n, or take fewer --threads"),
        _ => Error::new(Exit::System, what),
    }
    .because(error)
}

#[cfg(test)]
mod tests {
    use super::{Address, Bind, Listeners};
    use crate::exit::Exit;

    #[test]
    fn port_0_is_the_same_port_in_both_families_and_for_every_thread() {
        let mut listeners = Listeners::bind(&[Bind::Loopback(0)], 3).expect("a free port");
        let ports: Vec<_> = listeners
            .addresses()
            .map(|address| match address {
                Address::Inet(address) => address.port(),
                Address::Unix(_) => 0,
            })
            .collect();
        assert!(ports.windows(2).all(|pair| pair[0] == pair[1] && pair[0] != 0));
        for _ in 0..3 {
            assert_eq!(listeners.take().len(), ports.len());
        }
        assert!(listeners.take().is_empty());
    }

    #[test]
    fn a_port_of_another_server_is_never_shared() {
        for threads in [1, 2] {
            let first = Listeners::bind(&[Bind::Host("127.0.0.1".into(), 0)], threads).expect("a free port");
            let Some(Address::Inet(address)) = first.addresses().next() else { panic!("a TCP address") };
            let error = Listeners::bind(&[Bind::Host("127.0.0.1".into(), address.port())], threads).expect_err("taken");
            assert_eq!(error.exit(), Exit::System);
            assert!(error.advice().is_some_and(|advice| advice.contains("--bind")));
        }
    }

    #[test]
    fn a_unix_socket_is_removed_at_the_end_and_a_left_over_one_replaced() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("s");
        drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
        let bind = [Bind::Unix(path.clone())];
        let listeners = Listeners::bind(&bind, 2).expect("the left-over is replaced");
        assert!(Listeners::bind(&bind, 1).is_err(), "somebody answers there");
        drop(listeners);
        assert!(!path.exists());
    }

    #[test]
    fn a_file_of_the_sockets_name_is_never_touched() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        std::fs::write(&file, "precious").expect("written");
        std::os::unix::fs::symlink(&file, &link).expect("linked");
        for path in [&file, &link] {
            assert!(Listeners::bind(&[Bind::Unix(path.clone())], 1).is_err());
        }
        assert_eq!(std::fs::read(&file).expect("still there"), b"precious");
        assert!(link.is_symlink());
        let socket = directory.path().join("socket");
        let listeners = Listeners::bind(&[Bind::Unix(socket.clone())], 1).expect("free");
        std::fs::remove_file(&socket).expect("removed by somebody");
        std::fs::write(&socket, "another's").expect("written");
        drop(listeners);
        assert!(socket.exists(), "what took its name since is not ours");
    }
}
