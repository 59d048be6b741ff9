//! Forged, replayed and malformed datagrams.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt as _;

use crate::support::{Server, TEST_TIMEOUT, path_str, run};
use crate::{Watched, sender};

fn key_file(directory: &tempfile::TempDir, name: &str, secret: &str, mode: u32) -> String {
    let path = directory.path().join(name);
    fs::write(&path, secret).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("changed");
    path_str(&path).to_owned()
}

/// Records the packets of a sender with this key.
fn recorded(key: &str) -> Vec<Vec<u8>> {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.set_read_timeout(Some(TEST_TIMEOUT)).expect("set");
    let address = socket.local_addr().expect("bound").to_string();
    let ran = run(&["heartbeat", "send", &address, "--name", "a", "-i", "10s", "-c", "1", "--key-file", key, "-q"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let receive = |_| {
        let mut bytes = [0; 512];
        let length = socket.recv(&mut bytes).expect("a packet");
        bytes[..length].to_vec()
    };
    (0..4).map(receive).collect()
}

#[test]
fn with_a_key_only_authenticated_beats_are_accepted_and_each_only_once() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let key = key_file(&directory, "key", "sesame", 0o600);
    let lines = recorded(&key);
    let foreign = recorded(&key_file(&directory, "other", "another", 0o600));
    let mut watched = Watched::start(&["--key-file", &key]);
    let send = |line: &[u8]| watched.socket.send(line).expect("sent");
    let mut forged = lines[0].clone();
    forged[5] = b'b';
    send(&forged);
    send(&foreign[0]);
    send(b"BEAT a 1 1 1764000000000 10000 3");
    send(b"1 1764000000");
    send(&lines[0]);
    send(&lines[0]);
    let events = watched.until_state("a", "up");
    assert!(events.iter().any(|event| event["reason"] == "unauthentic"), "{events:#?}");
    watched.socket.send(&lines[1]).expect("sent");
    watched.until_state("a", "stopped");
    // A replayed beat does not bring a stopped sender up.
    watched.socket.send(&lines[0]).expect("sent");
    let (_, events) = watched.stop();
    assert_eq!((&sender(&events, "a")["state"], &sender(&events, "a")["beats"]), (&"stopped".into(), &1.into()));
    let summary = events.last().expect("a summary");
    assert!(summary["rejected"].as_u64().is_some_and(|refused| refused >= 5), "{summary:#}");

    let mut without = Watched::start(&[]);
    without.socket.send(&lines[0]).expect("sent");
    without.until(|event| event["reason"].is_string());
    let (_, events) = without.stop();
    assert_eq!(
        (&events.last().expect("a summary")["total"], &events.last().expect("one")["rejected"]),
        (&0.into(), &1.into())
    );
    let open = key_file(&directory, "open", "sesame", 0o644);
    assert_eq!(run(&["heartbeat", "watch", "--bind", "0", "--key-file", &open, "--for", "1s"]).code, 77);
}

#[test]
fn malformed_datagrams_change_nothing_and_do_not_flood_the_log() {
    let mut watched = Watched::start(&[]);
    watched.beat("a", 1, 1, 60_000);
    for number in 0..5_000_u32 {
        let mut garbage = vec![b'\x1b'; 1 + (number as usize * 37) % 900];
        garbage.extend_from_slice(&number.to_be_bytes());
        watched.socket.send(&garbage).expect("sent");
        if number % 50 == 0 {
            // Waiting for an echo keeps the sender from overflowing the receive buffer.
            watched.send("BEAT b 1 1 1764000000000 60000 3 echo");
            watched.socket.set_read_timeout(Some(TEST_TIMEOUT)).expect("set");
            let mut echo = [0; 512];
            let length = watched.socket.recv(&mut echo).expect("an echo");
            assert_eq!(echo[..length], *b"ECHO b 1 1 1764000000000 60000 3 echo");
        }
    }
    watched.socket.send(b"").expect("sent");
    watched.beat("a", 1, 2, 60_000);
    watched.send("BYE a 1 2 1764000000000 60000 3");
    let mut events = watched.until_state("a", "stopped");
    events.extend(watched.stop().1);
    let reports = events.iter().filter(|event| event["type"] == "rejected").count();
    assert!(reports < 60, "{reports} lines");
    let summary = events.last().expect("a summary");
    assert_eq!((&summary["rejected"], &sender(&events, "a")["beats"]), (&5_001.into(), &2.into()));
}

#[test]
fn a_hostile_name_cannot_reach_the_terminal() {
    let watched = Watched::start(&[]);
    watched.send("BEAT a\x1b[2Jb 1 1 1764000000000 60000 3");
    watched.send("BEAT a\u{9b}31mb 1 1 1764000000000 60000 3");
    assert_eq!(watched.stop().1.last().expect("a summary")["total"], 0);
}

#[test]
fn a_beat_in_a_wrong_form_is_quoted_with_the_expected_one() {
    for wrong in ["hello", "1", "Heartbeat one 2", "Heartbeat,1,1700000000", "{\"seq\": 1}", "Heartbeat 1 12:30:00"] {
        let server = Server::start(&["heartbeat", "watch", "--count", "1"]);
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.send_to(wrong.as_bytes(), server.address()).expect("sent");
        let ran = server.wait();
        let expected = format!("got: '{wrong}'\n  expected: BEAT NAME");
        assert!(ran.stdout.contains(&expected) && ran.stdout.contains("[WORD ]SEQ TIME"), "{}", ran.stdout);
    }
}
