//! Stop conditions of a run: a signal or the deadline. A write to a full pipe would otherwise outlast both.
//!
//! Owns the wait for a descriptor that takes no more bytes. Must not read a clock: the caller passes one.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::time::Moment;

/// Time for the reader of a pipe once the run must stop.
const GRACE: Duration = Duration::from_millis(500);

/// Conditions under which a run must stop.
#[derive(Clone, Debug)]
pub(crate) struct StopConditions {
    /// Readable while a signal waits to be handled.
    pub signal: Arc<OwnedFd>,
    /// A signal was handled.
    pub is_signalled: Arc<AtomicBool>,
    pub deadline: Option<Moment>,
    pub clock: fn() -> Moment,
}

impl StopConditions {
    /// Waits until `descriptor` takes bytes; returns false if the run must stop first.
    pub(crate) fn wait_writable(&self, descriptor: BorrowedFd<'_>) -> bool {
        let mut must_stop = self.is_signalled.load(Ordering::Relaxed);
        loop {
            let left = self.deadline.map(|deadline| deadline - (self.clock)());
            must_stop |= left == Some(Duration::ZERO);
            let writable = PollFd::from_borrowed_fd(descriptor, PollFlags::OUT);
            let signal = PollFd::from_borrowed_fd(self.signal.as_fd(), PollFlags::IN);
            let mut fds = [writable, signal];
            let watched = if must_stop { &mut fds[..1] } else { &mut fds[..] };
            let timeout = if must_stop { Some(GRACE) } else { left };
            // EINTR means that a signal is being written to its pipe; after any failure the loop repeats.
            let ready = poll(watched, timeout.map(timespec).as_ref());
            let [writable, signal] = &fds;
            match ready {
                _ if !writable.revents().is_empty() => return true,
                Ok(0) if must_stop => return false,
                _ => must_stop |= signal.revents().contains(PollFlags::IN),
            }
        }
    }

    /// Waits a little for something that cannot be polled; returns false if the run must stop.
    pub(crate) fn wait_a_little(&self) -> bool {
        const STEP: Duration = Duration::from_millis(20);
        let is_late = self.deadline.is_some_and(|deadline| deadline <= (self.clock)());
        if is_late || self.is_signalled.load(Ordering::Relaxed) {
            return false;
        }
        let mut fds = [PollFd::from_borrowed_fd(self.signal.as_fd(), PollFlags::IN)];
        !matches!(poll(&mut fds, Some(&timespec(STEP))), Ok(1..))
    }
}

fn timespec(timeout: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(timeout.subsec_nanos()),
    }
}

#[cfg(test)]
mod tests {
    use super::StopConditions;
    use crate::time::Moment;
    use std::os::fd::AsFd as _;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    #[test]
    fn a_full_pipe_does_not_outlast_a_signal_or_the_deadline() {
        let start = || Moment::new(Duration::from_secs(1), Duration::ZERO);
        for (is_signalled, deadline) in [(true, None), (false, Some(start()))] {
            let (_reader, writer) = std::io::pipe().expect("a pipe");
            let (signal, _sender) = std::io::pipe().expect("a pipe");
            let stop = StopConditions {
                signal: Arc::new(signal.into()),
                is_signalled: Arc::new(AtomicBool::new(is_signalled)),
                deadline,
                clock: start,
            };
            assert!(stop.wait_writable(writer.as_fd()), "an empty pipe takes bytes");
            rustix::io::ioctl_fionbio(&writer, true).expect("set");
            while rustix::io::write(&writer, &[0; 4096]).is_ok() {}
            assert!(!stop.wait_writable(writer.as_fd()));
        }
    }
}
