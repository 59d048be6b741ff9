//! Small files, replaced in one step: a reader sees the old content or the new, never half.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::random_suffix;
use crate::error::{Error, Result, io_error_text};
use crate::exit::Exit;

/// Makes `content` the content of `path`: written beside it, synced, renamed onto it.
///
/// A path that is no regular file (a FIFO, `/dev/stderr`) is written to as it is: a rename would
/// destroy it.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<()> {
    write_atomically(path, content).map_err(|error| write_error(path, error))
}

/// Whether [`replace()`] could write there, so that a long run does not find out at its end.
pub(crate) fn check_writable(path: &Path) -> Result<()> {
    let checked = match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(found) if !found.is_file() => Ok(()),
        _ => {
            let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
            temp_path(&target).and_then(|draft| write_new(&draft, &[]).and_then(|()| fs::remove_file(&draft)))
        }
    };
    checked.map_err(|error| write_error(path, error))
}

fn write_error(path: &Path, error: io::Error) -> Error {
    Error::new(Exit::CannotCreate, format!("cannot write {}: {}", path.display(), io_error_text(&error)))
        .with_source(error)
}

fn write_atomically(path: &Path, content: &[u8]) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return OpenOptions::new().write(true).open(path)?.write_all(content);
    }
    // A link is followed, so that what it points to is replaced and not the link.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let draft = temp_path(&target)?;
    let written = write_new(&draft, content).and_then(|()| fs::rename(&draft, &target));
    if written.is_err() {
        let _ = fs::remove_file(&draft);
    }
    written
}

fn write_new(temp: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(temp)?;
    file.write_all(content)?;
    file.sync_all()
}

fn temp_path(target: &Path) -> io::Result<PathBuf> {
    let name = target.file_name().ok_or(io::ErrorKind::IsADirectory)?;
    let mut draft = std::ffi::OsString::from(".");
    draft.push(name);
    draft.push(format!(".{}", random_suffix()));
    Ok(target.with_file_name(draft))
}

#[cfg(test)]
mod tests {
    use super::{check_writable, replace};
    use crate::exit::Exit;
    use std::fs;

    #[test]
    fn the_old_content_is_replaced_and_no_draft_is_left() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("f");
        replace(&path, b"old").expect("written");
        replace(&path, b"new").expect("written");
        assert_eq!(fs::read(&path).expect("there"), b"new");
        assert_eq!(fs::read_dir(directory.path()).expect("there").count(), 1);
    }

    #[test]
    fn a_link_stays_a_link() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (file, link) = (directory.path().join("f"), directory.path().join("l"));
        fs::write(&file, "old").expect("written");
        std::os::unix::fs::symlink(&file, &link).expect("linked");
        replace(&link, b"new").expect("written");
        assert!(link.is_symlink());
        assert_eq!(fs::read(&file).expect("there"), b"new");
    }

    #[test]
    fn a_device_is_written_to_and_not_renamed_away() {
        replace(std::path::Path::new("/dev/null"), b"x").expect("written");
        assert!(!fs::metadata("/dev/null").expect("still there").is_file());
    }

    #[test]
    fn a_target_is_checked_without_a_trace() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("f");
        check_writable(&path).expect("free");
        assert_eq!(fs::read_dir(directory.path()).expect("there").count(), 0);
        check_writable("/dev/null".as_ref()).expect("a device");
        for target in [directory.path(), "/nonexistent/f".as_ref()] {
            assert_eq!(check_writable(target).expect_err("impossible").exit(), Exit::CannotCreate);
        }
    }

    #[test]
    fn a_missing_directory_is_told() {
        let error = replace(std::path::Path::new("/nonexistent/f"), b"x").expect_err("nowhere to write");
        assert_eq!(error.exit(), Exit::CannotCreate);
    }
}
