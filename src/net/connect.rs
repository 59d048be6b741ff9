//! TCP connection to a host with several addresses.
//!
//! Owns Happy Eyeballs (RFC 8305): families alternate, a new attempt starts every 250 ms or as soon as one
//! fails, the first established connection wins, and one deadline covers all. A broken IPv6 route costs a
//! quarter of a second and not the whole timeout.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::clock::now;
use super::signals::Signals;
use crate::failure::{Failure, FailureKind, Result, io_error_text};
use crate::time::Moment;

/// Time between the starts of two attempts: the recommended value of RFC 8305 §8.
const CONNECTION_ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Established TCP connection.
#[derive(Debug)]
pub(crate) struct Connected {
    /// Connected, non-blocking socket.
    pub socket: Socket,
    pub peer: SocketAddr,
    pub connected_at: Moment,
}

impl Connected {
    pub(crate) fn local_ip(&self) -> Option<IpAddr> {
        self.socket.local_addr().ok().and_then(|address| address.as_socket()).map(|address| address.ip())
    }
}

struct Attempt {
    socket: Socket,
    peer: SocketAddr,
}

/// Connects from `source`, if given, to the first of `addresses` that answers before `deadline`. `host` is for messages.
pub(crate) fn connect(
    host: &str,
    addresses: &[SocketAddr],
    source: Option<IpAddr>,
    deadline: Moment,
    signals: &mut Signals,
) -> Result<Connected> {
    let started = now();
    let mut waiting = interleave(addresses);
    let mut running: Vec<Attempt> = Vec::new();
    let mut failures: Vec<(SocketAddr, io::Error)> = Vec::new();
    let mut next_start = started;
    loop {
        let moment = now();
        if moment >= deadline {
            return Err(timed_out(host, addresses, moment - started));
        }
        if running.is_empty() || moment >= next_start {
            if let Some(peer) = waiting.pop_front() {
                match start_connect(peer, source) {
                    Ok(socket) => running.push(Attempt { socket, peer }),
                    Err(error) => {
                        failures.push((peer, error));
                        continue;
                    }
                }
                next_start = moment + CONNECTION_ATTEMPT_DELAY;
            } else if running.is_empty() {
                return Err(connect_error(host, source, failures));
            }
        }
        let wake = if waiting.is_empty() { deadline } else { deadline.min(next_start) };
        let mut fds: Vec<_> = running.iter().map(|attempt| PollFd::new(&attempt.socket, PollFlags::OUT)).collect();
        fds.push(PollFd::from_borrowed_fd(signals.fd(), PollFlags::IN));
        let _ = poll(&mut fds, Timespec::try_from(wake - moment).ok().as_ref());
        let settled = fds.iter().position(|fd| !fd.revents().is_empty());
        drop(fds);
        if let Some(signal) = signals.take() {
            return Err(signal.failure());
        }
        let Some(attempt) = settled.filter(|index| *index < running.len()).map(|index| running.swap_remove(index))
        else {
            continue;
        };
        match attempt.socket.take_error() {
            Ok(None) => return Ok(Connected { socket: attempt.socket, peer: attempt.peer, connected_at: now() }),
            Ok(Some(error)) | Err(error) => {
                failures.push((attempt.peer, error));
                next_start = now();
            }
        }
    }
}

/// Alternates the families, starting with the one that the resolver prefers (RFC 8305 §4).
fn interleave(addresses: &[SocketAddr]) -> VecDeque<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (mut preferred, mut others): (VecDeque<_>, VecDeque<_>) =
        addresses.iter().partition(|address| address.is_ipv6() == first_is_v6);
    let mut order = VecDeque::with_capacity(addresses.len());
    while let Some(address) = preferred.pop_front() {
        order.push_back(address);
        order.extend(others.pop_front());
    }
    order.extend(others);
    order
}

fn start_connect(peer: SocketAddr, source: Option<IpAddr>) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(peer), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if let Some(source) = source {
        socket.bind(&SockAddr::from(SocketAddr::new(source, 0)))?;
    }
    match socket.connect(&SockAddr::from(peer)) {
        Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => Err(error),
        _ => Ok(socket),
    }
}

