//! Output of `serve-http` in each format, and with stdout closed or full.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use crate::support::{Server, demo_site, netlab, path_str, run, run_command, send_and_read};

fn log_of(flags: &[&str], request: &[u8]) -> String {
    let server = Server::start(&[&["serve-http", path_str(&demo_site())], flags].concat());
    send_and_read(server.address(), request);
    server.stop().stdout
}

const REQUEST: &[u8] =
    b"GET /style.css HTTP/1.1\r\nHost: localhost\r\nReferer: http://r/\r\nUser-Agent: test 1\r\nConnection: close\r\n\r\n";

#[test]
fn the_default_is_the_common_log_format() {
    let stdout = log_of(&[], REQUEST);
    let size = fs::metadata(demo_site().join("style.css")).expect("the demo site").len();
    let line = stdout.lines().find(|line| line.starts_with("127.0.0.1 - - [")).expect("a line");
    assert!(line.ends_with(&format!("] \"GET /style.css HTTP/1.1\" 200 {size}")), "{line}");
}

#[test]
fn combined_adds_referer_and_user_agent() {
    let stdout = log_of(&["--log", "combined"], REQUEST);
    assert!(stdout.contains(" \"http://r/\" \"test 1\"\n"), "{stdout}");
    let without = log_of(&["--log", "combined"], b"GET / HTTP/1.0\r\n\r\n");
    assert!(without.contains(" \"-\" \"-\"\n"), "{without}");
}

#[test]
fn off_prints_no_line_per_request() {
    let stdout = log_of(&["--log", "off"], REQUEST);
    assert!(!stdout.contains("GET") && stdout.contains("--- 1 request on 1 connection"), "{stdout}");
}

#[test]
fn both_json_flags_print_the_same_events_and_follow_the_schema() {
    for flags in [&["--log", "json"][..], &["--json"]] {
        let server = Server::start(&[&["serve-http", path_str(&demo_site())], flags].concat());
        send_and_read(server.address(), REQUEST);
        send_and_read(server.address(), b"nonsense\r\n\r\n");
        send_and_read(server.address(), b"\x16\x03\x01\0");
        let ran = server.stop();
        let events = ran.events();
        assert_eq!(events[0]["type"], "listening");
        let response = &events[1];
        assert_eq!(
            (&response["method"], &response["target"], &response["status"]),
            (&"GET".into(), &"/style.css".into(), &200.into())
        );
        assert_eq!(
            (&response["referer"], &response["user_agent"], &response["complete"]),
            (&"http://r/".into(), &"test 1".into(), &true.into())
        );
        assert!(response["took_ns"].as_u64().is_some_and(|nanos| nanos > 0));
        assert_eq!(events[2]["status"], 400);
        assert!(
            events[3]["status"].is_null() && events[3]["error"].as_str().is_some_and(|error| error.contains("TLS"))
        );
        let summary = ran.summary();
        assert_eq!(
            (&summary["requests"], &summary["status"]["2xx"], &summary["unanswered"]),
            (&3.into(), &1.into(), &1.into())
        );
        assert_eq!(summary["latency"]["count"], 3);
    }
}

#[test]
fn quiet_prints_only_the_summary() {
    let server = Server::start(&["serve-http", path_str(&demo_site()), "-q", "--json"]);
    send_and_read(server.address(), REQUEST);
    assert_eq!(server.stop().events().len(), 1);
}

#[test]
fn a_log_reader_that_goes_away_does_not_end_the_server() {
    let mut server = Server::start(&["serve-http", path_str(&demo_site())]);
    send_and_read(server.address(), REQUEST);
    let mut lines = BufReader::new(server.stdout()).lines();
    assert!(lines.next().expect("a line").expect("text").contains("GET /style.css"));
    drop(lines);
    for _ in 0..3 {
        assert!(send_and_read(server.address(), REQUEST).starts_with(b"HTTP/1.1 200"));
    }
    let ran = server.stop();
    assert_eq!(ran.code, 0);
    assert!(ran.stderr.contains("the reader of the log is gone"), "{}", ran.stderr);
    assert!(ran.stderr.contains("--- 4 requests") && ran.stderr.contains("dropped"), "{}", ran.stderr);
}

#[test]
fn a_log_in_a_file_has_nothing_but_requests() {
    for flags in [&[][..], &["--log", "combined"]] {
        let server = Server::start(&[&["serve-http", path_str(&demo_site())], flags].concat());
        send_and_read(server.address(), REQUEST);
        send_and_read(server.address(), b"\x16\x03\x01\0");
        let ran = server.stop();
        let lines: Vec<&str> = ran.stdout.lines().collect();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].contains("] \"GET /style.css HTTP/1.1\" 200 "), "{lines:?}");
        assert!(lines[1].contains("] \"TLS handshake\" 400 0"), "{lines:?}");
        for text in ["serving ", "looks like TLS", "--- 2 requests"] {
            assert!(ran.stderr.contains(text), "{text}: {}", ran.stderr);
        }
    }
}

#[test]
fn a_full_log_disk_does_not_stop_the_server_but_is_reported_at_the_end() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux");
    let mut command =
        netlab(&["serve-http", path_str(&demo_site()), "--bind", "127.0.0.1:0", "--for", "100ms", "--log", "json"]);
    command.stdout(Stdio::from(full));
    let output = command.stderr(Stdio::piped()).spawn().expect("it runs").wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(74));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("no space left"), "{stderr}");
}

#[test]
fn closed_streams_change_no_exit_code() {
    for redirect in [">&-", "2>&-", ">&- 2>&-"] {
        let mut shell = std::process::Command::new("sh");
        let script = format!("exec \"$0\" serve-http \"$1\" --bind 0 --for 20ms {redirect}");
        shell.args(["-c", &script, env!("CARGO_BIN_EXE_netlab"), path_str(&demo_site())]);
        assert_eq!(run_command(shell).code, 0, "{redirect}");
    }
}

#[test]
fn colour_is_used_on_terminals_and_on_request() {
    let plain = run(&["get", "127.0.0.1:1"]);
    assert!(!plain.stderr.contains('\x1b'), "{}", plain.stderr);
    assert!(run(&["get", "127.0.0.1:1", "--color", "always"]).stderr.contains('\x1b'));
    let forced = |pairs: &[(&str, &str)], flags: &[&str]| {
        let mut command = netlab(&[&["get", "127.0.0.1:1"], flags].concat());
        command.envs(pairs.iter().copied());
        run_command(command).stderr.contains('\x1b')
    };
    assert!(forced(&[("CLICOLOR_FORCE", "1")], &[]));
    assert!(!forced(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], &[]));
    assert!(!forced(&[("CLICOLOR_FORCE", "1")], &["--color", "never"]));
    assert!(forced(&[("NO_COLOR", "1")], &["--color", "always"]));
}

#[test]
fn the_client_behind_a_trusted_proxy_is_logged() {
    let logged = |proxy: &str| {
        let server = Server::start(&["serve-http", path_str(&demo_site()), "--trust-proxy", proxy]);
        let request = b"GET / HTTP/1.0\r\nX-Forwarded-For: 203.0.113.9, 192.0.2.7\r\n\r\n";
        send_and_read(server.address(), request);
        server.stop().stdout
    };
    assert!(logged("127.0.0.1").starts_with("192.0.2.7 - - ["));
    assert!(logged("10.0.0.1").starts_with("127.0.0.1 - - ["), "the peer is another host");
}
