//! Exit codes: the numbers a script may act on and one line of explanation each.
//!
//! `--help`, the README and `man/netlab-exit-codes.7` are made from [`Exit::ALL`], so the three always agree. Codes
//! 64–78 have the meaning of sysexits.h, which mail tools use.

use std::process::ExitCode;

/// Outcome of a run, as an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Exit {
    /// Success; conditions given on the command line hold.
    Success,
    /// The run completed, but a condition was not met or a request failed.
    Negative,
    /// Invalid command line.
    Usage,
    /// Input rejected locally; nothing was sent.
    InvalidInput,
    /// Input file missing or unreadable.
    InputMissing,
    /// Some recipients permanently rejected.
    RecipientsRejected,
    /// Unknown host name.
    UnknownHost,
    /// Refused, unreachable, or permanently rejected by the peer.
    Unavailable,
    /// Bug in netlab.
    Bug,
    /// Operating system error.
    OsError,
    /// Output cannot be created.
    CannotCreate,
    /// Read or write error.
    Io,
    /// Temporary failure; a later attempt may succeed.
    TemporaryFailure,
    /// Protocol violation by the peer.
    Protocol,
    /// Login or permission denied.
    Permission,
    /// Unusable configuration or trust store.
    Config,
    /// Certificate of the peer not accepted.
    Certificate,
    /// Transfer incomplete; it can be resumed.
    Incomplete,
    /// Unknown outcome: the peer may have accepted.
    OutcomeUnknown,
    /// A command given as a value is not executable.
    CommandNotExecutable,
    /// A command given as a value was not found.
    CommandNotFound,
    /// SIGINT before there was a result.
    Interrupted,
    /// SIGTERM before there was a result.
    Terminated,
    /// Exit code of the command that `heartbeat send --exec` ran.
    ChildExit(u8),
}

impl Exit {
    /// All codes in ascending order, without those of child processes.
    pub const ALL: [Self; 23] = [
        Self::Success,
        Self::Negative,
        Self::Usage,
        Self::InvalidInput,
        Self::InputMissing,
        Self::RecipientsRejected,
        Self::UnknownHost,
        Self::Unavailable,
        Self::Bug,
        Self::OsError,
        Self::CannotCreate,
        Self::Io,
        Self::TemporaryFailure,
        Self::Protocol,
        Self::Permission,
        Self::Config,
        Self::Certificate,
        Self::Incomplete,
        Self::OutcomeUnknown,
        Self::CommandNotExecutable,
        Self::CommandNotFound,
        Self::Interrupted,
        Self::Terminated,
    ];

    /// Number in the shell's `$?`.
    pub fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Negative => 1,
            Self::Usage => 2,
            Self::InvalidInput => 65,
            Self::InputMissing => 66,
            Self::RecipientsRejected => 67,
            Self::UnknownHost => 68,
            Self::Unavailable => 69,
            Self::Bug => 70,
            Self::OsError => 71,
            Self::CannotCreate => 73,
            Self::Io => 74,
            Self::TemporaryFailure => 75,
            Self::Protocol => 76,
            Self::Permission => 77,
            Self::Config => 78,
            Self::Certificate => 80,
            Self::Incomplete => 82,
            Self::OutcomeUnknown => 83,
            Self::CommandNotExecutable => 126,
            Self::CommandNotFound => 127,
            Self::Interrupted => 130,
            Self::Terminated => 143,
            Self::ChildExit(code) => code,
        }
    }

    /// One-line description, the same in `--help`, README and man page.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Negative => "negative result: HTTP status 400 or above, no reply in time, assertion failed",
            Self::Usage => "invalid command line",
            Self::InvalidInput => "input rejected locally; nothing was sent",
            Self::InputMissing => "input file missing or unreadable",
            Self::RecipientsRejected => "some recipients permanently rejected",
            Self::UnknownHost => "unknown host name",
            Self::Unavailable => "connection refused, unreachable, or permanently rejected",
            Self::Bug => "bug in netlab",
            Self::OsError => "operating system error: port in use, too many open files",
            Self::CannotCreate => "output cannot be created",
            Self::Io => "read or write error",
            Self::TemporaryFailure => "try again later: timeout, connection lost, or temporary failure",
            Self::Protocol => "protocol violation by the peer, or a redirect loop or forbidden redirect",
            Self::Permission => "login or permission denied",
            Self::Config => "configuration or trust store unusable",
            Self::Certificate => "certificate not accepted",
            Self::Incomplete => "transfer incomplete",
            Self::OutcomeUnknown => "outcome unknown: the message may have been accepted",
            Self::CommandNotExecutable => "command to run is not executable",
            Self::CommandNotFound => "command to run not found",
            Self::Interrupted => "interrupted by SIGINT before any result",
            Self::Terminated => "terminated by SIGTERM before any result",
            Self::ChildExit(_) => "exit code of the command that was run",
        }
    }

    /// Table of all codes as `--help` prints it.
    pub fn table() -> String {
        Self::ALL.iter().fold(String::new(), |mut table, exit| {
            use std::fmt::Write as _;
            // Writing to a String cannot fail.
            let _ = writeln!(table, "  {:>3}  {}", exit.code(), exit.meaning());
            table
        })
    }

    /// Exit code of several transfers: success if all succeeded, the common code if all failures share
    /// one, else [`Exit::Negative`].
    pub fn combined(exits: impl IntoIterator<Item = Self>) -> Self {
        let mut verdict = Self::Success;
        for exit in exits {
            verdict = match (verdict, exit) {
                (same, Self::Success) => same,
                (Self::Success, failure) => failure,
                (same, failure) if same == failure => same,
                _ => return Self::Negative,
            };
        }
        verdict
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::Exit;

    #[test]
    fn the_table_is_ascending_and_never_holds_a_panics_code() {
        assert!(Exit::ALL.is_sorted_by(|a, b| a.code() < b.code()));
        assert!(Exit::ALL.iter().all(|exit| exit.code() != 101));
    }

    #[test]
    fn several_transfers_share_a_code_only_if_all_failures_do() {
        use Exit::{Negative, Success, TemporaryFailure, Unavailable};
        assert_eq!(Exit::combined([]), Success);
        assert_eq!(Exit::combined([Success, Success]), Success);
        assert_eq!(Exit::combined([Success, TemporaryFailure, Success, TemporaryFailure]), TemporaryFailure);
        assert_eq!(Exit::combined([Unavailable, TemporaryFailure]), Negative);
    }
}
