//! Cache of one thread: complete responses with small files.
//!
//! Each use is preceded by one `stat`, which finds a changed file, another root directory and a switched link at once, so
//! that no response is older than its request. A file that changed a moment ago is not kept: it may change again without a
//! new time of change.

use std::cell::RefCell;
use std::collections::HashMap;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::rc::Rc;

use crate::http::{PreparedBody, Response, ResponseBody, Status};
use crate::site::FileStatus;

/// Maximum size of a file that is kept.
const MAX_FILE_BYTES: u64 = 16 * 1024;
/// Maximum number of files; one more empties the cache.
const MAX_FILES: usize = 256;

#[derive(Debug, Default)]
pub(super) struct FileCache {
    files: RefCell<HashMap<String, CachedFile>>,
}

#[derive(Debug)]
struct CachedFile {
    path: PathBuf,
    status: FileStatus,
    body: Rc<PreparedBody>,
}

impl FileCache {
    /// Returns the response to an unconditional request if the file has not changed since it was read.
    pub(super) fn find(&self, target: &str) -> Option<Response> {
        let mut files = self.files.borrow_mut();
        let CachedFile { path, status, body } = files.get(target)?;
        if FileStatus::of_path(path).as_ref() == Some(status) {
            return Some(Response::new(Status::OK, ResponseBody::Prepared(Rc::clone(body))));
        }
        files.remove(target);
        None
    }

    /// Keeps the response to a request if it is a whole small file, found under the plain path of its target.
    pub(super) fn keep(&self, target: &str, (path, status): (PathBuf, FileStatus), response: &Response) {
        let ResponseBody::File(file, range) = &response.body else { return };
        if response.status != Status::OK || status.length > MAX_FILE_BYTES || !is_plain(target) {
            return;
        }
        let Some(fields) = response.encoded_fields() else { return };
        let mut content = vec![0; usize::try_from(range.end).unwrap_or_default()];
        // The status after reading shows that the content belongs to the status before.
        if file.read_exact_at(&mut content, 0).is_err() || FileStatus::of_file(file) != Some(status) {
            return;
        }
        let body = Rc::new(PreparedBody { fields, content });
        let mut files = self.files.borrow_mut();
        if files.len() >= MAX_FILES {
            files.clear();
        }
        files.insert(target.to_owned(), CachedFile { path, status, body });
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
    use super::{FileCache, is_plain};
    use crate::http::{Response, ResponseBody, Status};
    use crate::site::FileStatus;
    use std::fs::{self, File};
    use std::rc::Rc;

    #[test]
    fn a_response_is_kept_until_its_file_changes() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("a.html");
        fs::write(&path, "one").expect("written");
        let cache = FileCache::default();
        let status = FileStatus::of_path(&path).expect("a file");
        let file = Rc::new(File::open(&path).expect("opened"));
        let response = Response::new(Status::OK, ResponseBody::File(file, 0..3)).with_field("ETag", "\"1\"");
        cache.keep("/a.html", (path.clone(), status), &response);
        let found = cache.find("/a.html").expect("kept");
        let ResponseBody::Prepared(body) = found.body else { panic!("a prepared body") };
        assert_eq!((&body.fields[..], &body.content[..]), (&b"ETag: \"1\"\r\n"[..], &b"one"[..]));
        assert!(cache.find("/b.html").is_none());
        fs::rename(directory.path(), directory.path().with_extension("away")).expect("renamed");
        assert!(cache.find("/a.html").is_none(), "the path leads nowhere");
        fs::rename(directory.path().with_extension("away"), directory.path()).expect("renamed");
        cache.keep("/a.html", (path.clone(), status), &response);
        fs::write(&path, "four").expect("written");
        assert!(cache.find("/a.html").is_none(), "another length");
        cache.keep("/a.html", (path, status), &response);
        assert!(cache.find("/a.html").is_none(), "the content is not that of the status");
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
