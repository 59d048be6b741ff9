//! Root directory: opens files beneath it and nowhere else.
//!
//! Owns the only `openat2(RESOLVE_BENEATH)` (Linux 5.6), which every served file goes through. The kernel resolves
//! the path and rejects `..` and symbolic links that lead out while it opens the file, so there is no race between
//! check and use. The file type is then taken from `fstat` on the open descriptor, never from the name.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, open, openat2, stat};
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
    /// Device and inode. No other directory can have the same pair while this one is open.
    identity: (u64, u64),
}

/// Opened file or directory.
#[derive(Debug)]
pub(crate) enum Entry {
    File(File, FileStatus),
    Directory(OwnedFd),
}

/// Status of a file at the time of opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FileStatus {
    pub length: u64,
    pub inode: u64,
    /// Times of the last modification and of the last status change, in nanoseconds since 1970. A program can set the
    /// first, but not the second.
    pub modified_ns: i128,
    pub changed_ns: i128,
}

impl FileStatus {
    fn new(status: &Stat) -> Self {
        let nanoseconds = |seconds: i64, nanos: u64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
        Self {
            length: u64::try_from(status.st_size).unwrap_or(0),
            inode: status.st_ino,
            modified_ns: nanoseconds(status.st_mtime, status.st_mtime_nsec),
            changed_ns: nanoseconds(status.st_ctime, status.st_ctime_nsec),
        }
    }

    /// Status of the regular file that a path names now.
    pub(crate) fn of_path(path: &Path) -> Option<Self> {
        Self::of_regular_file(&stat(path).ok()?)
    }

    /// Status of an open file now.
    pub(crate) fn of_file(file: &File) -> Option<Self> {
        Self::of_regular_file(&fstat(file).ok()?)
    }

    fn of_regular_file(status: &Stat) -> Option<Self> {
        FileType::from_raw_mode(status.st_mode).is_file().then(|| Self::new(status))
    }

    /// Modification time in seconds since 1970.
    pub(crate) fn modified(&self) -> i64 {
        i64::try_from(self.modified_ns.div_euclid(1_000_000_000)).unwrap_or(0)
    }
}

/// Reason why a path is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenError {
    /// Not found within the root.
    NotFound,
    /// A symbolic link leads out of the root. For a client, it looks like a missing file.
    Outside,
    /// Permission denied, or not a regular file: a FIFO, a socket, a device.
    Forbidden,
    /// Temporarily out of descriptors or memory.
    Exhausted,
    /// Disk error.
    Io,
}

impl Root {
    /// Opens the directory; fails with [`io::ErrorKind::Unsupported`] if `openat2` cannot be used: an old kernel, or a
    /// seccomp filter that does not know it.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let directory = open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let status = fstat(&directory)?;
        let root = Self { directory, path: path.to_owned(), identity: (status.st_dev, status.st_ino) };
        match root.open_beneath(b".", OFlags::PATH) {
            Err(Errno::NOSYS | Errno::PERM) => Err(io::ErrorKind::Unsupported.into()),
            _ => Ok(root),
        }
    }

    /// Returns whether the path still names the directory that is open.
    pub(crate) fn is_current(&self) -> bool {
        stat(&self.path).is_ok_and(|named| (named.st_dev, named.st_ino) == self.identity)
    }

    /// Returns the path of the directory as it was given.
    #[cfg(test)]
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the file or directory at `path`.
    pub(crate) fn open_entry(&self, path: &SitePath) -> Result<Entry, OpenError> {
        self.lookup(&path.relative())
    }

    /// Returns the entries of a directory, sorted before the limit applies. What would not be served is omitted, and
    /// names that begin with a dot unless `hidden`.
    pub(crate) fn read_dir(&self, path: &SitePath, directory: &OwnedFd, hidden: bool) -> io::Result<Listing> {
        let mut names = Vec::new();
        for item in Dir::read_from(directory)? {
            let item = item?;
            let name = item.file_name().to_bytes();
            if matches!(name, b"." | b"..") || (name.starts_with(b".") && !hidden) {
                continue;
            }
            let kind = match item.file_type() {
                FileType::Directory => EntryKind::Directory,
                FileType::RegularFile => EntryKind::File,
                // The target of a link decides; some file systems do not tell the type.
                FileType::Symlink | FileType::Unknown => match self.dir_entry(path, name) {
                    Some(entry) => entry.kind,
                    None => continue,
                },
                _ => continue,
            };
            names.push((kind, name.to_owned()));
        }
        names.sort_unstable_by(|(kind, name), (other_kind, other)| {
            kind.cmp(other_kind).then_with(|| natural_order(name, other))
        });
        let total = names.len();
        names.truncate(MAX_LISTED_ENTRIES);
        Ok(Listing { entries: names.iter().filter_map(|(_, name)| self.dir_entry(path, name)).collect(), total })
    }

    fn dir_entry(&self, path: &SitePath, name: &[u8]) -> Option<DirEntry> {
        let relative = [&path.relative()[..], b"/", name].concat();
        let found = self.open_following(&relative, OFlags::PATH).ok()?;
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

    /// Opens a path, following links that stay beneath the root.
    fn open_following(&self, relative: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        match self.open_beneath(relative, flags) {
            Err(Errno::XDEV) => {
                let resolved = self.resolved(relative).ok_or(Errno::XDEV)?;
                self.open_beneath(&resolved, flags)
            }
            opened => opened,
        }
    }

    /// Path without links, relative to the root, if it lies beneath the root. The kernel rejects every absolute link,
    /// also one that leads back into the root; it still checks the resolved path when that is opened.
    fn resolved(&self, relative: &[u8]) -> Option<Vec<u8>> {
        let root = std::fs::canonicalize(&self.path).ok()?;
        let target = std::fs::canonicalize(root.join(OsStr::from_bytes(relative))).ok()?;
        let beneath = target.strip_prefix(&root).ok()?.as_os_str().as_bytes();
        Some(if beneath.is_empty() { b".".to_vec() } else { beneath.to_vec() })
    }

    fn lookup(&self, relative: &[u8]) -> Result<Entry, OpenError> {
        // Without O_NONBLOCK, opening a FIFO would block until a writer opens it.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let descriptor = self.open_following(relative, flags)?;
        let status = fstat(&descriptor).map_err(OpenError::from)?;
        match FileType::from_raw_mode(status.st_mode) {
            FileType::RegularFile => Ok(Entry::File(File::from(descriptor), FileStatus::new(&status))),
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
            Errno::XDEV => Self::Outside,
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG | Errno::INVAL => Self::NotFound,
            _ => Self::Io,
        }
    }
}

