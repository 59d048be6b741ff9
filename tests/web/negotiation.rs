//! Representations of `serve-http`: codings and listings by what a client accepts, and who has access.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;

use crate::support::{Server, connect, path_str, read_one_response, read_until_close, run, site};

#[test]
fn a_compressed_body_has_its_length_and_keeps_the_order_of_pipelined_requests() {
    let text = "All work and no play. ".repeat(1000);
    let directory = site(&[("long.txt", text.as_bytes()), ("small", b"small")]);
    let server = Server::start(&["serve-http", path_str(directory.path()), "--compress", "--json"]);
    let mut stream = connect(server.address());
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip\r\n\r\n");
    stream.write_all([get("/long.txt"), get("/small"), get("/long.txt")].concat().as_bytes()).expect("sent");
    for expected in [text.as_str(), "small", text.as_str()] {
        let (head, body) = read_one_response(&mut stream);
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let mut restored = String::new();
        if head.contains("\r\nContent-Encoding: gzip\r\n") {
            flate2::read::GzDecoder::new(&body[..]).read_to_string(&mut restored).expect("gzip");
            assert!(body.len() < expected.len() / 10);
        } else {
            restored = String::from_utf8(body).expect("text");
        }
        assert_eq!(restored, expected);
    }
    let head = get("/long.txt").replace("GET", "HEAD").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("sent");
    let head = String::from_utf8(read_until_close(stream)).expect("no body");
    assert!(head.ends_with("\r\n\r\n") && !head.contains("\r\nContent-Length: 0\r\n"), "{head}");
    let ran = server.stop();
    let events = ran.events();
    let responses: Vec<_> = events.iter().filter(|event| event["type"] == "response").collect();
    assert_eq!(responses.len(), 4, "{}", ran.stdout);
    assert!(responses.iter().all(|response| response["complete"] == true), "{}", ran.stdout);
    assert!(responses[0]["bytes"].as_u64().is_some_and(|bytes| bytes < 1000), "{}", ran.stdout);
}

#[test]
fn a_listing_in_json_has_every_entry() {
    let directory = site(&[("b 10.txt", b"hello"), ("b 2.txt", b"x"), ("sub/c", b"y")]);
    let server = Server::start(&["serve-http", path_str(directory.path()), "--log", "off"]);
    let mut stream = connect(server.address());
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\r\n").expect("sent");
    let (head, body) = read_one_response(&mut stream);
    assert!(head.contains("\r\nContent-Type: application/json\r\n"), "{head}");
    let listing: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    let urls: Vec<_> = listing["entries"].as_array().expect("entries").iter().map(|entry| &entry["url"]).collect();
    assert_eq!(urls, ["./sub/", "./b%202.txt", "./b%2010.txt"]);
    assert_eq!((&listing["total"], &listing["entries"][2]["bytes"]), (&3.into(), &5.into()));
}

#[test]
fn a_host_name_is_answered_if_it_means_this_machine() {
    let directory = site(&[("a", b"hello")]);
    let server = Server::start(&["serve-http", path_str(directory.path()), "--allow-host", "lab.example", "--json"]);
    for (host, status) in [("localhost", "200"), ("lab.example:80", "200"), ("evil.example", "421")] {
        let mut stream = connect(server.address());
        stream.write_all(format!("GET /a HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).expect("sent");
        let (head, _) = read_one_response(&mut stream);
        assert_eq!(head.get(9..12), Some(status), "{host}");
    }
    let ran = server.stop();
    assert!(ran.stdout.contains("does not name this machine"), "{}", ran.stdout);
}

#[test]
fn flags_that_name_a_file_check_it_at_the_start() {
    let directory = site(&[("index.html", b"page")]);
    let root = path_str(directory.path());
    let ran = run(&["serve-http", root, "--spa", "absent.html", "--for", "1ms"]);
    assert!(ran.code == 66 && ran.stderr.contains("'absent.html' of --spa is not a file in"), "{}", ran.stderr);
    let users = directory.path().join("users");
    fs::write(&users, "tim:tea\n").expect("written");
    fs::set_permissions(&users, fs::Permissions::from_mode(0o644)).expect("set");
    let flags = ["serve-http", root, "--bind", "0", "--auth-file", path_str(&users), "--for", "1ms"];
    let ran = run(&flags);
    assert!(ran.code != 0 && ran.stderr.contains("users"), "{} {}", ran.code, ran.stderr);
    fs::set_permissions(&users, fs::Permissions::from_mode(0o600)).expect("set");
    assert_eq!(run(&flags).code, 0);
}
