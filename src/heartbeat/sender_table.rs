//! Every sender that is known, as far as there is room.
//!
//! Owns the table and its timers. The table is bounded, a network of strangers has a bounded share
//! of it, and whoever was heard only once makes room first: a flood of made-up names pushes out
//! other made-up names. Each sender has one timer in the heap. A beat does not touch it: when it rings too
//! early, it is set again, so that a beat costs no more in a crowd than alone.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use slab::Slab;

use super::event::{Liveness, RejectReason};
use super::sender_state::SenderState;
use crate::rate_limit::SourcePrefix;
use crate::time::Moment;

/// How many senders one network beyond loopback may have.
pub(super) const MAX_SENDERS_PER_PREFIX: u32 = 256;

/// Whom a beat belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum SenderKey {
    /// Whoever has this name.
    Named(Arc<str>),
    /// Whoever sends textbook beats from this address.
    Address(SocketAddr),
}

impl SenderKey {
    /// Whose record it is.
    pub(crate) fn of(sender: &SenderState) -> Self {
        match sender.incarnation {
            Some(run) if sender.is_textbook => Self::Address(run.peer),
            _ => Self::Named(Arc::clone(&sender.name)),
        }
    }
}

/// The senders.
#[derive(Debug)]
pub(crate) struct SenderTable {
    max_senders: usize,
    index: HashMap<SenderKey, usize>,
    senders: Slab<SenderState>,
    timers: BinaryHeap<Reverse<Timer>>,
    prefix_counts: HashMap<SourcePrefix, u32>,
    /// Newcomers in the order they came, some of which have been heard again or are gone.
    eviction_queue: VecDeque<(usize, u32)>,
    generation: u32,
    state_counts: [usize; Liveness::ALL.len()],
    slot_bound: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Timer {
    deadline: Moment,
    slot: usize,
    generation: u32,
}

impl SenderTable {
    /// Room for so many.
    pub(crate) fn new(max_senders: usize) -> Self {
        Self {
            max_senders,
            index: HashMap::new(),
            senders: Slab::new(),
            timers: BinaryHeap::new(),
            prefix_counts: HashMap::new(),
            eviction_queue: VecDeque::new(),
            generation: 0,
            state_counts: [0; Liveness::ALL.len()],
            slot_bound: 0,
        }
    }

    /// The place of somebody known.
    pub(crate) fn find(&self, key: &SenderKey) -> Option<usize> {
        self.index.get(key).copied()
    }

    /// Takes in a newcomer, whose first beat came from `peer` if it was heard.
    pub(crate) fn insert(
        &mut self,
        key: SenderKey,
        mut sender: SenderState,
        peer: Option<SocketAddr>,
    ) -> Result<usize, RejectReason> {
        let net = peer.and_then(SourcePrefix::of);
        if net.is_some_and(|net| self.prefix_counts.get(&net).is_some_and(|count| *count >= MAX_SENDERS_PER_PREFIX)) {
            return Err(RejectReason::Full);
        }
        if self.senders.len() >= self.max_senders && !self.evict_one() {
            return Err(RejectReason::Full);
        }
        // Whoever has not been heard yet is counted when it is.
        if let Some(net) = net.filter(|_| sender.incarnation.is_some()) {
            *self.prefix_counts.entry(net).or_default() += 1;
        }
        self.generation = self.generation.wrapping_add(1);
        sender.generation = self.generation;
        *self.state_count_mut(sender.liveness) += 1;
        let place = self.senders.insert(sender);
        self.index.insert(key, place);
        self.slot_bound = self.slot_bound.max(place + 1);
        if self.eviction_queue.len() > 2 * self.max_senders {
            let records = &self.senders;
            self.eviction_queue.retain(|(place, generation)| {
                records.get(*place).is_some_and(|record| record.generation == *generation)
            });
        }
        self.eviction_queue.push_back((place, self.generation));
        Ok(place)
    }

    /// Forgets the oldest of those that were heard once and no more.
    fn evict_one(&mut self) -> bool {
        while let Some((place, generation)) = self.eviction_queue.pop_front() {
            let once = |record: &SenderState| {
                record.generation == generation && record.loss.counts().beats <= 1 && !record.is_expected
            };
            if self.senders.get(place).is_some_and(once) {
                self.remove(place);
                return true;
            }
        }
        false
    }

