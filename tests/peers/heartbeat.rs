//! Interoperation of the heartbeat with the textbook's programs, a browser and Prometheus.
//!
//! The Python programs in this folder are stand-ins, written from the text of the exercise.

use std::fs;
use std::io::{BufRead as _, Write as _};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use libtest_mimic::Trial;
use rustix::process::{Signal, kill_process};

use crate::ping::{Foreign, script};
use crate::support::{KillOnDrop, Server, netlab, path_str, pid, run, send_and_read};
use crate::web::chromium;
use crate::with;

/// Returns all trials of this pair.
pub(crate) fn trials() -> Vec<Trial> {
    vec![
        with("the_textbooks_watcher_receives_our_beats", &["python3"], the_textbooks_watcher),
        with("our_watcher_receives_the_textbooks_beats", &["python3"], the_textbooks_sender),
        with("a_browser_shows_a_sender_going_down", &["chromium"], a_browser_shows_a_sender_going_down),
        with("promtool_accepts_the_metrics", &["promtool"], promtool_checks_the_metrics),
        with("prometheus_scrapes_the_watcher", &["prometheus"], prometheus_scrapes),
    ]
}

fn the_textbooks_watcher() {
    for wire in ["beat", "text"] {
        the_textbooks_watcher_receives(wire);
    }
}

fn the_textbooks_watcher_receives(wire: &str) {
    let watcher = script("textbook_heartbeat_server.py");
    let mut server = Foreign::start("python3", &[path_str(&watcher), "0.5"]);
    let target = format!("127.0.0.1:{}", server.port);
    let ran = run(&["heartbeat", "send", &target, "--wire", wire, "-i", "20ms", "-c", "5", "-q"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        assert!(server.lines.read_line(&mut line).expect("text") > 0, "{lines:?}");
        if line.trim() == "client stopped" {
            break;
        }
        lines.push(line);
    }
    assert!(lines.len() == 5 && lines.iter().all(|line| line.starts_with("beat ")), "{lines:?}");
}

fn the_textbooks_sender() {
    let server = Server::start(&["heartbeat", "watch", "--json", "--detect", "fixed:200ms", "--until", "any down"]);
    let port = server.address().port().to_string();
    let client = script("textbook_heartbeat_client.py");
    let output = Command::new("python3").arg(client).args(["127.0.0.1", &port, "6", "0.02"]).output().expect("it runs");
    let name = format!("127.0.0.1:{}", String::from_utf8_lossy(&output.stdout).trim());
    let ran = server.wait();
    let summary = ran.summary();
    let sender = &summary["senders"][0];
    assert_eq!((ran.code, &sender["name"], &sender["state"]), (0, &name.into(), &"down".into()), "{summary:#}");
    assert_eq!((&sender["beats"], &sender["lost"]), (&5.into(), &1.into()));
}

/// Starts a watcher with a status page and returns the URL of the page.
fn with_pages(flags: &[&str]) -> (Server, String) {
    let server = Server::start(&[&["heartbeat", "watch", "-q", "--http", "127.0.0.1:0"], flags].concat());
    let pages = server.addresses[1].clone();
    (server, pages)
}

fn get(pages: &str, path: &str) -> String {
    let address = pages.trim_start_matches("http://").trim_end_matches('/').parse().expect("an address");
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    String::from_utf8(send_and_read(address, request.as_bytes())).expect("text")
}

fn a_browser_shows_a_sender_going_down() {
    let (server, pages) = with_pages(&[]);
    let target = server.addresses[0].clone();
    let mut sender = netlab(&["heartbeat", "send", &target, "--name", "<b>web</b>", "-i", "100ms", "-q"]);
    let mut sender = KillOnDrop(sender.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs"));
    while !get(&pages, "/status.json").contains("\"state\":\"up\"") {}
    let page = chromium(&pages, &["--dump-dom"]);
    assert!(page.contains("&lt;b&gt;web&lt;/b&gt;") && page.contains("class=\"state up\""), "{page}");
    assert!(page.contains("<polyline"), "{page}");
    kill_process(pid(&sender.0), Signal::KILL).expect("it runs");
    sender.0.wait().expect("it ends");
    while get(&pages, "/healthz").starts_with("HTTP/1.1 200") {}
    let directory = tempfile::tempdir().expect("a temporary directory");
    let picture = directory.path().join("page.png");
    chromium(&pages, &["--window-size=400,700", &format!("--screenshot={}", picture.display())]);
    assert!(fs::metadata(&picture).is_ok_and(|found| found.len() > 5_000), "a screenshot");
    let page = chromium(&pages, &["--dump-dom"]);
    assert!(page.contains("class=\"state down\"") && page.contains("<title>1 down"), "{page}");
}

fn promtool_checks_the_metrics() {
    let (server, pages) = with_pages(&["--expect", "never"]);
    let target = server.addresses[0].clone();
    run(&["heartbeat", "send", &target, "--name", "a\"\\", "-i", "10ms", "-c", "3", "-q"]);
    let response = get(&pages, "/metrics");
    let metrics = response.split_once("\r\n\r\n").expect("a head").1;
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    promtool.stdin.take().expect("piped").write_all(metrics.as_bytes()).expect("written");
    let output = promtool.wait_with_output().expect("it ends");
    let printed = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && printed.is_empty(), "{printed}\n{metrics}");
}

fn prometheus_scrapes() {
    let (server, pages) = with_pages(&[]);
    let target = server.addresses[0].clone();
    run(&["heartbeat", "send", &target, "--name", "scraped", "-i", "10ms", "-c", "7", "-q"]);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let config = directory.path().join("prometheus.yml");
    let watched = pages.trim_start_matches("http://").trim_end_matches('/');
    let jobs = format!(
        "scrape_configs:\n- job_name: netlab\n  scrape_interval: 100ms\n  scrape_timeout: 100ms\n  static_configs:\n  - targets: ['{watched}']\n"
    );
    fs::write(&config, jobs).expect("written");
    // Prometheus does not report a port that it chose itself, so one is chosen for it and released at once.
    let chosen = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = chosen.local_addr().expect("bound");
    drop(chosen);
    let child = Command::new("prometheus")
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()))
        .arg(format!("--web.listen-address={address}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it runs");
    let _prometheus = KillOnDrop(child);
    let query =
        b"GET /api/v1/query?query=netlab_heartbeat_beats_total HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let scraped = || {
        let mut stream = std::net::TcpStream::connect(address).ok()?;
        stream.write_all(query).ok()?;
        let response = String::from_utf8(crate::support::read_until_close(stream)).ok()?;
        response.contains(r#""name":"scraped""#).then_some(response)
    };
    // Each attempt is a connection, which is refused until Prometheus is ready.
    #[expect(clippy::disallowed_methods, reason = "a time limit of the test itself")]
    let started = std::time::Instant::now();
    let response = loop {
        if let Some(response) = scraped() {
            break response;
        }
        assert!(started.elapsed() < crate::support::TEST_TIMEOUT, "Prometheus has not scraped the watcher");
        std::thread::yield_now();
    };
    assert!(response.contains("\"7\""), "{response}");
}
