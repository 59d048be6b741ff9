//! Syntax of the Host field and of the authority in an absolute-form target.
//! Implements RFC 3986 §3.2.2 without user information, as RFC 9110 §7.2 requires. A host that a proxy and this
//! server could parse differently is rejected, because that difference is used to smuggle requests.

use std::net::Ipv6Addr;

/// Returns true if `text` is `uri-host [ ":" port ]` with a non-empty host and a port up to 65535.
pub(super) fn is_authority(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let (host_is_good, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, after)) => (address.parse::<Ipv6Addr>().is_ok(), after),
            None => return false,
        },
        None => match text.find(':') {
            Some(colon) => (is_name(&text[..colon]), &text[colon..]),
            None => (is_name(text), ""),
        },
    };
    host_is_good && is_port(port)
}

/// Returns true for a reg-name or IPv4 address. A name of dots only is rejected.
fn is_name(name: &str) -> bool {
    name.bytes().any(|byte| byte != b'.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=".contains(&byte))
}

/// Returns true for an empty text, or a colon and a port; RFC 3986 allows the port to be empty.
fn is_port(text: &str) -> bool {
    match text.strip_prefix(':') {
        None => text.is_empty(),
        Some("") => true,
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.parse::<u16>().is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::is_authority;

    #[test]
    fn hosts_with_and_without_a_port_are_accepted() {
        for good in ["localhost", "a.example:80", "127.0.0.1:6789", "[::1]", "[::1]:0", "h:", "xn--bcher-kva.example"] {
            assert!(is_authority(good.as_bytes()), "{good}");
        }
    }

    #[test]
    fn anything_two_parsers_could_read_differently_is_rejected() {
        for bad in [
            "",
            ".",
            "..",
            "a, b",
            "a,b",
            "u@h",
            "h/p",
            "bad host",
            "h:65536",
            "h:+1",
            "h:8a",
            "[::1",
            "[::1]x",
            "[1.2.3.4]",
            "h:80:90",
            "h?q",
            "h#f",
            "h\\p",
        ] {
            assert!(!is_authority(bad.as_bytes()), "{bad}");
        }
        assert!(!is_authority(b"h\xff"));
    }
}
