//! The usual mistakes of the programs of a networking course: each answer quotes what was received and names the
//! clause.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::thread;
use std::time::Duration;

use crate::support::{ScriptedPeer, Server, connect, demo_site, path_str, read_head, run, send_and_read};

/// Runs `get --explain` against a server that sends `response` and keeps the connection open if it `stays`.
fn get(response: &'static [u8], stays: bool) -> (i32, String) {
    let script = move |mut stream: TcpStream| {
        read_head(&mut stream);
        stream.write_all(response).expect("sent");
        if stays {
            // Until the client gives up.
            let _ = stream.read(&mut [0]);
        }
    };
    let peer = ScriptedPeer::start(vec![Box::new(script)]);
    let ran = run(&["get", "--explain", "--timeout", "300ms", &peer.url("/")]);
    (ran.code, ran.stderr)
}

#[test]
fn a_wrong_web_server_is_told_what_is_wrong() {
    for (response, stays, code, words) in [
        (
            &b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"[..],
            false,
            76,
            &["got: 'Content-Type: text/html'", "an empty line after the last field line (RFC 9112 §2.1)"][..],
        ),
        (b"HTTP/1.1 200 OK\r\nServer: me\r\n", true, 75, &["response head timed out", "got: 'Server: me'", "§2.1"]),
        (b"HTTP/1.1 200 OK\nServer: me\n\nhi", false, 76, &["got: 'HTTP/1.1 200 OK'", "CRLF (RFC 9112 §2.2)"]),
        (b"HTTP/1.1 OK 200\r\n\r\nhi", false, 76, &["got: 'HTTP/1.1 OK 200'", "RFC 9112 §4"]),
        (b"200 OK\r\n\r\nhi", false, 76, &["got: '200 OK'", "RFC 9112 §4"]),
        (b"HTTP 200 OK\r\n\r\nhi", false, 76, &["got: 'HTTP 200 OK'", "RFC 9112 §4"]),
        (b"http/1.1 200 ok\r\n\r\nhi", false, 76, &["got: 'http/1.1 200 ok'", "RFC 9112 §4"]),
        (b"b'HTTP/1.1 200 OK'\r\n\r\nhi", false, 76, &["got: 'b'HTTP/1.1 200 OK''", "RFC 9112 §4"]),
        (
            b"HTTP/1.1 200 OK\r\n\r\nhi",
            true,
            75,
            &["the end of the connection, which delimits this body (RFC 9112 §6.3)"],
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi",
            false,
            82,
            &["7 bytes before the end", "9 bytes, as announced", "RFC 9110 §8.6"],
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhello", false, 0, &["more than the 2 bytes it announced"]),
        (
            b"HTTP/1.1 200 OK\r\nContent-Type text/html\r\n\r\nhi",
            false,
            76,
            &["got: 'Content-Type text/html'", "RFC 9112 §5"],
        ),
        (b"HTTP/1.1 200 OK\r\nServer : me\r\n\r\nhi", false, 76, &["got: 'Server : me'", "RFC 9112 §5"]),
        (b"", true, 75, &["response timed out after 300ms"]),
        (b"", false, 75, &["connection closed before any response"]),
    ] {
        let (exit, stderr) = get(response, stays);
        assert_eq!(exit, code, "{}: {stderr}", response.escape_ascii());
        for word in words {
            assert!(stderr.contains(word), "{}: '{word}' in {stderr}", response.escape_ascii());
        }
    }
}

#[test]
fn a_wrong_web_client_is_told_what_is_wrong() {
    for (request, words) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "missing Host field (RFC 9112 §3.2)"),
        (b"GET / HTTP/1.1\nHost: localhost\n\n", "a line ends in a bare LF (RFC 9112 §2.2): 'GET / HTTP/1.1'"),
        (b"GET / HTTP/1.1\r\nHost x\r\n\r\n", "malformed field line (RFC 9112 §5): 'Host x'"),
        (b"GET /\r\n\r\n", "malformed request line: expected method, target, version (RFC 9112 §3)"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n", "no empty line after 'Host: localhost' (RFC 9112 §2.1)"),
    ] {
        let server = Server::start(&["serve-http", path_str(&demo_site())]);
        let mut stream = connect(server.address());
        stream.write_all(request).expect("sent");
        stream.shutdown(std::net::Shutdown::Write).expect("connected");
        let _ = stream.read_to_end(&mut Vec::new());
        let stderr = server.stop().stderr;
        assert!(stderr.contains(words), "{}: {stderr}", request.escape_ascii());
    }
}

