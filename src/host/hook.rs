//! A command that is run because something happened.
//!
//! Owns its start without a shell, its time limit and its end. It gets the event on stdin and cannot
//! reach our stdout, which carries results.

use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::os::fd::BorrowedFd;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Access, access};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::error::{Error, Result};
use crate::exit::Exit;

/// How long a command may still take once everything is to end.
const GRACE_PERIOD: Duration = Duration::from_secs(1);

/// A command as it was typed: one string, split by the rules of shell quoting, run by no shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hook {
    argv: Vec<String>,
}

/// How a run of it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HookExit {
    /// With this exit code.
    Code(i32),
    /// Killed by this signal.
    Signal(i32),
    /// It took longer than the limit and was killed, with everything it had started.
    TimedOut,
}

impl std::str::FromStr for Hook {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match shlex::split(text) {
            Some(words) if !words.is_empty() => Ok(Self { argv: words }),
            _ => Err(Error::new(Exit::Usage, "this is no command")
                .expected("a program and its arguments, quoted as for a shell")),
        }
    }
}

impl Hook {
    /// Its words.
    pub(crate) fn argv(&self) -> &[String] {
        &self.argv
    }

    /// Refuses a program that is not there, if it is named by its path.
    pub(crate) fn check(&self) -> Result<()> {
        let named = self.argv.first().filter(|program| program.contains('/'));
        let is_there = |program: &String| access(program, Access::EXEC_OK).is_ok() && Path::new(program).is_file();
        let Some(program) = named.filter(|program| !is_there(program)) else { return Ok(()) };
        Err(Error::new(Exit::InputMissing, format!("there is no program {program} to run"))
            .expected("a program, and its arguments quoted as for a shell"))
    }

    /// Runs it with `input` on its stdin, for `limit` at most, and for a second only once the other end
    /// of `hurry` is closed.
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
        // It fits the pipe; a command that does not read it is none of our business.
        if let Some(mut stdin) = child.stdin.take() {
            let _ = stdin.write_all(input);
        }
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let ended = pid.is_none_or(|pid| exits_within(pid, timeout, Some(cancel)));
        if let Some(pid) = pid.filter(|_| !ended) {
            // Fails only if it has ended meanwhile.
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

/// Whether a process ends in time, which becomes short once `hurry`, if there is one, is closed. A signal of ours may
/// cut the wait short, never stretch it by more than one limit.
pub(super) fn exits_within(pid: Pid, timeout: Duration, cancel: Option<BorrowedFd<'_>>) -> bool {
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return true };
    let watched = PollFd::new(&process, PollFlags::IN);
    let hurried = cancel.map(|hurry| PollFd::from_borrowed_fd(hurry, PollFlags::IN));
    let mut watched = [Some(watched), hurried].into_iter().flatten().collect::<Vec<_>>();
    let (mut fds, mut limit) = (&mut watched[..], timeout);
    loop {
        let left = Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(limit.subsec_nanos()),
        };
        match poll(fds, Some(&left)) {
            Ok(0) => return false,
            Ok(_) if fds.first().is_some_and(|process| !process.revents().is_empty()) => return true,
            // The second is nothing to wait for any more.
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
        let (hurry, _open) = std::io::pipe().expect("a pipe");
        hook.run(&environment, b"{\"type\":\"state\"}\n", limit, hurry.as_fd()).expect("it starts")
    }

    #[test]
    fn it_is_not_waited_for_when_everything_ends() {
        let hook: Hook = "sleep 60".parse().expect("a command");
        let (hurry, open) = std::io::pipe().expect("a pipe");
        drop(open);
        assert_eq!(hook.run(&[], b"", LIMIT, hurry.as_fd()).expect("it starts"), HookExit::TimedOut);
    }

    #[test]
    fn a_program_that_is_not_there_is_refused_before_it_is_needed() {
        for (text, is_there) in
            [("sh -c 'exit 7'", true), ("/bin/sh", true), ("/etc/passwd", false), ("./no-such-x", false)]
        {
            let hook: Hook = text.parse().expect("a command");
            assert_eq!(hook.check().is_ok(), is_there, "{text}");
        }
    }

    #[test]
    fn it_gets_the_event_on_stdin_and_in_its_environment() {
        assert_eq!(run(r#"sh -c 'read line; test "$line" = "{\"type\":\"state\"}"'"#, LIMIT), HookExit::Code(0));
        assert_eq!(run(r#"sh -c 'test "$NETLAB_TO" = "down; exit 9"'"#, LIMIT), HookExit::Code(0));
    }

    #[test]
    fn no_shell_reads_the_command() {
        assert_eq!(run("test ';' = ';'", LIMIT), HookExit::Code(0));
        assert_eq!(run("test '$HOME' = a", LIMIT), HookExit::Code(1));
        assert!("'".parse::<Hook>().is_err() && "".parse::<Hook>().is_err());
    }

    #[test]
    fn it_is_ended_at_its_limit_with_everything_it_started() {
        assert_eq!(run("sh -c 'sleep 60 & sleep 60'", Duration::from_millis(50)), HookExit::TimedOut);
        assert_eq!(run("sh -c 'kill -9 $$'", LIMIT), HookExit::Signal(9));
    }

    #[test]
    fn a_command_that_is_not_there_is_told() {
        let hook: Hook = "/nonexistent/command".parse().expect("a command");
        let (hurry, _open) = std::io::pipe().expect("a pipe");
        assert!(hook.run(&[], b"", LIMIT, hurry.as_fd()).is_err());
    }
}
