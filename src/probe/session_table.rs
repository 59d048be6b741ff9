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

use crate::rate_limit::{SourcePrefix, TokenBucket};
use crate::time::Moment;

/// How many sessions are remembered.
pub(super) const MAX_SESSIONS: usize = 4096;

/// How many of them may be of one IPv4 address or one IPv6 /56, beyond loopback.
pub(super) const MAX_SESSIONS_PER_PREFIX: usize = 64;

/// How long a session that says nothing is remembered, whether it was ever used or not.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(300);

/// A session: an address, and for STAMP the session identifier it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SessionKey {
    /// The source address and port.
    pub peer: SocketAddr,
    /// STAMP's session identifier; `None` for text.
    pub ssid: Option<u16>,
}

/// Sessions and what is known of each.
#[derive(Debug)]
pub(super) struct SessionTable<V> {
    index: HashMap<SessionKey, usize>,
    slots: Vec<Slot<V>>,
    prefixes: HashMap<SourcePrefix, PrefixSessions>,
    probation: LruList,
    protected: LruList,
    evicted: u64,
    /// Who was seen last, most likely the next one too.
    last_slot: usize,
}

#[derive(Debug)]
struct Slot<V> {
    key: SessionKey,
    last_used: Moment,
    is_protected: bool,
    older: Option<usize>,
    newer: Option<usize>,
    value: V,
}

#[derive(Clone, Copy, Debug, Default)]
struct LruList {
    oldest: Option<usize>,
    newest: Option<usize>,
}

/// Three words instead of the many small pieces of a derived hash: this is done per datagram.
impl Hash for SessionKey {
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
struct PrefixSessions {
    slots: Vec<usize>,
    bucket: TokenBucket,
}

impl<V> Default for SessionTable<V> {
    fn default() -> Self {
        Self {
            index: HashMap::new(),
            slots: Vec::new(),
            prefixes: HashMap::new(),
            probation: LruList::default(),
            protected: LruList::default(),
            evicted: 0,
            last_slot: 0,
        }
    }
}

impl<V> SessionTable<V> {
    /// What is known of a session, which is seen now; `make` begins a new one.
    pub(super) fn get_or_insert(&mut self, key: SessionKey, now: Moment, make: impl FnOnce() -> V) -> &mut V {
        let last = self.slots.get(self.last_slot).filter(|slot| slot.key == key);
        let known = last.map(|_| self.last_slot).or_else(|| self.index.get(&key).copied());
        let at = match known {
            Some(at) if now - self.slot(at).last_used <= IDLE_TIMEOUT => {
                self.touch(at, now);
                at
            }
            Some(at) => {
                self.replace(at, key, now, make());
                at
            }
            None => self.insert(key, now, make()),
        };
        self.last_slot = at;
        &mut self.slot_mut(at).value
    }

    /// The allowance of a peer's network, if it has one: loopback has not, and a network of which
    /// no session is known begins with a full one.
    pub(super) fn bucket(&mut self, peer: SocketAddr) -> Option<&mut TokenBucket> {
        Some(&mut self.prefixes.get_mut(&SourcePrefix::of(peer)?)?.bucket)
    }

    /// How many sessions are known.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// How many had to go to make room.
    #[cfg(test)]
    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Every session that is known, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (SessionKey, &V)> {
        self.slots.iter().map(|slot| (slot.key, &slot.value))
    }

    fn insert(&mut self, key: SessionKey, now: Moment, value: V) -> usize {
        if let Some(at) = self.slot_to_evict(key, now) {
            self.replace(at, key, now, value);
            return at;
        }
        let at = self.slots.len();
        let slot = Slot { key, last_used: now, is_protected: false, older: None, newer: None, value };
        self.slots.push(slot);
        self.register(at, key);
        at
    }

    /// Whose place a newcomer takes, if it cannot have one of its own.
    fn slot_to_evict(&self, key: SessionKey, now: Moment) -> Option<usize> {
        let mates = SourcePrefix::of(key.peer).and_then(|net| self.prefixes.get(&net));
        if let Some(mates) = mates.filter(|mates| mates.slots.len() >= MAX_SESSIONS_PER_PREFIX) {
            let rank = |at: &&usize| (self.slot(**at).is_protected, self.slot(**at).last_used);
            return mates.slots.iter().min_by_key(rank).copied();
        }
        let idle = |at: &usize| now - self.slot(*at).last_used > IDLE_TIMEOUT;
        let oldest = [self.probation.oldest, self.protected.oldest];
        let gone = oldest.into_iter().flatten().find(idle);
        let full = self.slots.len() >= MAX_SESSIONS;
        gone.or_else(|| self.probation.oldest.or(self.protected.oldest).filter(|_| full))
    }

    /// Gives a place to somebody else.
    fn replace(&mut self, at: usize, key: SessionKey, now: Moment, value: V) {
        let old = self.slot(at).key;
        self.unlink(at);
        self.index.remove(&old);
        if let Some(net) = SourcePrefix::of(old.peer) {
            if let Some(members) = self.prefixes.get_mut(&net) {
                members.slots.retain(|member| *member != at);
            }
            // A network that comes right back keeps what it has used up of its allowance.
            let stays = SourcePrefix::of(key.peer) == Some(net);
            if !stays && self.prefixes.get(&net).is_some_and(|members| members.slots.is_empty()) {
                self.prefixes.remove(&net);
            }
        }
        self.evicted += u64::from(old != key);
        let slot = self.slot_mut(at);
        (slot.key, slot.last_used, slot.is_protected, slot.value) = (key, now, false, value);
        self.register(at, key);
    }

