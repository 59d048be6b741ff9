//! Part files of downloads; the target name appears only when the content is complete.
//!
//! Owns the `.part` file beside the target and the lock on it: two runs with one target would otherwise mix
//! their bytes, so the second one fails.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, OFlags, RenameFlags, flock, renameat_with};

use super::in_place::{is_in_place, open_for_run, write_for_run};
use crate::failure::{Failure, FailureKind, Result, io_error_text};
use crate::stop::StopConditions;

/// Treatment of an existing file with the name of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overwrite {
    /// Replace it: the user typed the name.
    Yes,
    /// Keep it and fail: the name came from the URL.
    No,
}

/// Download in progress.
#[derive(Debug)]
pub(crate) struct PartFile {
    file: File,
    target: PathBuf,
    /// Path of the part file; `None` if the target is not a regular file and is written to directly.
    part_path: Option<PathBuf>,
    overwrite: Overwrite,
    written: u64,
    /// Set while the part file has bytes of an earlier run, which stay until new ones arrive.
    has_leftover: bool,
    /// Present if the target is written in place, where a reader may stall.
    stop: Option<StopConditions>,
}

impl PartFile {
    /// Opens the part file for `target`; called before the request, so that an unwritable target fails before
    /// anything is fetched.
    pub(crate) fn create(target: &Path, overwrite: Overwrite, stop: &StopConditions) -> Result<Self> {
        let shown = target.display();
        match fs::metadata(target) {
            Ok(found) if found.is_dir() => {
                Err(Failure::new(FailureKind::TargetIsDirectory, format!("{shown} is a directory"))
                    .expected("a file name"))
            }
            Ok(_) if overwrite == Overwrite::No => Err(exists_error(target)),
            _ if is_in_place(target) => {
                let file = open_for_run(target, stop).map_err(|error| create_error(target, error))?;
                Ok(Self {
                    file,
                    target: target.to_owned(),
                    part_path: None,
                    overwrite,
                    written: 0,
                    has_leftover: false,
                    stop: Some(stop.clone()),
                })
            }
            found => {
                // Symbolic links are followed, so that the file is replaced and not the link.
                let target = fs::canonicalize(target).unwrap_or_else(|_| target.to_owned());
                let part = part_path(&target).ok_or_else(|| {
                    Failure::new(FailureKind::CannotCreate, format!("{shown} is not a file name"))
                        .expected("a name that does not end in /")
                })?;
                let (file, was_kept) = open_locked(&part, &target)?;
                if let Ok(old) = &found {
                    // The new content is as private as the old one.
                    let _ = file.set_permissions(old.permissions());
                }
                Ok(Self {
                    file,
                    target,
                    part_path: Some(part),
                    overwrite,
                    written: 0,
                    has_leftover: was_kept,
                    stop: None,
                })
            }
        }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.discard_leftover()?;
        match &self.stop {
            Some(stop) => write_for_run(&self.file, bytes, stop),
            None => self.file.write_all(bytes),
        }
        .map_err(|error| self.write_error(error))?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Discards the bytes of an earlier run, once there are new ones.
    fn discard_leftover(&mut self) -> Result<()> {
        if std::mem::take(&mut self.has_leftover) {
            self.file.set_len(0).map_err(|error| self.write_error(error))?;
        }
        Ok(())
    }

    /// Syncs and renames the part file and syncs the directory, so that the file survives a power failure.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.discard_leftover()?;
        let Some(part) = self.part_path.take() else { return Ok(()) };
        self.file.sync_all().map_err(|error| self.write_error(error))?;
        let flags = if self.overwrite == Overwrite::No { RenameFlags::NOREPLACE } else { RenameFlags::empty() };
        match renameat_with(CWD, &part, CWD, &self.target, flags) {
            Ok(()) => {}
            Err(rustix::io::Errno::EXIST) => return Err(exists_error(&self.target)),
            Err(errno) => return Err(create_error(&self.target, errno.into())),
        }
        let directory = self.target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // Some file systems cannot sync a directory; the file itself is safe.
        let _ = File::open(directory).and_then(|directory| directory.sync_all());
        Ok(())
    }

    /// Path of the incomplete file, if it has content.
    pub(crate) fn partial_path(&self) -> Option<&Path> {
        self.part_path.as_deref().filter(|_| self.written > 0)
    }

    fn write_error(&self, error: io::Error) -> Failure {
        let message = format!("cannot write {}: {}", self.target.display(), io_error_text(&error));
        Failure::new(FailureKind::ReadWrite, message).with_source(error)
    }
}

impl Drop for PartFile {
    /// Removes the part file if it is empty.
    fn drop(&mut self) {
        if let Some(part) = &self.part_path
            && self.written == 0
            && !self.has_leftover
        {
            let _ = fs::remove_file(part);
        }
    }
}

fn part_path(target: &Path) -> Option<PathBuf> {
    let mut name = OsString::from(target.file_name()?);
    name.push(".part");
    Some(target.with_file_name(name))
}

