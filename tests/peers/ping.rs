//! `ping` and `ping-serve` against the textbook's programs, a plain echo server and Scapy.
//!
//! The Python programs in this folder implement the text of the exercises.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{ChildStdout, Command, Stdio};

use libtest_mimic::Trial;

use crate::support::{KillOnDrop, Server, run};
use crate::with;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        with("ping_against_the_textbooks_server", &["python3"], ping_against_the_textbooks_server),
        with("the_textbooks_client_against_ping_serve", &["python3"], the_textbooks_client_against_ping_serve),
        with("the_textbooks_first_client_sends_only_ping", &["python3"], the_textbooks_first_client),
        with("ping_against_a_plain_echo", &["socat"], ping_against_a_plain_echo),
        with("scapy_and_netlab_accept_each_others_packets", &["netlab-scapy-python"], || stamp_against_scapy(None)),
        with("scapy_and_netlab_accept_each_others_authenticated_packets", &["netlab-scapy-python"], || {
            stamp_against_scapy(Some("sesame"));
        }),
    ]
}

pub(crate) fn script(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(name)
}

/// Peer program that prints its port on its first line; it is killed at the end of its test.
pub(crate) struct Foreign {
    child: KillOnDrop,
    pub lines: BufReader<ChildStdout>,
    pub port: String,
}

impl Foreign {
    pub(crate) fn start(program: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(program);
        let mut child = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs");
        let mut lines = BufReader::new(child.stdout.take().expect("piped"));
        let mut port = String::new();
        lines.read_line(&mut port).expect("its port");
        Self { child: KillOnDrop(child), lines, port: port.trim().to_owned() }
    }
}

fn ping_against_the_textbooks_server() {
    // With seed 1 of Python's generator, the server answers some of twenty pings and drops some.
    let server = Foreign::start("python3", &[script("textbook_server.py").to_str().expect("text"), "1"]);
    let target = format!("127.0.0.1:{}", server.port);
    let summary = run(&["ping", &target, "-c", "20", "-i", "1ms", "--timeout", "300ms", "--json"]).summary();
    let (received, lost) = (summary["received"].as_u64().expect("a count"), summary["lost"].as_u64().expect("a count"));
    assert!(received > 0 && lost > 0 && received + lost == 20, "{summary}");
    assert_eq!(
        (&summary["corrupt"], &summary["foreign"]),
        (&0.into(), &0.into()),
        "upper case is not corruption: {summary}"
    );
    let fixed =
        run(&["ping", &target, "-c", "6", "-i", "1ms", "--timeout", "100ms", "--message", "ping", "--json"]).summary();
    assert!(fixed["received"].as_u64().is_some_and(|received| received > 0), "{fixed}");
}

/// Runs a client of the textbook and returns its output.
fn client(name: &str, server: &Server) -> String {
    let port = server.address().port().to_string();
    let output = Command::new("python3").arg(script(name)).args(["127.0.0.1", &port]).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn the_textbooks_client_against_ping_serve() {
    let server = Server::start(&["ping-serve", "--loss", "list:3,7", "--json"]);
    let printed = client("textbook_client.py", &server);
    let timed_out = printed.lines().filter(|line| line.contains("Request timed out")).count();
    assert_eq!((printed.lines().count(), timed_out), (10, 2), "{printed}");
    assert!(printed.contains("PING 1 "), "{printed}");
    let summary = server.stop().summary();
    assert_eq!(
        (&summary["received"], &summary["lost_in"], &summary["looping"]),
        (&10.into(), &2.into(), &0.into()),
        "{summary}"
    );
}

fn the_textbooks_first_client() {
    let server = Server::start(&["ping-serve", "--loss", "0"]);
    let printed = client("textbook_first_client.py", &server);
    assert_eq!(printed.matches("PING").count(), 10, "{printed}");
}

fn ping_against_a_plain_echo() {
    // socat does not print a port chosen by the kernel, so a free one is found and released first.
    let free = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let port = free.local_addr().expect("bound").port();
    drop(free);
    let listen = format!("UDP4-RECVFROM:{port},bind=127.0.0.1,fork");
    let child = Command::new("socat").args([&listen, "EXEC:cat"]).spawn().expect("socat runs");
    let _child = KillOnDrop(child);
    let target = format!("127.0.0.1:{port}");
    // Pings are refused until socat listens.
    while run(&["ping", &target, "-c", "1", "--timeout", "300ms", "--linger", "0", "-q"]).code == 69 {}
    let summary = run(&["ping", &target, "-c", "10", "-i", "10ms", "--timeout", "2s", "--json"]).summary();
    assert_eq!((&summary["received"], &summary["corrupt"]), (&10.into(), &0.into()), "{summary}");
}

/// Uses the authenticated mode if there is a key.
fn stamp_against_scapy(key: Option<&str>) {
    let python = std::env::var("NETLAB_SCAPY_PYTHON").expect("checked before");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("key");
    let file = file.to_str().expect("text");
    std::fs::write(file, key.unwrap_or_default()).expect("written");
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).expect("changed");
    let with_key: &[&str] = if key.is_some() { &["--key-file", file] } else { &[] };
    let server = Server::start(&[&["ping-serve", "--loss", "0", "-q"], with_key].concat());
    let port = server.address().port().to_string();
    let scapy = script("stamp_judge.py");
    let output = Command::new(&python).arg(&scapy).args(["send", &port]).args(key).output().expect("it runs");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && printed.contains("3 reflections are right"),
        "{printed}{}",
        String::from_utf8_lossy(&output.stderr)
    );

    let reflect: Vec<&str> = [scapy.to_str().expect("text"), "reflect", "5"].into_iter().chain(key).collect();
    let mut reflector = Foreign::start(&python, &reflect);
    let target = format!("127.0.0.1:{}", reflector.port);
    let ping = ["ping", &target, "-c", "5", "-i", "5ms", "--timeout", "2s", "--wire", "stamp", "--json"];
    let summary = run(&[&ping, with_key].concat()).summary();
    assert_eq!((&summary["received"], &summary["corrupt"]), (&5.into(), &0.into()), "{summary}");
    reflector.child.0.stdin.take().expect("piped").flush().expect("flushed");
    let mut verdict = String::new();
    reflector.lines.read_line(&mut verdict).expect("its verdict");
    assert_eq!(verdict.trim(), "5 probes are right");
}
