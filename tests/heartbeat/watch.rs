//! `heartbeat watch`: states, conditions, hooks, what outlives it.

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
    let silent = down["silent_ns"].as_u64().expect("it was heard");
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
fn a_condition_ends_the_run_with_its_answer() {
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
fn whoever_is_expected_must_be_there_in_the_end() {
    let expect = ["heartbeat", "watch", "--bind", "0", "--expect", "a", "--for", "50ms", "-q", "--json"];
    let ran = run(&expect);
    assert_eq!((ran.code, ran.events().len(), &ran.summary()["new"]), (1, 1, &1.into()), "-q leaves the summary");
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
fn commands_that_hang_or_fail_are_told() {
    for (hook, word) in [("sleep 600", "longer than"), ("false", "ended with 1")] {
        let mut watched = Watched::start(&["--on-change", hook, "--hook-timeout", "100ms"]);
        watched.beat("a", 1, 1, 60_000);
        let events = watched.until(|event| event["type"] == "hook_failed");
        let failed = events.last().expect("one");
        assert!(failed["name"] == "a" && failed["why"].as_str().is_some_and(|why| why.contains(word)), "{failed}");
        assert_eq!(watched.stop().1.last().expect("a summary")["hooks"]["failed"], 1);
    }
}

#[test]
fn a_command_that_is_not_there_is_refused_at_once() {
    let ran = run(&["heartbeat", "watch", "--bind", "0", "--on-change", "/nonexistent/command", "--for", "1s"]);
    assert!(ran.code == 66 && ran.stderr.contains("/nonexistent/command"), "{} {}", ran.code, ran.stderr);
}

#[test]
fn a_command_that_hangs_does_not_hold_up_the_end() {
    let mut watched = Watched::start(&["--on-change", "sleep 600", "--hook-timeout", "10m"]);
    watched.beat("a", 1, 1, 20);
    watched.until_state("a", "down");
    let (_, events) = watched.stop();
    let hooks = &events.last().expect("a summary")["hooks"];
    assert_eq!((&hooks["failed"], hooks["dropped"].as_u64() > Some(0)), (&1.into(), true), "{hooks}");
}

#[test]
fn a_watcher_hears_as_many_datagrams_as_it_was_told() {
    let watched = Watched::start(&["--count", "3"]);
    (1..=40).for_each(|seq| watched.beat("a", 1, seq, 60_000));
    let (_, events) = watched.end();
    assert_eq!(events.last().expect("a summary")["received"], 3);
}

#[test]
fn who_was_missed_before_is_not_missed_anew() {
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
fn a_state_survives_the_death_of_the_watcher() {
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
    assert!(state.exists(), "it is written as soon as a state has changed");
    // As kill -9 does.
    drop(first);
    let mut second = Watched::start(&[&flags[..], &["-v"]].concat());
    second.beat("up", 1, 2, 60_000);
    let events = second.until(|event| event["type"] == "beat");
    assert!(!events.iter().any(|event| event["type"] == "state"), "{events:#?}");
}

#[test]
fn a_device_keeps_no_state() {
    let ran = run(&["heartbeat", "watch", "--bind", "0", "--state", "/dev/zero", "--for", "1s"]);
    assert_eq!(ran.code, 78, "{}", ran.stderr);
}

#[test]
fn the_next_watcher_announces_nobody_again() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let state = directory.path().join("state.json");
    let flags = ["--state", path_str(&state)];
    let mut first = Watched::start(&flags);
    first.beat("up", 1, 1, 60_000);
    first.beat("dead", 1, 1, 20);
    first.until_state("dead", "down");
    let (code, events) = first.stop();
    let since = sender(&events, "dead")["since_ms"].clone();
    assert_eq!(code, 0);
    assert_eq!(fs::read_dir(directory.path()).expect("readable").count(), 1, "no draft is left");

    let mut second = Watched::start(&[&flags[..], &["-v"]].concat());
    second.beat("up", 1, 9, 60_000);
    let mut events = second.until(|event| event["type"] == "beat");
    events.extend(second.stop().1);
    assert!(!events.iter().any(|event| event["type"] == "state" || event["type"] == "lost"), "{events:#?}");
    assert_eq!((&sender(&events, "up")["beats"], &sender(&events, "up")["lost"]), (&2.into(), &0.into()));
    assert_eq!((&sender(&events, "dead")["state"], &sender(&events, "dead")["since_ms"]), (&"down".into(), &since));

    for (content, word) in
        [("{}", "no state"), ("no JSON", "no state"), (r#"{"version":9,"saved_ms":0,"senders":[]}"#, "version 9")]
    {
        fs::write(&state, content).expect("written");
        let ran = run(&["heartbeat", "watch", "--bind", "0", "--state", path_str(&state), "--for", "1s"]);
        assert!(ran.code == 78 && ran.stderr.contains(word), "{content}: {} {}", ran.code, ran.stderr);
    }
    let nowhere = run(&["heartbeat", "watch", "--bind", "0", "--state", "/nonexistent/state", "--for", "1s"]);
    assert_eq!(nowhere.code, 73, "{}", nowhere.stderr);
}

#[test]
fn a_stopped_watcher_takes_nobody_for_dead() {
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
    // Some twenty intervals.
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
fn the_textbooks_beats_are_watched_too() {
    let mut watched = Watched::start(&["--detect", "fixed:100ms"]);
    for line in ["Heartbeat 1 1764000000.5", "Heartbeat 2 1764000000.6", "4 1764000000800"] {
        watched.send(line);
    }
    let name = watched.socket.local_addr().expect("bound").to_string();
    let events = watched.until_state(&name, "down");
    assert!(events.iter().any(|event| event["type"] == "lost" && event["first_seq"] == 3), "{events:#?}");
}

#[test]
fn beats_are_told_with_v_only() {
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
fn what_cannot_be_watched_is_code_2() {
    for (arguments, word) in [
        (vec!["--until", "some up"], "all up"),
        (vec!["--detect", "mult:0"], "mult:N"),
        (vec!["--detect", "phi:x"], "phi:T"),
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
fn a_state_that_cannot_be_kept_is_told_once_and_the_watch_goes_on() {
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
    assert_eq!(watched.server.wait().code, 73, "what was to be kept is not");
}
