//! Rate limits per source prefix.
//!
//! Owns the prefix that a limit applies to ([`SourcePrefix`]) and the limit itself ([`TokenBucket`]). A
//! source address costs an attacker nothing, so state and replies per source are limited per network; this
//! host itself is exempt.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::time::Moment;

/// Network that shares a rate limit: an IPv4 address, or the IPv6 /56 of one customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SourcePrefix(u128);

impl SourcePrefix {
    /// Returns the prefix of a peer, or `None` for this host itself.
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

/// Token bucket, stored as the moment up to which it is used up ("virtual scheduling" in the generic cell
/// rate algorithm of ITU-T I.371). Allows a burst of one second's worth.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TokenBucket {
    theoretical_arrival: Option<Moment>,
}

impl TokenBucket {
    /// Takes one of `per_second` tokens; returns false if none is left.
    pub(crate) fn try_take(&mut self, per_second: u32, now: Moment) -> bool {
        const SECOND: Duration = Duration::from_secs(1);
        let interval = SECOND / per_second.max(1);
        let arrival = self.theoretical_arrival.filter(|arrival| *arrival > now).unwrap_or(now) + interval;
        let is_allowed = arrival - now <= SECOND;
        if is_allowed {
            self.theoretical_arrival = Some(arrival);
        }
        is_allowed
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
        let prefix = |text: &str| SourcePrefix::of(text.parse().expect("an address"));
        assert_eq!(prefix("127.0.0.1:1"), None);
        assert_eq!(prefix("[::1]:1"), None);
        assert_eq!(prefix("192.0.2.1:1"), prefix("[::ffff:192.0.2.1]:2"));
        assert_ne!(prefix("192.0.2.1:1"), prefix("192.0.2.2:1"));
        assert_eq!(prefix("[2001:db8:0:1::1]:1"), prefix("[2001:db8:0:ff::2]:1"));
        assert_ne!(prefix("[2001:db8:0:1::1]:1"), prefix("[2001:db8:0:100::1]:1"));
    }

    #[test]
    fn a_token_bucket_allows_a_burst_of_one_second_and_then_its_rate() {
        let mut bucket = TokenBucket::default();
        assert_eq!((0..500).filter(|_| bucket.try_take(100, NOW)).count(), 100);
        let later = NOW + Duration::from_millis(100);
        assert_eq!((0..500).filter(|_| bucket.try_take(100, later)).count(), 10);
    }
}
