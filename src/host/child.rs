//! A child process that ends with its owner.

use std::io;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::hook::exits_within;
use crate::error::{Error, Result};
use crate::exit::Exit;

/// A running child, its output being collected.
#[derive(Debug)]
pub(crate) struct Child {
    process: std::process::Child,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
}

/// How a child ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChildOutput {
    /// Its exit code; `None` if a signal killed it.
    pub code: Option<i32>,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Child {
    /// Starts `command` with nothing on its stdin.
    pub(crate) fn start(mut command: Command) -> Result<Self> {
        let failed = |error: io::Error| Error::new(Exit::OsError, "cannot start a child process").with_source(error);
        let mut process =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(failed)?;
        let stdout = process.stdout.take().map(collect_output);
        let stderr = process.stderr.take().map(collect_output);
        Ok(Self { process, stdout, stderr })
    }

    /// Asks it to stop, as a supervisor would.
    pub(crate) fn terminate(&self) {
        let pid = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // Fails only if it has ended already.
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        let _ = self.process.kill();
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }

    /// Whether it ends by itself within `limit`.
    pub(crate) fn exits_within(&self, timeout: Duration) -> bool {
        let pid = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw);
        pid.is_none_or(|pid| exits_within(pid, timeout, None))
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> Result<ChildOutput> {
        let status = self
            .process
            .wait()
            .map_err(|error| Error::new(Exit::OsError, "cannot wait for a child process").with_source(error))?;
        let text = |thread: Option<JoinHandle<Vec<u8>>>| {
            let bytes = thread.and_then(|thread| thread.join().ok()).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        Ok(ChildOutput { code: status.code(), stdout: text(self.stdout.take()), stderr: text(self.stderr.take()) })
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.is_running() {
            self.kill();
            let _ = self.process.wait();
        }
    }
}

/// The most that is kept of what a child says; the rest is read, so that it never waits for us.
const MAX_OUTPUT: u64 = 16 << 20;

/// Reads a pipe to its end on a thread.
fn collect_output(mut pipe: impl io::Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = io::Read::read_to_end(&mut io::Read::take(&mut pipe, MAX_OUTPUT), &mut bytes);
        let _ = io::copy(&mut pipe, &mut io::sink());
        bytes
    })
}

#[cfg(test)]
mod tests {
    use super::Child;
    use std::process::Command;

    #[test]
    fn a_child_is_heard_to_its_end() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo err >&2; exit 3"]);
        let ended = Child::start(command).expect("started").wait().expect("ended");
        assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (Some(3), "out\n", "err\n"));
    }

    #[test]
    fn a_child_can_be_asked_to_stop() {
        let mut command = Command::new("sleep");
        command.arg("60");
        let child = Child::start(command).expect("started");
        child.terminate();
        assert_eq!(child.wait().expect("ended").code, None);
    }
}
