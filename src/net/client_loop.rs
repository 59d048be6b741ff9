//! Event loop of a stream client: runs one protocol over one connection until it ends.
//!
//! Owns only the wait: the connection knows the socket, the protocol its deadlines.

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::clock::now;
use super::connection::{Connection, Status};
use super::recv_buffer::Scratch;
use super::signals::{Signal, Signals};
use crate::failure::{Failure, FailureKind, Result};
use crate::protocol::StreamProtocol;
use crate::time::Moment;

/// Runs `protocol` over `connection` until one of them ends; passes every event to `on_event` at once.
///
/// Fails on a signal or a passed `deadline`, after reading what has arrived, and if `on_event` fails.
/// Failures of the connection are reported to the protocol.
pub(crate) fn run_client<C: StreamProtocol>(
    connection: &mut Connection,
    protocol: &mut C,
    deadline: Option<Moment>,
    signals: &mut Signals,
    mut on_event: impl FnMut(C::Event) -> Result<()>,
) -> Result<()> {
    let mut scratch = Scratch::default();
    let mut started = false;
    loop {
        let moment = now();
        let expired = || Failure::new(FailureKind::DeadlinePassed, "the deadline has passed");
        let is_expired = deadline.is_some_and(|deadline| deadline <= moment);
        let interruption = signals.take().map(Signal::failure).or_else(|| is_expired.then(expired));
        match interruption {
            Some(error) if !started => return Err(error),
            // Bytes that have arrived by then are still processed.
            Some(_) => connection.set_readable(),
            None => started = true,
        }
        let status = connection.turn(protocol, &mut scratch, moment);
        for event in scratch.actions.events() {
            on_event(event)?;
        }
        match (status, interruption) {
            // The protocol is done; a client does not wait for the peer's FIN.
            (Status::Closed | Status::Lingering, _) => return Ok(()),
            (_, Some(error)) => return Err(error),
            (Status::Busy, None) => {}
            (Status::Waiting, None) => {
                wait(connection, connection.wake_at(protocol).into_iter().chain(deadline).min(), signals);
            }
        }
    }
}

fn wait(connection: &mut Connection, deadline: Option<Moment>, signals: &Signals) {
    let (read, write) = connection.interest();
    let mut events = PollFlags::empty();
    events.set(PollFlags::IN, read);
    events.set(PollFlags::OUT, write);
    let fd = connection.fd();
    let mut fds = [PollFd::from_borrowed_fd(fd, events), PollFd::from_borrowed_fd(signals.fd(), PollFlags::IN)];
    let timeout = deadline.and_then(|deadline| Timespec::try_from(deadline - now()).ok());
    let _ = poll(&mut fds, timeout.as_ref());
    let ready = fds[0].revents();
    // Reading and writing report the error or hang-up.
    let failed = ready.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL);
    if failed || ready.contains(PollFlags::IN) {
        connection.set_readable();
    }
    if failed || ready.contains(PollFlags::OUT) {
        connection.set_writable();
    }
}
