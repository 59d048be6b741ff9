//! The line a beat is.
//!
//! Owns what is on the wire. It is text, so that it can be read there and written by anyone:
//!
//! ```text
//!   BEAT name incarnation seq ms interval multiplier[ echo][ hmac]     I live; the next one comes within interval
//!   BYE  name incarnation seq ms interval multiplier[ exit=N][ hmac]   seq was the last one
//!   ECHO …                                     the answer to a BEAT with the word echo, as long as it
//!   [word ]seq time                            the textbook's beat; time in seconds or milliseconds
//! ```
//!
//! The incarnation is up to 16 hexadecimal digits, new with each start; `ms` are milliseconds since
//! 1970 by the sender's clock; the interval is in milliseconds. The HMAC is HMAC-SHA-256 cut to 128
//! bits, as 32 hexadecimal digits, over everything before the space in front of it. A line end
//! behind it is allowed.

use std::io::Write as _;
use std::time::Duration;

use crate::mac::{MacKey, TAG_SIZE};

/// The longest line that is read; the longest there can be is shorter.
pub(crate) const MAX_PACKET_BYTES: usize = 512;
/// The longest name, in octets.
pub(super) const MAX_NAME_BYTES: usize = 64;
/// The longest interval.
pub(crate) const MAX_INTERVAL: Duration = Duration::from_secs(86_400);
/// From here on a textbook's time is in milliseconds: in seconds it would be the year 5138.
const MILLISECONDS_THRESHOLD: f64 = 1e11;
/// A tag in hexadecimal digits.
const TAG_HEX_DIGITS: usize = 2 * TAG_SIZE;

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PacketKind {
    /// A sign of life.
    Beat,
    /// The last one.
    Bye,
    /// The answer to one.
    Echo,
}

/// A line of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BeatPacket<'a> {
    /// What it is.
    pub kind: PacketKind,
    /// Whose it is.
    pub name: &'a str,
    /// Which run of the sender.
    pub incarnation: u64,
    /// Its number, from 1; a goodbye repeats that of the last beat.
    pub seq: u64,
    /// When it was sent, since 1970 by the sender's clock.
    pub sent_at: Duration,
    /// Within which time the next one is sent.
    pub interval: Duration,
    /// After how many intervals of silence the sender is down.
    pub multiplier: u8,
    /// Whether an echo is asked for.
    pub wants_echo: bool,
    /// With a goodbye: the exit code of what was watched over.
    pub exit_code: Option<u8>,
}

/// What a datagram says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packet<'a> {
    /// Ours.
    Beat(BeatPacket<'a>),
    /// The textbook's, which names nobody.
    Textbook {
        /// Its number.
        seq: u64,
        /// When it was sent, since 1970 by the sender's clock.
        sent_at: Duration,
    },
}

/// Why a datagram is no beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PacketError {
    /// None of the lines there are.
    Malformed,
    /// The key does not vouch for it, or nobody asked for a tag.
    Unauthentic,
}

/// Whether a name can be written into a beat: no longer than [`LONGEST_NAME`], nothing that is white
/// space or controls a terminal.
pub(crate) fn is_valid_name(name: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&name.len()) && !name.chars().any(|c| c.is_whitespace() || c.is_control())
}

