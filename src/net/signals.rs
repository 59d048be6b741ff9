//! Signals, as something a loop can wait for.
//!
//! Owns the self-pipe that signal-hook writes to. A signal stays seen until it is taken, so every
//! stage of a run (resolve, connect, talk) notices it in its own wait.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use signal_hook::consts::{SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;

use super::clock::{now, timespec};
use crate::error::{Error, Result, io_error_text};
use crate::exit::Exit;
use crate::time::Moment;

/// A request to stop, or to say how it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// SIGQUIT, if it was asked for: Ctrl-\\, a snapshot of the figures so far.
    Quit,
}

impl Signal {
    /// The code of a run that this signal ended before there was an answer.
    pub fn exit(self) -> Exit {
        match self {
            // A stage that has no figures yet ends, as the signal would have done by itself.
            Self::Interrupt | Self::Quit => Exit::Interrupted,
            Self::Terminate => Exit::Terminated,
        }
    }

    /// The error of a run that this signal ended before there was an answer.
    pub fn error(self) -> Error {
        Error::new(
            self.exit(),
            match self {
                Self::Interrupt | Self::Quit => "interrupted",
                Self::Terminate => "terminated",
            },
        )
    }
}

/// What woke [`Signals::wait`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// A signal came.
    Signal(Signal),
    /// Another thread nudged.
    Nudged,
    /// The moment has come.
    Timeout,
}

fn failed(error: io::Error) -> Error {
    let what = format!("cannot listen for signals: {}", io_error_text(&error));
    let error = Error::new(Exit::OsError, what).with_source(error);
    error.remedy("allow more open files with ulimit -n")
}

/// The signals of this process from the moment it is made.
#[derive(Debug)]
pub struct Signals {
    delivery: SignalDelivery<UnixStream, SignalOnly>,
    /// Come, and not taken yet.
    come: VecDeque<Signal>,
    nudges: UnixStream,
    nudge: UnixStream,
}

/// Wakes the thread that waits for signals.
#[derive(Debug)]
pub struct Nudge(UnixStream);

impl Nudge {
    /// Wakes it. A full pipe means that it is being woken already.
    pub fn nudge(&self) {
        let _ = (&self.0).write(&[0]);
    }
}

impl Signals {
    /// Begins to listen; until here, signals end the process as they always do.
    pub fn listen() -> Result<Self> {
        let (read, write) = UnixStream::pair().map_err(failed)?;
        let delivery = SignalDelivery::with_pipe(read, write, SignalOnly, [SIGINT, SIGTERM]).map_err(failed)?;
        let (nudges, nudge) = UnixStream::pair().map_err(failed)?;
        nudges.set_nonblocking(true).map_err(failed)?;
        nudge.set_nonblocking(true).map_err(failed)?;
        Ok(Self { delivery, come: VecDeque::new(), nudges, nudge })
    }

    /// Listens for SIGQUIT as well.
    pub fn with_quit(self) -> Result<Self> {
        let added = self.delivery.handle().add_signal(SIGQUIT);
        added.map_err(failed)?;
        Ok(self)
    }

    /// A handle for other threads.
    pub fn nudger(&self) -> Result<Nudge> {
        let copy = self.nudge.try_clone();
        copy.map(Nudge).map_err(failed)
    }

    /// What becomes readable when a signal comes.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.delivery.get_read().as_fd()
    }

    /// What becomes readable when another thread nudges.
    pub(super) fn nudged_fd(&self) -> BorrowedFd<'_> {
        self.nudges.as_fd()
    }

    /// The next signal that has come and was not taken.
    pub fn take(&mut self) -> Option<Signal> {
        let signal = |number| match number {
            SIGINT => Signal::Interrupt,
            SIGQUIT => Signal::Quit,
            _ => Signal::Terminate,
        };
        self.come.extend(self.delivery.pending().map(signal));
        self.come.pop_front()
    }

    /// Whether another thread has nudged since the last call.
    pub(super) fn take_nudge(&mut self) -> bool {
        matches!(self.nudges.read(&mut [0; 64]), Ok(1..))
    }

    /// Sleeps until a signal, a nudge or a moment comes, whichever is first.
    pub fn wait(&mut self, until: Option<Moment>) -> Woken {
        loop {
            if let Some(signal) = self.take() {
                return Woken::Signal(signal);
            }
            if self.take_nudge() {
                return Woken::Nudged;
            }
            let left = until.map(|until| until - now());
            if left == Some(Duration::ZERO) {
                return Woken::Timeout;
            }
            let delivery = PollFd::from_borrowed_fd(self.delivery.get_read().as_fd(), PollFlags::IN);
            let nudges = PollFd::new(&self.nudges, PollFlags::IN);
            // EINTR is a signal on its way to the pipe; every other failure ends in a look as well.
            let _ = poll(&mut [delivery, nudges], left.map(timespec).as_ref());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Signals, Woken};
    use crate::net::clock::now;
    use std::time::Duration;

    #[test]
    fn a_nudge_wakes_and_so_does_a_moment() {
        let mut signals = Signals::listen().expect("a pipe");
        signals.nudger().expect("a copy").nudge();
        assert_eq!(signals.wait(None), Woken::Nudged);
        assert_eq!(signals.wait(Some(now() + Duration::from_millis(1))), Woken::Timeout);
    }
}
