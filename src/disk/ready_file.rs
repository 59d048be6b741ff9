//! Ready file: names the addresses of a server while it listens.
//!
//! Owns its lifetime: removes a stale file before the server binds, and its own file at shutdown, so that a script never
//! finds the address of a server that is gone.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::in_place::is_in_place;
use super::replace_within;
use crate::failure::{Failure, FailureKind, Result, io_error_text};
use crate::stop::StopConditions;

/// Ready file of a running server; removed when dropped.
#[derive(Debug)]
pub(crate) struct ReadyFile {
    path: PathBuf,
    /// Content that was written.
    written: Option<Vec<u8>>,
}

impl ReadyFile {
    /// Removes the file of an earlier run.
    pub(crate) fn prepare(path: &Path) -> Result<Self> {
        if !is_in_place(path) {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    let message = format!("cannot remove {}: {}", path.display(), io_error_text(&error));
                    return Err(Failure::new(FailureKind::CannotCreate, message).with_source(error));
                }
                _ => {}
            }
        }
        Ok(Self { path: path.to_owned(), written: None })
    }

    /// Writes the file, which appears complete.
    pub(crate) fn write(&mut self, content: &[u8], stop: &StopConditions) -> Result<()> {
        replace_within(&self.path, content, stop)?;
        self.written = (!is_in_place(&self.path)).then(|| content.to_owned());
        Ok(())
    }
}

impl Drop for ReadyFile {
    fn drop(&mut self) {
        // Another server may have written its own addresses since.
        if self.written.is_some() && fs::read(&self.path).ok() == self.written {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ReadyFile;
    use crate::stop::tests::never;
    use std::fs;

    #[test]
    fn an_old_file_is_removed_first_and_ours_at_the_end() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("ready");
        fs::write(&path, "old").expect("written");
        let mut ready = ReadyFile::prepare(&path).expect("removed");
        assert!(!path.exists());
        ready.write(b"new", &never()).expect("written");
        assert_eq!(fs::read(&path).expect("there"), b"new");
        drop(ready);
        assert!(!path.exists());
    }

    #[test]
    fn the_file_of_another_server_stays() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("ready");
        let mut ours = ReadyFile::prepare(&path).expect("nothing to remove");
        ours.write(b"ours", &never()).expect("written");
        let mut theirs = ReadyFile::prepare(&path).expect("removed");
        theirs.write(b"theirs", &never()).expect("written");
        drop(ours);
        assert_eq!(fs::read(&path).expect("there"), b"theirs");
    }
}
