//! Supervised command of `heartbeat send --exec`: netlab runs as long as the command does.
//!
//! Owns the child, which inherits stdin, stdout and stderr, and the thread that waits for it.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;
use std::sync::{Arc, OnceLock};

use rustix::process::{Pid, Signal, kill_process};

use crate::failure::{Failure, FailureKind, Result, io_error_text};

/// Running command.
#[derive(Debug)]
pub(crate) struct SupervisedCommand {
    pid: Option<Pid>,
    exit_code: Arc<OnceLock<u8>>,
}

impl SupervisedCommand {
    /// Starts the command; `on_exit` is called once it has ended.
    pub(crate) fn start(words: &[OsString], on_exit: impl FnOnce() + Send + 'static) -> Result<Self> {
        let (program, arguments) =
            words.split_first().ok_or_else(|| Failure::new(FailureKind::InvalidValue, "no command to run"))?;
        let mut child = Command::new(program).args(arguments).spawn().map_err(|error| {
            let kind = match error.kind() {
                std::io::ErrorKind::NotFound => FailureKind::CommandNotFound,
                std::io::ErrorKind::PermissionDenied => FailureKind::CommandNotExecutable,
                _ => FailureKind::System,
            };
            Failure::new(kind, format!("cannot run {}: {}", program.display(), io_error_text(&error)))
                .expected("a program, as a path or a name in PATH")
                .with_source(error)
        })?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let code = Arc::new(OnceLock::new());
        let shared_code = Arc::clone(&code);
        let wait = move || {
            // A signal is reported as 128 plus its number, as shells do.
            let status = child.wait();
            let code =
                status.map_or(1, |status| status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default()));
            let _ = shared_code.set(u8::try_from(code).unwrap_or(u8::MAX));
            on_exit();
        };
        std::thread::Builder::new()
            .name("supervisor".into())
            .spawn(wait)
            .map_err(|error| Failure::new(FailureKind::System, "cannot wait for the command").with_source(error))?;
        Ok(Self { pid, exit_code: code })
    }

    /// Exit code, once the command has ended.
    pub(crate) fn exit_code(&self) -> Option<u8> {
        self.exit_code.get().copied()
    }

    /// Passes on a request to stop: SIGINT if `interrupt`, else SIGTERM.
    pub(crate) fn stop(&self, interrupt: bool) {
        if let Some(pid) = self.pid.filter(|_| self.exit_code().is_none()) {
            // Fails only if the command has ended meanwhile.
            let _ = kill_process(pid, if interrupt { Signal::INT } else { Signal::TERM });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::SupervisedCommand;
    use std::sync::mpsc::channel;

    #[test]
    fn the_end_and_the_exit_code_are_reported() {
        for (script, code) in [("exit 3", 3), ("kill -9 $$", 137)] {
            let (done, ended) = channel();
            let words = ["sh", "-c", script].map(Into::into);
            let command =
                SupervisedCommand::start(&words, move || done.send(()).expect("the test waits")).expect("started");
            ended.recv().expect("on_exit was called");
            assert_eq!(command.exit_code(), Some(code), "{script}");
        }
    }

    #[test]
    fn a_request_to_stop_is_passed_on() {
        let (done, ended) = channel();
        let command =
            SupervisedCommand::start(&["sleep".into(), "60".into()], move || done.send(()).expect("the test waits"))
                .expect("started");
        command.stop(false);
        ended.recv().expect("on_exit was called");
        assert_eq!(command.exit_code(), Some(143));
    }
}
