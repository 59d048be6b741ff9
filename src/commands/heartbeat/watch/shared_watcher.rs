//! Watcher shared between threads: the datagram loop writes it, the status page and the state file read it. Owns the
//! lock. A reader of many senders releases the lock every [`SLOTS_PER_LOCK`] slots, so that beats are not delayed by
//! a large page.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::heartbeat::{Watcher, WatcherEvent};
use crate::protocol::{Datagram, DatagramActions, DatagramProtocol, TransmitError};
use crate::time::Moment;

/// Number of slots read per lock.
const SLOTS_PER_LOCK: usize = 512;

/// Handle of a watcher that several threads use.
#[derive(Clone)]
pub(super) struct SharedWatcher(Arc<Mutex<Watcher>>);

impl SharedWatcher {
    pub(super) fn new(watcher: Watcher) -> Self {
        Self(Arc::new(Mutex::new(watcher)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Watcher> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `read` for each range of slots, locking once per range; senders added or removed meanwhile may be
    /// missed.
    pub(super) fn for_each_slot_range(&self, mut read: impl FnMut(&Watcher, Range<usize>)) {
        let slots = self.lock().sender_table().slot_bound();
        let mut start = 0;
        while start < slots {
            let end = (start + SLOTS_PER_LOCK).min(slots);
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

    fn failed(&mut self, error: &TransmitError<'_>, now: Moment, actions: &mut DatagramActions<WatcherEvent>) {
        self.lock().failed(error, now, actions);
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
