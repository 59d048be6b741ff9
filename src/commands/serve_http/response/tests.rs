//! Tests of [`SiteHandle`] on directories made for each.

use super::{SiteConfig, SiteHandle};
use crate::commands::serve_http::access::{AccessArgs, AccessRules};
use crate::commands::serve_http::site_args::SiteArgs;
use crate::http::{Request, Response, ResponseBody, Status};
use crate::stop::tests::never;
use crate::time::Moment;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

const NOW: Moment = Moment::new(Duration::ZERO, Duration::from_secs(4_000_000_000));

fn args() -> SiteArgs {
    let index = vec!["index.html".into(), "index.htm".into()];
    SiteArgs {
        root: PathBuf::new(),
        index,
        no_listing: false,
        hidden: false,
        header: vec![],
        compress: false,
        spa: None,
        mime: vec![],
    }
}

fn handle(args: &SiteArgs) -> SiteHandle {
    handle_with(args, &AccessArgs { auth_file: None, allow_host: vec![], trust_proxy: vec![], cors: false })
}

fn handle_with(args: &SiteArgs, access: &AccessArgs) -> SiteHandle {
    let target = args.target();
    let root = args.open_root(&target).expect("just created");
    let access = AccessRules::new(access, Some(std::iter::once("h".to_owned())), &never()).expect("no file");
    SiteHandle::new(Arc::new(SiteConfig::new(args, target, access)), Arc::new(root), Box::new(drop))
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
    site.respond(&request, Some("127.0.0.1:5000".parse().expect("an address")), NOW)
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

#[test]
fn a_precompressed_sibling_is_sent_unless_it_is_older() {
    let (directory, site) = site();
    let write = |name: &str, content: &str, age: u64| {
        let path = directory.path().join(name);
        fs::write(&path, content).expect("written");
        let time = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000 - age);
        fs::File::options().write(true).open(&path).and_then(|file| file.set_modified(time)).expect("dated");
    };
    write("a.html", "hello", 100);
    write("a.html.br", "1234", 100);
    write("a.html.zst", "12", 101);
    write("a.html.gz", "123", 0);
    fs::create_dir(directory.path().join("with index/index.htm.gz")).expect("created");
    for (target, accepted, coding, length) in [
        ("/a.html", "gzip, zstd, br", Some("br"), 4),
        ("/a.html", "gzip, zstd", Some("gzip"), 3),
        ("/a.html", "zstd", None, 5),
        ("/a.html", "identity, br;q=0.5", None, 5),
        ("/with%20index/", "gzip", None, 5),
    ] {
        let response = respond(&site, &format!("GET {target}"), &format!("Accept-Encoding: {accepted}\r\n"));
        assert_eq!(field(&response, "Content-Encoding"), coding, "{accepted}");
        assert_eq!(field(&response, "Content-Type"), Some("text/html; charset=utf-8"), "{accepted}");
        assert_eq!(field(&response, "Vary"), Some("Accept-Encoding"), "{accepted}");
        assert_eq!(length_of(&response), length, "{accepted}");
    }
    let part = respond(&site, "GET /a.html", "Accept-Encoding: br\r\nRange: bytes=1-2\r\n");
    assert_eq!((part.status.code(), field(&part, "Content-Range")), (206, Some("bytes 1-2/4")));
}

/// Length of a response with a file, from the disk or the cache.
fn length_of(response: &Response) -> u64 {
    match &response.body {
        ResponseBody::File(_, range) => range.end,
        ResponseBody::Prepared(body) => body.content.len() as u64,
        _ => 0,
    }
}

#[test]
fn a_sibling_that_appears_replaces_a_cached_file() {
    let (directory, site) = site();
    let coding = |seconds| {
        let now = Moment::new(Duration::from_secs(seconds), NOW.wall());
        let request =
            Request::parse(b"GET /a.html HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip\r\n\r\n").expect("valid");
        field(&site.respond(&request, None, now), "Content-Encoding").map(str::to_owned)
    };
    assert_eq!(coding(0), None);
    fs::write(directory.path().join("a.html.gz"), "123").expect("written");
    assert_eq!(coding(1).as_deref(), Some("gzip"));
    fs::remove_file(directory.path().join("a.html.gz")).expect("removed");
    assert_eq!(coding(1), None);
}

#[test]
fn text_is_compressed_on_request_and_never_in_parts() {
    let (directory, _) = site();
    fs::write(directory.path().join("long.txt"), "text ".repeat(1000)).expect("written");
    let site = handle(&SiteArgs { root: directory.path().to_owned(), compress: true, ..args() });
    let get = |target: &str, fields: &str| {
        let response = respond(&site, &format!("GET {target}"), fields);
        (response.status.code(), field(&response, "Content-Encoding").map(str::to_owned))
    };
    assert_eq!(get("/long.txt", "Accept-Encoding: br, gzip\r\n"), (200, Some("gzip".to_owned())));
    assert_eq!(get("/long.txt", "Accept-Encoding: gzip, zstd\r\n"), (200, Some("zstd".to_owned())));
    assert_eq!(get("/long.txt", "Accept-Encoding: br\r\n"), (200, None));
    assert_eq!(get("/long.txt", "Accept-Encoding: gzip\r\nRange: bytes=0-9\r\n"), (206, None));
    assert_eq!(get("/a.html", "Accept-Encoding: gzip\r\n"), (200, None), "too short");
    assert_eq!(get("/a.html", "Accept-Encoding: gzip, *;q=0\r\n"), (406, None));
}

