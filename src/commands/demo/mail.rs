//! Mail pair of the demo: `mail` and `mail-serve`, with STARTTLS and an injected fault.

use super::runner::DemoRunner;
use crate::error::Result;
use crate::exit::Exit;

const PAIR: &str = "mail-serve, mail";

/// Runs the pair.
pub(super) fn run(runner: &mut DemoRunner) -> Result<()> {
    let server = runner.start_server(
        PAIR,
        &[
            "mail-serve",
            "--tls-self-signed=ca.pem",
            "--save",
            "mails",
            "--fault",
            "rcpt[late@lab.test]#1 = 451 4.7.1 greylisted",
            "--expect",
            "messages=2 tls=1.3",
        ],
    )?;
    let address = server.address.clone();
    let mail = ["mail", "--starttls", &address, "--ca", "ca.pem", "--from", "me@lab.test", "--text", "hello"];
    runner.step(
        &server,
        "a mail over STARTTLS, step by step",
        &[&mail[..], &["--to", "you@lab.test", "--subject", "hi", "--trace"]].concat(),
        Exit::Success,
        |_, ended| ended.stdout.contains("accepted you@lab.test") && ended.stderr.contains("~> MAIL FROM"),
    )?;
    runner.step(
        &server,
        "a greylisted recipient is retried",
        &[&mail[..], &["--to", "late@lab.test", "--retry", "1", "--retry-wait", "50ms"]].concat(),
        Exit::Success,
        |_, ended| ended.stdout.contains("accepted late@lab.test"),
    )?;
    runner.step(
        &server,
        "an untrusted certificate is not accepted",
        &["mail", "--starttls", &address, "--info"],
        Exit::Certificate,
        |_, ended| ended.stderr.contains("certificate"),
    )?;
    runner.stop_server(server, "SIGTERM: the summary, and --expect holds")
}
