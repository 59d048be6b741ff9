//! Tests of `get` against scripted peers and `serve-http`.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Signal, kill_process};

use crate::support::{ScriptedPeer, Server, demo_site, netlab, path_str, pid, read_head, run, run_command, site};

#[test]
fn a_body_is_written_to_stdout_unchanged() {
    let directory = site(&[("bytes", &(0..=255).collect::<Vec<u8>>())]);
    let server = Server::start(&["serve-http", path_str(directory.path())]);
    let output = netlab(&["get", &server.url("/bytes")]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stdout, (0..=255).collect::<Vec<u8>>());
    assert!(output.stderr.is_empty());
}

#[test]
fn every_framing_is_decoded() {
    for response in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nhe\r\n3\r\nllo\r\n0\r\nT: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\nhello",
        "HTTP/1.0 200 OK\r\n\r\nhello",
        "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    ] {
        let peer = ScriptedPeer::answer(response);
        let ran = run(&["get", &peer.url("/")]);
        assert_eq!((ran.code, ran.stdout.as_str()), (0, "hello"), "{response:?}: {}", ran.stderr);
    }
}

#[test]
fn an_invalid_response_has_its_exit_code_and_message() {
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(1_000_000));
    let interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(100);
    for (response, code, word) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello", 82, "45 bytes before the end"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", 82, "before the end"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 76, "hexadecimal"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n", 76, "hexadecimal"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n", 76, "longer than its size"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 76, "Content-Length"),
        (" HTTP/1.1 200 OK\nContent-Type: text/html\n\nhello", 76, "white space"),
        ("HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", 76, "bare LF"),
        ("<html>hello</html>", 76, "got: '<html>hello</html>'"),
        ("HTTP/2.0 200 OK\r\n\r\n", 76, "version"),
        ("", 75, "before any response"),
        ("HTTP/1.1 200 OK\r\nContent-", 76, "got: 'Content-'"),
        (&long, 76, "too large"),
        (&interim, 76, "interim"),
    ] {
        let peer = ScriptedPeer::answer(response);
        let ran = run(&["get", &peer.url("/")]);
        assert_eq!(ran.code, code, "{:?}: {}", &response[..response.len().min(80)], ran.stderr);
        assert!(ran.stderr.contains(word), "{}", ran.stderr);
    }
}

#[test]
fn a_reset_within_the_body_is_an_incomplete_transfer() {
    let peer = ScriptedPeer::start(vec![Box::new(|mut stream| {
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhello").expect("sent");
        socket2::Socket::from(stream).set_linger(Some(Duration::ZERO)).expect("set");
    })]);
    let ran = run(&["get", &peer.url("/")]);
    // An RST may overtake the body, so both exit codes are correct.
    assert!(matches!(ran.code, 82 | 75), "{} {}", ran.code, ran.stderr);
}

#[test]
fn a_body_in_slices_is_complete_and_a_reset_leaves_no_file() {
    use crate::support::relay::{Relay, TcpImpairment};
    let content: Vec<u8> = (0..20_000_u32).flat_map(u32::to_le_bytes).collect();
    let directory = site(&[("site/page", &content)]);
    let server = Server::start(&["serve-http", path_str(&directory.path().join("site"))]);
    for slice in [1, 7, 1000] {
        let relay = Relay::tcp(server.address(), TcpImpairment::Slices(slice));
        let output = netlab(&["get", &format!("http://{}/page", relay.address)]).output().expect("it runs");
        assert!(output.status.success() && output.stdout == content, "slices of {slice}: {}", output.stdout.len());
    }
    let relay = Relay::tcp(server.address(), TcpImpairment::ResetAfter(30_000));
    let target = directory.path().join("page");
    let ran = run(&["get", "-o", path_str(&target), &format!("http://{}/page", relay.address)]);
    // The RST may overtake the bytes before it, including the head.
    assert!(matches!(ran.code, 82 | 75), "{} {}", ran.code, ran.stderr);
    assert!(!target.exists());
}

#[test]
fn more_data_than_announced_is_ignored_with_a_note() {
    let peer = ScriptedPeer::answer("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello, world");
    let ran = run(&["get", &peer.url("/")]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "hello"));
    assert!(ran.stderr.contains("bytes it announced"), "{}", ran.stderr);
}

