//! Byte ranges (RFC 9110 §14): the Range field, the parts of a response, Content-Range.
//!
//! Owns the limits: a request for many, overlapping or more bytes than the whole gets the whole (RFC 9110 §14.2,
//! §17.15). Parts are sent in the order of the request, and never buffered.

use std::ops::Range;

/// Maximum number of parts in a response.
const MAX_RANGES: usize = 16;

/// Part of the content that a Range field asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RangeSelection {
    /// No valid Range field, or one that is ignored.
    Whole,
    /// Satisfiable ranges within the content, at least one, none of them empty.
    Parts(Vec<Range<u64>>),
    /// No range lies within the content (416).
    Unsatisfiable,
}

/// One range of the field, before the length of the content is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spec {
    FromTo(u64, Option<u64>),
    Suffix(u64),
}

/// Selects the parts of content of this length. An invalid field, or one with another unit, is ignored
/// (RFC 9110 §14.2); empty content has no ranges.
pub(crate) fn select_ranges(field: &[u8], length: u64) -> RangeSelection {
    let Some(specs) = parse(field).filter(|specs| !specs.is_empty() && length > 0) else {
        return RangeSelection::Whole;
    };
    let parts: Vec<Range<u64>> = specs.iter().filter_map(|spec| resolve(*spec, length)).collect();
    if parts.is_empty() {
        return RangeSelection::Unsatisfiable;
    }
    let total = parts.iter().fold(0_u64, |total, part| total.saturating_add(part.end - part.start));
    let is_excessive = parts.len() > 1 && (total > length || overlaps(&parts) > 2);
    if specs.len() > MAX_RANGES || is_excessive { RangeSelection::Whole } else { RangeSelection::Parts(parts) }
}

/// Number of parts that overlap another one.
fn overlaps(parts: &[Range<u64>]) -> usize {
    let overlap = |a: &Range<u64>, b: &Range<u64>| a.start < b.end && b.start < a.end;
    let count = |(index, part): (usize, &Range<u64>)| {
        parts.iter().enumerate().any(|(other, range)| other != index && overlap(part, range))
    };
    // At most MAX_RANGES parts are compared; more are excessive anyway.
    parts.iter().take(MAX_RANGES).enumerate().filter(|part| count(*part)).count()
}

/// Parses `bytes=0-499, -500`; empty list elements are allowed (RFC 9110 §5.6.1.2).
fn parse(field: &[u8]) -> Option<Vec<Spec>> {
    let text = std::str::from_utf8(field).ok()?;
    let (unit, set) = text.split_once('=')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    set.split(',').map(|spec| spec.trim_matches([' ', '\t'])).filter(|spec| !spec.is_empty()).map(parse_spec).collect()
}

fn parse_spec(text: &str) -> Option<Spec> {
    let (first, last) = text.split_once('-')?;
    match (first, last) {
        ("", suffix) => Some(Spec::Suffix(decimal(suffix)?)),
        (first, "") => Some(Spec::FromTo(decimal(first)?, None)),
        (first, last) => {
            let (first, last) = (decimal(first)?, decimal(last)?);
            (first <= last).then_some(Spec::FromTo(first, Some(last)))
        }
    }
}

/// Parses digits; a number beyond 64 bits lies beyond the end of any file.
fn decimal(digits: &str) -> Option<u64> {
    let is_decimal = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_decimal.then(|| digits.parse().unwrap_or(u64::MAX))
}

/// Returns the part within the content; `None` if none of it lies within.
fn resolve(spec: Spec, length: u64) -> Option<Range<u64>> {
    let part = match spec {
        Spec::FromTo(first, last) => first..last.map_or(length, |last| last.saturating_add(1).min(length)),
        Spec::Suffix(count) => length.saturating_sub(count)..length,
    };
    (part.start < part.end).then_some(part)
}

/// Value of the Content-Range field of a part (RFC 9110 §14.4).
pub(crate) fn content_range(part: &Range<u64>, length: u64) -> String {
    format!("bytes {}-{}/{length}", part.start, part.end.saturating_sub(1))
}

