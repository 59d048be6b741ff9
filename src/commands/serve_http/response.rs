//! Response to a request for a file of the site.
//!
//! Owns the mapping of paths, files and errors to statuses, and the check that the root is still the directory that its
//! path names. Does not send anything.

use std::cell::RefCell;
use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::access::AccessRules;
use super::file_cache::FileCache;
use super::listing_response::Directory;
use super::site_args::{OnlyFile, SiteArgs, Target};
use super::{file_response, listing_response};
use crate::commands::web::{error_page, other_method_response};
use crate::http::{AcceptedCodings, FieldLines, Request, Response, Status, accepted_by_name};
use crate::site::{Entry, FileStatus, MediaTypes, OpenError, PathError, Root, SitePath};
use crate::time::Moment;

/// Page of the site for paths that do not exist, as on common hosting services.
const NOT_FOUND_PAGE: &str = "404.html";

/// Settings of the site, shared by all threads.
pub(super) struct SiteConfig {
    args: SiteArgs,
    target: Target,
    access: AccessRules,
    /// Page for paths that do not exist, to browsers.
    spa: Option<SitePath>,
    /// The note that the root is gone was printed.
    is_gone: AtomicBool,
}

impl SiteConfig {
    pub(super) fn new(args: &SiteArgs, target: Target, access: AccessRules) -> Self {
        let spa = args.spa.as_deref().and_then(SitePath::of_relative);
        Self { args: args.clone(), target, access, spa, is_gone: AtomicBool::new(false) }
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
    pub(super) fn respond(&self, request: &Request<'_>, peer: Option<SocketAddr>, now: Moment) -> Response {
        if let Some(response) = self.config.access.reject(request, peer) {
            return self.with_common_fields(response);
        }
        let is_plain = matches!(request.method, "GET" | "HEAD") && !request.fields.has_conditions();
        let accepted = AcceptedCodings::new(request.fields);
        if let Some(response) = is_plain.then(|| self.cache.find(request.target, accepted, now)).flatten() {
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
            self.cache.keep(request.target, accepted, &response, now);
        }
        response
    }

    pub(super) fn client_address(&self, fields: FieldLines<'_>, peer: Option<SocketAddr>) -> Option<IpAddr> {
        self.config.access.client_address(fields, peer)
    }

    /// Creates the response to a request that the session rejects.
    pub(super) fn error_response(&self, status: Status, reason: &str) -> Response {
        self.with_common_fields(error_page(status, reason))
    }

    fn with_common_fields(&self, mut response: Response) -> Response {
        response.replace_field("Cache-Control", "no-cache");
        self.config.access.add_fields(&mut response);
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

    fn site_response(&self, root: &Arc<Root>, request: &Request<'_>, now: Moment) -> Response {
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
        if let Some(only) = &self.config.target.only {
            return self.only_file_response(root, request, (&path, only), now);
        }
        if path.has_dot_name() && !self.config.args.hidden {
            return self.not_found(root, request, "the name begins with a dot (--hidden serves it)", now);
        }
        match root.open_entry(&path) {
            Ok(Entry::File(..)) if path.is_directory() => self.not_found(root, request, "a file, not a directory", now),
            Ok(Entry::File(file, status)) => {
                self.file_response(root, request, (&path, path.file_name()), (file, status), now)
            }
            Ok(Entry::Directory(_)) if !path.is_directory() => redirect_to_slash(&path, request.target),
            Ok(Entry::Directory(descriptor)) => self.directory_response(root, request, (path, descriptor), now),
            Err(error) => self.open_error_response(root, request, error, now),
        }
    }

    /// Returns the only file that is served, under its name and as the root.
    fn only_file_response(
        &self,
        root: &Arc<Root>,
        request: &Request<'_>,
        (path, only): (&SitePath, &OnlyFile),
        now: Moment,
    ) -> Response {
        if !path.is_root() && *path != SitePath::of_file(only.name.as_bytes()) {
            return self.not_found(root, request, "not the file that is served", now);
        }
        let file_path = SitePath::of_file(only.file.as_bytes());
        match root.open_entry(&file_path) {
            Ok(Entry::File(file, status)) => {
                self.file_response(root, request, (&file_path, Path::new(&only.name)), (file, status), now)
            }
            Ok(Entry::Directory(_)) => self.not_found(root, request, "a directory, not a file", now),
            Err(error) => self.open_error_response(root, request, error, now),
        }
    }

    /// Returns a file; `name` decides on its media type.
    fn file_response(
        &self,
        root: &Root,
        request: &Request<'_>,
        (path, name): (&SitePath, &Path),
        (file, status): (File, FileStatus),
        now: Moment,
    ) -> Response {
        let media_type = self.media_types.of(name, &file, &status);
        let representation =
            file_response::negotiate(request, (root, path), (file, status), &media_type, self.config.args.compress);
        file_response::respond(request, representation, &media_type, now)
    }

    fn directory_response(
        &self,
        root: &Arc<Root>,
        request: &Request<'_>,
        (path, descriptor): (SitePath, OwnedFd),
        now: Moment,
    ) -> Response {
        for name in &self.config.args.index {
            let index = path.child(name.as_bytes());
            match root.open_entry(&index) {
                Ok(Entry::File(file, status)) => {
                    return self.file_response(root, request, (&index, name.as_ref()), (file, status), now);
                }
                Ok(Entry::Directory(_)) | Err(OpenError::NotFound) => {}
                Err(error) => return self.open_error_response(root, request, error, now),
            }
        }
        if self.config.args.no_listing {
            return self.not_found(root, request, "no index file, and no listing (--no-listing)", now);
        }
        let is_hidden_shown = self.config.args.hidden;
        let directory = Directory { root: Arc::clone(root), path, descriptor, is_hidden_shown };
        listing_response::respond(request, directory, now)
    }

    fn open_error_response(&self, root: &Root, request: &Request<'_>, error: OpenError, now: Moment) -> Response {
        match error {
            OpenError::NotFound => self.not_found(root, request, "no such file", now),
            OpenError::Outside => self.not_found(root, request, "a symbolic link leads out of the root", now),
            OpenError::Forbidden => error_page(Status::FORBIDDEN, "Access to this file is not allowed.")
                .because("permission denied, or not a regular file"),
            OpenError::Exhausted => error_page(Status::SERVICE_UNAVAILABLE, "The server is busy; try again later.")
                .with_field("Retry-After", "1")
                .because("out of file descriptors or memory"),
            OpenError::Io => error_page(Status::INTERNAL_SERVER_ERROR, "The server failed to read this file.")
                .because("cannot read the file"),
        }
    }

    /// Returns the page of `--spa` to a browser that opens a page, else 404 with the page of the site or our own.
    fn not_found(&self, root: &Root, request: &Request<'_>, reason: &'static str, now: Moment) -> Response {
        let spa = self.config.spa.as_ref();
        if let Some(page) = spa.filter(|_| accepted_by_name(request.fields, "text/html") > 0)
            && let Ok(Entry::File(file, status)) = root.open_entry(page)
        {
            return self
                .file_response(root, request, (page, page.file_name()), (file, status), now)
                .with_field("Vary", "Accept");
        }
        let page = SitePath::of_file(NOT_FOUND_PAGE.as_bytes());
        let response = match root.open_entry(&page) {
            Ok(Entry::File(file, status)) if self.config.target.only.is_none() => {
                let media_type = self.media_types.of(page.file_name(), &file, &status);
                file_response::whole(Status::NOT_FOUND, (file, status), &media_type)
            }
            _ => error_page(Status::NOT_FOUND, "This file does not exist."),
        };
        let response = if spa.is_some() { response.with_field("Vary", "Accept") } else { response };
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
