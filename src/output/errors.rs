//! Errors on the screen: what happened, what was expected, what to do.
//!
//! Owns the three lines, the JSON `error` event, the chain of causes that `-v` adds, and the
//! report that a bug asks its finder to send, which color-eyre draws.

use serde::Serialize;

use super::{Palette, Style, escaped, write_stderr};
use crate::error::{Error, is_catching_panics};
use crate::exit::Exit;

/// Prints the failure that ends a run.
pub(super) fn print_error(error: &Error, style: Style) {
    let ink = Palette::stderr(style);
    let mut lines = vec![format!("{} {}", ink.paint("1;31", "netlab:"), escaped(error.message()))];
    lines.extend(error.expectation().map(|text| format!("  {} {}", ink.paint("2", "expected:"), escaped(text))));
    lines.extend(error.advice().map(|text| format!("  {} {}", ink.paint("2", "to do:"), escaped(text))));
    if style.verbose > 0 {
        lines.extend(causes(error).map(|cause| format!("  {} {}", ink.paint("2", "because:"), escaped(&cause))));
    }
    write_stderr(&format!("{}\n", lines.join("\n")));
}

/// The causes below an error, outermost first.
fn causes(error: &Error) -> impl Iterator<Item = String> {
    std::iter::successors(std::error::Error::source(error), |cause| cause.source()).map(ToString::to_string)
}

#[derive(Serialize)]
#[serde(tag = "type", rename = "error")]
struct ErrorEvent<'e> {
    exit: u8,
    what: &'e str,
    expected: Option<&'e str>,
    remedy: Option<&'e str>,
}

/// The summary of a run that came to nothing.
#[derive(Serialize)]
#[serde(tag = "type", rename = "summary")]
pub(super) struct FailureSummary<'e> {
    pub command: Option<&'e str>,
    pub exit: u8,
}

impl super::Event for FailureSummary<'_> {
    fn is_summary(&self) -> bool {
        true
    }
}

/// For programs only: people have read the error.
impl std::fmt::Display for FailureSummary<'_> {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Ok(())
    }
}

/// The `error` event with its line end.
pub(super) fn json_line(error: &Error) -> serde_json::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(&ErrorEvent {
        exit: error.exit().code(),
        what: error.message(),
        expected: error.expectation(),
        remedy: error.advice(),
    })?;
    line.push(b'\n');
    Ok(line)
}

/// From here on a panic, on any thread, is reported as the bug it is and ends the process with
/// [`Exit::Bug`], unless it is [`guarded`](crate::error::guarded).
#[expect(clippy::exit, reason = "a bug on a worker thread must not leave the process half alive")]
pub(crate) fn install_panic_hook() {
    let mut hooks = color_eyre::config::HookBuilder::default()
        .panic_section(format!(
            "This is a bug in netlab {}. Please report it with the lines above and the command you typed.",
            env!("CARGO_PKG_VERSION")
        ))
        .display_env_section(false);
    if !Palette::stderr(Style::default()).is_colored() {
        hooks = hooks.theme(color_eyre::config::Theme::new());
    }
    let (panic, eyre) = hooks.into_hooks();
    // Fails only if another hook was there before, and then reports look plainer, no more.
    let _ = eyre.install();
    std::panic::set_hook(Box::new(move |info| {
        write_stderr(&format!("{}\n", panic.panic_report(info)));
        if !is_catching_panics() {
            std::process::exit(i32::from(Exit::Bug.code()));
        }
    }));
}
