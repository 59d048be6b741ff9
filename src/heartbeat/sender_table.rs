//! Table of all known senders, and their timers.
//!
//! The table is bounded, and so is the share of each source prefix beyond loopback. Senders with a single beat
//! are evicted first: a flood of forged names evicts other forged names. Each sender has one timer in the heap.
//! A beat does not touch it; a timer that fires too early is set again, so the cost of a beat does not depend
//! on the number of senders.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use slab::Slab;

use super::event::{RejectReason, SenderStatus};
use super::sender_state::SenderState;
use crate::rate_limit::SourcePrefix;
use crate::time::Moment;

/// Maximum number of senders per source prefix beyond loopback.
pub(super) const MAX_SENDERS_PER_PREFIX: u32 = 256;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum SenderKey {
    Named(Arc<str>),
    /// Source address of a sender of textbook beats.
    Address(SocketAddr),
}

impl SenderKey {
    pub(crate) fn of(sender: &SenderState) -> Self {
        match sender.incarnation {
            Some(run) if sender.is_textbook => Self::Address(run.peer),
            _ => Self::Named(Arc::clone(&sender.name)),
        }
    }
}

/// Bounded table of senders, with a timer for each.
#[derive(Debug)]
pub(crate) struct SenderTable {
    max_senders: usize,
    index: HashMap<SenderKey, usize>,
    senders: Slab<SenderState>,
    timers: BinaryHeap<Reverse<Timer>>,
    prefix_counts: HashMap<SourcePrefix, u32>,
    /// Eviction candidates (slot, generation) in order of insertion; entries of senders that have sent more beats or
    /// were removed are skipped.
    eviction_queue: VecDeque<(usize, u32)>,
    generation: u32,
    state_counts: [usize; SenderStatus::ALL.len()],
    slot_bound: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Timer {
    deadline: Moment,
    slot: usize,
    generation: u32,
}

impl SenderTable {
    pub(crate) fn new(max_senders: usize) -> Self {
        Self {
            max_senders,
            index: HashMap::new(),
            senders: Slab::new(),
            timers: BinaryHeap::new(),
            prefix_counts: HashMap::new(),
            eviction_queue: VecDeque::new(),
            generation: 0,
            state_counts: [0; SenderStatus::ALL.len()],
            slot_bound: 0,
        }
    }

    /// Returns the slot of a known sender.
    pub(crate) fn find(&self, key: &SenderKey) -> Option<usize> {
        self.index.get(key).copied()
    }

    /// Inserts a new sender and returns its slot; `peer` is the source of its first beat, if there was one.
    pub(crate) fn insert(
        &mut self,
        key: SenderKey,
        mut sender: SenderState,
        peer: Option<SocketAddr>,
    ) -> Result<usize, RejectReason> {
        let prefix = peer.and_then(SourcePrefix::of);
        let senders = prefix.and_then(|prefix| self.prefix_counts.get(&prefix));
        if senders.is_some_and(|count| *count >= MAX_SENDERS_PER_PREFIX) {
            return Err(RejectReason::Full);
        }
        if self.senders.len() >= self.max_senders && !self.evict_one() {
            return Err(RejectReason::Full);
        }
        // A sender without a beat counts towards its source prefix once its first beat arrives.
        if let Some(prefix) = prefix.filter(|_| sender.incarnation.is_some()) {
            *self.prefix_counts.entry(prefix).or_default() += 1;
        }
        self.generation = self.generation.wrapping_add(1);
        sender.timer.generation = self.generation;
        *self.state_count_mut(sender.liveness) += 1;
        let slot = self.senders.insert(sender);
        self.index.insert(key, slot);
        self.slot_bound = self.slot_bound.max(slot + 1);
        if self.eviction_queue.len() > 2 * self.max_senders {
            let records = &self.senders;
            self.eviction_queue.retain(|(slot, generation)| {
                records.get(*slot).is_some_and(|record| record.timer.generation == *generation)
            });
        }
        self.eviction_queue.push_back((slot, self.generation));
        Ok(slot)
    }

    /// Evicts the oldest sender with a single beat and returns whether there was one.
    fn evict_one(&mut self) -> bool {
        while let Some((slot, generation)) = self.eviction_queue.pop_front() {
            let is_evictable = |record: &SenderState| {
                record.timer.generation == generation && record.loss.counts().beats <= 1 && !record.is_expected
            };
            if self.senders.get(slot).is_some_and(is_evictable) {
                self.remove(slot);
                return true;
            }
        }
        false
    }

