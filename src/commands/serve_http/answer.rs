//! What to answer: a request on one side, the site on the other.
//!
//! Owns the table from what a path names to a status. It decides and does not send.

use std::fs::File;
use std::rc::Rc;
use std::sync::Arc;

use crate::commands::web::{Body, Decision};
use crate::http::{HttpDate, Request, Status};
use crate::site::{self, BadPath, Entry, NotServed, Root, SitePath};
use crate::time::Moment;

/// The site as one thread sees it.
#[derive(Debug)]
pub struct Site {
    shared: Arc<(Root, Vec<String>)>,
}

impl Site {
    /// A thread's view of the root and its index names.
    pub fn new(shared: Arc<(Root, Vec<String>)>) -> Self {
        Self { shared }
    }

    /// What a request gets.
    pub fn decide(&self, request: &Request<'_>, now: Moment) -> Decision {
        if let Some(decision) = Decision::unless_read(request, "files") {
            return decision;
        }
        let path = match SitePath::parse(request.target) {
            Ok(path) => path,
            Err(BadPath::Escape) => return Decision::error(Status::BAD_REQUEST, "The path holds a broken % escape."),
            Err(BadPath::AboveRoot) => return Decision::error(Status::BAD_REQUEST, "The path leads above the root."),
        };
        let (root, _) = &*self.shared;
        match root.entry(&path) {
            Ok(Entry::File { .. }) if path.is_directory() => absent(),
            Ok(Entry::File { file, length, modified }) => {
                shown(request, file, length, modified, site::media_type(path.file_name()), now)
            }
            Ok(Entry::Directory(_)) if !path.is_directory() => redirect(&path, request.target),
            Ok(Entry::Directory(directory)) => self.directory(request, &path, &directory, now),
            Err(reason) => not_served(reason),
        }
    }

    fn directory(
        &self,
        request: &Request<'_>,
        path: &SitePath,
        directory: &std::os::fd::OwnedFd,
        now: Moment,
    ) -> Decision {
        let (root, index) = &*self.shared;
        for name in index {
            match root.within(path, name) {
                Ok(Entry::File { file, length, modified }) => {
                    return shown(request, file, length, modified, site::media_type(name.as_ref()), now);
                }
                Ok(Entry::Directory(_)) | Err(NotServed::Absent) => {}
                Err(reason) => return not_served(reason),
            }
        }
        match root.names(path, directory) {
            Ok((names, more)) => Decision::html(Status::OK, site::listing(path, &names, more)),
            Err(_) => not_served(NotServed::Failed),
        }
    }
}

/// A file, unless the client has it already.
fn shown(request: &Request<'_>, file: File, length: u64, modified: i64, media_type: String, now: Moment) -> Decision {
    let modified = HttpDate::of_file(modified, HttpDate::at(now.wall()));
    // RFC 9110 §13.1.3: an unreadable date is ignored.
    let known = request.if_modified_since.and_then(HttpDate::parse);
    let decision = if known.is_some_and(|known| modified <= known) {
        Decision::new(Status::NOT_MODIFIED, Body::Empty)
    } else {
        Decision::new(Status::OK, Body::File(Rc::new(file), length)).with("Content-Type", media_type)
    };
    decision.with("Last-Modified", modified.to_string())
}

fn absent() -> Decision {
    Decision::error(Status::NOT_FOUND, "There is no such file here.")
}

/// To the same name with `/` behind it, so that the page's relative links lead into it. The query
/// goes along.
fn redirect(path: &SitePath, target: &str) -> Decision {
    let query = target.find('?').and_then(|at| target.get(at..)).unwrap_or_default();
    let location = format!("{}{query}", path.directory_url());
    Decision::error(Status::MOVED_PERMANENTLY, "This is a directory; its address ends in a slash.")
        .with("Location", location)
}

fn not_served(reason: NotServed) -> Decision {
    match reason {
        NotServed::Absent => absent(),
        NotServed::Forbidden => Decision::error(Status::FORBIDDEN, "This server may not read that file."),
        NotServed::Exhausted => Decision::error(Status::SERVICE_UNAVAILABLE, "Too busy to open a file at the moment.")
            .with("Retry-After", "1"),
        NotServed::Failed => Decision::error(Status::INTERNAL_SERVER_ERROR, "The file cannot be read."),
    }
}

#[cfg(test)]
mod tests {
    use super::Site;
    use crate::commands::web::{Body, Decision};
    use crate::http::Request;
    use crate::site::Root;
    use crate::time::Moment;
    use std::fs;
    use std::sync::Arc;
    use std::time::Duration;

    fn site() -> (tempfile::TempDir, Site) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir_all(directory.path().join("with index")).expect("created");
        fs::create_dir(directory.path().join("bare")).expect("created");
        fs::write(directory.path().join("a.html"), "hello").expect("written");
        fs::write(directory.path().join("with index/index.htm"), "index").expect("written");
        let root = Root::open(directory.path()).expect("just created");
        (directory, Site::new(Arc::new((root, vec!["index.html".into(), "index.htm".into()]))))
    }

    fn decide(site: &Site, first_line: &str, fields: &str) -> Decision {
        let head = format!("{first_line} HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        let request = Request::parse(head.as_bytes()).expect("well-formed");
        site.decide(&request, Moment::new(Duration::ZERO, Duration::from_secs(4_000_000_000)))
    }

    fn field<'d>(decision: &'d Decision, name: &str) -> Option<&'d str> {
        decision.fields.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn paths_become_statuses() {
        let (_directory, site) = site();
        for (line, status) in [
            ("GET /a.html", 200),
            ("HEAD /a.html", 200),
            ("GET /a.html/", 404),
            ("GET /b.html", 404),
            ("GET /with%20index/", 200),
            ("GET /with%20index", 301),
            ("GET /bare/", 200),
            ("GET /../a.html", 400),
            ("GET /%zz", 400),
            ("OPTIONS /a.html", 204),
            ("OPTIONS *", 204),
            ("POST /a.html", 405),
            ("TRACE /", 405),
        ] {
            assert_eq!(decide(&site, line, "").status.code(), status, "{line}");
        }
    }

    #[test]
    fn a_directory_without_its_slash_redirects_with_the_query() {
        let (_directory, site) = site();
        assert_eq!(field(&decide(&site, "GET //with%20index?a=b", ""), "Location"), Some("/with%20index/?a=b"));
    }

    #[test]
    fn the_first_index_that_exists_is_shown() {
        let (_directory, site) = site();
        let decision = decide(&site, "GET /with%20index/", "");
        assert!(matches!(decision.body, Body::File(_, 5)));
        assert_eq!(field(&decision, "Content-Type"), Some("text/html; charset=utf-8"));
    }

    #[test]
    fn a_file_that_has_not_changed_is_not_sent_again() {
        let (_directory, site) = site();
        let modified = decide(&site, "GET /a.html", "");
        let modified = field(&modified, "Last-Modified").expect("a date");
        let status =
            |value: &str| decide(&site, "GET /a.html", &format!("If-Modified-Since: {value}\r\n")).status.code();
        assert_eq!(status(modified), 304);
        assert_eq!(status("Sun, 06 Nov 1994 08:49:37 GMT"), 200);
        assert_eq!(status("yesterday"), 200);
    }

    #[test]
    fn what_is_not_allowed_says_what_is() {
        let (_directory, site) = site();
        assert_eq!(field(&decide(&site, "DELETE /a.html", ""), "Allow"), Some("GET, HEAD, OPTIONS"));
    }
}
