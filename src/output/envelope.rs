//! Envelope of events and summaries: the time of each, and the exit code in a summary.
//!
//! Owns the keys that every line of JSON has, whatever the event, and the time in front of text.

use std::fmt::Display;
use std::io::{self, Write as _};

use serde::Serialize;

use super::{Format, Palette, Style};
use crate::failure::{Failure, FailureKind, Result};
use crate::time::{Moment, Rfc3339};

/// Event: `Serialize` gives the JSON line, `Display` the text.
pub(crate) trait Event: Serialize + Display {
    /// Time of the event; `None` if that is the time at which it is emitted.
    fn time(&self) -> Option<Moment> {
        None
    }

    fn text_time(&self) -> TextTime {
        TextTime::Verbose
    }

    fn tone(&self) -> Tone {
        Tone::Plain
    }
}

/// Meaning of an event, which decides its colour on a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    /// Recovery: a sender is up.
    Good,
    /// Late or unexpected.
    Warning,
    /// Lost, rejected or failed.
    Bad,
}

impl Tone {
    /// SGR parameter of the colour.
    fn sgr(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Good => Some("32"),
            Self::Warning => Some("33"),
            Self::Bad => Some("31"),
        }
    }
}

/// Condition under which the text of an event begins with its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TextTime {
    Never,
    /// With `-v`.
    Verbose,
    Always,
}

#[derive(Serialize)]
struct EventLine<'e, E> {
    #[serde(flatten)]
    event: &'e E,
    #[serde(with = "Rfc3339")]
    time: Moment,
}

#[derive(Serialize)]
struct SummaryLine<'e, E> {
    #[serde(flatten)]
    summary: EventLine<'e, E>,
    exit: u8,
}

/// Appends an event as one line of JSON or as text.
pub(super) fn format_event(
    event: &impl Event,
    emitted: Moment,
    (style, palette): (Style, Palette),
    line: &mut Vec<u8>,
) -> Result<()> {
    let time = event.time().unwrap_or(emitted);
    if style.format == Format::Json {
        return format_json(event, time, line);
    }
    let is_stamped = match event.text_time() {
        TextTime::Never => false,
        TextTime::Verbose => style.is_verbose(),
        TextTime::Always => true,
    };
    if is_stamped {
        write!(line, "{} ", time.zoned().strftime("%Y-%m-%dT%H:%M:%S%.3f%:z")).map_err(bug)?;
    }
    match event.tone().sgr() {
        Some(sgr) if palette.is_colored() => paint_first_line(&event.to_string(), (palette, sgr), line),
        _ => writeln!(line, "{event}").map_err(bug),
    }
}

/// Appends the summary of a run that ends with this exit code.
pub(super) fn format_summary(
    summary: &(impl Serialize + Display),
    (now, exit): (Moment, u8),
    (format, palette): (Format, Palette),
    line: &mut Vec<u8>,
) -> Result<()> {
    match format {
        Format::Text if palette.is_colored() => paint_first_line(&summary.to_string(), (palette, "1"), line),
        Format::Text => writeln!(line, "{summary}").map_err(bug),
        Format::Json => write_json(&SummaryLine { summary: EventLine { event: summary, time: now }, exit }, line),
    }
}

/// Appends text with its first line styled.
fn paint_first_line(text: &str, (palette, sgr): (Palette, &str), line: &mut Vec<u8>) -> Result<()> {
    let (first, rest) = text.split_once('\n').map_or((text, None), |(first, rest)| (first, Some(rest)));
    writeln!(line, "{}", palette.paint(sgr, first)).map_err(bug)?;
    rest.map_or(Ok(()), |rest| writeln!(line, "{rest}").map_err(bug))
}

/// Appends an event as one line of JSON.
pub(super) fn format_json(event: &impl Serialize, time: Moment, line: &mut Vec<u8>) -> Result<()> {
    write_json(&EventLine { event, time }, line)
}

/// Line of JSON of an event, for another program than the reader of stdout.
pub(crate) fn event_line(event: &impl Serialize, time: Moment) -> Vec<u8> {
    let mut line = Vec::new();
    // Plain data can always be formatted.
    let _ = format_json(event, time, &mut line);
    line
}

fn write_json(object: &impl Serialize, line: &mut Vec<u8>) -> Result<()> {
    serde_json::to_writer(&mut *line, object).map_err(|error| bug(error.into()))?;
    line.push(b'\n');
    Ok(())
}

fn bug(error: io::Error) -> Failure {
    Failure::new(FailureKind::Bug, "cannot format an event").with_source(error)
}