impl<'a> Packet<'a> {
    /// Reads a datagram; with a key only what it vouches for.
    pub(super) fn parse(datagram: &'a [u8], key: Option<&MacKey>) -> Result<Self, PacketError> {
        let text = std::str::from_utf8(without_line_end(datagram)).map_err(|_| PacketError::Malformed)?;
        let mut words = text.split(' ');
        let kind = match words.next() {
            Some("BEAT") => PacketKind::Beat,
            Some("BYE") => PacketKind::Bye,
            Some("ECHO") => PacketKind::Echo,
            _ if key.is_some() => return Err(PacketError::Unauthentic),
            _ => return parse_textbook(text).ok_or(PacketError::Malformed),
        };
        let beat = BeatPacket::parse_fields(kind, words).ok_or(PacketError::Malformed)?;
        let tag = text.rsplit_once(' ').and_then(|(covered, last)| Some((covered, parse_tag(last)?)));
        let is_authentic = match (key, tag) {
            (None, tag) => tag.is_none(),
            (Some(key), Some((covered, tag))) => key.verify(covered.as_bytes(), &tag),
            (Some(_), None) => false,
        };
        is_authentic.then_some(Self::Beat(beat)).ok_or(PacketError::Unauthentic)
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
            wants_echo: false,
            exit_code: None,
        };
        let sound = !beat.interval.is_zero() && beat.interval <= MAX_INTERVAL && beat.seq < u64::MAX;
        let mut next = words.next();
        match (kind, next) {
            (PacketKind::Beat | PacketKind::Echo, Some("echo")) => (beat.wants_echo, next) = (true, words.next()),
            (PacketKind::Bye, Some(word)) if word.starts_with("exit=") => {
                let code = parse_decimal(word.strip_prefix("exit=")?)?;
                (beat.exit_code, next) = (Some(u8::try_from(code).ok()?), words.next());
            }
            _ => {}
        }
        // What is left can only be a tag.
        let ends = next.is_none_or(|word| parse_tag(word).is_some()) && words.next().is_none();
        (sound && ends).then_some(beat)
    }

    /// Appends the line, sealed if there is a key.
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
        if self.wants_echo {
            out.extend_from_slice(b" echo");
        }
        if let Some(exit) = self.exit_code {
            let _ = write!(out, " exit={exit}");
        }
        if let Some(key) = key {
            let tag = key.sign(out.get(start..).unwrap_or_default());
            out.push(b' ');
            tag.iter().for_each(|octet| drop(write!(out, "{octet:02x}")));
        }
    }
}

/// Makes the answer to a beat out of the beat, which [`Line::read`] has taken: another verb of the same length,
/// and its own tag, so that it can never be taken for the beat.
pub(super) fn make_echo(line: &mut [u8], key: Option<&MacKey>) {
    if let Some(verb) = line.get_mut(..4) {
        verb.copy_from_slice(b"ECHO");
    }
    let end = without_line_end(line).len();
    if let (Some(key), Some((covered, tag))) = (key, line.get_mut(..end).and_then(|line| split_tag(line))) {
        for (digits, octet) in tag.chunks_exact_mut(2).zip(key.sign(covered)) {
            digits.copy_from_slice(format!("{octet:02x}").as_bytes());
        }
    }
}

/// What a tag covers, and its digits.
fn split_tag(line: &mut [u8]) -> Option<(&[u8], &mut [u8])> {
    let (before, digits) = line.split_at_mut_checked(line.len().checked_sub(TAG_HEX_DIGITS)?)?;
    Some((before.strip_suffix(b" ")?, digits))
}

fn without_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// `[word ]seq time`.
fn parse_textbook(text: &str) -> Option<Packet<'_>> {
    let mut words = text.rsplit(' ');
    let time = words.next().filter(|word| word.bytes().all(|octet| octet.is_ascii_digit() || octet == b'.'))?;
    let time: f64 = time.parse().ok()?;
    let seq = parse_decimal(words.next()?)?;
    let named = words.next().is_none_or(is_valid_name);
    if !named || words.next().is_some() || seq == u64::MAX {
        return None;
    }
    let seconds = if time >= MILLISECONDS_THRESHOLD { time / 1e3 } else { time };
    Some(Packet::Textbook { seq, sent_at: Duration::try_from_secs_f64(seconds).ok()? })
}

/// A decimal without sign that fits.
fn parse_decimal(word: &str) -> Option<u64> {
    word.bytes().all(|octet| octet.is_ascii_digit()).then(|| word.parse().ok())?
}

fn parse_tag(word: &str) -> Option<[u8; TAG_SIZE]> {
    let plain = word.len() == TAG_HEX_DIGITS && word.bytes().all(is_hex_digit);
    plain.then(|| u128::from_str_radix(word, 16).ok().map(u128::to_be_bytes))?
}

fn is_hex_digit(byte: u8) -> bool {
    byte.is_ascii_hexdigit()
}

#[cfg(test)]
mod tests;
