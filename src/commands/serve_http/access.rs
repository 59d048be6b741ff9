//! Access to the site: which host names, which users, which scripts of other origins.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::Args;

use crate::commands::auth_file::read_users;
use crate::commands::web::{error_page, misdirected_response};
use crate::error::Result;
use crate::http::{BASIC_CHALLENGE, BasicUsers, FieldLines, LocalHosts, Request, Response, Status, forwarded_client};
use crate::stop::StopConditions;

/// Fields that a script of another origin can read besides those of the Fetch standard: a range is of no use without
/// them.
const EXPOSED_FIELDS: &str = "Accept-Ranges, Content-Encoding, Content-Range, ETag";
/// Seconds for which a browser remembers the answer to a preflight request.
const PREFLIGHT_MAX_AGE: &str = "7200";

#[derive(Debug, Args)]
pub(super) struct AccessArgs {
    /// Require the user and password of a line of FILE (Basic authentication)
    ///
    /// Each line is user:password. The file must not be readable for other users.
    #[arg(long, value_name = "FILE", hide_short_help = true, help_heading = "Access")]
    pub auth_file: Option<PathBuf>,

    /// Also answer requests for this host name; repeatable
    ///
    /// On loopback addresses, only requests for localhost, for IP addresses and for the name in --bind are answered; others
    /// get 421, because a page of another site could let its name resolve to this machine (DNS rebinding).
    #[arg(long, value_name = "NAME", value_parser = host_name, hide_short_help = true, help_heading = "Access")]
    pub allow_host: Vec<String>,

    /// Log the client that this proxy names in Forwarded or X-Forwarded-For; repeatable
    ///
    /// ADDR is the IP address of the proxy, or 'unix' for clients of a Unix socket.
    #[arg(long, value_name = "ADDR", value_parser = proxy, hide_short_help = true, help_heading = "Access")]
    pub trust_proxy: Vec<Proxy>,

    /// Let scripts of all origins read the files (CORS)
    #[arg(long, hide_short_help = true, help_heading = "Access")]
    pub cors: bool,
}

/// Proxy whose Forwarded and X-Forwarded-For fields are trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proxy {
    Unix,
    Address(IpAddr),
}

/// Parses `--trust-proxy`.
fn proxy(text: &str) -> Result<Proxy, String> {
    if text == "unix" {
        return Ok(Proxy::Unix);
    }
    text.parse().map(Proxy::Address).map_err(|_| "expected an IP address, or unix".to_owned())
}

/// Parses `--allow-host`: a name as in a URL, without scheme and port.
fn host_name(text: &str) -> Result<String, String> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if text.is_empty() || !text.bytes().all(is_allowed) {
        return Err("expected a host name without scheme and port, such as lab.example".to_owned());
    }
    Ok(text.to_owned())
}

/// Rules that come before the choice of a file.
pub(super) struct AccessRules {
    /// Present if only this machine can connect.
    hosts: Option<LocalHosts>,
    users: Option<BasicUsers>,
    trusted_proxies: Vec<Proxy>,
    is_cors: bool,
}

impl AccessRules {
    /// Reads the users; `names` are the host names of the listeners, of a server that only this machine can reach.
    pub(super) fn new(
        args: &AccessArgs,
        names: Option<impl Iterator<Item = String>>,
        stop: &StopConditions,
    ) -> Result<Self> {
        let users = args.auth_file.as_deref().map(|file| read_users(file, stop)).transpose()?;
        let users = users.map(|users| BasicUsers::new(users.iter().map(|(user, password)| (user.as_str(), password))));
        let hosts = names.map(|names| LocalHosts::new(names.chain(args.allow_host.iter().cloned())));
        Ok(Self { hosts, users, trusted_proxies: args.trust_proxy.clone(), is_cors: args.cors })
    }

    /// Rejects a request that has no access. A preflight request has no credentials (Fetch standard §3.2.2), and a client
    /// of a Unix socket is a program, not a browser.
    pub(super) fn reject(&self, request: &Request<'_>, peer: Option<SocketAddr>) -> Option<Response> {
        let is_known = |host: &str| self.hosts.as_ref().is_none_or(|hosts| hosts.accepts(host));
        if peer.is_some() && !request.host.is_none_or(is_known) {
            return Some(misdirected_response().because("the Host field does not name this machine (--allow-host)"));
        }
        let users = self.users.as_ref().filter(|_| request.method != "OPTIONS")?;
        (!users.authenticate(request.fields)).then(|| {
            error_page(Status::UNAUTHORIZED, "This site requires a user name and a password.")
                .with_field("WWW-Authenticate", BASIC_CHALLENGE)
                .because("no valid user and password")
        })
    }

    /// Returns the address of the client that a trusted proxy names.
    pub(super) fn client_address(&self, fields: FieldLines<'_>, peer: Option<SocketAddr>) -> Option<IpAddr> {
        let peer = peer.map_or(Proxy::Unix, |peer| Proxy::Address(peer.ip().to_canonical()));
        let is_trusted = |proxy| self.trusted_proxies.contains(&proxy);
        if !is_trusted(peer) {
            return None;
        }
        forwarded_client(fields, |address| is_trusted(Proxy::Address(address)))
    }

    /// Adds the fields that let scripts of other origins read the response.
    pub(super) fn add_fields(&self, response: &mut Response) {
        if !self.is_cors {
            return;
        }
        response.replace_field("Access-Control-Allow-Origin", "*");
        if response.status == Status::NO_CONTENT {
            response.replace_field("Access-Control-Allow-Methods", "GET, HEAD, OPTIONS");
            response.replace_field("Access-Control-Allow-Headers", "*, Authorization");
            response.replace_field("Access-Control-Max-Age", PREFLIGHT_MAX_AGE);
        } else {
            response.replace_field("Access-Control-Expose-Headers", EXPOSED_FIELDS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{AccessArgs, AccessRules, FieldLines, Proxy, host_name, proxy};
    use crate::http::Request;
    use crate::stop::tests::never;

    #[test]
    fn only_trusted_proxies_name_their_client() {
        let trust_proxy = ["unix", "10.0.0.1"].map(|text| proxy(text).expect("a proxy")).to_vec();
        let args = AccessArgs { auth_file: None, allow_host: vec![], trust_proxy, cors: false };
        let rules = AccessRules::new(&args, None::<std::iter::Empty<String>>, &never()).expect("no file");
        let head = b"GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n";
        let fields: FieldLines<'_> = Request::parse(head).expect("valid").fields;
        for (peer, is_named) in
            [(None, true), (Some("10.0.0.1:5"), true), (Some("[::ffff:10.0.0.1]:5"), true), (Some("10.0.0.2:5"), false)]
        {
            let address = peer.map(|peer| peer.parse().expect("an address"));
            assert_eq!(rules.client_address(fields, address).is_some(), is_named, "{peer:?}");
        }
        assert_eq!(proxy("unix"), Ok(Proxy::Unix));
        assert!(proxy("10.0.0.1:80").is_err() && proxy("lab").is_err());
    }

    #[test]
    fn an_allowed_host_has_neither_scheme_nor_port() {
        assert_eq!(host_name("lab.example").as_deref(), Ok("lab.example"));
        for wrong in ["", "http://lab.example", "lab.example:80", "a b"] {
            assert!(host_name(wrong).is_err(), "{wrong}");
        }
    }
}
