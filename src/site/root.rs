//! Root directory: opens files beneath it and nowhere else.
//!
//! Owns the only `openat2(RESOLVE_BENEATH)` (Linux 5.6), which every served file goes through. The kernel resolves
//! the path and rejects `..` and symbolic links that lead out while it opens the file, so there is no race between
//! check and use. The file type is then taken from `fstat` on the open descriptor, never from the name.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2};
use rustix::io::Errno;

use super::path::SitePath;

/// Maximum number of lookups of a path: the kernel returns EAGAIN if a rename happens during a lookup. After the last
/// attempt, the path counts as not found.
const MAX_OPEN_ATTEMPTS: usize = 16;
/// Maximum number of entries in a listing.
const MAX_LISTED_ENTRIES: usize = 10_000;

/// Directory that is served.
#[derive(Debug)]
pub(crate) struct Root {
    directory: OwnedFd,
    path: PathBuf,
}

/// Opened file or directory.
#[derive(Debug)]
pub(crate) enum Entry {
    File {
        file: File,
        /// Length at the time of opening.
        length: u64,
        /// Modification time in seconds since 1970.
        modified: i64,
    },
    Directory(OwnedFd),
}

/// Reason why a path is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenError {
    /// Not found within the root.
    NotFound,
    /// Permission denied, or not a regular file: a FIFO, a socket, a device.
    Forbidden,
    /// Temporarily out of descriptors or memory.
    Exhausted,
    /// Disk error.
    Io,
}

impl Root {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let directory = open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { directory, path: path.to_owned() })
    }

    /// Returns the path of the directory as it was given.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the file or directory at `path`.
    pub(crate) fn open_entry(&self, path: &SitePath) -> Result<Entry, OpenError> {
        self.lookup(&path.relative())
    }

    /// Opens the file `name` in the directory at `path`, such as an index page.
    pub(crate) fn open_child(&self, path: &SitePath, name: &str) -> Result<Entry, OpenError> {
        let mut relative = path.relative();
        relative.push(b'/');
        relative.extend_from_slice(name.as_bytes());
        self.lookup(&relative)
    }

    /// Returns the sorted entries for a listing, and whether there are more than the maximum. Dot files and files
    /// that would not be served are omitted.
    pub(crate) fn read_dir(&self, path: &SitePath, directory: &OwnedFd) -> io::Result<(Vec<DirEntry>, bool)> {
        let mut entries = Vec::new();
        let mut is_truncated = false;
        for item in Dir::read_from(directory)? {
            let item = item?;
            let name = item.file_name().to_bytes();
            if name.starts_with(b".") {
                continue;
            }
            let Some(entry) = self.dir_entry(path, name) else { continue };
            is_truncated = entries.len() == MAX_LISTED_ENTRIES;
            if is_truncated {
                break;
            }
            entries.push(entry);
        }
        entries.sort();
        Ok((entries, is_truncated))
    }

    fn dir_entry(&self, path: &SitePath, name: &[u8]) -> Option<DirEntry> {
        let relative = [&path.relative()[..], b"/", name].concat();
        let found = self.open_beneath(&relative, OFlags::PATH).ok()?;
        let status = fstat(&found).ok()?;
        let kind = match FileType::from_raw_mode(status.st_mode) {
            FileType::Directory => EntryKind::Directory,
            FileType::RegularFile => EntryKind::File,
            _ => return None,
        };
        let length = u64::try_from(status.st_size).unwrap_or(0);
        Some(DirEntry { kind, name: name.to_owned(), length, modified: status.st_mtime })
    }

    fn open_beneath(&self, relative: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        (0..MAX_OPEN_ATTEMPTS)
            .map(|_| openat2(&self.directory, relative, flags | OFlags::CLOEXEC, Mode::empty(), resolve))
            .find(|result| !matches!(result, Err(Errno::AGAIN | Errno::INTR)))
            .unwrap_or(Err(Errno::NOENT))
    }

    fn lookup(&self, relative: &[u8]) -> Result<Entry, OpenError> {
        // Without O_NONBLOCK, opening a FIFO would block until a writer opens it.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let descriptor = self.open_beneath(relative, flags).map_err(OpenError::from)?;
        let status = fstat(&descriptor).map_err(OpenError::from)?;
        match FileType::from_raw_mode(status.st_mode) {
            FileType::RegularFile => Ok(Entry::File {
                file: File::from(descriptor),
                length: u64::try_from(status.st_size).unwrap_or(0),
                modified: status.st_mtime,
            }),
            FileType::Directory => Ok(Entry::Directory(descriptor)),
            _ => Err(OpenError::Forbidden),
        }
    }
}

impl From<Errno> for OpenError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::ACCESS | Errno::PERM | Errno::NXIO => Self::Forbidden,
            Errno::MFILE | Errno::NFILE | Errno::NOMEM => Self::Exhausted,
            // The kernel reports a path out of the root as EXDEV. For a client, it must look like any missing file.
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG | Errno::XDEV | Errno::INVAL => {
                Self::NotFound
            }
            _ => Self::Io,
        }
    }
}

/// Directory entry in a listing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DirEntry {
    pub kind: EntryKind,
    /// File name: any bytes except `/` and NUL.
    pub name: Vec<u8>,
    pub length: u64,
    /// Modification time in seconds since 1970.
    pub modified: i64,
}

/// Kind of a directory entry; directories sort first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum EntryKind {
    Directory,
    File,
}

#[cfg(test)]
mod tests {
    use super::{Entry, MAX_LISTED_ENTRIES, OpenError, Root};
    use crate::site::SitePath;
    use std::fs;
    use std::io::Read as _;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::os::unix::net::UnixListener;

