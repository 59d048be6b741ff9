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

use crate::seal::{MacKey, TAG_SIZE};

/// The longest line that is read; the longest there can be is shorter.
pub const LARGEST: usize = 512;
/// The longest name, in octets.
pub const LONGEST_NAME: usize = 64;
/// The longest interval.
pub const LONGEST_INTERVAL: Duration = Duration::from_secs(86_400);
/// From here on a textbook's time is in milliseconds: in seconds it would be the year 5138.
const MILLISECONDS: f64 = 1e11;
/// A tag in hexadecimal digits.
const DIGITS: usize = 2 * TAG_SIZE;

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A sign of life.
    Beat,
    /// The last one.
    Bye,
    /// The answer to one.
    Echo,
}

/// A line of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beat<'a> {
    /// What it is.
    pub kind: Kind,
    /// Whose it is.
    pub name: &'a str,
    /// Which run of the sender.
    pub incarnation: u64,
    /// Its number, from 1; a goodbye repeats that of the last beat.
    pub seq: u64,
    /// When it was sent, since 1970 by the sender's clock.
    pub sent: Duration,
    /// Within which time the next one is sent.
    pub interval: Duration,
    /// After how many intervals of silence the sender is down.
    pub multiplier: u8,
    /// Whether an echo is asked for.
    pub wants_echo: bool,
    /// With a goodbye: the exit code of what was watched over.
    pub exit: Option<u8>,
}

/// What a datagram says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// Ours.
    Beat(Beat<'a>),
    /// The textbook's, which names nobody.
    Textbook {
        /// Its number.
        seq: u64,
        /// When it was sent, since 1970 by the sender's clock.
        sent: Duration,
    },
}

/// Why a datagram is no beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// None of the lines there are.
    Malformed,
    /// The key does not vouch for it, or nobody asked for a tag.
    Unauthentic,
}

/// Whether a name can be written into a beat: no longer than [`LONGEST_NAME`], nothing that is white
/// space or controls a terminal.
pub fn is_name(name: &str) -> bool {
    (1..=LONGEST_NAME).contains(&name.len()) && !name.chars().any(|c| c.is_whitespace() || c.is_control())
}

impl<'a> Line<'a> {
    /// Reads a datagram; with a key only what it vouches for.
    pub fn read(datagram: &'a [u8], key: Option<&MacKey>) -> Result<Self, Wrong> {
        let text = std::str::from_utf8(without_line_end(datagram)).map_err(|_| Wrong::Malformed)?;
        let mut words = text.split(' ');
        let kind = match words.next() {
            Some("BEAT") => Kind::Beat,
            Some("BYE") => Kind::Bye,
            Some("ECHO") => Kind::Echo,
            _ if key.is_some() => return Err(Wrong::Unauthentic),
            _ => return textbook(text).ok_or(Wrong::Malformed),
        };
        let beat = Beat::fields(kind, words).ok_or(Wrong::Malformed)?;
        let tag = text.rsplit_once(' ').and_then(|(covered, last)| Some((covered, tag(last)?)));
        let is_authentic = match (key, tag) {
            (None, tag) => tag.is_none(),
            (Some(key), Some((covered, tag))) => key.verify(covered.as_bytes(), &tag),
            (Some(_), None) => false,
        };
        is_authentic.then_some(Self::Beat(beat)).ok_or(Wrong::Unauthentic)
    }
}

impl<'a> Beat<'a> {
    fn fields(kind: Kind, mut words: impl Iterator<Item = &'a str>) -> Option<Self> {
        let name = words.next().filter(|name| is_name(name))?;
        let incarnation = words.next().filter(|word| word.len() <= 16 && word.bytes().all(is_hexadecimal))?;
        let mut beat = Self {
            kind,
            name,
            incarnation: u64::from_str_radix(incarnation, 16).ok()?,
            seq: number(words.next()?)?,
            sent: Duration::from_millis(number(words.next()?)?),
            interval: Duration::from_millis(number(words.next()?)?),
            multiplier: u8::try_from(number(words.next()?)?).ok().filter(|times| *times > 0)?,
            wants_echo: false,
            exit: None,
        };
        let sound = !beat.interval.is_zero() && beat.interval <= LONGEST_INTERVAL && beat.seq < u64::MAX;
        let mut next = words.next();
        match (kind, next) {
            (Kind::Beat | Kind::Echo, Some("echo")) => (beat.wants_echo, next) = (true, words.next()),
            (Kind::Bye, Some(word)) if word.starts_with("exit=") => {
                let code = number(word.strip_prefix("exit=")?)?;
                (beat.exit, next) = (Some(u8::try_from(code).ok()?), words.next());
            }
            _ => {}
        }
        // What is left can only be a tag.
        let ends = next.is_none_or(|word| tag(word).is_some()) && words.next().is_none();
        (sound && ends).then_some(beat)
    }

    /// Appends the line, sealed if there is a key.
    pub fn write(&self, key: Option<&MacKey>, out: &mut Vec<u8>) {
        let start = out.len();
        let verb = match self.kind {
            Kind::Beat => "BEAT",
            Kind::Bye => "BYE",
            Kind::Echo => "ECHO",
        };
        let Self { name, incarnation, seq, multiplier, .. } = self;
        let (sent, interval) = (self.sent.as_millis(), self.interval.as_millis());
        // Writing to a Vec cannot fail.
        let _ = write!(out, "{verb} {name} {incarnation:016x} {seq} {sent} {interval} {multiplier}");
        if self.wants_echo {
            out.extend_from_slice(b" echo");
        }
        if let Some(exit) = self.exit {
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
pub fn make_echo(line: &mut [u8], key: Option<&MacKey>) {
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
    let (before, digits) = line.split_at_mut_checked(line.len().checked_sub(DIGITS)?)?;
    Some((before.strip_suffix(b" ")?, digits))
}

fn without_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// `[word ]seq time`.
fn textbook(text: &str) -> Option<Line<'_>> {
    let mut words = text.rsplit(' ');
    let time = words.next().filter(|word| word.bytes().all(|octet| octet.is_ascii_digit() || octet == b'.'))?;
    let time: f64 = time.parse().ok()?;
    let seq = number(words.next()?)?;
    let named = words.next().is_none_or(is_name);
    if !named || words.next().is_some() || seq == u64::MAX {
        return None;
    }
    let seconds = if time >= MILLISECONDS { time / 1e3 } else { time };
    Some(Line::Textbook { seq, sent: Duration::try_from_secs_f64(seconds).ok()? })
}

/// A decimal without sign that fits.
fn number(word: &str) -> Option<u64> {
    word.bytes().all(|octet| octet.is_ascii_digit()).then(|| word.parse().ok())?
}

fn tag(word: &str) -> Option<[u8; TAG_SIZE]> {
    let plain = word.len() == DIGITS && word.bytes().all(is_hexadecimal);
    plain.then(|| u128::from_str_radix(word, 16).ok().map(u128::to_be_bytes))?
}

fn is_hexadecimal(octet: u8) -> bool {
    octet.is_ascii_hexdigit()
}

#[cfg(test)]
mod tests;
