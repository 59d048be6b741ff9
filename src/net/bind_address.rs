//! Addresses of servers: the syntax of `--bind`, and the addresses that were bound.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// Value of one `--bind` flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BindAddress {
    /// `PORT`: `127.0.0.1` and `::1`.
    Loopback(u16),
    /// `*:PORT`: all addresses of both families.
    Wildcard(u16),
    /// `HOST:PORT`: all addresses of the name.
    Host(String, u16),
    /// `unix:PATH`: a Unix stream socket.
    Unix(PathBuf),
}

impl FromStr for BindAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected PORT, HOST:PORT or *:PORT";
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err("expected unix:PATH".into()) } else { Ok(Self::Unix(path.into())) };
        }
        let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
        if text.starts_with('[') && text.ends_with(']') || (!text.contains(':') && text.parse::<Ipv4Addr>().is_ok()) {
            return Err(format!("missing port: write {text}:8080, or {text}:0 for any free port"));
        }
        if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
            return Err(format!("an IPv6 address needs brackets: [{host}]:{port}"));
        }
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port =
            port.parse().ok().filter(|_| digits).ok_or_else(|| format!("{EXPECTED}, with a port from 0 to 65535"))?;
        match host {
            "" if text.contains(':') => Err(EXPECTED.into()),
            "" => Ok(Self::Loopback(port)),
            "*" => Ok(Self::Wildcard(port)),
            host => Ok(Self::Host(host.trim_matches(['[', ']']).to_owned(), port)),
        }
    }
}

/// Address of a bound socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// IP address with the port that the kernel assigned.
    Inet(SocketAddr),
    Unix(PathBuf),
}

impl Address {
    /// Returns the socket address; `None` for a Unix socket.
    pub(crate) fn inet(&self) -> Option<SocketAddr> {
        if let Self::Inet(address) = self { Some(*address) } else { None }
    }

    /// Returns whether other machines may be able to connect.
    pub(crate) fn is_public(&self) -> bool {
        matches!(self, Self::Inet(address) if !address.ip().is_loopback())
    }

    /// Returns the addresses that a client can use: this one, or for an unspecified one those of all
    /// interfaces in its family.
    pub(crate) fn reachable(&self) -> Vec<Self> {
        let Self::Inet(address) = self else { return vec![self.clone()] };
        if !address.ip().is_unspecified() {
            return vec![self.clone()];
        }
        let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten().filter_map(|interface| interface.address);
        let mut reachable: Vec<_> = interfaces
            .filter_map(|found| match (address, found.as_sockaddr_in(), found.as_sockaddr_in6()) {
                (SocketAddr::V4(_), Some(v4), _) => Some(IpAddr::V4(v4.ip())),
                // A link-local address needs its scope, which no browser accepts in a URL.
                (SocketAddr::V6(_), _, Some(v6)) if !v6.ip().is_unicast_link_local() => Some(IpAddr::V6(v6.ip())),
                _ => None,
            })
            .map(|ip| Self::Inet(SocketAddr::new(ip, address.port())))
            .collect();
        reachable.dedup();
        if reachable.is_empty() { vec![self.clone()] } else { reachable }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::BindAddress;
    use std::path::PathBuf;

    #[test]
    fn a_bind_is_a_port_a_host_a_wildcard_or_a_path() {
        for (text, expected) in [
            ("6789", BindAddress::Loopback(6789)),
            ("0", BindAddress::Loopback(0)),
            ("*:80", BindAddress::Wildcard(80)),
            ("127.0.0.1:1", BindAddress::Host("127.0.0.1".into(), 1)),
            ("[::1]:1", BindAddress::Host("::1".into(), 1)),
            ("localhost:65535", BindAddress::Host("localhost".into(), 65535)),
            ("unix:/tmp/s", BindAddress::Unix(PathBuf::from("/tmp/s"))),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn the_error_for_an_invalid_bind_address_shows_the_correct_form() {
        for (text, word) in [
            ("::1:80", "[::1]:80"),
            ("[::1]", "missing port"),
            ("127.0.0.1", "missing port"),
            ("65536", "65535"),
            ("-1", "65535"),
            ("", "PORT"),
            (":80", "HOST:PORT"),
            ("h:", "65535"),
            ("h:٨", "65535"),
            ("h:+1", "65535"),
            ("unix:", "unix:PATH"),
        ] {
            let error = text.parse::<BindAddress>().expect_err(text);
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
