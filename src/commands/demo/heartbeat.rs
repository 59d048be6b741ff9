//! Heartbeat pair of the demo: `heartbeat watch` and `heartbeat send`.

use super::runner::DemoRunner;
use crate::error::Result;
use crate::exit::Exit;

const PAIR: &str = "heartbeat";

/// Runs the pair.
pub(super) fn run(runner: &mut DemoRunner) -> Result<()> {
    let server = runner.start_server(PAIR, &["heartbeat", "watch", "--expect", "web-1"])?;
    let watcher = server.address.clone();
    let send = ["heartbeat", "send", &watcher, "--name", "web-1", "-i", "50ms", "-c", "5", "--echo"];
    runner.step(&server, "five beats with echoes, then a stop message", &send, Exit::Success, |_, ended| {
        ended.stdout.contains("5 beats sent, 5 echoes") && ended.stdout.contains("stop message sent after beat 5")
    })?;
    let exec = ["heartbeat", "send", &watcher, "--name", "job", "-i", "50ms", "--exec", "sh", "-c", "exit 3"];
    runner.step(
        &server,
        "beats while a command runs; its exit code is passed on",
        &exec,
        Exit::ChildExit(3),
        |_, ended| ended.stderr.contains("exit code 3"),
    )?;
    let absent = ["heartbeat", "watch", "--bind", "0", "--expect", "db", "--until", "all up", "--for", "100ms", "-q"];
    runner.step(&server, "a missing sender: exit code 1", &absent, Exit::Negative, |_, ended| {
        ended.stderr.contains("'all up' was not met")
    })?;
    runner.stop_server(server, "SIGTERM: which senders were up, what was lost")?;
    Ok(())
}
