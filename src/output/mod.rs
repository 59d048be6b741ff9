//! Output: the only code that writes to stdout and stderr.
//!
//! Owns events as text or JSON, errors, notes, the trace margin and progress bars. Commands format their events; this
//! module decides where and how events are written.
//!
//! ```text
//!   Event (plain data) ──▶ Output ──▶ stdout      Error, note, trace, progress ──▶ stderr
//!            └──▶ Recorder (bounded queue) ──▶ writer thread ──▶ Output
//! ```

mod envelope;
mod errors;
mod escape;
mod progress;
mod recorder;
mod stderr;
mod svg_chart;
mod text_plot;
mod trace;
mod wait_notice;

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::FileType;
use serde::Serialize;

pub(crate) use envelope::{Event, TextTime, Tone, event_line};
pub(crate) use errors::{BareSummary, ErrorEvent, install_panic_hook};
pub(crate) use escape::{Escaped, escaped};
pub(crate) use progress::{Progress, StatusLine};
pub(crate) use recorder::{NoteSender, Recorder};
pub(crate) use stderr::Stderr;
pub(crate) use svg_chart::{Attempts, Chart, svg};
pub(crate) use text_plot::{Marker, histogram, spark_line};
pub(crate) use trace::{Trace, TraceKind};
pub(crate) use wait_notice::WaitNotice;

use crate::error::Error;
use crate::failure::{Failure, FailureKind, Result, io_error_text};
use crate::stop::{PIPE_BUF, StopConditions};
use crate::time::Moment;
use envelope::{format_event, format_json, format_summary};

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

/// Amount of output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verbosity {
    /// Errors only.
    Silent,
    /// The summary and errors.
    Quiet,
    #[default]
    Normal,
    /// More events, the time of each, and the causes of errors.
    Verbose,
}

/// Output style, from the global flags.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Style {
    pub format: Format,
    pub verbosity: Verbosity,
    pub color: Color,
}

impl Style {
    pub(crate) fn prints_events(self) -> bool {
        self.verbosity >= Verbosity::Normal
    }

    pub(crate) fn is_verbose(self) -> bool {
        self.verbosity == Verbosity::Verbose
    }
}

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
    clock: fn() -> Moment,
    is_terminal: bool,
    /// Palette of stdout.
    palette: Palette,
    buffer: Vec<u8>,
    /// Present if stdout may block and the run has signals or a deadline.
    stop: Option<StopConditions>,
    run: Arc<RunState>,
}

/// State of the output during one run.
#[derive(Debug, Default)]
struct RunState {
    /// The reader of stdout is gone or has stalled; further output is discarded.
    closed: AtomicBool,
    error_reported: AtomicBool,
    summary_written: AtomicBool,
    /// Stdout belongs to a child process or to an access log, so events go to stderr.
    uses_stderr: AtomicBool,
    stderr: Stderr,
}

impl Output {
    /// Creates the output of a run; `clock` gives the time of its events.
    pub(crate) fn new(style: Style, clock: fn() -> Moment) -> Self {
        let is_terminal = io::stdout().is_terminal();
        let palette = Palette::new(style.color, is_terminal);
        Self { style, clock, is_terminal, palette, buffer: Vec::new(), stop: None, run: Arc::default() }
    }

