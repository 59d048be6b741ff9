//! Start and end of `serve-http`: start errors, signals, `--count`, `--for`, `--grace`.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use rustix::process::Signal;

use crate::support::{Server, connect, demo_site, netlab, path_str, read_one_response, run, send_and_read, site};

#[test]
fn a_start_error_has_its_exit_code_and_at_most_three_lines() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("bound").port();
    let bind = format!("127.0.0.1:{port}");
    let directory = site(&[("file", b"x")]);
    let file = directory.path().join("file");
    for (arguments, code, word) in [
        (vec!["serve-http", ".", "--bind", &bind], 71, "in use"),
        (vec!["serve-http", "/nonexistent"], 66, "no such directory"),
        (vec!["serve-http", "/dev/null"], 66, "neither a directory nor a regular file"),
        (vec!["serve-http", ".", "--bind", "192.0.2.1:0"], 71, "address"),
        (
            vec!["serve-http", ".", "--bind", "0", "--tls-cert", "/nonexistent", "--tls-key", "/nonexistent"],
            66,
            "/nonexistent",
        ),
        (
            vec!["serve-http", ".", "--bind", "0", "--tls-cert", path_str(&file), "--tls-key", path_str(&file)],
            78,
            "certificate",
        ),
        (vec!["serve-http", ".", "--bind", "0", "--ready-file", "/nonexistent/f"], 73, "/nonexistent/f"),
    ] {
        let ran = run(&arguments);
        assert_eq!(ran.code, code, "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(word), "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.starts_with("netlab: ") && ran.stderr.lines().count() <= 3, "{}", ran.stderr);
    }
}