#[test]
fn a_timeout_is_code_75_in_every_phase() {
    // Accepted by the kernel, but never answered.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/", listener.local_addr().expect("bound"));
    let ran = run(&["get", "--timeout", "100ms", &url]);
    assert_eq!(ran.code, 75, "{}", ran.stderr);
    assert!(ran.stderr.contains("response timed out after 100ms"), "{}", ran.stderr);
    let tls = run(&["get", "--timeout", "100ms", "--insecure", &url.replace("http:", "https:")]);
    assert_eq!(tls.code, 75, "{}", tls.stderr);
    assert!(tls.stderr.contains("TLS handshake"), "{}", tls.stderr);
    let deadline = run(&["get", "--deadline", "100ms", &url]);
    assert_eq!(deadline.code, 75, "{}", deadline.stderr);
    assert!(deadline.stderr.contains("deadline"), "{}", deadline.stderr);
    let peer = ScriptedPeer::start(vec![Box::new(|mut stream| {
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello").expect("sent");
        let _ = stream.read(&mut [0]);
    })]);
    let body = run(&["get", "--timeout", "100ms", &peer.url("/")]);
    assert_eq!(body.code, 75, "{}", body.stderr);
    assert!(body.stderr.contains("response body timed out"), "{}", body.stderr);
}

#[test]
fn connection_refused_is_code_69_at_once() {
    let ran = run(&["get", "http://127.0.0.1:1/"]);
    assert_eq!(ran.code, 69);
    assert!(ran.stderr.contains("connection refused") && ran.stderr.lines().count() == 2, "{}", ran.stderr);
}

#[test]
fn an_invalid_host_name_is_unknown() {
    let ran = run(&["get", "--timeout", "10s", "http://a..b/"]);
    // Without a name server, the failure is temporary.
    assert!(matches!(ran.code, 68 | 75), "{} {}", ran.code, ran.stderr);
}

