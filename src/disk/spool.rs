//! Spool directory: a file that was stored survives a crash or power failure.
//!
//! Owns the order of operations: write under a hidden temporary name, sync, rename, sync the directory.

use std::fs::{self, DirEntry, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::random_suffix;
use crate::failure::{Failure, FailureKind, Result, io_error_text};

/// Prefix of temporary files; readers of the directory skip hidden names.
const TEMP_PREFIX: &str = ".draft-";
/// Age after which a temporary file is considered abandoned by a killed run.
const STALE_AFTER: Duration = Duration::from_secs(3_600);

/// Directory that stores files durably.
#[derive(Debug)]
pub(crate) struct Spool {
    path: PathBuf,
    directory: File,
}

impl Spool {
    /// Opens the directory, creates it if missing, and checks that files can be stored.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let failed = |error: io::Error| {
            Failure::new(
                FailureKind::CannotCreate,
                format!("cannot store files in {}: {}", path.display(), io_error_text(&error)),
            )
            .expected("a writable directory, or a new one in an existing directory")
            .with_source(error)
        };
        let is_new = match fs::DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(failed(error)),
        };
        let path = fs::canonicalize(path).map_err(failed)?;
        if let Some(parent) = path.parent().filter(|_| is_new) {
            // A new directory is durable once its parent is synced.
            File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed)?;
        }
        let directory = File::open(&path).map_err(failed)?;
        let spool = Self { path, directory };
        // Try every operation at start-up; a directory that fails only later would defer every message.
        let tried = spool.store(&format!("{TEMP_PREFIX}{}", random_suffix()), b"").map_err(failed)?;
        let now = fs::metadata(&tried).and_then(|tried| tried.modified()).map_err(failed)?;
        fs::remove_file(tried).map_err(failed)?;
        spool.remove_stale(now);
        Ok(spool)
    }

    /// Removes temporary files of killed runs. Storing takes moments, so an old one is not in use; its age is
    /// measured by the clock of the file system.
    fn remove_stale(&self, now: SystemTime) {
        let is_temp = |entry: &DirEntry| {
            let name = entry.file_name();
            let suffix = name.to_str().and_then(|name| name.strip_prefix(TEMP_PREFIX));
            suffix.is_some_and(|suffix| suffix.len() == 16 && suffix.bytes().all(|digit| digit.is_ascii_hexdigit()))
                && entry.file_type().is_ok_and(|kind| kind.is_file())
        };
        let is_old = |entry: &DirEntry| {
            let written = entry.metadata().and_then(|found| found.modified());
            written.is_ok_and(|written| now.duration_since(written).is_ok_and(|age| age >= STALE_AFTER))
        };
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            if is_temp(&entry) && is_old(&entry) {
                // A file that cannot be removed does no harm.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Stores a file under an unused name. On return the file is on disk.
    pub(crate) fn store(&self, name: &str, content: &[u8]) -> io::Result<PathBuf> {
        let (temp, target) = (self.temp_path(), self.path.join(name));
        let named = Self::write_temp(&temp, content).and_then(|()| rename_no_replace(&temp, &target));
        if let Err(error) = named {
            let _ = fs::remove_file(&temp);
            return Err(error);
        }
        if let Err(error) = self.directory.sync_all() {
            // The caller reports the failure, so the sender will retry.
            let _ = fs::remove_file(&target);
            return Err(error);
        }
        Ok(target)
    }

    fn temp_path(&self) -> PathBuf {
        self.path.join(format!("{TEMP_PREFIX}{}{}", random_suffix(), random_suffix()))
    }

    /// Writes a temporary file that only its owner can read.
    fn write_temp(temp: &Path, content: &[u8]) -> io::Result<()> {
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(temp)?;
        file.write_all(content)?;
        file.sync_all()
    }
}

/// Renames a temporary file unless the target exists.
fn rename_no_replace(temp: &Path, target: &Path) -> io::Result<()> {
    match renameat_with(CWD, temp, CWD, target, RenameFlags::NOREPLACE) {
        // Not every file system supports RENAME_NOREPLACE; a hard link does not replace a file either.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            fs::hard_link(temp, target)?;
            // The file has its name; a second name that cannot be removed does no harm.
            let _ = fs::remove_file(temp);
            Ok(())
        }
        renamed => Ok(renamed?),
    }
}

#[cfg(test)]
mod tests {
    use super::{STALE_AFTER, Spool};
    use crate::failure::FailureKind;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Duration;

    #[test]
    fn a_file_is_stored_completely_privately_and_never_replaced() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("new");
        let spool = Spool::open(&path).expect("made");
        let stored = spool.store("1.eml", b"content").expect("stored");
        assert_eq!(fs::read(&stored).expect("there"), b"content");
        assert_eq!(fs::metadata(&stored).expect("there").permissions().mode() & 0o777, 0o600);
        assert!(spool.store("1.eml", b"other").is_err());
        assert_eq!(fs::read(&stored).expect("there"), b"content");
        assert_eq!(fs::read_dir(&path).expect("there").count(), 1, "no temporary file is left");
    }

    #[test]
    fn old_temporary_files_of_a_killed_run_are_removed() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let old = |name: &str, age: Duration| {
            let file = fs::File::create(directory.path().join(name)).expect("created");
            let written = file.metadata().and_then(|file| file.modified()).expect("dated");
            file.set_modified(written - age).expect("set back");
        };
        let draft = |first: u8| format!(".draft-{first:x}123456789abcdef");
        old(&draft(1), 2 * STALE_AFTER);
        old(&draft(2), Duration::ZERO);
        old(".draft-letter.txt", 2 * STALE_AFTER);
        old("old.eml", 2 * STALE_AFTER);
        Spool::open(directory.path()).expect("opened");
        let left = fs::read_dir(directory.path()).expect("there").map(|entry| entry.expect("readable").file_name());
        let mut left: Vec<_> = left.collect();
        left.sort_unstable();
        assert_eq!(left, [&*draft(2), ".draft-letter.txt", "old.eml"], "files of other programs stay");
    }

    #[test]
    fn an_unusable_directory_fails_at_once() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory.path().join("file");
        fs::write(&file, "x").expect("written");
        for path in [file.as_path(), "/nonexistent/a/b".as_ref(), "/proc".as_ref()] {
            assert_eq!(Spool::open(path).expect_err("impossible").kind(), FailureKind::CannotCreate);
        }
    }
}
