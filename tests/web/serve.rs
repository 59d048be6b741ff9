//! Responses of `serve-http`: files, directories, persistent and concurrent connections.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use crate::support::{
    Server, connect, demo_site, netlab, path_str, read_one_response, read_until_close, send_and_read, site,
};

fn get(server: &Server, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    String::from_utf8_lossy(&send_and_read(server.address(), request.as_bytes())).into_owned()
}

#[test]
fn a_page_has_its_type_length_and_date() {
    let server = Server::start(&["serve-http", path_str(&demo_site())]);
    let page = fs::read_to_string(demo_site().join("HelloWorld.html")).expect("the demo site");
    let response = get(&server, "/HelloWorld.html");
    let (head, body) = response.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("\r\nContent-Type: text/html; charset=utf-8\r\n"), "{head}");
    assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", page.len())), "{head}");
    assert!(head.contains("\r\nLast-Modified: ") && head.contains("\r\nDate: "), "{head}");
    assert_eq!(body, page);
}

#[test]
fn the_response_to_head_is_that_of_get_without_the_body() {
    let server = Server::start(&["serve-http", path_str(&demo_site())]);
    let mut stream = connect(server.address());
    stream.write_all(b"GET /style.css HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
    let (to_get, body) = read_one_response(&mut stream);
    assert!(!body.is_empty());
    stream.write_all(b"HEAD /style.css HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("sent");
    let to_head = String::from_utf8(read_until_close(stream)).expect("ASCII");
    let fields = |head: &str| {
        head.lines()
            .filter(|line| !line.starts_with("Date") && !line.starts_with("Connection"))
            .collect::<Vec<_>>()
            .join("\n")
    };
    assert_eq!(fields(&to_head), fields(&to_get));
}

#[test]
fn a_request_may_arrive_one_byte_at_a_time() {
    let server = Server::start(&["serve-http", path_str(&demo_site())]);
    let mut stream = connect(server.address());
    stream.set_nodelay(true).expect("set");
    for byte in b"GET /style.css HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" {
        stream.write_all(&[*byte]).expect("sent");
    }
    assert!(read_until_close(stream).starts_with(b"HTTP/1.1 200 OK\r\n"));
}

#[test]
fn a_hundred_pipelined_requests_are_answered_in_order() {
    let names: Vec<String> = (0..100).map(|number| format!("{number:03}")).collect();
    let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), name.as_bytes())).collect();
    let directory = site(&files);
    let server = Server::start(&["serve-http", path_str(directory.path())]);
    let requests: Vec<String> =
        names.iter().map(|name| format!("GET /{name} HTTP/1.1\r\nHost: localhost\r\n\r\n")).collect();
    let mut stream = connect(server.address());
    stream.write_all(requests.concat().as_bytes()).expect("sent");
    for name in &names {
        let (head, body) = read_one_response(&mut stream);
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert_eq!(String::from_utf8_lossy(&body), *name);
    }
}

#[test]
fn http_1_0_connections_close_without_keep_alive() {
    let server = Server::start(&["serve-http", path_str(&demo_site())]);
    let closed = send_and_read(server.address(), b"GET /style.css HTTP/1.0\r\n\r\n");
    assert!(String::from_utf8_lossy(&closed).contains("\r\nConnection: close\r\n"));
    let mut stream = connect(server.address());
    for _ in 0..2 {
        stream.write_all(b"GET /style.css HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").expect("sent");
        assert!(read_one_response(&mut stream).0.contains("\r\nConnection: keep-alive\r\n"));
    }
}

#[test]
fn directories_redirect_send_their_index_or_are_listed() {
    let directory = site(&[("with/start.htm", b"start"), ("bare/a <b>.txt", b"x"), ("bare/.hidden", b"x")]);
    let server =
        Server::start(&["serve-http", path_str(directory.path()), "--index", "index.html", "--index", "start.htm"]);
    let redirect = get(&server, "/with?a=b");
    assert!(redirect.starts_with("HTTP/1.1 301 ") && redirect.contains("\r\nLocation: ./with/?a=b\r\n"), "{redirect}");
    assert!(get(&server, "//bare").contains("\r\nLocation: ./bare/\r\n"));
    assert!(get(&server, "/with/").ends_with("\r\n\r\nstart"));
    let listing = get(&server, "/bare/");
    assert!(listing.contains("href=\"./a%20%3Cb%3E.txt\"") && listing.contains("a &lt;b&gt;.txt"), "{listing}");
    assert!(!listing.contains(".hidden"));
}