    /// Creates a root with a secret file next to it.
    fn site() -> (tempfile::TempDir, Root) {
        let parent = tempfile::tempdir().expect("a temporary directory");
        let root = parent.path().join("root");
        fs::create_dir_all(root.join("sub/deep")).expect("created");
        fs::write(parent.path().join("secret"), "outside").expect("written");
        fs::write(root.join("a.html"), "inside").expect("written");
        let opened = Root::open(&root).expect("just created");
        (parent, opened)
    }

    fn path(target: &str) -> SitePath {
        SitePath::parse(target).expect("a valid path")
    }

    fn outcome(root: &Root, target: &str) -> Result<&'static str, OpenError> {
        root.open_entry(&path(target)).map(|entry| match entry {
            Entry::File { .. } => "file",
            Entry::Directory(_) => "directory",
        })
    }

    #[test]
    fn files_and_directories_are_distinguished() {
        let (_parent, root) = site();
        assert_eq!(outcome(&root, "/a.html"), Ok("file"));
        assert_eq!(outcome(&root, "/"), Ok("directory"));
        assert_eq!(outcome(&root, "/sub/deep"), Ok("directory"));
        assert_eq!(outcome(&root, "/none"), Err(OpenError::NotFound));
        assert_eq!(outcome(&root, "/a.html/x"), Err(OpenError::NotFound));
        assert_eq!(outcome(&root, &format!("/{}", "x".repeat(300))), Err(OpenError::NotFound));
    }

    #[test]
    fn links_within_the_root_are_followed_and_links_out_are_not_found() {
        let (parent, root) = site();
        symlink("../a.html", root.path().join("sub/in")).expect("linked");
        symlink("../secret", root.path().join("out")).expect("linked");
        symlink(parent.path(), root.path().join("absolute")).expect("linked");
        symlink("loop", root.path().join("loop")).expect("linked");
        assert_eq!(outcome(&root, "/sub/in"), Ok("file"));
        assert_eq!(outcome(&root, "/out"), Err(OpenError::NotFound));
        assert_eq!(outcome(&root, "/absolute/secret"), Err(OpenError::NotFound));
        assert_eq!(outcome(&root, "/loop"), Err(OpenError::NotFound));
    }

    #[test]
    fn a_special_file_is_forbidden_and_does_not_block() {
        let (_parent, root) = site();
        let fifo = root.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o644.into(), 0).expect("a FIFO");
        let _socket = UnixListener::bind(root.path().join("socket")).expect("bound");
        assert_eq!(outcome(&root, "/fifo"), Err(OpenError::Forbidden));
        assert_eq!(outcome(&root, "/socket"), Err(OpenError::Forbidden));
    }

    #[test]
    fn a_link_that_changes_constantly_never_leads_out() {
        let (parent, root) = site();
        let swapped = root.path().join("swapped");
        let staging = root.path().join("staging");
        let secret = parent.path().join("secret");
        std::thread::scope(|scope| {
            let swapper = scope.spawn(|| {
                for turn in 0..2_000 {
                    let target = if turn % 2 == 0 { secret.as_path() } else { std::path::Path::new("a.html") };
                    symlink(target, &staging).expect("linked");
                    fs::rename(&staging, &swapped).expect("renamed");
                }
            });
            while !swapper.is_finished() {
                if let Ok(Entry::File { file, length, .. }) = root.open_entry(&path("/swapped")) {
                    let mut content = Vec::new();
                    file.take(length).read_to_end(&mut content).expect("readable");
                    assert_eq!(content, b"inside");
                }
            }
        });
    }

    #[test]
    fn a_listing_shows_what_is_served_with_directories_first() {
        let (_parent, root) = site();
        symlink("../secret", root.path().join("out")).expect("linked");
        symlink("../a.html", root.path().join("sub/in")).expect("linked");
        fs::write(root.path().join(".hidden"), "").expect("written");
        let list = |target: &str| {
            let Ok(Entry::Directory(directory)) = root.open_entry(&path(target)) else { panic!("a directory") };
            let (entries, is_truncated) = root.read_dir(&path(target), &directory).expect("readable");
            assert!(!is_truncated);
            entries.into_iter().map(|entry| String::from_utf8(entry.name).expect("ASCII")).collect::<Vec<_>>()
        };
        assert_eq!(list("/"), ["sub", "a.html"]);
        assert_eq!(list("/sub"), ["deep", "in"]);
    }

    #[test]
    fn a_listing_at_the_limit_is_complete_and_one_more_is_reported() {
        let (_parent, root) = site();
        let deep = root.path().join("sub/deep");
        (0..MAX_LISTED_ENTRIES).for_each(|number| fs::write(deep.join(number.to_string()), "").expect("written"));
        let count = || {
            let Ok(Entry::Directory(directory)) = root.open_entry(&path("/sub/deep")) else { panic!("a directory") };
            let (entries, is_truncated) = root.read_dir(&path("/sub/deep"), &directory).expect("readable");
            (entries.len(), is_truncated)
        };
        assert_eq!(count(), (MAX_LISTED_ENTRIES, false));
        fs::write(deep.join("one more"), "").expect("written");
        assert_eq!(count(), (MAX_LISTED_ENTRIES, true));
    }

    #[test]
    fn an_unreadable_file_is_forbidden() {
        let (_parent, root) = site();
        fs::set_permissions(root.path().join("a.html"), fs::Permissions::from_mode(0o000)).expect("changed");
        let expected = if rustix::process::geteuid().is_root() { Ok("file") } else { Err(OpenError::Forbidden) };
        assert_eq!(outcome(&root, "/a.html"), expected);
    }
}
