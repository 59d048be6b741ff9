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

pub use chart::{Chart, svg};
pub use errors::bug_reports;
pub use escape::{Escaped, escaped};
pub use plot::{Dot, histogram, spark_line};
pub use progress::{Live, Progress};
pub use recorder::Recorder;
pub use trace::{Direction, Trace};

use crate::error::{Error, Result, word};
use crate::exit::Exit;

/// Whether stdout, of which there is one, has had its last line.
static SUMMED_UP: AtomicBool = AtomicBool::new(false);

/// Whether the reader of stdout takes nothing any longer: whoever wrote to it would wait for ever.
static UNHEARD: AtomicBool = AtomicBool::new(false);

/// Text for people or JSON for programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// One or more lines of text per event.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Whether to colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Color {
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
pub struct Style {
    /// Text or JSON.
    pub form: Form,
    /// Summary and errors only.
    pub quiet: bool,
    /// How much more than usual.
    pub verbose: u8,
    /// Colour.
    pub color: Color,
}

/// A fact that is printed. Its `Serialize` form is the JSON line, its `Display` the text.
pub trait Event: Serialize + Display {
    /// Whether it is printed even with `-q`: the summary.
    fn is_summary(&self) -> bool {
        false
    }
}

/// A stream that text goes to, and whether it is coloured.
#[derive(Clone, Copy, Debug)]
pub struct Ink(bool);

impl Ink {
    /// The ink for stderr: flag, then `NO_COLOR`, then `CLICOLOR_FORCE`, then `TERM`, then
    /// whether it is a terminal.
    pub fn stderr(style: Style) -> Self {
        Self::of(style.color, io::stderr().is_terminal())
    }

    fn of(color: Color, is_terminal: bool) -> Self {
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

    fn is_coloured(self) -> bool {
        self.0
    }

    /// `text` in one of the eight colours, by its SGR parameter.
    pub fn paint(self, sgr: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{sgr}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Results on stdout, everything else on stderr.
#[derive(Debug)]
pub struct Output {
    style: Style,
    /// The reader has gone away; whatever else there is to say, nobody hears it.
    gone: bool,
    is_terminal: bool,
    line: Vec<u8>,
}

impl Output {
    /// An output in this style.
    pub fn new(style: Style) -> Self {
        Self { style, gone: UNHEARD.load(Ordering::Relaxed), is_terminal: io::stdout().is_terminal(), line: Vec::new() }
    }

    /// One whose reader takes nothing: what is said to it is not said.
    fn unheard() -> Self {
        UNHEARD.store(true, Ordering::Relaxed);
        Self::new(Style::default())
    }

    /// How the user wants to be talked to.
    pub fn style(&self) -> Style {
        self.style
    }

    /// Whether the reader of stdout has gone away. That is not a failure: the run ends silently
    /// with the code it has earned so far.
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// Prints an event as a line of its form, at once.
    pub fn event(&mut self, event: &impl Event) -> Result<()> {
        if self.style.quiet && !event.is_summary() {
            return Ok(());
        }
        let mut line = std::mem::take(&mut self.line);
        line.clear();
        append(event, self.style.form, &mut line)?;
        if event.is_summary() {
            SUMMED_UP.store(true, Ordering::Relaxed);
        }
        let written = self.bytes(&line);
        self.line = line;
        written
    }

    /// Whether stdout is a terminal.
    pub fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Writes text of several lines that is only for people: a picture.
    pub fn text(&mut self, text: &str) -> Result<()> {
        if text.is_empty() { Ok(()) } else { self.bytes(format!("{text}\n").as_bytes()) }
    }

    /// Writes content as it is: the body of a page.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        if self.gone {
            return Ok(());
        }
        let mut stdout = io::stdout().lock();
        match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.gone = true;
                Ok(())
            }
            Err(error) => {
                let word = word(&error);
                Err(Error::new(Exit::InputOutput, format!("cannot write to standard output: {word}")).because(error))
            }
        }
    }

    /// Says something to the person at the terminal, on stderr; not with `-q`.
    pub fn note(&self, text: &str) {
        if !self.style.quiet {
            talk(&format!("{}\n", escaped(text)));
        }
    }

    /// Prints a failure: on stderr for people, and with JSON as an `error` event for programs.
    pub fn failure(&mut self, error: &Error) {
        self.tell_programs(error);
        errors::print_error(error, self.style);
    }

    /// Prints the failure that ends `command`. The last line for programs is a summary also then.
    pub fn end(&mut self, error: &Error, command: Option<&str>) {
        self.failure(error);
        self.end_for_programs(error.exit(), command);
    }

    fn tell_programs(&mut self, error: &Error) {
        if let (Form::Json, Ok(line)) = (self.style.form, errors::json(error)) {
            // The failure is being reported already; a second one adds nothing.
            let _ = self.bytes(&line);
        }
    }

    fn end_for_programs(&mut self, exit: Exit, command: Option<&str>) {
        if self.style.form == Form::Json && !SUMMED_UP.load(Ordering::Relaxed) {
            let _ = self.event(&errors::Nothing { command, exit: exit.code() });
        }
    }

    /// Prints what the argument parser refuses, in its own words, and for programs as an error.
    pub fn refusal(&mut self, coloured: &str, plain: &str, command: Option<&str>) {
        talk(if Ink::stderr(self.style).is_coloured() { coloured } else { plain });
        let what = plain.lines().next().unwrap_or_default();
        let error = Error::new(Exit::Usage, what.strip_prefix("error: ").unwrap_or(what));
        self.tell_programs(&error);
        self.end_for_programs(Exit::Usage, command);
    }
}

/// One event as its line or lines.
fn append(event: &impl Event, form: Form, line: &mut Vec<u8>) -> Result<()> {
    let done = match form {
        Form::Text => write!(line, "{event}"),
        Form::Json => serde_json::to_writer(&mut *line, event).map_err(io::Error::from),
    };
    done.map_err(|error| Error::new(Exit::Bug, "an event cannot be written down").because(error))?;
    line.push(b'\n');
    Ok(())
}

/// Prints help or a version: a result.
pub fn answer(coloured: &str, plain: &str) -> Result<()> {
    let ink = Ink::of(Color::Auto, io::stdout().is_terminal());
    Output::new(Style::default()).bytes(if ink.0 { coloured } else { plain }.as_bytes())
}

/// Writes to stderr. If nobody reads that either, there is nobody left to tell.
fn talk(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}
