//! The one table of exit codes.
//!
//! Owns the numbers a script may act on and the words that explain them. `--help`, the README and
//! `man/netlab-exit-codes.7` are all made from [`Exit::ALL`], so they cannot disagree. 64–78 are
//! the sysexits, which mail tooling already reads.

use std::process::ExitCode;

/// How a run ended, as one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Exit {
    /// Everything asked for was done, and the answer is yes.
    Success,
    /// The run went through and the answer is no.
    Negative,
    /// The command line cannot be understood.
    Usage,
    /// The input was refused on this side, nothing was sent.
    InvalidInput,
    /// A file that was to be read is not there.
    InputMissing,
    /// Some recipients were refused for good.
    RecipientsRefused,
    /// The host name is unknown.
    UnknownHost,
    /// Nobody there, or the peer said no for good.
    Unavailable,
    /// A bug in netlab.
    Bug,
    /// The operating system would not.
    OsError,
    /// The output cannot be created.
    CannotCreate,
    /// Reading or writing failed on the way.
    Io,
    /// It may work later.
    TemporaryFailure,
    /// The peer broke the protocol.
    Protocol,
    /// Login or permission refused.
    Permission,
    /// The configuration or the trust store is unusable.
    Config,
    /// The peer's certificate was not accepted.
    Certificate,
    /// A transfer ended early and can be taken up again.
    Incomplete,
    /// Nobody can know whether it happened.
    OutcomeUnknown,
    /// Stopped by SIGINT before there was an answer.
    Interrupted,
    /// Stopped by SIGTERM before there was an answer.
    Terminated,
    /// What a command that was run for somebody has ended with.
    ChildExit(u8),
}

impl Exit {
    /// Every code of our own, in ascending order.
    pub const ALL: [Self; 21] = [
        Self::Success,
        Self::Negative,
        Self::Usage,
        Self::InvalidInput,
        Self::InputMissing,
        Self::RecipientsRefused,
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
        Self::Interrupted,
        Self::Terminated,
    ];

    /// The number the shell sees in `$?`.
    pub fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Negative => 1,
            Self::Usage => 2,
            Self::InvalidInput => 65,
            Self::InputMissing => 66,
            Self::RecipientsRefused => 67,
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
            Self::Interrupted => 130,
            Self::Terminated => 143,
            Self::ChildExit(code) => code,
        }
    }

    /// One line for a person, the same in `--help`, README and man page.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Success => "done, the answer is yes",
            Self::Negative => {
                "ran fully, the answer is no: HTTP status 400 or above, no reply in time, an assertion broke"
            }
            Self::Usage => "the command line is wrong",
            Self::InvalidInput => "input refused here, nothing was sent",
            Self::InputMissing => "an input file is missing",
            Self::RecipientsRefused => "some recipients refused for good",
            Self::UnknownHost => "host name unknown",
            Self::Unavailable => "refused or unreachable, or the peer said no for good",
            Self::Bug => "a bug in netlab",
            Self::OsError => "the system would not: port taken, no descriptors left",
            Self::CannotCreate => "output cannot be created",
            Self::Io => "reading or writing failed",
            Self::TemporaryFailure => "try again later: time-out, or a temporary refusal",
            Self::Protocol => "the peer broke the protocol, or redirected in a loop or to somewhere forbidden",
            Self::Permission => "login or permission refused",
            Self::Config => "configuration or trust store unusable",
            Self::Certificate => "certificate not accepted",
            Self::Incomplete => "transfer incomplete",
            Self::OutcomeUnknown => "outcome unknown: the mail may have been accepted",
            Self::Interrupted => "SIGINT before there was an answer",
            Self::Terminated => "SIGTERM before there was an answer",
            Self::ChildExit(_) => "the exit code of a command that was run",
        }
    }

    /// The table as `--help` prints it.
    pub fn table() -> String {
        Self::ALL.iter().fold(String::new(), |mut table, exit| {
            use std::fmt::Write as _;
            // Writing to a String cannot fail.
            let _ = writeln!(table, "  {:>3}  {}", exit.code(), exit.meaning());
            table
        })
    }

    /// The verdict on several transfers: done if all are, the common code if all failures share
    /// one, else [`Exit::No`].
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
