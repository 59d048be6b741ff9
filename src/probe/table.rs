//! Who has been here, as far as there is room.
//!
//! Owns the bounded memory of a server for strangers. A source costs an attacker nothing, so the
//! table never grows past its limit, one network never takes more than its share, and whoever
//! came back at least once is kept before those who came only once: a flood of made-up sources
//! pushes out other made-up sources, not a session that lives.
//!
//! ```text
//!   new ─▶ once:  oldest … newest  ──second datagram──▶ often:  oldest … newest
//!            └─ evicted first                              └─ evicted when nobody is in `once`
//! ```

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::strangers::{Bucket, Net};
use crate::time::Moment;

/// How many sessions are remembered.
pub const SESSIONS: usize = 4096;

/// How many of them may be of one IPv4 address or one IPv6 /56, beyond loopback.
pub const SHARE: usize = 64;

/// How long a session that says nothing is remembered, whether it was ever used or not.
pub const IDLE: Duration = Duration::from_secs(300);

/// A session: an address, and for STAMP the session identifier it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who {
    /// The source address and port.
    pub peer: SocketAddr,
    /// STAMP's session identifier; `None` for text.
    pub ssid: Option<u16>,
}

/// Sessions and what is known of each.
#[derive(Debug)]
pub struct Table<V> {
    index: HashMap<Who, usize>,
    slots: Vec<Slot<V>>,
    nets: HashMap<Net, Members>,
    once: List,
    often: List,
    evicted: u64,
    /// Who was seen last, most likely the next one too.
    last: usize,
}

#[derive(Debug)]
struct Slot<V> {
    who: Who,
    used: Moment,
    often: bool,
    older: Option<usize>,
    newer: Option<usize>,
    value: V,
}

#[derive(Clone, Copy, Debug, Default)]
struct List {
    oldest: Option<usize>,
    newest: Option<usize>,
}

/// Three words instead of the many small pieces of a derived hash: this is done per datagram.
impl Hash for Who {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let ip = match self.peer.ip() {
            IpAddr::V4(v4) => v4.to_bits().into(),
            IpAddr::V6(v6) => v6.to_bits(),
        };
        let ssid = self.ssid.map_or(0, |ssid| 1 << 16 | u64::from(ssid));
        state.write_u128(ip);
        state.write_u64(ssid << 16 | u64::from(self.peer.port()));
    }
}

#[derive(Debug, Default)]
struct Members {
    slots: Vec<usize>,
    bucket: Bucket,
}

impl<V> Default for Table<V> {
    fn default() -> Self {
        Self {
            index: HashMap::new(),
            slots: Vec::new(),
            nets: HashMap::new(),
            once: List::default(),
            often: List::default(),
            evicted: 0,
            last: 0,
        }
    }
}

impl<V> Table<V> {
    /// What is known of a session, which is seen now; `make` begins a new one.
    pub fn seen(&mut self, who: Who, now: Moment, make: impl FnOnce() -> V) -> &mut V {
        let last = self.slots.get(self.last).filter(|slot| slot.who == who);
        let known = last.map(|_| self.last).or_else(|| self.index.get(&who).copied());
        let at = match known {
            Some(at) if now - self.slot(at).used <= IDLE => {
                self.touch(at, now);
                at
            }
            Some(at) => {
                self.replace(at, who, now, make());
                at
            }
            None => self.insert(who, now, make()),
        };
        self.last = at;
        &mut self.slot_mut(at).value
    }

    /// The allowance of a peer's network, if it has one: loopback has not, and a network of which
    /// no session is known begins with a full one.
    pub fn bucket(&mut self, peer: SocketAddr) -> Option<&mut Bucket> {
        Some(&mut self.nets.get_mut(&Net::of(peer)?)?.bucket)
    }

    /// How many sessions are known.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// How many had to go to make room.
    #[cfg(test)]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Every session that is known, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (Who, &V)> {
        self.slots.iter().map(|slot| (slot.who, &slot.value))
    }

    fn insert(&mut self, who: Who, now: Moment, value: V) -> usize {
        if let Some(at) = self.to_evict(who, now) {
            self.replace(at, who, now, value);
            return at;
        }
        let at = self.slots.len();
        let slot = Slot { who, used: now, often: false, older: None, newer: None, value };
        self.slots.push(slot);
        self.settle(at, who);
        at
    }

    /// Whose place a newcomer takes, if it cannot have one of its own.
    fn to_evict(&self, who: Who, now: Moment) -> Option<usize> {
        let mates = Net::of(who.peer).and_then(|net| self.nets.get(&net));
        if let Some(mates) = mates.filter(|mates| mates.slots.len() >= SHARE) {
            let rank = |at: &&usize| (self.slot(**at).often, self.slot(**at).used);
            return mates.slots.iter().min_by_key(rank).copied();
        }
        let idle = |at: &usize| now - self.slot(*at).used > IDLE;
        let oldest = [self.once.oldest, self.often.oldest];
        let gone = oldest.into_iter().flatten().find(idle);
        let full = self.slots.len() >= SESSIONS;
        gone.or_else(|| self.once.oldest.or(self.often.oldest).filter(|_| full))
    }

    /// Gives a place to somebody else.
    fn replace(&mut self, at: usize, who: Who, now: Moment, value: V) {
        let old = self.slot(at).who;
        self.unlink(at);
        self.index.remove(&old);
        if let Some(net) = Net::of(old.peer) {
            if let Some(members) = self.nets.get_mut(&net) {
                members.slots.retain(|member| *member != at);
            }
            // A network that comes right back keeps what it has used up of its allowance.
            let stays = Net::of(who.peer) == Some(net);
            if !stays && self.nets.get(&net).is_some_and(|members| members.slots.is_empty()) {
                self.nets.remove(&net);
            }
        }
        self.evicted += u64::from(old != who);
        let slot = self.slot_mut(at);
        (slot.who, slot.used, slot.often, slot.value) = (who, now, false, value);
        self.settle(at, who);
    }

    fn settle(&mut self, at: usize, who: Who) {
        self.index.insert(who, at);
        if let Some(net) = Net::of(who.peer) {
            self.nets.entry(net).or_default().slots.push(at);
        }
        self.link(at);
    }

    fn touch(&mut self, at: usize, now: Moment) {
        if self.often.newest == Some(at) {
            self.slot_mut(at).used = now;
            return;
        }
        self.unlink(at);
        let slot = self.slot_mut(at);
        (slot.used, slot.often) = (now, true);
        self.link(at);
    }

    fn list(&mut self, often: bool) -> &mut List {
        if often { &mut self.often } else { &mut self.once }
    }

    /// Takes a slot out of its list.
    fn unlink(&mut self, at: usize) {
        let Slot { often, older, newer, .. } = *self.slot(at);
        match older {
            Some(older) => self.slot_mut(older).newer = newer,
            None => self.list(often).oldest = newer,
        }
        match newer {
            Some(newer) => self.slot_mut(newer).older = older,
            None => self.list(often).newest = older,
        }
    }

    /// Makes a slot the newest of its list.
    fn link(&mut self, at: usize) {
        let often = self.slot(at).often;
        let older = self.list(often).newest.replace(at);
        match older {
            Some(older) => self.slot_mut(older).newer = Some(at),
            None => self.list(often).oldest = Some(at),
        }
        let slot = self.slot_mut(at);
        (slot.older, slot.newer) = (older, None);
    }

    fn slot(&self, at: usize) -> &Slot<V> {
        self.slots.get(at).expect("slots are never taken away")
    }

    fn slot_mut(&mut self, at: usize) -> &mut Slot<V> {
        self.slots.get_mut(at).expect("slots are never taken away")
    }
}

