//! Where a body goes: to the screen, into a file, or nowhere but into a count.
//!
//! Owns the decisions that need the response's head: an error page does not become the file that
//! was asked for, a redirect's body is nobody's, octets that are no text do not go to a terminal.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};
use std::path::Path;

use super::exchange::ResponseSink;
use crate::disk::{Overwrite, PartFile};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::http::ResponseHead;
use crate::output::{Escaped, Output, Progress};
use crate::time::Moment;

/// Where a body is to go.
#[derive(Debug)]
pub(super) enum Destination {
    /// Nowhere: it is counted.
    Count,
    /// To stdout; `any` says that it goes to a terminal even if it is no text.
    Stdout {
        /// `-o -`.
        allow_binary: bool,
    },
    /// Into a file.
    File(PartFile),
}

impl Destination {
    /// A file, opened before anything is fetched.
    pub(super) fn file(path: &Path, overwrite: bool) -> Result<Self> {
        PartFile::create(path, if overwrite { Overwrite::Yes } else { Overwrite::No }).map(Self::File)
    }
}

/// Takes one response.
pub(super) struct BodySink<'o> {
    destination: Destination,
    include: bool,
    output: &'o mut Output,
    follows_redirects: bool,
    /// Whether this response's body is the one that was asked for.
    wanted: bool,
    bytes: u64,
    progress: Option<Progress>,
}

impl<'o> BodySink<'o> {
    /// A delivery; `include` shows the head too, `follows` says that redirects are followed.
    pub(super) fn new(
        destination: Destination,
        include: bool,
        output: &'o mut Output,
        follows_redirects: bool,
    ) -> Self {
        Self { destination, include, output, follows_redirects, wanted: false, bytes: 0, progress: None }
    }

    /// Octets of the body that was asked for.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The response is complete: the file gets its name. Whether there is one.
    pub(super) fn finish(self) -> Result<bool> {
        if let Some(progress) = &self.progress {
            progress.clear();
        }
        match self.destination {
            Destination::File(part) if self.wanted => part.finish().map(|()| true),
            _ => Ok(false),
        }
    }

    /// The response is not complete: says where what came of it is.
    pub(super) fn abort(self, error: Error) -> Error {
        if let Some(progress) = &self.progress {
            progress.clear();
        }
        match &self.destination {
            Destination::File(part) => match part.partial_path() {
                Some(kept) => {
                    let kept = format!("the {} bytes that came are in {}", self.bytes, kept.display());
                    let advice = error.advice().unwrap_or("try again").to_owned();
                    error.remedy(format!("{advice}; {kept}"))
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

    /// A bar, where it disturbs nothing: not over a body on the same terminal.
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
        self.wanted = !is_redirect && (!is_error || !goes_to_file || self.include);
        if self.include && !is_redirect {
            match &mut self.destination {
                Destination::Stdout { .. } => self.write_head(head)?,
                Destination::File(part) => part.write(&head.raw)?,
                Destination::Count => {}
            }
        }
        if self.wanted {
            self.start_progress(head, now);
        }
        Ok(())
    }

    fn on_data(&mut self, data: &[u8], now: Moment) -> Result<()> {
        if !self.wanted {
            return Ok(());
        }
        match &mut self.destination {
            Destination::Count => {}
            Destination::File(part) => part.write(data)?,
            Destination::Stdout { allow_binary: any } => {
                if !*any && self.bytes == 0 && io::stdout().is_terminal() && !is_text(data) {
                    return Err(Error::new(Exit::CannotCreate, "the body is not text, and would upset the terminal")
                        .expected("text, or a place for other things")
                        .remedy("write it to a file with -o FILE, or show it all the same with -o -"));
                }
                self.output.write_bytes(data)?;
                if self.output.is_closed() {
                    // Nobody reads any more: the run ends silently, with what it has earned.
                    return Err(Error::new(Exit::Success, "standard output is closed"));
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

/// Whether a response sends the client elsewhere (RFC 9110 §15.4).
pub(super) fn is_redirect(head: &ResponseHead) -> bool {
    matches!(head.status, 301 | 302 | 303 | 307 | 308) && head.field("location").is_some()
}

/// Whether octets look like text: no control characters, and UTF-8 but for a character cut at the end.
fn is_text(data: &[u8]) -> bool {
    let cut_off = std::str::from_utf8(data).map_or_else(|error| error.error_len().is_none(), |_| true);
    // Escape sequences are for programs that know the terminal, not for what a peer sends.
    let is_control = |byte: &u8| byte.is_ascii_control() && !b"\t\n\r\x0c".contains(byte);
    cut_off && !data.iter().any(is_control)
}

#[cfg(test)]
mod tests {
    use super::is_text;

    #[test]
    fn text_is_told_from_other_octets() {
        assert!(is_text("grüße\n".as_bytes()));
        assert!(is_text(&"ü".as_bytes()[..1]), "cut within a character");
        assert!(!is_text(b"\x89PNG\r\n\x1a\n\0"));
        assert!(!is_text(b"a\0b") && !is_text(b"a\x1b[2Jb"));
    }
}
