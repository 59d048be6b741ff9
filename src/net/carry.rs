//! The loop of a stream client: one link, one conversation, until it is over.
//!
//! Owns the wait, and nothing else: the link knows the socket, the conversation its deadlines.

use rustix::event::{PollFd, PollFlags, poll};

use super::clock::{now, timespec};
use super::link::{Link, Scratch, Status};
use super::signals::Signals;
use crate::conversation::Conversation;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::time::Moment;

/// Carries `talk` over `link` until one of them ends it; every fact goes to `tell` at once.
///
/// Fails if a signal comes or `until` passes, or if `tell` fails; what happens on the connection
/// is told to the conversation.
pub fn carry<C: Conversation>(
    link: &mut Link,
    talk: &mut C,
    until: Option<Moment>,
    signals: &mut Signals,
    mut tell: impl FnMut(C::Fact) -> Result<()>,
) -> Result<()> {
    let mut scratch = Scratch::default();
    loop {
        let moment = now();
        if until.is_some_and(|until| until <= moment) {
            return Err(Error::new(Exit::TryAgain, "the deadline has passed").remedy("allow more time with --deadline"));
        }
        let status = link.turn(talk, &mut scratch, moment);
        for fact in scratch.out.facts() {
            tell(fact)?;
        }
        match status {
            Status::Busy => {}
            // Nothing more will be told; the peer's FIN is of no interest to a client.
            Status::Over | Status::Lingering => return Ok(()),
            Status::Waiting => wait(link, link.wake_at(talk).into_iter().chain(until).min(), signals),
        }
        if let Some(signal) = signals.take() {
            return Err(signal.error());
        }
    }
}

fn wait(link: &mut Link, until: Option<Moment>, signals: &Signals) {
    let (read, write) = link.wants();
    let mut events = PollFlags::empty();
    events.set(PollFlags::IN, read);
    events.set(PollFlags::OUT, write);
    let fd = link.fd();
    let mut fds = [PollFd::from_borrowed_fd(fd, events), PollFd::from_borrowed_fd(signals.fd(), PollFlags::IN)];
    let left = until.map(|until| timespec(until - now()));
    let _ = poll(&mut fds, left.as_ref());
    let ready = fds[0].revents();
    // An error or a hang-up is found out by trying to read and write.
    let failed = ready.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL);
    if failed || ready.contains(PollFlags::IN) {
        link.readable();
    }
    if failed || ready.contains(PollFlags::OUT) {
        link.writable();
    }
}
