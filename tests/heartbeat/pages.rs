//! Tests of the status page, its data, metrics and health.

use serde_json::Value;

use crate::support::{Server, run, send_and_read};

/// Starts a watcher with a status page and returns the address of the page.
fn start(flags: &[&str]) -> (Server, std::net::SocketAddr) {
    let server = Server::start(&[&["heartbeat", "watch", "-q", "--http", "127.0.0.1:0"], flags].concat());
    let pages = server.addresses[1].trim_start_matches("http://").trim_end_matches('/').parse().expect("an address");
    (server, pages)
}

fn get(pages: std::net::SocketAddr, path: &str) -> (String, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    let response = String::from_utf8(send_and_read(pages, request.as_bytes())).expect("text");
    let (head, body) = response.split_once("\r\n\r\n").expect("a head");
    (head.to_owned(), body.to_owned())
}

fn beat(server: &Server, name: &str, flags: &[&str]) {
    let target = server.addresses[0].clone();
    let ran = run(&[&["heartbeat", "send", &target, "--name", name, "-q"], flags].concat());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

#[test]
fn the_page_its_data_and_its_metrics_agree() {
    let (server, pages) = start(&["--expect", "never", "--expect-within", "1h"]);
    beat(&server, "a\"b\\c", &["-i", "10ms", "-c", "5"]);
    let (head, page) = get(pages, "/");
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("Content-Security-Policy: default-src 'none'"), "{head}");
    assert!(page.contains("status.json") && !page.contains("http://") || page.contains("http://www.w3.org/2000/svg"));
    let (head, data) = get(pages, "/status.json");
    assert!(head.contains("Content-Type: application/json"), "{head}");
    let data: Value = serde_json::from_str(&data).expect("JSON");
    let sender = &data["senders"].as_array().expect("a list").iter().find(|sender| sender["name"] == "a\"b\\c");
    assert_eq!(sender.map(|sender| (&sender["beats"], &sender["state"])), Some((&5.into(), &"stopped".into())));
    let (_, metrics) = get(pages, "/metrics");
    for line in [
        r#"netlab_heartbeat_beats_total{name="a\"b\\c"} 5"#,
        r#"netlab_heartbeat_state{name="a\"b\\c",state="stopped"} 1"#,
        r#"netlab_heartbeat_senders{state="new"} 1"#,
        r#"netlab_heartbeat_delay_above_minimum_seconds_bucket{le="+Inf"} 5"#,
    ] {
        assert!(metrics.lines().any(|actual| actual == line), "{line} is not in {metrics}");
    }
    let (head, _) = get(pages, "/none");
    assert!(head.starts_with("HTTP/1.1 404"));
    let post = send_and_read(pages, b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    assert!(post.starts_with(b"HTTP/1.1 405"));
}

#[test]
fn health_is_503_while_a_sender_is_down() {
    let (server, pages) = start(&["--expect", "db", "--expect-within", "1s"]);
    assert!(get(pages, "/healthz").0.starts_with("HTTP/1.1 200"));
    // Polled until the sender is down.
    let (head, body) = loop {
        let response = get(pages, "/healthz");
        if !response.0.starts_with("HTTP/1.1 200") {
            break response;
        }
    };
    assert!(head.starts_with("HTTP/1.1 503") && body == "1 down: db\n", "{head} {body}");
    beat(&server, "db", &["-i", "1m", "--once"]);
    assert!(get(pages, "/healthz").0.starts_with("HTTP/1.1 200"));
}
