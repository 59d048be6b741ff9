//! Stop conditions of a run: a signal or the deadline. A write to a full pipe, and a read from a pipe without a writer,
//! would otherwise outlast both.
//!
//! Owns the wait for a descriptor that takes or has no more bytes. Must not read a clock: the caller passes one.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::time::Moment;

/// Bytes that a pipe takes at once without blocking if it takes any (POSIX `PIPE_BUF` on Linux).
pub(crate) const PIPE_BUF: usize = 4096;
/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;
/// Time between two looks at the conditions.
const STEP: Duration = Duration::from_millis(50);
/// Time for the reader of a pipe once the run must stop.
const GRACE: Duration = Duration::from_millis(250);

/// Conditions under which a run must stop.
#[derive(Clone, Debug)]
pub(crate) struct StopConditions {
    /// SIGINT, SIGTERM or SIGHUP has arrived.
    pub is_signalled: Arc<AtomicBool>,
    pub deadline: Option<Moment>,
    pub clock: fn() -> Moment,
}

impl StopConditions {
    /// Creates conditions without signals, for what is read before the handlers are installed.
    pub(crate) fn at_deadline(deadline: Option<Moment>, clock: fn() -> Moment) -> Self {
        Self { is_signalled: Arc::default(), deadline, clock }
    }

    /// Waits until `descriptor` takes bytes; returns false if the run must stop first.
    pub(crate) fn wait_writable(&self, descriptor: BorrowedFd<'_>) -> bool {
        let mut waited = Duration::ZERO;
        loop {
            let must_stop = self.must_stop();
            if must_stop && waited >= GRACE {
                return false;
            }
            let mut fds = [PollFd::from_borrowed_fd(descriptor, PollFlags::OUT)];
            // EINTR and failures are handled by the next turn.
            let _ = poll(&mut fds, Timespec::try_from(STEP).ok().as_ref());
            if !fds[0].revents().is_empty() {
                return true;
            }
            waited = if must_stop { waited + STEP } else { Duration::ZERO };
        }
    }

    /// Writes all bytes in pieces of at most `piece`, each once the descriptor takes bytes; returns false if the run must
    /// stop first.
    pub(crate) fn write_all(&self, descriptor: BorrowedFd<'_>, mut bytes: &[u8], piece: usize) -> io::Result<bool> {
        while !bytes.is_empty() {
            if !self.wait_writable(descriptor) {
                return Ok(false);
            }
            match rustix::io::write(descriptor, bytes.get(..piece).unwrap_or(bytes)) {
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(true)
    }

    /// Reads up to the end, or one byte beyond `limit`; fails with [`io::ErrorKind::TimedOut`] if the run must stop
    /// first.
    pub(crate) fn read_to_end(&self, descriptor: BorrowedFd<'_>, limit: u64) -> io::Result<Vec<u8>> {
        let (mut bytes, mut piece) = (Vec::new(), vec![0; READ_BYTES]);
        while bytes.len() as u64 <= limit {
            let mut fds = [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)];
            // EINTR and failures are handled by the next turn. A FIFO is not ready before its first writer.
            let _ = poll(&mut fds, Timespec::try_from(STEP).ok().as_ref());
            if fds[0].revents().is_empty() {
                if self.must_stop() {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "timed out"));
                }
                continue;
            }
            match rustix::io::read(descriptor, &mut piece) {
                Ok(0) => break,
                Ok(length) => bytes.extend_from_slice(piece.get(..length).unwrap_or_default()),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(bytes)
    }

    /// Waits a little for something that cannot be polled; returns false if the run must stop.
    pub(crate) fn wait_a_little(&self) -> bool {
        if self.must_stop() {
            return false;
        }
        let _ = poll(&mut [], Timespec::try_from(STEP).ok().as_ref());
        true
    }

    /// Time until the deadline.
    pub(crate) fn time_left(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline - (self.clock)())
    }

    fn must_stop(&self) -> bool {
        self.is_signalled.load(Ordering::Relaxed) || self.deadline.is_some_and(|deadline| deadline <= (self.clock)())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::StopConditions;
    use crate::time::Moment;
    use std::io::Write as _;
    use std::os::fd::AsFd as _;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    /// Conditions that never hold.
    pub(crate) fn never() -> StopConditions {
        StopConditions::at_deadline(None, || Moment::new(Duration::ZERO, Duration::ZERO))
    }

    #[test]
    fn a_full_pipe_does_not_outlast_a_signal_or_the_deadline() {
        let start = || Moment::new(Duration::from_secs(1), Duration::ZERO);
        for (is_signalled, deadline) in [(true, None), (false, Some(start()))] {
            let (_reader, writer) = std::io::pipe().expect("a pipe");
            let stop = StopConditions { is_signalled: Arc::new(AtomicBool::new(is_signalled)), deadline, clock: start };
            assert!(stop.wait_writable(writer.as_fd()), "an empty pipe takes bytes");
            rustix::io::ioctl_fionbio(&writer, true).expect("set");
            while rustix::io::write(&writer, &[0; 4096]).is_ok() {}
            assert!(!stop.wait_writable(writer.as_fd()));
        }
    }

    #[test]
    fn a_pipe_without_end_does_not_outlast_the_deadline() {
        let start = || Moment::new(Duration::from_secs(1), Duration::ZERO);
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        writer.write_all(b"abc").expect("written");
        let stop = StopConditions::at_deadline(Some(start()), start);
        let error = stop.read_to_end(reader.as_fd(), 10).expect_err("the pipe is open");
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
        writer.write_all(b"def").expect("written");
        drop(writer);
        assert_eq!(never().read_to_end(reader.as_fd(), 10).expect("the end"), b"def");
    }

    #[test]
    fn reading_ends_beyond_the_limit() {
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        writer.write_all(b"abcd").expect("written");
        assert_eq!(never().read_to_end(reader.as_fd(), 3).expect("beyond the limit").len(), 4);
    }
}
