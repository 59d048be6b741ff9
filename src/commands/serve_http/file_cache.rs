//! Cache of one thread: complete responses with small files.
//!
//! Each use is preceded by one `stat` of the path, which finds a changed file, another root directory and a switched link
//! at once, so that no response is older than its request. The path is only compared, never opened: a file enters the
//! cache as the site has opened it. A precompressed sibling that appears is found within a second. A file that changed a moment ago is not kept: it may change again without a new time
//! of change.

use std::cell::RefCell;
use std::collections::HashMap;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use super::file_response::is_young;
use crate::http::{AcceptedCodings, PreparedBody, Response, ResponseBody, Status};
use crate::site::FileStatus;
use crate::time::Moment;

/// Maximum size of a file that is kept.
const MAX_FILE_BYTES: u64 = 16 * 1024;
/// Maximum number of files; one more empties the cache.
const MAX_FILES: usize = 256;

/// Time after which precompressed siblings are looked for again.
const SIBLING_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct FileCache {
    /// Directory of the site.
    directory: PathBuf,
    /// Preferred index file, for targets that end in `/`.
    index: Option<String>,
    files: RefCell<HashMap<String, CachedFile>>,
}

#[derive(Debug)]
struct CachedFile {
    path: PathBuf,
    status: FileStatus,
    body: Rc<PreparedBody>,
    /// Codings that its client accepted.
    accepted: AcceptedCodings,
    kept_at: Moment,
}

impl FileCache {
    pub(super) fn new(directory: &Path, index: Option<String>) -> Self {
        Self { directory: directory.to_owned(), index, files: RefCell::default() }
    }

    /// Returns the response to an unconditional request if the file has not changed since it was read.
    pub(super) fn find(&self, target: &str, accepted: AcceptedCodings, now: Moment) -> Option<Response> {
        let mut files = self.files.borrow_mut();
        let CachedFile { path, status, body, accepted: known, kept_at } = files.get(target)?;
        if accepted != *known {
            return None;
        }
        let is_fresh = accepted.is_empty() || now - *kept_at < SIBLING_INTERVAL;
        if is_fresh && FileStatus::of_path(path).as_ref() == Some(status) {
            return Some(Response::new(Status::OK, ResponseBody::Prepared(Rc::clone(body))));
        }
        files.remove(target);
        None
    }

    /// Keeps the response to an unconditional request if it is a whole small file, found where its target says.
    pub(super) fn keep(&self, target: &str, accepted: AcceptedCodings, response: &Response, now: Moment) {
        let ResponseBody::File(file, range) = &response.body else { return };
        if response.status != Status::OK || range.end > MAX_FILE_BYTES || !is_plain(target) {
            return;
        }
        let Some(status) = FileStatus::of_file(file).filter(|status| !is_young(status, now)) else { return };
        let mut content = vec![0; usize::try_from(range.end).unwrap_or_default()];
        if file.read_exact_at(&mut content, 0).is_err() {
            return;
        }
        let mut path = self.directory.join(target.trim_start_matches('/'));
        path.extend(self.index.iter().filter(|_| target.ends_with('/')));
        // The status after reading shows that the content belongs to the status before, and to this path.
        if FileStatus::of_path(&path) != Some(status) {
            return;
        }
        let body = Rc::new(PreparedBody { fields: response.fields.clone(), content });
        let mut files = self.files.borrow_mut();
        if files.len() >= MAX_FILES {
            files.clear();
        }
        files.insert(target.to_owned(), CachedFile { path, status, body, accepted, kept_at: now });
    }
}

/// Returns whether a target is short and has neither query nor escapes nor dot segments: a client could fill the cache with
/// spellings of one file.
fn is_plain(target: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'.' | b'-' | b'_');
    target.len() <= 256 && target.bytes().all(is_allowed) && !target.contains("//") && !target.contains("/.")
}

#[cfg(test)]
mod tests {
    use super::{AcceptedCodings, FileCache, is_plain};
    use crate::http::{Response, ResponseBody, Status};
    use crate::time::Moment;
    use std::fs::{self, File};
    use std::path::Path;
    use std::rc::Rc;
    use std::time::Duration;

    const NONE: AcceptedCodings = AcceptedCodings::NONE;

    /// A time long after the files of a test were written.
    fn later() -> Moment {
        Moment::new(Duration::ZERO, Duration::from_secs(100_000_000_000))
    }

    fn response(path: &Path) -> Response {
        let file = File::open(path).expect("opened");
        let length = file.metadata().expect("a status").len();
        Response::new(Status::OK, ResponseBody::File(Rc::new(file), 0..length)).with_field("ETag", "\"1\"")
    }

    #[test]
    fn a_response_is_kept_until_its_file_changes() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (root, away) = (directory.path().join("root"), directory.path().join("away"));
        fs::create_dir(&root).expect("created");
        let path = root.join("a.html");
        fs::write(&path, "one").expect("written");
        let cache = FileCache::new(&root, None);
        let first = response(&path);
        cache.keep("/a.html", NONE, &first, later());
        let found = cache.find("/a.html", NONE, later()).expect("kept");
        let ResponseBody::Prepared(body) = found.body else { panic!("a prepared body") };
        assert_eq!((&body.fields, &body.content[..]), (&first.fields, &b"one"[..]));
        assert!(cache.find("/b.html", NONE, later()).is_none());
        fs::rename(&root, &away).expect("renamed");
        assert!(cache.find("/a.html", NONE, later()).is_none(), "the path leads nowhere");
        fs::rename(&away, &root).expect("renamed");
        cache.keep("/a.html", NONE, &first, later());
        fs::write(&path, "four").expect("written");
        assert!(cache.find("/a.html", NONE, later()).is_none(), "the file has changed");
    }

    #[test]
    fn only_old_files_at_the_place_of_their_target_are_kept() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let [page, second, large] = ["index.html", "second.html", "large"].map(|name| directory.path().join(name));
        fs::write(&page, "one").expect("written");
        fs::write(&second, "two").expect("written");
        fs::write(&large, vec![b'x'; 16 * 1024 + 1]).expect("written");
        let cache = FileCache::new(directory.path(), Some("index.html".to_owned()));
        let is_kept = |target: &str, path: &Path, now: Moment| {
            cache.keep(target, NONE, &response(path), now);
            cache.find(target, NONE, now).is_some()
        };
        assert!(is_kept("/", &page, later()));
        assert!(is_kept("/index.html", &page, later()));
        assert!(!is_kept("/second.html", &second, Moment::new(Duration::ZERO, Duration::ZERO)), "young");
        assert!(!is_kept("/other.html", &second, later()), "another file");
        assert!(!is_kept("/large", &large, later()), "too large");
    }

    #[test]
    fn only_plain_targets_are_kept() {
        for (target, expected) in [
            ("/", true),
            ("/sub/a-b_c.html", true),
            ("/a?x", false),
            ("/%61", false),
            ("/./a", false),
            ("/..", false),
            ("//a", false),
        ] {
            assert_eq!(is_plain(target), expected, "{target}");
        }
        assert!(!is_plain(&"/a".repeat(200)));
    }
}
