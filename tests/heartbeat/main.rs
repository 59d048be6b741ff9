//! Tests of the heartbeat pair: sender and watcher, through a faulty network, and with forged datagrams.

#[path = "../support/mod.rs"]
mod support;

mod hostile;
mod pages;
mod send;
mod watch;

use std::io::{BufRead as _, BufReader};
use std::net::UdpSocket;
use std::process::ChildStdout;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use support::{Server, parse_event};

/// Watcher whose events are read as they are printed.
struct Watched {
    server: Server,
    lines: BufReader<ChildStdout>,
    /// Plain socket connected to the watcher.
    socket: UdpSocket,
}

impl Watched {
    fn start(flags: &[&str]) -> Self {
        let mut server = Server::start(&[&["heartbeat", "watch", "--json"], flags].concat());
        let lines = BufReader::new(server.stdout());
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        socket.connect(server.address()).expect("connected");
        Self { server, lines, socket }
    }

    fn target(&self) -> String {
        self.server.address().to_string()
    }

    fn send(&self, line: &str) {
        self.socket.send(line.as_bytes()).expect("sent");
    }

    /// Sends a beat that announces an interval of `interval` milliseconds.
    fn beat(&self, name: &str, incarnation: u32, seq: u64, interval: u64) {
        self.send(&format!("BEAT {name} {incarnation:x} {seq} {} {interval} 3", unix_ms()));
    }

    /// Reads events up to the first one that matches.
    fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut events = Vec::new();
        loop {
            let mut line = String::new();
            assert!(self.lines.read_line(&mut line).expect("text") > 0, "the watcher exited after {events:#?}");
            events.push(parse_event(line.trim_end()));
            if events.last().is_some_and(&wanted) {
                return events;
            }
        }
    }

    /// Reads events up to the change of a sender to this state.
    fn until_state(&mut self, name: &str, state: &str) -> Vec<Value> {
        self.until(|event| event["type"] == "state" && event["name"] == name && event["to"] == state)
    }

    /// Stops the watcher and returns its exit code and the remaining events.
    fn stop(self) -> (i32, Vec<Value>) {
        self.server.signal(rustix::process::Signal::TERM);
        self.end()
    }

    /// Waits for the end of the watcher and returns its exit code and the remaining events.
    fn end(mut self) -> (i32, Vec<Value>) {
        let events = self.until(|event| event["type"] == "summary");
        (self.server.wait().code, events)
    }
}

/// Returns a sender from the summary.
fn sender<'v>(events: &'v [Value], name: &str) -> &'v Value {
    let summary = events.last().expect("a summary");
    let senders = summary["senders"].as_array().expect("a list");
    senders.iter().find(|sender| sender["name"] == name).unwrap_or_else(|| panic!("no {name} in {summary:#}"))
}

#[expect(clippy::disallowed_methods, reason = "beats carry the wall-clock time")]
fn unix_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis()
}

/// Waits by reading from a socket that receives nothing.
fn pause(time: Duration) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.set_read_timeout(Some(time)).expect("set");
    assert!(socket.recv(&mut [0; 1]).is_err());
}
