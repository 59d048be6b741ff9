//! Atomic replacement of small files: a reader sees the old content or the new, never a mixture.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::in_place::{is_in_place, open_for_run, open_in_place, write_for_run};
use super::random_suffix;
use crate::failure::{Failure, FailureKind, Result, io_error_text};
use crate::stop::StopConditions;

/// Replaces the content of `path`: writes a temporary file beside it, syncs it, renames it onto `path`.
///
/// A device, a FIFO or the name of a descriptor (`/dev/stderr`) is written in place; a rename would destroy it.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<()> {
    write_atomically(path, content).map_err(|error| write_error(path, error))
}

/// Replaces the content of `path` as [`replace()`] does; does not wait for the reader of a FIFO beyond the run.
pub(crate) fn replace_within(path: &Path, content: &[u8], stop: &StopConditions) -> Result<()> {
    if !is_in_place(path) {
        return replace(path, content);
    }
    let written = open_for_run(path, stop).and_then(|file| write_for_run(&file, content, stop));
    written.map_err(|error| write_error(path, error))
}

/// Checks that [`replace()`] can write to `path`, so that a long run does not fail at its end.
pub(crate) fn check_writable(path: &Path) -> Result<()> {
    let checked = match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        _ if is_in_place(path) => Ok(()),
        _ => {
            let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
            temp_path(&target).and_then(|temp| write_new(&temp, &[]).and_then(|()| fs::remove_file(&temp)))
        }
    };
    checked.map_err(|error| write_error(path, error))
}

fn write_error(path: &Path, error: io::Error) -> Failure {
    Failure::new(FailureKind::CannotCreate, format!("cannot write {}: {}", path.display(), io_error_text(&error)))
        .with_source(error)
}

fn write_atomically(path: &Path, content: &[u8]) -> io::Result<()> {
    if is_in_place(path) {
        return open_in_place(path)?.write_all(content);
    }
    // Symbolic links are followed, so that the file is replaced and not the link.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let temp = temp_path(&target)?;
    let written = write_new(&temp, content).and_then(|()| fs::rename(&temp, &target));
    if written.is_err() {
        let _ = fs::remove_file(&temp);
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
    let mut temp = std::ffi::OsString::from(".");
    temp.push(name);
    temp.push(format!(".{}", random_suffix()));
    Ok(target.with_file_name(temp))
}

#[cfg(test)]
mod tests {
    use super::{check_writable, replace};
    use crate::failure::FailureKind;
    use std::fs;

    #[test]
    fn the_old_content_is_replaced_and_no_temporary_file_is_left() {
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
    fn checking_a_target_leaves_no_file() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("f");
        check_writable(&path).expect("free");
        assert_eq!(fs::read_dir(directory.path()).expect("there").count(), 0);
        check_writable("/dev/null".as_ref()).expect("a device");
        for target in [directory.path(), "/nonexistent/f".as_ref()] {
            assert_eq!(check_writable(target).expect_err("impossible").kind(), FailureKind::CannotCreate);
        }
    }

    #[test]
    fn a_missing_directory_is_an_error() {
        let error = replace(std::path::Path::new("/nonexistent/f"), b"x").expect_err("nowhere to write");
        assert_eq!(error.kind(), FailureKind::CannotCreate);
    }
}
