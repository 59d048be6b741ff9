//! HTTP dates (RFC 9110 §5.6.7), formatted and parsed by the httpdate crate.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Last second of the year 9999, the latest date that the format can represent.
const MAX_SECONDS: u64 = 253_402_300_799;

/// Date with a resolution of one second, between 1970 and 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HttpDate(u64);

impl HttpDate {
    /// Converts a wall-clock time (since 1970), rounding down.
    pub(crate) fn from_wall_time(wall: Duration) -> Self {
        Self(wall.as_secs().min(MAX_SECONDS))
    }

    /// Converts a modification time, clamped to 1970 and `now`: with a date in the future, caches would
    /// treat the file as unmodified until then (RFC 9110 §8.8.2.1).
    pub(crate) fn from_mtime(seconds_since_1970: i64, now: Self) -> Self {
        Self(u64::try_from(seconds_since_1970).unwrap_or(0)).min(now)
    }

    /// Parses any of the three formats; returns `None` for anything else, which a recipient ignores.
    pub(crate) fn parse(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?;
        let time = httpdate::parse_http_date(text).ok()?;
        Some(Self::from_wall_time(time.duration_since(UNIX_EPOCH).ok()?))
    }
}

/// Format: `Sun, 06 Nov 1994 08:49:37 GMT`.
impl fmt::Display for HttpDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time: SystemTime = UNIX_EPOCH + Duration::from_secs(self.0);
        httpdate::HttpDate::from(time).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::{HttpDate, MAX_SECONDS};
    use std::time::Duration;

    const EXAMPLE: HttpDate = HttpDate(784_111_777);

    #[test]
    fn all_three_formats_are_parsed_and_the_first_is_written() {
        for text in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(HttpDate::parse(text.as_bytes()), Some(EXAMPLE), "{text}");
        }
        assert_eq!(EXAMPLE.to_string(), "Sun, 06 Nov 1994 08:49:37 GMT");
    }

    #[test]
    fn an_invalid_date_is_rejected() {
        for text in [&b"yesterday"[..], b"", b"\xff", b"Sun, 99 Nov 1994 08:49:37 GMT"] {
            assert_eq!(HttpDate::parse(text), None);
        }
    }

    #[test]
    fn a_file_from_before_1970_or_from_the_future_is_clamped() {
        assert_eq!(HttpDate::from_mtime(-5, EXAMPLE), HttpDate(0));
        assert_eq!(HttpDate::from_mtime(i64::MAX, EXAMPLE), EXAMPLE);
    }

    #[test]
    fn the_far_future_is_formatted_without_a_panic() {
        assert_eq!(HttpDate::from_wall_time(Duration::MAX), HttpDate(MAX_SECONDS));
        assert_eq!(HttpDate(MAX_SECONDS).to_string(), "Fri, 31 Dec 9999 23:59:59 GMT");
    }
}
