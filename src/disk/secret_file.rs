//! Reading of secret files: passwords, tokens and keys, with a check of the file mode.

use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;

use super::input::open_input;
use crate::failure::{Failure, FailureKind, Result, io_error_text};
use crate::stop::StopConditions;

/// Maximum size of a secret.
const MAX_BYTES: u64 = 64 * 1024;

/// Reads a secret without its trailing line end, and returns whether only its owner may read the file. Mode and
/// content come from the open file, not from its name, so that both belong to the same file.
pub(crate) fn read_secret(path: &Path, stop: &StopConditions) -> Result<(Vec<u8>, bool)> {
    let failed = |error: std::io::Error| {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => FailureKind::NotFound,
            std::io::ErrorKind::PermissionDenied => FailureKind::PermissionDenied,
            std::io::ErrorKind::TimedOut => FailureKind::DeadlinePassed,
            _ => FailureKind::InvalidFile,
        };
        Failure::new(kind, format!("cannot read {}: {}", path.display(), io_error_text(&error))).with_source(error)
    };
    let file = open_input(path).map_err(failed)?;
    let about = file.metadata().map_err(failed)?;
    if about.is_dir() || about.file_type().is_char_device() || about.file_type().is_block_device() {
        return Err(Failure::new(FailureKind::InvalidFile, format!("{} is not a file", path.display()))
            .expected("a file that contains only the secret"));
    }
    let mode = about.permissions().mode();
    let mut bytes = stop.read_to_end(file.as_fd(), MAX_BYTES).map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Failure::new(FailureKind::InvalidFile, format!("{} is too long for a secret", path.display())));
    }
    let trimmed = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let length = trimmed.strip_suffix(b"\r").unwrap_or(trimmed).len();
    bytes.truncate(length);
    let others = 0o077;
    Ok((bytes, mode & others == 0))
}

#[cfg(test)]
mod tests {
    use super::read_secret;
    use crate::failure::FailureKind;
    use crate::stop::tests::never;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_secret_has_no_line_end_and_is_private_or_not() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("key");
        fs::write(&path, "sesame\r\n").expect("written");
        for (mode, is_private) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("changed");
            assert_eq!(read_secret(&path, &never()).expect("readable"), (b"sesame".to_vec(), is_private), "{mode:o}");
        }
    }

    #[test]
    fn a_missing_secret_is_an_error() {
        assert_eq!(
            read_secret("/nonexistent".as_ref(), &never()).expect_err("not there").kind(),
            FailureKind::NotFound
        );
    }
}
