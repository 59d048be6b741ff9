//! Wire format of the heartbeat: one line of text per datagram.
//!
//! The format is text so that it can be read in a capture and typed by hand:
//!
//! ```text
//!   BEAT name incarnation seq ms interval multiplier[ echo][ hmac]     up; the next beat follows within interval
//!   BYE  name incarnation seq ms interval multiplier[ exit=N][ hmac]   stop message; seq was the last beat
//!   ECHO …                                     reply to a BEAT with the word echo, of the same length
//!   [word ]seq time                            the textbook's beat; time in seconds or milliseconds
//! ```
//!
//! The incarnation is up to 16 hexadecimal digits, new with each start; `ms` is the time of sending in milliseconds
//! since 1970 by the sender's clock; the interval is in milliseconds. The HMAC is HMAC-SHA-256 truncated to 128 bits,
//! as 32 hexadecimal digits, over everything before the space in front of it. A line end after it is allowed.

use std::io::Write as _;
use std::time::Duration;

use crate::mac::{MacKey, TAG_SIZE};

/// Longest datagram accepted; every valid packet is shorter.
pub(crate) const MAX_PACKET_BYTES: usize = 512;
pub(super) const MAX_NAME_BYTES: usize = 64;
pub(crate) const MAX_INTERVAL: Duration = Duration::from_secs(86_400);
/// Textbook times from this value on are in milliseconds: in seconds it would be the year 5138.
const MILLISECONDS_THRESHOLD: f64 = 1e11;
const TAG_HEX_DIGITS: usize = 2 * TAG_SIZE;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PacketKind {
    Beat,
    /// The stop message.
    Bye,
    /// The reply to a beat.
    Echo,
}

/// Packet in our own format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BeatPacket<'a> {
    pub kind: PacketKind,
    pub name: &'a str,
    /// Random number of the sender's run.
    pub incarnation: u64,
    /// Sequence number, from 1; a stop message repeats that of the last beat.
    pub seq: u64,
    /// Time of sending, since 1970 by the sender's clock.
    pub sent_at: Duration,
    /// Longest time until the next beat.
    pub interval: Duration,
    /// Intervals of silence after which the sender is down.
    pub multiplier: u8,
    pub requests_echo: bool,
    /// Exit code of the supervised command, in a stop message.
    pub exit_code: Option<u8>,
}

/// Parsed datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packet<'a> {
    Beat(BeatPacket<'a>),
    /// The textbook's beat, which has no sender name.
    Textbook {
        seq: u64,
        /// Time of sending, since 1970 by the sender's clock.
        sent_at: Duration,
    },
}

/// Reason for rejecting a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PacketError {
    Malformed,
    /// The tag does not match the key or is missing, or there is a tag and no key.
    Unauthentic,
}

/// Returns whether a name fits a packet: 1 to [`MAX_NAME_BYTES`] bytes, no white space or control characters.
pub(crate) fn is_valid_name(name: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&name.len()) && !name.chars().any(|c| c.is_whitespace() || c.is_control())
}

impl<'a> Packet<'a> {
    /// Parses a datagram; with a key, only an authenticated one.
    pub(super) fn parse(datagram: &'a [u8], key: Option<&MacKey>) -> Result<Self, PacketError> {
        let text = std::str::from_utf8(without_line_end(datagram)).map_err(|_| PacketError::Malformed)?;
        let beat = match Self::parse_unverified(text) {
            Some(Self::Beat(beat)) => beat,
            _ if key.is_some() && packet_kind(text).is_none() => return Err(PacketError::Unauthentic),
            packet => return packet.ok_or(PacketError::Malformed),
        };
        let tag = text.rsplit_once(' ').and_then(|(covered, last)| Some((covered, parse_tag(last)?)));
        let is_authentic = match (key, tag) {
            (None, tag) => tag.is_none(),
            (Some(key), Some((covered, tag))) => key.verify(covered.as_bytes(), &tag),
            (Some(_), None) => false,
        };
        is_authentic.then_some(Self::Beat(beat)).ok_or(PacketError::Unauthentic)
    }

    /// Parses a line without verifying its tag.
    pub(super) fn parse_unverified(text: &'a str) -> Option<Self> {
        match packet_kind(text) {
            Some(kind) => BeatPacket::parse_fields(kind, text.split(' ').skip(1)).map(Self::Beat),
            None => parse_textbook(text),
        }
    }
}

impl<'a> BeatPacket<'a> {
    fn parse_fields(kind: PacketKind, mut words: impl Iterator<Item = &'a str>) -> Option<Self> {
        let name = words.next().filter(|name| is_valid_name(name))?;
        let incarnation = words.next().filter(|word| word.len() <= 16 && word.bytes().all(is_hex_digit))?;
        let mut beat = Self {
            kind,
            name,
            incarnation: u64::from_str_radix(incarnation, 16).ok()?,
            seq: parse_decimal(words.next()?)?,
            sent_at: Duration::from_millis(parse_decimal(words.next()?)?),
            interval: Duration::from_millis(parse_decimal(words.next()?)?),
            multiplier: u8::try_from(parse_decimal(words.next()?)?).ok().filter(|times| *times > 0)?,
            requests_echo: false,
            exit_code: None,
        };
        let is_in_range = !beat.interval.is_zero() && beat.interval <= MAX_INTERVAL && beat.seq < u64::MAX;
        let mut next = words.next();
        match (kind, next) {
            (PacketKind::Beat | PacketKind::Echo, Some("echo")) => (beat.requests_echo, next) = (true, words.next()),
            (PacketKind::Bye, Some(word)) if word.starts_with("exit=") => {
                let code = parse_decimal(word.strip_prefix("exit=")?)?;
                (beat.exit_code, next) = (Some(u8::try_from(code).ok()?), words.next());
            }
            _ => {}
        }
        // Only a tag may follow.
        let is_complete = next.is_none_or(|word| parse_tag(word).is_some()) && words.next().is_none();
        (is_in_range && is_complete).then_some(beat)
    }

