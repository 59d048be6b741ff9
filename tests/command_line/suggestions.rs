//! Commands that netlab itself suggests run as printed.

use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::Command;

use crate::support::{Server, demo_site, path_str, run, run_command};

/// Runs the command after `try:` that a server prints.
fn run_suggestion(arguments: &[&str]) -> (String, i32, String) {
    let mut server = Server::start(arguments);
    // The access log of serve-http has stdout for itself.
    let stream: Box<dyn Read> =
        if arguments[0] == "serve-http" { Box::new(server.stderr()) } else { Box::new(server.stdout()) };
    let mut lines = BufReader::new(stream).lines();
    let suggestion = lines.find_map(|line| line.expect("text").strip_prefix("try: ").map(str::to_owned));
    let suggestion = suggestion.expect("a suggestion");
    let binaries = Path::new(env!("CARGO_BIN_EXE_netlab")).parent().expect("a directory");
    let mut command = Command::new("sh");
    command.args(["-c", &suggestion]).env("PATH", format!("{}:/bin:/usr/bin", binaries.display()));
    let ran = run_command(command);
    (suggestion, ran.code, ran.stderr)
}

#[test]
fn the_command_that_a_server_suggests_succeeds() {
    let site = demo_site();
    for arguments in [
        &["mail-serve"][..],
        &["mail-serve", "--tls-self-signed"],
        &["mail-serve", "--tls-self-signed", "--tls-bind", "0"],
        &["serve-http", path_str(&site), "--tls-self-signed"],
    ] {
        let (suggestion, code, stderr) = run_suggestion(arguments);
        assert_eq!(code, 0, "{suggestion}: {stderr}");
    }
}

#[test]
fn the_demo_shows_every_line_with_v() {
    let (short, long) = (run(&["demo"]).stdout, run(&["demo", "-v"]).stdout);
    assert!(short.contains("lines …") && !long.contains("lines …"), "{long}");
    assert!(long.lines().count() > short.lines().count());
    // The dialogue comes before the report of its result.
    let at = |word: &str| long.find(word).unwrap_or_else(|| panic!("'{word}' in {long}"));
    assert!(at("~> QUIT") < at("accepted you@lab.test"), "{long}");
}