/// Runs `ping --explain` against a server that answers each datagram through `answer`, if at all.
fn ping(answer: impl Fn(&UdpSocket, &[u8], std::net::SocketAddr) + Send + 'static) -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
    let address = socket.local_addr().expect("bound").to_string();
    let server = thread::spawn(move || {
        let mut buffer = [0; 2048];
        for _ in 0..2 {
            let (length, peer) = socket.recv_from(&mut buffer).expect("a ping");
            answer(&socket, &buffer[..length], peer);
        }
    });
    let ran = run(&["ping", &address, "-c", "2", "-i", "50ms", "--timeout", "300ms", "--explain"]);
    server.join().expect("two pings");
    ran.stdout + &ran.stderr
}

#[test]
fn a_wrong_udp_server_is_told_what_is_wrong() {
    let other_port = ping(|_, bytes, peer| {
        let other = UdpSocket::bind("127.0.0.1:0").expect("bound");
        other.send_to(&bytes.to_ascii_uppercase(), peer).expect("sent");
    });
    assert!(other_port.contains("not from the target\n  got: 'PING 1 "), "{other_port}");
    assert!(other_port.contains("answer on the socket that received the ping"), "{other_port}");
    let cut = ping(|socket, bytes, peer| drop(socket.send_to(&bytes[..12], peer)));
    assert!(cut.contains("got: 'Ping 1 ") && cut.contains("expected: the ping, unchanged or in upper case"), "{cut}");
    assert!(cut.contains("a truncated reply"), "{cut}");
    let counting = ping(|socket, _, peer| drop(socket.send_to(b"PING 9 1\n", peer)));
    assert!(counting.contains("sequence number was never sent\n  got: 'PING 9 1\\n'"), "{counting}");
    assert!(counting.contains("return the sequence number of the ping"), "{counting}");
    let twice = ping(|socket, bytes, peer| (0..2).for_each(|_| drop(socket.send_to(bytes, peer))));
    assert!(twice.contains("duplicate reply 1") && twice.contains("twice (RFC 8085 §3.3)"), "{twice}");
    let silent = ping(|_, _, _| ());
    assert!(silent.contains("timeout 1: no reply in time") && silent.contains("RFC 8085 §3.3"), "{silent}");
}

#[test]
fn a_wrong_heartbeat_is_told_what_is_wrong() {
    let server = Server::start(&["heartbeat", "watch", "--explain", "--count", "6"]);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
    let forms = [
        ("Heartbeat,1,1764520000.25", "words are separated by one space each"),
        ("{\"seq\": 1, \"time\": 1764520000.25}", "a serialized object"),
        ("Heartbeat 1764520000.25 1", "the word before the time is not a sequence number"),
        ("Heartbeat 1 16:00:00", "the last word is not a time in seconds since 1970"),
        ("1764520000.25", "the number or the time is missing"),
        ("\0\0\0\u{1}", "binary data; a beat is text"),
    ];
    for (form, _) in forms {
        socket.send_to(form.as_bytes(), server.address()).expect("sent");
    }
    let ran = server.wait();
    assert!(ran.stdout.contains("got: 'Heartbeat,1,1764520000.25'"), "{}", ran.stdout);
    for (form, explanation) in forms {
        assert!(ran.stderr.contains("(not a beat, "), "{form}: {}", ran.stderr);
        assert!(ran.stderr.contains(explanation), "{form}: {}", ran.stderr);
    }
}

