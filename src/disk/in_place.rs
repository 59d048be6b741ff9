//! Targets that are written in place: devices, FIFOs, and names of open descriptors.
//!
//! Owns the decision. A rename onto `/dev/null` would destroy it, and one onto `/dev/stdout` would replace the file
//! behind it, with what the caller has written there.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;

/// Returns whether `target` is written in place and not replaced.
pub(super) fn is_in_place(target: &Path) -> bool {
    let is_descriptor = (target.starts_with("/dev") && !target.starts_with("/dev/shm")) || target.starts_with("/proc");
    is_descriptor || fs::metadata(target).is_ok_and(|found| !found.is_file() && !found.is_dir())
}

/// Opens a target for writing in place; what is there stays.
pub(super) fn open_in_place(target: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).open(target)
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