#[cfg(test)]
mod tests {
    use super::{IDLE, SESSIONS, SHARE, Table, Who};
    use crate::time::Moment;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
    use std::time::Duration;

    const START: Moment = Moment::new(Duration::ZERO, Duration::ZERO);

    fn text(ip: impl Into<IpAddr>, port: u16) -> Who {
        Who { peer: SocketAddr::new(ip.into(), port), ssid: None }
    }

    /// The `n`-th of many networks.
    fn stranger(n: u32) -> Who {
        text(Ipv4Addr::from_bits(0x0a00_0000 + n), 5_000)
    }

    fn knows(table: &Table<u32>, who: Who) -> bool {
        table.iter().any(|(known, _)| known == who)
    }

    #[test]
    fn a_session_is_begun_once_and_then_known() {
        let mut table = Table::default();
        let who = stranger(1);
        *table.seen(who, START, || 7) += 1;
        assert_eq!(*table.seen(who, START, || 0), 8);
        let other = Who { ssid: Some(1), ..who };
        assert_eq!(*table.seen(other, START, || 0), 0, "another session of the same address");
    }

    #[test]
    fn the_table_holds_its_limit_and_then_the_oldest_goes() {
        let mut table = Table::default();
        let limit = u32::try_from(SESSIONS).expect("small");
        for n in 0..limit {
            table.seen(stranger(n), START + Duration::from_millis(n.into()), || n);
        }
        assert_eq!((table.len(), table.evicted()), (SESSIONS, 0));
        table.seen(stranger(limit), START + Duration::from_secs(10), || limit);
        assert_eq!((table.len(), table.evicted()), (SESSIONS, 1));
        assert!(!knows(&table, stranger(0)) && knows(&table, stranger(1)));
    }

    #[test]
    fn a_session_that_lives_survives_a_hundred_thousand_strangers() {
        let mut table = Table::default();
        let live = text(Ipv4Addr::new(192, 0, 2, 1), 9);
        for n in 0..100_000 {
            let now = START + Duration::from_micros(u64::from(n) * 100);
            if n % 10_000 < 2 {
                *table.seen(live, now, || 0) += 1;
            }
            table.seen(stranger(n), now, || n);
        }
        assert_eq!(table.len(), SESSIONS);
        assert_eq!(*table.seen(live, START + Duration::from_secs(10), || 0), 20);
    }

    #[test]
    fn one_network_has_its_share_and_loopback_has_no_limit_of_its_own() {
        let mut table = Table::default();
        let prefix = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0).to_bits();
        let neighbour = |n: u128| text(Ipv6Addr::from_bits(prefix + (n << 64) + n), 1_024);
        let live = neighbour(0);
        for n in 0..10_000_u32 {
            let now = START + Duration::from_millis(n.into());
            if n % 1_000 < 2 {
                table.seen(live, now, || 0);
            }
            table.seen(neighbour(u128::from(n % 250)), now, || n);
        }
        assert_eq!(table.len(), SHARE);
        assert!(knows(&table, live));
        for port in 1..=500 {
            table.seen(text(Ipv4Addr::LOCALHOST, port), START, || 0);
        }
        assert_eq!(table.len(), SHARE + 500);
    }

    #[test]
    fn whoever_is_silent_for_too_long_is_forgotten() {
        let mut table = Table::default();
        let who = stranger(1);
        table.seen(who, START, || 1);
        let last = START + IDLE;
        assert_eq!(*table.seen(who, last, || 2), 1, "just in time");
        let late = last + IDLE + Duration::from_nanos(1);
        table.seen(stranger(2), late, || 3);
        assert!(!knows(&table, who), "its place was taken");
        assert_eq!(table.len(), 1);
        let later = late + IDLE + Duration::from_nanos(1);
        assert_eq!(*table.seen(stranger(2), later, || 4), 4, "begun anew");
    }
}
