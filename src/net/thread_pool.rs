//! Work that may block, done by threads that serve nobody meanwhile.
//!
//! Owns the helper threads of a server, the queue to them and the way back: whose job is done is told
//! to the thread that asked, and its poll is woken. A connection has one job at a time, so the queue
//! is never longer than there are connections.
//!
//! ```text
//!   worker ── Job, ticket ──▶ queue ──▶ helper │ helper │ …
//!      ▲──────── ticket, wake ─────────────────┴────────┘
//! ```

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, Scope, ScopedJoinHandle};

use mio::Waker;

use crate::error::catch_panic;
use crate::protocol::Job;

/// Which connection asked: its slot, and its number, since slots are used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ConnectionId {
    /// Its slot.
    pub slot: usize,
    /// Its number.
    pub ordinal: u64,
}

struct QueuedJob {
    job: Job,
    connection: ConnectionId,
    completed: Sender<ConnectionId>,
    waker: Arc<Waker>,
}

/// The helpers of a server.
pub(super) struct ThreadPool<'s> {
    queue: Option<Sender<QueuedJob>>,
    threads: Vec<ScopedJoinHandle<'s, ()>>,
}

impl<'s> ThreadPool<'s> {
    /// Starts so many; none is for a server without jobs.
    pub(super) fn start(scope: &'s Scope<'s, '_>, count: usize) -> io::Result<Self> {
        let (queue, work) = channel::<QueuedJob>();
        let work = Arc::new(Mutex::new(work));
        let start = |number| {
            let work = Arc::clone(&work);
            Builder::new().name(format!("helper-{number}")).spawn_scoped(scope, move || run_jobs(&work))
        };
        let threads = (0..count).map(start).collect::<io::Result<Vec<_>>>()?;
        Ok(Self { queue: (count > 0).then_some(queue), threads })
    }

    /// The counter of one worker, whose poll `waker` wakes.
    pub(super) fn handle(&self, waker: &Arc<Waker>) -> PoolHandle {
        let (back, done) = channel();
        PoolHandle {
            queue: self.queue.clone(),
            completed_sender: back,
            completed_receiver: done,
            waker: Arc::clone(waker),
        }
    }

    /// Lets them go, once no worker has anything left to ask.
    pub(super) fn join(self) {
        drop(self.queue);
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

fn run_jobs(queue: &Mutex<Receiver<QueuedJob>>) {
    loop {
        // The lock is held while waiting: whoever has it is the next to work.
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(QueuedJob { job, connection: ticket, completed: back, waker }) = next else { return };
        // A bug in one job is told by the panic hook; its connection hears that it is over, and
        // finds that nothing came of it.
        let _ = catch_panic(job);
        let _ = back.send(ticket);
        let _ = waker.wake();
    }
}

/// Where one worker hands in its jobs and hears that they are done.
pub(super) struct PoolHandle {
    queue: Option<Sender<QueuedJob>>,
    completed_sender: Sender<ConnectionId>,
    completed_receiver: Receiver<ConnectionId>,
    waker: Arc<Waker>,
}

impl PoolHandle {
    /// Hands in a job. Without helpers it is done on the spot.
    pub(super) fn submit(&self, job: Job, connection: ConnectionId) {
        let work =
            QueuedJob { job, connection, completed: self.completed_sender.clone(), waker: Arc::clone(&self.waker) };
        let undone = match &self.queue {
            Some(queue) => queue.send(work).err().map(|refused| refused.0),
            None => Some(work),
        };
        if let Some(QueuedJob { job, .. }) = undone {
            let _ = catch_panic(job);
            let _ = self.completed_sender.send(connection);
            let _ = self.waker.wake();
        }
    }

    /// Whose job is done.
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
    fn every_job_comes_back_also_one_that_fails_and_also_without_helpers() {
        for helpers in [0, 1, 3] {
            let mut poll = Poll::new().expect("a poll");
            let waker = Arc::new(Waker::new(poll.registry(), Token(0)).expect("a waker"));
            let count = Arc::new(AtomicUsize::new(0));
            std::thread::scope(|scope| {
                let helpers = ThreadPool::start(scope, helpers).expect("started");
                let counter = helpers.handle(&waker);
                for slot in 0..20 {
                    let count = Arc::clone(&count);
                    let work = move || {
                        count.fetch_add(1, Ordering::Relaxed);
                        if slot % 2 == 1 {
                            // A panic that no hook tells of.
                            std::panic::resume_unwind(Box::new(slot));
                        }
                    };
                    counter.submit(Box::new(work), ConnectionId { slot, ordinal: 7 });
                }
                let mut slots = Vec::new();
                let mut events = Events::with_capacity(4);
                while slots.len() < 20 {
                    slots.extend(std::iter::from_fn(|| counter.next_completed()).map(|ticket| ticket.slot));
                    if slots.len() < 20 {
                        poll.poll(&mut events, Some(Duration::from_secs(10))).expect("woken");
                    }
                }
                slots.sort_unstable();
                assert_eq!(slots, (0..20).collect::<Vec<_>>());
                drop(counter);
                helpers.join();
            });
            assert_eq!(count.load(Ordering::Relaxed), 20);
        }
    }
}