#[test]
fn a_usage_error_is_code_2_and_names_what_is_expected() {
    for (arguments, word) in [
        (vec!["serve-http", "--bind", "65536"], "65535"),
        (vec!["serve-http", "--bind", "::1:80"], "[::1]:80"),
        (vec!["serve-http", "--threads=0"], "1 to 1024"),
        (vec!["serve-http", "--for=-1s"], "1.5s"),
        (vec!["serve-http", "--for", "NaN"], "1.5s"),
        (vec!["serve-http", "--log", "xml"], "combined"),
        (vec!["serve-http", "--index", "a/b"], "file name"),
        (vec!["serve-http", "--tls-cert", "x"], "--tls-key"),
        (vec!["serve-htp"], "serve-http"),
        (vec!["serve-http", "--bnd", "1"], "--bind"),
        (vec![], "Usage"),
    ] {
        let ran = run(&arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{arguments:?}");
        assert!(ran.stderr.contains(word), "{arguments:?}: {}", ran.stderr);
    }
}

#[test]
fn a_signal_ends_the_server_with_the_summary_and_code_0() {
    for signal in [Signal::INT, Signal::TERM] {
        let server = Server::start(&["serve-http", path_str(&demo_site())]);
        send_and_read(server.address(), b"GET /style.css HTTP/1.0\r\n\r\n");
        send_and_read(server.address(), b"GET /none HTTP/1.0\r\n\r\n");
        server.signal(signal);
        let ran = server.wait();
        assert_eq!(ran.code, 0);
        assert!(ran.stderr.contains("--- 2 requests on 2 connections in "), "{}", ran.stderr);
        assert!(ran.stderr.contains("2xx 1, 3xx 0, 4xx 1, 5xx 0; "), "{}", ran.stderr);
        assert!(ran.stderr.contains("\nlatency min/mean/p50/p90/p99/max/stddev = "), "{}", ran.stderr);
    }
}

#[test]
fn idle_connections_do_not_delay_the_end() {
    let server = Server::start(&["serve-http", path_str(&demo_site()), "--grace", "60s"]);
    let idle: Vec<TcpStream> = (0..3)
        .map(|_| {
            let mut stream = connect(server.address());
            stream.write_all(b"GET /style.css HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
            read_one_response(&mut stream);
            stream
        })
        .collect();
    assert_eq!(server.stop().code, 0, "long before the grace period is over, or this test hangs");
    drop(idle);
}

#[test]
fn a_download_in_progress_completes_and_new_connections_are_refused() {
    let large = vec![b'x'; 20_000_000];
    let directory = site(&[("large", &large)]);
    let server = Server::start(&["serve-http", path_str(directory.path()), "--grace", "60s"]);
    let address = server.address();
    let mut stream = connect(address);
    stream.write_all(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
    stream.read_exact(&mut [0; 1000]).expect("the first bytes");
    let idle = connect(address);
    server.signal(Signal::TERM);
    // The idle connection is closed as soon as the server drains; from then on it does not listen.
    assert!(crate::support::read_until_close(idle).is_empty());
    assert!(TcpStream::connect(address).is_err());
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("the rest");
    assert!(rest.len() > large.len() - 1000);
    assert_eq!(server.wait().code, 0);
}

#[test]
fn a_response_in_progress_is_cut_after_the_grace_period() {
    let directory = site(&[("large", &vec![b'x'; 20_000_000])]);
    let server = Server::start(&["serve-http", path_str(directory.path()), "--grace", "50ms", "--json"]);
    let mut stream = connect(server.address());
    stream.write_all(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
    stream.read_exact(&mut [0; 1000]).expect("the first bytes");
    let ran = server.stop();
    assert_eq!((ran.code, &ran.summary()["cut"], &ran.summary()["requests"]), (0, &1.into(), &1.into()));
    let events = ran.events();
    let response = events.iter().find(|event| event["type"] == "response").expect("it is reported");
    assert_eq!((&response["complete"], &response["error"]), (&false.into(), &"the server stopped".into()));
}

#[test]
fn a_second_signal_ends_the_server_at_once() {
    let directory = site(&[("large", &vec![b'x'; 20_000_000])]);
    let server = Server::start(&["serve-http", path_str(directory.path()), "--grace", "1h"]);
    let mut stream = connect(server.address());
    stream.write_all(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
    stream.read_exact(&mut [0; 1000]).expect("the first bytes");
    let idle = connect(server.address());
    server.signal(Signal::INT);
    assert!(crate::support::read_until_close(idle).is_empty(), "the first signal was handled");
    server.signal(Signal::INT);
    assert_eq!(server.wait().code, 0);
}

#[test]
fn the_server_stops_after_count_requests_or_the_given_time() {
    let server = Server::start(&["serve-http", path_str(&demo_site()), "--count", "3", "--threads=2"]);
    let address = server.address();
    for _ in 0..3 {
        assert!(send_and_read(address, b"GET /style.css HTTP/1.0\r\n\r\n").starts_with(b"HTTP/1.1 200"));
    }
    let ran = server.wait();
    assert_eq!(ran.code, 0);
    assert!(ran.stderr.contains("--- 3 requests"), "{}", ran.stderr);
    assert_eq!(run(&["serve-http", path_str(&demo_site()), "--bind", "0", "--for", "20ms"]).code, 0);
}

#[test]
fn the_last_of_count_requests_gets_connection_close() {
    let server = Server::start(&["serve-http", path_str(&demo_site()), "--count", "2"]);
    let mut stream = connect(server.address());
    for expected in ["keep-alive", "close"] {
        stream.write_all(b"GET /style.css HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
        assert!(read_one_response(&mut stream).0.contains(&format!("\r\nConnection: {expected}\r\n")));
    }
    assert_eq!(server.wait().code, 0);
}

#[test]
fn the_ready_file_has_the_bound_addresses() {
    let directory = site(&[("a", b"x")]);
    let server = Server::start(&["serve-http", path_str(directory.path()), "--json"]);
    let addresses = server.addresses.clone();
    let listening = server.stop().events().swap_remove(0);
    assert_eq!(listening["urls"], serde_json::json!(addresses));
}

#[test]
fn a_public_bind_and_a_private_root_cause_warnings() {
    let ran = run(&["serve-http", "/", "--bind", "*:0", "--for", "20ms"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("including private files") && ran.stderr.contains("any host"), "{}", ran.stderr);
    assert!(ran.stderr.contains("  http://127.0.0.1:"), "reachable URLs are printed: {}", ran.stderr);
    let quiet = run(&["serve-http", "/", "--bind", "*:0", "--for", "20ms", "-q"]);
    assert_eq!(quiet.stdout, "");
    assert!(quiet.stderr.starts_with("--- 0 requests"), "{}", quiet.stderr);
}

#[test]
fn a_privileged_port_is_permission_denied() {
    if !rustix::process::geteuid().is_root() {
        let ran = run(&["serve-http", ".", "--bind", "127.0.0.1:80"]);
        assert!(matches!(ran.code, 71 | 77), "{}", ran.stderr);
        return;
    }
    let directory = site(&[("a", b"x")]);
    let copy = directory.path().join("netlab");
    fs::copy(env!("CARGO_BIN_EXE_netlab"), &copy).expect("copied");
    for (path, mode) in [(directory.path(), 0o755), (&copy, 0o755)] {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).expect("changed");
    }
    let mut command = std::process::Command::new("setpriv");
    command.args(["--reuid", "65534", "--clear-groups", "--bounding-set=-all"]).arg(&copy).args([
        "serve-http",
        path_str(directory.path()),
        "--bind",
        "127.0.0.1:80",
        "--for",
        "100ms",
    ]);
    let ran = crate::support::run_command(command);
    // Some systems allow every user to bind every port (net.ipv4.ip_unprivileged_port_start=0).
    let is_allowed =
        fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").is_ok_and(|start| start.trim() == "0");
    assert!(ran.code == 77 || is_allowed, "{} {}", ran.code, ran.stderr);
}

#[test]
fn help_is_code_0_and_goes_to_stdout() {
    for arguments in [vec!["-h"], vec!["--help"], vec!["help", "get"], vec!["serve-http", "--help"], vec!["--version"]]
    {
        let ran = run(&arguments);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{arguments:?}");
        assert!(!ran.stdout.is_empty());
    }
}

#[test]
fn an_argument_that_is_not_utf8_causes_no_panic() {
    use std::os::unix::ffi::OsStrExt as _;
    let bad = std::ffi::OsStr::from_bytes(b"\xff\xfe");
    let mut command = netlab(&["serve-http", "--bind", "0", "--for", "20ms"]);
    command.arg(bad);
    assert_eq!(crate::support::run_command(command).code, 66, "as a path, it does not exist");
    let mut command = netlab(&["get"]);
    command.arg(bad);
    assert_eq!(crate::support::run_command(command).code, 2);
}
