//! Connecting to a name that has several addresses.
//!
//! Owns happy eyeballs (RFC 8305): families take turns, a new attempt starts every 250 ms or as
//! soon as one fails, the first to stand wins, and one limit covers them all. A dead IPv6 route
//! costs a quarter of a second and not the whole patience.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::clock::{now, timespec};
use super::signals::Signals;
use crate::error::{Error, Result, io_error_text};
use crate::exit::Exit;
use crate::time::Moment;

/// Between the starts of two attempts: the recommended value of RFC 8305 §8.
const CONNECTION_ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// A connection that stands.
#[derive(Debug)]
pub(crate) struct Connected {
    /// Connected and non-blocking.
    pub socket: Socket,
    /// The address that answered.
    pub peer: SocketAddr,
    /// When it stood.
    pub connected_at: Moment,
}

impl Connected {
    /// Our own address on it.
    pub(crate) fn local_ip(&self) -> Option<IpAddr> {
        self.socket.local_addr().ok().and_then(|address| address.as_socket()).map(|address| address.ip())
    }
}

struct Attempt {
    socket: Socket,
    peer: SocketAddr,
}

/// Connects to the first of `addresses` that answers before `until`. `host` is for messages.
pub(crate) fn connect(
    host: &str,
    addresses: &[SocketAddr],
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
                match start_connect(peer) {
                    Ok(socket) => running.push(Attempt { socket, peer }),
                    Err(error) => {
                        failures.push((peer, error));
                        continue;
                    }
                }
                next_start = moment + CONNECTION_ATTEMPT_DELAY;
            } else if running.is_empty() {
                return Err(connect_error(host, failures));
            }
        }
        let wake = if waiting.is_empty() { deadline } else { deadline.min(next_start) };
        let mut fds: Vec<_> = running.iter().map(|attempt| PollFd::new(&attempt.socket, PollFlags::OUT)).collect();
        fds.push(PollFd::from_borrowed_fd(signals.fd(), PollFlags::IN));
        let _ = poll(&mut fds, Some(&timespec(wake - moment)));
        let settled = fds.iter().position(|fd| !fd.revents().is_empty());
        drop(fds);
        if let Some(signal) = signals.take() {
            return Err(signal.error());
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

/// Families take turns, beginning with the resolver's favourite (RFC 8305 §4).
fn interleave(addresses: &[SocketAddr]) -> VecDeque<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (mut these, mut those): (VecDeque<_>, VecDeque<_>) =
        addresses.iter().partition(|address| address.is_ipv6() == first_is_v6);
    let mut order = VecDeque::with_capacity(addresses.len());
    while let Some(address) = these.pop_front() {
        order.push_back(address);
        order.extend(those.pop_front());
    }
    order.extend(those);
    order
}

fn start_connect(peer: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(peer), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&SockAddr::from(peer)) {
        Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => Err(error),
        _ => Ok(socket),
    }
}

fn timed_out(host: &str, addresses: &[SocketAddr], elapsed: Duration) -> Error {
    let tried = list(addresses.iter().map(ToString::to_string));
    Error::new(Exit::TemporaryFailure, format!("no connection to {host} within {:.1} s", elapsed.as_secs_f64()))
        .expected(format!("an answer from {tried}"))
        .remedy("check the address and the firewall")
}

/// Every address failed. What they failed with decides, the first one leading.
fn connect_error(host: &str, failures: Vec<(SocketAddr, io::Error)>) -> Error {
    let told = list(failures.iter().map(|(peer, error)| format!("{peer}: {}", io_error_text(error))));
    let Some((peer, error)) = failures.into_iter().next() else {
        return Error::new(Exit::UnknownHost, format!("{host} has no address"));
    };
    let (exit, remedy) = match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            (Exit::Unavailable, format!("is the server running, and is {} its port?", peer.port()))
        }
        // Somebody was there, and hung up before we had looked.
        io::ErrorKind::ConnectionReset => {
            (Exit::TemporaryFailure, "try again: somebody answers there, and hangs up".to_owned())
        }
        io::ErrorKind::TimedOut => (Exit::TemporaryFailure, "check the address and the firewall".to_owned()),
        _ if is_exhausted(&error) => {
            (Exit::OsError, "close some programs, or raise the limit with ulimit -n".to_owned())
        }
        _ => (Exit::Unavailable, "check the address and the route to it".to_owned()),
    };
    Error::new(exit, format!("cannot connect to {host}: {told}"))
        .expected("somebody listening there")
        .remedy(remedy)
        .with_source(error)
}

/// No descriptors left, for this process or for all.
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
    use crate::exit::Exit;
    use crate::net::clock::now;
    use crate::net::signals::Signals;
    use std::net::{Ipv4Addr, SocketAddr, TcpListener};
    use std::time::Duration;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().expect("an address")).collect()
    }

    #[test]
    fn families_take_turns_beginning_with_the_favourite() {
        let order = interleave(&addresses(&["[::1]:1", "[::1]:2", "[::1]:3", "127.0.0.1:1"]));
        assert_eq!(order, addresses(&["[::1]:1", "127.0.0.1:1", "[::1]:2", "[::1]:3"]));
        assert!(interleave(&[]).is_empty());
    }

    #[test]
    fn dead_addresses_are_passed_over() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let alive = listener.local_addr().expect("bound");
        // The port is ours on 127.0.0.1 alone, so on its neighbours nobody listens.
        let mut all: Vec<_> =
            (2..=15).map(|host| SocketAddr::new(Ipv4Addr::new(127, 0, 0, host).into(), alive.port())).collect();
        all.push(alive);
        let mut signals = Signals::install().expect("a pipe");
        let dialled = connect("h", &all, now() + Duration::from_secs(60), &mut signals).expect("the last one listens");
        assert_eq!(dialled.peer, alive);
    }

    #[test]
    fn what_an_address_fails_with_decides() {
        let failed =
            |kind: std::io::ErrorKind| connect_error("h", vec![(addresses(&["[::1]:1"])[0], kind.into())]).exit();
        assert_eq!(failed(std::io::ErrorKind::ConnectionRefused), Exit::Unavailable);
        assert_eq!(failed(std::io::ErrorKind::ConnectionReset), Exit::TemporaryFailure);
        assert_eq!(failed(std::io::ErrorKind::TimedOut), Exit::TemporaryFailure);
    }

    #[test]
    fn if_nobody_listens_every_address_is_named() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let dead = [2, 3].map(|host| SocketAddr::new(Ipv4Addr::new(127, 0, 0, host).into(), port));
        let mut signals = Signals::install().expect("a pipe");
        let error = connect("h", &dead, now() + Duration::from_secs(60), &mut signals).expect_err("nobody there");
        assert_eq!(error.exit(), Exit::Unavailable);
        assert!(
            error.message().contains("127.0.0.2:")
                && error.message().ends_with("connection refused")
                && error.message().contains("127.0.0.3:"),
            "{error}"
        );
    }
}
