//! Targets that are written in place: devices, FIFOs, and names of open descriptors.
//!
//! Decides which targets are written in place. A rename onto `/dev/null` would destroy it, and one onto `/dev/stdout`
//! would replace the file behind it, with what the caller has written there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::stop::StopConditions;

/// Returns whether `target` is written in place and not replaced.
pub(super) fn is_in_place(target: &Path) -> bool {
    let is_descriptor = (target.starts_with("/dev") && !target.starts_with("/dev/shm")) || target.starts_with("/proc");
    is_descriptor || fs::metadata(target).is_ok_and(|found| !found.is_file() && !found.is_dir())
}

/// Opens a target for writing in place; what is there stays.
pub(super) fn open_in_place(target: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).open(target)
}

/// Opens a target as [`open_in_place`] does. A FIFO is opened once it has a reader, unless the run must stop first; its
/// writes do not block.
pub(super) fn open_for_run(target: &Path, stop: &StopConditions) -> io::Result<File> {
    if !fs::metadata(target).is_ok_and(|found| found.file_type().is_fifo()) {
        return open_in_place(target);
    }
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
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
pub(super) fn write_for_run(mut file: &File, mut bytes: &[u8], stop: &StopConditions) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if !stop.wait_writable(file.as_fd()) {
                    return Err(io::Error::other("the reader of this FIFO has stalled"));
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
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
