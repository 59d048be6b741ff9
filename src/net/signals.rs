//! Signals as descriptors that a loop can wait for.
//!
//! Owns the self-pipe that signal-hook writes to. A signal stays pending until it is taken, so every stage
//! of a run (resolve, connect, transfer) notices it in its own wait.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;

use super::clock::now;
use crate::failure::{Failure, FailureKind, Result, io_error_text};
use crate::stop::StopConditions;
use crate::time::Moment;

/// Request by signal to stop, or to print a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// SIGINT (Ctrl-C).
    Interrupt,
    /// SIGTERM, or SIGHUP unless it was ignored at the start.
    Terminate,
    /// SIGQUIT (Ctrl-\\), if enabled: a snapshot of the figures so far.
    Quit,
}

impl Signal {
    /// Failure of a run that this signal ended before it had a result.
    pub(crate) fn failure(self) -> Failure {
        match self {
            // In a stage without interim results SIGQUIT ends the run, which is its default action.
            Self::Interrupt | Self::Quit => Failure::new(FailureKind::Interrupted, "interrupted"),
            Self::Terminate => Failure::new(FailureKind::Terminated, "terminated"),
        }
    }
}

/// Reason why [`Signals::wait`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WakeReason {
    Signal(Signal),
    /// Another thread called [`Waker::wake`].
    Waker,
    Timeout,
}

fn setup_error(error: io::Error) -> Failure {
    let message = format!("cannot set up signal handling: {}", io_error_text(&error));
    Failure::new(FailureKind::ResourcesExhausted, message).with_source(error)
}

/// Signal handling of this process, and wake-ups by other threads.
#[derive(Debug)]
pub(crate) struct Signals {
    delivery: SignalDelivery<UnixStream, SignalOnly>,
    pending: VecDeque<Signal>,
    wake_receiver: UnixStream,
    wake_sender: UnixStream,
    /// SIGINT, SIGTERM or SIGHUP has arrived.
    is_signalled: Arc<AtomicBool>,
}

/// Wakes the thread that waits for signals.
#[derive(Debug)]
pub(crate) struct Waker(UnixStream);

impl Waker {
    /// Wakes the thread. A full pipe means that a wake-up is pending already.
    pub(crate) fn wake(&self) {
        let _ = (&self.0).write(&[0]);
    }
}

impl Signals {
    /// Installs the handlers; before this call, signals have their default action.
    pub(crate) fn install() -> Result<Self> {
        let (read, write) = UnixStream::pair().map_err(setup_error)?;
        let delivery = SignalDelivery::with_pipe(read, write, SignalOnly, [SIGINT, SIGTERM]).map_err(setup_error)?;
        let is_signalled: Arc<AtomicBool> = Arc::default();
        let set_flag = |signal| flag::register(signal, Arc::clone(&is_signalled)).map(drop).map_err(setup_error);
        set_flag(SIGINT)?;
        set_flag(SIGTERM)?;
        // The terminal was closed. A command started by nohup ignores the signal and keeps doing so.
        if !is_hangup_ignored() {
            delivery.handle().add_signal(SIGHUP).map_err(setup_error)?;
            set_flag(SIGHUP)?;
        }
        let (wake_receiver, wake_sender) = UnixStream::pair().map_err(setup_error)?;
        wake_receiver.set_nonblocking(true).map_err(setup_error)?;
        wake_sender.set_nonblocking(true).map_err(setup_error)?;
        Ok(Self { delivery, pending: VecDeque::new(), wake_receiver, wake_sender, is_signalled })
    }

    /// Handles SIGQUIT as well.
    pub(crate) fn with_sigquit(self) -> Result<Self> {
        let added = self.delivery.handle().add_signal(SIGQUIT);
        added.map_err(setup_error)?;
        Ok(self)
    }

    /// Creates a handle with which another thread can end a [`wait`](Self::wait).
    pub(crate) fn waker(&self) -> Result<Waker> {
        let copy = self.wake_sender.try_clone();
        copy.map(Waker).map_err(setup_error)
    }

    /// Returns the conditions under which a write must not wait any longer.
    pub(crate) fn stop_conditions(&self, deadline: Option<Moment>) -> StopConditions {
        StopConditions { is_signalled: Arc::clone(&self.is_signalled), deadline, clock: now }
    }

    /// Returns the descriptor that becomes readable when a signal arrives.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.delivery.get_read().as_fd()
    }

    /// Returns the descriptor that becomes readable when another thread calls [`Waker::wake`].
    pub(super) fn waker_fd(&self) -> BorrowedFd<'_> {
        self.wake_receiver.as_fd()
    }

    /// Takes the oldest pending signal.
    pub(crate) fn take(&mut self) -> Option<Signal> {
        let signal = |number| match number {
            SIGINT => Signal::Interrupt,
            SIGQUIT => Signal::Quit,
            _ => Signal::Terminate,
        };
        self.pending.extend(self.delivery.pending().map(signal));
        self.pending.pop_front()
    }

    /// Returns whether another thread has called [`Waker::wake`] since the last call.
    pub(super) fn take_wake(&mut self) -> bool {
        matches!(self.wake_receiver.read(&mut [0; 64]), Ok(1..))
    }

    /// Sleeps until a signal, a wake-up or the deadline.
    pub(crate) fn wait(&mut self, deadline: Option<Moment>) -> WakeReason {
        loop {
            if let Some(signal) = self.take() {
                return WakeReason::Signal(signal);
            }
            if self.take_wake() {
                return WakeReason::Waker;
            }
            let timeout = deadline.map(|deadline| deadline - now());
            if timeout == Some(Duration::ZERO) {
                return WakeReason::Timeout;
            }
            let delivery = PollFd::from_borrowed_fd(self.delivery.get_read().as_fd(), PollFlags::IN);
            let wake_ups = PollFd::new(&self.wake_receiver, PollFlags::IN);
            // EINTR means that a signal is being written to the pipe; after any failure the loop repeats.
            let _ = poll(&mut [delivery, wake_ups], timeout.and_then(|left| Timespec::try_from(left).ok()).as_ref());
        }
    }
}

/// Returns whether SIGHUP is ignored, from the mask of ignored signals in `/proc/self/status`.
fn is_hangup_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (SIGHUP - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::{Signals, WakeReason};
    use crate::net::clock::now;
    use std::time::Duration;

    #[test]
    fn a_waker_ends_the_wait_and_so_does_the_deadline() {
        let mut signals = Signals::install().expect("a pipe");
        signals.waker().expect("a copy").wake();
        assert_eq!(signals.wait(None), WakeReason::Waker);
        assert_eq!(signals.wait(Some(now() + Duration::from_millis(1))), WakeReason::Timeout);
    }
}
