//! Session table of a public server. Its memory is bounded, because an attacker can forge client addresses at no
//! cost.
//!
//! The table never exceeds its limit, a source prefix never exceeds its share, and until they expire, sessions with
//! at least two datagrams outlast those with one: a flood of forged sources evicts other forged sources, not an
//! active session.
//!
//! ```text
//!   new ─▶ probation:  oldest … newest  ──second datagram──▶ protected:  oldest … newest
//!            └─ evicted first                                   └─ evicted when expired or when `probation` is empty
//! ```

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::rate_limit::{SourcePrefix, TokenBucket};
use crate::time::Moment;

/// Maximum number of sessions.
pub(super) const MAX_SESSIONS: usize = 4096;

/// Maximum number of sessions of one IPv4 address or IPv6 /56, except loopback.
pub(super) const MAX_SESSIONS_PER_PREFIX: usize = 64;

/// Time after which an idle session expires.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(300);

/// Key of a session: source address and, for STAMP, session identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SessionKey {
    pub peer: SocketAddr,
    /// STAMP session identifier; `None` for text.
    pub ssid: Option<u16>,
}

/// Sessions with a value each, in two lists ordered by last use.
#[derive(Debug)]
pub(super) struct SessionTable<V> {
    index: HashMap<SessionKey, usize>,
    slots: Vec<Slot<V>>,
    prefixes: HashMap<SourcePrefix, PrefixSessions>,
    probation: LruList,
    protected: LruList,
    evicted: u64,
    /// Slot of the last datagram, most likely also that of the next.
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

/// Hashes two integers instead of the many small pieces of a derived hash: this runs per datagram.
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
    /// Returns the value of a session and marks it as used; `make` creates the value of a new session.
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

    /// Token bucket of a peer's source prefix; `None` for loopback and for a prefix without sessions.
    pub(super) fn bucket(&mut self, peer: SocketAddr) -> Option<&mut TokenBucket> {
        Some(&mut self.prefixes.get_mut(&SourcePrefix::of(peer)?)?.bucket)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    #[cfg(test)]
    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }

    /// All sessions, in no particular order.
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

    /// Slot to reuse for a new session, or `None` if it may have a new slot.
    fn slot_to_evict(&self, key: SessionKey, now: Moment) -> Option<usize> {
        let prefix = SourcePrefix::of(key.peer).and_then(|prefix| self.prefixes.get(&prefix));
        if let Some(prefix) = prefix.filter(|prefix| prefix.slots.len() >= MAX_SESSIONS_PER_PREFIX) {
            let rank = |at: &&usize| (self.slot(**at).is_protected, self.slot(**at).last_used);
            return prefix.slots.iter().min_by_key(rank).copied();
        }
        let idle = |at: &usize| now - self.slot(*at).last_used > IDLE_TIMEOUT;
        let oldest = [self.probation.oldest, self.protected.oldest];
        let expired = oldest.into_iter().flatten().find(idle);
        let full = self.slots.len() >= MAX_SESSIONS;
        expired.or_else(|| self.probation.oldest.or(self.protected.oldest).filter(|_| full))
    }

    /// Reuses a slot for another session.
    fn replace(&mut self, at: usize, key: SessionKey, now: Moment, value: V) {
        let old = self.slot(at).key;
        self.unlink(at);
        self.index.remove(&old);
        if let Some(prefix) = SourcePrefix::of(old.peer) {
            if let Some(sessions) = self.prefixes.get_mut(&prefix) {
                sessions.slots.retain(|slot| *slot != at);
            }
            // If the new session has the same prefix, its token bucket must keep its level.
            let is_same = SourcePrefix::of(key.peer) == Some(prefix);
            if !is_same && self.prefixes.get(&prefix).is_some_and(|sessions| sessions.slots.is_empty()) {
                self.prefixes.remove(&prefix);
            }
        }
        self.evicted += u64::from(old != key);
        let slot = self.slot_mut(at);
        (slot.key, slot.last_used, slot.is_protected, slot.value) = (key, now, false, value);
        self.register(at, key);
    }

