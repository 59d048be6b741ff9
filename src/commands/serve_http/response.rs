//! Response to a request for a file of the site.
//!
//! Owns the mapping of paths, files and errors to statuses, and the check that the root is still the directory that its
//! path names. Does not send anything.

use std::cell::RefCell;
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::site_args::SiteArgs;
use super::{file_response, listing_response};
use crate::commands::web::{error_page, other_method_response};
use crate::http::{Request, Response, Status};
use crate::site::{Entry, FileStatus, MediaTypes, OpenError, PathError, Root, SitePath};
use crate::time::Moment;

/// Time between two checks of the root: a build may remove the directory and make it again. Short, so that the next
/// request of a person or a script gets the new content; under load, one of many requests makes the check.
const ROOT_CHECK_INTERVAL: Duration = Duration::from_millis(1);
/// Page of the site for paths that do not exist, as on common hosting services.
const NOT_FOUND_PAGE: &str = "404.html";

/// Settings of the site, shared by all threads.
#[derive(Debug)]
pub(super) struct SiteConfig {
    args: SiteArgs,
    /// Name of the only file that is served.
    only: Option<OsString>,
    /// The note that the root is gone was printed.
    is_gone: AtomicBool,
}

impl SiteConfig {
    pub(super) fn new(args: &SiteArgs) -> Self {
        Self { args: args.clone(), only: args.target().1, is_gone: AtomicBool::new(false) }
    }
}

/// One thread's handle to the site.
pub(super) struct SiteHandle {
    config: Arc<SiteConfig>,
    root: RefCell<CurrentRoot>,
    media_types: MediaTypes,
    report: Box<dyn Fn(String)>,
}

struct CurrentRoot {
    /// Absent while the directory does not exist.
    root: Option<Arc<Root>>,
    next_check: Moment,
}

impl SiteHandle {
    pub(super) fn new(config: Arc<SiteConfig>, root: Arc<Root>, report: Box<dyn Fn(String)>, now: Moment) -> Self {
        let root = CurrentRoot { root: Some(root), next_check: now + ROOT_CHECK_INTERVAL };
        let media_types = MediaTypes::new(&config.args.mime);
        Self { config, root: RefCell::new(root), media_types, report }
    }

    /// Chooses the response to a request.
    pub(super) fn respond(&self, request: &Request<'_>, now: Moment) -> Response {
        let mut response = other_method_response(request).unwrap_or_else(|| match self.current_root(now) {
            Some(root) => self.site_response(&root, request, now),
            None => error_page(Status::SERVICE_UNAVAILABLE, "The directory of this site does not exist at the moment.")
                .with_field("Retry-After", "1")
                .because("the root directory does not exist"),
        });
        response.replace_field("Cache-Control", "no-cache");
        for field in &self.config.args.header {
            response.replace_field(&field.name, &field.value);
        }
        response
    }

    /// Returns the root, opened anew if its path names another directory than before.
    fn current_root(&self, now: Moment) -> Option<Arc<Root>> {
        let mut current = self.root.borrow_mut();
        if current.next_check <= now {
            current.next_check = now + ROOT_CHECK_INTERVAL;
            if !current.root.as_ref().is_some_and(|root| root.is_current()) {
                current.root = Root::open(self.config.args.target().0).ok().map(Arc::new);
                let is_gone = current.root.is_none();
                if self.config.is_gone.swap(is_gone, Ordering::Relaxed) != is_gone {
                    let path = self.config.args.path().display();
                    let what = if is_gone {
                        "does not exist any more; requests get 503 until it does"
                    } else {
                        "exists again"
                    };
                    (self.report)(format!("{path} {what}\n"));
                }
            }
        }
        current.root.clone()
    }

    fn site_response(&self, root: &Root, request: &Request<'_>, now: Moment) -> Response {
        let mut path = match SitePath::parse(request.target) {
            Ok(path) => path,
            Err(PathError::InvalidEscape) => {
                return error_page(Status::BAD_REQUEST, "The path has an invalid % escape.")
                    .because("invalid % escape");
            }
            Err(PathError::AboveRoot) => {
                return error_page(Status::BAD_REQUEST, "The path leads above the root.")
                    .because("the path leads above the root");
            }
        };
        if let Some(only) = &self.config.only {
            if path.is_root() {
                path = SitePath::of_file(only.as_bytes());
            } else if path != SitePath::of_file(only.as_bytes()) {
                return self.not_found(root, "not the file that is served");
            }
        } else if path.has_dot_name() && !self.config.args.hidden {
            return self.not_found(root, "the name begins with a dot (--hidden serves it)");
        }
        match root.open_entry(&path) {
            Ok(Entry::File(..)) if path.is_directory() => self.not_found(root, "a file, not a directory"),
            Ok(Entry::File(file, status)) => self.file_response(request, (file, status), path.file_name(), now),
            Ok(Entry::Directory(_)) if !path.is_directory() => redirect_to_slash(&path, request.target),
            Ok(Entry::Directory(directory)) => self.directory_response(root, request, (&path, &directory), now),
            Err(error) => self.open_error_response(root, error),
        }
    }

