//! Thread pool of a server for jobs that may block.
//!
//! Owns the helper threads, their queue and the notification of completed jobs, which wakes the poll of the worker
//! that submitted them. A connection has one job at a time, so the queue is bounded by the number of connections.
//!
//! ```text
//!   worker ── Job, ConnectionId ──▶ queue ──▶ helper │ helper │ …
//!      ▲──────── ConnectionId, wake ─────────────────┴────────┘
//! ```

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, Scope, ScopedJoinHandle};

use mio::Waker;

use crate::error::catch_panic;
use crate::protocol::Job;

/// Connection that submitted a job. Slots are reused, so its ordinal is needed too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ConnectionId {
    pub slot: usize,
    pub ordinal: u64,
}

struct QueuedJob {
    job: Job,
    connection: ConnectionId,
    completed: Sender<ConnectionId>,
    waker: Arc<Waker>,
}

/// Helper threads of a server, with their queue.
pub(super) struct ThreadPool<'s> {
    queue: Option<Sender<QueuedJob>>,
    threads: Vec<ScopedJoinHandle<'s, ()>>,
}

impl<'s> ThreadPool<'s> {
    /// Starts `count` threads; with 0, jobs run on the thread that submits them.
    pub(super) fn start(scope: &'s Scope<'s, '_>, count: usize) -> io::Result<Self> {
        let (queue, jobs) = channel::<QueuedJob>();
        let jobs = Arc::new(Mutex::new(jobs));
        let start = |index| {
            let jobs = Arc::clone(&jobs);
            Builder::new().name(format!("helper-{index}")).spawn_scoped(scope, move || run_jobs(&jobs))
        };
        let threads = (0..count).map(start).collect::<io::Result<Vec<_>>>()?;
        Ok(Self { queue: (count > 0).then_some(queue), threads })
    }

    /// Creates the handle of one worker, whose poll `waker` wakes.
    pub(super) fn handle(&self, waker: &Arc<Waker>) -> PoolHandle {
        let (completed_sender, completed_receiver) = channel();
        PoolHandle { queue: self.queue.clone(), completed_sender, completed_receiver, waker: Arc::clone(waker) }
    }

    /// Waits for the threads to end; every [`PoolHandle`] must have been dropped.
    pub(super) fn join(self) {
        drop(self.queue);
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

fn run_jobs(queue: &Mutex<Receiver<QueuedJob>>) {
    loop {
        // The lock is held while waiting: its holder takes the next job.
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(QueuedJob { job, connection, completed, waker }) = next else { return };
        // A panic is reported by the panic hook; the connection is notified and finds no result.
        let _ = catch_panic(job);
        let _ = completed.send(connection);
        let _ = waker.wake();
    }
}

/// Handle of one worker: submits its jobs and receives their completion.
pub(super) struct PoolHandle {
    queue: Option<Sender<QueuedJob>>,
    completed_sender: Sender<ConnectionId>,
    completed_receiver: Receiver<ConnectionId>,
    waker: Arc<Waker>,
}

impl PoolHandle {
    /// Submits a job. Without helper threads it runs at once.
    pub(super) fn submit(&self, job: Job, connection: ConnectionId) {
        let queued =
            QueuedJob { job, connection, completed: self.completed_sender.clone(), waker: Arc::clone(&self.waker) };
        let unsent = match &self.queue {
            Some(queue) => queue.send(queued).err().map(|error| error.0),
            None => Some(queued),
        };
        if let Some(QueuedJob { job, .. }) = unsent {
            let _ = catch_panic(job);
            let _ = self.completed_sender.send(connection);
            let _ = self.waker.wake();
        }
    }

    /// Returns the next connection whose job is done.
    pub(super) fn next_completed(&self) -> Option<ConnectionId> {
        self.completed_receiver.try_recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::{ConnectionId, ThreadPool};
    use mio::{Events, Poll, Token, Waker};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    #[test]
    fn every_job_completes_even_if_it_panics_and_even_without_helpers() {
        for helpers in [0, 1, 3] {
            let mut poll = Poll::new().expect("a poll");
            let waker = Arc::new(Waker::new(poll.registry(), Token(0)).expect("a waker"));
            let count = Arc::new(AtomicUsize::new(0));
            std::thread::scope(|scope| {
                let helpers = ThreadPool::start(scope, helpers).expect("started");
                let handle = helpers.handle(&waker);
                for slot in 0..20 {
                    let count = Arc::clone(&count);
                    let job = move || {
                        count.fetch_add(1, Ordering::Relaxed);
                        if slot % 2 == 1 {
                            // A panic that no hook reports.
                            std::panic::resume_unwind(Box::new(slot));
                        }
                    };
                    handle.submit(Box::new(job), ConnectionId { slot, ordinal: 7 });
                }
                let mut slots = Vec::new();
                let mut events = Events::with_capacity(4);
                while slots.len() < 20 {
                    slots.extend(std::iter::from_fn(|| handle.next_completed()).map(|connection| connection.slot));
                    if slots.len() < 20 {
                        poll.poll(&mut events, Some(Duration::from_secs(10))).expect("woken");
                    }
                }
                slots.sort_unstable();
                assert_eq!(slots, (0..20).collect::<Vec<_>>());
                drop(handle);
                helpers.join();
            });
            assert_eq!(count.load(Ordering::Relaxed), 20);
        }
    }
}
