//! Addresses of the envelope, read strictly.
//!
//! Owns RFC 5321 §4.1.2: `local-part "@" (domain / address-literal)` with its lengths (§4.5.3.1), and
//! the words beyond ASCII of RFC 6531. What an address holds is written into a command; a line end
//! in it would be another command.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::exit::Exit;

/// §4.5.3.1.1.
const MAX_LOCAL_PART_LENGTH: usize = 64;
/// §4.5.3.1.2.
const MAX_DOMAIN_LENGTH: usize = 255;
/// §4.5.3.1.3, without the angle brackets.
const MAX_MAILBOX_LENGTH: usize = 254;
/// RFC 1035 §2.3.4.
const MAX_LABEL_LENGTH: usize = 63;

/// An address to send to or from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Mailbox(String);

impl Mailbox {
    /// The address without brackets.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands behind the last `@`.
    pub(crate) fn domain(&self) -> &str {
        self.0.rsplit_once('@').map_or("", |(_, domain)| domain)
    }

    /// Whether it wants SMTPUTF8 (RFC 6531).
    pub(crate) fn is_internationalized(&self) -> bool {
        !self.0.is_ascii()
    }

    /// The same address in ASCII, its domain in A-labels (RFC 5890), for servers without SMTPUTF8. There
    /// is none if what stands before the @ is beyond ASCII: only its own server may say what that is.
    pub(crate) fn to_ascii(&self) -> Option<Self> {
        if self.0.is_ascii() {
            return Some(self.clone());
        }
        let (local, domain) = self.0.rsplit_once('@').filter(|(local, _)| local.is_ascii())?;
        match url::Host::parse(domain) {
            Ok(url::Host::Domain(domain)) => format!("{local}@{domain}").parse().ok(),
            _ => None,
        }
    }
}

impl FromStr for Mailbox {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |why: &str| {
            Error::new(Exit::InvalidInput, format!("{text:?} is no mail address: {why}")).expected("name@example.org")
        };
        if text.chars().any(char::is_control) {
            return Err(wrong("it holds control characters"));
        }
        let (local, domain) = text.rsplit_once('@').ok_or_else(|| wrong("there is no @"))?;
        if text.len() > MAX_MAILBOX_LENGTH || local.len() > MAX_LOCAL_PART_LENGTH || domain.len() > MAX_DOMAIN_LENGTH {
            return Err(wrong("it is too long"));
        }
        if !is_local_part(local) && local.contains(',') {
            return Err(wrong("it looks like several").remedy("say the flag once for each of them"));
        }
        if !is_local_part(local) {
            return Err(wrong("what stands before the @ is not allowed there"));
        }
        if !is_domain(domain) {
            return Err(wrong("what stands behind the @ is no domain"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a machine calls itself in EHLO and in a greeting (RFC 5321 §4.1.4): by its name, if that can be a
/// mail host's, else by its address as a literal (§4.1.3).
pub(crate) fn domain_or_address_literal(hostname: &str, address: IpAddr) -> String {
    if hostname.contains('.') && is_domain_or_address_literal(hostname) {
        return hostname.to_owned();
    }
    match address.to_canonical() {
        IpAddr::V4(address) => format!("[{address}]"),
        IpAddr::V6(address) => format!("[IPv6:{address}]"),
    }
}

/// Whether a machine can call itself so: a domain or an address literal.
pub(crate) fn is_domain_or_address_literal(text: &str) -> bool {
    text.is_ascii() && text.len() <= MAX_DOMAIN_LENGTH && is_domain(text)
}

/// Dot-string or quoted string.
fn is_local_part(local_part: &str) -> bool {
    if let Some(quoted) = local_part.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        let mut escaped = false;
        let fits = quoted.chars().all(|c| {
            let fits = escaped || !matches!(c, '"');
            escaped = !escaped && c == '\\';
            fits && (c == ' ' || !c.is_whitespace())
        });
        return fits && !escaped;
    }
    let is_atext = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || !c.is_ascii();
    local_part.split('.').all(|atom| !atom.is_empty() && atom.chars().all(|c| is_atext(c) && !c.is_whitespace()))
}

/// Labels, or an address in brackets.
fn is_domain(domain: &str) -> bool {
    if let Some(literal) = domain.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let v6 = literal.get(..5).filter(|tag| tag.eq_ignore_ascii_case("IPv6:")).and_then(|_| literal.get(5..));
        return v6.map_or_else(|| literal.parse::<Ipv4Addr>().is_ok(), |v6| v6.parse::<Ipv6Addr>().is_ok());
    }
    let is_label = |label: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || (!c.is_ascii() && !c.is_whitespace());
        (1..=MAX_LABEL_LENGTH).contains(&label.len())
            && label.chars().all(fits)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    domain.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::{Mailbox, domain_or_address_literal, is_domain_or_address_literal};

    #[test]
    fn a_domain_beyond_ascii_can_be_said_in_ascii_and_a_user_cannot() {
        let in_ascii = |text: &str| text.parse::<Mailbox>().expect(text).to_ascii().map(|mailbox| mailbox.to_string());
        assert_eq!(in_ascii("a@ex\u{e4}mple.org").as_deref(), Some("a@xn--exmple-cua.org"));
        assert_eq!(in_ascii("a@example.org").as_deref(), Some("a@example.org"));
        assert_eq!(in_ascii("j\u{f6}rg@example.org"), None);
    }

    #[test]
    fn a_machine_without_a_full_name_is_called_by_its_address() {
        let name = |name: &str, address: &str| domain_or_address_literal(name, address.parse().expect("an address"));
        assert_eq!(name("mx.x.test", "192.0.2.1"), "mx.x.test");
        assert_eq!(name("laptop", "192.0.2.1"), "[192.0.2.1]");
        assert_eq!(name("a b.c", "2001:db8::1"), "[IPv6:2001:db8::1]");
        assert_eq!(name("", "::ffff:192.0.2.1"), "[192.0.2.1]");
        for (text, fits) in
            [("localhost", true), ("[192.0.2.1]", true), ("a>b<c", false), ("", false), ("a\r\nb", false)]
        {
            assert_eq!(is_domain_or_address_literal(text), fits, "{text:?}");
        }
    }

    #[test]
    fn addresses_are_taken_or_refused() {
        let local = "l".repeat(64);
        let labels = ["d".repeat(63), "d".repeat(63), "d".repeat(61)].join(".");
        let (longest, longer) = (format!("{local}@{labels}"), format!("{local}@{labels}.dd"));
        for text in [
            "user@example.org",
            "u+tag@localhost",
            "\"a b\\\"c\"@example.org",
            "user@[192.0.2.1]",
            "user@[IPv6:2001:db8::1]",
            "jörg@exämple.org",
            "a.b@x-y.org",
            &longest,
        ] {
            assert!(text.parse::<Mailbox>().is_ok(), "{text}");
        }
        for text in [
            "",
            "user",
            "@example.org",
            "user@",
            "a b@example.org",
            ".a@example.org",
            "a..b@example.org",
            "a.@example.org",
            "user@-x.org",
            "user@x-.org",
            "user@x..org",
            "user@[1.2.3]",
            "user@[2001:db8::1]",
            "\"a\"b\"@example.org",
            "\"a\\\"@example.org",
            "<user@example.org>",
            "user@example.org,",
            "a@x\r\nRCPT TO:<evil@x>",
            "a\0@x",
            "a\u{85}@x",
            &format!("l{local}@x"),
            &longer,
        ] {
            assert!(text.parse::<Mailbox>().is_err(), "{text:?}");
        }
    }
}