    fn register(&mut self, at: usize, key: SessionKey) {
        self.index.insert(key, at);
        if let Some(net) = SourcePrefix::of(key.peer) {
            self.prefixes.entry(net).or_default().slots.push(at);
        }
        self.link(at);
    }

    fn touch(&mut self, at: usize, now: Moment) {
        if self.protected.newest == Some(at) {
            self.slot_mut(at).last_used = now;
            return;
        }
        self.unlink(at);
        let slot = self.slot_mut(at);
        (slot.last_used, slot.is_protected) = (now, true);
        self.link(at);
    }

    fn list(&mut self, is_protected: bool) -> &mut LruList {
        if is_protected { &mut self.protected } else { &mut self.probation }
    }

    /// Takes a slot out of its list.
    fn unlink(&mut self, at: usize) {
        let Slot { is_protected: often, older, newer, .. } = *self.slot(at);
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
        let often = self.slot(at).is_protected;
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
    use super::{IDLE_TIMEOUT, MAX_SESSIONS, MAX_SESSIONS_PER_PREFIX, SessionKey, SessionTable};
    use crate::time::Moment;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
    use std::time::Duration;

    const START: Moment = Moment::new(Duration::ZERO, Duration::ZERO);

    fn text(ip: impl Into<IpAddr>, port: u16) -> SessionKey {
        SessionKey { peer: SocketAddr::new(ip.into(), port), ssid: None }
    }

    /// The `n`-th of many networks.
    fn nth_client(n: u32) -> SessionKey {
        text(Ipv4Addr::from_bits(0x0a00_0000 + n), 5_000)
    }

    fn contains(table: &SessionTable<u32>, key: SessionKey) -> bool {
        table.iter().any(|(known, _)| known == key)
    }

    #[test]
    fn a_session_is_begun_once_and_then_known() {
        let mut table = SessionTable::default();
        let who = nth_client(1);
        *table.get_or_insert(who, START, || 7) += 1;
        assert_eq!(*table.get_or_insert(who, START, || 0), 8);
        let other = SessionKey { ssid: Some(1), ..who };
        assert_eq!(*table.get_or_insert(other, START, || 0), 0, "another session of the same address");
    }

    #[test]
    fn the_table_holds_its_limit_and_then_the_oldest_goes() {
        let mut table = SessionTable::default();
        let limit = u32::try_from(MAX_SESSIONS).expect("small");
        for n in 0..limit {
            table.get_or_insert(nth_client(n), START + Duration::from_millis(n.into()), || n);
        }
        assert_eq!((table.len(), table.evicted()), (MAX_SESSIONS, 0));
        table.get_or_insert(nth_client(limit), START + Duration::from_secs(10), || limit);
        assert_eq!((table.len(), table.evicted()), (MAX_SESSIONS, 1));
        assert!(!contains(&table, nth_client(0)) && contains(&table, nth_client(1)));
    }

    #[test]
    fn an_active_session_survives_a_hundred_thousand_new_sources() {
        let mut table = SessionTable::default();
        let live = text(Ipv4Addr::new(192, 0, 2, 1), 9);
        for n in 0..100_000 {
            let now = START + Duration::from_micros(u64::from(n) * 100);
            if n % 10_000 < 2 {
                *table.get_or_insert(live, now, || 0) += 1;
            }
            table.get_or_insert(nth_client(n), now, || n);
        }
        assert_eq!(table.len(), MAX_SESSIONS);
        assert_eq!(*table.get_or_insert(live, START + Duration::from_secs(10), || 0), 20);
    }

    #[test]
    fn one_network_has_its_share_and_loopback_has_no_limit_of_its_own() {
        let mut table = SessionTable::default();
        let prefix = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0).to_bits();
        let neighbour = |n: u128| text(Ipv6Addr::from_bits(prefix + (n << 64) + n), 1_024);
        let live = neighbour(0);
        for n in 0..10_000_u32 {
            let now = START + Duration::from_millis(n.into());
            if n % 1_000 < 2 {
                table.get_or_insert(live, now, || 0);
            }
            table.get_or_insert(neighbour(u128::from(n % 250)), now, || n);
        }
        assert_eq!(table.len(), MAX_SESSIONS_PER_PREFIX);
        assert!(contains(&table, live));
        for port in 1..=500 {
            table.get_or_insert(text(Ipv4Addr::LOCALHOST, port), START, || 0);
        }
        assert_eq!(table.len(), MAX_SESSIONS_PER_PREFIX + 500);
    }

    #[test]
    fn an_idle_session_is_forgotten() {
        let mut table = SessionTable::default();
        let who = nth_client(1);
        table.get_or_insert(who, START, || 1);
        let last = START + IDLE_TIMEOUT;
        assert_eq!(*table.get_or_insert(who, last, || 2), 1, "just in time");
        let late = last + IDLE_TIMEOUT + Duration::from_nanos(1);
        table.get_or_insert(nth_client(2), late, || 3);
        assert!(!contains(&table, who), "its place was taken");
        assert_eq!(table.len(), 1);
        let later = late + IDLE_TIMEOUT + Duration::from_nanos(1);
        assert_eq!(*table.get_or_insert(nth_client(2), later, || 4), 4, "begun anew");
    }
}
