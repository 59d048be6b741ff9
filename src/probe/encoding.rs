//! Encodings of a probe, and the comparison of a reply with it.
//!
//! Owns the three encodings of the client. Probes are not stored: a probe is encoded again from its sequence
//! number and send time to be compared with a reply, so a probe in flight needs no buffer.

use std::time::Duration;

use super::ntp::{ErrorEstimate, TimestampFormat};
use super::stamp::{self, Probe, Reflection};
use super::text_format;
use crate::mac::MacKey;

#[derive(Clone)]
pub(crate) enum ProbeEncoding {
    /// `Ping <seq> <ms>`, padded to `size` bytes.
    Text { size: usize },
    /// Same message in every probe. The message does not identify the probe, so each probe is sent from a separate
    /// port.
    FixedMessage { message: Vec<u8> },
    Stamp {
        /// Session identifier.
        ssid: u16,
        size: usize,
        /// Key of the authenticated mode.
        key: Option<MacKey>,
    },
}

/// Result of comparing a datagram with a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplyMatch {
    /// Intact reply; with STAMP, the reflector's packet.
    Intact(Option<Reflection>),
    Corrupt,
    NoMatch,
}

impl ProbeEncoding {
    /// Text of the textbook, without padding.
    #[cfg(test)]
    pub(crate) const TEXTBOOK: Self = Self::Text { size: 0 };

    /// Returns whether each probe needs a separate port.
    pub(crate) fn is_fixed_message(&self) -> bool {
        matches!(self, Self::FixedMessage { .. })
    }

    /// Minimum size in bytes that fits every probe up to number `count`. Milliseconds since 1970 have
    /// thirteen digits until the year 2286.
    pub(crate) fn min_size(&self, count: u64) -> usize {
        const THIRTEEN_DIGITS: Duration = Duration::from_secs(1_000_000_000);
        let unpadded = match self {
            Self::Text { .. } => Self::Text { size: 0 },
            Self::Stamp { ssid, key, .. } => Self::Stamp { ssid: *ssid, size: 0, key: key.clone() },
            Self::FixedMessage { message } => return message.len(),
        };
        let mut longest = Vec::new();
        unpadded.write(count, THIRTEEN_DIGITS, &mut longest);
        longest.len()
    }

    /// Appends probe `seq`, sent at `wall` since 1970.
    pub(crate) fn write(&self, seq: u64, wall: Duration, out: &mut Vec<u8>) {
        match self {
            Self::Text { size } => text_format::write(seq, millis(wall), *size, out),
            Self::FixedMessage { message } => out.extend_from_slice(message),
            Self::Stamp { ssid, size, key } => {
                let probe = stamp_probe(seq, wall, *ssid);
                probe.write(key.as_ref(), (*size).min(text_format::MAX_UDP_PAYLOAD), out);
            }
        }
    }

    /// Sequence number in a reply; `newest` is the last one sent.
    pub(crate) fn seq_of_reply(&self, reply: &[u8], newest: u64) -> Option<u64> {
        match self {
            Self::Text { .. } => text_format::parse_seq(reply),
            Self::FixedMessage { .. } => None,
            Self::Stamp { key, .. } => {
                let reflection = Reflection::read(reply, key.as_ref()).ok()?;
                Some(expand_seq(reflection.probe.seq, newest))
            }
        }
    }

    /// Returns whether a STAMP reply has no sender timestamp, which a reflector copies from the probe.
    pub(crate) fn is_unreflected(&self, reply: &[u8]) -> bool {
        let Self::Stamp { key, .. } = self else { return false };
        Reflection::read(reply, key.as_ref()).is_ok_and(|reflection| reflection.probe.timestamp == 0)
    }

    /// Sequence number of a probe quoted by an ICMP error, possibly truncated.
    pub(crate) fn seq_of_probe(&self, probe: &[u8], newest: u64) -> Option<u64> {
        match self {
            Self::Text { .. } => text_format::parse_seq(probe),
            Self::FixedMessage { .. } => None,
            Self::Stamp { .. } => Some(expand_seq(u32::from_be_bytes(*probe.first_chunk()?), newest)),
        }
    }

    /// Compares a reply with the probe of its sequence number. Overwrites `scratch`.
    pub(crate) fn compare(&self, seq: u64, wall: Duration, reply: &[u8], scratch: &mut Vec<u8>) -> ReplyMatch {
        if let Self::Stamp { ssid, size, key } = self {
            let sent = stamp_probe(seq, wall, *ssid);
            let probe_size =
                (*size).max(if key.is_some() { stamp::AUTHENTICATED_SIZE } else { stamp::UNAUTHENTICATED_SIZE });
            if reply.len() > probe_size {
                // A reflector's packet is as long as the sender's (RFC 8762 §4.2.1).
                return ReplyMatch::NoMatch;
            }
            return match Reflection::read(reply, key.as_ref()) {
                Ok(reflection) if reflection.probe == sent => ReplyMatch::Intact(Some(reflection)),
                Ok(reflection) if reflection.probe.ssid == sent.ssid => ReplyMatch::Corrupt,
                _ => ReplyMatch::NoMatch,
            };
        }
        scratch.clear();
        self.write(seq, wall, scratch);
        if text_format::is_echo(scratch, reply) {
            ReplyMatch::Intact(None)
        } else if scratch.len() == reply.len() {
            ReplyMatch::Corrupt
        } else {
            ReplyMatch::NoMatch
        }
    }

