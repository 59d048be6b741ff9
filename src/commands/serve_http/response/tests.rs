//! Tests of [`SiteHandle`] on directories made for each.

use super::{SiteConfig, SiteHandle};
use crate::commands::serve_http::site_args::SiteArgs;
use crate::http::{Request, Response, ResponseBody, Status};
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
    let target = args.target();
    let root = args.open_root(&target).expect("just created");
    SiteHandle::new(Arc::new(SiteConfig::new(args, target)), Arc::new(root), Box::new(drop))
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

fn status(site: &SiteHandle, path: &str) -> u16 {
    respond(site, &format!("GET {path}"), "").status.code()
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
    let status = |value: &str| respond(&site, "GET /a.html", &format!("If-Modified-Since: {value}\r\n")).status.code();
    assert_eq!(status(modified), 304);
    assert_eq!(status("Sun, 06 Nov 1994 08:49:37 GMT"), 200);
    assert_eq!(status("yesterday"), 200);
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
    assert_eq!((status(&site, "/old"), status(&site, "/new")), (404, 200));
    let gone = handle(&SiteArgs { root: root.clone(), ..args() });
    fs::remove_dir_all(&root).expect("removed");
    assert_eq!(status(&gone, "/new"), 503);
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
    for (path, code) in [("/", 200), ("/a.html", 200), ("/a.html/", 404), ("/bare/", 404), ("/with%20index/", 404)] {
        assert_eq!(status(&site, path), code, "{path}");
    }
}

#[test]
fn a_single_file_may_be_a_link_to_another_directory() {
    let (directory, _) = site();
    let elsewhere = tempfile::tempdir().expect("a temporary directory");
    let link = elsewhere.path().join("page.html");
    std::os::unix::fs::symlink(directory.path().join("a.html"), &link).expect("linked");
    let site = handle(&SiteArgs { root: link, ..args() });
    for (path, code) in [("/", 200), ("/page.html", 200), ("/a.html", 404)] {
        assert_eq!(status(&site, path), code, "{path}");
    }
}

#[test]
fn a_single_file_that_vanishes_is_served_when_it_is_back() {
    let (directory, _) = site();
    let file = directory.path().join("a.html");
    let site = handle(&SiteArgs { root: file.clone(), ..args() });
    fs::remove_dir_all(directory.path()).expect("removed");
    assert_eq!(status(&site, "/a.html"), 503);
    fs::create_dir(directory.path()).expect("created");
    fs::write(&file, "again").expect("written");
    assert_eq!(status(&site, "/a.html"), 200);
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
    let rejection = site.error_response(Status::BAD_REQUEST, "malformed");
    assert_eq!((field(&rejection, "Cache-Control"), field(&rejection, "X-Lab")), (Some("max-age=60"), Some("yes")));
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
