//! Targets that are written in place: devices, FIFOs, and names of open descriptors.
//!
//! Decides which targets are written in place. A rename onto `/dev/null` would destroy it, and one onto `/dev/stdout`
//! would replace the file behind it, with what the caller has written there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::{OFlags, fcntl_getfl};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

use crate::stop::{PIPE_BUF, StopConditions};

/// Returns whether `target` is written in place and not replaced.
pub(super) fn is_in_place(target: &Path) -> bool {
    let is_descriptor = (target.starts_with("/dev") && !target.starts_with("/dev/shm")) || target.starts_with("/proc");
    is_descriptor || fs::metadata(target).is_ok_and(|found| !found.is_file() && !found.is_dir())
}

/// Opens a target for writing in place; what is there stays. The copy of a descriptor shares its position, so that what
/// other programs write later comes after it.
pub(super) fn open_in_place(target: &Path) -> io::Result<File> {
    match descriptor(target) {
        Some(number) => {
            let process = pidfd_open(getpid(), PidfdFlags::empty())?;
            Ok(File::from(pidfd_getfd(process, number, PidfdGetfdFlags::empty())?))
        }
        None => OpenOptions::new().append(true).open(target),
    }
}

/// Number of the descriptor of this process that a path names, such as `/dev/stdout` or `/dev/fd/3`.
fn descriptor(target: &Path) -> Option<i32> {
    let text = target.to_str()?;
    match text {
        "/dev/stdout" => Some(1),
        "/dev/stderr" => Some(2),
        _ => text.strip_prefix("/dev/fd/").or_else(|| text.strip_prefix("/proc/self/fd/"))?.parse().ok(),
    }
}

/// Opens a target as [`open_in_place`] does. A FIFO is opened once it has a reader, unless the run must stop first; its
/// writes do not block.
pub(super) fn open_for_run(target: &Path, stop: &StopConditions) -> io::Result<File> {
    if descriptor(target).is_some() || !fs::metadata(target).is_ok_and(|found| found.file_type().is_fifo()) {
        return open_in_place(target);
    }
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    loop {
        match OpenOptions::new().write(true).custom_flags(flags).open(target) {
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error()) => {
                if !stop.wait_a_little() {
                    return Err(io::Error::other("no program has opened this FIFO for reading"));
                }
            }
            opened => return opened,
        }
    }
}

/// Writes to a target written in place; waits for its reader, unless the run must stop first.
pub(super) fn write_for_run(file: &File, bytes: &[u8], stop: &StopConditions) -> io::Result<()> {
    if stop.write_all(file.as_fd(), bytes, max_write(file)?)? {
        Ok(())
    } else {
        Err(io::Error::other("the reader of this file has stalled"))
    }
}

/// Most bytes of a write that does not block once the file is writable.
fn max_write(file: &File) -> io::Result<usize> {
    let kind = file.metadata()?.file_type();
    let may_block = kind.is_fifo() || kind.is_socket() || file.is_terminal();
    let is_nonblocking = fcntl_getfl(file)?.contains(OFlags::NONBLOCK);
    Ok(if may_block && !is_nonblocking { PIPE_BUF } else { usize::MAX })
}

#[cfg(test)]
mod tests {
    use super::is_in_place;
    use std::path::Path;

    #[test]
    fn descriptors_and_devices_are_written_in_place() {
        for (target, expected) in [
            ("/dev/null", true),
            ("/dev/stdout", true),
            ("/proc/self/fd/1", true),
            ("/dev/shm/file", false),
            ("file", false),
            ("/", false),
        ] {
            assert_eq!(is_in_place(Path::new(target)), expected, "{target}");
        }
    }
}
