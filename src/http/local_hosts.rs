//! Host names of a server that only this machine can reach.
//!
//! Owns the protection against DNS rebinding: the name of an attacker's page can be made to resolve to a loopback
//! address, and then a browser lets the page read this server. The Host field still has the attacker's name.

use std::net::IpAddr;
use std::sync::Arc;

/// Host names that are accepted besides address literals, `localhost` and the names below it (RFC 6761 §6.3).
#[derive(Clone, Debug, Default)]
pub(crate) struct LocalHosts(Arc<[String]>);

impl LocalHosts {
    pub(crate) fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self(names.into_iter().collect())
    }

    /// Returns whether a Host field, with or without a port, names this machine.
    pub(crate) fn accepts(&self, host: &str) -> bool {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => name,
            _ => host,
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        let is_below_localhost = || {
            let (start, end) = name.split_at_checked(name.len().saturating_sub(".localhost".len()))?;
            Some(!start.is_empty() && end.eq_ignore_ascii_case(".localhost"))
        };
        address.parse::<IpAddr>().is_ok()
            || name.eq_ignore_ascii_case("localhost")
            || is_below_localhost() == Some(true)
            || self.0.iter().any(|known| known.eq_ignore_ascii_case(name))
    }
}

#[cfg(test)]
mod tests {
    use super::LocalHosts;

    #[test]
    fn only_names_of_this_machine_are_accepted() {
        let hosts = LocalHosts::new(["lab.example".to_owned()]);
        for host in [
            "localhost",
            "LOCALHOST:80",
            "localhost.",
            "a.localhost:1",
            "127.0.0.1",
            "192.0.2.1:80",
            "[::1]",
            "[::1]:80",
            "Lab.Example:6789",
        ] {
            assert!(hosts.accepts(host), "{host}");
        }
        for host in
            ["evil.example", "localhost.evil.example", ".localhost", "xlocalhost", "x.lab.example", "", "é.localhos"]
        {
            assert!(!hosts.accepts(host), "{host}");
        }
    }
}