    /// Appends the packet to `out`, with a tag if there is a key.
    pub(super) fn encode(&self, key: Option<&MacKey>, out: &mut Vec<u8>) {
        let start = out.len();
        let verb = match self.kind {
            PacketKind::Beat => "BEAT",
            PacketKind::Bye => "BYE",
            PacketKind::Echo => "ECHO",
        };
        let Self { name, incarnation, seq, multiplier, .. } = self;
        let (sent, interval) = (self.sent_at.as_millis(), self.interval.as_millis());
        // Writing to a Vec cannot fail.
        let _ = write!(out, "{verb} {name} {incarnation:016x} {seq} {sent} {interval} {multiplier}");
        if self.requests_echo {
            out.extend_from_slice(b" echo");
        }
        if let Some(exit) = self.exit_code {
            let _ = write!(out, " exit={exit}");
        }
        if let Some(key) = key {
            let tag = key.sign(out.get(start..).unwrap_or_default());
            out.push(b' ');
            tag.iter().for_each(|byte| drop(write!(out, "{byte:02x}")));
        }
    }
}

/// Format of the beats that a sender sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BeatEncoding {
    /// Beats with a name, an interval and a stop message.
    Beat,
    /// A number and the time, as in the textbook's exercise.
    Text,
}

/// Appends a textbook beat: a word, the number and the time in seconds since 1970.
pub(super) fn encode_textbook(seq: u64, sent_at: Duration, out: &mut Vec<u8>) {
    // Writing to a Vec cannot fail.
    let _ = write!(out, "Heartbeat {seq} {}.{:06}", sent_at.as_secs(), sent_at.subsec_micros());
}

/// Turns a beat that [`Packet::parse`] has accepted into its echo: another verb of the same length, and a new
/// tag, so that an echo can never be replayed as a beat.
pub(super) fn make_echo(line: &mut [u8], key: Option<&MacKey>) {
    if let Some(verb) = line.get_mut(..4) {
        verb.copy_from_slice(b"ECHO");
    }
    let end = without_line_end(line).len();
    if let (Some(key), Some((covered, tag))) = (key, line.get_mut(..end).and_then(|line| split_tag(line))) {
        for (digits, byte) in tag.chunks_exact_mut(2).zip(key.sign(covered)) {
            digits.copy_from_slice(format!("{byte:02x}").as_bytes());
        }
    }
}

/// Splits a line into the part that the tag covers and the digits of the tag.
fn split_tag(line: &mut [u8]) -> Option<(&[u8], &mut [u8])> {
    let (before, digits) = line.split_at_mut_checked(line.len().checked_sub(TAG_HEX_DIGITS)?)?;
    Some((before.strip_suffix(b" ")?, digits))
}

/// Returns the kind that the first word names; `None` for a textbook beat.
pub(super) fn packet_kind(text: &str) -> Option<PacketKind> {
    match text.split(' ').next()? {
        "BEAT" => Some(PacketKind::Beat),
        "BYE" => Some(PacketKind::Bye),
        "ECHO" => Some(PacketKind::Echo),
        _ => None,
    }
}

pub(super) fn without_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Parses the textbook's format, `[word ]seq time`.
fn parse_textbook(text: &str) -> Option<Packet<'_>> {
    let mut words = text.rsplit(' ');
    let time = words.next().filter(|word| word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'))?;
    let time: f64 = time.parse().ok()?;
    let seq = parse_decimal(words.next()?)?;
    let has_valid_word = words.next().is_none_or(is_valid_name);
    if !has_valid_word || words.next().is_some() || seq == u64::MAX {
        return None;
    }
    let seconds = if time >= MILLISECONDS_THRESHOLD { time / 1e3 } else { time };
    Some(Packet::Textbook { seq, sent_at: Duration::try_from_secs_f64(seconds).ok()? })
}

/// Parses a decimal number without a sign.
fn parse_decimal(word: &str) -> Option<u64> {
    word.bytes().all(|byte| byte.is_ascii_digit()).then(|| word.parse().ok())?
}

fn parse_tag(word: &str) -> Option<[u8; TAG_SIZE]> {
    let is_tag = word.len() == TAG_HEX_DIGITS && word.bytes().all(is_hex_digit);
    is_tag.then(|| u128::from_str_radix(word, 16).ok().map(u128::to_be_bytes))?
}

fn is_hex_digit(byte: u8) -> bool {
    byte.is_ascii_hexdigit()
}

#[cfg(test)]
mod tests;
