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

use super::fact::{Refusal, State};
use super::record::Record;
use crate::strangers::SourcePrefix;
use crate::time::Moment;

/// How many senders one network beyond loopback may have.
pub const SHARE: u32 = 256;

/// Whom a beat belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    /// Whoever has this name.
    Named(Arc<str>),
    /// Whoever sends textbook beats from this address.
    At(SocketAddr),
}

impl Who {
    /// Whose record it is.
    pub fn of(record: &Record) -> Self {
        match record.run {
            Some(run) if record.is_textbook => Self::At(run.peer),
            _ => Self::Named(Arc::clone(&record.name)),
        }
    }
}

/// The senders.
#[derive(Debug)]
pub struct Crowd {
    most: usize,
    index: HashMap<Who, usize>,
    records: Slab<Record>,
    timers: BinaryHeap<Reverse<Timer>>,
    nets: HashMap<SourcePrefix, u32>,
    /// Newcomers in the order they came, some of which have been heard again or are gone.
    newcomers: VecDeque<(usize, u32)>,
    generation: u32,
    states: [usize; State::ALL.len()],
    places: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Timer {
    at: Moment,
    place: usize,
    generation: u32,
}

impl Crowd {
    /// Room for so many.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            index: HashMap::new(),
            records: Slab::new(),
            timers: BinaryHeap::new(),
            nets: HashMap::new(),
            newcomers: VecDeque::new(),
            generation: 0,
            states: [0; State::ALL.len()],
            places: 0,
        }
    }

    /// The place of somebody known.
    pub fn find(&self, who: &Who) -> Option<usize> {
        self.index.get(who).copied()
    }

    /// Takes in a newcomer, whose first beat came from `peer` if it was heard.
    pub fn admit(&mut self, who: Who, mut record: Record, peer: Option<SocketAddr>) -> Result<usize, Refusal> {
        let net = peer.and_then(SourcePrefix::of);
        if net.is_some_and(|net| self.nets.get(&net).is_some_and(|count| *count >= SHARE)) {
            return Err(Refusal::Full);
        }
        if self.records.len() >= self.most && !self.make_room() {
            return Err(Refusal::Full);
        }
        // Whoever has not been heard yet is counted when it is.
        if let Some(net) = net.filter(|_| record.run.is_some()) {
            *self.nets.entry(net).or_default() += 1;
        }
        self.generation = self.generation.wrapping_add(1);
        record.generation = self.generation;
        *self.count(record.state) += 1;
        let place = self.records.insert(record);
        self.index.insert(who, place);
        self.places = self.places.max(place + 1);
        if self.newcomers.len() > 2 * self.most {
            let records = &self.records;
            self.newcomers.retain(|(place, generation)| {
                records.get(*place).is_some_and(|record| record.generation == *generation)
            });
        }
        self.newcomers.push_back((place, self.generation));
        Ok(place)
    }

    /// Forgets the oldest of those that were heard once and no more.
    fn make_room(&mut self) -> bool {
        while let Some((place, generation)) = self.newcomers.pop_front() {
            let once = |record: &Record| {
                record.generation == generation && record.gaps.counts().beats <= 1 && !record.is_expected
            };
            if self.records.get(place).is_some_and(once) {
                self.forget(place);
                return true;
            }
        }
        false
    }

    /// Forgets somebody.
    pub fn forget(&mut self, place: usize) {
        let Some(record) = self.records.try_remove(place) else { return };
        *self.count(record.state) -= 1;
        self.index.remove(&Who::of(&record));
        let net = record.run.and_then(|run| SourcePrefix::of(run.peer));
        if let Some((net, count)) = net.and_then(|net| Some((net, self.nets.get_mut(&net)?))) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.nets.remove(&net);
            }
        }
    }

    /// Does something with a sender; afterwards its timer is set for `due`.
    pub fn with<T>(
        &mut self,
        place: usize,
        act: impl FnOnce(&mut Record) -> T,
        due: impl FnOnce(&Record) -> Option<Moment>,
    ) -> Option<T> {
        let record = self.records.get_mut(place)?;
        let (state, net) = (record.state, record.run.and_then(|run| SourcePrefix::of(run.peer)));
        let result = act(record);
        let due = due(record);
        // A timer that rings too early is set again then.
        let is_earlier = due.is_some_and(|due| record.armed.is_none_or(|armed| due < armed));
        if let Some(at) = due.filter(|_| is_earlier) {
            record.armed = Some(at);
            self.timers.push(Reverse(Timer { at, place, generation: record.generation }));
        }
        let (new_state, new_net) = (record.state, record.run.and_then(|run| SourcePrefix::of(run.peer)));
        if state != new_state {
            *self.count(state) -= 1;
            *self.count(new_state) += 1;
        }
        if net != new_net {
            self.moved(net, new_net);
        }
        Some(result)
    }

    /// A sender has moved from one network to another; it counts where it is.
    fn moved(&mut self, from: Option<SourcePrefix>, to: Option<SourcePrefix>) {
        if let Some(count) = from.and_then(|net| self.nets.get_mut(&net)) {
            *count = count.saturating_sub(1);
        }
        if let Some(net) = to {
            *self.nets.entry(net).or_default() += 1;
        }
    }

    /// When the next timer rings, maybe too early.
    pub fn next(&self) -> Option<Moment> {
        self.timers.peek().map(|timer| timer.0.at)
    }

    /// Whose timer rings by now.
    pub fn ring(&mut self, now: Moment) -> Option<usize> {
        while let Some(Reverse(timer)) = self.timers.peek().copied().filter(|timer| timer.0.at <= now) {
            self.timers.pop();
            let Some(record) = self.records.get_mut(timer.place) else { continue };
            if record.generation == timer.generation && record.armed == Some(timer.at) {
                record.armed = None;
                return Some(timer.place);
            }
        }
        None
    }

    /// Does something with everybody, and sets all timers anew.
    pub fn with_all(&mut self, mut act: impl FnMut(&mut Record), due: impl Fn(&Record) -> Option<Moment>) {
        self.timers.clear();
        let places: Vec<usize> = self.records.iter().map(|(place, _)| place).collect();
        for place in places {
            if let Some(record) = self.records.get_mut(place) {
                record.armed = None;
            }
            self.with(place, &mut act, &due);
        }
    }

    /// Somebody.
    pub fn get(&self, place: usize) -> Option<&Record> {
        self.records.get(place)
    }

    /// Everybody, by place.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &Record)> {
        self.records.iter()
    }

    /// All places are below this one.
    pub fn places(&self) -> usize {
        self.places
    }

    /// How many are known.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// How many are in this state.
    pub fn in_state(&self, state: State) -> usize {
        self.states.get(state as usize).copied().unwrap_or_default()
    }

    fn count(&mut self, state: State) -> &mut usize {
        self.states.get_mut(state as usize).expect("a counter per state")
    }
}

