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
pub(crate) enum Signal {
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// SIGQUIT, if it was asked for: Ctrl-\\, a snapshot of the figures so far.
    Quit,
}

impl Signal {
    /// The code of a run that this signal ended before there was an answer.
    pub(crate) fn exit(self) -> Exit {
        match self {
            // A stage that has no figures yet ends, as the signal would have done by itself.
            Self::Interrupt | Self::Quit => Exit::Interrupted,
            Self::Terminate => Exit::Terminated,
        }
    }

    /// The error of a run that this signal ended before there was an answer.
    pub(crate) fn error(self) -> Error {
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
pub(crate) enum WakeReason {
    /// A signal came.
    Signal(Signal),
    /// Another thread nudged.
    Waker,
    /// The moment has come.
    Timeout,
}

fn setup_error(error: io::Error) -> Error {
    let what = format!("cannot listen for signals: {}", io_error_text(&error));
    let error = Error::new(Exit::OsError, what).with_source(error);
    error.remedy("allow more open files with ulimit -n")
}

/// The signals of this process from the moment it is made.
#[derive(Debug)]
pub(crate) struct Signals {
    delivery: SignalDelivery<UnixStream, SignalOnly>,
    /// Come, and not taken yet.
    pending: VecDeque<Signal>,
    wake_receiver: UnixStream,
    wake_sender: UnixStream,
}

/// Wakes the thread that waits for signals.
#[derive(Debug)]
pub(crate) struct Waker(UnixStream);

impl Waker {
    /// Wakes it. A full pipe means that it is being woken already.
    pub(crate) fn wake(&self) {
        let _ = (&self.0).write(&[0]);
    }
}

impl Signals {
    /// Begins to listen; until here, signals end the process as they always do.
    pub(crate) fn install() -> Result<Self> {
        let (read, write) = UnixStream::pair().map_err(setup_error)?;
        let delivery = SignalDelivery::with_pipe(read, write, SignalOnly, [SIGINT, SIGTERM]).map_err(setup_error)?;
        let (nudges, nudge) = UnixStream::pair().map_err(setup_error)?;
        nudges.set_nonblocking(true).map_err(setup_error)?;
        nudge.set_nonblocking(true).map_err(setup_error)?;
        Ok(Self { delivery, pending: VecDeque::new(), wake_receiver: nudges, wake_sender: nudge })
    }

    /// Listens for SIGQUIT as well.
    pub(crate) fn with_sigquit(self) -> Result<Self> {
        let added = self.delivery.handle().add_signal(SIGQUIT);
        added.map_err(setup_error)?;
        Ok(self)
    }

    /// A handle for other threads.
    pub(crate) fn waker(&self) -> Result<Waker> {
        let copy = self.wake_sender.try_clone();
        copy.map(Waker).map_err(setup_error)
    }

    /// What becomes readable when a signal comes.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.delivery.get_read().as_fd()
    }

    /// What becomes readable when another thread nudges.
    pub(super) fn waker_fd(&self) -> BorrowedFd<'_> {
        self.wake_receiver.as_fd()
    }

    /// The next signal that has come and was not taken.
    pub(crate) fn take(&mut self) -> Option<Signal> {
        let signal = |number| match number {
            SIGINT => Signal::Interrupt,
            SIGQUIT => Signal::Quit,
            _ => Signal::Terminate,
        };
        self.pending.extend(self.delivery.pending().map(signal));
        self.pending.pop_front()
    }

    /// Whether another thread has nudged since the last call.
    pub(super) fn take_wake(&mut self) -> bool {
        matches!(self.wake_receiver.read(&mut [0; 64]), Ok(1..))
    }

    /// Sleeps until a signal, a nudge or a moment comes, whichever is first.
    pub(crate) fn wait(&mut self, deadline: Option<Moment>) -> WakeReason {
        loop {
            if let Some(signal) = self.take() {
                return WakeReason::Signal(signal);
            }
            if self.take_wake() {
                return WakeReason::Waker;
            }
            let left = deadline.map(|until| until - now());
            if left == Some(Duration::ZERO) {
                return WakeReason::Timeout;
            }
            let delivery = PollFd::from_borrowed_fd(self.delivery.get_read().as_fd(), PollFlags::IN);
            let nudges = PollFd::new(&self.wake_receiver, PollFlags::IN);
            // EINTR is a signal on its way to the pipe; every other failure ends in a look as well.
            let _ = poll(&mut [delivery, nudges], left.map(timespec).as_ref());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Signals, WakeReason};
    use crate::net::clock::now;
    use std::time::Duration;

    #[test]
    fn a_nudge_wakes_and_so_does_a_moment() {
        let mut signals = Signals::install().expect("a pipe");
        signals.waker().expect("a copy").wake();
        assert_eq!(signals.wait(None), WakeReason::Waker);
        assert_eq!(signals.wait(Some(now() + Duration::from_millis(1))), WakeReason::Timeout);
    }
}