#[test]
fn a_large_file_is_complete_and_does_not_delay_other_clients() {
    let large: Vec<u8> = (0..5_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let directory = site(&[("large", &large), ("small", b"small")]);
    let server = Server::start(&["serve-http", path_str(directory.path())]);
    let mut stream = connect(server.address());
    stream
        .write_all(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\nGET /small HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .expect("sent");
    // Another client is served while this one does not read.
    assert!(get(&server, "/small").ends_with("small"));
    assert_eq!(read_one_response(&mut stream).1, large);
    assert_eq!(read_one_response(&mut stream).1, b"small");
}

#[test]
fn a_client_that_shuts_down_its_side_still_gets_its_response() {
    let large = vec![b'x'; 3_000_000];
    let directory = site(&[("large", &large)]);
    let server = Server::start(&["serve-http", path_str(directory.path())]);
    let mut stream = connect(server.address());
    stream.write_all(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
    stream.shutdown(Shutdown::Write).expect("shut");
    assert_eq!(read_one_response(&mut stream).1.len(), large.len());
}

#[test]
fn a_request_together_with_the_shutdown_closes_the_connection() {
    let directory = site(&[("a", b"hello")]);
    let server = Server::start(&["serve-http", path_str(directory.path()), "--idle-timeout", "1h"]);
    for _ in 0..20 {
        let mut stream = connect(server.address());
        stream.write_all(b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
        stream.shutdown(Shutdown::Write).expect("shut");
        assert!(read_until_close(stream).ends_with(b"hello"), "it closes long before the idle timeout");
    }
}

#[test]
fn many_slow_clients_on_few_threads_do_not_stop_a_fast_one() {
    let server = Server::start(&["serve-http", path_str(&demo_site()), "--threads=2"]);
    let slow: Vec<_> = (0..200)
        .map(|_| {
            let mut stream = connect(server.address());
            stream.write_all(b"GET /style.css HTTP/1.1\r\nHo").expect("sent");
            stream
        })
        .collect();
    for _ in 0..20 {
        assert!(get(&server, "/style.css").starts_with("HTTP/1.1 200"));
    }
    // The slow clients are served as well, once their requests are complete.
    for mut stream in slow {
        stream.write_all(b"st: localhost\r\nConnection: close\r\n\r\n").expect("sent");
        assert!(read_until_close(stream).starts_with(b"HTTP/1.1 200"));
    }
}

#[test]
fn a_file_that_is_requested_again_gets_the_same_response() {
    let server = Server::start(&["serve-http", path_str(&demo_site())]);
    let response = |first: &str, fields: &str| {
        let request = format!("{first} HTTP/1.1\r\nHost: localhost\r\n{fields}Connection: close\r\n\r\n");
        let text = String::from_utf8(send_and_read(server.address(), request.as_bytes())).expect("text");
        text.lines().filter(|line| !line.starts_with("Date: ")).collect::<Vec<_>>().join("\n")
    };
    for target in ["/style.css", "/HelloWorld.html"] {
        let get = format!("GET {target}");
        let first = response(&get, "");
        assert!(first.starts_with("HTTP/1.1 200"), "{first}");
        assert_eq!(response(&get, ""), first);
        let head = response(&format!("HEAD {target}"), "");
        assert!(first.starts_with(&head) && head.len() < first.len(), "{head}");
        let etag = first.lines().find_map(|line| line.strip_prefix("ETag: ")).expect("a tag");
        assert!(response(&get, &format!("If-None-Match: {etag}\r\n")).starts_with("HTTP/1.1 304"));
        assert!(response(&get, "Range: bytes=0-0\r\n").starts_with("HTTP/1.1 206"));
    }
}

#[test]
fn many_clients_at_once_all_get_the_same_page() {
    let server = Server::start(&["serve-http", path_str(&demo_site()), "--threads=2"]);
    let page = fs::read(demo_site().join("exchange.png")).expect("the demo site");
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let mut stream = connect(server.address());
                for _ in 0..25 {
                    stream.write_all(b"GET /exchange.png HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
                    assert_eq!(read_one_response(&mut stream).1, page);
                }
            });
        }
    });
    let ran = server.stop();
    assert!(ran.stderr.contains("--- 400 requests on 16 connections"), "{}", ran.stderr);
}