    /// Forgets somebody.
    pub(crate) fn remove(&mut self, slot: usize) {
        let Some(record) = self.senders.try_remove(slot) else { return };
        *self.state_count_mut(record.liveness) -= 1;
        self.index.remove(&SenderKey::of(&record));
        let net = record.incarnation.and_then(|run| SourcePrefix::of(run.peer));
        if let Some((net, count)) = net.and_then(|net| Some((net, self.prefix_counts.get_mut(&net)?))) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.prefix_counts.remove(&net);
            }
        }
    }

    /// Does something with a sender; afterwards its timer is set for `due`.
    pub(crate) fn update<T>(
        &mut self,
        slot: usize,
        act: impl FnOnce(&mut SenderState) -> T,
        next_deadline: impl FnOnce(&SenderState) -> Option<Moment>,
    ) -> Option<T> {
        let record = self.senders.get_mut(slot)?;
        let (state, net) = (record.liveness, record.incarnation.and_then(|run| SourcePrefix::of(run.peer)));
        let result = act(record);
        let due = next_deadline(record);
        // A timer that rings too early is set again then.
        let is_earlier = due.is_some_and(|due| record.timer_deadline.is_none_or(|armed| due < armed));
        if let Some(at) = due.filter(|_| is_earlier) {
            record.timer_deadline = Some(at);
            self.timers.push(Reverse(Timer { deadline: at, slot, generation: record.generation }));
        }
        let (new_state, new_net) = (record.liveness, record.incarnation.and_then(|run| SourcePrefix::of(run.peer)));
        if state != new_state {
            *self.state_count_mut(state) -= 1;
            *self.state_count_mut(new_state) += 1;
        }
        if net != new_net {
            self.change_prefix(net, new_net);
        }
        Some(result)
    }

    /// A sender has moved from one network to another; it counts where it is.
    fn change_prefix(&mut self, from: Option<SourcePrefix>, to: Option<SourcePrefix>) {
        if let Some(count) = from.and_then(|net| self.prefix_counts.get_mut(&net)) {
            *count = count.saturating_sub(1);
        }
        if let Some(net) = to {
            *self.prefix_counts.entry(net).or_default() += 1;
        }
    }

    /// When the next timer rings, maybe too early.
    pub(crate) fn next_deadline(&self) -> Option<Moment> {
        self.timers.peek().map(|timer| timer.0.deadline)
    }

    /// Whose timer rings by now.
    pub(crate) fn pop_due(&mut self, now: Moment) -> Option<usize> {
        while let Some(Reverse(timer)) = self.timers.peek().copied().filter(|timer| timer.0.deadline <= now) {
            self.timers.pop();
            let Some(record) = self.senders.get_mut(timer.slot) else { continue };
            if record.generation == timer.generation && record.timer_deadline == Some(timer.deadline) {
                record.timer_deadline = None;
                return Some(timer.slot);
            }
        }
        None
    }

    /// Does something with everybody, and sets all timers anew.
    pub(crate) fn update_all(
        &mut self,
        mut act: impl FnMut(&mut SenderState),
        next_deadline: impl Fn(&SenderState) -> Option<Moment>,
    ) {
        self.timers.clear();
        let places: Vec<usize> = self.senders.iter().map(|(place, _)| place).collect();
        for place in places {
            if let Some(record) = self.senders.get_mut(place) {
                record.timer_deadline = None;
            }
            self.update(place, &mut act, &next_deadline);
        }
    }

    /// Somebody.
    pub(crate) fn get(&self, slot: usize) -> Option<&SenderState> {
        self.senders.get(slot)
    }

    /// Everybody, by place.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &SenderState)> {
        self.senders.iter()
    }

    /// All places are below this one.
    pub(crate) fn slot_bound(&self) -> usize {
        self.slot_bound
    }

    /// How many are known.
    pub(crate) fn len(&self) -> usize {
        self.senders.len()
    }

    /// How many are in this state.
    pub(crate) fn count_in_state(&self, state: Liveness) -> usize {
        self.state_counts.get(state as usize).copied().unwrap_or_default()
    }

    fn state_count_mut(&mut self, state: Liveness) -> &mut usize {
        self.state_counts.get_mut(state as usize).expect("a counter per state")
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_SENDERS_PER_PREFIX, SenderKey, SenderTable};
    use crate::heartbeat::event::{Liveness, RejectReason};
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

    /// A sender that was heard so many times.
    fn sender(name: &str, peer: SocketAddr, beats: u64) -> (SenderKey, SenderState) {
        let mut gaps = SequenceLoss::default();
        (1..=beats).for_each(|seq| drop(format!("{:?}", if seq == 1 { gaps.restart(1, 1) } else { gaps.record(seq) })));
        let run = Incarnation::from_snapshot(peer, 1, Some((Duration::from_secs(1), 3)), START, Duration::ZERO, beats);
        let name: Arc<str> = name.into();
        (SenderKey::Named(Arc::clone(&name)), SenderState::from_snapshot(name, Liveness::Up, START, gaps, run, START))
    }

    fn loopback() -> SocketAddr {
        SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 9)
    }

    fn insert(table: &mut SenderTable, name: &str, peer: SocketAddr, beats: u64) -> Result<usize, RejectReason> {
        let (who, record) = sender(name, peer, beats);
        table.insert(who, record, Some(peer))
    }

    #[test]
    fn a_full_table_evicts_the_oldest_sender_with_a_single_beat() {
        let mut crowd = SenderTable::new(3);
        for (name, beats) in [("often", 2), ("once", 1), ("once more", 1)] {
            insert(&mut crowd, name, loopback(), beats).expect("there is room");
        }
        insert(&mut crowd, "new", loopback(), 2).expect("once makes room");
        assert_eq!((crowd.len(), crowd.find(&SenderKey::Named("once".into()))), (3, None));
        insert(&mut crowd, "newer", loopback(), 2).expect("once more makes room");
        assert_eq!(insert(&mut crowd, "newest", loopback(), 2), Err(RejectReason::Full));
        assert!(crowd.find(&SenderKey::Named("often".into())).is_some());
        assert_eq!(crowd.count_in_state(Liveness::Up), 3);
    }

    #[test]
    fn a_source_prefix_is_limited_and_removal_frees_its_share() {
        let mut crowd = SenderTable::new(1_000);
        let stranger = SocketAddr::new(Ipv4Addr::new(192, 0, 2, 1).into(), 9);
        for number in 0..MAX_SENDERS_PER_PREFIX {
            insert(&mut crowd, &number.to_string(), stranger, 1).expect("within the share");
        }
        assert_eq!(insert(&mut crowd, "one more", stranger, 1), Err(RejectReason::Full));
        assert!(insert(&mut crowd, "here", loopback(), 1).is_ok());
        let place = crowd.find(&SenderKey::Named("7".into())).expect("known");
        crowd.remove(place);
        assert!(insert(&mut crowd, "one more", stranger, 1).is_ok());
    }

    #[test]
    fn an_early_timer_is_rearmed() {
        let mut crowd = SenderTable::new(10);
        let place = insert(&mut crowd, "a", loopback(), 1).expect("room");
        crowd.update(place, |_| (), |_| Some(at(3)));
        crowd.update(place, |_| (), |_| Some(at(5)));
        assert_eq!(
            (crowd.next_deadline(), crowd.pop_due(at(2)), crowd.pop_due(at(4))),
            (Some(at(3)), None, Some(place))
        );
        crowd.update(place, |_| (), |_| Some(at(5)));
        crowd.update(place, |_| (), |_| Some(at(4)));
        assert_eq!((crowd.pop_due(at(4)), crowd.pop_due(at(9))), (Some(place), None), "one timer each");
    }

    #[test]
    fn the_timer_of_a_removed_sender_never_fires_for_its_successor() {
        let mut crowd = SenderTable::new(10);
        let place = insert(&mut crowd, "a", loopback(), 1).expect("room");
        crowd.update(place, |_| (), |_| Some(at(3)));
        crowd.remove(place);
        let again = insert(&mut crowd, "b", loopback(), 1).expect("room");
        assert_eq!((again, crowd.pop_due(at(9))), (place, None));
    }
}
