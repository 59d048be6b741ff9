//! What a server does not answer.
//!
//! Owns the rules that keep an echo from being turned against others. An echo answers anybody, so
//! one forged datagram could set two of them on each other for ever (CVE-2024-2169), or bury a
//! victim in answers. A refusal is silent: an error message would be an answer too.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use super::stamp::StampError;

/// Why a datagram gets no answer, apart from deliberate loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EchoRefusal {
    /// It did not fit the buffer; half an answer would be a wrong one.
    Oversize,
    /// It claims to come from a port where a service sits that would answer the answer.
    BadSource,
    /// It is an answer coming round again.
    Loop,
    /// More than its network, or everybody together, is allowed.
    RateLimited,
    /// A NUL octet but no STAMP packet.
    Malformed,
    /// STAMP with the wrong key, or one where none was expected, or none where one was.
    Unauthentic,
}

impl From<StampError> for EchoRefusal {
    fn from(wrong: StampError) -> Self {
        match wrong {
            StampError::TooShort => Self::Malformed,
            StampError::Unauthentic => Self::Unauthentic,
        }
    }
}

impl fmt::Display for EchoRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Oversize => "larger than the buffer",
            Self::BadSource => "source port of a service that would answer back",
            Self::Loop => "an answer coming round again",
            Self::RateLimited => "over the rate limit",
            Self::Malformed => "neither text nor STAMP",
            Self::Unauthentic => "not authentic",
        })
    }
}

/// No port at all, and those of services that answer whatever they get: echo, daytime, quote of
/// the day, chargen, DNS, TFTP, NTP.
const REPLYING_PORTS: [u16; 8] = [0, 7, 13, 17, 19, 53, 69, 123];

/// Whether an answer to this peer would go to a service, or to ourselves.
pub(super) fn is_bad_source(peer: SocketAddr, local: Option<IpAddr>, own_addresses: &[SocketAddr]) -> bool {
    REPLYING_PORTS.contains(&peer.port())
        || own_addresses.iter().any(|own| {
            let address = peer.ip().to_canonical();
            let here = own.ip().to_canonical() == address || local.is_some_and(|local| local.to_canonical() == address);
            own.port() == peer.port() && here
        })
}

#[cfg(test)]
mod tests {
    use super::{REPLYING_PORTS, is_bad_source};
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};

    const OWN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)), 12_000);

    #[test]
    fn ports_that_answer_back_are_not_answered() {
        for port in REPLYING_PORTS {
            let peer = SocketAddr::new([198, 51, 100, 1].into(), port);
            assert!(is_bad_source(peer, None, &[]), "{port}");
        }
    }

    #[test]
    fn our_own_address_is_not_answered_and_our_port_elsewhere_is() {
        let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 12_000);
        assert!(is_bad_source(OWN, None, &[OWN]));
        assert!(is_bad_source(OWN, Some(OWN.ip()), &[any]));
        assert!(!is_bad_source(SocketAddr::new(OWN.ip(), 12_001), None, &[OWN]));
        let other = SocketAddr::new([198, 51, 100, 1].into(), 12_000);
        assert!(!is_bad_source(other, Some(OWN.ip()), &[any, OWN]));
    }
}
