//! `ping` against `ping-serve`.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::UdpSocket;
use std::process::Stdio;

use rustix::process::{Signal, kill_process};
use serde_json::Value;

use crate::support::{Server, netlab, parse_event, pid, run};

fn lost(ran: &crate::support::RunOutput) -> Vec<u64> {
    ran.events()
        .iter()
        .filter(|event| event["type"] == "lost")
        .map(|event| event["seq"].as_u64().expect("a number"))
        .collect()
}

/// Asserts that each ping sent has exactly one outcome.
fn assert_outcomes_add_up(summary: &Value) {
    let part = |key: &str| summary[key].as_u64().unwrap_or_else(|| panic!("{key}: {summary}"));
    let parts = ["received", "late", "lost", "refused", "send_errors"].map(part).iter().sum::<u64>();
    assert_eq!((part("sent"), part("waiting")), (parts, 0), "{summary}");
}

#[test]
fn the_lost_pings_are_those_of_the_plan() {
    for loss in ["4/11", "30%", "ge:10%,40%", "nth:3", "list:2,5,6"] {
        let plan = run(&["ping-serve", "--plan", "40", "--seed", "7", "--loss", loss, "--json"]);
        let planned: Vec<u64> = plan
            .events()
            .iter()
            .filter(|event| event["type"] == "planned" && !event["dropped"].is_null())
            .map(|event| event["number"].as_u64().expect("a number"))
            .collect();
        let server = Server::start(&["ping-serve", "--seed", "7", "--loss", loss, "--jitter", "1ms", "--delay", "1ms"]);
        let ran = run(&["ping", &server.addresses[0], "-c", "40", "-i", "1ms", "--timeout", "300ms", "--json"]);
        assert_eq!(lost(&ran), planned, "{loss}");
        let summary = ran.summary();
        assert_eq!(summary["lost"], planned.len(), "{loss}");
        assert_outcomes_add_up(&summary);
    }
}

#[test]
fn a_server_without_loss_answers_everything_in_every_encoding() {
    let server = Server::start(&["ping-serve", "--loss", "0"]);
    for flags in [
        &["--wire", "text"][..],
        &["--wire", "stamp"],
        &["-s", "1000"],
        &["--message", "ping"],
        &["--wire", "stamp", "-s", "1200"],
    ] {
        let ran = run(&[&["ping", &server.addresses[0], "-c", "20", "-i", "1ms", "--json"], flags].concat());
        let summary = ran.summary();
        assert_eq!(
            (ran.code, &summary["received"], &summary["loss"]),
            (0, &20.into(), &0.0.into()),
            "{flags:?}: {summary}"
        );
        assert_eq!(summary["rtt"]["count"], 20);
        assert_eq!(
            (&summary["foreign"], &summary["corrupt"], &summary["duplicates"]),
            (&0.into(), &0.into(), &0.into()),
            "{flags:?}"
        );
        assert_outcomes_add_up(&summary);
    }
}

#[test]
fn round_trip_times_come_from_kernel_timestamps() {
    let server = Server::start(&["ping-serve", "--loss", "0"]);
    let summary = run(&["ping", &server.addresses[0], "-c", "20", "-i", "2ms", "--json"]).summary();
    assert!(summary["clock"] == "kernel" || summary["clock"] == "mixed", "{summary}");
    assert!(summary["host"]["p50_ns"].is_u64(), "{summary}");
    assert!(
        summary["loss_ci95"][1].as_f64().is_some_and(|high| high > 0.1),
        "the interval of 20 pings is wide: {summary}"
    );
}

#[test]
fn without_an_interval_each_ping_waits_for_the_previous_one() {
    let server = Server::start(&["ping-serve", "--loss", "list:2"]);
    let ran = run(&["ping", &server.addresses[0], "-i", "0", "-c", "4", "--timeout", "50ms", "--json"]);
    let order: Vec<String> = ran
        .events()
        .iter()
        .filter(|event| event["type"] != "summary")
        .map(|event| format!("{}{}", event["type"].as_str().expect("a type"), event["seq"]))
        .collect();
    assert_eq!(order, ["sent1", "reply1", "sent2", "lost2", "sent3", "reply3", "sent4", "reply4"]);
}