#[test]
fn a_status_of_400_or_above_is_code_1_and_leaves_no_file() {
    let directory = site(&[("a", b"hello")]);
    let server = Server::start(&["serve-http", path_str(directory.path())]);
    let target = directory.path().join("out");
    let ran = run(&["get", "-o", path_str(&target), &server.url("/none")]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    assert!(ran.stderr.contains("404 Not Found"), "{}", ran.stderr);
    assert_eq!(fs::read_dir(directory.path()).expect("readable").count(), 1, "neither a file nor a part file");
    let shown = run(&["get", &server.url("/none")]);
    assert!(shown.code == 1 && shown.stdout.contains("404 Not Found"), "the page is still printed");
}

#[test]
fn a_file_appears_only_when_complete() {
    let directory = site(&[("old", b"old")]);
    let target = directory.path().join("old");
    let peer = ScriptedPeer::answer("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello");
    let ran = run(&["get", "-o", path_str(&target), &peer.url("/")]);
    assert_eq!(ran.code, 82);
    assert!(ran.stderr.contains("old.part"), "the part file is named: {}", ran.stderr);
    assert_eq!(fs::read(&target).expect("untouched"), b"old");
    assert_eq!(fs::read(directory.path().join("old.part")).expect("kept"), b"hello");
    let peer = ScriptedPeer::answer("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nnew");
    assert_eq!(run(&["get", "-o", path_str(&target), &peer.url("/")]).code, 0);
    assert_eq!(fs::read(&target).expect("replaced"), b"new");
    assert!(!directory.path().join("old.part").exists());
}

#[test]
fn a_name_from_the_url_overwrites_only_with_force() {
    let directory = site(&[("site/page", b"new"), ("page", b"old")]);
    let server = Server::start(&["serve-http", path_str(&directory.path().join("site"))]);
    let get = |flags: &[&str]| {
        let url = server.url("/page?query");
        let mut command = netlab(&[&["get", "-O"], flags, &[&url]].concat());
        command.current_dir(directory.path());
        run_command(command)
    };
    let rejected = get(&[]);
    assert_eq!(rejected.code, 73);
    assert!(rejected.stderr.contains("--force"), "{}", rejected.stderr);
    assert_eq!(fs::read(directory.path().join("page")).expect("there"), b"old");
    assert_eq!(get(&["--force"]).code, 0);
    assert_eq!(fs::read(directory.path().join("page")).expect("there"), b"new");
    assert_eq!(run(&["get", "-O", &server.url("/")]).code, 2, "no name in the URL");
}

#[test]
fn an_unwritable_output_is_reported_before_connecting() {
    let directory = site(&[("a", b"x")]);
    // Nothing listens on port 1, so a connection attempt would be code 69.
    for target in ["/nonexistent/f", path_str(directory.path())] {
        assert_eq!(run(&["get", "-o", target, "http://127.0.0.1:1/"]).code, 73, "{target}");
    }
}

#[test]
fn a_device_is_written_to_directly() {
    let peer = ScriptedPeer::answer("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(run(&["get", "-o", "/dev/null", &peer.url("/")]).code, 0);
    assert!(!fs::metadata("/dev/null").expect("still there").is_file());
    let peer = ScriptedPeer::answer("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(run(&["get", "-o", "/dev/full", &peer.url("/")]).code, 74);
}

#[test]
fn a_full_stdout_is_code_74_and_a_closed_one_is_silent() {
    let peer = ScriptedPeer::answer("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux");
    let mut command = netlab(&["get", &peer.url("/")]);
    command.stdout(full).stderr(Stdio::piped());
    let output = command.spawn().expect("it runs").wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(74));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no space left"));

    let body = vec![b'x'; 10_000_000];
    let peer = ScriptedPeer::answer(
        [format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), &body].concat(),
    );
    let mut command = netlab(&["get", &peer.url("/")]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    let mut pipe = child.stdout.take().expect("piped");
    pipe.read_exact(&mut [0; 10]).expect("the first bytes");
    drop(pipe);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}

/// Peer that redirects `count` requests to `location` and then responds with 200.
fn redirecting(count: usize, location: impl Fn(usize) -> String) -> ScriptedPeer {
    let mut scripts: Vec<Box<dyn FnOnce(TcpStream) + Send>> = Vec::new();
    for hop in 0..count {
        let response = format!("HTTP/1.1 302 Found\r\nLocation: {}\r\nContent-Length: 4\r\n\r\nmove", location(hop));
        scripts.push(Box::new(move |mut stream| {
            read_head(&mut stream);
            let _ = stream.write_all(response.as_bytes());
        }));
    }
    scripts.push(Box::new(|mut stream| {
        read_head(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfinal");
    }));
    ScriptedPeer::start(scripts)
}

#[test]
fn ten_redirects_are_followed_and_eleven_are_not() {
    let ran = run(&["get", &redirecting(10, |hop| format!("/{hop}")).url("/")]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "final"), "{}", ran.stderr);
    let loops = run(&["get", &redirecting(11, |_| "/".into()).url("/")]);
    assert_eq!(loops.code, 76);
    assert!(loops.stderr.contains("more than 10 redirects"), "{}", loops.stderr);
    let redirect = run(&["get", "--max-redirects", "0", &redirecting(1, |_| "/".into()).url("/")]);
    assert_eq!((redirect.code, redirect.stdout.as_str()), (0, "move"));
}

#[test]
fn a_redirect_to_another_scheme_or_an_invalid_port_is_rejected() {
    for location in ["file:///etc/passwd", "ftp://h/", "javascript:x", "http://h:0/"] {
        let ran = run(&["get", &redirecting(1, |_| location.into()).url("/")]);
        assert_eq!((ran.code, ran.stdout.as_str()), (76, ""), "{location}: {}", ran.stderr);
    }
}

#[test]
fn credentials_are_not_sent_to_another_host() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let other = ScriptedPeer::start(vec![Box::new(move |mut stream| {
        sender.send(read_head(&mut stream)).expect("the test waits");
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").expect("sent");
    })]);
    let location = other.url("/x");
    let first = redirecting(1, move |_| location.clone());
    let url = first.url("/").replace("http://", "http://user:sesame@");
    let ran = run(&["get", "-H", "Cookie: c=sesame", "-H", "X-Kept: yes", &url]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let head = receiver.recv().expect("the other peer got a request");
    assert!(head.contains("X-Kept: yes") && !head.contains("sesame") && !head.contains("Authorization"), "{head}");
}

#[test]
fn secrets_are_sent_but_never_printed() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let peer = ScriptedPeer::start(vec![Box::new(move |mut stream| {
        sender.send(read_head(&mut stream)).expect("the test waits");
        stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").expect("sent");
    })]);
    let url = peer.url("/").replace("http://", "http://user:sesame@");
    let ran = run(&["get", "--trace", "-v", "--json", "-H", "Cookie: sesame", &url]);
    let head = receiver.recv().expect("a request");
    assert!(head.contains("Authorization: Basic dXNlcjpzZXNhbWU=") && head.contains("Cookie: sesame"), "{head}");
    let shown = format!("{}{}", ran.stdout, ran.stderr);
    assert!(!shown.contains("sesame") && !shown.contains("dXNlcjpzZXNhbWU"), "{shown}");
    assert!(shown.contains("Authorization: [hidden]"), "{shown}");
}

#[test]
fn the_request_follows_the_flags() {
    let request = |flags: &[&str], stdin: &str| {
        let (sender, receiver) = std::sync::mpsc::channel();
        let peer = ScriptedPeer::start(vec![Box::new(move |mut stream: TcpStream| {
            let head = read_head(&mut stream);
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("Content-Length: "))
                .map_or(0, |length| length.parse().expect("a number"));
            let mut body = vec![0; length];
            stream.read_exact(&mut body).expect("the body");
            sender.send((head, String::from_utf8(body).expect("text"))).expect("the test waits");
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        })]);
        let url = peer.url("/p?q");
        let mut child = netlab(&[&["get"], flags, &[&url]].concat()).stdin(Stdio::piped()).spawn().expect("it runs");
        child.stdin.take().expect("piped").write_all(stdin.as_bytes()).expect("written");
        assert!(child.wait().expect("it ends").success(), "{flags:?}");
        receiver.recv().expect("a request")
    };
    let (head, _) = request(&[], "");
    assert!(
        head.starts_with("GET /p?q HTTP/1.1\r\nHost: 127.0.0.1:") && head.contains("\r\nUser-Agent: netlab/"),
        "{head}"
    );
    assert!(request(&["-I"], "").0.starts_with("HEAD "));
    let (head, body) = request(&["-d", "a=b", "-H", "X: y"], "");
    assert!(
        head.starts_with("POST ") && head.contains("\r\nX: y\r\n") && head.contains("x-www-form-urlencoded"),
        "{head}"
    );
    assert_eq!(body, "a=b");
    let (head, body) = request(&["-X", "PUT", "-d", "@-", "-H", "Content-Type: text/plain"], "from stdin");
    assert!(
        head.starts_with("PUT ") && head.contains("\r\nContent-Type: text/plain\r\n") && !head.contains("urlencoded"),
        "{head}"
    );
    assert_eq!(body, "from stdin");
    let (head, _) = request(&["-H", "Host: other", "-H", "User-Agent: me"], "");
    assert!(
        head.contains("\r\nHost: other\r\n") && head.contains("\r\nUser-Agent: me\r\n") && !head.contains("netlab"),
        "{head}"
    );
}

