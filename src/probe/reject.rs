//! Datagrams that the echo server drops, to prevent reply loops and reflection attacks.
//!
//! An echo server replies to any source address. One forged datagram could make two servers answer each
//! other endlessly (CVE-2024-2169), or flood a victim with replies. Datagrams are dropped silently: an
//! error message would be a reply, too.

use std::net::{IpAddr, SocketAddr};

use schemars::JsonSchema;
use serde::Serialize;

use super::stamp::StampError;

/// Reason for rejecting a datagram, apart from injected loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EchoRejectReason {
    /// Larger than the receive buffer; echoing the truncated part would look like corruption.
    Oversize,
    /// The source port belongs to a service that answers any datagram, or the source is this server.
    BadSource,
    /// Suspected reply of another echo server (see [`super::loop_guard`]).
    Loop,
    /// Over the rate limit of the source network or of all sources together.
    RateLimited,
    /// Contains a NUL byte but is too short for a STAMP packet.
    Malformed,
    /// STAMP packet with a wrong, missing or unexpected HMAC.
    Unauthentic,
}

impl From<StampError> for EchoRejectReason {
    fn from(error: StampError) -> Self {
        match error {
            StampError::TooShort => Self::Malformed,
            StampError::Unauthentic => Self::Unauthentic,
        }
    }
}

/// Port 0, which cannot be replied to, and the ports of services that answer any datagram: echo, daytime,
/// quote of the day, chargen, DNS, TFTP, NTP.
const REPLYING_PORTS: [u16; 8] = [0, 7, 13, 17, 19, 53, 69, 123];

/// Returns whether a reply to this peer would reach such a service, or this server itself.
pub(super) fn is_bad_source(peer: SocketAddr, local: Option<IpAddr>, own_addresses: &[SocketAddr]) -> bool {
    REPLYING_PORTS.contains(&peer.port())
        || own_addresses.iter().any(|own| {
            let address = peer.ip().to_canonical();
            let is_local =
                own.ip().to_canonical() == address || local.is_some_and(|local| local.to_canonical() == address);
            own.port() == peer.port() && is_local
        })
}

#[cfg(test)]
mod tests {
    use super::{REPLYING_PORTS, is_bad_source};
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};

    const OWN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)), 12_000);

    #[test]
    fn source_ports_of_replying_services_are_not_answered() {
        for port in REPLYING_PORTS {
            let peer = SocketAddr::new([198, 51, 100, 1].into(), port);
            assert!(is_bad_source(peer, None, &[]), "{port}");
        }
    }

    #[test]
    fn our_own_address_is_not_answered_but_our_port_on_another_host_is() {
        let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 12_000);
        assert!(is_bad_source(OWN, None, &[OWN]));
        assert!(is_bad_source(OWN, Some(OWN.ip()), &[any]));
        assert!(!is_bad_source(SocketAddr::new(OWN.ip(), 12_001), None, &[OWN]));
        let other = SocketAddr::new([198, 51, 100, 1].into(), 12_000);
        assert!(!is_bad_source(other, Some(OWN.ip()), &[any, OWN]));
    }
}
