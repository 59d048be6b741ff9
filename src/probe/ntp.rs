//! Timestamps and error estimates of STAMP packets.
//!
//! Owns the two 64-bit formats of RFC 8877 and the error estimate of RFC 4656 §4.1.2, whose Z bit
//! (RFC 8186 §2.3) selects the format of a packet.
//!
//! ```text
//!   NTP, Z = 0    seconds since 1900, 32 bits │ 2⁻³² seconds, 32 bits
//!   PTP, Z = 1    seconds since 1970, 32 bits │ nanoseconds, 32 bits
//!
//!   error estimate   S │ Z │ scale, 6 bits │ multiplier, 8 bits    = multiplier · 2^(scale−32) s
//! ```

use std::time::Duration;

/// Seconds between 1900-01-01 and 1970-01-01.
const NTP_TO_UNIX: u64 = 2_208_988_800;

/// Seconds wrap around after 2³², for NTP on 2036-02-07.
const ERA: u64 = 1 << 32;

const NANOS_PER_SEC: u64 = 1_000_000_000;

/// Error Estimate field: clock accuracy and timestamp format of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ErrorEstimate(u16);

impl ErrorEstimate {
    /// NTP format, not synchronised, error up to 2³¹ seconds: makes no claim about the clock. The multiplier
    /// is 1 because RFC 4656 forbids 0.
    pub(crate) const UNKNOWN: Self = Self(0x3f01);

    pub(crate) const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    pub(crate) const fn bits(self) -> u16 {
        self.0
    }

    /// Returns whether the clock is synchronised to an external source (S).
    #[cfg(test)]
    pub(crate) const fn is_synchronised(self) -> bool {
        self.0 & 0x8000 != 0
    }

    /// Format of the timestamps in the packet (Z).
    pub(crate) const fn format(self) -> TimestampFormat {
        if self.0 & 0x4000 == 0 { TimestampFormat::Ntp } else { TimestampFormat::Ptp }
    }

    #[must_use]
    pub(crate) const fn with_format(self, format: TimestampFormat) -> Self {
        match format {
            TimestampFormat::Ntp => Self(self.0 & !0x4000),
            TimestampFormat::Ptp => Self(self.0 | 0x4000),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimestampFormat {
    Ntp,
    /// Truncated PTP version 2 format.
    Ptp,
}

impl TimestampFormat {
    /// Encodes a time since 1970 in 64 bits; the era is lost.
    pub(crate) fn encode(self, wall: Duration) -> u64 {
        let (seconds, nanos) = (wall.as_secs(), u64::from(wall.subsec_nanos()));
        match self {
            Self::Ntp => {
                // Rounded up, so that decoding, which rounds down, returns the same nanosecond.
                let fraction = (nanos * ERA).div_ceil(NANOS_PER_SEC);
                (seconds.wrapping_add(NTP_TO_UNIX) % ERA) << 32 | fraction
            }
            Self::Ptp => (seconds % ERA) << 32 | nanos,
        }
    }

    /// Decodes a time since 1970, in the era closest to `near`. Returns `None` if the nanosecond field is out
    /// of range.
    pub(crate) fn decode(self, bits: u64, near: Duration) -> Option<Duration> {
        let (seconds, fraction) = (bits >> 32, bits % ERA);
        let (seconds, nanos) = match self {
            Self::Ntp => (seconds.wrapping_sub(NTP_TO_UNIX) % ERA, fraction * NANOS_PER_SEC / ERA),
            Self::Ptp if fraction < NANOS_PER_SEC => (seconds, fraction),
            Self::Ptp => return None,
        };
        let ahead = seconds.wrapping_sub(near.as_secs()) % ERA;
        let seconds = if ahead < ERA / 2 {
            near.as_secs().checked_add(ahead)?
        } else {
            // Earlier than `near`, so possibly before 1970.
            near.as_secs().checked_sub(ERA - ahead)?
        };
        Some(Duration::new(seconds, u32::try_from(nanos).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::{ErrorEstimate, TimestampFormat};
    use std::time::Duration;

    const NEAR: Duration = Duration::from_secs(1_764_000_000);

    #[test]
    fn known_times_are_encoded_as_specified() {
        // RFC 868: 1970-01-01 is second 2 208 988 800 of the century.
        assert_eq!(TimestampFormat::Ntp.encode(Duration::ZERO), 0x83aa_7e80_0000_0000);
        assert_eq!(TimestampFormat::Ntp.encode(Duration::from_millis(500)), 0x83aa_7e80_8000_0000);
        assert_eq!(TimestampFormat::Ptp.encode(Duration::new(1, 5)), 0x0000_0001_0000_0005);
    }

    #[test]
    fn every_nanosecond_survives_a_round_trip() {
        for nanos in (0..1_000_000_000).step_by(999_983).chain([1, 999_999_999]) {
            let wall = NEAR + Duration::from_nanos(nanos);
            for format in [TimestampFormat::Ntp, TimestampFormat::Ptp] {
                assert_eq!(format.decode(format.encode(wall), NEAR), Some(wall));
            }
        }
    }

    #[test]
    fn the_closest_era_is_chosen() {
        let after_2036 = Duration::from_secs(2_100_000_000);
        let bits = TimestampFormat::Ntp.encode(after_2036);
        assert!(bits < TimestampFormat::Ntp.encode(NEAR), "the seconds have wrapped around");
        assert_eq!(TimestampFormat::Ntp.decode(bits, NEAR), Some(after_2036));
    }

    #[test]
    fn decoding_never_panics() {
        for bits in [0, 1, u64::MAX, 1 << 63, 0x83aa_7e80_0000_0000, 0xffff_ffff] {
            for near in [Duration::ZERO, NEAR, Duration::MAX] {
                let _ = TimestampFormat::Ntp.decode(bits, near);
                let _ = TimestampFormat::Ptp.decode(bits, near);
            }
        }
        assert_eq!(TimestampFormat::Ptp.decode(1_000_000_000, NEAR), None);
    }

    #[test]
    fn the_z_bit_selects_the_format_and_the_s_bit_means_synchronised() {
        let estimate = ErrorEstimate::UNKNOWN;
        assert_eq!(estimate.format(), TimestampFormat::Ntp);
        assert_eq!(estimate.with_format(TimestampFormat::Ptp).format(), TimestampFormat::Ptp);
        assert_eq!(estimate.with_format(TimestampFormat::Ptp).with_format(TimestampFormat::Ntp), estimate);
        assert!(!estimate.is_synchronised());
        assert!(ErrorEstimate::from_bits(0x8001).is_synchronised());
    }
}
