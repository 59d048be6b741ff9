//! The table that the datagram loop writes and others read.
//!
//! Owns the lock. Whoever reads many senders takes it for some of them at a time, so that a beat never
//! waits for a page.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::heartbeat::{Watcher, WatcherEvent};
use crate::protocol::{Datagram, DatagramActions, DatagramProtocol, TransmitError};
use crate::time::Moment;

/// How many senders are read under one hold of the lock.
const SLOTS_PER_LOCK: usize = 512;

/// A watcher that several threads know.
#[derive(Clone)]
pub(super) struct SharedWatcher(Arc<Mutex<Watcher>>);

impl SharedWatcher {
    /// Shares a watcher.
    pub(super) fn new(watcher: Watcher) -> Self {
        Self(Arc::new(Mutex::new(watcher)))
    }

    /// The watcher, for a moment.
    pub(super) fn lock(&self) -> MutexGuard<'_, Watcher> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everybody, read in portions; whoever comes or goes meanwhile is there or not.
    pub(super) fn for_each_slot_range(&self, mut read: impl FnMut(&Watcher, Range<usize>)) {
        let places = self.lock().sender_table().slot_bound();
        let mut start = 0;
        while start < places {
            let end = (start + SLOTS_PER_LOCK).min(places);
            read(&self.lock(), start..end);
            start = end;
        }
    }
}

impl DatagramProtocol for SharedWatcher {
    type Event = WatcherEvent;

    fn received(&mut self, datagram: &Datagram<'_>, now: Moment, actions: &mut DatagramActions<WatcherEvent>) {
        self.lock().received(datagram, now, actions);
    }

    fn transmitted(&mut self, ticket: u64, at: Moment) {
        self.lock().transmitted(ticket, at);
    }

    fn failed(&mut self, failure: &TransmitError<'_>, now: Moment, actions: &mut DatagramActions<WatcherEvent>) {
        self.lock().failed(failure, now, actions);
    }

    fn overflowed(&mut self, count: u64, now: Moment, actions: &mut DatagramActions<WatcherEvent>) {
        self.lock().overflowed(count, now, actions);
    }

    fn woken(&mut self, now: Moment, actions: &mut DatagramActions<WatcherEvent>) {
        self.lock().woken(now, actions);
    }

    fn wake_at(&self) -> Option<Moment> {
        self.lock().wake_at()
    }
}