    /// Makes writes give up on a reader that stalls once the run must stop.
    pub(crate) fn stop_on(&mut self, stop: StopConditions) {
        self.stop_stderr_on(stop.clone());
        let is_file = rustix::fs::fstat(io::stdout()).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_file());
        self.stop = (!is_file).then_some(stop);
    }

    /// As [`stop_on`](Self::stop_on), for stderr alone: the writer of a server gives up on stdout by itself.
    pub(crate) fn stop_stderr_on(&self, stop: StopConditions) {
        self.run.stderr.stop_on(stop);
    }

    pub(crate) fn stderr(&self) -> &Stderr {
        &self.run.stderr
    }

    /// Writes events and the summary to stderr from now on, of clones too: stdout belongs to a child process, or has
    /// nothing but an access log.
    pub(crate) fn leave_stdout(&self) {
        self.run.uses_stderr.store(true, Ordering::Relaxed);
    }

    /// Discards all further output, of clones too: the reader is gone, or another write would block forever.
    fn close(&self) {
        self.run.closed.store(true, Ordering::Relaxed);
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
        self.run.closed.load(Ordering::Relaxed)
    }

    /// Prints an event and flushes it, unless `-q` was given.
    pub(crate) fn emit(&mut self, event: &impl Event) -> Result<()> {
        if !self.style.prints_events() {
            return Ok(());
        }
        let (now, style, palette) = ((self.clock)(), self.style, self.palette());
        self.write_line(|line| format_event(event, now, (style, palette), line))
    }

    /// Returns whether reports of what a run waits for are printed: on a terminal, or with `-v`.
    pub(crate) fn reports_waiting(&self) -> bool {
        let style = self.style;
        let is_seen = style.is_verbose() || io::stderr().is_terminal();
        is_seen && style.prints_events()
    }

    /// Returns whether a failure was reported.
    pub(crate) fn has_reported_error(&self) -> bool {
        self.run.error_reported.load(Ordering::Relaxed)
    }

    /// Prints the summary, the last line of a run that ends with this exit code.
    pub(crate) fn emit_summary(&mut self, summary: &(impl Serialize + Display), exit: u8) -> Result<()> {
        self.run.summary_written.store(true, Ordering::Relaxed);
        if self.style.verbosity == Verbosity::Silent {
            return Ok(());
        }
        let (now, format) = ((self.clock)(), (self.style.format, self.palette()));
        self.write_line(|line| format_summary(summary, (now, exit), format, line))
    }

    fn write_line(&mut self, format: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Result<()> {
        let mut line = std::mem::take(&mut self.buffer);
        line.clear();
        format(&mut line)?;
        let written = self.write_bytes(&line);
        self.buffer = line;
        written
    }

    /// Palette of the stream with the events.
    fn palette(&self) -> Palette {
        let uses_stderr = self.run.uses_stderr.load(Ordering::Relaxed);
        if uses_stderr { Palette::stderr(self.style) } else { self.palette }
    }

    /// Returns true if stdout is a terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Returns the number of columns of stdout, or 80 if it is not a terminal.
    pub(crate) fn width(&self) -> usize {
        if self.is_terminal { terminal_width(io::stdout()) } else { 80 }
    }

    /// Writes text of several lines that has no JSON form, such as a histogram.
    pub(crate) fn write_text(&mut self, text: impl Display) -> Result<()> {
        let text = format!("{text}\n");
        if text == "\n" { Ok(()) } else { self.write_bytes(text.as_bytes()) }
    }

    /// Writes bytes unchanged, such as a response body.
    pub(crate) fn write_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        if self.run.uses_stderr.load(Ordering::Relaxed) {
            self.run.stderr.write_bytes(bytes);
            return Ok(());
        }
        if self.is_closed() {
            return Ok(());
        }
        match self.write_stdout(bytes) {
            Ok(true) => Ok(()),
            Ok(false) => {
                self.close();
                let message = "standard output is not being read; the remaining output was discarded";
                Err(Failure::new(FailureKind::ReadWrite, message))
            }
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

    /// Writes to stdout; returns false if the run must stop before the reader takes all.
    fn write_stdout(&self, bytes: &[u8]) -> io::Result<bool> {
        let mut stdout = io::stdout().lock();
        match &self.stop {
            Some(stop) => stop.write_all(stdout.as_fd(), bytes, PIPE_BUF),
            None => stdout.write_all(bytes).and_then(|()| stdout.flush()).map(|()| true),
        }
    }

    /// Prints a note on stderr, unless `-q` was given.
    pub(crate) fn note(&self, text: &str) {
        if self.style.prints_events() {
            self.run.stderr.write(&format!("{}\n", escaped(text)));
        }
    }

    /// Prints a failure on stderr, and with `--json` also as an `error` event.
    pub(crate) fn report_error(&mut self, error: &Error) {
        self.write_error_event(error);
        errors::print_error(error, self.style, self.stderr());
    }

    /// Prints the failure that ends `command`; with `--json` the last line is a summary even then.
    pub(crate) fn report_fatal(&mut self, error: &Error, command: Option<&str>) {
        self.report_error(error);
        self.write_failure_summary(error, command);
    }

    fn write_error_event(&mut self, error: &Error) {
        self.run.error_reported.store(true, Ordering::Relaxed);
        let now = (self.clock)();
        if self.style.format == Format::Json {
            // This failure is being reported already; a second one adds nothing.
            let _ = self.write_line(|line| format_json(&ErrorEvent::new(error), now, line));
        }
    }

    fn write_failure_summary(&mut self, error: &Error, command: Option<&str>) {
        if self.style.format == Format::Json && !self.run.summary_written.load(Ordering::Relaxed) {
            let _ = self.emit_summary(&BareSummary { command }, error.exit().code());
        }
    }

    /// Prints help or the version.
    pub(crate) fn print_help(&mut self, colored: &str, plain: &str) -> Result<()> {
        self.write_bytes(if self.palette().is_colored() { colored } else { plain }.as_bytes())
    }

    /// Prints help on stderr, because a subcommand is missing.
    pub(crate) fn print_usage(&self, colored: &str, plain: &str) {
        self.run.stderr.write(if Palette::stderr(self.style).is_colored() { colored } else { plain });
    }
}

/// Returns the number of columns of a terminal, or 80 if it is unknown.
fn terminal_width(stream: impl AsFd) -> usize {
    let size = rustix::termios::tcgetwinsize(stream);
    size.ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0).unwrap_or(80)
}

/// Returns whether `path` is a name of standard output.
pub(crate) fn names_stdout(path: &Path) -> bool {
    ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"].iter().any(|name| path == Path::new(name))
}
