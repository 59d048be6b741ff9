//! What a probe looks like, and whether a reply is an answer to it.
//!
//! Owns the three encodings a sender can use. A probe is not kept: it is written again from its
//! number and its time when a reply is to be compared, so a probe in flight costs no buffer.

use std::time::Duration;

use super::ntp::{ErrorEstimate, TimestampFormat};
use super::stamp::{self, Probe, Reflection};
use super::text;
use crate::mac::MacKey;

/// How probes are encoded.
#[derive(Clone)]
pub(crate) enum ProbeEncoding {
    /// `Ping <seq> <ms>`, filled up to `size` octets.
    Text {
        /// The least length of a probe.
        size: usize,
    },
    /// The same words every time. Nothing in them can be matched, so each probe goes out from a
    /// port of its own, and the port says which probe a reply belongs to.
    FixedMessage {
        /// The words.
        message: Vec<u8>,
    },
    /// STAMP.
    Stamp {
        /// The session identifier.
        ssid: u16,
        /// The least length of a probe.
        size: usize,
        /// The key of the authenticated mode.
        key: Option<MacKey>,
    },
}

/// What a reply is to a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplyMatch {
    /// Its answer; with STAMP, what the reflector says.
    Intact(Option<Reflection>),
    /// Its answer, damaged on the way.
    Corrupt,
    /// Something else.
    NoMatch,
}

impl ProbeEncoding {
    /// The textbook's: as short as it can be.
    #[cfg(test)]
    pub(crate) const TEXTBOOK: Self = Self::Text { size: 0 };

    /// Whether each probe needs a port of its own.
    pub(crate) fn is_fixed_message(&self) -> bool {
        matches!(self, Self::FixedMessage { .. })
    }

    /// How many octets the probes up to number `count` take at least, sent in this century or the
    /// two after it: milliseconds since 1970 have thirteen digits until the year 2286.
    pub(crate) fn min_size(&self, count: u64) -> usize {
        const THIRTEEN_DIGITS: Duration = Duration::from_secs(1_000_000_000);
        let plain = match self {
            Self::Text { .. } => Self::Text { size: 0 },
            Self::Stamp { ssid, key, .. } => Self::Stamp { ssid: *ssid, size: 0, key: key.clone() },
            Self::FixedMessage { message } => return message.len(),
        };
        let mut longest = Vec::new();
        plain.write(count, THIRTEEN_DIGITS, &mut longest);
        longest.len()
    }

    /// Appends probe `seq`, sent at this time since 1970.
    pub(crate) fn write(&self, seq: u64, wall: Duration, out: &mut Vec<u8>) {
        match self {
            Self::Text { size } => text::write(seq, millis(wall), *size, out),
            Self::FixedMessage { message } => out.extend_from_slice(message),
            Self::Stamp { ssid, size, key } => {
                let probe = stamp_probe(seq, wall, *ssid);
                probe.write(key.as_ref(), (*size).min(text::MAX_UDP_PAYLOAD), out);
            }
        }
    }

    /// Which probe a reply names, where `newest` is the last one sent.
    pub(crate) fn seq_of_reply(&self, reply: &[u8], newest: u64) -> Option<u64> {
        match self {
            Self::Text { .. } => text::parse_seq(reply),
            Self::FixedMessage { .. } => None,
            Self::Stamp { key, .. } => {
                let reflection = Reflection::read(reply, key.as_ref()).ok()?;
                Some(expand_seq(reflection.probe.seq, newest))
            }
        }
    }

    /// Whether a STAMP reply has nothing where a reflector puts the sender's own time.
    pub(crate) fn is_unreflected(&self, reply: &[u8]) -> bool {
        let Self::Stamp { key, .. } = self else { return false };
        Reflection::read(reply, key.as_ref()).is_ok_and(|reflection| reflection.probe.timestamp == 0)
    }

    /// Which probe it was that came back inside an ICMP error, cut or whole.
    pub(crate) fn seq_of_probe(&self, probe: &[u8], newest: u64) -> Option<u64> {
        match self {
            Self::Text { .. } => text::parse_seq(probe),
            Self::FixedMessage { .. } => None,
            Self::Stamp { .. } => Some(expand_seq(u32::from_be_bytes(*probe.first_chunk()?), newest)),
        }
    }

