//! Listeners of a stream server.
//!
//! Owns the listening sockets of every thread and the addresses they are bound to. Each thread has its own
//! listener, so that the kernel spreads connections and no thread waits for another.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::bind_address::{Address, BindAddress};
use super::bound::{BoundSockets, SocketGroup, SocketKind, bind_error};
use super::service_manager::take_listeners;
use crate::failure::Result;

/// Length of the accept queue; the kernel limits it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

const STREAM: SocketKind = SocketKind { create: tcp_socket, after_bind: |socket| socket.listen(BACKLOG), bind_unix };

/// Listening sockets of a server, one per thread and address.
#[derive(Debug)]
pub(crate) struct Listeners(BoundSockets);

impl Listeners {
    /// Binds all addresses and listens, with one socket per thread for each.
    pub(crate) fn bind(binds: &[BindAddress], threads: usize) -> Result<Self> {
        BoundSockets::bind(binds, threads, &STREAM).map(Self)
    }

    /// Takes the listeners that a service manager passed to this process, if any.
    pub(crate) fn passed(threads: usize) -> Result<Option<Self>> {
        let groups = take_listeners(threads)?;
        Ok((!groups.is_empty()).then(|| Self(BoundSockets { groups, warnings: Vec::new() })))
    }

    /// Returns the bound addresses, the main one first.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.0.addresses()
    }

    /// Returns the address families of the default that this host does not support.
    pub(crate) fn warnings(&self) -> &[String] {
        &self.0.warnings
    }

    /// Takes the listeners of one thread, one per address.
    pub(super) fn take(&mut self) -> Vec<Socket> {
        self.0.groups.iter_mut().filter_map(|group| group.sockets.pop()).collect()
    }
}

/// Bytes that the kernel holds for a peer beyond those in flight.
const NOTSENT_LOWAT: u32 = 128 * 1024;

/// Sets the options that accepted sockets inherit from a listener.
pub(super) fn configure_accepted(listener: &Socket) -> io::Result<()> {
    // Without it, a response of two writes waits for the peer's delayed ACK.
    listener.set_tcp_nodelay(true)?;
    // The kernel would otherwise take megabytes for each of many peers that read nothing.
    let _ = listener.set_tcp_notsent_lowat(NOTSENT_LOWAT);
    Ok(())
}

fn tcp_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    // A restarted server can bind its port while old connections are in TIME_WAIT.
    socket.set_reuse_address(true)?;
    configure_accepted(&socket)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// Binds a Unix socket that all threads share; replaces a stale one, which refuses connections.
fn bind_unix(path: &Path, threads: usize) -> Result<SocketGroup> {
    let shown = format!("unix:{}", path.display());
    let address = SockAddr::unix(path).map_err(|error| bind_error(&shown, error))?;
    let new = || Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None);
    let first = new().map_err(|error| bind_error(&shown, error))?;
    let mut bound = first.bind(&address);
    if bound.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse) {
        let probe = new().and_then(|probe| probe.connect(&address));
        // A regular file refuses connections as well, and must not be removed.
        if is_socket(path)
            && probe.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
            && std::fs::remove_file(path).is_ok()
        {
            bound = first.bind(&address);
        }
    }
    bound.and_then(|()| first.listen(BACKLOG)).map_err(|error| bind_error(&shown, error))?;
    let mut sockets = vec![first];
    for _ in 1..threads {
        let shared = sockets[0].try_clone().map_err(|error| bind_error(&shown, error))?;
        sockets.push(shared);
    }
    Ok(SocketGroup { address: Address::Unix(path.to_owned()), sockets, unix_file: file_id(path) })
}

impl Drop for Listeners {
    /// Removes the Unix sockets created here, but no file that has replaced one since.
    fn drop(&mut self) {
        for group in &self.0.groups {
            let created = group.unix_file.as_ref();
            if let (Address::Unix(path), Some(created)) = (&group.address, created)
                && file_id(path).as_ref() == Some(created)
            {
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

/// Returns the device and inode of a file.
fn file_id(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

fn is_socket(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

#[cfg(test)]
mod tests {
    use super::{Address, BindAddress, Listeners};
    use crate::failure::FailureKind;

    #[test]
    fn port_0_is_the_same_port_in_both_families_and_for_every_thread() {
        let mut listeners = Listeners::bind(&[BindAddress::Loopback(0)], 3).expect("a free port");
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
    fn an_accepted_connection_sends_small_responses_at_once() {
        let mut listeners = Listeners::bind(&[BindAddress::Host("127.0.0.1".into(), 0)], 1).expect("a free port");
        let address = listeners.addresses().next().and_then(Address::inet).expect("a TCP address");
        let _client = std::net::TcpStream::connect(address).expect("connected");
        let listener = listeners.take().pop().expect("one for the thread");
        listener.set_nonblocking(false).expect("set");
        assert!(listener.accept().expect("a client").0.tcp_nodelay().expect("asked"));
    }

    #[test]
    fn a_port_of_another_server_is_never_shared() {
        for threads in [1, 2] {
            let first = Listeners::bind(&[BindAddress::Host("127.0.0.1".into(), 0)], threads).expect("a free port");
            let Some(Address::Inet(address)) = first.addresses().next() else { panic!("a TCP address") };
            let error =
                Listeners::bind(&[BindAddress::Host("127.0.0.1".into(), address.port())], threads).expect_err("taken");
            assert_eq!(error.kind(), FailureKind::AddressInUse);
        }
    }

    #[test]
    fn a_unix_socket_is_removed_at_the_end_and_a_stale_one_replaced() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("s");
        drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
        let bind = [BindAddress::Unix(path.clone())];
        let listeners = Listeners::bind(&bind, 2).expect("the stale socket is replaced");
        assert!(Listeners::bind(&bind, 1).is_err(), "a server listens there");
        drop(listeners);
        assert!(!path.exists());
    }

    #[test]
    fn a_file_with_the_sockets_name_is_never_touched() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        std::fs::write(&file, "precious").expect("written");
        std::os::unix::fs::symlink(&file, &link).expect("linked");
        for path in [&file, &link] {
            assert!(Listeners::bind(&[BindAddress::Unix(path.clone())], 1).is_err());
        }
        assert_eq!(std::fs::read(&file).expect("still there"), b"precious");
        assert!(link.is_symlink());
        let socket = directory.path().join("socket");
        let listeners = Listeners::bind(&[BindAddress::Unix(socket.clone())], 1).expect("free");
        std::fs::remove_file(&socket).expect("removed");
        std::fs::write(&socket, "of another program").expect("written");
        drop(listeners);
        assert!(socket.exists(), "a file that replaced the socket is kept");
    }
}