/// Opens and locks the part file. If another run renamed it between open and lock, the lock is on a file with
/// another name, so the file is opened again.
fn open_locked(part: &Path, target: &Path) -> Result<(File, bool)> {
    loop {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(part)
            .map_err(|error| create_error(target, error))?;
        // An error other than WOULDBLOCK means that the file system has no locks, not that a second run holds one.
        if flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive) == Err(rustix::io::Errno::WOULDBLOCK) {
            return Err(Failure::new(FailureKind::TargetLocked, format!("another run is writing {}", part.display()))
                .expected("one download per target"));
        }
        let same = |found: fs::Metadata| {
            file.metadata().is_ok_and(|ours| ours.ino() == found.ino() && ours.dev() == found.dev())
        };
        if fs::symlink_metadata(part).is_ok_and(same) {
            let was_kept = file.metadata().is_ok_and(|found| found.len() > 0);
            return Ok((file, was_kept));
        }
    }
}

fn exists_error(target: &Path) -> Failure {
    Failure::new(FailureKind::TargetExists, format!("{} already exists", target.display()))
        .expected("a file that does not exist yet, because its name came from the URL")
}

fn create_error(target: &Path, error: io::Error) -> Failure {
    Failure::new(FailureKind::CannotCreate, format!("cannot create {}: {}", target.display(), io_error_text(&error)))
        .expected("an existing, writable directory")
        .with_source(error)
}

#[cfg(test)]
mod tests {
    use super::{Overwrite, PartFile};
    use crate::failure::FailureKind;
    use crate::stop::tests::never;
    use std::fs;
    use std::path::Path;

    #[test]
    fn a_download_has_its_name_only_when_it_is_complete() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let target = directory.path().join("f");
        fs::write(&target, "old").expect("written");
        let mut part = PartFile::create(&target, Overwrite::Yes, &never()).expect("created");
        part.write(b"new").expect("written");
        assert_eq!(fs::read(&target).expect("there"), b"old");
        part.finish().expect("renamed");
        assert_eq!(fs::read(&target).expect("there"), b"new");
        assert!(!directory.path().join("f.part").exists());
    }

    #[test]
    fn an_interrupted_download_keeps_its_bytes_and_an_empty_one_leaves_no_file() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let target = directory.path().join("f");
        drop(PartFile::create(&target, Overwrite::Yes, &never()).expect("created"));
        assert_eq!(fs::read_dir(directory.path()).expect("there").count(), 0);
        let mut part = PartFile::create(&target, Overwrite::Yes, &never()).expect("created");
        part.write(b"half").expect("written");
        assert!(part.partial_path().is_some());
        drop(part);
        assert_eq!(fs::read(directory.path().join("f.part")).expect("kept"), b"half");
        assert!(!target.exists());
    }

    #[test]
    fn bytes_of_an_earlier_run_stay_until_new_ones_arrive() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (target, part) = (directory.path().join("f"), directory.path().join("f.part"));
        fs::write(&part, "kept").expect("written");
        drop(PartFile::create(&target, Overwrite::Yes, &never()).expect("created"));
        assert_eq!(fs::read(&part).expect("still there"), b"kept");
        let mut again = PartFile::create(&target, Overwrite::Yes, &never()).expect("created");
        again.write(b"x").expect("written");
        again.finish().expect("renamed");
        assert_eq!(fs::read(&target).expect("there"), b"x");
    }

    #[test]
    fn a_private_file_stays_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().expect("a temporary directory");
        let target = directory.path().join("f");
        fs::write(&target, "old").expect("written");
        fs::set_permissions(&target, fs::Permissions::from_mode(0o600)).expect("changed");
        let mut part = PartFile::create(&target, Overwrite::Yes, &never()).expect("created");
        part.write(b"new").expect("written");
        part.finish().expect("renamed");
        assert_eq!(fs::metadata(&target).expect("there").permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_second_run_with_the_same_target_fails() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let target = directory.path().join("f");
        let first = PartFile::create(&target, Overwrite::Yes, &never()).expect("created");
        assert_eq!(
            PartFile::create(&target, Overwrite::Yes, &never()).expect_err("locked").kind(),
            FailureKind::TargetLocked
        );
        drop(first);
        assert!(PartFile::create(&target, Overwrite::Yes, &never()).is_ok());
    }

    #[test]
    fn a_name_that_was_not_typed_never_overwrites() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let target = directory.path().join("f");
        let mut part = PartFile::create(&target, Overwrite::No, &never()).expect("free so far");
        part.write(b"mine").expect("written");
        fs::write(&target, "theirs").expect("another process created it");
        assert_eq!(part.finish().expect_err("taken").kind(), FailureKind::TargetExists);
        assert!(PartFile::create(&target, Overwrite::No, &never()).is_err());
        assert_eq!(fs::read(&target).expect("there"), b"theirs");
    }

    #[test]
    fn a_device_is_written_to_and_not_renamed_away() {
        let mut part = PartFile::create(Path::new("/dev/null"), Overwrite::Yes, &never()).expect("opened");
        part.write(b"x").expect("written");
        part.finish().expect("nothing to do");
        assert!(!fs::metadata("/dev/null").expect("still there").is_file());
    }

    #[test]
    fn an_impossible_target_fails_at_once() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        for (target, kind) in [
            (directory.path(), FailureKind::TargetIsDirectory),
            (&directory.path().join("none/f"), FailureKind::CannotCreate),
            (Path::new("/"), FailureKind::TargetIsDirectory),
        ] {
            assert_eq!(PartFile::create(target, Overwrite::Yes, &never()).expect_err("impossible target").kind(), kind);
        }
    }
}