    fn file_response(
        &self,
        request: &Request<'_>,
        (file, status): (File, FileStatus),
        name: &Path,
        now: Moment,
    ) -> Response {
        let media_type = self.media_types.of(name, &file, &status);
        file_response::respond(request, (file, status), &media_type, now)
    }

    fn directory_response(
        &self,
        root: &Root,
        request: &Request<'_>,
        (path, directory): (&SitePath, &OwnedFd),
        now: Moment,
    ) -> Response {
        for name in &self.config.args.index {
            match root.open_child(path, name) {
                Ok(Entry::File(file, status)) => {
                    return self.file_response(request, (file, status), name.as_ref(), now);
                }
                Ok(Entry::Directory(_)) | Err(OpenError::NotFound) => {}
                Err(error) => return self.open_error_response(root, error),
            }
        }
        if self.config.args.no_listing {
            return self.not_found(root, "no index file, and no listing (--no-listing)");
        }
        match root.read_dir(path, directory, self.config.args.hidden) {
            Ok(listing) => listing_response::respond(path, &listing, now),
            Err(_) => self.open_error_response(root, OpenError::Io),
        }
    }

    fn open_error_response(&self, root: &Root, error: OpenError) -> Response {
        match error {
            OpenError::NotFound => self.not_found(root, "no such file"),
            OpenError::Outside => self.not_found(root, "a symbolic link leads out of the root"),
            OpenError::Forbidden => error_page(Status::FORBIDDEN, "Access to this file is not allowed.")
                .because("permission denied, or not a regular file"),
            OpenError::Exhausted => error_page(Status::SERVICE_UNAVAILABLE, "The server is busy; try again later.")
                .with_field("Retry-After", "1")
                .because("out of file descriptors or memory"),
            OpenError::Io => error_page(Status::INTERNAL_SERVER_ERROR, "The server failed to read this file.")
                .because("cannot read the file"),
        }
    }

    /// Returns 404 with the page of the site, or else with our own.
    fn not_found(&self, root: &Root, reason: &'static str) -> Response {
        let page = SitePath::of_file(NOT_FOUND_PAGE.as_bytes());
        let response = match root.open_entry(&page) {
            Ok(Entry::File(file, status)) if self.config.only.is_none() => {
                let media_type = self.media_types.of(page.file_name(), &file, &status);
                file_response::whole(Status::NOT_FOUND, (file, status), &media_type)
            }
            _ => error_page(Status::NOT_FOUND, "This file does not exist."),
        };
        response.because(reason)
    }
}

/// Redirects to the same path with a trailing `/`, so that relative links of the page resolve. The query is kept. The
/// location is relative, because a proxy may serve this site below a path of its own.
fn redirect_to_slash(path: &SitePath, target: &str) -> Response {
    let query = target.find('?').and_then(|at| target.get(at..)).unwrap_or_default();
    let location = format!("{}{query}", path.relative_directory_url());
    error_page(Status::MOVED_PERMANENTLY, "This is a directory; its URL ends in a slash.")
        .with_field("Location", location)
}

#[cfg(test)]
mod tests {
    use super::{ROOT_CHECK_INTERVAL, SiteConfig, SiteHandle};
    use crate::commands::serve_http::site_args::SiteArgs;
    use crate::http::{Request, Response, ResponseBody};
    use crate::time::Moment;
    use std::fs;
    use std::path::PathBuf;
    use std::sync::Arc;
    use std::time::Duration;

    const NOW: Moment = Moment::new(Duration::ZERO, Duration::from_secs(4_000_000_000));

    fn args() -> SiteArgs {
        let index = vec!["index.html".into(), "index.htm".into()];
        SiteArgs { root: PathBuf::new(), index, no_listing: false, hidden: false, header: vec![], mime: vec![] }
    }

    fn handle(args: &SiteArgs) -> SiteHandle {
        let root = args.open_root().expect("just created");
        SiteHandle::new(Arc::new(SiteConfig::new(args)), Arc::new(root), Box::new(drop), NOW)
    }

