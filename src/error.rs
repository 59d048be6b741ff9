//! Report of a failure for the user: what happened, what was expected, what to do, and the exit code.
//!
//! Only `commands` and the command line create reports: they choose the exit code and the advice for a
//! [`Failure`]. Also owns [`catch_panic`]. Must not print: `output` does, and escapes text that a peer may have supplied.

use std::cell::Cell;
use std::error::Error as StdError;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::exit::Exit;
use crate::failure::{Failure, Origin, Source};

/// Report of a failure in up to three lines for the user: lower case, no full stop, no secrets.
#[derive(Debug)]
pub(crate) struct Error {
    exit: Exit,
    message: String,
    expected: Option<String>,
    origin: Option<Box<Origin>>,
    remedy: Option<String>,
    source: Option<Source>,
}

/// Result of every fallible function in the crate.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Creates a failure that ends the run with `exit`; `message` says what happened.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), expected: None, origin: None, remedy: None, source: None }
    }

    /// Creates the report of a value that its parser rejects; `reason` may be "expected ..." or "why; expected ...".
    pub(crate) fn invalid_value(subject: &str, reason: &str) -> Self {
        let (why, expected) = match reason.strip_prefix("expected ") {
            Some(expected) => ("", Some(expected)),
            None => reason.split_once("; expected ").map_or((reason, None), |(why, expected)| (why, Some(expected))),
        };
        let separator = if why.is_empty() { "" } else { ": " };
        let error = Self::new(Exit::Usage, format!("invalid {subject}{separator}{why}"));
        match expected {
            Some(expected) => error.expected(expected),
            None => error,
        }
    }

    /// Creates the report of a failure, with the exit code and the advice for its kind.
    pub(crate) fn from_failure(failure: Failure, exit: Exit, advice: Option<&str>) -> Self {
        let (message, expected, origin, source) = failure.into_parts();
        Self { exit, message, expected, origin, remedy: advice.map(str::to_owned), source }
    }

    /// Adds the second line: what was expected instead.
    #[must_use]
    pub(crate) fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    /// Adds the third line: what to do about it.
    #[must_use]
    pub(crate) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Attaches the cause, for the chain of causes that `-v` prints.
    #[must_use]
    pub(crate) fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// Prefixes the message with its subject, unless the message names it already.
    #[must_use]
    pub(crate) fn with_context(mut self, subject: &str) -> Self {
        if !self.message.contains(subject) {
            self.message = format!("{subject}: {}", self.message);
        }
        self
    }

    /// Copies the failure with another exit code and without its cause.
    #[must_use]
    pub(crate) fn with_exit(&self, exit: Exit) -> Self {
        Self {
            exit,
            message: self.message.clone(),
            expected: self.expected.clone(),
            origin: self.origin.clone(),
            remedy: self.remedy.clone(),
            source: None,
        }
    }

    /// Exit code of the run.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// First line: what happened.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Second line: what was expected.
    pub(crate) fn expectation(&self) -> Option<&str> {
        self.expected.as_deref()
    }

    /// Input of the peer that caused the failure.
    pub(crate) fn origin(&self) -> Option<&Origin> {
        self.origin.as_deref()
    }

    /// Third line: what to do.
    pub(crate) fn advice(&self) -> Option<&str> {
        self.remedy.as_deref()
    }
}

thread_local! {
    static CATCHING_PANICS: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` and turns a panic into `None`, so that a bug in it does not end the process. The panic hook
/// still reports the panic.
pub(crate) fn catch_panic<T>(work: impl FnOnce() -> T) -> Option<T> {
    let outer = CATCHING_PANICS.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    CATCHING_PANICS.set(outer);
    result.ok()
}

/// Returns true inside [`catch_panic`] on this thread.
pub(crate) fn is_catching_panics() -> bool {
    CATCHING_PANICS.get()
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::{catch_panic, is_catching_panics};

    #[test]
    fn a_caught_panic_returns_none_and_nesting_is_tracked() {
        assert!(catch_panic(is_catching_panics) == Some(true) && !is_catching_panics());
        let inner = catch_panic(|| (catch_panic(|| std::panic::resume_unwind(Box::new(()))), is_catching_panics()));
        assert_eq!(inner, Some((None::<()>, true)));
        assert!(!is_catching_panics());
    }
}
