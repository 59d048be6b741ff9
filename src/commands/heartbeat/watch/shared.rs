//! The table that the datagram loop writes and others read.
//!
//! Owns the lock. Whoever reads many senders takes it for some of them at a time, so that a beat never
//! waits for a page.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::conversation::{Datagram, DatagramActions, DatagramProtocol, TransmitError};
use crate::heartbeat::{Fact, Watcher};
use crate::time::Moment;

/// How many senders are read under one hold of the lock.
const PORTION: usize = 512;

/// A watcher that several threads know.
#[derive(Clone)]
pub struct Shared(Arc<Mutex<Watcher>>);

impl Shared {
    /// Shares a watcher.
    pub fn new(watcher: Watcher) -> Self {
        Self(Arc::new(Mutex::new(watcher)))
    }

    /// The watcher, for a moment.
    pub fn lock(&self) -> MutexGuard<'_, Watcher> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everybody, read in portions; whoever comes or goes meanwhile is there or not.
    pub fn portions(&self, mut read: impl FnMut(&Watcher, Range<usize>)) {
        let places = self.lock().crowd().places();
        let mut start = 0;
        while start < places {
            let end = (start + PORTION).min(places);
            read(&self.lock(), start..end);
            start = end;
        }
    }
}

impl DatagramProtocol for Shared {
    type Event = Fact;

    fn received(&mut self, datagram: &Datagram<'_>, now: Moment, post: &mut DatagramActions<Fact>) {
        self.lock().received(datagram, now, post);
    }

    fn transmitted(&mut self, ticket: u64, at: Moment) {
        self.lock().transmitted(ticket, at);
    }

    fn failed(&mut self, failure: &TransmitError<'_>, now: Moment, post: &mut DatagramActions<Fact>) {
        self.lock().failed(failure, now, post);
    }

    fn overflowed(&mut self, count: u64, now: Moment, post: &mut DatagramActions<Fact>) {
        self.lock().overflowed(count, now, post);
    }

    fn woken(&mut self, now: Moment, post: &mut DatagramActions<Fact>) {
        self.lock().woken(now, post);
    }

    fn wake_at(&self) -> Option<Moment> {
        self.lock().wake_at()
    }
}
