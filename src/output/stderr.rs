//! Writer to stderr. Owns the wait for a reader that stalls: it ends when the run must stop.

use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use super::PIPE_BUF;
use crate::stop::StopConditions;

/// Writer to stderr; clones share its state. A failure is ignored, because there is no other place to report it.
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

    pub(super) fn write_bytes(&self, mut bytes: &[u8]) {
        let mut stderr = io::stderr().lock();
        let Some(stop) = self.0.stop.get() else {
            let _ = stderr.write_all(bytes);
            return;
        };
        while !bytes.is_empty() && !self.0.has_stalled.load(Ordering::Relaxed) {
            if !stop.wait_writable(stderr.as_fd()) {
                self.0.has_stalled.store(true, Ordering::Relaxed);
                return;
            }
            // A writable pipe takes this much without blocking.
            match stderr.write(bytes.get(..PIPE_BUF).unwrap_or(bytes)) {
                Ok(0) => return,
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(_) => return,
            }
        }
    }
}
