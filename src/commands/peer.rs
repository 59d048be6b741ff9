//! Peer as typed on the command line, and the choice of its address family.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::failure::{Failure, FailureKind};
use crate::net::{self, Signals};
use crate::time::Moment;

/// Peer as typed: `HOST[:PORT]`, IPv6 in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    /// Host name or address, IPv6 without brackets.
    pub host: String,
    pub port: Option<u16>,
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or("expected [ADDRESS]:PORT")?)),
            None if text.contains("://") => return Err("expected HOST or HOST:PORT, not a URL".to_owned()),
            None if text.parse::<Ipv6Addr>().is_ok() => {
                return Err(format!("an IPv6 address needs brackets; expected [{text}] or [{text}]:PORT"));
            }
            None if text.starts_with('[') || text.matches(':').count() > 1 => {
                return Err("expected HOST, HOST:PORT or [ADDRESS]:PORT".to_owned());
            }
            None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
        };
        if host.is_empty() || host.chars().any(|c| c.is_whitespace() || c.is_control() || "[]/@".contains(c)) {
            return Err("expected HOST or HOST:PORT".to_owned());
        }
        let port = port.map(|port| match port.parse() {
            Ok(port @ 1..) if has_numeric_port(text) => Ok(port),
            _ => Err("expected a port number from 1 to 65535".to_owned()),
        });
        Ok(Self { host: host.to_owned(), port: port.transpose()? })
    }
}

/// Joins a host and a port that were typed as two words, as textbooks write them; returns a note about it.
pub(super) fn join_textbook_port(peers: &[Peer]) -> (Vec<Peer>, Option<String>) {
    let [host @ Peer { port: None, .. }, Peer { host: number, port: None }] = peers else {
        return (peers.to_vec(), None);
    };
    match number.parse() {
        Ok(port @ 1..) if has_numeric_port(number) => {
            let shown = if host.host.contains(':') { format!("[{}]", host.host) } else { host.host.clone() };
            let note = format!("note: '{shown} {port}' is read as {shown}:{port}");
            (vec![Peer { host: host.host.clone(), port: Some(port) }], Some(note))
        }
        _ => (peers.to_vec(), None),
    }
}

/// Rejects a number in place of a host: the resolver would take it for an IPv4 address in one piece.
pub(super) fn check_hosts(peers: &[Peer]) -> Result<()> {
    match peers.iter().find(|peer| peer.host.bytes().all(|byte| byte.is_ascii_digit())) {
        Some(number) => Err(Error::new(Exit::Usage, format!("'{}' is not a host", number.host))
            .expected("HOST:PORT, or HOST PORT for one target, with a port from 1 to 65535")),
        None => Ok(()),
    }
}

/// Returns true if the port has digits only; Rust's integer parser also accepts `+80`.
fn has_numeric_port(text: &str) -> bool {
    text.rsplit(':').next().is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Flags that select the addresses of a client: the family and the source.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(super) struct AddressArgs {
    /// Use IPv4 only
    #[arg(short = '4', long = "ipv4", conflicts_with = "ipv6", hide_short_help = true, help_heading = "Network")]
    ipv4: bool,

    /// Use IPv6 only
    #[arg(short = '6', long = "ipv6", hide_short_help = true, help_heading = "Network")]
    ipv6: bool,

    /// Send from this local address
    #[arg(long, value_name = "ADDR", value_parser = ip_address, hide_short_help = true, help_heading = "Network")]
    pub source: Option<IpAddr>,
}

fn ip_address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| "expected an IP address of this machine, such as 127.0.0.1 or ::1".to_owned())
}

impl AddressArgs {
    /// Resolves a peer to its first address of the wanted family.
    pub(super) fn resolve(
        self,
        peer: &Peer,
        port: u16,
        deadline: Option<Moment>,
        signals: &mut Signals,
    ) -> Result<SocketAddr> {
        let addresses = self.resolve_all(peer, port, deadline, signals)?;
        Ok(addresses.first().copied().expect("resolve_all returns at least one address"))
    }

    /// Resolves a peer to its addresses of the wanted family, at least one, before `deadline`.
    pub(super) fn resolve_all(
        self,
        peer: &Peer,
        port: u16,
        deadline: Option<Moment>,
        signals: &mut Signals,
    ) -> Result<Vec<SocketAddr>, Failure> {
        let limit = net::now() + Duration::from_secs(30);
        let limit = deadline.map_or(limit, |deadline| deadline.min(limit));
        let addresses = net::resolve(&peer.host, peer.port.unwrap_or(port), limit, signals)?;
        self.select(&peer.host, addresses)
    }

    /// Selects the addresses of the wanted family and of that of the source, at least one.
    pub(super) fn select(self, host: &str, mut addresses: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Failure> {
        // IPv4-mapped addresses (RFC 4291 §2.5.5.2) are contacted over IPv4 and reported as IPv4 addresses.
        addresses.iter_mut().for_each(|address| address.set_ip(address.ip().to_canonical()));
        addresses.retain(|address| if address.is_ipv6() { !self.ipv4 } else { !self.ipv6 });
        if !addresses.is_empty() {
            return self.select_source_family(host, addresses);
        }
        let family = if self.ipv4 { "IPv4" } else { "IPv6" };
        // A literal address has one family, so the flag is wrong; a name may have no address of that family yet.
        let is_literal = host.parse::<IpAddr>().is_ok();
        let kind = if is_literal { FailureKind::TargetFamily } else { FailureKind::NoAddressInFamily };
        Err(Failure::new(kind, format!("{host} has no {family} address"))
            .expected(format!("a target with an {family} address")))
    }

    fn select_source_family(self, host: &str, mut addresses: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Failure> {
        let Some(source) = self.source else { return Ok(addresses) };
        addresses.retain(|address| address.is_ipv4() == source.is_ipv4());
        if !addresses.is_empty() {
            return Ok(addresses);
        }
        Err(Failure::new(FailureKind::SourceFamily, format!("cannot send from {source} to {host}"))
            .expected("a source address of the target's family"))
    }
}

impl Peer {
    /// Formats the peer as it was typed, with its port.
    pub(super) fn host_and_port(&self, address: SocketAddr) -> String {
        match address {
            SocketAddr::V6(_) if self.host.contains(':') => format!("[{}]:{}", self.host, address.port()),
            _ => format!("{}:{}", self.host, address.port()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Peer;

    #[test]
    fn a_peer_is_a_host_with_or_without_a_port() {
        let peer = |text: &str| text.parse::<Peer>().map(|peer| (peer.host, peer.port));
        assert_eq!(peer("h"), Ok(("h".into(), None)));
        assert_eq!(peer("127.0.0.1:12000"), Ok(("127.0.0.1".into(), Some(12000))));
        assert_eq!(peer("[::1]"), Ok(("::1".into(), None)));
        assert_eq!(peer("[::1]:1"), Ok(("::1".into(), Some(1))));
        assert!(peer("::1:80").is_err_and(|error| error.contains("brackets")));
        for text in ["[::1", "127.0.0.1:1:2"] {
            assert!(peer(text).is_err_and(|error| !error.contains("[[") && !error.contains("[127")), "{text}");
        }
        for text in [
            "",
            ":80",
            "h:",
            "h:0",
            "h:65536",
            "h:-1",
            "h:+1",
            "h:٨",
            "[::1]80",
            "h h",
            "u@h",
            "h/x",
            "[::1",
            "1:2:3",
            "http://h/",
        ] {
            assert!(peer(text).is_err(), "{text}");
        }
    }
}
