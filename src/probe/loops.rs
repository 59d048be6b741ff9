//! The loop guard: two echoes set on each other die down.
//!
//! What upper-casing leaves alone goes round a loop of echoes unchanged, and what looks like a
//! reflector's packet may go round one of reflectors; a forged source address is enough to begin it. So
//! the same datagram of one peer is answered at most 20 times a second: people who send their
//! upper-case ping again are served, a loop is not, however many datagrams are in it.
//!
//! Owns what is remembered for that: 65,536 datagrams of the last twentieth of a second, in sets of
//! four by a hash that nobody outside can foresee. A set that is full of younger ones refuses the next,
//! so that a loop cannot make itself forgotten.

use std::hash::{BuildHasher as _, Hash as _, Hasher as _, RandomState};
use std::net::SocketAddr;
use std::time::Duration;

use crate::time::Moment;

/// A twentieth of a second.
const MIN_REPLY_INTERVAL: Duration = Duration::from_millis(50);
const SETS: usize = 16_384;
const WAYS: usize = 4;

/// A datagram that was answered.
#[derive(Clone, Copy, Default)]
struct RecentReply {
    digest: u64,
    /// Nanoseconds since the first one, and one; 0 is nobody.
    replied_at: u64,
}

/// Which datagrams were answered lately.
#[derive(Default)]
pub(super) struct LoopGuard {
    hasher: RandomState,
    /// Made with the first datagram that could be in a loop.
    sets: Option<(Moment, Vec<[RecentReply; WAYS]>)>,
}

impl LoopGuard {
    /// Whether a datagram that would come back the same may be answered. `bytes` are what is the same
    /// each time round.
    pub(super) fn admits(&mut self, peer: SocketAddr, bytes: &[u8], now: Moment) -> bool {
        let mut hasher = self.hasher.build_hasher();
        peer.hash(&mut hasher);
        hasher.write(bytes);
        let digest = hasher.finish();
        let (start, sets) = self.sets.get_or_insert_with(|| (now, vec![[RecentReply::default(); WAYS]; SETS]));
        let at = nanoseconds(now - *start).saturating_add(1);
        let is_old = |answered: &RecentReply| {
            answered.replied_at == 0 || at.saturating_sub(answered.replied_at) >= nanoseconds(MIN_REPLY_INTERVAL)
        };
        let set = usize::try_from(digest % SETS as u64).map_or(0, |set| set);
        let set = &mut sets[set];
        if set.iter().any(|answered| answered.digest == digest && !is_old(answered)) {
            return false;
        }
        let Some(place) = set.iter_mut().find(|answered| is_old(answered)) else { return false };
        *place = RecentReply { digest, replied_at: at };
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
    fn however_many_go_round_each_is_answered_at_most_twenty_times_a_second() {
        for datagrams in [1_u32, 2, 5, 100, 20_000] {
            let mut guard = LoopGuard::default();
            let mut answered = 0;
            // Twenty rounds in 100 ms.
            for round in 0..20 {
                let now = NOW + Duration::from_millis(5) * round;
                answered += (0..datagrams).filter(|number| guard.admits(PEER, &number.to_be_bytes(), now)).count();
            }
            let most = usize::try_from(datagrams).expect("small") * 2;
            assert!(answered <= most && answered > most / 2, "{datagrams}: {answered}");
        }
    }

    #[test]
    fn another_peer_another_datagram_or_some_patience_gets_an_answer() {
        let mut guard = LoopGuard::default();
        let other = SocketAddr::new(PEER.ip(), 12_001);
        assert!(guard.admits(PEER, b"A", NOW) && guard.admits(PEER, b"B", NOW) && guard.admits(other, b"A", NOW));
        assert!(!guard.admits(PEER, b"A", NOW) && !guard.admits(PEER, b"B", NOW));
        assert!(guard.admits(PEER, b"A", NOW + MIN_REPLY_INTERVAL));
    }
}