#[test]
fn a_response_before_the_end_of_the_upload_is_received() {
    let directory = site(&[("large", &vec![b'x'; 20_000_000])]);
    let server = Server::start(&["serve-http", path_str(directory.path())]);
    let data = format!("@{}", directory.path().join("large").display());
    let ran = run(&["get", "-d", &data, &server.url("/large")]);
    assert!(ran.code == 1 && ran.stderr.contains("405 Method Not Allowed"), "{} {}", ran.code, ran.stderr);
}

#[test]
fn the_head_is_written_to_the_destination_of_the_body() {
    let server = Server::start(&["serve-http", path_str(&demo_site())]);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let target = directory.path().join("head");
    assert_eq!(run(&["get", "-I", "-o", path_str(&target), &server.url("/style.css")]).code, 0);
    assert!(fs::read_to_string(&target).expect("written").starts_with("HTTP/1.1 200 OK\r\n"));
}

#[test]
fn secrets_in_invalid_arguments_are_not_repeated() {
    for arguments in [
        vec!["get", "http://bob:hunter2@127.0.0.1:99999/"],
        vec!["get", "htps://bob:hunter2@h/"],
        vec!["get", "-H", "Authorization Bearer hunter2", "http://h/"],
        vec!["get", "-H", "Authorization: hunter2\u{1}", "http://h/"],
    ] {
        let ran = run(&arguments);
        assert_eq!(ran.code, 2, "{arguments:?}");
        assert!(!ran.stderr.contains("hunter2"), "{}", ran.stderr);
    }
}

