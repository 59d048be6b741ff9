//! Destination of a response body: stdout, a file, or only a byte count.
//!
//! Owns the decisions that depend on the response head: an error page does not become the requested file, the body
//! of a redirect is discarded, and binary data is not written to a terminal.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};
use std::path::Path;

use crate::commands::report::plural;
use crate::disk::{Overwrite, PartFile};
use crate::error::Error;
use crate::failure::{Failure, FailureKind, Result};
use crate::http::{ResponseHead, ResponseSink};
use crate::output::{Escaped, Output, Progress};
use crate::protocol::is_text;
use crate::stop::StopConditions;
use crate::time::Moment;

#[derive(Debug)]
pub(super) enum Destination {
    /// Count the bytes and discard them.
    Count,
    /// Standard output; `allow_binary` (`-o -`) permits binary data on a terminal.
    Stdout {
        allow_binary: bool,
    },
    File(PartFile),
}

impl Destination {
    /// Creates the part file, before anything is fetched.
    pub(super) fn file(path: &Path, overwrite: bool, stop: &StopConditions) -> Result<Self> {
        PartFile::create(path, if overwrite { Overwrite::Yes } else { Overwrite::No }, stop).map(Self::File)
    }
}

/// Receiver of one response body.
pub(super) struct BodySink<'o> {
    destination: Destination,
    include: bool,
    output: &'o mut Output,
    follows_redirects: bool,
    body: BodyUse,
    bytes: u64,
    progress: Option<Progress>,
}

/// Use of the body that follows the response head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyUse {
    /// Body of a redirect, or an error page that must not become the requested file.
    Discard,
    Deliver,
}

impl<'o> BodySink<'o> {
    /// Creates a sink; `include` also writes the response head.
    pub(super) fn new(
        destination: Destination,
        include: bool,
        output: &'o mut Output,
        follows_redirects: bool,
    ) -> Self {
        Self { destination, include, output, follows_redirects, body: BodyUse::Discard, bytes: 0, progress: None }
    }

    /// Returns the number of bytes of the requested body.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Completes the response and renames the part file to its target; returns true if a file was written.
    pub(super) fn finish(self) -> Result<bool> {
        if let Some(progress) = &self.progress {
            progress.clear();
        }
        match self.destination {
            Destination::File(part) if self.body == BodyUse::Deliver => part.finish().map(|()| true),
            _ => Ok(false),
        }
    }

    /// Ends an incomplete response; adds the path of the partial file to the error.
    pub(super) fn abort(self, error: Error) -> Error {
        if let Some(progress) = &self.progress {
            progress.clear();
        }
        match &self.destination {
            Destination::File(part) => match part.partial_path() {
                Some(path) => {
                    let bytes = plural(self.bytes, "byte is", "bytes are");
                    let advice = error.advice().unwrap_or("try again").to_owned();
                    error.remedy(format!("{advice}; {} {bytes} in {}", self.bytes, path.display()))
                }
                None => error,
            },
            _ => error,
        }
    }

    fn write_head(&mut self, head: &ResponseHead) -> Result<()> {
        if !io::stdout().is_terminal() {
            return self.output.write_bytes(&head.raw);
        }
        let mut text = String::new();
        for line in head.raw.split_inclusive(|byte| *byte == b'\n') {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{}", Escaped(line.trim_ascii_end()));
        }
        self.output.write_bytes(text.as_bytes())
    }

    /// Shows a progress bar, unless the body is written to the terminal or counted.
    fn start_progress(&mut self, head: &ResponseHead, now: Moment) {
        let disturbs = match self.destination {
            Destination::Stdout { .. } => io::stdout().is_terminal(),
            Destination::Count => true,
            Destination::File(_) => false,
        };
        self.progress = (!disturbs).then(|| Progress::new(head.length, self.output.style(), now));
    }
}

impl ResponseSink for BodySink<'_> {
    fn on_interim(&mut self, _: &ResponseHead) {}

    fn on_head(&mut self, head: &ResponseHead, now: Moment) -> Result<()> {
        let is_redirect = self.follows_redirects && is_redirect(head);
        let is_error = head.status >= 400;
        self.bytes = 0;
        let goes_to_file = matches!(self.destination, Destination::File(_));
        let delivers = !is_redirect && (!is_error || !goes_to_file || self.include);
        self.body = if delivers { BodyUse::Deliver } else { BodyUse::Discard };
        if self.include && !is_redirect {
            match &mut self.destination {
                Destination::Stdout { .. } => self.write_head(head)?,
                Destination::File(part) => part.write(&head.raw)?,
                Destination::Count => {}
            }
        }
        if delivers {
            self.start_progress(head, now);
        }
        Ok(())
    }

    fn on_data(&mut self, data: &[u8], now: Moment) -> Result<()> {
        if self.body == BodyUse::Discard {
            return Ok(());
        }
        match &mut self.destination {
            Destination::Count => {}
            Destination::File(part) => part.write(data)?,
            Destination::Stdout { allow_binary } => {
                if !*allow_binary && self.bytes == 0 && io::stdout().is_terminal() && !is_text(data) {
                    return Err(Failure::new(FailureKind::BinaryOutput, "binary body not written to the terminal")
                        .expected("a text body, or output to a file"));
                }
                self.output.write_bytes(data)?;
                if self.output.is_closed() {
                    return Err(Failure::new(FailureKind::OutputClosed, "standard output is closed"));
                }
            }
        }
        self.bytes += data.len() as u64;
        if let Some(progress) = &mut self.progress {
            progress.set_position(self.bytes, now);
        }
        Ok(())
    }

    fn on_warning(&mut self, text: &str) {
        self.output.note(&format!("note: {text}"));
    }
}

/// Returns true if the response redirects the client (RFC 9110 §15.4).
pub(super) fn is_redirect(head: &ResponseHead) -> bool {
    matches!(head.status, 301 | 302 | 303 | 307 | 308) && head.field("location").is_some()
}
