//! Envelope addresses, parsed strictly. Implements RFC 5321 §4.1.2: `local-part "@" (domain / address-literal)` with
//! its lengths (§4.5.3.1), and the non-ASCII characters of RFC 6531. Addresses are written into commands, so a line
//! end in one would inject a command.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::failure::{Failure, FailureKind, Result};

/// RFC 5321 §4.5.3.1.1.
const MAX_LOCAL_PART_LENGTH: usize = 64;
/// RFC 5321 §4.5.3.1.2.
const MAX_DOMAIN_LENGTH: usize = 255;
/// RFC 5321 §4.5.3.1.3, without the angle brackets.
const MAX_MAILBOX_LENGTH: usize = 254;
/// RFC 1035 §2.3.4.
const MAX_LABEL_LENGTH: usize = 63;

/// Sender or recipient address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Mailbox(String);

impl Mailbox {
    /// Returns the address without angle brackets.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the part after the last `@`.
    pub(crate) fn domain(&self) -> &str {
        self.0.rsplit_once('@').map_or("", |(_, domain)| domain)
    }

    /// Returns true if the address requires SMTPUTF8 (RFC 6531).
    pub(crate) fn is_internationalized(&self) -> bool {
        !self.0.is_ascii()
    }

    /// Returns the address with its domain in A-labels (RFC 5890), for servers without SMTPUTF8. `None` if the
    /// local part is not ASCII, since only its own server may interpret that.
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
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |why: &str| {
            let what = format!("'{}' is not a mail address: {why}", text.escape_debug());
            Failure::new(FailureKind::InvalidMessage, what).expected("name@example.org")
        };
        if text.chars().any(char::is_control) {
            return Err(wrong("it contains control characters"));
        }
        let (local, domain) = text.rsplit_once('@').ok_or_else(|| wrong("no @"))?;
        if text.len() > MAX_MAILBOX_LENGTH || local.len() > MAX_LOCAL_PART_LENGTH || domain.len() > MAX_DOMAIN_LENGTH {
            return Err(wrong("too long"));
        }
        if !is_local_part(local) && local.contains(',') {
            return Err(wrong("more than one address; expected one"));
        }
        if !is_local_part(local) {
            return Err(wrong("invalid local part"));
        }
        if !is_domain(domain) {
            return Err(wrong("invalid domain"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Returns the name for EHLO and for a greeting (RFC 5321 §4.1.4): the host name if it is fully qualified,
/// else the address as a literal (§4.1.3).
pub(crate) fn domain_or_address_literal(hostname: &str, address: IpAddr) -> String {
    if hostname.contains('.') && is_domain_or_address_literal(hostname) {
        return hostname.to_owned();
    }
    match address.to_canonical() {
        IpAddr::V4(address) => format!("[{address}]"),
        IpAddr::V6(address) => format!("[IPv6:{address}]"),
    }
}

/// Returns true for a domain or an address literal, as EHLO requires.
pub(crate) fn is_domain_or_address_literal(text: &str) -> bool {
    text.is_ascii() && text.len() <= MAX_DOMAIN_LENGTH && is_domain(text)
}

/// Returns true for a dot-string or a quoted string.
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

/// Returns true for dot-separated labels or an address in brackets.
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
    fn a_non_ascii_domain_has_an_ascii_form_and_a_non_ascii_local_part_has_none() {
        let in_ascii = |text: &str| text.parse::<Mailbox>().expect(text).to_ascii().map(|mailbox| mailbox.to_string());
        assert_eq!(in_ascii("a@ex\u{e4}mple.org").as_deref(), Some("a@xn--exmple-cua.org"));
        assert_eq!(in_ascii("a@example.org").as_deref(), Some("a@example.org"));
        assert_eq!(in_ascii("j\u{f6}rg@example.org"), None);
    }

    #[test]
    fn a_host_without_a_qualified_name_uses_its_address() {
        let name =
            |hostname: &str, address: &str| domain_or_address_literal(hostname, address.parse().expect("an address"));
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
    fn addresses_are_accepted_or_rejected() {
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