fn timed_out(host: &str, addresses: &[SocketAddr], elapsed: Duration) -> Failure {
    let tried = list(addresses.iter().map(ToString::to_string));
    Failure::new(
        FailureKind::ConnectTimedOut,
        format!("connection to {host} timed out after {:.1} s", elapsed.as_secs_f64()),
    )
    .expected(format!("a reply from {tried}"))
}

/// Describes the failure of all addresses. The first failure decides the kind.
fn connect_error(host: &str, source: Option<IpAddr>, failures: Vec<(SocketAddr, io::Error)>) -> Failure {
    let reasons = list(failures.iter().map(|(peer, error)| format!("{peer}: {}", io_error_text(error))));
    let Some((_, error)) = failures.into_iter().next() else {
        return Failure::new(FailureKind::NoSuchHost, format!("{host} has no address"));
    };
    let kind = match error.kind() {
        io::ErrorKind::ConnectionRefused => FailureKind::ConnectionRefused,
        // The server accepted the connection and reset it before this loop noticed.
        io::ErrorKind::ConnectionReset => FailureKind::ConnectionReset,
        io::ErrorKind::TimedOut => FailureKind::ConnectTimedOut,
        // Without a source, this error means that no local port is free.
        io::ErrorKind::AddrNotAvailable if source.is_some() => FailureKind::SourceNotLocal,
        _ if is_exhausted(&error) => FailureKind::ResourcesExhausted,
        _ => FailureKind::Unreachable,
    };
    // A host typed as an address is not repeated.
    let host = if host.parse::<IpAddr>().is_ok() { String::new() } else { format!("{host}: ") };
    Failure::new(kind, format!("cannot connect to {host}{reasons}")).with_source(error)
}

/// Returns whether descriptors or memory ran out, for this process or for the system.
pub(super) fn is_exhausted(error: &io::Error) -> bool {
    [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

fn list(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::{connect, connect_error, interleave};
    use crate::failure::FailureKind;
    use crate::net::clock::now;
    use crate::net::signals::Signals;
    use std::net::{Ipv4Addr, SocketAddr, TcpListener};
    use std::time::Duration;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().expect("an address")).collect()
    }

    #[test]
    fn families_alternate_starting_with_the_preferred_one() {
        let order = interleave(&addresses(&["[::1]:1", "[::1]:2", "[::1]:3", "127.0.0.1:1"]));
        assert_eq!(order, addresses(&["[::1]:1", "127.0.0.1:1", "[::1]:2", "[::1]:3"]));
        assert!(interleave(&[]).is_empty());
    }

    #[test]
    fn unreachable_addresses_are_skipped() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let listening = listener.local_addr().expect("bound");
        // The port is bound on 127.0.0.1 only; its neighbours refuse connections.
        let mut all: Vec<_> =
            (2..=15).map(|host| SocketAddr::new(Ipv4Addr::new(127, 0, 0, host).into(), listening.port())).collect();
        all.push(listening);
        let mut signals = Signals::install().expect("a pipe");
        let reached =
            connect("h", &all, None, now() + Duration::from_secs(60), &mut signals).expect("the last one listens");
        assert_eq!(reached.peer, listening);
    }

    #[test]
    fn the_kind_of_failure_decides_the_exit_code() {
        let failed =
            |kind: std::io::ErrorKind| connect_error("h", None, vec![(addresses(&["[::1]:1"])[0], kind.into())]).kind();
        assert_eq!(failed(std::io::ErrorKind::ConnectionRefused), FailureKind::ConnectionRefused);
        assert_eq!(failed(std::io::ErrorKind::ConnectionReset), FailureKind::ConnectionReset);
        assert_eq!(failed(std::io::ErrorKind::TimedOut), FailureKind::ConnectTimedOut);
    }

    #[test]
    fn an_error_names_every_address_that_failed() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let closed = [2, 3].map(|host| SocketAddr::new(Ipv4Addr::new(127, 0, 0, host).into(), port));
        let mut signals = Signals::install().expect("a pipe");
        let error = connect("h", &closed, None, now() + Duration::from_secs(60), &mut signals).expect_err("refused");
        assert_eq!(error.kind(), FailureKind::ConnectionRefused);
        assert!(
            error.message().contains("127.0.0.2:")
                && error.message().ends_with("connection refused")
                && error.message().contains("127.0.0.3:"),
            "{error}"
        );
    }
}
