//! Notice of what a client waits for, on stderr: after two seconds of silence, then every ten.
//!
//! Owns a thread, so that a notice appears whatever call blocks the run. Without a terminal and without `-v` there is no
//! thread, but the text is known for the message of an interruption.

use std::io::{self, IsTerminal as _};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Output, Stderr, escaped};
use crate::protocol::{FIRST_REPORT, NEXT_REPORT};
use crate::time::Moment;

/// Description of what a run waits for. Clones describe the same run.
#[derive(Clone, Debug)]
pub(crate) struct WaitNotice {
    shared: Arc<Shared>,
    /// Ends the thread when the last clone is dropped.
    _thread: Option<Arc<NoticeThread>>,
}

#[derive(Debug)]
struct Shared {
    wait: Mutex<Wait>,
    changed: Condvar,
    clock: fn() -> Moment,
    stderr: Stderr,
}

#[derive(Debug)]
struct Wait {
    /// Description, such as "request sent, waiting for the response"; empty between two waits.
    text: String,
    since: Moment,
    /// Silence after which the next notice is due.
    next_notice: Duration,
    is_over: bool,
}

#[derive(Debug)]
struct NoticeThread {
    shared: Arc<Shared>,
}

impl WaitNotice {
    pub(crate) fn new(output: &Output) -> Self {
        let clock = output.clock;
        let wait = Wait { text: String::new(), since: clock(), next_notice: FIRST_REPORT, is_over: false };
        let shared = Arc::new(Shared {
            wait: Mutex::new(wait),
            changed: Condvar::new(),
            clock,
            stderr: output.stderr().clone(),
        });
        let thread = output.reports_waiting().then(|| Arc::new(NoticeThread::start(Arc::clone(&shared))));
        Self { shared, _thread: thread }
    }

    /// Replaces the description; the silence begins anew.
    pub(crate) fn waiting_for(&self, text: impl Into<String>) {
        let mut wait = self.shared.lock();
        (wait.text, wait.since, wait.next_notice) = (text.into(), (self.shared.clock)(), FIRST_REPORT);
        self.shared.changed.notify_all();
    }

    /// Ends the wait.
    pub(crate) fn done(&self) {
        self.shared.lock().text.clear();
    }

    /// Records that something was received.
    pub(crate) fn progress(&self) {
        let mut wait = self.shared.lock();
        (wait.since, wait.next_notice) = ((self.shared.clock)(), FIRST_REPORT);
        self.shared.changed.notify_all();
    }

    /// Runs `work`, which waits for something else, without notices.
    pub(crate) fn suspend<T>(&self, work: impl FnOnce() -> T) -> T {
        let text = std::mem::take(&mut self.shared.lock().text);
        let result = work();
        self.waiting_for(text);
        result
    }

    /// Adds what was waited for to the message of an interruption.
    pub(crate) fn describe_interruption(&self, message: &str) -> String {
        let wait = self.shared.lock();
        // "connected, waiting for X" ends in what is waited for.
        match wait.text.find("waiting for").and_then(|at| wait.text.get(at..)).unwrap_or(&wait.text) {
            "" => message.to_owned(),
            text => format!("{message} while {text}"),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Wait> {
        self.wait.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Prints the notices until the run is over.
    fn run(&self) {
        let mut wait = self.lock();
        while !wait.is_over {
            let silence = (self.clock)() - wait.since;
            if wait.text.is_empty() {
                wait = self.changed.wait(wait).unwrap_or_else(PoisonError::into_inner);
            } else if silence < wait.next_notice {
                let due = wait.next_notice.saturating_sub(silence);
                wait = self.changed.wait_timeout(wait, due).unwrap_or_else(PoisonError::into_inner).0;
            } else {
                wait.next_notice = silence + NEXT_REPORT;
                let text = format!("{}: {} s\n", escaped(&wait.text), silence.as_secs());
                // A terminal that accepts nothing must not stop the run.
                drop(wait);
                // On a terminal a status line may stand here; its next update draws it again.
                let clear = if io::stderr().is_terminal() { "\r\x1b[K" } else { "" };
                self.stderr.write(&format!("{clear}{text}"));
                wait = self.lock();
            }
        }
    }
}

impl NoticeThread {
    fn start(shared: Arc<Shared>) -> Self {
        let runner = Arc::clone(&shared);
        // Without a thread the run only lacks its notices.
        let _ = std::thread::Builder::new().name("notices".into()).spawn(move || runner.run());
        Self { shared }
    }
}

impl Drop for NoticeThread {
    fn drop(&mut self) {
        self.shared.lock().is_over = true;
        self.shared.changed.notify_all();
    }
}
