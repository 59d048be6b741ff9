//! Tests of `heartbeat watch`: states, conditions, hooks and the state file.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Signal, kill_process};

use crate::support::{Server, netlab, path_str, pid, run};
use crate::{Watched, pause, sender};

#[test]
fn a_killed_sender_is_late_and_then_down_and_up_again() {
    let mut watched = Watched::start(&[]);
    let target = watched.target();
    let start = || {
        let mut command = netlab(&["heartbeat", "send", &target, "--name", "victim", "-i", "50ms", "-q"]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs")
    };
    let mut child = start();
    watched.until_state("victim", "up");
    kill_process(pid(&child), Signal::KILL).expect("it runs");
    child.wait().expect("it ends");
    let events = watched.until_state("victim", "down");
    let down = events.last().expect("one");
    let silent = down["silent_ns"].as_u64().expect("a silence");
    assert!(silent >= 150_000_000, "three intervals of 50 ms: {down}");
    assert!(events.iter().any(|event| event["to"] == "late"), "{events:#?}");
    let mut child = start();
    let events = watched.until_state("victim", "up");
    kill_process(pid(&child), Signal::KILL).expect("it runs");
    child.wait().expect("it ends");
    assert!(events.iter().any(|event| event["type"] == "restarted"), "{events:#?}");
    assert_eq!(sender(&watched.stop().1, "victim")["restarts"], 1);
}

#[test]
fn a_condition_ends_the_run_with_its_exit_code() {
    let server =
        Server::start(&["heartbeat", "watch", "--expect", "a", "--expect", "b", "--until", "all up", "--json"]);
    let target = server.addresses[0].clone();
    let beat = |name| run(&["heartbeat", "send", &target, "--name", name, "-i", "1m", "--once", "-q"]);
    beat("a");
    beat("b");
    let ran = server.wait();
    assert_eq!((ran.code, &ran.summary()["met"], &ran.summary()["up"]), (0, &true.into(), &2.into()));

    let server =
        Server::start(&["heartbeat", "watch", "--expect", "a", "--expect-within", "50ms", "--until", "any down"]);
    assert_eq!(server.wait().code, 0);
    let ran = run(&["heartbeat", "watch", "--bind", "0", "--until", "any up", "--for", "50ms", "--json"]);
    assert_eq!((ran.code, &ran.summary()["met"]), (1, &false.into()));
}

#[test]
fn every_expected_sender_must_be_present_at_the_end() {
    let expect = ["heartbeat", "watch", "--bind", "0", "--expect", "a", "--for", "50ms", "-q", "--json"];
    let ran = run(&expect);
    assert_eq!(
        (ran.code, ran.events().len(), &ran.summary()["new"]),
        (1, 2, &1.into()),
        "-q prints only the error and the summary"
    );
    assert!(
        ran.stderr.contains("sender a is new") && ran.events()[0]["what"] == "expected sender a is new",
        "{}",
        ran.stdout
    );
    assert_eq!(run(&["heartbeat", "watch", "--bind", "0", "--for", "50ms", "-q"]).code, 0);
}

#[test]
fn a_command_runs_once_per_change_and_in_order() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let log = directory.path().join("log");
    let script = directory.path().join("hook.sh");
    fs::write(
        &script,
        format!("read event; echo \"$NETLAB_NAME $NETLAB_FROM $NETLAB_TO $event\" >> {}\n", path_str(&log)),
    )
    .expect("written");
    let hook = format!("sh '{}'", path_str(&script));
    let watched = Watched::start(&["--on-change", &hook]);
    let target = watched.target();
    for name in ["one", "two;$(touch owned)"] {
        run(&["heartbeat", "send", &target, "--name", &name.replace(' ', "-"), "-i", "20ms", "-c", "2", "-q"]);
    }
    let mut watched = watched;
    watched.until_state("two;$(touch-owned)", "stopped");
    let (_, events) = watched.stop();
    assert_eq!(events.last().expect("a summary")["hooks"]["run"], 4);
    let log = fs::read_to_string(&log).expect("it ran");
    let of = |name: &str| {
        let lines = log.lines().filter(|line| line.starts_with(name));
        lines.map(|line| line.split(' ').nth(2).expect("a state").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(
        (of("one "), of("two;$(touch-owned) ")),
        (vec!["up".into(), "stopped".into()], vec!["up".into(), "stopped".into()])
    );
    let json = log.lines().next().and_then(|line| line.find('{').map(|at| line[at..].to_owned())).expect("an event");
    assert_eq!(crate::support::parse_event(&json)["type"], "state");
}

#[test]
fn commands_that_hang_or_fail_are_reported() {
    for (hook, word) in [("sleep 600", "timed out"), ("false", "exited with 1")] {
        let mut watched = Watched::start(&["--on-change", hook, "--hook-timeout", "100ms"]);
        watched.beat("a", 1, 1, 60_000);
        let events = watched.until(|event| event["type"] == "hook_failed");
        let failed = events.last().expect("one");
        assert!(failed["name"] == "a" && failed["why"].as_str().is_some_and(|why| why.contains(word)), "{failed}");
        assert_eq!(watched.stop().1.last().expect("a summary")["hooks"]["failed"], 1);
    }
}

#[test]
fn a_missing_command_is_rejected_at_start() {
    let ran = run(&["heartbeat", "watch", "--bind", "0", "--on-change", "/nonexistent/command", "--for", "1s"]);
    assert!(ran.code == 127 && ran.stderr.contains("/nonexistent/command"), "{} {}", ran.code, ran.stderr);
}

#[test]
fn a_hanging_command_does_not_delay_the_end() {
    let mut watched = Watched::start(&["--on-change", "sleep 600", "--hook-timeout", "10m"]);
    watched.beat("a", 1, 1, 20);
    watched.until_state("a", "down");
    let (_, events) = watched.stop();
    let hooks = &events.last().expect("a summary")["hooks"];
    assert_eq!((&hooks["failed"], hooks["dropped"].as_u64() > Some(0)), (&1.into(), true), "{hooks}");
}

#[test]
fn a_watcher_processes_only_the_requested_number_of_datagrams() {
    let watched = Watched::start(&["--count", "3"]);
    (1..=40).for_each(|seq| watched.beat("a", 1, seq, 60_000));
    let (_, events) = watched.end();
    assert_eq!(events.last().expect("a summary")["received"], 3);
}

#[test]
fn a_missing_sender_is_not_reported_again_after_a_restart() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let state = directory.path().join("state.json");
    let flags = ["--state", path_str(&state), "--expect", "never", "--expect-within", "1ms"];
    let mut first = Watched::start(&flags);
    first.until_state("never", "down");
    let (_, events) = first.stop();
    let since = sender(&events, "never")["since_ms"].clone();
    let (_, events) = Watched::start(&flags).stop();
    assert!(!events.iter().any(|event| event["type"] == "state"), "{events:#?}");
    let never = sender(&events, "never");
    assert_eq!((&never["state"], &never["since_ms"]), (&"down".into(), &since));
}

#[test]
fn the_state_survives_a_killed_watcher() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let state = directory.path().join("state.json");
    let flags = ["--state", path_str(&state)];
    let mut first = Watched::start(&flags);
    first.beat("up", 1, 1, 60_000);
    first.until_state("up", "up");
    for _ in 0..10_000 {
        if fs::metadata(&state).is_ok() {
            break;
        }
        pause(Duration::from_millis(1));
    }
    assert!(state.exists(), "written as soon as a state changes");
    // Dropping the server kills it, as kill -9 does.
    drop(first);
    let mut second = Watched::start(&[&flags[..], &["-v"]].concat());
    second.beat("up", 1, 2, 60_000);
    let events = second.until(|event| event["type"] == "beat");
    assert!(!events.iter().any(|event| event["type"] == "state"), "{events:#?}");
}