/// Entries of a directory.
#[derive(Debug)]
pub(crate) struct Listing {
    pub entries: Vec<DirEntry>,
    /// Number of entries before the limit.
    pub total: usize,
}

/// Compares names without regard to case, and numbers in them by their value: `file 2` before `file 10`.
fn natural_order(a: &[u8], b: &[u8]) -> Ordering {
    let (a, b) = (String::from_utf8_lossy(a), String::from_utf8_lossy(b));
    natord::compare_ignore_case(&a, &b).then_with(|| a.cmp(&b))
}

/// Directory entry in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    use super::{Entry, FileStatus, MAX_LISTED_ENTRIES, OpenError, Root};
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
            Entry::File(..) => "file",
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
        symlink(root.path().join("sub"), root.path().join("back")).expect("linked");
        assert_eq!(outcome(&root, "/back/in"), Ok("file"), "an absolute link that leads back");
        assert_eq!(outcome(&root, "/out"), Err(OpenError::Outside));
        assert_eq!(outcome(&root, "/absolute/secret"), Err(OpenError::Outside));
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
                if let Ok(Entry::File(file, FileStatus { length, .. })) = root.open_entry(&path("/swapped")) {
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
            let listing = root.read_dir(&path(target), &directory, false).expect("readable");
            assert_eq!(listing.total, listing.entries.len());
            listing.entries.into_iter().map(|entry| String::from_utf8(entry.name).expect("ASCII")).collect::<Vec<_>>()
        };
        assert_eq!(list("/"), ["sub", "a.html"]);
        assert_eq!(list("/sub"), ["deep", "in"]);
    }

    #[test]
    fn a_listing_sorts_all_names_before_its_limit() {
        let (_parent, root) = site();
        let deep = root.path().join("sub/deep");
        (0..MAX_LISTED_ENTRIES).for_each(|number| fs::write(deep.join(number.to_string()), "").expect("written"));
        let count = || {
            let Ok(Entry::Directory(directory)) = root.open_entry(&path("/sub/deep")) else { panic!("a directory") };
            let listing = root.read_dir(&path("/sub/deep"), &directory, false).expect("readable");
            let last = listing.entries.last().map(|entry| String::from_utf8_lossy(&entry.name).into_owned());
            (listing.entries.len(), listing.total, last)
        };
        assert_eq!(count(), (MAX_LISTED_ENTRIES, MAX_LISTED_ENTRIES, Some("9999".to_owned())));
        fs::write(deep.join("10.5"), "").expect("written");
        assert_eq!(count(), (MAX_LISTED_ENTRIES, MAX_LISTED_ENTRIES + 1, Some("9998".to_owned())));
    }

    #[test]
    fn an_unreadable_file_is_forbidden() {
        let (_parent, root) = site();
        fs::set_permissions(root.path().join("a.html"), fs::Permissions::from_mode(0o000)).expect("changed");
        let expected = if rustix::process::geteuid().is_root() { Ok("file") } else { Err(OpenError::Forbidden) };
        assert_eq!(outcome(&root, "/a.html"), expected);
    }
}
