//! Conditional requests (RFC 9110 §13): preconditions and their order, If-Range.
//!
//! Owns the comparison of validators. The caller knows the current ones.

use super::date::HttpDate;
use super::field_lines::FieldLines;

/// Validators of the current content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Validators {
    /// Strong entity tag with its quotes (RFC 9110 §8.8.3).
    pub etag: String,
    pub modified: HttpDate,
    /// The content is so young that it may change again within the same second: its date validates nothing
    /// (RFC 9110 §8.8.2.2).
    pub is_young: bool,
}

/// Conditional fields of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conditions<'b>(FieldLines<'b>);

/// Result of the preconditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precondition {
    /// The method is performed.
    Met,
    /// 304 for GET and HEAD.
    NotModified,
    /// Response 412.
    Failed,
}

impl<'b> Conditions<'b> {
    pub(crate) fn new(fields: FieldLines<'b>) -> Self {
        Self(fields)
    }

    /// Date of a field; an invalid or repeated one is ignored (RFC 9110 §13.1.3).
    fn date(self, name: &'static str) -> Option<HttpDate> {
        self.0.single(name).and_then(HttpDate::parse)
    }

    /// Evaluates the preconditions of GET and HEAD in the order of RFC 9110 §13.2.2.
    pub(crate) fn evaluate(self, current: &Validators) -> Precondition {
        if self.0.has("if-match") {
            if !self.0.values("if-match").any(|list| lists_tag(list, &current.etag, Comparison::Strong)) {
                return Precondition::Failed;
            }
        } else if self.date("if-unmodified-since").is_some_and(|date| current.modified > date) {
            return Precondition::Failed;
        }
        let is_known = if self.0.has("if-none-match") {
            self.0.values("if-none-match").any(|list| lists_tag(list, &current.etag, Comparison::Weak))
        } else {
            !current.is_young && self.date("if-modified-since").is_some_and(|date| current.modified <= date)
        };
        if is_known { Precondition::NotModified } else { Precondition::Met }
    }

    /// Range field, unless If-Range says that the client has a part of other content (RFC 9110 §13.1.5).
    pub(crate) fn range(self, current: &Validators) -> Option<&'b [u8]> {
        let range = self.0.single("range")?;
        let mut validators = self.0.values("if-range");
        let is_same = match (validators.next(), validators.next()) {
            (None, _) => true,
            (Some(tag @ [b'"', ..]), None) => tag == current.etag.as_bytes(),
            // A date must match exactly, and only a strong one counts (RFC 9110 §8.8.2.2).
            (Some(date), None) => !current.is_young && HttpDate::parse(date) == Some(current.modified),
            (Some(_), Some(_)) => false,
        };
        is_same.then_some(range)
    }
}

/// Comparison of entity tags (RFC 9110 §8.8.3.2).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Strong,
    Weak,
}

