//! Link of limited speed, as a virtual queue.
//!
//! Owns the parsing of a bit rate and the arithmetic of its queue: nothing is stored but the moment at which
//! the link will be free again. Each client has its own link.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::failure::{Failure, FailureKind, Result};
use crate::time::Moment;

/// Maximum number of bytes that wait for the link ahead of a datagram; more are dropped. The buffer of a
/// small home router, about a second at 1 Mbit/s.
pub(super) const MAX_BACKLOG: u64 = 128 * 1024;

/// Bytes that IPv4 and UDP add to a payload on the link.
const HEADER_SIZE: u64 = 28;

/// Bit rate of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BitRate {
    bits_per_second: u64,
}

impl BitRate {
    /// Creates a rate, or returns `None` for zero.
    pub(crate) fn from_bits_per_second(bits: u64) -> Option<Self> {
        (bits > 0).then_some(Self { bits_per_second: bits })
    }

    /// Returns the time that a datagram with this payload occupies the link.
    fn transmission_delay(self, size: usize) -> Duration {
        let bytes = u64::try_from(size).unwrap_or(u64::MAX).saturating_add(HEADER_SIZE);
        let nanoseconds = u128::from(bytes) * 8 * 1_000_000_000 / u128::from(self.bits_per_second);
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }

    /// Returns the number of bytes transmitted in this time.
    fn bytes_within(self, time: Duration) -> u64 {
        let bytes = time.as_nanos() * u128::from(self.bits_per_second) / 8 / 1_000_000_000;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    /// Queues a payload at `now` for the link that is busy until `busy_until`. Returns its total delay, or
    /// `None` if the queue is full.
    pub(super) fn enqueue(self, busy_until: &mut Option<Moment>, now: Moment, size: usize) -> Option<Duration> {
        let waiting = busy_until.map_or(Duration::ZERO, |busy_until| busy_until - now);
        if self.bytes_within(waiting) > MAX_BACKLOG {
            return None;
        }
        let delay = waiting.saturating_add(self.transmission_delay(size));
        *busy_until = Some(now + delay);
        Some(delay)
    }
}

impl FromStr for BitRate {
    type Err = Failure;

    /// Parses `10Mbit`, `1.5Mbit/s`, `1MB/s`, `64KiB/s`: decimal and binary prefixes, bits or bytes, never a
    /// bare number.
    fn from_str(text: &str) -> Result<Self> {
        parse_bits_per_second(text).and_then(Self::from_bits_per_second).ok_or_else(|| {
            Failure::new(FailureKind::InvalidValue, format!("'{text}' is not a bit rate"))
                .expected("a positive number with a unit, such as 10Mbit, 64kbit/s or 1MB/s")
        })
    }
}

fn parse_bits_per_second(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at_checked(digits)?;
    let unit = unit.strip_suffix("/s").unwrap_or(unit);
    let (prefix, bits) = match (unit.strip_suffix("bit"), unit.strip_suffix('B')) {
        (Some(prefix), _) => (prefix, 1.0),
        (None, Some(prefix)) if text.ends_with("/s") => (prefix, 8.0),
        _ => return None,
    };
    let scale = match prefix {
        "" => 1.0,
        "k" | "K" => 1e3,
        "m" | "M" => 1e6,
        "g" | "G" => 1e9,
        "Ki" => 1024.0,
        "Mi" => 1024.0 * 1024.0,
        "Gi" => 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    let rate = number.parse::<f64>().ok()? * scale * bits;
    // A terabit per second is beyond any host; NaN fails the comparison.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked here")]
    (1.0..=1e12).contains(&rate).then_some(rate as u64)
}

impl fmt::Display for BitRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bits_per_second {
            bits if bits.is_multiple_of(1_000_000) => write!(f, "{}Mbit/s", bits / 1_000_000),
            bits if bits.is_multiple_of(1_000) => write!(f, "{}kbit/s", bits / 1_000),
            bits => write!(f, "{bits}bit/s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BitRate, HEADER_SIZE, MAX_BACKLOG};
    use crate::time::Moment;
    use std::time::Duration;

    const NOW: Moment = Moment::new(Duration::from_secs(1), Duration::from_secs(1_000));

    /// Returns a payload size that takes a kilobyte on the link.
    fn kilobyte() -> usize {
        usize::try_from(1_000 - HEADER_SIZE).expect("small")
    }

    #[test]
    fn a_rate_carries_its_unit() {
        let bits = |text: &str| text.parse::<BitRate>().map(|rate| rate.bits_per_second).ok();
        assert_eq!(bits("10Mbit"), Some(10_000_000));
        assert_eq!(bits("1.5mbit/s"), Some(1_500_000));
        assert_eq!(bits("1MB/s"), Some(8_000_000));
        assert_eq!(bits("64KiB/s"), Some(64 * 1024 * 8));
        assert_eq!(bits("300bit"), Some(300));
        for invalid in
            ["10", "10M", "0bit", "-1bit", "NaNbit", "1MB", "10/s", "Mbit", "", "1e9bit", "9999Gbit", "1.2.3bit"]
        {
            assert_eq!(bits(invalid), None, "{invalid}");
        }
    }

    #[test]
    fn datagrams_wait_for_those_before_them() {
        let rate = BitRate::from_bits_per_second(8_000_000).expect("a rate");
        let mut busy_until = None;
        let first = rate.enqueue(&mut busy_until, NOW, kilobyte());
        let second = rate.enqueue(&mut busy_until, NOW, kilobyte());
        assert_eq!(first, Some(Duration::from_millis(1)));
        assert_eq!(second, Some(Duration::from_millis(2)));
        let idle = NOW + Duration::from_secs(1);
        assert_eq!(rate.enqueue(&mut busy_until, idle, kilobyte()), first);
    }

    #[test]
    fn the_queue_holds_its_limit_and_drops_one_past_it() {
        let rate = BitRate::from_bits_per_second(8_000).expect("a rate");
        let mut busy_until = None;
        let exactly = usize::try_from(MAX_BACKLOG - HEADER_SIZE).expect("small");
        assert!(rate.enqueue(&mut busy_until, NOW, exactly).is_some());
        assert!(rate.enqueue(&mut busy_until, NOW, 0).is_some(), "the backlog is at its limit");
        assert!(rate.enqueue(&mut busy_until, NOW, 0).is_none(), "and now past it");
        let later = NOW + rate.transmission_delay(0);
        assert!(rate.enqueue(&mut busy_until, later, 0).is_some(), "until something has left");
    }
}
