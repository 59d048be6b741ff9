//! Field lines: names, values and lists (RFC 9110 §5).
//!
//! Owns the lookup in a parsed header section. Names are case-insensitive, values are bytes (obs-text is
//! opaque, RFC 9110 §5.5).

use httparse::Header;

use crate::protocol::Violation;

const SEVERAL_LENGTHS: Violation = Violation::new("more than one Content-Length", "exactly one", "RFC 9112 §6.3");
const INVALID_LENGTH: Violation =
    Violation::new("invalid Content-Length", "a decimal number without sign and leading zeros", "RFC 9110 §8.6");

/// Maximum number of field lines in a head; a server answers more with 431, a client reports an error.
pub(super) const MAX_FIELDS: usize = 100;

/// Field lines of one head, in order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'h, 'b>(&'h [Header<'b>]);

impl<'h, 'b> Fields<'h, 'b> {
    pub(super) fn new(headers: &'h [Header<'b>]) -> Self {
        Self(headers)
    }

    /// Returns all values of the field `name`, in order.
    pub(super) fn all(self, name: &str) -> impl Iterator<Item = &'b [u8]> + use<'h, 'b, '_> {
        self.0.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
    }

    /// Returns the first value of the field `name`.
    pub(super) fn first(self, name: &str) -> Option<&'b [u8]> {
        self.all(name).next()
    }

    /// Returns the members of a comma-separated list field over all its lines, trimmed, without empty members
    /// (RFC 9110 §5.6.1.2).
    pub(super) fn list(self, name: &str) -> impl Iterator<Item = &'b [u8]> + use<'h, 'b, '_> {
        self.all(name).flat_map(|value| value.split(|byte| *byte == b',')).map(trim).filter(|member| !member.is_empty())
    }

    /// Returns true if the list field `name` has this member, ignoring case.
    pub(super) fn list_contains(self, name: &str, member: &str) -> bool {
        self.list(name).any(|found| found.eq_ignore_ascii_case(member.as_bytes()))
    }

    /// Returns all names and values, in order.
    pub(super) fn iter(self) -> impl Iterator<Item = (&'b str, &'b [u8])> + use<'h, 'b> {
        self.0.iter().map(|header| (header.name, header.value))
    }
}

/// Strips optional white space: SP and HTAB, nothing else (RFC 9110 §5.6.3). If one parser strips more than
/// another, they see different fields.
pub(super) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Returns true if `text` is a token (RFC 9110 §5.6.2), such as a method or a field name.
pub(crate) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

/// Returns true if `value` is a field value without line breaks or control characters (RFC 9110 §5.5).
pub(crate) fn is_field_value(value: &[u8]) -> bool {
    value.iter().all(|byte| matches!(byte, b'\t' | 0x20..=0x7e | 0x80..))
}

/// Parses Content-Length over all its lines.
///
/// Only a single value of digits is accepted. RFC 9110 §8.6 allows a recipient to merge equal values, but a
/// message with two lengths is more likely an attempt to smuggle a request.
pub(super) fn content_length(fields: Fields<'_, '_>) -> Result<Option<u64>, Violation> {
    let mut values = fields.all("content-length");
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(SEVERAL_LENGTHS);
    }
    let is_decimal =
        !value.is_empty() && value.iter().all(u8::is_ascii_digit) && (value.len() == 1 || value.first() != Some(&b'0'));
    if !is_decimal {
        return Err(INVALID_LENGTH);
    }
    let digits = std::str::from_utf8(value).map_err(|_| INVALID_LENGTH)?;
    digits.parse().map(Some).map_err(|_| INVALID_LENGTH)
}

#[cfg(test)]
mod tests {
    use super::{Fields, Violation, content_length, is_field_value, is_token, trim};
    use httparse::Header;

    fn lengths(values: &[&'static str]) -> Result<Option<u64>, Violation> {
        let headers: Vec<_> =
            values.iter().map(|value| Header { name: "Content-Length", value: value.as_bytes() }).collect();
        content_length(Fields::new(&headers))
    }

    #[test]
    fn one_decimal_number_is_a_length() {
        assert_eq!(lengths(&[]), Ok(None));
        assert_eq!(lengths(&["0"]), Ok(Some(0)));
        assert_eq!(lengths(&["18446744073709551615"]), Ok(Some(u64::MAX)));
    }

    #[test]
    fn every_other_spelling_is_rejected() {
        for bad in ["", "+5", "-0", "-1", "0x5", "1_0", "1e3", "5 5", "5, 5", "05", "18446744073709551616"] {
            assert!(lengths(&[bad]).is_err(), "{bad}");
        }
        assert!(lengths(&["5", "5"]).is_err());
        assert!(lengths(&["5", "7"]).is_err());
    }

    #[test]
    fn only_space_and_tab_are_white_space() {
        assert_eq!(trim(b" \tx \t"), b"x");
        assert_eq!(trim(b"\x0bx\xa0"), b"\x0bx\xa0");
        assert_eq!(trim(b"  "), b"");
    }

    #[test]
    fn lists_span_lines_and_skip_empty_members() {
        let headers = [Header { name: "connection", value: b"a,, Close " }, Header { name: "Connection", value: b"b" }];
        let fields = Fields::new(&headers);
        assert_eq!(fields.list("CONNECTION").collect::<Vec<_>>(), [&b"a"[..], b"Close", b"b"]);
        assert!(fields.list_contains("connection", "close"));
        assert!(!fields.list_contains("connection", "clos"));
    }

    #[test]
    fn tokens_and_values_have_no_line_breaks() {
        assert!(is_token(b"X-Y_z") && !is_token(b"") && !is_token(b"a b") && !is_token(b"a:"));
        assert!(is_field_value(b"a \t\xff") && !is_field_value(b"a\r\nb") && !is_field_value(b"a\0"));
    }
}
