//! Scripts of operators, run by a POSIX shell: probes, waiting, mail from cron, many servers.

use std::path::Path;
use std::process::Command;

use crate::support::{RunOutput, Server, path_str, run_command, site};

/// Runs a script with `sh` in a directory of its own. `$WEB`, `$PING` and `$MAIL` are addresses of servers.
fn script(text: &str, directory: &Path, servers: &[(&str, &str)]) -> RunOutput {
    let binaries = Path::new(env!("CARGO_BIN_EXE_netlab")).parent().expect("a directory");
    let mut command = Command::new("sh");
    command.args(["-euc", text]).current_dir(directory).envs(servers.iter().copied());
    command.env("PATH", format!("{}:{}", binaries.display(), std::env::var("PATH").unwrap_or_default()));
    run_command(command)
}

fn assert_success(text: &str, servers: &[(&str, &str)]) {
    let directory = site(&[("site/index.html", b"hello")]);
    let ran = script(text, directory.path(), servers);
    assert_eq!(ran.code, 0, "{text}\n{}{}", ran.stdout, ran.stderr);
}

#[test]
fn a_probe_is_silent_if_all_is_well_and_says_why_if_not() {
    let directory = site(&[("index.html", b"hello")]);
    let (web, ping) =
        (Server::start(&["serve-http", path_str(directory.path())]), Server::start(&["ping-serve", "--loss", "0"]));
    let url = web.url("");
    let servers = [("WEB", url.as_str()), ("PING", ping.addresses[0].as_str())];
    let probe = "netlab ping $PING -c 3 -i 5ms -qq && netlab get -qq -o /dev/null $WEB/";
    let ran = script(probe, directory.path(), &servers);
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (0, "", ""));
    let ran = script(&format!("{probe}absent"), directory.path(), &servers);
    assert!(ran.code == 1 && ran.stdout.is_empty() && ran.stderr.contains("404 Not Found"), "{}", ran.stderr);
    // A goal for the service, and the last line as JSON.
    assert_success("netlab ping $PING -c 20 -i 2ms -q --fail-if 'loss>0' --fail-if 'rtt.p99>5s' > /dev/null", &servers);
    assert_success(
        "netlab get --json -c 2 --interval 1ms $WEB/ | tail -n 1 | grep -q '\"type\":\"summary\".*\"exit\":0'",
        &servers,
    );
}

#[test]
fn a_script_waits_until_a_service_answers() {
    assert_success(
        "netlab serve-http site --bind 127.0.0.1:0 --ready-file ready --count 1 > /dev/null &
         while [ ! -s ready ]; do :; done
         until netlab get -qq -o page \"$(cat ready)\" 2> /dev/null; do :; done
         wait $!
         grep -q hello page
         [ ! -e ready ]",
        &[],
    );
}

#[test]
fn a_program_that_sends_mail_is_tested() {
    assert_success(
        "netlab mail-serve --bind 127.0.0.1:0 --ready-file ready --count 1 --expect 'messages=1 subject=report' -qq &
         while [ ! -s ready ]; do :; done
         netlab mail --plain \"$(cat ready)\" --from app@x.test --to root@x.test --subject report --text done -qq
         wait $!",
        &[],
    );
}

#[test]
fn a_cron_job_mails_the_reason_of_a_failure() {
    let mail = Server::start(&["mail-serve", "--json"]);
    assert_success(
        "out=$(netlab get -qq http://127.0.0.1:9/ 2>&1) && exit 1
         printf '%s\\n' \"$out\" |
           netlab mail --plain $MAIL --from cron@x.test --to root@x.test --subject \"probe failed\" --text - -qq",
        &[("MAIL", &mail.addresses[0])],
    );
    let events = mail.stop().events();
    let message = events.iter().find(|event| event["type"] == "message").expect("a mail");
    assert_eq!(message["subject"], "probe failed");
}

#[test]
fn ten_servers_start_at_once_on_free_ports() {
    assert_success(
        "for n in 1 2 3 4 5 6 7 8 9 10; do
           netlab serve-http site --bind 127.0.0.1:0 --ready-file ready-$n --for 30s -qq & pids=\"${pids-} $!\"
         done
         for n in 1 2 3 4 5 6 7 8 9 10; do while [ ! -s ready-$n ]; do :; done; done
         [ \"$(sort -u ready-* | wc -l)\" -eq 10 ]
         kill $pids
         for pid in $pids; do wait $pid; done",
        &[],
    );
}

#[test]
fn a_server_that_is_stopped_finishes_its_responses() {
    let directory = site(&[("site/big", &vec![b'x'; 32 << 20])]);
    let text = "netlab serve-http site --bind 127.0.0.1:0 --ready-file ready -qq & pid=$!
         while [ ! -s ready ]; do :; done
         url=$(cat ready)
         # The download is in flight: the pipe and the sockets hold a part of it.
         netlab get -o - \"${url}big\" | {
           head -c 1 > /dev/null
           kill $pid
           until netlab get -qq \"$url\" 2> /dev/null; [ $? -eq 69 ]; do :; done
           wc -c > rest
         }
         wait $pid
         [ ! -e ready ]
         cat rest";
    let ran = script(text, directory.path(), &[]);
    let rest: usize = ran.stdout.trim().parse().unwrap_or_default();
    // `head` may have read more than the byte it passed on.
    assert!(ran.code == 0 && (32 << 20) - rest <= 1 << 16 && rest > 0, "{} {} {}", ran.code, ran.stdout, ran.stderr);
}

#[test]
fn closed_standard_descriptors_are_no_obstacle() {
    let directory = site(&[("index.html", b"hello")]);
    let web = Server::start(&["serve-http", path_str(directory.path())]);
    let url = web.url("");
    assert_success("netlab get -o page $WEB/ 0<&- 1>&- 2>&- && grep -q hello page", &[("WEB", &url)]);
}
