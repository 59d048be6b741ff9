//! Field lines of a valid head, looked up on demand: most requests need none of them.

use super::fields::trim;

/// Field lines as received, each with its CRLF. The parser of the head has checked them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FieldLines<'b>(&'b [u8]);

impl<'b> FieldLines<'b> {
    pub(super) fn new(lines: &'b [u8]) -> Self {
        Self(lines)
    }

    /// Returns the values of all lines with this name.
    pub(crate) fn values(self, name: &'static str) -> impl Iterator<Item = &'b [u8]> {
        self.lines().filter_map(move |line| {
            let (found, value) = line.split_at_checked(name.len())?;
            let value = value.strip_prefix(b":")?;
            found.eq_ignore_ascii_case(name.as_bytes()).then(|| trim(value.strip_suffix(b"\r").unwrap_or(value)))
        })
    }

    /// Returns the first value.
    pub(crate) fn first(self, name: &'static str) -> Option<&'b [u8]> {
        self.values(name).next()
    }

    /// Returns the value of a field that may occur once; repeated, it is ignored.
    pub(crate) fn single(self, name: &'static str) -> Option<&'b [u8]> {
        let mut values = self.values(name);
        values.next().filter(|_| values.next().is_none())
    }

    pub(crate) fn has(self, name: &'static str) -> bool {
        self.first(name).is_some()
    }

    /// Returns the members of a comma-separated list, without empty ones.
    pub(crate) fn list(self, name: &'static str) -> impl Iterator<Item = &'b [u8]> {
        self.values(name).flat_map(|value| value.split(|byte| *byte == b',')).map(trim).filter(|item| !item.is_empty())
    }

    /// Returns whether the request is conditional or asks for a range (RFC 9110 §13.1, §14.2).
    pub(crate) fn has_conditions(self) -> bool {
        self.lines().filter(|line| matches!(line.first(), Some(b'i' | b'I' | b'r' | b'R'))).any(|line| {
            let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
            name.get(..3).is_some_and(|start| start.eq_ignore_ascii_case(b"if-")) || name.eq_ignore_ascii_case(b"range")
        })
    }

    fn lines(self) -> impl Iterator<Item = &'b [u8]> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let end = memchr::memchr(b'\n', rest)?;
            let line = rest.get(..end)?;
            rest = rest.get(end + 1..)?;
            Some(line)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::FieldLines;

    const LINES: FieldLines<'_> =
        FieldLines(b"Accept: a, ,b\r\nAccept:\tc \r\nReferer:x\r\nX-If-Match: y\r\nRange-Unit: z\r\n\r\n");

    #[test]
    fn fields_are_found_by_name_without_regard_to_case() {
        assert_eq!(LINES.values("accept").collect::<Vec<_>>(), [&b"a, ,b"[..], b"c"]);
        assert_eq!(LINES.list("ACCEPT").collect::<Vec<_>>(), [&b"a"[..], b"b", b"c"]);
        assert_eq!(
            (LINES.first("referer"), LINES.single("accept"), LINES.first("refere")),
            (Some(&b"x"[..]), None, None)
        );
    }

    #[test]
    fn only_conditional_fields_and_ranges_are_conditions() {
        assert!(!LINES.has_conditions());
        for field in ["Range: bytes=0-", "if-none-match: *", "If-Range: x"] {
            assert!(FieldLines(format!("Host: h\r\n{field}\r\n\r\n").as_bytes()).has_conditions(), "{field}");
        }
    }
}