#[test]
fn a_path_of_an_application_gets_its_page_in_a_browser_only() {
    let (directory, _) = site();
    let page = Some(PathBuf::from("with index/index.htm"));
    let site = handle(&SiteArgs { root: directory.path().to_owned(), spa: page, ..args() });
    let browser = "Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n";
    let response = respond(&site, "GET /users/7", browser);
    assert_eq!((response.status.code(), length_of(&response)), (200, 5));
    assert_eq!(field(&response, "Content-Type"), Some("text/html; charset=utf-8"));
    for (target, fields, status) in [
        ("/api/users", "Accept: */*\r\n", 404),
        ("/app.js", "", 404),
        ("/a.html", browser, 200),
        ("/%zz", browser, 400),
    ] {
        assert_eq!(respond(&site, &format!("GET {target}"), fields).status.code(), status, "{target}");
    }
    assert_eq!(field(&respond(&site, "GET /app.js", ""), "Vary"), Some("Accept"));
}

#[test]
fn a_listing_is_json_for_clients_that_ask_for_it() {
    let (_directory, site) = site();
    let media_type = |accept: &str| {
        let response = respond(&site, "GET /bare/", &format!("Accept: {accept}\r\n"));
        assert_eq!(field(&response, "Vary"), Some("Accept"));
        field(&response, "Content-Type").map(str::to_owned)
    };
    assert_eq!(media_type("application/json").as_deref(), Some("application/json"));
    assert_eq!(media_type("*/*").as_deref(), Some("text/html; charset=utf-8"));
    assert_eq!(media_type("text/html, application/json;q=0.9").as_deref(), Some("text/html; charset=utf-8"));
}

#[test]
fn another_host_name_is_misdirected_except_on_a_unix_socket() {
    let (_directory, site) = site();
    let status = |host: &str, peer: Option<&str>| {
        let head = format!("GET /a.html HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let request = Request::parse(head.as_bytes()).expect("well-formed");
        site.respond(&request, peer.map(|peer| peer.parse().expect("an address")), NOW).status.code()
    };
    for (host, code) in [("h:80", 200), ("localhost:6789", 200), ("[::1]", 200), ("evil.example", 421)] {
        assert_eq!(status(host, Some("127.0.0.1:5000")), code, "{host}");
    }
    assert_eq!(status("evil.example", None), 200);
}

#[test]
fn scripts_of_other_origins_read_the_files_with_cors_only() {
    let (directory, closed) = site();
    assert_eq!(field(&respond(&closed, "GET /a.html", ""), "Access-Control-Allow-Origin"), None);
    let access = AccessArgs { auth_file: None, allow_host: vec![], trust_proxy: vec![], cors: true };
    let site = handle_with(&SiteArgs { root: directory.path().to_owned(), ..args() }, &access);
    let response = respond(&site, "GET /a.html", "Origin: https://a.example\r\n");
    assert_eq!(field(&response, "Access-Control-Allow-Origin"), Some("*"));
    assert!(field(&response, "Access-Control-Expose-Headers").is_some_and(|fields| fields.contains("Content-Range")));
    let preflight = respond(&site, "OPTIONS /a.html", "Access-Control-Request-Method: GET\r\n");
    assert_eq!(
        (preflight.status.code(), field(&preflight, "Access-Control-Allow-Headers")),
        (204, Some("*, Authorization"))
    );
}

#[test]
fn every_path_of_a_site_with_users_requires_one() {
    let (directory, _) = site();
    let file = directory.path().join("users");
    fs::write(&file, "tim:tea\n").expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("private");
    let access = AccessArgs { auth_file: Some(file), allow_host: vec![], trust_proxy: vec![], cors: true };
    let site = handle_with(&SiteArgs { root: directory.path().to_owned(), ..args() }, &access);
    for target in ["/a.html", "/absent", "/", "/.."] {
        let response = respond(&site, &format!("GET {target}"), "");
        assert_eq!(response.status.code(), 401, "{target}");
        assert!(field(&response, "WWW-Authenticate").is_some_and(|challenge| challenge.starts_with("Basic realm=")));
    }
    assert_eq!(respond(&site, "GET /a.html", "Authorization: Basic dGltOnRlYQ==\r\n").status.code(), 200);
    assert_eq!(respond(&site, "GET /a.html", "Authorization: Basic dGltOnRlYg==\r\n").status.code(), 401);
    assert_eq!(respond(&site, "GET /a.html", "").status.code(), 401, "the cache is behind the check");
    assert_eq!(respond(&site, "OPTIONS /a.html", "").status.code(), 204);
}
