//! Tests of `heartbeat send` with a plain socket and with the watcher.

use std::net::UdpSocket;
use std::process::Stdio;

use rustix::process::{Signal, kill_process};

use crate::support::relay::{Direction, Relay, Treatment};
use crate::support::{Server, TEST_TIMEOUT, netlab, pid, run};
use crate::{Watched, sender, unix_ms};

/// Binds a plain socket as the watcher and returns it with its address.
fn plain() -> (UdpSocket, String) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.set_read_timeout(Some(TEST_TIMEOUT)).expect("set");
    let address = socket.local_addr().expect("bound").to_string();
    (socket, address)
}

fn receive_text(socket: &UdpSocket) -> String {
    let mut bytes = [0; 512];
    let length = socket.recv(&mut bytes).expect("a packet");
    String::from_utf8(bytes[..length].to_vec()).expect("text")
}

#[test]
fn beats_are_lines_of_text_with_a_number_and_a_time() {
    let (socket, address) = plain();
    let ran = run(&["heartbeat", "send", &address, "--name", "web-1", "-i", "20ms", "-c", "3", "--multiplier", "4"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let lines: Vec<String> = (0..6).map(|_| receive_text(&socket)).collect();
    let words: Vec<Vec<&str>> = lines.iter().map(|line| line.split(' ').collect()).collect();
    for (index, words) in words.iter().enumerate() {
        let seq = (index + 1).min(3).to_string();
        assert_eq!((words[0], words[1], words[3]), (if index < 3 { "BEAT" } else { "BYE" }, "web-1", &*seq));
        assert_eq!((words[5], words[6], words.len()), ("20", "4", 7));
        assert!(words[4].parse::<u128>().is_ok_and(|ms| ms.abs_diff(unix_ms()) < 60_000));
        assert_eq!((words[2].len(), words[2]), (16, self::words(&lines[0])[2]));
    }
    assert!(
        ran.stdout.contains("stop message sent after beat 3") && ran.stdout.contains("3 beats sent"),
        "{}",
        ran.stdout
    );
    let again = run(&["heartbeat", "send", &address, "--name", "web-1", "-i", "20ms", "-c", "1", "-q"]);
    assert_eq!(again.code, 0);
    assert_ne!(words[0][2], self::words(&receive_text(&socket))[2], "another run has another incarnation");
}

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

#[test]
fn json_has_every_beat_its_echoes_and_a_summary() {
    let server = Server::start(&["heartbeat", "watch", "-q"]);
    let target = server.addresses[0].clone();
    let send = ["heartbeat", "send", &target, "--name", "a", "-i", "10ms", "-c", "5", "--echo", "--json"];
    let ran = run(&send);
    let count = |kind: &str| ran.events().iter().filter(|event| event["type"] == kind).count();
    assert_eq!((ran.code, count("sent"), count("echo"), count("bye")), (0, 5, 5, 1), "{}", ran.stdout);
    let summary = ran.summary();
    assert_eq!((&summary["targets"][0]["sent"], &summary["targets"][0]["rtt"]["count"]), (&5.into(), &5.into()));
}

#[test]
fn an_absent_watcher_is_exit_code_69_and_missing_echoes_are_exit_code_1() {
    let (socket, address) = plain();
    let silent = run(&["heartbeat", "send", &address, "-i", "5ms", "-c", "3", "--echo", "-q"]);
    assert_eq!(silent.code, 1, "{}", silent.stdout);
    drop(socket);
    let refused = run(&["heartbeat", "send", &address, "-i", "5ms", "-c", "3"]);
    assert_eq!(refused.code, 69, "{}", refused.stdout);
    assert!(refused.stdout.contains("port unreachable"), "{}", refused.stdout);
}

#[test]
fn a_failure_condition_holds_for_each_watcher() {
    let watched = Watched::start(&[]);
    let (_socket, silent) = plain();
    let echoing = watched.target();
    let send = |condition: &str| {
        run(&["heartbeat", "send", &echoing, &silent, "-i", "5ms", "-c", "3", "-q", "--json", "--fail-if", condition])
    };
    let met = send("echoes<0");
    assert_eq!((met.code, met.summary()["exit"].clone()), (0, 0.into()), "{}", met.stderr);
    let failed = send("rtt.p99>10s");
    assert_eq!((failed.code, failed.summary()["exit"].clone()), (1, 1.into()), "{}", failed.stderr);
    for target in [&echoing, &silent] {
        let reason = format!("{target}: --fail-if 'rtt.p99>10s' failed: rtt.p99 has no data");
        assert!(failed.stderr.contains(&reason), "without --echo, nothing is measured: {}", failed.stderr);
    }
    let one = run(&[
        "heartbeat",
        "send",
        &echoing,
        &silent,
        "-i",
        "5ms",
        "-c",
        "3",
        "-qq",
        "--echo",
        "--fail-if",
        "rtt.p99>10s",
    ]);
    assert_eq!(one.code, 1, "{}", one.stderr);
    assert!(!one.stderr.contains(&format!("{echoing}: --fail-if")), "{}", one.stderr);
}

#[test]
fn several_watchers_receive_the_beats_of_one_sender() {
    let servers = [(); 2].map(|()| Watched::start(&[]));
    let [one, other] = [servers[0].target(), servers[1].target()];
    let ran = run(&["heartbeat", "send", &one, &other, "--name", "both", "-i", "10ms", "-c", "4", "-q"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    for watched in servers {
        let (code, events) = watched.stop();
        assert_eq!((code, &sender(&events, "both")["beats"]), (0, &4.into()));
    }
}

#[test]
fn beats_last_as_long_as_the_command_and_report_its_exit_code() {
    let mut watched = Watched::start(&[]);
    let target = watched.target();
    let ran =
        run(&["heartbeat", "send", &target, "--name", "job", "-i", "20ms", "--exec", "sh", "-c", "echo mine; exit 7"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (7, "mine\n"), "stdout belongs to the command: {}", ran.stderr);
    assert!(ran.stderr.contains("ended with exit code 7"), "{}", ran.stderr);
    let events = watched.until_state("job", "stopped");
    assert_eq!(events.last().expect("one")["exit"], 7);
    let killed = run(&[
        "heartbeat",
        "send",
        &target,
        "--name",
        "k",
        "-i",
        "20ms",
        "-q",
        "--exec",
        "--",
        "sh",
        "-c",
        "kill -9 $$",
    ]);
    assert_eq!(killed.code, 137, "{}", killed.stderr);
    let missing = run(&["heartbeat", "send", &target, "--exec", "/nonexistent/command"]);
    assert_eq!(missing.code, 127, "{}", missing.stderr);
}

#[test]
fn a_signal_ends_the_sender_or_is_passed_on_to_the_command() {
    let mut watched = Watched::start(&[]);
    let target = watched.target();
    for (name, flags, code) in [("plain", &[][..], 0), ("supervised", &["--exec", "sleep", "600"], 143)] {
        let arguments = [&["heartbeat", "send", &target, "--name", name, "-i", "20ms", "-q"], flags].concat();
        let child = netlab(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs");
        watched.until_state(name, "up");
        kill_process(pid(&child), Signal::TERM).expect("it runs");
        let status = child.wait_with_output().expect("it ends").status;
        assert_eq!(status.code(), Some(code), "{name}");
        let events = watched.until_state(name, "stopped");
        assert_eq!(events.last().expect("one")["exit"], if code == 0 { serde_json::Value::Null } else { code.into() });
    }
}

#[test]
fn once_derives_the_sequence_number_from_the_wall_clock() {
    let (socket, address) = plain();
    let before = unix_ms();
    let ran = run(&["heartbeat", "send", &address, "--name", "cron", "-i", "1m", "--once", "-q"]);
    let line = receive_text(&socket);
    let seq: u128 = words(&line)[3].parse().expect("a number");
    assert!(ran.code == 0 && (seq * 60_000).abs_diff(before) <= 31_000, "{line}");
    assert_eq!(words(&line)[2], "0000000000000000");
    socket.set_nonblocking(true).expect("set");
    assert!(socket.recv(&mut [0; 512]).is_err(), "no stop message");
}

#[test]
fn loss_duplication_and_reordering_are_reported_exactly() {
    let watched = Watched::start(&[]);
    let impairment = |_: Direction, number: u64| match number {
        3 | 7 | 8 => Treatment::Drop,
        10 => Treatment::Duplicate,
        12 => Treatment::Reorder,
        _ => Treatment::Pass,
    };
    let relay = Relay::udp(watched.server.address(), impairment);
    let address = relay.address.to_string();
    run(&["heartbeat", "send", &address, "--name", "a", "-i", "10ms", "-c", "20", "--multiplier", "100", "-q"]);
    assert_eq!(relay.dropped(), (3, 0));
    let mut watched = watched;
    let mut events = watched.until_state("a", "stopped");
    events.extend(watched.stop().1);
    let kinds = |kind: &str| events.iter().filter(|event| event["type"] == kind).cloned().collect::<Vec<_>>();
    let lost: Vec<_> = kinds("lost").iter().map(|lost| (lost["first_seq"].as_u64(), lost["count"].as_u64())).collect();
    assert_eq!(lost, [(Some(3), Some(1)), (Some(7), Some(2)), (Some(12), Some(1))]);
    assert_eq!(kinds("late").iter().map(|late| late["seq"].as_u64()).collect::<Vec<_>>(), [Some(12)]);
    let figures = sender(&events, "a");
    let figure = |key: &str| figures[key].as_u64().expect("a count");
    assert_eq!(["beats", "lost", "taken_back", "duplicates", "reordered"].map(figure), [17, 3, 1, 1, 1]);
}

#[test]
fn invalid_arguments_are_exit_code_2() {
    let long = "x".repeat(65);
    for (arguments, word) in [
        (vec!["heartbeat"], "send"),
        (vec!["heartbeat", "send"], "HOST"),
        (vec!["heartbeat", "send", "h", "--name", "a b"], "white space"),
        (vec!["heartbeat", "send", "h", "--name", &long], "64"),
        (vec!["heartbeat", "send", "h", "-i", "0"], "longer than zero"),
        (vec!["heartbeat", "send", "h", "-i", "10us"], "1ms"),
        (vec!["heartbeat", "send", "h", "-i", "25h"], "24h"),
        (vec!["heartbeat", "send", "h", "--multiplier", "0"], "0"),
        (vec!["heartbeat", "send", "h", "--once", "-c", "3"], "--once"),
        (vec!["heartbeat", "send", "h", "-c", "3", "--exec", "true"], "--exec"),
        (vec!["heartbeat", "send", "127.0.0.1", "-6"], "IPv6"),
    ] {
        let ran = run(&arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(word), "{arguments:?}: {}", ran.stderr);
    }
}
