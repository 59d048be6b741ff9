//! A directory that takes files in and never loses one it has promised to keep.
//!
//! Owns the order that makes the promise true: written under a name nobody looks at, synced, renamed,
//! and the directory synced. After that a file is there, also when the power fails.

use std::fs::{self, DirEntry, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::random_suffix;
use crate::error::{Error, Result, io_error_text};
use crate::exit::Exit;

/// What drafts are called; a reader of the directory passes over hidden names.
const TEMP_PREFIX: &str = ".draft-";
/// After which time a draft is nobody's any more.
const STALE_AFTER: Duration = Duration::from_secs(3_600);

/// Such a directory.
#[derive(Debug)]
pub(crate) struct Spool {
    path: PathBuf,
    directory: File,
}

impl Spool {
    /// Opens the directory, made if it is not there, and finds out at once whether it takes files.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let cannot = |error: io::Error| {
            Error::new(
                Exit::CannotCreate,
                format!("cannot keep files in {}: {}", path.display(), io_error_text(&error)),
            )
            .expected("a directory that this user may write to")
            .with_source(error)
        };
        let is_new = match fs::DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(cannot(error)),
        };
        let path = fs::canonicalize(path).map_err(cannot)?;
        if let Some(parent) = path.parent().filter(|_| is_new) {
            // A new directory is there for good once the one around it knows of it.
            File::open(parent).and_then(|parent| parent.sync_all()).map_err(cannot)?;
        }
        let directory = File::open(&path).map_err(cannot)?;
        let spool = Self { path, directory };
        // Everything that will be done is tried, so that nobody is deferred for ever.
        let tried = spool.store(&format!("{TEMP_PREFIX}{}", random_suffix()), b"").map_err(cannot)?;
        let now = fs::metadata(&tried).and_then(|tried| tried.modified()).map_err(cannot)?;
        fs::remove_file(tried).map_err(cannot)?;
        spool.remove_stale(now);
        Ok(spool)
    }

    /// Takes away what a killed run left. Writing a draft takes moments, so an old one is nobody's; its
    /// age is by the file system's own clock.
    fn remove_stale(&self, now: SystemTime) {
        let is_draft = |entry: &DirEntry| {
            let name = entry.file_name();
            let chance = name.to_str().and_then(|name| name.strip_prefix(TEMP_PREFIX));
            chance.is_some_and(|chance| chance.len() == 16 && chance.bytes().all(|digit| digit.is_ascii_hexdigit()))
                && entry.file_type().is_ok_and(|kind| kind.is_file())
        };
        let is_old = |entry: &DirEntry| {
            let written = entry.metadata().and_then(|found| found.modified());
            written.is_ok_and(|written| now.duration_since(written).is_ok_and(|age| age >= STALE_AFTER))
        };
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            if is_draft(&entry) && is_old(&entry) {
                // Whoever may not remove it is not hindered by it either.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps a file under this name, which must be free. When this returns, it is on the disk.
    pub(crate) fn store(&self, name: &str, content: &[u8]) -> io::Result<PathBuf> {
        let (draft, target) = (self.temp_path(), self.path.join(name));
        let named = Self::write_temp(&draft, content).and_then(|()| rename_no_replace(&draft, &target));
        if let Err(error) = named {
            let _ = fs::remove_file(&draft);
            return Err(error);
        }
        if let Err(error) = self.directory.sync_all() {
            // It is not promised, and its sender will come again.
            let _ = fs::remove_file(&target);
            return Err(error);
        }
        Ok(target)
    }

    fn temp_path(&self) -> PathBuf {
        self.path.join(format!("{TEMP_PREFIX}{}{}", random_suffix(), random_suffix()))
    }

    /// A mail is its receiver's business alone.
    fn write_temp(temp: &Path, content: &[u8]) -> io::Result<()> {
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(temp)?;
        file.write_all(content)?;
        file.sync_all()
    }
}

/// Gives a draft its name, if that is free.
fn rename_no_replace(temp: &Path, target: &Path) -> io::Result<()> {
    match renameat_with(CWD, temp, CWD, target, RenameFlags::NOREPLACE) {
        // Not every file system can; a link never replaces either.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            fs::hard_link(temp, target)?;
            // It has its name; a second one that cannot be taken away harms nobody.
            let _ = fs::remove_file(temp);
            Ok(())
        }
        renamed => Ok(renamed?),
    }
}

#[cfg(test)]
mod tests {
    use super::{STALE_AFTER, Spool};
    use crate::exit::Exit;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Duration;

    #[test]
    fn a_file_is_kept_whole_private_and_never_replaced() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("new");
        let spool = Spool::open(&path).expect("made");
        let kept = spool.store("1.eml", b"content").expect("kept");
        assert_eq!(fs::read(&kept).expect("there"), b"content");
        assert_eq!(fs::metadata(&kept).expect("there").permissions().mode() & 0o777, 0o600);
        assert!(spool.store("1.eml", b"other").is_err());
        assert_eq!(fs::read(&kept).expect("there"), b"content");
        assert_eq!(fs::read_dir(&path).expect("there").count(), 1, "no draft is left");
    }

    #[test]
    fn drafts_of_a_run_that_was_killed_are_taken_away_once_they_are_old() {
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
        assert_eq!(left, [&*draft(2), ".draft-letter.txt", "old.eml"], "what somebody else has written stays");
    }

    #[test]
    fn a_directory_that_takes_no_files_is_told_at_once() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory.path().join("file");
        fs::write(&file, "x").expect("written");
        for path in [file.as_path(), "/nonexistent/a/b".as_ref(), "/proc".as_ref()] {
            assert_eq!(Spool::open(path).expect_err("impossible").exit(), Exit::CannotCreate);
        }
    }
}