#[test]
fn a_device_is_rejected_as_a_state_file() {
    let ran = run(&["heartbeat", "watch", "--bind", "0", "--state", "/dev/zero", "--for", "1s"]);
    assert_eq!(ran.code, 78, "{}", ran.stderr);
}

#[test]
fn the_next_watcher_does_not_report_known_states_again() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let state = directory.path().join("state.json");
    let flags = ["--state", path_str(&state)];
    let mut first = Watched::start(&flags);
    first.beat("up", 1, 1, 60_000);
    first.beat("silent", 1, 1, 20);
    first.until_state("silent", "down");
    let (code, events) = first.stop();
    let since = sender(&events, "silent")["since_ms"].clone();
    assert_eq!(code, 0);
    assert_eq!(fs::read_dir(directory.path()).expect("readable").count(), 1, "no temporary file is left");

    let mut second = Watched::start(&[&flags[..], &["-v"]].concat());
    second.beat("up", 1, 9, 60_000);
    let mut events = second.until(|event| event["type"] == "beat");
    events.extend(second.stop().1);
    assert!(!events.iter().any(|event| event["type"] == "state" || event["type"] == "lost"), "{events:#?}");
    assert_eq!((&sender(&events, "up")["beats"], &sender(&events, "up")["lost"]), (&2.into(), &0.into()));
    assert_eq!((&sender(&events, "silent")["state"], &sender(&events, "silent")["since_ms"]), (&"down".into(), &since));

    for (content, word) in
        [("{}", "state file"), ("no JSON", "state file"), (r#"{"version":9,"saved_ms":0,"senders":[]}"#, "version 9")]
    {
        fs::write(&state, content).expect("written");
        let ran = run(&["heartbeat", "watch", "--bind", "0", "--state", path_str(&state), "--for", "1s"]);
        assert!(ran.code == 78 && ran.stderr.contains(word), "{content}: {} {}", ran.code, ran.stderr);
    }
    let nowhere = run(&["heartbeat", "watch", "--bind", "0", "--state", "/nonexistent/state", "--for", "1s"]);
    assert_eq!(nowhere.code, 73, "{}", nowhere.stderr);
}

#[test]
fn a_suspended_watcher_reports_no_sender_down() {
    let mut watched = Watched::start(&[]);
    let beats = |watched: &Watched, numbers: std::ops::RangeInclusive<u64>| {
        for seq in numbers {
            watched.beat("a", 1, seq, 50);
            pause(Duration::from_millis(25));
        }
    };
    beats(&watched, 1..=4);
    watched.until_state("a", "up");
    watched.server.signal(Signal::STOP);
    // About twenty intervals.
    beats(&watched, 5..=44);
    watched.server.signal(Signal::CONT);
    beats(&watched, 45..=50);
    let events = watched.until(|event| event["type"] == "monitor_stall");
    assert!(events.last().expect("one")["gap_ns"].as_u64().is_some_and(|gap| gap > 500_000_000), "{events:#?}");
    watched.send("BYE a 1 50 1764000000000 50 3");
    let mut events = watched.until_state("a", "stopped");
    events.extend(watched.stop().1);
    assert!(!events.iter().any(|event| event["to"] == "down"), "{events:#?}");
    assert_eq!((&sender(&events, "a")["beats"], &sender(&events, "a")["lost"]), (&50.into(), &0.into()));
}

#[test]
fn textbook_beats_are_accepted() {
    let mut watched = Watched::start(&["--detect", "fixed:100ms"]);
    for line in ["Heartbeat 1 1764000000.5", "Heartbeat 2 1764000000.6", "4 1764000000800"] {
        watched.send(line);
    }
    let name = watched.socket.local_addr().expect("bound").to_string();
    let events = watched.until_state(&name, "down");
    assert!(events.iter().any(|event| event["type"] == "lost" && event["first_seq"] == 3), "{events:#?}");
}

#[test]
fn beats_are_printed_with_v_only() {
    for (flags, expected) in [(&[][..], 0), (&["-v"], 3)] {
        let watched = Watched::start(flags);
        (1..=3).for_each(|seq| watched.beat("a", 1, seq, 60_000));
        watched.send("BYE a 1 3 1764000000000 60000 3");
        let mut watched = watched;
        let events = watched.until_state("a", "stopped");
        assert_eq!(events.iter().filter(|event| event["type"] == "beat").count(), expected);
    }
}

#[test]
fn invalid_arguments_are_exit_code_2() {
    for (arguments, word) in [
        (vec!["--until", "some up"], "all up"),
        (vec!["--detect", "mult:0"], "mult:N"),
        (vec!["--detect", "phi:8"], "fixed:D"),
        (vec!["--expect", "a b"], "white space"),
        (vec!["--on-change", "'"], "quoted"),
        (vec!["--on-change", ""], "command"),
        (vec!["--rise", "0"], "0"),
        (vec!["--bind", "unix:/tmp/s"], "UDP"),
        (vec!["--hook-timeout", "0"], "longer than zero"),
    ] {
        let ran = run(&[&["heartbeat", "watch"], &arguments[..]].concat());
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(word), "{arguments:?}: {}", ran.stderr);
    }
}

#[test]
fn an_unwritable_state_file_is_reported_once_and_the_run_continues() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let inner = directory.path().join("inner");
    fs::create_dir(&inner).expect("created");
    let mut watched = Watched::start(&["--state", path_str(&inner.join("state"))]);
    fs::remove_dir_all(&inner).expect("removed");
    watched.beat("a", 1, 1, 60_000);
    watched.until(|event| event["type"] == "not_kept");
    watched.beat("b", 1, 1, 60_000);
    watched.until_state("b", "up");
    watched.server.signal(Signal::TERM);
    watched.until(|event| event["type"] == "summary");
    assert_eq!(watched.server.wait().code, 73, "the last write of the state fails too");
}