    fn site() -> (tempfile::TempDir, SiteHandle) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir_all(directory.path().join("with index")).expect("created");
        fs::create_dir(directory.path().join("bare")).expect("created");
        fs::write(directory.path().join("a.html"), "hello").expect("written");
        fs::write(directory.path().join("with index/index.htm"), "index").expect("written");
        let handle = handle(&SiteArgs { root: directory.path().to_owned(), ..args() });
        (directory, handle)
    }

    fn respond(site: &SiteHandle, first_line: &str, fields: &str) -> Response {
        let head = format!("{first_line} HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        let request = Request::parse(head.as_bytes()).expect("well-formed");
        site.respond(&request, NOW)
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
        for (target, location) in [
            ("/with%20index?a=b", "./with%20index/?a=b"),
            // Behind a proxy with a path prefix, an absolute path would lead elsewhere.
            ("//with%20index", "./with%20index/"),
        ] {
            assert_eq!(field(&respond(&site, &format!("GET {target}"), ""), "Location"), Some(location), "{target}");
        }
    }

    #[test]
    fn the_first_existing_index_file_is_sent() {
        let (_directory, site) = site();
        let response = respond(&site, "GET /with%20index/", "");
        assert!(matches!(&response.body, ResponseBody::File(_, range) if *range == (0..5)));
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

    /// Status of a request at a later time, when the root is checked again.
    fn later(site: &SiteHandle, target: &str) -> u16 {
        let head = format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n");
        let request = Request::parse(head.as_bytes()).expect("well-formed");
        site.respond(&request, NOW + ROOT_CHECK_INTERVAL).status.code()
    }

    #[test]
    fn a_root_that_is_made_again_is_served() {
        let parent = tempfile::tempdir().expect("a temporary directory");
        let root = parent.path().join("dist");
        let make = |name: &str| {
            fs::create_dir(&root).expect("created");
            fs::write(root.join(name), "hello").expect("written");
        };
        make("old");
        let site = handle(&SiteArgs { root: root.clone(), ..args() });
        fs::rename(&root, parent.path().join("away")).expect("renamed");
        make("new");
        assert_eq!((later(&site, "/old"), later(&site, "/new")), (404, 200));
        let gone = handle(&SiteArgs { root: root.clone(), ..args() });
        fs::remove_dir_all(&root).expect("removed");
        assert_eq!(later(&gone, "/new"), 503);
    }

    #[test]
    fn dot_names_are_hidden_unless_asked_for() {
        let (directory, site) = site();
        fs::write(directory.path().join(".env"), "secret").expect("written");
        fs::create_dir_all(directory.path().join(".well-known/acme")).expect("created");
        fs::write(directory.path().join(".well-known/acme/token"), "x").expect("written");
        fs::create_dir(directory.path().join("..data")).expect("created");
        fs::write(directory.path().join("..data/real"), "x").expect("written");
        std::os::unix::fs::symlink("..data/real", directory.path().join("link")).expect("linked");
        let status = |site: &SiteHandle, path: &str| respond(site, &format!("GET {path}"), "").status.code();
        for (path, code) in [("/.env", 404), ("/.well-known/acme/token", 200), ("/..data/real", 404), ("/link", 200)] {
            assert_eq!(status(&site, path), code, "{path}");
        }
        let open = handle(&SiteArgs { root: directory.path().to_owned(), hidden: true, ..args() });
        assert_eq!(status(&open, "/.env"), 200);
    }

    #[test]
    fn a_single_file_is_served_under_its_name_and_at_the_root() {
        let (directory, _) = site();
        let site = handle(&SiteArgs { root: directory.path().join("a.html"), ..args() });
        for (path, code) in [("/", 200), ("/a.html", 200), ("/a.html/", 404), ("/bare/", 404), ("/with%20index/", 404)]
        {
            assert_eq!(respond(&site, &format!("GET {path}"), "").status.code(), code, "{path}");
        }
    }

    #[test]
    fn the_site_has_its_own_page_for_paths_that_do_not_exist() {
        let (directory, site) = site();
        fs::write(directory.path().join("404.html"), "nothing").expect("written");
        let response = respond(&site, "GET /absent", "Range: bytes=0-0\r\n");
        assert_eq!(response.status.code(), 404);
        assert!(matches!(&response.body, ResponseBody::File(_, range) if *range == (0..7)));
        assert_eq!(response.reason, Some("no such file"));
    }

    #[test]
    fn fields_of_the_user_replace_the_defaults() {
        let (directory, site) = site();
        assert_eq!(field(&respond(&site, "GET /a.html", ""), "Cache-Control"), Some("no-cache"));
        let header = ["Cache-Control: max-age=60", "X-Lab: yes"].map(|text| text.parse().expect("a field"));
        let site = handle(&SiteArgs { root: directory.path().to_owned(), header: header.to_vec(), ..args() });
        let response = respond(&site, "GET /a.html", "");
        assert_eq!(field(&response, "Cache-Control"), Some("max-age=60"));
        assert_eq!(field(&response, "X-Lab"), Some("yes"));
    }

    #[test]
    fn without_listing_a_directory_needs_an_index_file() {
        let (directory, _) = site();
        let site = handle(&SiteArgs { root: directory.path().to_owned(), no_listing: true, ..args() });
        assert_eq!(respond(&site, "GET /bare/", "").status.code(), 404);
        assert_eq!(respond(&site, "GET /with%20index/", "").status.code(), 200);
    }

    #[test]
    fn method_not_allowed_lists_the_allowed_methods() {
        let (_directory, site) = site();
        assert_eq!(field(&respond(&site, "DELETE /a.html", ""), "Allow"), Some("GET, HEAD, OPTIONS"));
    }
}