#[test]
fn response_heads_are_printed_on_request() {
    let server = Server::start(&["serve-http", path_str(&demo_site())]);
    let head = run(&["get", "-I", &server.url("/style.css")]);
    assert!(head.stdout.starts_with("HTTP/1.1 200 OK\r\n") && head.stdout.ends_with("\r\n\r\n"), "{:?}", head.stdout);
    let both = run(&["get", "-i", &server.url("/style.css")]);
    assert!(
        both.stdout.starts_with("HTTP/1.1 200 OK\r\n") && both.stdout.contains("color-scheme"),
        "{:?}",
        both.stdout
    );
}

#[test]
fn a_probe_prints_responses_and_a_summary() {
    let server = Server::start(&["serve-http", path_str(&demo_site())]);
    let ran =
        run(&["get", "--count", "5", "--interval", "1ms", "--json", &server.url("/style.css"), &server.url("/none")]);
    assert_eq!(ran.code, 1, "all failures have the same code");
    let events = ran.events();
    assert_eq!(events.iter().filter(|event| event["type"] == "response").count(), 10);
    let phases = &events[0]["phases"];
    for phase in ["resolve_ns", "connect_ns", "first_byte_ns", "body_ns", "total_ns"] {
        assert!(phases[phase].is_u64(), "{phase}: {phases}");
    }
    assert!(phases["tls_ns"].is_null());
    let summary = ran.summary();
    assert_eq!(
        (&summary["requests"], &summary["rejected"], &summary["failed"], &summary["failure"]),
        (&10.into(), &5.into(), &0.into(), &0.5.into())
    );
    assert_eq!(summary["phases"]["total"]["count"], 10);
}

#[test]
fn a_broken_assertion_is_code_1_and_is_named() {
    let server = Server::start(&["serve-http", path_str(&demo_site())]);
    let get = |assertion: &str, path: &str| {
        run(&["get", "--count", "3", "--interval", "1ms", "--fail-if", assertion, &server.url(path)])
    };
    for holds in ["failure>0", "total.p95>20s", "connect.max>20s", "errors>0"] {
        assert_eq!(get(holds, "/style.css").code, 0, "{holds}");
    }
    let broken = get("total.p50>1ns", "/style.css");
    assert_eq!(broken.code, 1);
    assert!(
        broken.stderr.contains("total.p50 is ") && broken.stdout.contains("3 requests: 3 successful"),
        "{}",
        broken.stderr
    );
    assert!(get("tls.p99>1s", "/style.css").stderr.contains("has no data"));
    assert_eq!(get("speed>1", "/style.css").code, 2);
}

#[test]
fn json_of_a_start_error_ends_with_a_summary() {
    for (arguments, command, code) in [
        (&["ping", "localhost", "--svg", "/no/such/directory/x.svg", "--json"][..], Some("ping"), 73),
        (&["--json", "heartbeat", "watch", "--state", "/"], Some("heartbeat watch"), 78),
        (&["get", "--json", "--parallel", "x", "localhost"], Some("get"), 2),
        (&["nonsense", "--json"], None, 2),
    ] {
        let ran = run(arguments);
        let (events, summary) = (ran.events(), ran.summary());
        assert_eq!((events.len(), &events[0]["type"], &events[0]["exit"]), (2, &"error".into(), &ran.code.into()));
        assert_eq!((ran.code, summary["command"].as_str()), (code, command), "{}", ran.stderr);
    }
    assert_eq!(run(&["ping", "--", "--json"]).stdout, "");
}

#[test]
fn json_reports_failures_and_ends_with_the_summary() {
    let ran = run(&["get", "--json", "http://127.0.0.1:1/"]);
    assert_eq!(ran.code, 69);
    let events = ran.events();
    assert_eq!((&events[0]["type"], &events[0]["exit"]), (&"error".into(), &69.into()));
    let summary = ran.summary();
    assert_eq!((&summary["failed"], &summary["failure"]), (&1.into(), &1.0.into()));
    assert!(summary["phases"]["total"].is_null());
}

#[test]
fn several_failures_have_their_common_code_or_code_1() {
    let peer = ScriptedPeer::answer("<html>");
    assert_eq!(run(&["get", "http://127.0.0.1:1/", "http://127.0.0.1:1/x"]).code, 69);
    assert_eq!(run(&["get", "http://127.0.0.1:1/", &peer.url("/")]).code, 1);
}

