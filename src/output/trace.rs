//! Trace of a dialogue on stderr, line by line, with explanations if they are wanted.
//!
//! Owns the margin, which is that of swaks: `->` and `<-` in clear, `~>` and `<~` under TLS, `**` for information.
//! Callers redact secrets before they call it; control bytes are escaped here.

use super::{Escaped, Palette, Stderr, Style};

/// Direction of a traced line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TraceKind {
    Sent,
    Received,
    /// Informational line from netlab itself.
    Info,
}

/// Trace, which prints only if enabled.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    palette: Option<Palette>,
    explains: bool,
    encrypted: bool,
    stderr: Stderr,
}

impl Trace {
    /// Creates a trace; `explains` enables it too.
    pub(crate) fn new(enabled: bool, explains: bool, style: Style, stderr: Stderr) -> Self {
        Self { palette: (enabled || explains).then(|| Palette::stderr(style)), explains, encrypted: false, stderr }
    }

    /// Returns true if the trace prints; lets callers skip expensive formatting.
    pub(crate) fn is_enabled(&self) -> bool {
        self.palette.is_some()
    }

    /// Returns true if explanations are wanted.
    pub(crate) fn explains(&self) -> bool {
        self.explains
    }

    /// Marks the following lines as encrypted or not.
    pub(crate) fn set_encrypted(&mut self, encrypted: bool) {
        self.encrypted = encrypted;
    }

    /// Prints lines that end in CRLF or LF.
    pub(crate) fn write_lines(&self, kind: TraceKind, bytes: &[u8]) {
        self.write(&self.format_lines(kind, bytes));
    }

    /// Prints formatted text.
    pub(crate) fn write(&self, text: &str) {
        if !text.is_empty() {
            self.stderr.write(text);
        }
    }

    /// Formats lines that end in CRLF or LF.
    pub(crate) fn format_lines(&self, kind: TraceKind, bytes: &[u8]) -> String {
        let Some(palette) = self.palette else { return String::new() };
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let mut text = String::new();
        for line in bytes.split(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let margin = palette.paint(color(kind), self.prefix(kind));
            text.push_str(format!("{margin} {}", Escaped(line)).trim_end());
            text.push('\n');
        }
        text
    }

    /// Prints an informational line.
    pub(crate) fn info(&self, text: &str) {
        self.write_lines(TraceKind::Info, text.as_bytes());
    }

    /// Prints the explanation of a step, if explanations are wanted.
    pub(crate) fn explain<'s>(&self, sentence: impl Into<Option<&'s str>>) {
        self.write(&self.format_explanation(sentence));
    }

    /// Formats the explanation of a step, if explanations are wanted.
    pub(crate) fn format_explanation<'s>(&self, sentence: impl Into<Option<&'s str>>) -> String {
        match sentence.into() {
            Some(sentence) if self.explains => self.format_lines(TraceKind::Info, sentence.as_bytes()),
            _ => String::new(),
        }
    }

    fn prefix(&self, kind: TraceKind) -> &'static str {
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
