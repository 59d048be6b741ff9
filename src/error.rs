//! What happened, what was expected, what to do.
//!
//! Owns the one error type that travels inside netlab. It names its own exit code, so that no code
//! is picked by looking into foreign types later; and the guard around what may panic without ending
//! everything. It must not print: `output` does, and escapes
//! what a peer may have put into the text.

use std::cell::Cell;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::exit::Exit;

/// A failure, in up to three lines for the person who has to deal with it.
///
/// Lines are lower case, without a full stop and without secrets.
#[derive(Debug)]
pub struct Error {
    exit: Exit,
    message: String,
    expected: Option<String>,
    remedy: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The result of everything that can fail inside netlab.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A failure that ends the run with `exit`; `what` says what happened.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), expected: None, remedy: None, source: None }
    }

    /// Adds the second line: what was expected instead.
    #[must_use]
    pub fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    /// Adds the third line: what to do about it.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Keeps the cause for the chain that `-v` prints.
    #[must_use]
    pub fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// Says in front of what happened whom or what it concerns.
    #[must_use]
    pub fn with_context(mut self, subject: &str) -> Self {
        if !self.message.contains(subject) {
            self.message = format!("{subject}: {}", self.message);
        }
        self
    }

    /// What `self` tells, as a new failure where it means another code; the chain of causes stays
    /// behind.
    #[must_use]
    pub fn with_exit(&self, exit: Exit) -> Self {
        Self {
            exit,
            message: self.message.clone(),
            expected: self.expected.clone(),
            remedy: self.remedy.clone(),
            source: None,
        }
    }

    /// The code this failure ends the run with.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// What happened.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What was expected, if there is something to say.
    pub fn expectation(&self) -> Option<&str> {
        self.expected.as_deref()
    }

    /// What to do, if there is something to say.
    pub fn advice(&self) -> Option<&str> {
        self.remedy.as_deref()
    }
}

/// The system's word for an error, as a line of ours has it: lower case, without the number that
/// Rust adds.
pub fn io_error_text(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

thread_local! {
    static CATCHING_PANICS: Cell<bool> = const { Cell::new(false) };
}

/// Does what may have a bug that must not end everything: a panic in it is reported, and `None` comes of it.
pub fn catch_panic<T>(work: impl FnOnce() -> T) -> Option<T> {
    let outer = CATCHING_PANICS.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    CATCHING_PANICS.set(outer);
    result.ok()
}

/// Whether a panic on this thread would be caught by [`guarded`].
pub fn is_catching_panics() -> bool {
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
