//! Reports of what a client or a server waits for, after two seconds of silence.

use std::io::{BufRead as _, BufReader, Write as _};

use rustix::process::Signal;

use crate::support::{ScriptedPeer, Server, connect, demo_site, netlab, path_str, read_until_close, run, site};

/// Sends `bytes` to a server started with `-v` and returns its first report.
fn report_of_server(arguments: &[&str], bytes: &[u8]) -> String {
    let mut server = Server::start(&[arguments, &["-v"]].concat());
    let mut stderr = BufReader::new(server.stderr());
    let mut client = connect(server.address());
    client.write_all(bytes).expect("sent");
    let mut line = String::new();
    while !line.contains(" 127.0.0.1:") {
        line.clear();
        assert_ne!(stderr.read_line(&mut line).expect("text"), 0, "the server has ended");
    }
    server.signal(Signal::TERM);
    line
}

#[test]
fn a_server_says_what_a_silent_client_has_left_out() {
    let site = demo_site();
    let web = &["serve-http", path_str(&site)];
    for (arguments, bytes, expected) in [
        (
            &web[..],
            &b"GET / HTTP/1.1\r\nHost: localhost\r\n"[..],
            "the empty line that ends the request head (RFC 9112 §2.1), last line: 'Host: localhost'",
        ),
        (web, b"", "waiting for a request"),
        (web, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP/1.1 keeps the connection open"),
        (&["mail-serve"], b"EHLO x", "EHLO and CR LF (RFC 5321 §4.1.1.1), last line: 'EHLO x'"),
        (
            &["mail-serve"],
            b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@x>\r\nDATA\r\nhi\nQUIT\r\n",
            "CR LF . CR LF (RFC 5321 §4.1.1.4), last line: 'QUIT'",
        ),
        (&["mail-serve", "--tls-self-signed"], b"EHLO x\r\nSTARTTLS\r\n", "the TLS handshake (RFC 8446 §4)"),
    ] {
        let report = report_of_server(arguments, bytes);
        assert!(report.contains(expected), "{report}");
    }
}

#[test]
fn a_server_says_that_no_client_has_come() {
    let site = demo_site();
    for arguments in [&["serve-http", path_str(&site)][..], &["mail-serve"]] {
        let mut server = Server::start(&[arguments, &["-v"]].concat());
        let stderr = BufReader::new(server.stderr());
        let found = stderr.lines().map_while(Result::ok).find(|line| line.contains("waiting"));
        assert!(found.is_some_and(|line| line.contains("waiting for the first connection: 2 s")), "{arguments:?}");
        server.signal(Signal::TERM);
    }
}

#[test]
fn a_client_says_what_it_waits_for_and_what_was_interrupted() {
    let hold = |stream: std::net::TcpStream| drop(read_until_close(stream));
    let peer = ScriptedPeer::start(vec![Box::new(hold)]);
    let ran = run(&["get", "-v", &format!("http://{}/", peer.address), "--deadline", "2500ms"]);
    assert!(ran.stderr.contains("connected, request sent, waiting for the response: 2 s"), "{}", ran.stderr);
    let peer = ScriptedPeer::start(vec![Box::new(hold)]);
    let mut command = netlab(&[
        "mail",
        "-v",
        "--plain",
        &peer.address.to_string(),
        "--from",
        "a@x.test",
        "--to",
        "b@x.test",
        "--text",
        "hi",
    ]);
    let mut child =
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped()).spawn().expect("it runs");
    let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
    let mut line = String::new();
    stderr.read_line(&mut line).expect("text");
    assert!(line.ends_with("waiting for the greeting: 2 s\n"), "{line}");
    rustix::process::kill_process(crate::support::pid(&child), Signal::INT).expect("it runs");
    line.clear();
    stderr.read_line(&mut line).expect("text");
    assert_eq!(
        (child.wait().expect("ended").code(), line.as_str()),
        (Some(130), "netlab: interrupted while waiting for the greeting\n")
    );
}

#[test]
fn a_datagram_server_says_that_nothing_has_arrived() {
    for (arguments, expected) in [
        (&["ping-serve"][..], "waiting for the first datagram: 2 s\n"),
        (&["heartbeat", "watch"], "waiting for the first datagram: 2 s\n"),
    ] {
        let mut server = Server::start(&[arguments, &["-v"]].concat());
        let mut line = String::new();
        BufReader::new(server.stderr()).read_line(&mut line).expect("text");
        assert_eq!(line, expected);
    }
}

#[test]
fn a_blocked_upload_and_a_load_run_are_reported() {
    let big = site(&[("big", &vec![b'x'; 16 << 20])]);
    let file = format!("@{}", path_str(&big.path().join("big")));
    let (release, held) = std::sync::mpsc::channel::<()>();
    let peer = ScriptedPeer::start(vec![Box::new(move |stream| {
        // Ends when the client has given up.
        let _ = held.recv();
        drop(stream);
    })]);
    let ran = run(&["get", "-v", "--data", &file, &peer.url("/"), "--deadline", "2500ms"]);
    drop(release);
    assert!(ran.stderr.contains("waiting for the server to read the request, "), "{}", ran.stderr);
    let hold = |stream: std::net::TcpStream| drop(read_until_close(stream));
    let peer = ScriptedPeer::start(vec![Box::new(hold)]);
    let to = peer.address.to_string();
    let flags = ["--from", "a@x.test", "--to", "b@x.test", "--text", "hi", "-c", "1", "-w", "2500ms", "--json", "-v"];
    let ran = run(&[&["mail", "--plain", &to][..], &flags].concat());
    assert!(ran.stderr.contains("waiting for the server, 0 mails done: 2 s"), "{}", ran.stderr);
}

#[test]
fn without_a_terminal_a_report_needs_v() {
    let hold = |stream: std::net::TcpStream| drop(read_until_close(stream));
    let peer = ScriptedPeer::start(vec![Box::new(hold)]);
    let ran = run(&["get", &format!("http://{}/", peer.address), "--deadline", "2200ms"]);
    assert!(!ran.stderr.contains("waiting"), "{}", ran.stderr);
}

#[test]
fn a_report_shows_no_secret() {
    let site = demo_site();
    let web = &["serve-http", path_str(&site)];
    for (arguments, bytes, expected) in [
        (&["mail-serve"][..], &b"EHLO x\r\nAUTH PLAIN c2VjcmV0"[..], "last line: 'AUTH PLAIN [hidden]'"),
        (&["mail-serve"], b"EHLO x\r\nAUTH LOGIN\r\nc2VjcmV0", "waiting for a command"),
        (web, b"GET / HTTP/1.1\r\nAuthorization: Basic c2VjcmV0", "last line: 'Authorization: [hidden]'"),
    ] {
        let report = report_of_server(arguments, bytes);
        assert!(report.contains(expected) && !report.contains("c2Vj"), "{report}");
    }
}
