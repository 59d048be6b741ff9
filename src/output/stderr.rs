//! Writer to stderr. Owns the wait for a reader that stalls: it ends when the run must stop.

use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use crate::stop::{PIPE_BUF, StopConditions};

/// Writer to stderr; clones share its state. Errors are ignored, because stderr is where they would be reported.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stderr(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// Set once the run has signals or a deadline.
    stop: OnceLock<StopConditions>,
    /// The reader had stalled when the run had to stop; further output is discarded.
    has_stalled: AtomicBool,
}

impl Stderr {
    /// Makes writes give up on a reader that stalls once the run must stop. Later calls have no effect.
    pub(super) fn stop_on(&self, stop: StopConditions) {
        let _ = self.0.stop.set(stop);
    }

    pub(crate) fn write(&self, text: &str) {
        self.write_bytes(text.as_bytes());
    }

    pub(super) fn write_bytes(&self, bytes: &[u8]) {
        let mut stderr = io::stderr().lock();
        let Some(stop) = self.0.stop.get() else {
            let _ = stderr.write_all(bytes);
            return;
        };
        let has_stalled = &self.0.has_stalled;
        if !has_stalled.load(Ordering::Relaxed) && matches!(stop.write_all(stderr.as_fd(), bytes, PIPE_BUF), Ok(false))
        {
            has_stalled.store(true, Ordering::Relaxed);
        }
    }
}
