//! Service manager: listening sockets that systemd passes, and the messages it waits for.
//!
//! Owns the protocol of `sd_listen_fds` and `sd_notify`. Without a service manager nothing happens.

use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;
use socket2::Socket;

use super::bind_address::Address;
use super::bound::SocketGroup;
use super::listen::configure_accepted;
use crate::failure::{Failure, FailureKind, Result};

/// Takes the listening sockets passed to this process, one group for each, shared by the threads.
pub(super) fn take_listeners(threads: usize) -> Result<Vec<SocketGroup>> {
    let mut passed = ListenFd::from_env();
    (0..passed.len()).map(|index| take_listener(&mut passed, index, threads)).collect()
}

fn take_listener(passed: &mut ListenFd, index: usize, threads: usize) -> Result<SocketGroup> {
    let invalid = |reason: String| {
        Failure::new(FailureKind::InvalidValue, format!("socket {index} of LISTEN_FDS cannot be used: {reason}"))
            .expected("a listening TCP or Unix stream socket")
    };
    let tcp = passed.take_tcp_listener(index);
    let socket: Socket = match tcp {
        Ok(Some(listener)) => listener.into(),
        _ => match passed.take_unix_listener(index) {
            Ok(Some(listener)) => listener.into(),
            Ok(None) => return Err(invalid("it was taken already".to_owned())),
            Err(error) => return Err(invalid(error.to_string())),
        },
    };
    let failed = |error: std::io::Error| invalid(error.to_string());
    socket.set_nonblocking(true).map_err(failed)?;
    let local = socket.local_addr().map_err(failed)?;
    let address = match (local.as_socket(), local.as_pathname()) {
        (Some(address), _) => {
            configure_accepted(&socket).map_err(failed)?;
            Address::Inet(address)
        }
        (None, path) => Address::Unix(path.unwrap_or(std::path::Path::new("")).to_owned()),
    };
    let mut sockets = Vec::new();
    for _ in 1..threads {
        sockets.push(socket.try_clone().map_err(failed)?);
    }
    sockets.push(socket);
    // The file of a Unix socket belongs to the service manager.
    Ok(SocketGroup { address, sockets, unix_file: None })
}

/// Reports that the server listens.
pub(crate) fn notify_ready() {
    notify(NotifyState::Ready);
}

/// Reports that the server is shutting down.
pub(super) fn notify_stopping() {
    notify(NotifyState::Stopping);
}

/// Sends the keep-alive of the watchdog.
pub(crate) fn notify_watchdog() {
    notify(NotifyState::Watchdog);
}

/// Returns the interval within which the service manager expects [`notify_watchdog`].
pub(crate) fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

fn notify(state: NotifyState<'_>) {
    // The server keeps serving without its service manager.
    let _ = sd_notify::notify(&[state]);
}
