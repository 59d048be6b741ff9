//! A command that we live as long as.
//!
//! Owns a child that has our terminal, our input and our output, and the thread that waits for it.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;
use std::sync::{Arc, OnceLock};

use rustix::process::{Pid, Signal, kill_process};

use crate::error::{Error, Result, io_error_text};
use crate::exit::Exit;

/// A running command.
#[derive(Debug)]
pub(crate) struct SupervisedCommand {
    pid: Option<Pid>,
    exit_code: Arc<OnceLock<u8>>,
}

impl SupervisedCommand {
    /// Starts it; `ended` is called once it has ended.
    pub(crate) fn start(words: &[OsString], on_exit: impl FnOnce() + Send + 'static) -> Result<Self> {
        let (program, arguments) =
            words.split_first().ok_or_else(|| Error::new(Exit::Usage, "there is no command to run"))?;
        let mut child = Command::new(program).args(arguments).spawn().map_err(|error| {
            let exit = match error.kind() {
                std::io::ErrorKind::NotFound => Exit::InputMissing,
                std::io::ErrorKind::PermissionDenied => Exit::Permission,
                _ => Exit::OsError,
            };
            Error::new(exit, format!("cannot run {}: {}", program.display(), io_error_text(&error)))
                .expected("a program, by its path or found in PATH")
                .with_source(error)
        })?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let code = Arc::new(OnceLock::new());
        let told = Arc::clone(&code);
        let wait = move || {
            // As a shell tells it: 128 and the number of the signal.
            let status = child.wait();
            let code =
                status.map_or(1, |status| status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default()));
            let _ = told.set(u8::try_from(code).unwrap_or(u8::MAX));
            on_exit();
        };
        std::thread::Builder::new()
            .name("guard".into())
            .spawn(wait)
            .map_err(|error| Error::new(Exit::OsError, "cannot wait for the command").with_source(error))?;
        Ok(Self { pid, exit_code: code })
    }

    /// Its exit code, once it has ended.
    pub(crate) fn exit_code(&self) -> Option<u8> {
        self.exit_code.get().copied()
    }

    /// Passes a request to stop on to it: SIGTERM, or SIGINT where that came.
    pub(crate) fn stop(&self, interrupt: bool) {
        if let Some(pid) = self.pid.filter(|_| self.exit_code().is_none()) {
            // Fails only if it has ended meanwhile.
            let _ = kill_process(pid, if interrupt { Signal::INT } else { Signal::TERM });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::SupervisedCommand;
    use std::sync::mpsc::channel;

    #[test]
    fn its_end_and_its_code_are_told() {
        for (script, code) in [("exit 3", 3), ("kill -9 $$", 137)] {
            let (done, ended) = channel();
            let words = ["sh", "-c", script].map(Into::into);
            let guarded =
                SupervisedCommand::start(&words, move || done.send(()).expect("somebody waits")).expect("started");
            ended.recv().expect("told");
            assert_eq!(guarded.exit_code(), Some(code), "{script}");
        }
    }

    #[test]
    fn a_request_to_stop_is_passed_on() {
        let (done, ended) = channel();
        let guarded =
            SupervisedCommand::start(&["sleep".into(), "60".into()], move || done.send(()).expect("somebody waits"))
                .expect("started");
        guarded.stop(false);
        ended.recv().expect("told");
        assert_eq!(guarded.exit_code(), Some(143));
    }
}