    pub(crate) fn remove(&mut self, slot: usize) {
        let Some(record) = self.senders.try_remove(slot) else { return };
        *self.state_count_mut(record.liveness) -= 1;
        self.index.remove(&SenderKey::of(&record));
        let prefix = record.incarnation.and_then(|run| SourcePrefix::of(run.peer));
        if let Some((prefix, count)) = prefix.and_then(|prefix| Some((prefix, self.prefix_counts.get_mut(&prefix)?))) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.prefix_counts.remove(&prefix);
            }
        }
    }

    /// Applies `act` to a sender and sets its timer to the next deadline.
    pub(crate) fn update<T>(
        &mut self,
        slot: usize,
        act: impl FnOnce(&mut SenderState) -> T,
        next_deadline: impl FnOnce(&SenderState) -> Option<Moment>,
    ) -> Option<T> {
        let record = self.senders.get_mut(slot)?;
        let (state, prefix) = (record.liveness, record.incarnation.and_then(|run| SourcePrefix::of(run.peer)));
        let result = act(record);
        let deadline = next_deadline(record);
        // A later deadline keeps the timer, which is set again when it fires.
        let is_earlier = deadline.is_some_and(|new| record.timer.deadline.is_none_or(|armed| new < armed));
        if let Some(deadline) = deadline.filter(|_| is_earlier) {
            record.timer.deadline = Some(deadline);
            self.timers.push(Reverse(Timer { deadline, slot, generation: record.timer.generation }));
        }
        let (new_state, new_prefix) = (record.liveness, record.incarnation.and_then(|run| SourcePrefix::of(run.peer)));
        if state != new_state {
            *self.state_count_mut(state) -= 1;
            *self.state_count_mut(new_state) += 1;
        }
        if prefix != new_prefix {
            self.change_prefix(prefix, new_prefix);
        }
        Some(result)
    }

    /// Moves the count of a sender from its old source prefix to the new one.
    fn change_prefix(&mut self, from: Option<SourcePrefix>, to: Option<SourcePrefix>) {
        if let Some(count) = from.and_then(|prefix| self.prefix_counts.get_mut(&prefix)) {
            *count = count.saturating_sub(1);
        }
        if let Some(prefix) = to {
            *self.prefix_counts.entry(prefix).or_default() += 1;
        }
    }

    /// Returns the time at which the next timer fires, possibly too early.
    pub(crate) fn next_deadline(&self) -> Option<Moment> {
        self.timers.peek().map(|timer| timer.0.deadline)
    }

    /// Removes the next timer that is due and returns its slot.
    pub(crate) fn pop_due(&mut self, now: Moment) -> Option<usize> {
        while let Some(Reverse(timer)) = self.timers.peek().copied().filter(|timer| timer.0.deadline <= now) {
            self.timers.pop();
            let Some(record) = self.senders.get_mut(timer.slot) else { continue };
            if record.timer.generation == timer.generation && record.timer.deadline == Some(timer.deadline) {
                record.timer.deadline = None;
                return Some(timer.slot);
            }
        }
        None
    }

    /// Applies `act` to every sender and sets all timers again.
    pub(crate) fn update_all(
        &mut self,
        mut act: impl FnMut(&mut SenderState),
        next_deadline: impl Fn(&SenderState) -> Option<Moment>,
    ) {
        self.timers.clear();
        let slots: Vec<usize> = self.senders.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            if let Some(record) = self.senders.get_mut(slot) {
                record.timer.deadline = None;
            }
            self.update(slot, &mut act, &next_deadline);
        }
    }

    pub(crate) fn get(&self, slot: usize) -> Option<&SenderState> {
        self.senders.get(slot)
    }

    /// Returns all senders with their slots.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &SenderState)> {
        self.senders.iter()
    }

    /// Returns a number greater than every slot in use.
    pub(crate) fn slot_bound(&self) -> usize {
        self.slot_bound
    }

    pub(crate) fn len(&self) -> usize {
        self.senders.len()
    }

    pub(crate) fn count_in_state(&self, state: SenderStatus) -> usize {
        self.state_counts.get(state as usize).copied().unwrap_or_default()
    }

    fn state_count_mut(&mut self, state: SenderStatus) -> &mut usize {
        self.state_counts.get_mut(state as usize).expect("a counter per state")
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_SENDERS_PER_PREFIX, SenderKey, SenderTable};
    use crate::heartbeat::event::{RejectReason, SenderStatus};
    use crate::heartbeat::loss::SequenceLoss;
    use crate::heartbeat::sender_state::{Incarnation, SenderState};
    use crate::time::Moment;
    use std::net::{Ipv4Addr, SocketAddr};
    use std::sync::Arc;
    use std::time::Duration;

    const START: Moment = Moment::new(Duration::from_secs(5), Duration::from_secs(1_764_000_000));

    fn at(seconds: u64) -> Moment {
        START + Duration::from_secs(seconds)
    }

    /// Creates a sender with that number of received beats.
    fn sender(name: &str, peer: SocketAddr, beats: u64) -> (SenderKey, SenderState) {
        let mut loss = SequenceLoss::default();
        (1..=beats).for_each(|seq| drop(format!("{:?}", if seq == 1 { loss.restart(1, 1) } else { loss.record(seq) })));
        let run = Incarnation::from_snapshot(peer, 1, Some((Duration::from_secs(1), 3)), START, Duration::ZERO, beats);
        let name: Arc<str> = name.into();
        (
            SenderKey::Named(Arc::clone(&name)),
            SenderState::from_snapshot(name, SenderStatus::Up, START, loss, run, START),
        )
    }

    fn loopback() -> SocketAddr {
        SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 9)
    }

    fn insert(table: &mut SenderTable, name: &str, peer: SocketAddr, beats: u64) -> Result<usize, RejectReason> {
        let (key, record) = sender(name, peer, beats);
        table.insert(key, record, Some(peer))
    }

    #[test]
    fn a_full_table_evicts_the_oldest_sender_with_a_single_beat() {
        let mut table = SenderTable::new(3);
        for (name, beats) in [("often", 2), ("once", 1), ("once too", 1)] {
            insert(&mut table, name, loopback(), beats).expect("a free slot");
        }
        insert(&mut table, "new", loopback(), 2).expect("once is evicted");
        assert_eq!((table.len(), table.find(&SenderKey::Named("once".into()))), (3, None));
        insert(&mut table, "newer", loopback(), 2).expect("once too is evicted");
        assert_eq!(insert(&mut table, "newest", loopback(), 2), Err(RejectReason::Full));
        assert!(table.find(&SenderKey::Named("often".into())).is_some());
        assert_eq!(table.count_in_state(SenderStatus::Up), 3);
    }

    #[test]
    fn a_source_prefix_is_limited_and_removal_frees_its_share() {
        let mut table = SenderTable::new(1_000);
        let remote = SocketAddr::new(Ipv4Addr::new(192, 0, 2, 1).into(), 9);
        for number in 0..MAX_SENDERS_PER_PREFIX {
            insert(&mut table, &number.to_string(), remote, 1).expect("within the share");
        }
        assert_eq!(insert(&mut table, "one more", remote, 1), Err(RejectReason::Full));
        assert!(insert(&mut table, "here", loopback(), 1).is_ok());
        let slot = table.find(&SenderKey::Named("7".into())).expect("known");
        table.remove(slot);
        assert!(insert(&mut table, "one more", remote, 1).is_ok());
    }

    #[test]
    fn an_early_timer_is_rearmed() {
        let mut table = SenderTable::new(10);
        let slot = insert(&mut table, "a", loopback(), 1).expect("a free slot");
        table.update(slot, |_| (), |_| Some(at(3)));
        table.update(slot, |_| (), |_| Some(at(5)));
        assert_eq!(
            (table.next_deadline(), table.pop_due(at(2)), table.pop_due(at(4))),
            (Some(at(3)), None, Some(slot))
        );
        table.update(slot, |_| (), |_| Some(at(5)));
        table.update(slot, |_| (), |_| Some(at(4)));
        assert_eq!((table.pop_due(at(4)), table.pop_due(at(9))), (Some(slot), None), "one timer each");
    }

    #[test]
    fn the_timer_of_a_removed_sender_never_fires_for_its_successor() {
        let mut table = SenderTable::new(10);
        let slot = insert(&mut table, "a", loopback(), 1).expect("a free slot");
        table.update(slot, |_| (), |_| Some(at(3)));
        table.remove(slot);
        let again = insert(&mut table, "b", loopback(), 1).expect("a free slot");
        assert_eq!((again, table.pop_due(at(9))), (slot, None));
    }
}
