//! Output: the only code that writes to stdout and stderr.
//!
//! Owns events as text or JSON, errors, notes, the trace margin and progress bars. Commands format their events; this
//! module decides where and how events are written.
//!
//! ```text
//!   Event (plain data) ──▶ Output ──▶ stdout      Error, note, trace, progress ──▶ stderr
//!            └──▶ Recorder (bounded queue) ──▶ writer thread ──▶ Output
//! ```

mod errors;
mod escape;
mod progress;
mod recorder;
mod svg_chart;
mod text_plot;
mod trace;

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

pub(crate) use errors::{ErrorEvent, FailureSummary, install_panic_hook};
pub(crate) use escape::{Escaped, escaped};
pub(crate) use progress::{Progress, StatusLine};
pub(crate) use recorder::Recorder;
pub(crate) use svg_chart::{Chart, svg};
pub(crate) use text_plot::{Marker, histogram, spark_line};
pub(crate) use trace::{Trace, TraceKind};

use crate::error::Error;
use crate::failure::{Failure, FailureKind, Result, io_error_text};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    /// One or more lines of text per event.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Use of colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Color {
    #[value(help = "On a terminal, unless NO_COLOR is set or TERM is dumb")]
    #[default]
    Auto,
    /// Even if the output is not a terminal
    Always,
    /// No colour
    Never,
}

/// Output style, from the global flags.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Style {
    pub format: Format,
    /// Print the summary and errors only.
    pub quiet: bool,
    pub verbose: u8,
    pub color: Color,
}

/// Event or summary: `Serialize` gives the JSON line, `Display` the text.
pub(crate) trait Event: Serialize + Display {}

impl<E: Serialize + Display> Event for E {}

/// Colours of an output stream, or none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Palette(bool);

impl Palette {
    /// Palette of stderr, decided by the flag, `NO_COLOR`, `CLICOLOR_FORCE`, `TERM` and whether stderr is a
    /// terminal, in this order.
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

    /// Colours `text` with an SGR parameter.
    pub(crate) fn paint(self, sgr: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{sgr}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Writer of results to stdout and of everything else to stderr. Clones share what happened to stdout.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    style: Style,
    is_terminal: bool,
    buffer: Vec<u8>,
    stdout: Arc<StdoutState>,
}

/// State of stdout during one run.
#[derive(Debug, Default)]
struct StdoutState {
    /// The reader is gone or has stalled; further output is discarded.
    closed: AtomicBool,
    summary_written: AtomicBool,
}

impl Output {
    pub(crate) fn new(style: Style) -> Self {
        let is_terminal = io::stdout().is_terminal();
        Self { style, is_terminal, buffer: Vec::new(), stdout: Arc::default() }
    }

    /// Discards all further output, of clones too: the reader is gone, or another write would block forever.
    fn close(&self) {
        self.stdout.closed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn set_format(&mut self, format: Format) {
        self.style.format = format;
    }

    pub(crate) fn style(&self) -> Style {
        self.style
    }

    /// Returns true if the reader of stdout is gone. That is not a failure: the run ends silently with its exit
    /// code so far.
    pub(crate) fn is_closed(&self) -> bool {
        self.stdout.closed.load(Ordering::Relaxed)
    }

    /// Prints an event and flushes it, unless `-q` was given.
    pub(crate) fn emit(&mut self, event: &impl Event) -> Result<()> {
        if self.style.quiet { Ok(()) } else { self.emit_line(event) }
    }

    /// Prints the summary, the last line of a run.
    pub(crate) fn emit_summary(&mut self, summary: &impl Event) -> Result<()> {
        self.stdout.summary_written.store(true, Ordering::Relaxed);
        self.emit_line(summary)
    }

    fn emit_line(&mut self, event: &impl Event) -> Result<()> {
        let mut line = std::mem::take(&mut self.buffer);
        line.clear();
        format_event(event, self.style.format, &mut line)?;
        let written = self.write_bytes(&line);
        self.buffer = line;
        written
    }

    /// Returns true if stdout is a terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Writes text of several lines that has no JSON form, such as a histogram.
    pub(crate) fn write_text(&mut self, text: impl Display) -> Result<()> {
        let text = format!("{text}\n");
        if text == "\n" { Ok(()) } else { self.write_bytes(text.as_bytes()) }
    }

    /// Writes bytes unchanged, such as a response body.
    pub(crate) fn write_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        if self.is_closed() {
            return Ok(());
        }
        let mut stdout = io::stdout().lock();
        match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.close();
                Ok(())
            }
            Err(error) => {
                let reason = io_error_text(&error);
                Err(Failure::new(FailureKind::ReadWrite, format!("cannot write to standard output: {reason}"))
                    .with_source(error))
            }
        }
    }

    /// Prints a note on stderr, unless `-q` was given.
    pub(crate) fn note(&self, text: &str) {
        if !self.style.quiet {
            write_stderr(&format!("{}\n", escaped(text)));
        }
    }

    /// Prints a failure on stderr, and with `--json` also as an `error` event.
    pub(crate) fn report_error(&mut self, error: &Error) {
        self.write_error_event(error);
        errors::print_error(error, self.style);
    }

    /// Prints the failure that ends `command`; with `--json` the last line is a summary even then.
    pub(crate) fn report_fatal(&mut self, error: &Error, command: Option<&str>) {
        self.report_error(error);
        self.write_failure_summary(error, command);
    }

    fn write_error_event(&mut self, error: &Error) {
        if let (Format::Json, Ok(line)) = (self.style.format, errors::json_line(error)) {
            // This failure is being reported already; a second one adds nothing.
            let _ = self.write_bytes(&line);
        }
    }

    fn write_failure_summary(&mut self, error: &Error, command: Option<&str>) {
        if self.style.format == Format::Json && !self.stdout.summary_written.load(Ordering::Relaxed) {
            let _ = self.emit_summary(&FailureSummary { command, exit: error.exit().code() });
        }
    }

    /// Prints a usage error in the words of the argument parser, and with `--json` as an `error` event.
    pub(crate) fn report_usage_error(&mut self, error: &Error, (colored, plain): (&str, &str), command: Option<&str>) {
        write_stderr(if Palette::stderr(self.style).is_colored() { colored } else { plain });
        self.write_error_event(error);
        self.write_failure_summary(error, command);
    }
}

/// Appends an event as one line of JSON or as text.
fn format_event(event: &impl Event, format: Format, line: &mut Vec<u8>) -> Result<()> {
    let result = match format {
        Format::Text => write!(line, "{event}"),
        Format::Json => serde_json::to_writer(&mut *line, event).map_err(io::Error::from),
    };
    result.map_err(|error| Failure::new(FailureKind::Bug, "cannot format an event").with_source(error))?;
    line.push(b'\n');
    Ok(())
}

/// Prints help or the version on stdout.
pub(crate) fn print_help(colored: &str, plain: &str) -> Result<()> {
    let palette = Palette::new(Color::Auto, io::stdout().is_terminal());
    Output::new(Style::default()).write_bytes(if palette.0 { colored } else { plain }.as_bytes())
}

/// Writes to stderr. A failure is ignored, because there is no other place to report it.
fn write_stderr(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}