    /// Number of bytes in which a text of the same length differs from a probe, up to [`MAX_CORRUPT_BYTES`];
    /// finds the probe of a reply with a corrupted sequence number. `None` for the other encodings, where
    /// session or socket identify the probe. Overwrites `scratch`.
    pub(crate) fn distance(&self, seq: u64, wall: Duration, reply: &[u8], scratch: &mut Vec<u8>) -> Option<usize> {
        let Self::Text { .. } = self else { return None };
        scratch.clear();
        self.write(seq, wall, scratch);
        let differ = |(sent, received): &(&u8, &u8)| !sent.eq_ignore_ascii_case(received);
        let distance = || scratch.iter().zip(reply).filter(differ).take(MAX_CORRUPT_BYTES + 1).count();
        (scratch.len() == reply.len()).then(distance).filter(|distance| *distance <= MAX_CORRUPT_BYTES)
    }
}

/// Maximum number of differing bytes in a corrupted reply.
const MAX_CORRUPT_BYTES: usize = 4;

/// Converts the sequence number: STAMP counts from 0 (RFC 8762 §4.2), this program from 1.
fn stamp_probe(seq: u64, wall: Duration, ssid: u16) -> Probe {
    let [low, _] = words(seq.wrapping_sub(1));
    Probe { seq: low, timestamp: TimestampFormat::Ntp.encode(wall), estimate: ErrorEstimate::UNKNOWN, ssid }
}

/// Expands the low half of a sequence number to the value closest to the newest one sent.
fn expand_seq(low: u32, newest: u64) -> u64 {
    let [newest_low, _] = words(newest.wrapping_sub(1));
    let behind = newest_low.wrapping_sub(low);
    if behind < 1 << 31 {
        newest.wrapping_sub(behind.into())
    } else {
        newest.wrapping_add(low.wrapping_sub(newest_low).into())
    }
}

#[expect(clippy::cast_possible_truncation, reason = "splits a number into halves")]
const fn words(number: u64) -> [u32; 2] {
    [number as u32, (number >> 32) as u32]
}

fn millis(wall: Duration) -> u64 {
    u64::try_from(wall.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{ProbeEncoding, ReplyMatch, expand_seq};
    use crate::probe::text_format;
    use std::time::Duration;

    const WALL: Duration = Duration::from_millis(1_700_000_000_123);

    fn compare(encoding: &ProbeEncoding, reply: &[u8]) -> ReplyMatch {
        encoding.compare(7, WALL, reply, &mut Vec::new())
    }

    #[test]
    fn a_reply_matches_in_either_case() {
        let encoding = ProbeEncoding::TEXTBOOK;
        let mut probe = Vec::new();
        encoding.write(7, WALL, &mut probe);
        assert_eq!(compare(&encoding, &probe), ReplyMatch::Intact(None));
        text_format::make_uppercase(&mut probe);
        assert_eq!(compare(&encoding, &probe), ReplyMatch::Intact(None));
        assert_eq!(encoding.seq_of_reply(&probe, 9), Some(7));
    }

    #[test]
    fn a_reply_that_differs_is_corrupt_and_one_of_another_length_does_not_match() {
        assert_eq!(compare(&ProbeEncoding::TEXTBOOK, b"PING 7 1700000000124"), ReplyMatch::Corrupt);
        assert_eq!(compare(&ProbeEncoding::TEXTBOOK, b"PING 7 170000000012"), ReplyMatch::NoMatch);
        assert_eq!(compare(&ProbeEncoding::TEXTBOOK, b""), ReplyMatch::NoMatch);
    }

    #[test]
    fn a_stamp_reply_must_have_our_sequence_number_timestamp_and_session() {
        let encoding = ProbeEncoding::Stamp { ssid: 3, size: 0, key: None };
        let mut packet = Vec::new();
        encoding.write(7, WALL, &mut packet);
        assert_eq!(packet[..4], [0, 0, 0, 6]);
        assert_eq!(encoding.seq_of_probe(&packet, 9), Some(7));
        let reflect = |offset: usize| {
            let mut reply = vec![0; 44];
            reply[14..16].copy_from_slice(&packet[14..16]);
            reply[24..28].copy_from_slice(&packet[..4]);
            reply[28..38].copy_from_slice(&packet[4..14]);
            reply[offset] ^= 1;
            reply
        };
        assert!(encoding.is_unreflected(&packet) && !encoding.is_unreflected(&reflect(43)));
        // Offset 43 is outside every field.
        assert!(matches!(compare(&encoding, &reflect(43)), ReplyMatch::Intact(Some(_))));
        assert_eq!(compare(&encoding, &reflect(35)), ReplyMatch::Corrupt);
        assert_eq!(compare(&encoding, &reflect(15)), ReplyMatch::NoMatch);
    }

    #[test]
    fn the_minimum_size_is_that_of_the_last_probe() {
        assert_eq!(ProbeEncoding::TEXTBOOK.min_size(9), 20);
        assert_eq!(ProbeEncoding::Text { size: 500 }.min_size(10), 21);
        assert_eq!(ProbeEncoding::Stamp { ssid: 1, size: 0, key: None }.min_size(u64::MAX), 44);
    }

    #[test]
    fn a_sequence_number_continues_after_wrap_around() {
        let wrap = 1_u64 << 32;
        for newest in [1, 2, wrap - 1, wrap, wrap + 1, wrap + 2, 5 * wrap + 7] {
            for seq in [newest, newest.saturating_sub(1).max(1), newest + 1] {
                let low = u32::try_from((seq - 1) % wrap).expect("32 bits");
                assert_eq!(expand_seq(low, newest), seq);
            }
        }
    }
}