#[test]
fn a_wrong_mail_client_is_told_what_is_wrong() {
    let hello = "EHLO x\r\n";
    let envelope = "MAIL FROM:<a@x.test>\r\nRCPT TO:<b@x.test>\r\n";
    let long = "y".repeat(2_000);
    for (dialogue, words) in [
        ("EHLO x".to_owned(), "CR LF is missing (RFC 5321 §2.3.8)"),
        ("EHLO x\n".to_owned(), "not a bare LF (RFC 5321 section 2.3.8)"),
        (format!("{hello}{envelope}DATA\r\nhi\r\n"), "CR LF . CR LF (RFC 5321 §4.1.1.4) is missing"),
        (format!("{hello}{envelope}DATA\r\nhi\n.\n"), "CR LF . CR LF (RFC 5321 §4.1.1.4) is missing"),
        (format!("{hello}NOOP\r\n"), "commands were sent before the reply to EHLO (RFC 2920 §3.1)"),
        (
            format!("{hello}MAIL FROM: <a@x.test>\r\n"),
            "'MAIL FROM: <a@x.test>': space after the colon is not allowed (RFC 5321 §3.3)",
        ),
        (format!("{hello}RCPT TO:<a@x.test>\r\n"), "503 5.5.1 send MAIL first (RFC 5321 section 4.1.4)"),
        ("MAIL FROM:<a@x.test>\r\n".to_owned(), "503 5.5.1 send EHLO first (RFC 5321 section 4.1.4)"),
        (
            format!("{hello}{envelope}DATA\r\nhello\r\n.\r\n"),
            "begins with 'hello'; From and Date are required (RFC 5322 §3.6)",
        ),
        (
            format!("{hello}{envelope}DATA\r\nFrom: a@x.test\r\n\r\n{long}\r\n.\r\n"),
            "a line of 2000 bytes; the limit is 998 (RFC 5322 §2.1.1)",
        ),
        (
            format!("{hello}{envelope}DATA\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--c\r\n.\r\n"),
            "multipart boundary line '--b' is missing (RFC 2046 §5.1.1)",
        ),
        (
            format!("{hello}{envelope}DATA\r\nFrom: a@x.test\r\n\r\né\r\n.\r\n"),
            "bytes above 127 without BODY=8BITMIME (RFC 6152 §2)",
        ),
    ] {
        let server = Server::start(&["mail-serve", "--explain"]);
        let mut stream = connect(server.address());
        stream.write_all(dialogue.as_bytes()).expect("sent");
        stream.shutdown(std::net::Shutdown::Write).expect("connected");
        let _ = stream.read_to_end(&mut Vec::new());
        let ran = server.stop();
        let printed = ran.stdout + &ran.stderr;
        assert!(printed.contains(words), "{dialogue:?}: '{words}' in {printed}");
    }
}

#[test]
fn a_wrong_login_is_told_what_is_wrong() {
    let directory = crate::support::site(&[("users", b"alice:secret\n")]);
    let users = directory.path().join("users");
    fs::set_permissions(&users, fs::Permissions::from_mode(0o600)).expect("changed");
    for (line, words) in [
        ("AUTH PLAIN !!!", "not valid base64 (RFC 4954 section 4)"),
        ("AUTH PLAIN YWxpY2U6c2VjcmV0", "expected base64 of [authzid] NUL user NUL password (RFC 4616 section 2)"),
        ("AUTH PLAINYWxp", "see AUTH in the EHLO reply (RFC 4954 section 4)"),
    ] {
        let server = Server::start(&["mail-serve", "--explain", "--insecure-auth", "--auth-file", path_str(&users)]);
        send_and_read(server.address(), format!("EHLO x\r\n{line}\r\nQUIT\r\n").as_bytes());
        let ran = server.stop();
        let printed = ran.stdout + &ran.stderr;
        assert!(printed.contains(words), "{line:?}: '{words}' in {printed}");
    }
}
