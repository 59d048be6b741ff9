//! The heartbeat pair: `heartbeat watch` and `heartbeat send`.

use super::runner::DemoRunner;
use crate::error::Result;
use crate::exit::Exit;

const PAIR: &str = "heartbeat";

/// Plays the pair.
pub(super) fn run(runner: &mut DemoRunner) -> Result<()> {
    let server = runner.start_server(PAIR, &["heartbeat", "watch", "--expect", "web-1"])?;
    let watcher = server.address.clone();
    let send = ["heartbeat", "send", &watcher, "--name", "web-1", "-i", "50ms", "-c", "5", "--echo"];
    runner.step(&server, "five beats with echoes, and a goodbye", &send, Exit::Success, |_, ended| {
        ended.stdout.contains("5 beats sent, 5 echoes") && ended.stdout.contains("goodbye after beat 5")
    })?;
    let exec = ["heartbeat", "send", &watcher, "--name", "job", "-i", "50ms", "--exec", "sh", "-c", "exit 3"];
    runner.step(&server, "beats while a command lives, and its exit code", &exec, Exit::ChildExit(3), |_, ended| {
        ended.stderr.contains("the command ended with 3")
    })?;
    let nobody = ["heartbeat", "watch", "--bind", "0", "--expect", "db", "--until", "all up", "--for", "100ms", "-q"];
    runner.step(&server, "somebody who never comes is exit code 1", &nobody, Exit::Negative, |_, ended| {
        ended.stdout.contains("what was waited for did not come")
    })?;
    runner.stop_server(server, "SIGTERM: who was there, and what got lost")?;
    Ok(())
}
