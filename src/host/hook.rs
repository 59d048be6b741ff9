//! Hook: a command that is run on an event. Starts the command without a shell and kills its process group at the
//! timeout. The hook reads the event from stdin; its stdout is discarded, because netlab's stdout carries results.

use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::os::fd::BorrowedFd;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::failure::{Failure, FailureKind, Result};

/// Time that a running hook has left once netlab is stopping.
const GRACE_PERIOD: Duration = Duration::from_secs(1);

/// Command as typed: one string, split by the quoting rules of a shell and run without one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hook {
    argv: Vec<String>,
}

/// Outcome of one run of a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HookExit {
    Code(i32),
    /// Number of the signal that killed the hook.
    Signal(i32),
    /// Killed after the timeout, with its whole process group.
    TimedOut,
}

impl std::str::FromStr for Hook {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self> {
        match shlex::split(text) {
            Some(words) if !words.is_empty() => Ok(Self { argv: words }),
            Some(_) => {
                Err(Failure::new(FailureKind::InvalidValue, "empty command").expected("a program and its arguments"))
            }
            None => Err(Failure::new(FailureKind::InvalidValue, format!("missing closing quote in '{text}'"))
                .expected("a program and its arguments, quoted as for a shell")),
        }
    }
}

impl Hook {
    pub(crate) fn argv(&self) -> &[String] {
        &self.argv
    }

    /// Checks that the program exists, as a path or a name in `PATH`, and is executable.
    pub(crate) fn check(&self) -> Result<()> {
        self.argv.first().map_or(Ok(()), check_program)
    }

    /// Runs the hook with `input` on stdin, for at most `timeout`, or one more second once the other end of
    /// `cancel` is closed.
    pub(crate) fn run(
        &self,
        environment: &[(&str, String)],
        input: &[u8],
        timeout: Duration,
        cancel: BorrowedFd<'_>,
    ) -> io::Result<HookExit> {
        let Some((program, arguments)) = self.argv.split_first() else { return Ok(HookExit::Code(0)) };
        let mut child = Command::new(OsStr::new(program))
            .args(arguments)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()?;
        // An event is smaller than the pipe buffer (64 KiB), so a command that does not read it cannot block this
        // thread.
        if let Some(mut stdin) = child.stdin.take() {
            let _ = stdin.write_all(input);
        }
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let ended = pid.is_none_or(|pid| exits_within(pid, timeout, Some(cancel)));
        if let Some(pid) = pid.filter(|_| !ended) {
            // Fails only if the process group has ended meanwhile.
            let _ = kill_process_group(pid, Signal::KILL);
        }
        let status = child.wait()?;
        Ok(match (ended, status.code(), status.signal()) {
            (false, ..) => HookExit::TimedOut,
            (true, Some(code), _) => HookExit::Code(code),
            (true, None, signal) => HookExit::Signal(signal.unwrap_or_default()),
        })
    }
}

/// Checks that a program exists, as a path or a name in `PATH`, and is executable.
pub(crate) fn check_program(program: impl AsRef<OsStr>) -> Result<()> {
    let program = Path::new(program.as_ref());
    if which::which(program).is_ok() {
        return Ok(());
    }
    let (kind, reason) = if program.components().count() > 1 && program.exists() {
        (FailureKind::CommandNotExecutable, "not executable")
    } else {
        (FailureKind::CommandNotFound, "no such program")
    };
    Err(Failure::new(kind, format!("cannot run {}: {reason}", program.display()))
        .expected("a program, as a path or a name in PATH"))
}

/// Waits for a process to end, for at most `timeout`, which shrinks to [`GRACE_PERIOD`] once the other end of
/// `cancel` is closed. A signal restarts the wait.
pub(super) fn exits_within(pid: Pid, timeout: Duration, cancel: Option<BorrowedFd<'_>>) -> bool {
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return true };
    let watched = PollFd::new(&process, PollFlags::IN);
    let cancelled = cancel.map(|cancel| PollFd::from_borrowed_fd(cancel, PollFlags::IN));
    let mut watched = [Some(watched), cancelled].into_iter().flatten().collect::<Vec<_>>();
    let (mut fds, mut limit) = (&mut watched[..], timeout);
    loop {
        match poll(fds, Timespec::try_from(limit).ok().as_ref()) {
            Ok(0) => return false,
            Ok(_) if fds.first().is_some_and(|process| !process.revents().is_empty()) => return true,
            // `cancel` was closed: from here on wait for the process only.
            Ok(_) => (fds, limit) = (fds.get_mut(..1).unwrap_or_default(), limit.min(GRACE_PERIOD)),
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Hook, HookExit};
    use std::os::fd::AsFd as _;
    use std::time::Duration;

    const LIMIT: Duration = Duration::from_secs(20);

    fn run(text: &str, limit: Duration) -> HookExit {
        let hook: Hook = text.parse().expect("a command");
        let environment = [("NETLAB_TO", "down; exit 9".to_owned())];
        let (cancel, _open) = std::io::pipe().expect("a pipe");
        hook.run(&environment, b"{\"type\":\"state\"}\n", limit, cancel.as_fd()).expect("it starts")
    }

    #[test]
    fn a_hook_is_killed_soon_after_a_cancellation() {
        let hook: Hook = "sleep 60".parse().expect("a command");
        let (cancel, open) = std::io::pipe().expect("a pipe");
        drop(open);
        assert_eq!(hook.run(&[], b"", LIMIT, cancel.as_fd()).expect("it starts"), HookExit::TimedOut);
    }

    #[test]
    fn a_missing_program_is_reported_before_it_is_needed() {
        for (text, is_there) in
            [("sh -c 'exit 7'", true), ("/bin/sh", true), ("/etc/passwd", false), ("./no-such-x", false)]
        {
            let hook: Hook = text.parse().expect("a command");
            assert_eq!(hook.check().is_ok(), is_there, "{text}");
        }
    }

    #[test]
    fn a_hook_gets_the_event_on_stdin_and_in_its_environment() {
        assert_eq!(run(r#"sh -c 'read line; test "$line" = "{\"type\":\"state\"}"'"#, LIMIT), HookExit::Code(0));
        assert_eq!(run(r#"sh -c 'test "$NETLAB_TO" = "down; exit 9"'"#, LIMIT), HookExit::Code(0));
    }

    #[test]
    fn the_command_is_run_without_a_shell() {
        assert_eq!(run("test ';' = ';'", LIMIT), HookExit::Code(0));
        assert_eq!(run("test '$HOME' = a", LIMIT), HookExit::Code(1));
        assert!("'".parse::<Hook>().is_err() && "".parse::<Hook>().is_err());
    }

    #[test]
    fn a_hook_is_killed_at_its_timeout_with_its_process_group() {
        assert_eq!(run("sh -c 'sleep 60 & sleep 60'", Duration::from_millis(50)), HookExit::TimedOut);
        assert_eq!(run("sh -c 'kill -9 $$'", LIMIT), HookExit::Signal(9));
    }

    #[test]
    fn a_missing_command_is_an_error() {
        let hook: Hook = "/nonexistent/command".parse().expect("a command");
        let (cancel, _open) = std::io::pipe().expect("a pipe");
        assert!(hook.run(&[], b"", LIMIT, cancel.as_fd()).is_err());
    }
}
