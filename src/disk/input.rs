//! Reading of files and standard input that a flag names.
//!
//! A FIFO without a writer, or a terminal, may have no end: the run's deadline ends the wait.

use std::fs::File;
use std::io::{self, stdin};
use std::os::fd::AsFd as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags, open};

use crate::stop::StopConditions;

/// Opens a file; a FIFO does not wait for its writer.
pub(super) fn open_input(path: &Path) -> io::Result<File> {
    Ok(open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?.into())
}

/// Reads a file whole; fails with [`io::ErrorKind::TimedOut`] if the run must stop first.
pub(crate) fn read_file(path: &Path, stop: &StopConditions) -> io::Result<Vec<u8>> {
    stop.read_to_end(open_input(path)?.as_fd(), u64::MAX)
}

/// As [`read_file`]; the path `-` is standard input.
pub(crate) fn read_input(path: &Path, stop: &StopConditions) -> io::Result<Vec<u8>> {
    if path == Path::new("-") { stop.read_to_end(stdin().as_fd(), u64::MAX) } else { read_file(path, stop) }
}

#[cfg(test)]
mod tests {
    use super::read_file;
    use crate::stop::StopConditions;
    use crate::stop::tests::never;
    use crate::time::Moment;
    use std::io::ErrorKind;
    use std::time::Duration;

    #[test]
    fn a_fifo_without_a_writer_does_not_outlast_the_deadline() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let fifo = directory.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a FIFO");
        let start = || Moment::new(Duration::from_secs(1), Duration::ZERO);
        let stop = StopConditions::at_deadline(Some(start()), start);
        assert_eq!(read_file(&fifo, &stop).expect_err("no writer").kind(), ErrorKind::TimedOut);
        std::thread::scope(|scope| {
            scope.spawn(|| std::fs::write(&fifo, "hello").expect("written"));
            assert_eq!(read_file(&fifo, &never()).expect("a writer"), b"hello");
        });
    }

    #[test]
    fn a_directory_is_not_read() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        assert_eq!(read_file(directory.path(), &never()).expect_err("not a file").kind(), ErrorKind::IsADirectory);
    }
}
