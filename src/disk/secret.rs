//! Secrets on disk.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;

use crate::error::{Error, Result, io_error_text};
use crate::exit::Exit;

/// More than any key or password has.
const MAX_BYTES: u64 = 64 * 1024;

/// The octets of a secret's file without a line end behind them, and whether only its owner may
/// read it. The open file is asked, not its name, so that both answers are about the same file.
pub(crate) fn read_secret(path: &Path) -> Result<(Vec<u8>, bool)> {
    let failed = |error: std::io::Error| {
        let exit = match error.kind() {
            std::io::ErrorKind::NotFound => Exit::InputMissing,
            std::io::ErrorKind::PermissionDenied => Exit::Permission,
            _ => Exit::Config,
        };
        Error::new(exit, format!("cannot read {}: {}", path.display(), io_error_text(&error))).with_source(error)
    };
    let file = File::open(path).map_err(failed)?;
    let about = file.metadata().map_err(failed)?;
    if about.is_dir() || about.file_type().is_char_device() || about.file_type().is_block_device() {
        return Err(Error::new(Exit::Config, format!("{} is not a file", path.display()))
            .expected("a file that holds nothing but the secret"));
    }
    let mode = about.permissions().mode();
    let mut octets = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut octets).map_err(failed)?;
    if octets.len() as u64 > MAX_BYTES {
        return Err(Error::new(Exit::Config, format!("{} is too long for a secret", path.display())));
    }
    let kept = octets.strip_suffix(b"\n").unwrap_or(&octets);
    let kept = kept.strip_suffix(b"\r").unwrap_or(kept).len();
    octets.truncate(kept);
    let others = 0o077;
    Ok((octets, mode & others == 0))
}

#[cfg(test)]
mod tests {
    use super::read_secret;
    use crate::exit::Exit;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_secret_has_no_line_end_and_is_private_or_not() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("key");
        fs::write(&path, "sesame\r\n").expect("written");
        for (mode, is_private) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("changed");
            assert_eq!(read_secret(&path).expect("readable"), (b"sesame".to_vec(), is_private), "{mode:o}");
        }
    }

    #[test]
    fn a_missing_secret_is_told() {
        assert_eq!(read_secret("/nonexistent".as_ref()).expect_err("not there").exit(), Exit::InputMissing);
    }
}