/// Value of the Content-Range field of a 416 response.
pub(crate) fn unsatisfied_range(length: u64) -> String {
    format!("bytes */{length}")
}

#[cfg(test)]
mod tests {
    use super::{MAX_RANGES, RangeSelection, content_range, select_ranges, unsatisfied_range};
    use proptest::prelude::*;

    fn parts(field: &str) -> Option<Vec<(u64, u64)>> {
        match select_ranges(field.as_bytes(), 100) {
            RangeSelection::Parts(parts) => Some(parts.into_iter().map(|part| (part.start, part.end)).collect()),
            RangeSelection::Whole => None,
            RangeSelection::Unsatisfiable => Some(Vec::new()),
        }
    }

    #[test]
    fn a_range_is_clamped_to_the_content() {
        for (field, expected) in [
            ("bytes=0-0", (0, 1)),
            ("bytes=5-", (5, 100)),
            ("bytes=-5", (95, 100)),
            ("bytes=5-99999", (5, 100)),
            ("bytes=-99999", (0, 100)),
            ("bytes=0-18446744073709551615", (0, 100)),
            ("bytes=99-99999999999999999999999", (99, 100)),
            ("Bytes=99-", (99, 100)),
            ("bytes= 1-2 ", (1, 3)),
        ] {
            assert_eq!(parts(field), Some(vec![expected]), "{field}");
        }
    }

    #[test]
    fn ranges_outside_the_content_are_not_satisfiable() {
        for field in ["bytes=100-", "bytes=-0", "bytes=100-200,300-", "bytes=99999999999999999999-"] {
            assert_eq!(parts(field), Some(vec![]), "{field}");
        }
    }

    #[test]
    fn an_invalid_field_is_ignored() {
        for field in [
            "bytes=5-2",
            "bytes=abc",
            "bytes=1",
            "bytes=1-2 3-4",
            "items=0-1",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=+1-2",
            "bytes=1--2",
            "bytes=0-1,x",
            "",
        ] {
            assert_eq!(parts(field), None, "{field}");
        }
        assert_eq!(select_ranges(b"bytes=0-0", 0), RangeSelection::Whole, "empty content");
    }

    #[test]
    fn several_ranges_keep_their_order_and_the_satisfiable_ones() {
        assert_eq!(parts("bytes=0-0,-2"), Some(vec![(0, 1), (98, 100)]));
        assert_eq!(parts("bytes=50-59,,0-9"), Some(vec![(50, 60), (0, 10)]));
        assert_eq!(parts("bytes=0-1, 100000-"), Some(vec![(0, 2)]));
    }

    #[test]
    fn excessive_ranges_get_the_whole() {
        assert_eq!(parts("bytes=0-,1-,2-"), None, "more bytes than the whole");
        assert_eq!(parts("bytes=0-9,5-14,10-19"), None, "three that overlap");
        assert_eq!(parts("bytes=0-9,5-14"), Some(vec![(0, 10), (5, 15)]), "two may overlap");
        let many = |count: usize| (0..count).map(|at| format!("{at}-{at}")).collect::<Vec<_>>().join(",");
        assert_eq!(parts(&format!("bytes={}", many(MAX_RANGES))).map(|parts| parts.len()), Some(MAX_RANGES));
        assert_eq!(parts(&format!("bytes={}", many(MAX_RANGES + 1))), None);
    }

    #[test]
    fn content_range_names_the_last_byte() {
        assert_eq!(content_range(&(0..500), 1234), "bytes 0-499/1234");
        assert_eq!(unsatisfied_range(1234), "bytes */1234");
    }

    proptest! {
        #![proptest_config(crate::protocol::script::property_config())]

        #[test]
        fn every_part_lies_within_the_content(field in "(bytes=)?[-0-9, x]{0,60}", length in 0..1000_u64) {
            if let RangeSelection::Parts(parts) = select_ranges(field.as_bytes(), length) {
                prop_assert!(parts.iter().all(|part| part.start < part.end && part.end <= length));
                let total: u64 = parts.iter().map(|part| part.end - part.start).sum();
                prop_assert!(total <= length || parts.len() == 1);
            }
        }
    }
}
