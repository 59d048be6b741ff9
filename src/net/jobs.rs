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

use crate::conversation::Job;
use crate::error::catch_panic;

/// Which connection asked: its slot, and its number, since slots are used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Its slot.
    pub slot: usize,
    /// Its number.
    pub number: u64,
}

struct Work {
    job: Job,
    ticket: Ticket,
    back: Sender<Ticket>,
    waker: Arc<Waker>,
}

/// The helpers of a server.
pub struct Helpers<'s> {
    queue: Option<Sender<Work>>,
    threads: Vec<ScopedJoinHandle<'s, ()>>,
}

impl<'s> Helpers<'s> {
    /// Starts so many; none is for a server without jobs.
    pub fn start(scope: &'s Scope<'s, '_>, count: usize) -> io::Result<Self> {
        let (queue, work) = channel::<Work>();
        let work = Arc::new(Mutex::new(work));
        let start = |number| {
            let work = Arc::clone(&work);
            Builder::new().name(format!("helper-{number}")).spawn_scoped(scope, move || help(&work))
        };
        let threads = (0..count).map(start).collect::<io::Result<Vec<_>>>()?;
        Ok(Self { queue: (count > 0).then_some(queue), threads })
    }

    /// The counter of one worker, whose poll `waker` wakes.
    pub fn counter(&self, waker: &Arc<Waker>) -> Counter {
        let (back, done) = channel();
        Counter { queue: self.queue.clone(), back, done, waker: Arc::clone(waker) }
    }

    /// Lets them go, once no worker has anything left to ask.
    pub fn finish(self) {
        drop(self.queue);
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

fn help(work: &Mutex<Receiver<Work>>) {
    loop {
        // The lock is held while waiting: whoever has it is the next to work.
        let next = work.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Work { job, ticket, back, waker }) = next else { return };
        // A bug in one job is told by the panic hook; its connection hears that it is over, and
        // finds that nothing came of it.
        let _ = catch_panic(job);
        let _ = back.send(ticket);
        let _ = waker.wake();
    }
}

/// Where one worker hands in its jobs and hears that they are done.
pub struct Counter {
    queue: Option<Sender<Work>>,
    back: Sender<Ticket>,
    done: Receiver<Ticket>,
    waker: Arc<Waker>,
}

impl Counter {
    /// Hands in a job. Without helpers it is done on the spot.
    pub fn hand_in(&self, job: Job, ticket: Ticket) {
        let work = Work { job, ticket, back: self.back.clone(), waker: Arc::clone(&self.waker) };
        let undone = match &self.queue {
            Some(queue) => queue.send(work).err().map(|refused| refused.0),
            None => Some(work),
        };
        if let Some(Work { job, .. }) = undone {
            let _ = catch_panic(job);
            let _ = self.back.send(ticket);
            let _ = self.waker.wake();
        }
    }

    /// Whose job is done.
    pub fn done(&self) -> Option<Ticket> {
        self.done.try_recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::{Helpers, Ticket};
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
                let helpers = Helpers::start(scope, helpers).expect("started");
                let counter = helpers.counter(&waker);
                for slot in 0..20 {
                    let count = Arc::clone(&count);
                    let work = move || {
                        count.fetch_add(1, Ordering::Relaxed);
                        if slot % 2 == 1 {
                            // A panic that no hook tells of.
                            std::panic::resume_unwind(Box::new(slot));
                        }
                    };
                    counter.hand_in(Box::new(work), Ticket { slot, number: 7 });
                }
                let mut slots = Vec::new();
                let mut events = Events::with_capacity(4);
                while slots.len() < 20 {
                    slots.extend(std::iter::from_fn(|| counter.done()).map(|ticket| ticket.slot));
                    if slots.len() < 20 {
                        poll.poll(&mut events, Some(Duration::from_secs(10))).expect("woken");
                    }
                }
                slots.sort_unstable();
                assert_eq!(slots, (0..20).collect::<Vec<_>>());
                drop(counter);
                helpers.finish();
            });
            assert_eq!(count.load(Ordering::Relaxed), 20);
        }
    }
}
