//! Address of the client behind a proxy: Forwarded (RFC 7239) and X-Forwarded-For.
//!
//! Owns the syntax, and the rule that only what a trusted proxy has added counts: each proxy appends the address of its
//! own peer, so the list is read from its end, and what lies before the first untrusted address may be invented.

use std::net::{IpAddr, SocketAddr};

use super::field_lines::FieldLines;

/// Returns the address of the client of a request from a trusted proxy; `None` if the proxy does not tell it.
pub(crate) fn forwarded_client(fields: FieldLines<'_>, is_trusted: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let addresses: Vec<_> = if fields.has("forwarded") {
        fields.list("forwarded").map(forwarded_for).collect()
    } else {
        fields.list("x-forwarded-for").map(parse_node).collect()
    };
    let mut client = None;
    for address in addresses.into_iter().rev() {
        client = Some(address?);
        if !client.is_some_and(&is_trusted) {
            break;
        }
    }
    client
}

/// Address of the parameter `for` of one element of Forwarded.
fn forwarded_for(element: &[u8]) -> Option<IpAddr> {
    element.split(|byte| *byte == b';').map(<[u8]>::trim_ascii).find_map(|pair| {
        let (name, value) = pair.split_at_checked(b"for=".len())?;
        name.eq_ignore_ascii_case(b"for=").then(|| parse_node(value)).flatten()
    })
}

/// Parses an address with or without a port, quotes and brackets; `unknown` and obfuscated names have none.
fn parse_node(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?.trim_matches('"');
    let address = text.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()));
    address.or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::{FieldLines, forwarded_client};

    fn client(lines: &str) -> Option<String> {
        let lines = format!("{lines}\r\n\r\n");
        let trusted = ["10.0.0.1", "10.0.0.2"].map(|address| address.parse().expect("an address"));
        forwarded_client(FieldLines::new(lines.as_bytes()), |address| trusted.contains(&address))
            .map(|address| address.to_string())
    }

    #[test]
    fn the_client_is_the_last_address_outside_the_trusted_proxies() {
        for (lines, expected) in [
            ("X-Forwarded-For: 192.0.2.1", Some("192.0.2.1")),
            ("X-Forwarded-For: 198.51.100.9, 192.0.2.1, 10.0.0.2", Some("192.0.2.1")),
            ("X-Forwarded-For: 198.51.100.9\r\nX-Forwarded-For: 2001:db8::1", Some("2001:db8::1")),
            ("X-Forwarded-For: 10.0.0.2, 10.0.0.1", Some("10.0.0.2")),
            ("X-Forwarded-For: 192.0.2.1:4711", Some("192.0.2.1")),
            ("Forwarded: for=192.0.2.60;proto=http;by=203.0.113.43", Some("192.0.2.60")),
            ("Forwarded: proto=http; For=\"[2001:db8::17]:4711\"", Some("2001:db8::17")),
            ("Forwarded: for=\"[2001:db8::17]\"\r\nX-Forwarded-For: 192.0.2.1", Some("2001:db8::17")),
            ("Forwarded: for=192.0.2.1, for=unknown", None),
            ("X-Forwarded-For: evil\x1b, _hidden", None),
            ("Host: h", None),
        ] {
            assert_eq!(client(lines).as_deref(), expected, "{lines}");
        }
    }
}