#[test]
fn a_delayed_reply_is_late_and_not_lost() {
    let server = Server::start(&["ping-serve", "--loss", "0", "--delay", "60ms"]);
    let ran =
        run(&["ping", &server.addresses[0], "-c", "3", "-i", "1ms", "--timeout", "20ms", "--linger", "5s", "--json"]);
    let summary = ran.summary();
    assert_eq!(
        (ran.code, &summary["late"], &summary["lost"], &summary["loss"]),
        (1, &3.into(), &0.into(), &1.0.into()),
        "{summary}"
    );
    assert!(
        summary["rtt"].is_null() && summary["late_rtt"]["min_ns"].as_u64().is_some_and(|nanos| nanos > 50_000_000),
        "{summary}"
    );
    assert_outcomes_add_up(&summary);
}

#[test]
fn replies_still_queued_at_the_end_were_not_sent() {
    let server = Server::start(&["ping-serve", "--loss", "0", "--delay", "60s", "--json"]);
    run(&["ping", &server.addresses[0], "-c", "3", "-i", "1ms", "--timeout", "500ms", "--linger", "0"]);
    let summary = server.stop().summary();
    assert_eq!((&summary["received"], &summary["sent"], &summary["held"]), (&3.into(), &0.into(), &3.into()));
}

#[test]
fn a_plain_echo_server_is_not_a_reflector_and_a_mapped_address_is_ipv4() {
    let echo = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let address = echo.local_addr().expect("bound");
    let thread = std::thread::spawn(move || {
        let mut buffer = [0; 100];
        let (length, peer) = echo.recv_from(&mut buffer).expect("a ping");
        echo.send_to(&buffer[..length], peer).expect("sent back");
    });
    let target = format!("[::ffff:127.0.0.1]:{}", address.port());
    let ran = run(&["ping", &target, "--wire", "stamp", "-c", "1", "--timeout", "200ms", "--linger", "0", "--json"]);
    thread.join().expect("it ended");
    let events = ran.events();
    let foreign = events.iter().find(|event| event["type"] == "foreign").expect("a foreign datagram");
    assert_eq!((&foreign["reason"], &ran.summary()["corrupt"]), (&"unreflected".into(), &0.into()));
    let refused = run(&["ping", &target, "-c", "1", "--timeout", "20s"]);
    assert_eq!(refused.code, 69, "{}", refused.stderr);
}