#[test]
fn ctrl_c_is_code_130_without_data_and_ends_with_the_summary_otherwise() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/", listener.local_addr().expect("bound"));
    let mut child = netlab(&["get", &url]).stderr(Stdio::piped()).spawn().expect("it runs");
    let (stream, _) = listener.accept().expect("a connection");
    kill_process(pid(&child), Signal::INT).expect("it runs");
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    drop(stream);

    let thread = std::thread::spawn(move || {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().expect("a connection");
            read_head(&mut stream);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").expect("sent");
        }
        let (stream, _) = listener.accept().expect("a third connection");
        sender.send(stream).expect("the test waits");
    });
    let child = netlab(&["get", "--count", "0", "--interval", "0s", "--json", &url])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let third = receiver.recv().expect("the third connection");
    kill_process(pid(&child), Signal::INT).expect("it runs");
    let ran: crate::support::RunOutput = child.wait_with_output().expect("it ends").into();
    assert_eq!(ran.code, 0, "with data, the signal does not decide");
    assert_eq!((&ran.summary()["responses"], &ran.summary()["failed"]), (&2.into(), &0.into()));
    drop(third);
    thread.join().expect("the peer is done");
}

#[test]
fn an_invalid_argument_is_code_2() {
    for (arguments, word) in [
        (vec!["get"], "URL"),
        (vec!["get", "ftp://h/"], "http://"),
        (vec!["get", "file:///etc/passwd"], "http://"),
        (vec!["get", "http://a b/"], "%20"),
        (vec!["get", "http://h:0/"], "1 to 65535"),
        (vec!["get", "http://h:65536/"], "port"),
        (vec!["get", "-H", "X", "http://h/"], "Name: value"),
        (vec!["get", "-H", "X: a\r\nY: b", "http://h/"], "control characters"),
        (vec!["get", "-H", "Content-Length: 5", "http://h/"], "frames"),
        (vec!["get", "-X", "GET /", "http://h/"], "method"),
        (vec!["get", "--timeout", "0s", "http://h/"], "longer than zero"),
        (vec!["get", "-o", "f", "http://h/", "http://h/"], "-O"),
        (vec!["get", "--jso", "http://h/"], "--json"),
    ] {
        let ran = run(&arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(word), "{arguments:?}: {}", ran.stderr);
    }
    assert_eq!(run(&["get", "-d", "@/nonexistent", "http://h/"]).code, 66);
}

#[test]
fn a_peers_control_characters_are_escaped_in_trace_and_errors() {
    let peer = ScriptedPeer::answer("HTTP/1.1 404 \x1b[2Jgone\r\nX: \u{9b}y\r\nContent-Length: 0\r\n\r\n");
    let ran = run(&["get", "--trace", &peer.url("/")]);
    assert_eq!(ran.code, 76, "a reason phrase with a control character is malformed: {}", ran.stderr);
    let peer = ScriptedPeer::answer("HTTP/1.1 404 \u{85}gone\r\nX: \u{9b}2J\r\nContent-Length: 0\r\n\r\n");
    let ran = run(&["get", "--trace", &peer.url("/")]);
    assert_eq!(ran.code, 1);
    assert!(!ran.stderr.contains('\u{85}') && !ran.stderr.contains('\u{9b}'), "{:?}", ran.stderr);
}

#[test]
fn a_chart_shows_each_request_and_each_failure() {
    let directory = site(&[("a", b"hello")]);
    let server = Server::start(&["serve-http", path_str(directory.path())]);
    let chart = directory.path().join("chart.svg");
    let svg = path_str(&chart);
    let ran = run(&["get", "-c", "3", "--interval", "0", "--svg", svg, &server.url("/a"), &server.url("/none")]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    let drawn = fs::read_to_string(&chart).expect("written");
    assert!(drawn.contains("3 requests, all succeeded") && drawn.contains("3 requests, 3 failed"), "{drawn}");
    assert_eq!(run(&["get", "--svg", svg, &server.url("/a")]).code, 2, "one request makes no chart");
    assert_eq!(run(&["get", "-c", "1", "--svg", "/nonexistent/x.svg", &server.url("/a")]).code, 73);
}
