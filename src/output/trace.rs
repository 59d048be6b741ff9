//! The conversation in the margin of stderr, line by line.
//!
//! Owns the margin, which is that of swaks: `->` and `<-` in clear, `~>` and `<~` under TLS, `**`
//! for what was said by neither side. The caller hides secrets before they come here; control
//! octets are escaped here.

use super::{Escaped, Palette, Style, write_stderr};

/// Who said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TraceKind {
    /// We did.
    Sent,
    /// The peer did.
    Received,
    /// Nobody did: a remark.
    Info,
}

/// Prints a conversation, if it was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trace {
    palette: Option<Palette>,
    encrypted: bool,
}

impl Trace {
    /// A trace that prints if `on`.
    pub(crate) fn new(enabled: bool, style: Style) -> Self {
        Self { palette: enabled.then(|| Palette::stderr(style)), encrypted: false }
    }

    /// Whether it prints, for callers whose text is dear to make.
    pub(crate) fn is_enabled(self) -> bool {
        self.palette.is_some()
    }

    /// From here on, lines are marked as encrypted or not.
    pub(crate) fn set_encrypted(&mut self, encrypted: bool) {
        self.encrypted = encrypted;
    }

    /// Prints lines that end in CRLF or LF; an empty line shows as an empty line.
    pub(crate) fn write_lines(self, kind: TraceKind, bytes: &[u8]) {
        let Some(ink) = self.palette else { return };
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        for line in bytes.split(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let margin = ink.paint(color(kind), self.prefix(kind));
            write_stderr(format!("{margin} {}", Escaped(line)).trim_end());
            write_stderr("\n");
        }
    }

    /// Prints a remark of our own.
    pub(crate) fn info(self, text: &str) {
        self.write_lines(TraceKind::Info, text.as_bytes());
    }

    fn prefix(self, kind: TraceKind) -> &'static str {
        match (kind, self.encrypted) {
            (TraceKind::Sent, false) => "->",
            (TraceKind::Sent, true) => "~>",
            (TraceKind::Received, false) => "<-",
            (TraceKind::Received, true) => "<~",
            (TraceKind::Info, _) => "**",
        }
    }
}

fn color(kind: TraceKind) -> &'static str {
    match kind {
        TraceKind::Sent => "36",
        TraceKind::Received => "32",
        TraceKind::Info => "2",
    }
}