#[test]
fn a_plan_that_is_interrupted_ends_with_its_summary() {
    let mut server = netlab(&["ping-serve", "--plan", "99999999999", "--seed", "1"]);
    let mut child = server.stdout(Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    lines.next().expect("a decision").expect("text");
    kill_process(pid(&child), Signal::INT).expect("its process");
    let last = lines.last().expect("a line").expect("text");
    assert!(last.contains("seed 1"), "{last}");
    assert_eq!(child.wait().expect("it ended").code(), Some(130));
}

#[test]
fn a_refused_ping_is_not_plotted_as_lost() {
    let taken = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let target = taken.local_addr().expect("bound").to_string();
    drop(taken);
    let ran = run(&["ping", &target, "-c", "3", "-i", "1ms", "--plot"]);
    assert!(ran.stdout.contains("3 refused") && !ran.stdout.contains("3 lost"), "{}", ran.stdout);
}

#[test]
fn a_closed_port_is_refused_at_once_and_exits_with_69() {
    let taken = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let target = taken.local_addr().expect("bound").to_string();
    drop(taken);
    let ran = run(&["ping", &target, "-c", "3", "-i", "1ms", "--timeout", "20s", "--json"]);
    let summary = ran.summary();
    assert_eq!((ran.code, &summary["refused"], &summary["lost"]), (69, &3.into(), &0.into()), "{summary}");
    assert!(summary["elapsed_ns"].as_u64().is_some_and(|nanos| nanos < 10_000_000_000));
    assert!(ran.stderr.contains("every ping was refused") && ran.stderr.lines().count() == 3, "{}", ran.stderr);
}

#[test]
fn a_silent_target_exits_with_1_and_a_summary_without_data() {
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let target = silent.local_addr().expect("bound").to_string();
    let ran = run(&["ping", &target, "-c", "2", "-i", "1ms", "--timeout", "20ms", "--linger", "0", "--json"]);
    let summary = ran.summary();
    assert_eq!((ran.code, &summary["lost"], &summary["loss"]), (1, &2.into(), &1.0.into()));
    assert!(summary["rtt"].is_null() && summary["jitter_ns"].is_null() && summary["clock"].is_null());
    let text = run(&["ping", &target, "-c", "2", "-i", "1ms", "--timeout", "20ms", "--linger", "0"]).stdout;
    assert!(text.contains("timeout 1") && text.contains("2 sent, 0 received, 2 lost, 0 late"), "{text}");
}

#[test]
fn stamp_separates_upstream_from_downstream_loss() {
    for (direction, up, down) in [("in", 4, 0), ("out", 0, 4)] {
        let server = Server::start(&["ping-serve", "--loss", "nth:4", "--direction", direction]);
        // The last ping is answered, so that every loss is between two replies.
        let summary = run(&[
            "ping",
            &server.addresses[0],
            "-c",
            "19",
            "-i",
            "1ms",
            "--timeout",
            "100ms",
            "--wire",
            "stamp",
            "--json",
        ])
        .summary();
        let ways = &summary["ways"];
        assert_eq!((&ways["lost_up"], &ways["lost_down"]), (&up.into(), &down.into()), "{direction}: {summary}");
        assert!(ways["server"]["p50_ns"].is_u64() && ways["up_above_min"]["min_ns"] == 0, "{ways}");
    }
}

#[test]
fn a_key_must_match_and_be_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = crate::support::site(&[("good", b"sesame\n"), ("other", b"tahini\n"), ("open", b"sesame\n")]);
    let key = |name: &str| {
        let path = directory.path().join(name);
        let mode = if name == "open" { 0o644 } else { 0o600 };
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("changed");
        path.to_str().expect("text").to_owned()
    };
    let server = Server::start(&["ping-serve", "--loss", "0", "--key-file", &key("good")]);
    let ping = |flags: &[&str]| {
        run(&[
            &[
                "ping",
                &server.addresses[0],
                "-c",
                "3",
                "-i",
                "1ms",
                "--timeout",
                "100ms",
                "--linger",
                "0",
                "--json",
                "--wire",
                "stamp",
            ],
            flags,
        ]
        .concat())
    };
    assert_eq!(ping(&["--key-file", &key("good")]).summary()["received"], 3);
    assert_eq!(ping(&["--key-file", &key("other")]).summary()["received"], 0);
    assert_eq!(ping(&[]).summary()["received"], 0, "without a key");
    assert_eq!(ping(&["--key-file", &key("open")]).code, 77);
    assert_eq!(ping(&["--key-file", "/nonexistent"]).code, 66);
    assert_eq!(server.stop().code, 0);
}

#[test]
fn broken_assertions_are_named_and_exit_with_1() {
    let server = Server::start(&["ping-serve", "--loss", "nth:2"]);
    let ping = |assertion: &str| {
        run(&["ping", &server.addresses[0], "-c", "10", "-i", "1ms", "--timeout", "50ms", "-q", "--fail-if", assertion])
    };
    let broken = ping("loss>5%");
    assert_eq!(broken.code, 1);
    assert!(broken.stderr.contains("--fail-if 'loss>5%' failed: loss is 50.0 %"), "{}", broken.stderr);
    assert!(broken.stdout.contains("10 sent, 5 received"), "{}", broken.stdout);
    for assertion in ["loss>60%", "rtt.p99>10s", "duplicates>0", "rtt.p95>10s", "elapsed>1m", "jitter>10s"] {
        assert_eq!(ping(assertion).code, 0, "{assertion}");
    }
    assert_eq!(ping("received<=5").code, 1);
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let target = silent.local_addr().expect("bound").to_string();
    let undefined =
        run(&["ping", &target, "-c", "1", "--timeout", "20ms", "--linger", "0", "-q", "--fail-if", "rtt.p99>10s"]);
    assert!(undefined.code == 1 && undefined.stderr.contains("has no data"), "{}", undefined.stderr);
}

