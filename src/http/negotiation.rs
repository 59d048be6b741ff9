//! Content negotiation (RFC 9110 §12.5): the codings and the media type that a client accepts.
//!
//! Owns the syntax of quality values. The caller knows the representations that exist.

use super::field_lines::FieldLines;
use super::fields::trim;

/// Content coding of a response (RFC 9110 §8.4.1; br: RFC 7932, zstd: RFC 8878). Of two that a client wants alike, the
/// earlier one is preferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ContentCoding {
    Brotli,
    Zstd,
    Gzip,
}

impl ContentCoding {
    const ALL: [Self; 3] = [Self::Brotli, Self::Zstd, Self::Gzip];

    /// Name in Accept-Encoding and Content-Encoding.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }
}

/// Codings that a client accepts, the most wanted first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct AcceptedCodings {
    codings: [Option<ContentCoding>; 3],
    /// The client does not accept content without a coding.
    pub is_identity_refused: bool,
}

impl AcceptedCodings {
    #[cfg(test)]
    pub(crate) const NONE: Self = Self { codings: [None; 3], is_identity_refused: false };

    /// Reads Accept-Encoding. Codings that the client wants less than none are left out.
    pub(crate) fn new(fields: FieldLines<'_>) -> Self {
        if !fields.has("accept-encoding") {
            return Self::default();
        }
        let quality = |names: &[&str]| {
            let listed = |name: &str| fields.list("accept-encoding").find_map(|member| quality_of(member, name));
            names.iter().find_map(|name| listed(name)).or_else(|| listed("*"))
        };
        let identity = quality(&["identity"]);
        // Unless it is listed, content without a coding is wanted less than any coding, but accepted.
        let least = identity.unwrap_or(1).max(1);
        let mut wanted: Vec<_> = ContentCoding::ALL
            .into_iter()
            .filter_map(|coding| {
                let names: &[&str] = if coding == ContentCoding::Gzip { &["gzip", "x-gzip"] } else { &[coding.name()] };
                quality(names).filter(|quality| *quality >= least).map(|quality| (quality, coding))
            })
            .collect();
        wanted.sort_by_key(|(quality, _)| std::cmp::Reverse(*quality));
        let mut wanted = wanted.into_iter().map(|(_, coding)| coding);
        Self { codings: std::array::from_fn(|_| wanted.next()), is_identity_refused: identity == Some(0) }
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = ContentCoding> {
        self.codings.into_iter().flatten()
    }

    pub(crate) fn is_empty(self) -> bool {
        self.codings.iter().all(Option::is_none)
    }
}

/// Returns the quality of a media type in thousandths if Accept lists it by its own name: a range such as `*/*` says
/// nothing about what a client is made for.
pub(crate) fn accepted_by_name(fields: FieldLines<'_>, media_type: &str) -> u16 {
    fields.list("accept").find_map(|member| quality_of(member, media_type)).unwrap_or(0)
}

/// Quality of a list member in thousandths if it has this name: 1000 unless a weight follows. A malformed weight is 0.
fn quality_of(member: &[u8], name: &str) -> Option<u16> {
    let mut parts = member.split(|byte| *byte == b';').map(trim);
    if !parts.next()?.eq_ignore_ascii_case(name.as_bytes()) {
        return None;
    }
    let weight = parts.find_map(|part| match part {
        [b'q' | b'Q', b'=', value @ ..] => Some(value),
        _ => None,
    });
    Some(weight.map_or(1000, |value| parse_weight(value).unwrap_or(0)))
}

/// Parses `( "0" [ "." 0*3DIGIT ] ) / ( "1" [ "." 0*3("0") ] )` (RFC 9110 §12.4.2).
fn parse_weight(text: &[u8]) -> Option<u16> {
    let (whole, digits) = match text {
        [whole] => (whole, &[][..]),
        [whole, b'.', digits @ ..] if digits.len() <= 3 && digits.iter().all(u8::is_ascii_digit) => (whole, digits),
        _ => return None,
    };
    let fraction = (0..3).fold(0, |sum, at| sum * 10 + digits.get(at).map_or(0, |digit| u16::from(digit - b'0')));
    match whole {
        b'0' => Some(fraction),
        b'1' if fraction == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{AcceptedCodings, FieldLines, accepted_by_name, parse_weight};

    fn codings(value: &str) -> (String, bool) {
        let lines = format!("Accept-Encoding: {value}\r\n\r\n");
        let accepted = AcceptedCodings::new(FieldLines::new(lines.as_bytes()));
        let names: Vec<_> = accepted.iter().map(super::ContentCoding::name).collect();
        (names.join(" "), accepted.is_identity_refused)
    }

    #[test]
    fn codings_are_ordered_by_quality_and_then_by_our_preference() {
        for (value, expected) in [
            ("gzip, deflate, br, zstd", "br zstd gzip"),
            ("gzip;q=1.0, br;q=0.5", "gzip br"),
            ("gzip;q=0, br", "br"),
            ("x-gzip", "gzip"),
            ("*", "br zstd gzip"),
            ("*;q=0.5, gzip", "gzip br zstd"),
            ("br;q=0.2, identity;q=0.5", ""),
            ("br;q=0.5, identity;q=0.5", "br"),
            ("BR ; Q=0.001", "br"),
            ("br;q=2, gzip;q=0.1234, zstd;q=x", ""),
            ("", ""),
            ("deflate", ""),
        ] {
            assert_eq!(codings(value), (expected.to_owned(), false), "{value}");
        }
    }

    #[test]
    fn content_without_a_coding_can_be_refused() {
        for (value, expected) in [("identity;q=0", true), ("*;q=0", true), ("br, *;q=0", true), ("br, *", false)] {
            assert_eq!(codings(value).1, expected, "{value}");
        }
        assert_eq!(codings("gzip, *;q=0, identity;q=0.1"), ("gzip".to_owned(), false));
        assert!(AcceptedCodings::new(FieldLines::new(b"Host: h\r\n\r\n")).is_empty());
    }

    #[test]
    fn a_media_type_is_accepted_by_its_name() {
        let accepted = |value: &str, media_type| {
            accepted_by_name(FieldLines::new(format!("Accept: {value}\r\n\r\n").as_bytes()), media_type)
        };
        assert_eq!(accepted("text/html,application/xml;q=0.9,*/*;q=0.8", "text/html"), 1000);
        assert_eq!(accepted("text/html, application/json;v=1;q=0.5", "application/json"), 500);
        assert_eq!(accepted("*/*", "text/html"), 0);
    }

    #[test]
    fn weights_have_three_digits_at_most() {
        for (text, expected) in [
            ("1", Some(1000)),
            ("0.05", Some(50)),
            ("1.000", Some(1000)),
            ("0.", Some(0)),
            ("1.1", None),
            ("0.1234", None),
            ("-1", None),
        ] {
            assert_eq!(parse_weight(text.as_bytes()), expected, "{text}");
        }
    }
}