#[cfg(test)]
mod tests {
    use super::{Crowd, SHARE, Who};
    use crate::heartbeat::fact::{Refusal, State};
    use crate::heartbeat::gaps::Gaps;
    use crate::heartbeat::record::{Record, Run};
    use crate::time::Moment;
    use std::net::{Ipv4Addr, SocketAddr};
    use std::sync::Arc;
    use std::time::Duration;

    const START: Moment = Moment::new(Duration::from_secs(5), Duration::from_secs(1_764_000_000));

    fn at(seconds: u64) -> Moment {
        START + Duration::from_secs(seconds)
    }

    /// A sender that was heard so many times.
    fn sender(name: &str, peer: SocketAddr, beats: u64) -> (Who, Record) {
        let mut gaps = Gaps::default();
        (1..=beats).for_each(|seq| drop(format!("{:?}", if seq == 1 { gaps.begin(1, 1) } else { gaps.see(seq) })));
        let run = Run::restored(peer, 1, Some((Duration::from_secs(1), 3)), START, Duration::ZERO, beats);
        let name: Arc<str> = name.into();
        (Who::Named(Arc::clone(&name)), Record::restored(name, State::Up, START, gaps, run, START))
    }

    fn loopback() -> SocketAddr {
        SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 9)
    }

    fn admit(crowd: &mut Crowd, name: &str, peer: SocketAddr, beats: u64) -> Result<usize, Refusal> {
        let (who, record) = sender(name, peer, beats);
        crowd.admit(who, record, Some(peer))
    }

    #[test]
    fn the_table_holds_its_limit_and_then_whoever_came_only_once_makes_room() {
        let mut crowd = Crowd::new(3);
        for (name, beats) in [("often", 2), ("once", 1), ("once more", 1)] {
            admit(&mut crowd, name, loopback(), beats).expect("there is room");
        }
        admit(&mut crowd, "new", loopback(), 2).expect("once makes room");
        assert_eq!((crowd.len(), crowd.find(&Who::Named("once".into()))), (3, None));
        admit(&mut crowd, "newer", loopback(), 2).expect("once more makes room");
        assert_eq!(admit(&mut crowd, "newest", loopback(), 2), Err(Refusal::Full));
        assert!(crowd.find(&Who::Named("often".into())).is_some());
        assert_eq!(crowd.in_state(State::Up), 3);
    }

    #[test]
    fn a_network_has_its_share_and_gets_it_back() {
        let mut crowd = Crowd::new(1_000);
        let stranger = SocketAddr::new(Ipv4Addr::new(192, 0, 2, 1).into(), 9);
        for number in 0..SHARE {
            admit(&mut crowd, &number.to_string(), stranger, 1).expect("within the share");
        }
        assert_eq!(admit(&mut crowd, "one more", stranger, 1), Err(Refusal::Full));
        assert!(admit(&mut crowd, "here", loopback(), 1).is_ok());
        let place = crowd.find(&Who::Named("7".into())).expect("known");
        crowd.forget(place);
        assert!(admit(&mut crowd, "one more", stranger, 1).is_ok());
    }

    #[test]
    fn a_timer_that_rings_too_early_is_set_again() {
        let mut crowd = Crowd::new(10);
        let place = admit(&mut crowd, "a", loopback(), 1).expect("room");
        crowd.with(place, |_| (), |_| Some(at(3)));
        crowd.with(place, |_| (), |_| Some(at(5)));
        assert_eq!((crowd.next(), crowd.ring(at(2)), crowd.ring(at(4))), (Some(at(3)), None, Some(place)));
        crowd.with(place, |_| (), |_| Some(at(5)));
        crowd.with(place, |_| (), |_| Some(at(4)));
        assert_eq!((crowd.ring(at(4)), crowd.ring(at(9))), (Some(place), None), "one timer each");
    }

    #[test]
    fn the_timer_of_somebody_forgotten_never_rings_for_the_next_one() {
        let mut crowd = Crowd::new(10);
        let place = admit(&mut crowd, "a", loopback(), 1).expect("room");
        crowd.with(place, |_| (), |_| Some(at(3)));
        crowd.forget(place);
        let again = admit(&mut crowd, "b", loopback(), 1).expect("room");
        assert_eq!((again, crowd.ring(at(9))), (place, None));
    }
}