#[test]
fn several_targets_are_pinged_in_one_run() {
    let servers = [Server::start(&["ping-serve", "--loss", "0"]), Server::start(&["ping-serve", "--loss", "nth:1"])];
    let (first, second) = (servers[0].addresses[0].as_str(), servers[1].addresses[0].as_str());
    let ran = run(&["ping", first, second, "-c", "5", "-i", "4ms", "--timeout", "50ms", "--linger", "0", "--json"]);
    let summaries: Vec<Value> = ran.events().into_iter().filter(|event| event["type"] == "summary").collect();
    assert_eq!((summaries.len(), &summaries[0]["received"], &summaries[1]["received"]), (2, &5.into(), &0.into()));
    assert_eq!((&summaries[0]["target"], &summaries[1]["target"]), (&first.into(), &second.into()));
    assert_eq!(ran.code, 1);
    let text = run(&["ping", first, second, "-c", "1", "--timeout", "50ms", "--linger", "0"]).stdout;
    assert!(
        text.contains(&format!("{first}: reply 1: ")) && text.contains(&format!("{second}: timeout 1: ")),
        "{text}"
    );
}

#[test]
fn a_flood_is_answered_completely_and_limited_to_loopback() {
    let server = Server::start(&["ping-serve", "--loss", "0", "-q"]);
    let ran = run(&["ping", &server.addresses[0], "--flood", "-c", "20000", "-q", "--json"]);
    assert_eq!((ran.code, &ran.summary()["received"]), (0, &20_000.into()), "{}", ran.stdout);
    let remote = run(&["ping", "192.0.2.1", "--flood", "-c", "1"]);
    assert!(remote.code == 2 && remote.stderr.contains("--i-own-this-target"), "{}", remote.stderr);
    assert_eq!(run(&["ping", "192.0.2.1", "-i", "1ms", "-c", "1"]).code, 2);
}

