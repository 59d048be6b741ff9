//! The only code that prints.
//!
//! Owns stdout and stderr: events as text or JSON, errors, notes, the trace margin, progress bars.
//! What an event says is told by its command; how it reaches the reader is told here, once, for
//! all of them.
//!
//! ```text
//!   Event (plain data) ──▶ Output ──▶ stdout      Error, note, trace, progress ──▶ stderr
//!            └──▶ Recorder (bounded queue) ──▶ writer thread ──▶ Output
//! ```

mod chart;
mod errors;
mod escape;
mod plot;
mod progress;
mod recorder;
mod trace;

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

pub(crate) use chart::{Chart, svg};
pub(crate) use errors::install_panic_hook;
pub(crate) use escape::{Escaped, escaped};
pub(crate) use plot::{Marker, histogram, spark_line};
pub(crate) use progress::{Progress, StatusLine};
pub(crate) use recorder::Recorder;
pub(crate) use trace::{Trace, TraceKind};

use crate::error::{Error, Result, io_error_text};
use crate::exit::Exit;

/// Whether stdout, of which there is one, has had its last line.
static SUMMARY_WRITTEN: AtomicBool = AtomicBool::new(false);

/// Whether the reader of stdout takes nothing any longer: whoever wrote to it would wait for ever.
static STDOUT_STALLED: AtomicBool = AtomicBool::new(false);

/// Text for people or JSON for programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    /// One or more lines of text per event.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Whether to colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless the environment says otherwise.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How the user wants to be talked to; made from the global flags and handed down.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Style {
    /// Text or JSON.
    pub format: Format,
    /// Summary and errors only.
    pub quiet: bool,
    /// How much more than usual.
    pub verbose: u8,
    /// Colour.
    pub color: Color,
}

/// A fact that is printed. Its `Serialize` form is the JSON line, its `Display` the text.
pub(crate) trait Event: Serialize + Display {
    /// Whether it is printed even with `-q`: the summary.
    fn is_summary(&self) -> bool {
        false
    }
}

/// A stream that text goes to, and whether it is coloured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Palette(bool);

impl Palette {
    /// The ink for stderr: flag, then `NO_COLOR`, then `CLICOLOR_FORCE`, then `TERM`, then
    /// whether it is a terminal.
    pub(crate) fn stderr(style: Style) -> Self {
        Self::new(style.color, io::stderr().is_terminal())
    }

