//! Name resolution with a deadline.
//!
//! Owns the call to the system's resolver, which cannot be interrupted: it runs on its own thread, which is
//! abandoned when the deadline passes.

use std::io::{self, Write as _};
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::clock::now;
use super::signals::Signals;
use crate::failure::{Failure, FailureKind, Result};
use crate::time::Moment;

/// Returns the addresses of `host`, at least one, in the system's order of preference (RFC 6724).
pub(crate) fn resolve(host: &str, port: u16, deadline: Moment, signals: &mut Signals) -> Result<Vec<SocketAddr>> {
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if let Ok(address) = host.parse() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let (ready, waker) = UnixStream::pair().map_err(|error| start_error(&error))?;
    let (sender, results) = mpsc::channel();
    let name = host.to_owned();
    std::thread::Builder::new()
        .name("resolver".into())
        .spawn(move || {
            let _ = sender.send((name.as_str(), port).to_socket_addrs().map(Vec::from_iter));
            let _ = (&waker).write(&[0]);
        })
        .map_err(|error| start_error(&error))?;
    loop {
        match results.try_recv() {
            Ok(Ok(addresses)) if !addresses.is_empty() => return Ok(addresses),
            Ok(Ok(_)) => return Err(Failure::new(FailureKind::NoSuchHost, format!("{host} has no address"))),
            Ok(Err(error)) => return Err(resolve_error(host, error)),
            Err(_) => {}
        }
        let remaining = deadline - now();
        if remaining.is_zero() {
            return Err(Failure::new(FailureKind::ResolverFailed, format!("timed out while resolving '{host}'")));
        }
        let mut fds = [PollFd::from_borrowed_fd(signals.fd(), PollFlags::IN), PollFd::new(&ready, PollFlags::IN)];
        let _ = poll(&mut fds, Timespec::try_from(remaining).ok().as_ref());
        if let Some(signal) = signals.take() {
            return Err(signal.failure());
        }
    }
}

fn start_error(error: &io::Error) -> Failure {
    Failure::new(FailureKind::System, format!("cannot start the resolver: {error}"))
}

/// Classifies a failed lookup by its text: the standard library hides the code of `getaddrinfo`. The text
/// is always English, since this process never calls `setlocale`.
fn resolve_error(host: &str, error: io::Error) -> Failure {
    if error.to_string().contains("Temporary failure") {
        return Failure::new(
            FailureKind::ResolverFailed,
            format!("cannot resolve '{host}': the DNS server cannot be reached"),
        )
        .with_source(error);
    }
    Failure::new(FailureKind::NoSuchHost, format!("cannot resolve '{host}': no such host")).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::resolve;
    use crate::failure::FailureKind;
    use crate::net::clock::now;
    use crate::net::signals::Signals;
    use std::time::Duration;

    #[test]
    fn an_ip_address_needs_no_resolver() {
        let mut signals = Signals::install().expect("a pipe");
        let mut resolved = |host| resolve(host, 80, now(), &mut signals).expect("a literal")[0].to_string();
        assert_eq!(resolved("127.0.0.1"), "127.0.0.1:80");
        assert_eq!(resolved("[::1]"), "[::1]:80");
    }

    #[test]
    fn a_malformed_name_is_unknown() {
        let mut signals = Signals::install().expect("a pipe");
        let error = resolve("a..b", 80, now() + Duration::from_secs(30), &mut signals).expect_err("no such name");
        assert!(matches!(error.kind(), FailureKind::NoSuchHost | FailureKind::ResolverFailed), "{error}");
    }
}