#[test]
fn sigint_prints_the_summary_and_the_results_decide_the_exit_code() {
    let server = Server::start(&["ping-serve", "--loss", "0"]);
    let mut child = netlab(&["ping", &server.addresses[0], "-c", "0", "-i", "1ms", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    while parse_event(&lines.next().expect("a line").expect("text"))["type"] != "reply" {}
    kill_process(pid(&child), Signal::INT).expect("it runs");
    let last = lines.last().expect("a line").expect("text");
    let summary = parse_event(&last);
    assert!(summary["type"] == "summary" && summary["received"].as_u64().is_some_and(|count| count > 0), "{summary}");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn sigquit_prints_interim_results_and_the_run_continues() {
    let server = Server::start(&["ping-serve", "--loss", "0"]);
    let mut child = netlab(&["ping", &server.addresses[0], "-c", "0", "-i", "1ms"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut stderr = child.stderr.take().expect("piped");
    std::thread::yield_now();
    let mut first = [0; 1];
    let first_read = std::thread::scope(|scope| {
        let reader = scope.spawn(|| stderr.read_exact(&mut first));
        while !reader.is_finished() && kill_process(pid(&child), Signal::QUIT).is_ok() {
            std::thread::park_timeout(std::time::Duration::from_millis(50));
        }
        reader.join().expect("read")
    });
    if first_read.is_err() {
        // The first signal arrived before its handler was installed and ended the process.
        assert_eq!(child.wait().expect("it ends").code(), None);
        return;
    }
    kill_process(pid(&child), Signal::INT).expect("it still runs");
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).expect("text");
    assert!(rest.contains("pings answered"), "{rest}");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn a_stopped_client_resumes_without_a_burst() {
    let server = Server::start(&["ping-serve", "--loss", "0", "--json"]);
    let mut child = netlab(&["ping", &server.addresses[0], "-c", "0", "-i", "5ms", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    while parse_event(&lines.next().expect("a line").expect("text"))["type"] != "reply" {}
    kill_process(pid(&child), Signal::STOP).expect("it runs");
    std::thread::park_timeout(std::time::Duration::from_millis(400));
    kill_process(pid(&child), Signal::CONT).expect("it is stopped");
    let gap = lines
        .by_ref()
        .map(|line| parse_event(&line.expect("text")))
        .find(|event| event["type"] == "clock_gap")
        .expect("it notices");
    assert!(gap["gap_ns"].as_u64().is_some_and(|nanos| nanos > 200_000_000), "{gap}");
    kill_process(pid(&child), Signal::INT).expect("it runs");
    let summary = parse_event(&lines.last().expect("a line").expect("text"));
    assert!(summary["sent"].as_u64().is_some_and(|sent| sent < 60), "no burst for the time it was stopped: {summary}");
    child.wait().expect("it ends");
}

#[test]
fn plots_and_charts_are_written_on_request_only() {
    let server = Server::start(&["ping-serve", "--loss", "list:3"]);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let chart = directory.path().join("chart.svg");
    let ran = run(&[
        "ping",
        &server.addresses[0],
        "-c",
        "10",
        "-i",
        "1ms",
        "--timeout",
        "50ms",
        "--plot",
        "--svg",
        chart.to_str().expect("text"),
    ]);
    assert!(ran.stdout.contains('█') && ran.stdout.contains('x'), "{}", ran.stdout);
    let svg = std::fs::read_to_string(&chart).expect("drawn");
    assert!(
        svg.starts_with("<svg ") && svg.matches("<circle").count() == 9 && svg.matches("#d33").count() == 1,
        "{svg}"
    );
    let plain = run(&["ping", &server.addresses[0], "-c", "2", "-i", "1ms"]).stdout;
    assert!(!plain.contains('█'), "{plain}");
}

#[test]
fn invalid_arguments_exit_with_2() {
    for (arguments, word) in [
        (vec!["ping"], "HOST"),
        (vec!["ping", "::1:80"], "[::1:80]"),
        (vec!["ping", "h:0"], "65535"),
        (vec!["ping", "h", "-i", "NaN"], "1.5s"),
        (vec!["ping", "h", "--timeout", "0"], "longer than zero"),
        (vec!["ping", "h", "-s", "65508"], "65507"),
        (vec!["ping", "h", "--fail-if", "speed>1"], "rtt.STAT"),
        (vec!["ping", "h", "--fail-if", "loss>x"], "x"),
        (vec!["ping", "h", "--message", "x", "--wire", "stamp"], "--message"),
        (vec!["ping", "h", "--dscp", "64"], "64"),
        (vec!["ping", "h", "--key-file", "/dev/null"], "--wire stamp"),
        (vec!["ping-serve", "--loss", "101%"], "101%"),
        (vec!["ping-serve", "--loss", "NaN"], "NaN"),
        (vec!["ping-serve", "--loss=-1"], "-1"),
        (vec!["ping-serve", "--loss", "ge:1"], "ge:"),
        (vec!["ping-serve", "--rate", "5"], "Mbit"),
        (vec!["ping-serve", "--reorder", "10%"], "delay"),
        (vec!["ping-serve", "--jitter-dist", "flat"], "uniform"),
        (vec!["ping-serve", "--bind", "unix:/tmp/s"], "UDP"),
        (vec!["ping-serve", "--bind", "*:0", "--duplicate", "10%"], "loopback"),
    ] {
        let ran = run(&arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(word), "{arguments:?}: {}", ran.stderr);
    }
}
