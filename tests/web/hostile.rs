//! Inputs that have broken servers, and the required response to each (RFC 9110 and RFC 9112).

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

use crate::support::{Server, connect, netlab, path_str, read_one_response, read_until_close, send_and_read, site};

/// Status of the first response, 0 for none, and the number of responses.
fn responses(received: &[u8]) -> (u16, usize) {
    let received = String::from_utf8_lossy(received);
    let status = received
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3))
        .map_or(0, |code| code.parse().expect("digits"));
    (status, received.matches("HTTP/1.1 ").count())
}

#[test]
fn a_malformed_request_gets_one_response_and_the_connection_closes() {
    let directory = site(&[("a", b"hello")]);
    let server = Server::start(&["serve-http", path_str(directory.path()), "--log", "off"]);
    let next = "GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for (request, status) in [
        // N1–N4: folding, white space, bare CR.
        ("GET /a HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\r\n", 400),
        ("GET /a HTTP/1.1\r\n Host: localhost\r\n\r\n", 400),
        ("GET /a HTTP/1.1\r\nHost : h\r\n\r\n", 400),
        ("GET /a HTTP/1.1\r\nHost: localhost\r\nX: a\rb\r\n\r\n", 400),
        ("GET /a HTTP/1.1\r\nHost: localhost\r\n\rX: y\r\n\r\n", 400),
        // N5: bare LF.
        ("GET /a HTTP/1.1\nHost: h\n\n", 400),
        // N7: controls and missing names.
        ("GET /a HTTP/1.1\r\nHost: localhost\r\nX: \0\r\n\r\n", 400),
        ("GET /a HTTP/1.1\r\nHost: localhost\r\n: y\r\n\r\n", 400),
        ("GET /a HTTP/1.1\r\nHost: localhost\r\nX\r\n\r\n", 400),
        // N9: Host.
        ("GET /a HTTP/1.1\r\n\r\n", 400),
        ("GET /a HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400),
        ("GET /a HTTP/1.1\r\nHost: a, b\r\n\r\n", 400),
        ("GET /a HTTP/1.1\r\nHost:\r\n\r\n", 400),
        // N12, N14–N18: targets, methods, versions, other protocols.
        ("GET a HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        ("GET * HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        ("GET /a#f HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        ("CONNECT / HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        ("get /a HTTP/1.1\r\nHost: localhost\r\n\r\n", 501),
        ("GET  /a HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        ("GET /a\r\n\r\n", 400),
        ("GET /a HTTP/2.0\r\nHost: localhost\r\n\r\n", 505),
        ("GET /a http/1.1\r\nHost: localhost\r\n\r\n", 400),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        ("\x16\x03\x01\x02\0\x01\0", 0),
        // N21–N25: framing.
        ("GET /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("GET /a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: xchunked\r\n\r\n", 400),
        ("GET /a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        ("GET /a HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("GET /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: +5\r\n\r\n", 400),
        ("GET /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n", 400),
        ("GET /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", 400),
        // N28: expectations.
        ("GET /a HTTP/1.1\r\nHost: localhost\r\nExpect: cake\r\n\r\n", 417),
    ] {
        // A request smuggled after a rejected one must not be answered.
        let received = send_and_read(server.address(), format!("{request}{next}").as_bytes());
        assert_eq!(responses(&received), (status, usize::from(status != 0)), "{request:?}");
    }
}

#[test]
fn unusual_but_valid_requests_are_answered() {
    let directory = site(&[("a", b"hello")]);
    let server = Server::start(&["serve-http", path_str(directory.path()), "--log", "off"]);
    for (request, status) in [
        ("\r\nGET /a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 200),
        ("GET /a HTTP/1.0\r\n\r\n", 200),
        ("GET http://localhost/a HTTP/1.1\r\nHost: other\r\nConnection: close\r\n\r\n", 200),
        ("GET /a HTTP/1.2\r\nHost: localhost\r\nConnection: close\r\n\r\n", 200),
        ("GET /a HTTP/1.1\r\nHost: localhost\r\nX: caf\u{e9}\r\nConnection: close\r\n\r\n", 200),
        ("OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 204),
        ("CONNECT h:443 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 405),
        ("TRACE /a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 405),
        ("POST /a HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n", 405),
        ("POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999999\r\n\r\n", 405),
    ] {
        assert_eq!(responses(&send_and_read(server.address(), request.as_bytes())), (status, 1), "{request:?}");
    }
}

#[test]
fn a_body_is_drained_and_the_next_request_answered() {
    let directory = site(&[("a", b"hello")]);
    let server = Server::start(&["serve-http", path_str(directory.path()), "--log", "off"]);
    let last = "GET /a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    for body in [
        "Content-Length: 30\r\n\r\nGET /b HTTP/1.1\r\nHost: hhh\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5;x=y\r\nGET /\r\n0\r\nHost: evil\r\n\r\n",
    ] {
        let requests = format!("GET /a HTTP/1.1\r\nHost: localhost\r\n{body}{last}");
        let received = send_and_read(server.address(), requests.as_bytes());
        assert_eq!(responses(&received), (200, 2), "{body:?}");
    }
}

#[test]
fn the_limits_of_the_head_are_enforced() {
    let directory = site(&[("a", b"hello")]);
    let server = Server::start(&["serve-http", path_str(directory.path()), "--log", "off"]);
    let long = "x".repeat(9_000);
    let many = "X: y\r\n".repeat(101);
    let huge = format!("X: {}\r\n", "y".repeat(7_000)).repeat(5);
    for (request, status) in [
        (format!("GET /{long} HTTP/1.1\r\nHost: localhost\r\n\r\n"), 414),
        (format!("GET /a HTTP/1.1\r\nHost: localhost\r\n{many}\r\n"), 431),
        (format!("GET /a HTTP/1.1\r\nHost: localhost\r\n{huge}\r\n"), 431),
        (format!("X{long}{long}{long}"), 414),
    ] {
        assert_eq!(responses(&send_and_read(server.address(), request.as_bytes())).0, status);
    }
}

#[test]
fn no_path_leads_out_of_the_root() {
    let directory = site(&[("root/a", b"hello"), ("root/sub/b", b"hello"), ("secret", b"secret")]);
    let root = directory.path().join("root");
    symlink("../secret", root.join("out")).expect("linked");
    symlink(directory.path(), root.join("up")).expect("linked");
    symlink("../a", root.join("sub/in")).expect("linked");
    let server = Server::start(&["serve-http", path_str(&root), "--log", "off"]);
    for (path, status) in [
        ("/sub/in", 200),
        ("/out", 404),
        ("/up/secret", 404),
        ("/../secret", 400),
        ("/sub/../../secret", 400),
        ("/%2e%2e/secret", 400),
        ("/..%2fsecret", 400),
        ("/%252e%252e/secret", 404),
        ("/%5c..%5c..%5csecret", 404),
        ("/..\\secret", 400),
        ("/%c0%ae%c0%ae/secret", 404),
        ("//etc/passwd", 404),
        ("/a%00.html", 400),
        ("/%zz", 400),
        ("/a/", 404),
        ("/a%0d%0aX:y", 404),
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let received = send_and_read(server.address(), request.as_bytes());
        assert_eq!(responses(&received).0, status, "{path}");
        assert!(!received.ends_with(b"secret"), "{path}");
        assert!(!String::from_utf8_lossy(&received).contains("\r\nX:y"), "{path}");
    }
}

#[test]
fn a_special_file_is_forbidden_at_once() {
    let directory = site(&[("a", b"hello")]);
    let made = Command::new("mkfifo").arg(directory.path().join("fifo")).status().expect("mkfifo runs");
    assert!(made.success());
    let server = Server::start(&["serve-http", path_str(directory.path()), "--log", "off"]);
    assert_eq!(responses(&send_and_read(server.address(), b"GET /fifo HTTP/1.0\r\n\r\n")).0, 403);
}

#[test]
fn a_file_that_the_user_cannot_read_is_forbidden() {
    let directory = site(&[("a", b"hello"), ("closed", b"hello")]);
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("changed");
    fs::set_permissions(directory.path().join("closed"), fs::Permissions::from_mode(0o000)).expect("changed");
    // Another user may have no access to the build directory, so a copy of the binary is used.
    let copy = directory.path().join("netlab");
    fs::copy(env!("CARGO_BIN_EXE_netlab"), &copy).expect("copied");
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("changed");
    let mut command = if rustix::process::geteuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--clear-groups"]).arg(&copy);
        command
    } else {
        Command::new(&copy)
    };
    // Another user cannot write to the FIFO of the test, so the address is read from stdout.
    command
        .args(["serve-http", path_str(directory.path()), "--bind", "127.0.0.1:0", "--json"])
        .stdout(std::process::Stdio::piped());
    let mut child = command.spawn().expect("it runs");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().expect("piped")));
    let listening = crate::support::parse_event(&lines.next().expect("a line").expect("text"));
    let address = listening["addresses"][0].as_str().expect("an address").parse().expect("an address");
    assert_eq!(responses(&send_and_read(address, b"GET /closed HTTP/1.0\r\n\r\n")).0, 403);
    assert_eq!(responses(&send_and_read(address, b"GET /a HTTP/1.0\r\n\r\n")).0, 200);
    child.kill().expect("it is running");
    child.wait().expect("it ends");
}

#[test]
fn an_incomplete_head_times_out_with_408() {
    let directory = site(&[("a", b"hello")]);
    let server = Server::start(&["serve-http", path_str(directory.path()), "--log", "off", "--head-timeout", "100ms"]);
    assert_eq!(responses(&send_and_read(server.address(), b"GET /a HTTP/1.1\r\nHo")).0, 408);
}

#[test]
fn an_idle_connection_is_closed_without_a_response() {
    let directory = site(&[("a", b"hello")]);
    let server = Server::start(&["serve-http", path_str(directory.path()), "--log", "off", "--idle-timeout", "100ms"]);
    assert!(read_until_close(connect(server.address())).is_empty());
    let mut stream = connect(server.address());
    stream.write_all(b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
    assert!(read_until_close(stream).ends_with(b"hello"), "idle after its response");
}

#[test]
fn a_client_that_never_reads_is_disconnected() {
    let directory = site(&[("large", &vec![b'x'; 30_000_000])]);
    let server = Server::start(&[
        "serve-http",
        path_str(directory.path()),
        "--stall-timeout",
        "100ms",
        "--count",
        "1",
        "--json",
    ]);
    let mut stream = connect(server.address());
    stream.write_all(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
    // The server stops after this one request, when the stall timeout has ended it.
    let ran = server.wait();
    let events = ran.events();
    let response = events.iter().find(|event| event["type"] == "response").expect("it is logged");
    assert_eq!(response["error"], "the peer stopped reading");
    // An RST: the kernel keeps nothing for a peer that does not read.
    let end = stream.read_to_end(&mut Vec::new());
    assert_eq!(end.expect_err("no orderly end").kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn the_server_pauses_without_descriptors_and_recovers() {
    let directory = site(&[("a", b"hello")]);
    let mut command = Command::new("prlimit");
    command.arg("--nofile=24:24").arg(env!("CARGO_BIN_EXE_netlab"));
    command.args(["serve-http", path_str(directory.path()), "--bind", "127.0.0.1:0", "--json"]);
    command.args(["--max-connections", "1000"]);
    let server = Server::spawn(command);
    let held: Vec<_> = (0..40)
        .map(|_| {
            let mut stream = connect(server.address());
            stream.write_all(b"GET /a HTTP/1.1\r\nHo").expect("sent");
            stream
        })
        .collect();
    // All are served in the end: when the first ones have closed, the others are accepted.
    for mut stream in held {
        stream.write_all(b"st: localhost\r\nConnection: close\r\n\r\n").expect("sent");
        let received = read_until_close(stream);
        assert!(matches!(responses(&received).0, 200 | 503), "{}", String::from_utf8_lossy(&received));
    }
    let ran = server.stop();
    let notices = ran.events().iter().filter(|event| event["type"] == "notice").count();
    assert!((1..=20).contains(&notices), "it is reported, but not for every attempt: {notices}");
}

#[test]
fn a_path_with_control_characters_is_logged_as_one_line() {
    let directory = site(&[("a", b"hello")]);
    let server = Server::spawn(netlab(&[
        "serve-http",
        path_str(directory.path()),
        "--bind",
        "127.0.0.1:0",
        "--log",
        "combined",
    ]));
    send_and_read(server.address(), b"GET /%1b[2J HTTP/1.0\r\nUser-Agent: \x80\xff\"evil\"\r\n\r\n");
    send_and_read(server.address(), b"GET /\x1b[2J HTTP/1.0\r\n\r\n");
    let ran = server.stop();
    assert!(!ran.stdout.contains('\x1b'), "{:?}", ran.stdout);
    assert!(ran.stdout.contains("\\x80\\xff\\\"evil\\\""), "{}", ran.stdout);
}

#[test]
fn at_the_limit_of_connections_the_one_idle_longest_is_closed() {
    let directory = site(&[("a", b"hello")]);
    let flags = ["serve-http", path_str(directory.path()), "--log", "off", "--max-connections", "2"];
    let server = Server::start(&flags);
    let get = b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut streams: Vec<_> = (0..2).map(|_| connect(server.address())).collect();
    for stream in &mut streams {
        stream.write_all(get).expect("sent");
        assert!(read_one_response(stream).0.starts_with("HTTP/1.1 200"));
    }
    let mut third = connect(server.address());
    third.write_all(get).expect("sent");
    assert!(read_one_response(&mut third).0.starts_with("HTTP/1.1 200"));
    let mut oldest = streams.remove(0);
    assert_eq!(oldest.read(&mut [0]).unwrap_or(0), 0, "closed");
    let mut newer = streams.remove(0);
    newer.write_all(get).expect("sent");
    assert!(read_one_response(&mut newer).0.starts_with("HTTP/1.1 200"), "still open");
}