/// Returns whether a list of entity tags, or `*`, has the tag. What is not a tag ends the list.
fn lists_tag(list: &[u8], etag: &str, comparison: Comparison) -> bool {
    if list == b"*" {
        return true;
    }
    let mut rest = list;
    loop {
        rest = rest.trim_ascii_start();
        if let Some(after) = rest.strip_prefix(b",") {
            rest = after;
            continue;
        }
        let weak = rest.strip_prefix(b"W/");
        let Some(opaque) = weak.unwrap_or(rest).strip_prefix(b"\"") else { return false };
        let Some(end) = memchr::memchr(b'"', opaque) else { return false };
        let (tag, after) = opaque.split_at(end);
        let is_equal = etag.as_bytes().strip_prefix(b"\"").and_then(|own| own.strip_suffix(b"\"")) == Some(tag);
        if is_equal && (comparison == Comparison::Weak || weak.is_none()) {
            return true;
        }
        rest = after.get(1..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::{Conditions, Precondition, Validators};
    use crate::http::HttpDate;
    use crate::http::field_lines::FieldLines;
    use std::time::Duration;

    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
    const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";

    fn current() -> Validators {
        Validators {
            etag: "\"x\"".into(),
            modified: HttpDate::parse(DATE.as_bytes()).expect("a date"),
            is_young: false,
        }
    }

    fn conditions(lines: &str) -> Conditions<'_> {
        Conditions::new(FieldLines::new(lines.as_bytes()))
    }

    fn evaluate(lines: &str) -> Precondition {
        conditions(lines).evaluate(&current())
    }

    #[test]
    fn entity_tags_are_compared_as_the_field_requires() {
        use Precondition::{Failed, Met, NotModified};
        for (lines, expected) in [
            ("If-None-Match: \"x\"\r\n", NotModified),
            ("If-None-Match: W/\"x\"\r\n", NotModified),
            ("if-none-match: \"a\", W/\"b\" ,, \"x\"\r\n", NotModified),
            ("If-None-Match: \"a\"\r\nIf-None-Match: \"x\"\r\n", NotModified),
            ("If-None-Match: *\r\n", NotModified),
            ("If-None-Match: \"a,\"x\"\r\n", Met),
            ("If-None-Match: x\r\n", Met),
            ("If-None-Match: \"y\"\r\n", Met),
            ("If-Match: \"x\"\r\n", Met),
            ("If-Match: *\r\n", Met),
            ("If-Match: W/\"x\"\r\n", Failed),
            ("If-Match: \"y\"\r\n", Failed),
            ("If-Match: x\r\n", Failed),
            ("Host: h\r\n", Met),
        ] {
            assert_eq!(evaluate(lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn dates_are_compared_and_entity_tags_come_first() {
        use Precondition::{Failed, Met, NotModified};
        for (lines, expected) in [
            (format!("If-Modified-Since: {DATE}\r\n"), NotModified),
            (format!("If-Modified-Since: {LATER}\r\n"), NotModified),
            (format!("If-Modified-Since: {EARLIER}\r\n"), Met),
            ("If-Modified-Since: yesterday\r\n".to_owned(), Met),
            (format!("If-Modified-Since: {DATE}\r\nIf-Modified-Since: {DATE}\r\n"), Met),
            (format!("If-Modified-Since: {DATE}\r\nIf-None-Match: \"y\"\r\n"), Met),
            (format!("If-Unmodified-Since: {EARLIER}\r\n"), Failed),
            (format!("If-Unmodified-Since: {DATE}\r\n"), Met),
            (format!("If-Unmodified-Since: {EARLIER}\r\nIf-Match: \"x\"\r\n"), Met),
            ("If-Match: \"y\"\r\nIf-None-Match: \"x\"\r\n".to_owned(), Failed),
        ] {
            assert_eq!(evaluate(&lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn young_content_is_not_validated_by_its_date() {
        let young = Validators { is_young: true, ..current() };
        let lines = format!("If-Modified-Since: {DATE}\r\nRange: bytes=0-0\r\nIf-Range: {DATE}\r\n");
        assert_eq!(conditions(&lines).evaluate(&young), Precondition::Met);
        assert_eq!(conditions(&lines).range(&young), None);
        let with_tag = conditions("If-None-Match: \"x\"\r\n");
        assert_eq!(with_tag.evaluate(&young), Precondition::NotModified);
    }

    #[test]
    fn if_range_requires_the_same_content() {
        let range = |lines: &str| {
            let text = format!("Range: bytes=0-0\r\n{lines}");
            conditions(&text).range(&current()).map(<[u8]>::to_vec)
        };
        for lines in ["", "If-Range: \"x\"\r\n", &format!("If-Range: {DATE}\r\n")] {
            assert_eq!(range(lines).as_deref(), Some(&b"bytes=0-0"[..]), "{lines:?}");
        }
        for lines in [
            "If-Range: W/\"x\"\r\n",
            "If-Range: \"y\"\r\n",
            &format!("If-Range: {LATER}\r\n"),
            &format!("If-Range: {EARLIER}\r\n"),
            "If-Range: garbage\r\n",
            "If-Range: \"x\"\r\nIf-Range: \"x\"\r\n",
            "Range: bytes=1-1\r\n",
        ] {
            assert_eq!(range(lines), None, "{lines:?}");
        }
        assert_eq!(HttpDate::from_wall_time(Duration::ZERO).to_string(), "Thu, 01 Jan 1970 00:00:00 GMT");
    }
}
