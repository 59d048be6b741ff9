//! Response to a request for a file of the site.
//!
//! Owns the mapping of paths, files and errors to statuses, and the check that the root is still the directory that its
//! path names. Does not send anything.

use std::cell::RefCell;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::file_cache::FileCache;
use super::site_args::{SiteArgs, Target};
use super::{file_response, listing_response};
use crate::commands::web::{error_page, other_method_response};
use crate::http::{Request, Response, Status};
use crate::site::{Entry, FileStatus, MediaTypes, OpenError, PathError, Root, SitePath};
use crate::time::Moment;

/// Page of the site for paths that do not exist, as on common hosting services.
const NOT_FOUND_PAGE: &str = "404.html";

/// Settings of the site, shared by all threads.
#[derive(Debug)]
pub(super) struct SiteConfig {
    args: SiteArgs,
    target: Target,
    /// The note that the root is gone was printed.
    is_gone: AtomicBool,
}

impl SiteConfig {
    pub(super) fn new(args: &SiteArgs, target: Target) -> Self {
        Self { args: args.clone(), target, is_gone: AtomicBool::new(false) }
    }
}

/// One thread's handle to the site.
pub(super) struct SiteHandle {
    config: Arc<SiteConfig>,
    /// Absent while the directory does not exist.
    root: RefCell<Option<Arc<Root>>>,
    media_types: MediaTypes,
    cache: FileCache,
    report: Box<dyn Fn(String)>,
}

impl SiteHandle {
    pub(super) fn new(config: Arc<SiteConfig>, root: Arc<Root>, report: Box<dyn Fn(String)>) -> Self {
        let media_types = MediaTypes::new(&config.args.mime);
        let cache = FileCache::new(&config.target.directory, config.args.index.first().cloned());
        Self { config, root: RefCell::new(Some(root)), media_types, cache, report }
    }

    /// Chooses the response to a request.
    pub(super) fn respond(&self, request: &Request<'_>, now: Moment) -> Response {
        let is_plain = matches!(request.method, "GET" | "HEAD") && request.conditions.is_empty();
        if let Some(response) = is_plain.then(|| self.cache.find(request.target)).flatten() {
            return response;
        }
        let response = other_method_response(request).unwrap_or_else(|| match self.current_root() {
            Some(root) => self.site_response(&root, request, now),
            None => error_page(Status::SERVICE_UNAVAILABLE, "The directory of this site does not exist at the moment.")
                .with_field("Retry-After", "1")
                .because("the root directory does not exist"),
        });
        let response = self.with_common_fields(response);
        if is_plain {
            self.cache.keep(request.target, &response, now);
        }
        response
    }

    /// Creates the response to a request that the session rejects.
    pub(super) fn error_response(&self, status: Status, reason: &str) -> Response {
        self.with_common_fields(error_page(status, reason))
    }

    fn with_common_fields(&self, mut response: Response) -> Response {
        response.replace_field("Cache-Control", "no-cache");
        for field in &self.config.args.header {
            response.replace_field(&field.name, &field.value);
        }
        response
    }

    /// Returns the root, opened anew if its path names another directory than before: a build may remove the directory
    /// and make it again. Checked for each request, so that the next one gets the new content.
    fn current_root(&self) -> Option<Arc<Root>> {
        let mut current = self.root.borrow_mut();
        if !current.as_ref().is_some_and(|root| root.is_current()) {
            *current = Root::open(&self.config.target.directory).ok().map(Arc::new);
            let is_gone = current.is_none();
            if self.config.is_gone.swap(is_gone, Ordering::Relaxed) != is_gone {
                let path = self.config.args.path().display();
                let what =
                    if is_gone { "does not exist any more; requests get 503 until it does" } else { "exists again" };
                (self.report)(format!("{path} {what}"));
            }
        }
        current.clone()
    }

    fn site_response(&self, root: &Root, request: &Request<'_>, now: Moment) -> Response {
        let path = match SitePath::parse(request.target) {
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
        let (path, entry) = match &self.config.target.only {
            Some(only) => {
                let named = SitePath::of_file(only.name.as_bytes());
                if !path.is_root() && path != named {
                    return self.not_found(root, "not the file that is served");
                }
                (named, root.open_entry(&SitePath::of_file(only.file.as_bytes())))
            }
            None if path.has_dot_name() && !self.config.args.hidden => {
                return self.not_found(root, "the name begins with a dot (--hidden serves it)");
            }
            None => {
                let entry = root.open_entry(&path);
                (path, entry)
            }
        };
        match entry {
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
            Ok(Entry::File(file, status)) if self.config.target.only.is_none() => {
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
mod tests;