    /// Compares a reply with the probe it names; `scratch` is written over.
    pub(crate) fn compare(&self, seq: u64, wall: Duration, reply: &[u8], scratch: &mut Vec<u8>) -> ReplyMatch {
        if let Self::Stamp { ssid, size, key } = self {
            let sent = stamp_probe(seq, wall, *ssid);
            let asked =
                (*size).max(if key.is_some() { stamp::AUTHENTICATED_SIZE } else { stamp::UNAUTHENTICATED_SIZE });
            if reply.len() > asked {
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
        if text::is_echo(scratch, reply) {
            ReplyMatch::Intact(None)
        } else if scratch.len() == reply.len() {
            ReplyMatch::Corrupt
        } else {
            ReplyMatch::NoMatch
        }
    }

    /// In how many octets a text of the same length differs from a probe, if they are few: the
    /// answer may be damaged where it names its probe. `None` for the other encodings, whose
    /// sessions and sockets say whose answer it is. `scratch` is written over.
    pub(crate) fn distance(&self, seq: u64, wall: Duration, reply: &[u8], scratch: &mut Vec<u8>) -> Option<usize> {
        let Self::Text { .. } = self else { return None };
        scratch.clear();
        self.write(seq, wall, scratch);
        let differ = |(sent, came): &(&u8, &u8)| !sent.eq_ignore_ascii_case(came);
        let distance = || scratch.iter().zip(reply).filter(differ).take(MAX_CORRUPT_BYTES + 1).count();
        (scratch.len() == reply.len()).then(distance).filter(|distance| *distance <= MAX_CORRUPT_BYTES)
    }
}

/// How many octets of a text may differ for it to be a damaged answer still.
const MAX_CORRUPT_BYTES: usize = 4;

/// STAMP counts from 0 (RFC 8762 §4.2), people and this program from 1.
fn stamp_probe(seq: u64, wall: Duration, ssid: u16) -> Probe {
    let [low, _] = words(seq.wrapping_sub(1));
    Probe { seq: low, timestamp: TimestampFormat::Ntp.encode(wall), estimate: ErrorEstimate::UNKNOWN, ssid }
}

/// The number whose low half is on the wire and which is closest to the newest one sent.
fn expand_seq(low: u32, newest: u64) -> u64 {
    let [newest_low, _] = words(newest.wrapping_sub(1));
    let behind = newest_low.wrapping_sub(low);
    if behind < 1 << 31 {
        newest.wrapping_sub(behind.into())
    } else {
        newest.wrapping_add(low.wrapping_sub(newest_low).into())
    }
}

#[expect(clippy::cast_possible_truncation, reason = "that is the point")]
const fn words(number: u64) -> [u32; 2] {
    [number as u32, (number >> 32) as u32]
}

fn millis(wall: Duration) -> u64 {
    u64::try_from(wall.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{ProbeEncoding, ReplyMatch, expand_seq};
    use crate::probe::text;
    use std::time::Duration;

    const WALL: Duration = Duration::from_millis(1_700_000_000_123);

    fn compare(wire: &ProbeEncoding, reply: &[u8]) -> ReplyMatch {
        wire.compare(7, WALL, reply, &mut Vec::new())
    }

    #[test]
    fn a_reply_in_either_case_is_the_answer() {
        let wire = ProbeEncoding::TEXTBOOK;
        let mut probe = Vec::new();
        wire.write(7, WALL, &mut probe);
        assert_eq!(compare(&wire, &probe), ReplyMatch::Intact(None));
        text::make_uppercase(&mut probe);
        assert_eq!(compare(&wire, &probe), ReplyMatch::Intact(None));
        assert_eq!(wire.seq_of_reply(&probe, 9), Some(7));
    }

    #[test]
    fn a_reply_of_the_same_length_that_differs_is_damaged_and_others_are_not_ours() {
        assert_eq!(compare(&ProbeEncoding::TEXTBOOK, b"PING 7 1700000000124"), ReplyMatch::Corrupt);
        assert_eq!(compare(&ProbeEncoding::TEXTBOOK, b"PING 7 170000000012"), ReplyMatch::NoMatch);
        assert_eq!(compare(&ProbeEncoding::TEXTBOOK, b""), ReplyMatch::NoMatch);
    }

    #[test]
    fn a_stamp_reply_must_name_our_number_our_time_and_our_session() {
        let wire = ProbeEncoding::Stamp { ssid: 3, size: 0, key: None };
        let mut packet = Vec::new();
        wire.write(7, WALL, &mut packet);
        assert_eq!(packet[..4], [0, 0, 0, 6]);
        assert_eq!(wire.seq_of_probe(&packet, 9), Some(7));
        let reflect = |octet: usize| {
            let mut reply = vec![0; 44];
            reply[14..16].copy_from_slice(&packet[14..16]);
            reply[24..28].copy_from_slice(&packet[..4]);
            reply[28..38].copy_from_slice(&packet[4..14]);
            reply[octet] ^= 1;
            reply
        };
        assert!(wire.is_unreflected(&packet) && !wire.is_unreflected(&reflect(43)));
        // Octet 43 is outside every field.
        assert!(matches!(compare(&wire, &reflect(43)), ReplyMatch::Intact(Some(_))));
        assert_eq!(compare(&wire, &reflect(35)), ReplyMatch::Corrupt);
        assert_eq!(compare(&wire, &reflect(15)), ReplyMatch::NoMatch);
    }

    #[test]
    fn the_least_size_is_that_of_the_last_probe() {
        assert_eq!(ProbeEncoding::TEXTBOOK.min_size(9), 20);
        assert_eq!(ProbeEncoding::Text { size: 500 }.min_size(10), 21);
        assert_eq!(ProbeEncoding::Stamp { ssid: 1, size: 0, key: None }.min_size(u64::MAX), 44);
    }

    #[test]
    fn a_number_that_wraps_around_goes_on() {
        let wrap = 1_u64 << 32;
        for newest in [1, 2, wrap - 1, wrap, wrap + 1, wrap + 2, 5 * wrap + 7] {
            for seq in [newest, newest.saturating_sub(1).max(1), newest + 1] {
                let low = u32::try_from((seq - 1) % wrap).expect("a half");
                assert_eq!(expand_seq(low, newest), seq);
            }
        }
    }
}
