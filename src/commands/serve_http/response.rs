//! Response to a request for a file of the site.
//!
//! Owns the mapping of paths, files and errors to statuses. Does not send anything.

use std::fs::File;
use std::rc::Rc;
use std::sync::Arc;

use crate::commands::web::{error_page, other_method_response};
use crate::http::{HttpDate, Request, Response, ResponseBody, Status};
use crate::site::{self, Entry, OpenError, PathError, Root, SitePath};
use crate::time::Moment;

/// One thread's handle to the root directory and the index file names.
#[derive(Debug)]
pub(super) struct SiteHandle {
    shared: Arc<(Root, Vec<String>)>,
}

impl SiteHandle {
    pub(super) fn new(shared: Arc<(Root, Vec<String>)>) -> Self {
        Self { shared }
    }

    /// Chooses the response to a request.
    pub(super) fn respond(&self, request: &Request<'_>, now: Moment) -> Response {
        if let Some(response) = other_method_response(request) {
            return response;
        }
        let path = match SitePath::parse(request.target) {
            Ok(path) => path,
            Err(PathError::InvalidEscape) => {
                return error_page(Status::BAD_REQUEST, "The path has an invalid % escape.");
            }
            Err(PathError::AboveRoot) => return error_page(Status::BAD_REQUEST, "The path leads above the root."),
        };
        let (root, _) = &*self.shared;
        match root.open_entry(&path) {
            Ok(Entry::File { .. }) if path.is_directory() => not_found(),
            Ok(Entry::File { file, length, modified }) => {
                file_response(request, file, length, modified, site::media_type(path.file_name()), now)
            }
            Ok(Entry::Directory(_)) if !path.is_directory() => redirect_to_slash(&path, request.target),
            Ok(Entry::Directory(directory)) => self.directory_response(request, &path, &directory, now),
            Err(error) => open_error_response(error),
        }
    }

    fn directory_response(
        &self,
        request: &Request<'_>,
        path: &SitePath,
        directory: &std::os::fd::OwnedFd,
        now: Moment,
    ) -> Response {
        let (root, index) = &*self.shared;
        for name in index {
            match root.open_child(path, name) {
                Ok(Entry::File { file, length, modified }) => {
                    return file_response(request, file, length, modified, site::media_type(name.as_ref()), now);
                }
                Ok(Entry::Directory(_)) | Err(OpenError::NotFound) => {}
                Err(error) => return open_error_response(error),
            }
        }
        match root.read_dir(path, directory) {
            Ok((entries, is_truncated)) => {
                Response::html(Status::OK, site::render_listing(path, &entries, is_truncated))
            }
            Err(_) => open_error_response(OpenError::Io),
        }
    }
}

/// Returns the file, or 304 if the client has this version.
fn file_response(
    request: &Request<'_>,
    file: File,
    length: u64,
    modified: i64,
    media_type: String,
    now: Moment,
) -> Response {
    let modified = HttpDate::from_mtime(modified, HttpDate::from_wall_time(now.wall()));
    // RFC 9110 §13.1.3: an invalid date is ignored.
    let known = request.if_modified_since.and_then(HttpDate::parse);
    let response = if known.is_some_and(|known| modified <= known) {
        Response::new(Status::NOT_MODIFIED, ResponseBody::Empty)
    } else {
        Response::new(Status::OK, ResponseBody::File(Rc::new(file), length)).with_field("Content-Type", media_type)
    };
    response.with_field("Last-Modified", modified.to_string())
}

fn not_found() -> Response {
    error_page(Status::NOT_FOUND, "This file does not exist.")
}

/// Redirects to the same path with a trailing `/`, so that relative links of the page resolve. The query is kept.
fn redirect_to_slash(path: &SitePath, target: &str) -> Response {
    let query = target.find('?').and_then(|at| target.get(at..)).unwrap_or_default();
    let location = format!("{}{query}", path.directory_url());
    error_page(Status::MOVED_PERMANENTLY, "This is a directory; its URL ends in a slash.")
        .with_field("Location", location)
}

fn open_error_response(error: OpenError) -> Response {
    match error {
        OpenError::NotFound => not_found(),
        OpenError::Forbidden => error_page(Status::FORBIDDEN, "Access to this file is not allowed."),
        OpenError::Exhausted => error_page(Status::SERVICE_UNAVAILABLE, "The server is busy; try again later.")
            .with_field("Retry-After", "1"),
        OpenError::Io => error_page(Status::INTERNAL_SERVER_ERROR, "The server failed to read this file."),
    }
}

#[cfg(test)]
mod tests {
    use super::SiteHandle;
    use crate::http::{Request, Response, ResponseBody};
    use crate::site::Root;
    use crate::time::Moment;
    use std::fs;
    use std::sync::Arc;
    use std::time::Duration;

    fn site() -> (tempfile::TempDir, SiteHandle) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir_all(directory.path().join("with index")).expect("created");
        fs::create_dir(directory.path().join("bare")).expect("created");
        fs::write(directory.path().join("a.html"), "hello").expect("written");
        fs::write(directory.path().join("with index/index.htm"), "index").expect("written");
        let root = Root::open(directory.path()).expect("just created");
        (directory, SiteHandle::new(Arc::new((root, vec!["index.html".into(), "index.htm".into()]))))
    }

    fn respond(site: &SiteHandle, first_line: &str, fields: &str) -> Response {
        let head = format!("{first_line} HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        let request = Request::parse(head.as_bytes()).expect("well-formed");
        site.respond(&request, Moment::new(Duration::ZERO, Duration::from_secs(4_000_000_000)))
    }

    fn field<'d>(response: &'d Response, name: &str) -> Option<&'d str> {
        response.fields.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn each_request_has_its_status() {
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
            assert_eq!(respond(&site, line, "").status.code(), status, "{line}");
        }
    }

    #[test]
    fn a_directory_without_its_slash_redirects_with_the_query() {
        let (_directory, site) = site();
        assert_eq!(field(&respond(&site, "GET //with%20index?a=b", ""), "Location"), Some("/with%20index/?a=b"));
    }

    #[test]
    fn the_first_existing_index_file_is_sent() {
        let (_directory, site) = site();
        let response = respond(&site, "GET /with%20index/", "");
        assert!(matches!(response.body, ResponseBody::File(_, 5)));
        assert_eq!(field(&response, "Content-Type"), Some("text/html; charset=utf-8"));
    }

    #[test]
    fn a_file_that_has_not_changed_is_not_sent_again() {
        let (_directory, site) = site();
        let modified = respond(&site, "GET /a.html", "");
        let modified = field(&modified, "Last-Modified").expect("a date");
        let status =
            |value: &str| respond(&site, "GET /a.html", &format!("If-Modified-Since: {value}\r\n")).status.code();
        assert_eq!(status(modified), 304);
        assert_eq!(status("Sun, 06 Nov 1994 08:49:37 GMT"), 200);
        assert_eq!(status("yesterday"), 200);
    }

    #[test]
    fn method_not_allowed_lists_the_allowed_methods() {
        let (_directory, site) = site();
        assert_eq!(field(&respond(&site, "DELETE /a.html", ""), "Allow"), Some("GET, HEAD, OPTIONS"));
    }
}
