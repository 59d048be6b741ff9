//! Errors on the screen: what happened, what was expected, what to do.
//!
//! Owns the three lines, the JSON `error` event, the chain of causes that `-v` adds, and the
//! report that a bug asks its finder to send. color-eyre draws the chain and the bug report.

use serde::Serialize;

use super::{Ink, Style, escaped, talk};
use crate::error::Error;
use crate::exit::Exit;

/// Prints the failure that ends a run.
pub fn print_error(error: &Error, style: Style) {
    let ink = Ink::stderr(style);
    let mut text = format!("{} {}\n", ink.paint("1;31", "netlab:"), escaped(error.what()));
    if let Some(expected) = error.expectation() {
        text.push_str(&format!("  {} {}\n", ink.paint("2", "expected:"), escaped(expected)));
    }
    if let Some(advice) = error.advice() {
        text.push_str(&format!("  {} {}\n", ink.paint("2", "to do:"), escaped(advice)));
    }
    talk(&text);
    if style.verbose > 0 {
        chain(error);
    }
}

/// The causes below the error, outermost first.
fn chain(error: &Error) {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        talk(&format!("  because: {}\n", escaped(&cause.to_string())));
        source = cause.source();
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename = "error")]
struct ErrorEvent<'e> {
    exit: u8,
    what: &'e str,
    expected: Option<&'e str>,
    remedy: Option<&'e str>,
}

/// The `error` event with its line end.
pub(super) fn json(error: &Error) -> serde_json::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(&ErrorEvent {
        exit: error.exit().code(),
        what: error.what(),
        expected: error.expectation(),
        remedy: error.advice(),
    })?;
    line.push(b'\n');
    Ok(line)
}

/// From here on a panic, on any thread, is reported as the bug it is and ends the process with
/// [`Exit::Bug`].
#[expect(clippy::exit, reason = "a bug on a worker thread must not leave the process half alive")]
pub fn bug_reports() {
    let (panic, eyre) = color_eyre::config::HookBuilder::default()
        .panic_section(format!(
            "This is a bug in netlab {}. Please report it with the lines above and the command you typed.",
            env!("CARGO_PKG_VERSION")
        ))
        .display_env_section(false)
        .into_hooks();
    // Fails only if another hook was there before, and then reports look plainer, no more.
    let _ = eyre.install();
    std::panic::set_hook(Box::new(move |info| {
        talk(&format!("{}\n", panic.panic_report(info)));
        std::process::exit(i32::from(Exit::Bug.code()));
    }));
}