    fn register(&mut self, at: usize, key: SessionKey) {
        self.index.insert(key, at);
        if let Some(prefix) = SourcePrefix::of(key.peer) {
            self.prefixes.entry(prefix).or_default().slots.push(at);
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

    /// Removes a slot from its list.
    fn unlink(&mut self, at: usize) {
        let Slot { is_protected, older, newer, .. } = *self.slot(at);
        match older {
            Some(older) => self.slot_mut(older).newer = newer,
            None => self.list(is_protected).oldest = newer,
        }
        match newer {
            Some(newer) => self.slot_mut(newer).older = older,
            None => self.list(is_protected).newest = older,
        }
    }

    /// Makes a slot the newest of its list.
    fn link(&mut self, at: usize) {
        let is_protected = self.slot(at).is_protected;
        let older = self.list(is_protected).newest.replace(at);
        match older {
            Some(older) => self.slot_mut(older).newer = Some(at),
            None => self.list(is_protected).oldest = Some(at),
        }
        let slot = self.slot_mut(at);
        (slot.older, slot.newer) = (older, None);
    }

    fn slot(&self, at: usize) -> &Slot<V> {
        self.slots.get(at).expect("slots are never removed")
    }

    fn slot_mut(&mut self, at: usize) -> &mut Slot<V> {
        self.slots.get_mut(at).expect("slots are never removed")
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

    /// A client in the `n`-th of many source prefixes.
    fn nth_client(n: u32) -> SessionKey {
        text(Ipv4Addr::from_bits(0x0a00_0000 + n), 5_000)
    }

    fn contains(table: &SessionTable<u32>, key: SessionKey) -> bool {
        table.iter().any(|(known, _)| known == key)
    }

    #[test]
    fn a_session_is_created_once() {
        let mut table = SessionTable::default();
        let key = nth_client(1);
        *table.get_or_insert(key, START, || 7) += 1;
        assert_eq!(*table.get_or_insert(key, START, || 0), 8);
        let other = SessionKey { ssid: Some(1), ..key };
        assert_eq!(*table.get_or_insert(other, START, || 0), 0, "another session of the same address");
    }

    #[test]
    fn a_full_table_evicts_the_oldest_session() {
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
        let active = text(Ipv4Addr::new(192, 0, 2, 1), 9);
        for n in 0..100_000 {
            let now = START + Duration::from_micros(u64::from(n) * 100);
            if n % 10_000 < 2 {
                *table.get_or_insert(active, now, || 0) += 1;
            }
            table.get_or_insert(nth_client(n), now, || n);
        }
        assert_eq!(table.len(), MAX_SESSIONS);
        assert_eq!(*table.get_or_insert(active, START + Duration::from_secs(10), || 0), 20);
    }

    #[test]
    fn one_prefix_is_limited_to_its_share_and_loopback_is_not() {
        let mut table = SessionTable::default();
        let prefix = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0).to_bits();
        let neighbour = |n: u128| text(Ipv6Addr::from_bits(prefix + (n << 64) + n), 1_024);
        let active = neighbour(0);
        for n in 0..10_000_u32 {
            let now = START + Duration::from_millis(n.into());
            if n % 1_000 < 2 {
                table.get_or_insert(active, now, || 0);
            }
            table.get_or_insert(neighbour(u128::from(n % 250)), now, || n);
        }
        assert_eq!(table.len(), MAX_SESSIONS_PER_PREFIX);
        assert!(contains(&table, active));
        for port in 1..=500 {
            table.get_or_insert(text(Ipv4Addr::LOCALHOST, port), START, || 0);
        }
        assert_eq!(table.len(), MAX_SESSIONS_PER_PREFIX + 500);
    }

    #[test]
    fn an_idle_session_expires() {
        let mut table = SessionTable::default();
        let key = nth_client(1);
        table.get_or_insert(key, START, || 1);
        let last = START + IDLE_TIMEOUT;
        assert_eq!(*table.get_or_insert(key, last, || 2), 1, "just in time");
        let late = last + IDLE_TIMEOUT + Duration::from_nanos(1);
        table.get_or_insert(nth_client(2), late, || 3);
        assert!(!contains(&table, key), "its slot was reused");
        assert_eq!(table.len(), 1);
        let later = late + IDLE_TIMEOUT + Duration::from_nanos(1);
        assert_eq!(*table.get_or_insert(nth_client(2), later, || 4), 4, "created again");
    }
}
