//! Child process that is killed with its owner.

use std::io;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::hook::exits_within;
use crate::failure::{Failure, FailureKind, Result};

/// Running child process; two threads collect its output.
#[derive(Debug)]
pub(crate) struct Child {
    process: std::process::Child,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
    printed: Arc<Mutex<Vec<u8>>>,
}

/// Exit code and output of a child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChildOutput {
    /// Exit code; `None` if a signal killed the child.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    /// Both streams in the order in which they were read.
    pub printed: String,
}

impl Child {
    /// Starts `command` with an empty stdin.
    pub(crate) fn start(mut command: Command) -> Result<Self> {
        let failed =
            |error: io::Error| Failure::new(FailureKind::System, "cannot start a child process").with_source(error);
        let mut process =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(failed)?;
        let printed = Arc::default();
        let stdout = process.stdout.take().map(|pipe| collect_output(pipe, &printed));
        let stderr = process.stderr.take().map(|pipe| collect_output(pipe, &printed));
        Ok(Self { process, stdout, stderr, printed })
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        let pid = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // Fails only if the child has ended already.
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    /// Sends SIGKILL.
    pub(crate) fn kill(&mut self) {
        let _ = self.process.kill();
    }

    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }

    /// Waits up to `timeout`; returns true if the child has ended.
    pub(crate) fn exits_within(&self, timeout: Duration) -> bool {
        let pid = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw);
        pid.is_none_or(|pid| exits_within(pid, timeout, None))
    }

    /// Waits for the child to end and collects its output.
    pub(crate) fn wait(mut self) -> Result<ChildOutput> {
        let status = self
            .process
            .wait()
            .map_err(|error| Failure::new(FailureKind::System, "cannot wait for a child process").with_source(error))?;
        let text = |thread: Option<JoinHandle<Vec<u8>>>| {
            let bytes = thread.and_then(|thread| thread.join().ok()).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let (stdout, stderr) = (text(self.stdout.take()), text(self.stderr.take()));
        let printed = self.printed.lock().unwrap_or_else(PoisonError::into_inner);
        let printed = String::from_utf8_lossy(&printed).into_owned();
        Ok(ChildOutput { code: status.code(), stdout, stderr, printed })
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

/// Maximum output kept per stream; the rest is read and discarded, so that the child never blocks on a full pipe.
const MAX_OUTPUT: usize = 16 << 20;

/// Reads a pipe to its end on a thread, and appends it to what both pipes have printed.
fn collect_output(mut pipe: impl io::Read + Send + 'static, printed: &Arc<Mutex<Vec<u8>>>) -> JoinHandle<Vec<u8>> {
    let printed = Arc::clone(printed);
    std::thread::spawn(move || {
        let (mut bytes, mut piece) = (Vec::new(), [0; 8192]);
        while let Ok(count @ 1..) = pipe.read(&mut piece) {
            let piece = piece.get(..count).unwrap_or_default();
            if bytes.len() < MAX_OUTPUT {
                bytes.extend_from_slice(piece);
                printed.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(piece);
            }
        }
        bytes
    })
}

#[cfg(test)]
mod tests {
    use super::Child;
    use std::process::Command;

    #[test]
    fn the_output_of_a_child_is_collected_to_its_end() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo err >&2; exit 3"]);
        let ended = Child::start(command).expect("started").wait().expect("ended");
        assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (Some(3), "out\n", "err\n"));
    }

    #[test]
    fn a_child_can_be_terminated() {
        let mut command = Command::new("sleep");
        command.arg("60");
        let child = Child::start(command).expect("started");
        child.terminate();
        assert_eq!(child.wait().expect("ended").code, None);
    }
}
