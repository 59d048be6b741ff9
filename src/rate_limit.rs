//! What peers that nobody knows may take of us.
//!
//! Owns whom an allowance is counted against ([`Net`]) and how it is spent ([`Bucket`]). A source
//! address costs an attacker nothing, so what is kept or answered per source is limited per network;
//! this host itself is exempt.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::time::Moment;

/// What shares one allowance: an IPv4 address, or what one IPv6 customer is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SourcePrefix(u128);

impl SourcePrefix {
    /// The network of a peer, or `None` for this host itself.
    pub(crate) fn of(peer: SocketAddr) -> Option<Self> {
        let ip = peer.ip().to_canonical();
        if ip.is_loopback() {
            return None;
        }
        Some(match ip {
            IpAddr::V4(v4) => Self(v4.to_ipv6_mapped().to_bits()),
            IpAddr::V6(v6) => Self(v6.to_bits() >> 72 << 72),
        })
    }
}

/// A rate limit as the moment up to which it is used up (the "virtual scheduling" form of ITU-T
/// I.371's generic cell rate algorithm): one second's worth may come at once.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TokenBucket {
    theoretical_arrival: Option<Moment>,
}

impl TokenBucket {
    /// Takes one of `per_second`, or says that there is none.
    pub(crate) fn try_take(&mut self, per_second: u32, now: Moment) -> bool {
        const SECOND: Duration = Duration::from_secs(1);
        let each = SECOND / per_second.max(1);
        let spent = self.theoretical_arrival.filter(|spent| *spent > now).unwrap_or(now) + each;
        let room = spent - now <= SECOND;
        if room {
            self.theoretical_arrival = Some(spent);
        }
        room
    }
}

#[cfg(test)]
mod tests {
    use super::{SourcePrefix, TokenBucket};
    use crate::time::Moment;
    use std::time::Duration;

    const NOW: Moment = Moment::new(Duration::from_secs(1), Duration::ZERO);

    #[test]
    fn a_source_prefix_is_an_ipv4_address_or_an_ipv6_56_and_loopback_has_none() {
        let net = |text: &str| SourcePrefix::of(text.parse().expect("an address"));
        assert_eq!(net("127.0.0.1:1"), None);
        assert_eq!(net("[::1]:1"), None);
        assert_eq!(net("192.0.2.1:1"), net("[::ffff:192.0.2.1]:2"));
        assert_ne!(net("192.0.2.1:1"), net("192.0.2.2:1"));
        assert_eq!(net("[2001:db8:0:1::1]:1"), net("[2001:db8:0:ff::2]:1"));
        assert_ne!(net("[2001:db8:0:1::1]:1"), net("[2001:db8:0:100::1]:1"));
    }

    #[test]
    fn a_token_bucket_allows_a_burst_of_one_second_and_then_its_rate() {
        let mut bucket = TokenBucket::default();
        assert_eq!((0..500).filter(|_| bucket.try_take(100, NOW)).count(), 100);
        let later = NOW + Duration::from_millis(100);
        assert_eq!((0..500).filter(|_| bucket.try_take(100, later)).count(), 10);
    }
}
