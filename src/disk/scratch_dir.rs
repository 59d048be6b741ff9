//! Private temporary directory, removed with its owner.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::random_suffix;
use crate::failure::{Failure, FailureKind, Result, io_error_text};

/// Directory below the system's temporary directory, accessible to its owner only.
#[derive(Debug)]
pub(crate) struct ScratchDir(PathBuf);

impl ScratchDir {
    /// Creates the directory.
    pub(crate) fn new() -> Result<Self> {
        loop {
            let path = std::env::temp_dir().join(format!("netlab-{}", random_suffix()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(Failure::new(
                        FailureKind::CannotCreate,
                        format!("cannot create {}: {}", path.display(), io_error_text(&error)),
                    )
                    .with_source(error));
                }
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file, creating the directories on its path.
    pub(crate) fn write_file(&self, name: &str, content: &[u8]) -> Result<PathBuf> {
        let path = self.0.join(name);
        let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, content));
        written.map_err(|error| {
            Failure::new(
                FailureKind::CannotCreate,
                format!("cannot write {}: {}", path.display(), io_error_text(&error)),
            )
            .with_source(error)
        })?;
        Ok(path)
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::ScratchDir;

    #[test]
    fn the_directory_is_removed_with_its_owner() {
        let scratch = ScratchDir::new().expect("created");
        let file = scratch.write_file("a/b", b"x").expect("written");
        assert!(file.exists());
        drop(scratch);
        assert!(!file.exists());
    }
}
