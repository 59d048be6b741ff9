//! The loop of a stream client: one link, one conversation, until it is over.
//!
//! Owns the wait, and nothing else: the link knows the socket, the conversation its deadlines.

use rustix::event::{PollFd, PollFlags, poll};

use super::clock::{now, timespec};
use super::connection::{Connection, Scratch, Status};
use super::signals::{Signal, Signals};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::protocol::StreamProtocol;
use crate::time::Moment;

/// Carries `talk` over `link` until one of them ends it; every fact goes to `tell` at once.
///
/// Fails if a signal comes or `until` passes, after a last look at what has come, or if `tell` fails; what
/// happens on the connection is told to the conversation.
pub(crate) fn run_client<C: StreamProtocol>(
    connection: &mut Connection,
    protocol: &mut C,
    deadline: Option<Moment>,
    signals: &mut Signals,
    mut on_event: impl FnMut(C::Event) -> Result<()>,
) -> Result<()> {
    let mut scratch = Scratch::default();
    let mut is_begun = false;
    loop {
        let moment = now();
        let late =
            || Error::new(Exit::TemporaryFailure, "the deadline has passed").remedy("allow more time with --deadline");
        let is_late = deadline.is_some_and(|until| until <= moment);
        let cut = signals.take().map(Signal::error).or_else(|| is_late.then(late));
        match cut {
            Some(error) if !is_begun => return Err(error),
            // What has come by then still counts.
            Some(_) => connection.set_readable(),
            None => is_begun = true,
        }
        let status = connection.turn(protocol, &mut scratch, moment);
        for fact in scratch.actions.events() {
            on_event(fact)?;
        }
        match (status, cut) {
            // Nothing more will be told; the peer's FIN is of no interest to a client.
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
    let left = deadline.map(|until| timespec(until - now()));
    let _ = poll(&mut fds, left.as_ref());
    let ready = fds[0].revents();
    // An error or a hang-up is found out by trying to read and write.
    let failed = ready.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL);
    if failed || ready.contains(PollFlags::IN) {
        connection.set_readable();
    }
    if failed || ready.contains(PollFlags::OUT) {
        connection.set_writable();
    }
}
