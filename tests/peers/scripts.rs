//! Scripts that read the events with jq.

use std::path::Path;
use std::process::Command;

use libtest_mimic::Trial;

use crate::support::{Server, demo_site, path_str, run_command};
use crate::with;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        with("jq_reads_the_events_of_every_command", &["jq"], jq_reads_the_events_of_every_command),
        with("jq_finds_the_reason_of_a_failure", &["jq"], jq_finds_the_reason_of_a_failure),
    ]
}

/// Runs a script with `sh` and returns its output.
fn script(text: &str, variables: &[(&str, &str)]) -> String {
    let binaries = Path::new(env!("CARGO_BIN_EXE_netlab")).parent().expect("a directory");
    let mut command = Command::new("sh");
    command.args(["-euc", text]).envs(variables.iter().copied());
    command.env("PATH", format!("{}:{}", binaries.display(), std::env::var("PATH").unwrap_or_default()));
    let ran = run_command(command);
    assert_eq!(ran.code, 0, "{text}\n{}{}", ran.stdout, ran.stderr);
    ran.stdout
}

fn jq_reads_the_events_of_every_command() {
    let site = demo_site();
    let servers = [
        Server::start(&["serve-http", path_str(&site), "--json"]),
        Server::start(&["ping-serve", "--loss", "0", "--json"]),
        Server::start(&["heartbeat", "watch", "--json"]),
        Server::start(&["mail-serve", "--json"]),
    ];
    let [web, ping, heartbeat, mail] = servers.each_ref().map(|server| server.addresses[0].clone());
    let variables = [("WEB", &*web), ("PING", &*ping), ("HEARTBEAT", &*heartbeat), ("MAIL", &*mail)];
    // Every line has a type and a time, the last one is a summary with the exit code.
    let check = "jq -es 'all(.[]; has(\"type\") and has(\"time\")) and (last | .type == \"summary\" and .exit == 0)' > /dev/null";
    for command in [
        "netlab get --json -c 2 --interval 1ms $WEB",
        "netlab ping --json -c 3 -i 1ms $PING",
        "netlab heartbeat send --json -c 2 -i 10ms $HEARTBEAT",
        "netlab mail --json --plain $MAIL --from a@x.test --to b@x.test --text hi",
    ] {
        script(&format!("{command} | {check}"), &variables);
    }
    let slowest =
        script("netlab ping --json -c 3 -i 1ms $PING | jq -s 'map(.rtt_ns // 0 | numbers) | max > 0'", &variables);
    assert_eq!(slowest.trim(), "true");
    for server in servers {
        let events = server.stop().stdout;
        script(
            "printf '%s' \"$EVENTS\" | jq -es 'all(.[]; has(\"time\")) and (last | .type == \"summary\")'",
            &[("EVENTS", &events)],
        );
    }
}

fn jq_finds_the_reason_of_a_failure() {
    let text = "netlab get --json http://127.0.0.1:9/ 2> /dev/null | jq -r 'select(.type == \"error\") | \"\\(.exit) \\(.stage)\"'";
    assert_eq!(script(text, &[]), "69 connect\n");
}
