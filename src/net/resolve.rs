//! Names to addresses, with a deadline.
//!
//! Owns the call to the system's resolver, which blocks for as long as it likes: it runs on a
//! thread of its own, and is left behind when the time is up.

use std::io::{self, Write as _};
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;

use rustix::event::{PollFd, PollFlags, poll};

use super::clock::{now, timespec};
use super::signals::Signals;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::time::Moment;

/// The addresses of `host` in the system's order of preference (RFC 6724), never none.
pub(crate) fn resolve(host: &str, port: u16, deadline: Moment, signals: &mut Signals) -> Result<Vec<SocketAddr>> {
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if let Ok(address) = host.parse() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let (ready, answered) = UnixStream::pair().map_err(|error| start_error(&error))?;
    let (answer, answers) = mpsc::channel();
    let name = host.to_owned();
    std::thread::Builder::new()
        .name("resolver".into())
        .spawn(move || {
            let _ = answer.send((name.as_str(), port).to_socket_addrs().map(Vec::from_iter));
            let _ = (&answered).write(&[0]);
        })
        .map_err(|error| start_error(&error))?;
    loop {
        match answers.try_recv() {
            Ok(Ok(addresses)) if !addresses.is_empty() => return Ok(addresses),
            Ok(Ok(_)) => return Err(Error::new(Exit::UnknownHost, format!("{host} has no address"))),
            Ok(Err(error)) => return Err(resolve_error(host, error)),
            Err(_) => {}
        }
        let left = deadline - now();
        if left.is_zero() {
            return Err(Error::new(
                Exit::TemporaryFailure,
                format!("no answer from the resolver about {host} in time"),
            )
            .remedy("try again, or give the address as a number"));
        }
        let mut fds = [PollFd::from_borrowed_fd(signals.fd(), PollFlags::IN), PollFd::new(&ready, PollFlags::IN)];
        let _ = poll(&mut fds, Some(&timespec(left)));
        if let Some(signal) = signals.take() {
            return Err(signal.error());
        }
    }
}

fn start_error(error: &io::Error) -> Error {
    Error::new(Exit::OsError, format!("cannot start the resolver: {error}"))
}

/// The standard library keeps `getaddrinfo`'s code to itself and gives only its text, which is
/// always English here, since nobody calls `setlocale`.
fn resolve_error(host: &str, error: io::Error) -> Error {
    if error.to_string().contains("Temporary failure") {
        return Error::new(Exit::TemporaryFailure, format!("the resolver cannot be reached to look up {host}"))
            .remedy("try again later, or give the address as a number")
            .with_source(error);
    }
    Error::new(Exit::UnknownHost, format!("nobody knows the name {host}"))
        .remedy("check the spelling")
        .with_source(error)
}

#[cfg(test)]
mod tests {
    use super::resolve;
    use crate::exit::Exit;
    use crate::net::clock::now;
    use crate::net::signals::Signals;
    use std::time::Duration;

    #[test]
    fn a_number_needs_no_resolver() {
        let mut signals = Signals::install().expect("a pipe");
        let mut look = |host| resolve(host, 80, now(), &mut signals).expect("a literal")[0].to_string();
        assert_eq!(look("127.0.0.1"), "127.0.0.1:80");
        assert_eq!(look("[::1]"), "[::1]:80");
    }

    #[test]
    fn a_malformed_name_is_unknown() {
        let mut signals = Signals::install().expect("a pipe");
        let error = resolve("a..b", 80, now() + Duration::from_secs(30), &mut signals).expect_err("no such name");
        assert!(matches!(error.exit(), Exit::UnknownHost | Exit::TemporaryFailure), "{error}");
    }
}
