//! The conversation in the margin of stderr, line by line.
//!
//! Owns the margin, which is that of swaks: `->` and `<-` in clear, `~>` and `<~` under TLS, `**`
//! for what was said by neither side. The caller hides secrets before they come here; control
//! octets are escaped here.

use super::{Escaped, Ink, Style, talk};

/// Who said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// We did.
    Sent,
    /// The peer did.
    Received,
    /// Nobody did: a remark.
    Remark,
}

/// Prints a conversation, if it was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Trace {
    ink: Option<Ink>,
    encrypted: bool,
}

impl Trace {
    /// A trace that prints if `on`.
    pub fn new(on: bool, style: Style) -> Self {
        Self { ink: on.then(|| Ink::stderr(style)), encrypted: false }
    }

    /// Whether it prints, for callers whose text is dear to make.
    pub fn is_on(self) -> bool {
        self.ink.is_some()
    }

    /// From here on, lines are marked as encrypted or not.
    pub fn set_encrypted(&mut self, encrypted: bool) {
        self.encrypted = encrypted;
    }

    /// Prints lines that end in CRLF or LF; an empty line shows as an empty line.
    pub fn lines(self, direction: Direction, bytes: &[u8]) {
        let Some(ink) = self.ink else { return };
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        for line in bytes.split(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let margin = ink.paint(color(direction), self.margin(direction));
            talk(format!("{margin} {}", Escaped(line)).trim_end());
            talk("\n");
        }
    }

    /// Prints a remark of our own.
    pub fn remark(self, text: &str) {
        self.lines(Direction::Remark, text.as_bytes());
    }

    fn margin(self, direction: Direction) -> &'static str {
        match (direction, self.encrypted) {
            (Direction::Sent, false) => "->",
            (Direction::Sent, true) => "~>",
            (Direction::Received, false) => "<-",
            (Direction::Received, true) => "<~",
            (Direction::Remark, _) => "**",
        }
    }
}

fn color(direction: Direction) -> &'static str {
    match direction {
        Direction::Sent => "36",
        Direction::Received => "32",
        Direction::Remark => "2",
    }
}