#[test]
fn a_file_that_shrinks_while_it_is_sent_ends_the_connection() {
    let directory = site(&[("large", &vec![b'x'; 30_000_000])]);
    let server = Server::start(&["serve-http", path_str(directory.path()), "--log", "json"]);
    let mut stream = connect(server.address());
    stream.write_all(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
    stream.read_exact(&mut [0; 1000]).expect("the first bytes");
    fs::File::options().write(true).open(directory.path().join("large")).expect("ours").set_len(1000).expect("shrunk");
    let received = read_until_close(stream);
    assert!(received.len() < 30_000_000, "not padded");
    let ran = server.stop();
    let events = ran.events();
    let response = events.iter().find(|event| event["type"] == "response").expect("it is logged");
    assert_eq!(response["complete"], false);
    assert!(response["bytes"].as_u64().is_some_and(|bytes| bytes < 30_000_000), "{response}");
    assert_eq!(ran.summary()["cut"], 1);
}

#[test]
fn a_reset_by_one_client_does_not_affect_others() {
    let directory = site(&[("large", &vec![b'x'; 30_000_000]), ("small", b"small")]);
    let server = Server::start(&["serve-http", path_str(directory.path()), "--log", "off"]);
    for _ in 0..5 {
        let mut stream = connect(server.address());
        stream.write_all(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
        stream.read_exact(&mut [0; 1000]).expect("the first bytes");
        let socket = socket2::Socket::from(stream);
        socket.set_linger(Some(std::time::Duration::ZERO)).expect("set");
    }
    assert!(get(&server, "/small").ends_with("small"));
    let ran = server.stop();
    assert!(ran.stdout.contains("5 cut short"), "{}", ran.stdout);
}

#[test]
fn a_unix_socket_is_served_and_removed() {
    let directory = site(&[("a", b"hello")]);
    let path = directory.path().join("socket");
    let bind = format!("unix:{}", path.display());
    let server = Server::spawn(netlab(&["serve-http", path_str(directory.path()), "--bind", &bind, "--threads=2"]));
    assert_eq!(server.addresses, [bind]);
    let mut stream = UnixStream::connect(&path).expect("it listens");
    stream.write_all(b"GET /a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("sent");
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("text");
    assert!(response.ends_with("hello"), "{response}");
    assert_eq!(server.stop().code, 0);
    assert!(!path.exists());
}

#[test]
fn both_loopbacks_share_one_port_by_default() {
    let directory = site(&[("a", b"hello")]);
    let server = Server::spawn(netlab(&["serve-http", path_str(directory.path()), "--bind", "0"]));
    let ports: Vec<&str> =
        server.addresses.iter().filter_map(|address| address.trim_end_matches('/').rsplit(':').next()).collect();
    assert!(ports.windows(2).all(|pair| pair[0] == pair[1]), "{:?}", server.addresses);
    for address in &server.addresses {
        let address = address.trim_start_matches("http://").trim_end_matches('/').parse().expect("an address");
        assert!(send_and_read(address, b"GET /a HTTP/1.0\r\n\r\n").ends_with(b"hello"));
    }
}

/// Fetches `/big` with these fields and returns the response as text.
fn get_with(server: &Server, fields: &str) -> String {
    let request = format!("GET /big HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}\r\n");
    String::from_utf8_lossy(&send_and_read(server.address(), request.as_bytes())).into_owned()
}

#[test]
fn ranges_are_sent_alone_and_as_parts() {
    let content: String =
        (0..100_000).map(|number| char::from(b'a' + u8::try_from(number % 26).expect("a letter"))).collect();
    let directory = site(&[("big", content.as_bytes())]);
    let server = Server::start(&["serve-http", path_str(directory.path()), "--log", "off"]);
    let one = get_with(&server, "Range: bytes=70000-70009\r\n");
    assert!(one.starts_with("HTTP/1.1 206 Partial Content") && one.ends_with(&content[70_000..70_010]), "{one}");
    assert!(one.contains("\r\nContent-Length: 10\r\n") && one.contains("Content-Range: bytes 70000-70009/100000"));
    let several = get_with(&server, "Range: bytes=0-2,-3\r\n");
    let (head, body) = several.split_once("\r\n\r\n").expect("a head");
    let boundary = head.split("boundary=").nth(1).and_then(|rest| rest.lines().next()).expect("a boundary");
    let part = |range: &str, bytes: &str| {
        format!(
            "\r\n--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Range: bytes {range}/100000\r\n\r\n{bytes}"
        )
    };
    let expected = part("0-2", "abc") + &part("99997-99999", &content[99_997..]) + &format!("\r\n--{boundary}--\r\n");
    assert_eq!(body, expected);
    assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
    assert!(get_with(&server, "Range: bytes=100000-\r\n").starts_with("HTTP/1.1 416 "));
    let tag = one.split("ETag: ").nth(1).and_then(|rest| rest.lines().next()).expect("a tag").to_owned();
    assert!(get_with(&server, &format!("If-None-Match: {tag}\r\n")).starts_with("HTTP/1.1 304 "));
    assert!(get_with(&server, "If-Match: \"other\"\r\n").starts_with("HTTP/1.1 412 "));
    // A change within the same second has another tag.
    fs::write(directory.path().join("big"), content.replace('a', "b")).expect("written");
    let changed = get_with(&server, &format!("If-None-Match: {tag}\r\n"));
    assert!(changed.starts_with("HTTP/1.1 200 OK"), "{changed:.200}");
}
