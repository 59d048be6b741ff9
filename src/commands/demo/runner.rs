//! Demo runner: a scratch directory, child processes of this program, a record of steps.

use std::fs;
use std::process::Command;
use std::time::Duration;

use super::events::Step;
use crate::disk::ScratchDir;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::host::{Child, ChildOutput};
use crate::net::{self, Signals, WakeReason};
use crate::output::Output;

/// Time limit for a server to listen and for a client to end.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Interval between checks of a file or a process.
const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// Maximum lines of a step's output that are shown.
const MAX_LINES_SHOWN: usize = 12;

/// State of one demo run.
pub(super) struct DemoRunner {
    scratch: ScratchDir,
    output: Output,
    signals: Signals,
    steps: Vec<Step>,
}

/// Server running in the background.
pub(super) struct Server {
    child: Child,
    pair: &'static str,
    command: String,
    /// First address of its ready file.
    pub address: String,
}

impl DemoRunner {
    /// Creates the scratch directory.
    pub(super) fn new(output: Output, signals: Signals) -> Result<Self> {
        Ok(Self { scratch: ScratchDir::new()?, output, signals, steps: Vec::new() })
    }

    /// Returns the recorded steps.
    pub(super) fn finish(self) -> (Output, Vec<Step>) {
        (self.output, self.steps)
    }

    /// Writes a file to the scratch directory, where every command runs.
    pub(super) fn write_file(&self, name: &str, content: &[u8]) -> Result<()> {
        self.scratch.write_file(name, content)?;
        Ok(())
    }

    /// Reads a file of the scratch directory; a missing file is empty.
    pub(super) fn read_file(&self, name: &str) -> Vec<u8> {
        fs::read(self.scratch.path().join(name)).unwrap_or_default()
    }

    /// Starts a server on a free port and waits until it listens.
    pub(super) fn start_server(&mut self, pair: &'static str, arguments: &[&str]) -> Result<Server> {
        let ready = format!("ready-{}", self.steps.len());
        let arguments = [arguments, &["--bind", "127.0.0.1:0", "--ready-file", &ready]].concat();
        let command = shell_command(&arguments);
        let mut child = self.spawn(&arguments)?;
        let path = self.scratch.path().join(&ready);
        let listens = self.wait_until(|| path.exists() || !child.is_running())? && path.exists();
        if !listens {
            let ended = child.wait()?;
            return Err(Error::new(Exit::Negative, format!("{command} is not listening: {}", ended.stderr.trim())));
        }
        let address = fs::read_to_string(&path).unwrap_or_default().lines().next().unwrap_or_default().to_owned();
        let printed = format!("(in the background, listening on {address})");
        self.show(&Step {
            pair,
            shows: "",
            command: format!("{command} &"),
            expected: 0,
            exit: None,
            ok: true,
            printed,
        })?;
        Ok(Server { child, pair, command, address })
    }

    /// Runs a client to its end and records whether it ended with `expected` and passed `check`.
    pub(super) fn step(
        &mut self,
        server: &Server,
        description: &'static str,
        arguments: &[&str],
        expected: Exit,
        check: impl FnOnce(&Self, &ChildOutput) -> bool,
    ) -> Result<()> {
        let child = self.spawn(arguments)?;
        let ended = self.wait_or_kill(child)?;
        let ok = ended.code == Some(i32::from(expected.code())) && check(self, &ended);
        self.record(server.pair, description, shell_command(arguments), expected, &ended, ok)
    }

    /// Stops a server with SIGTERM and records whether it ended with success.
    pub(super) fn stop_server(&mut self, server: Server, description: &'static str) -> Result<()> {
        let Server { child, pair, command, .. } = server;
        child.terminate();
        let ended = self.wait_or_kill(child)?;
        let ok = ended.code == Some(0);
        self.record(pair, description, format!("kill %1   # {command}"), Exit::Success, &ended, ok)
    }

    fn record(
        &mut self,
        pair: &'static str,
        description: &'static str,
        command: String,
        expected: Exit,
        ended: &ChildOutput,
        ok: bool,
    ) -> Result<()> {
        let is_whole = self.output.style().is_verbose();
        let printed = if is_whole { ended.printed.clone() } else { elide_middle(&ended.printed) };
        let step = Step {
            pair,
            shows: description,
            command,
            expected: i32::from(expected.code()),
            exit: ended.code,
            ok,
            printed,
        };
        self.show(&step)?;
        self.steps.push(step);
        Ok(())
    }

    fn show(&mut self, step: &Step) -> Result<()> {
        Ok(self.output.emit(step)?)
    }

    /// Waits for a child to end; kills it after the time limit, which counts as a failure.
    fn wait_or_kill(&mut self, mut child: Child) -> Result<ChildOutput> {
        if !self.wait_until(|| !child.is_running())? {
            child.kill();
        }
        Ok(child.wait()?)
    }

    fn spawn(&self, arguments: &[&str]) -> Result<Child> {
        let program = std::env::current_exe()
            .map_err(|error| Error::new(Exit::OsError, "cannot find the path of this program").with_source(error))?;
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.scratch.path());
        Ok(Child::start(command)?)
    }

    /// Waits until the condition holds; returns `false` after the time limit. A signal ends the demo.
    fn wait_until(&mut self, mut condition: impl FnMut() -> bool) -> Result<bool> {
        let deadline = net::now() + TIMEOUT;
        while !condition() {
            let now = net::now();
            if now >= deadline {
                return Ok(false);
            }
            if let WakeReason::Signal(signal) = self.signals.wait(Some(now + POLL_INTERVAL)) {
                return Err(signal.failure().into());
            }
        }
        Ok(true)
    }
}

/// Formats a command line as a user would type it.
fn shell_command(arguments: &[&str]) -> String {
    let quoted = arguments.iter().map(|argument| {
        let is_plain = argument.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./:=@%,[]".contains(&byte));
        if is_plain { (*argument).to_owned() } else { format!("'{argument}'") }
    });
    std::iter::once("netlab".to_owned()).chain(quoted).collect::<Vec<_>>().join(" ")
}

/// Replaces the middle of a long output with a count of lines.
fn elide_middle(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let Some(hidden) = lines.len().checked_sub(MAX_LINES_SHOWN + 1).filter(|hidden| *hidden > 0) else {
        return text.to_owned();
    };
    let half = MAX_LINES_SHOWN / 2;
    let (head, tail) = (&lines[..half], &lines[half + hidden + 1..]);
    [head, &[&format!("… {} lines …", hidden + 1)], tail].concat().join("\n")
}

#[cfg(test)]
mod tests {
    use super::{MAX_LINES_SHOWN, elide_middle, shell_command};

    #[test]
    fn a_command_line_is_quoted_where_a_shell_would_need_it() {
        assert_eq!(shell_command(&["get", "-H", "A: b", "http://[::1]:1/"]), "netlab get -H 'A: b' http://[::1]:1/");
    }

    #[test]
    fn long_output_keeps_its_beginning_and_its_end() {
        let lines = |count: usize| (0..count).map(|n| n.to_string()).collect::<Vec<_>>().join("\n");
        assert_eq!(elide_middle(&lines(MAX_LINES_SHOWN + 1)), lines(MAX_LINES_SHOWN + 1));
        let short = elide_middle(&lines(100));
        assert_eq!(short.lines().count(), MAX_LINES_SHOWN + 1);
        assert!(short.starts_with("0\n") && short.ends_with("\n99") && short.contains("… 88 lines …"), "{short}");
    }
}
