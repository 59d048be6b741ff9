//! Loop guard: stops two echo servers from answering each other endlessly.
//!
//! A datagram without lower-case letters passes through a loop of echo servers unchanged, and a reflector's packet
//! may pass through a loop of reflectors; one forged source address is enough to start either. The same datagram from
//! one peer is therefore answered at most 20 times per second. A user who repeats an upper-case ping still gets
//! replies; a loop is broken however many datagrams circulate in it. Stores the hashes of up to 65,536 datagrams of
//! the last 50 ms in 4-way sets, with a randomly keyed hash. A set full of recent entries blocks the next datagram,
//! so that a loop cannot evict its own entries.

use std::hash::{BuildHasher as _, Hash as _, Hasher as _, RandomState};
use std::net::SocketAddr;
use std::time::Duration;

use crate::time::Moment;

const MIN_REPLY_INTERVAL: Duration = Duration::from_millis(50);
const SETS: usize = 16_384;
const WAYS: usize = 4;

#[derive(Clone, Copy, Default)]
struct RecentReply {
    digest: u64,
    /// Nanoseconds since the first reply, plus one; 0 marks an empty entry.
    replied_at: u64,
}

/// Recently answered datagrams.
#[derive(Default)]
pub(super) struct LoopGuard {
    hasher: RandomState,
    /// Allocated with the first datagram that could be part of a loop.
    sets: Option<(Moment, Vec<[RecentReply; WAYS]>)>,
}

impl LoopGuard {
    /// Returns whether a datagram that could be part of a loop may be answered. `bytes` is the part that
    /// stays unchanged in a loop.
    pub(super) fn admits(&mut self, peer: SocketAddr, bytes: &[u8], now: Moment) -> bool {
        let mut hasher = self.hasher.build_hasher();
        peer.hash(&mut hasher);
        hasher.write(bytes);
        let digest = hasher.finish();
        let (start, sets) = self.sets.get_or_insert_with(|| (now, vec![[RecentReply::default(); WAYS]; SETS]));
        let at = nanoseconds(now - *start).saturating_add(1);
        let is_expired = |entry: &RecentReply| {
            entry.replied_at == 0 || at.saturating_sub(entry.replied_at) >= nanoseconds(MIN_REPLY_INTERVAL)
        };
        let set = usize::try_from(digest % SETS as u64).map_or(0, |set| set);
        let set = &mut sets[set];
        if set.iter().any(|entry| entry.digest == digest && !is_expired(entry)) {
            return false;
        }
        let Some(entry) = set.iter_mut().find(|entry| is_expired(entry)) else { return false };
        *entry = RecentReply { digest, replied_at: at };
        true
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{LoopGuard, MIN_REPLY_INTERVAL};
    use crate::time::Moment;
    use std::net::{Ipv4Addr, SocketAddr};
    use std::time::Duration;

    const NOW: Moment = Moment::new(Duration::from_secs(1), Duration::ZERO);
    const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 12_000);

    #[test]
    fn each_datagram_of_a_loop_is_answered_at_most_twenty_times_a_second() {
        for datagrams in [1_u32, 2, 5, 100, 20_000] {
            let mut guard = LoopGuard::default();
            let mut answered = 0;
            // Twenty rounds in 100 ms.
            for round in 0..20 {
                let now = NOW + Duration::from_millis(5) * round;
                answered += (0..datagrams).filter(|number| guard.admits(PEER, &number.to_be_bytes(), now)).count();
            }
            let limit = usize::try_from(datagrams).expect("small") * 2;
            assert!(answered <= limit && answered > limit / 2, "{datagrams}: {answered}");
        }
    }

    #[test]
    fn another_peer_another_datagram_or_a_later_repetition_is_answered() {
        let mut guard = LoopGuard::default();
        let other = SocketAddr::new(PEER.ip(), 12_001);
        assert!(guard.admits(PEER, b"A", NOW) && guard.admits(PEER, b"B", NOW) && guard.admits(other, b"A", NOW));
        assert!(!guard.admits(PEER, b"A", NOW) && !guard.admits(PEER, b"B", NOW));
        assert!(guard.admits(PEER, b"A", NOW + MIN_REPLY_INTERVAL));
    }
}