    fn new(color: Color, is_terminal: bool) -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        Self(match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto if set("NO_COLOR") => false,
            Color::Auto
                if std::env::var_os("CLICOLOR_FORCE").is_some_and(|value| !value.is_empty() && value != "0") =>
            {
                true
            }
            Color::Auto if std::env::var_os("TERM").is_some_and(|term| term == "dumb") => false,
            Color::Auto => is_terminal,
        })
    }

    fn is_colored(self) -> bool {
        self.0
    }

    /// `text` in one of the eight colours, by its SGR parameter.
    pub(crate) fn paint(self, sgr: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{sgr}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Results on stdout, everything else on stderr.
#[derive(Debug)]
pub(crate) struct Output {
    style: Style,
    /// The reader has gone away; whatever else there is to say, nobody hears it.
    closed: bool,
    is_terminal: bool,
    buffer: Vec<u8>,
}

impl Output {
    /// An output in this style.
    pub(crate) fn new(style: Style) -> Self {
        Self {
            style,
            closed: STDOUT_STALLED.load(Ordering::Relaxed),
            is_terminal: io::stdout().is_terminal(),
            buffer: Vec::new(),
        }
    }

    /// One whose reader takes nothing: what is said to it is not said.
    fn stalled() -> Self {
        STDOUT_STALLED.store(true, Ordering::Relaxed);
        Self::new(Style::default())
    }

    /// How the user wants to be talked to.
    pub(crate) fn style(&self) -> Style {
        self.style
    }

    /// Whether the reader of stdout has gone away. That is not a failure: the run ends silently
    /// with the code it has earned so far.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Prints an event as a line of its form, at once.
    pub(crate) fn emit(&mut self, event: &impl Event) -> Result<()> {
        if self.style.quiet && !event.is_summary() {
            return Ok(());
        }
        let mut line = std::mem::take(&mut self.buffer);
        line.clear();
        format_event(event, self.style.format, &mut line)?;
        if event.is_summary() {
            SUMMARY_WRITTEN.store(true, Ordering::Relaxed);
        }
        let written = self.write_bytes(&line);
        self.buffer = line;
        written
    }

    /// Whether stdout is a terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Writes text of several lines that is only for people: a picture.
    pub(crate) fn write_text(&mut self, text: &str) -> Result<()> {
        if text.is_empty() { Ok(()) } else { self.write_bytes(format!("{text}\n").as_bytes()) }
    }

    /// Writes content as it is: the body of a page.
    pub(crate) fn write_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        if self.closed {
            return Ok(());
        }
        let mut stdout = io::stdout().lock();
        match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(())
            }
            Err(error) => {
                let word = io_error_text(&error);
                Err(Error::new(Exit::Io, format!("cannot write to standard output: {word}")).with_source(error))
            }
        }
    }

    /// Says something to the person at the terminal, on stderr; not with `-q`.
    pub(crate) fn note(&self, text: &str) {
        if !self.style.quiet {
            write_stderr(&format!("{}\n", escaped(text)));
        }
    }

    /// Prints a failure: on stderr for people, and with JSON as an `error` event for programs.
    pub(crate) fn report_error(&mut self, error: &Error) {
        self.write_error_event(error);
        errors::print_error(error, self.style);
    }

    /// Prints the failure that ends `command`. The last line for programs is a summary also then.
    pub(crate) fn report_fatal(&mut self, error: &Error, command: Option<&str>) {
        self.report_error(error);
        self.write_failure_summary(error.exit(), command);
    }

    fn write_error_event(&mut self, error: &Error) {
        if let (Format::Json, Ok(line)) = (self.style.format, errors::json_line(error)) {
            // The failure is being reported already; a second one adds nothing.
            let _ = self.write_bytes(&line);
        }
    }

    fn write_failure_summary(&mut self, exit: Exit, command: Option<&str>) {
        if self.style.format == Format::Json && !SUMMARY_WRITTEN.load(Ordering::Relaxed) {
            let _ = self.emit(&errors::FailureSummary { command, exit: exit.code() });
        }
    }

    /// Prints what the argument parser refuses, in its own words, and for programs as an error.
    pub(crate) fn report_usage_error(&mut self, colored: &str, plain: &str, command: Option<&str>) {
        write_stderr(if Palette::stderr(self.style).is_colored() { colored } else { plain });
        let what = plain.lines().next().unwrap_or_default();
        let error = Error::new(Exit::Usage, what.strip_prefix("error: ").unwrap_or(what));
        self.write_error_event(&error);
        self.write_failure_summary(Exit::Usage, command);
    }
}

/// One event as its line or lines.
fn format_event(event: &impl Event, format: Format, line: &mut Vec<u8>) -> Result<()> {
    let done = match format {
        Format::Text => write!(line, "{event}"),
        Format::Json => serde_json::to_writer(&mut *line, event).map_err(io::Error::from),
    };
    done.map_err(|error| Error::new(Exit::Bug, "an event cannot be written down").with_source(error))?;
    line.push(b'\n');
    Ok(())
}

/// Prints help or a version: a result.
pub(crate) fn print_help(colored: &str, plain: &str) -> Result<()> {
    let ink = Palette::new(Color::Auto, io::stdout().is_terminal());
    Output::new(Style::default()).write_bytes(if ink.0 { colored } else { plain }.as_bytes())
}

/// Writes to stderr. If nobody reads that either, there is nobody left to tell.
fn write_stderr(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}
