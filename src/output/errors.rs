//! Errors on stderr: what happened, what was expected, what to do.
//!
//! Owns the three lines, the JSON `error` event, the chain of causes that `-v` adds, and the panic report,
//! which color-eyre formats.

use schemars::JsonSchema;
use serde::Serialize;

use super::{Palette, Stderr, Style, escaped};
use crate::error::{Error, is_catching_panics};
use crate::failure::io_error_text;

/// Prints a failure on stderr.
pub(super) fn print_error(error: &Error, style: Style, stderr: &Stderr) {
    let palette = Palette::stderr(style);
    let mut lines = vec![format!("{} {}", palette.paint("1;31", "netlab:"), escaped(error.message()))];
    let origin = error.origin();
    let got = origin.and_then(|origin| origin.got.as_deref());
    lines.extend(got.map(|text| format!("  {} '{}'", palette.paint("2", "got:"), escaped(text))));
    let clause = origin.and_then(|origin| origin.clause).map(|clause| format!(" ({clause})")).unwrap_or_default();
    lines.extend(
        error.expectation().map(|text| format!("  {} {}{clause}", palette.paint("2", "expected:"), escaped(text))),
    );
    lines.extend(error.advice().map(|text| format!("  {} {}", palette.paint("2", "to do:"), escaped(text))));
    if style.is_verbose() {
        // A cause that the message already contains is not repeated.
        let is_new = |cause: &String| !error.message().contains(&io_error_text(cause));
        let causes = causes(error).filter(is_new);
        lines.extend(causes.map(|cause| format!("  {} {}", palette.paint("2", "because:"), escaped(&cause))));
    }
    stderr.write(&format!("{}\n", lines.join("\n")));
}

/// Causes of an error, outermost first.
fn causes(error: &Error) -> impl Iterator<Item = String> {
    std::iter::successors(std::error::Error::source(error), |cause| cause.source()).map(ToString::to_string)
}

/// Failure: what happened, what was expected, what to do.
#[derive(JsonSchema, Serialize)]
#[serde(tag = "type", rename = "error")]
pub(crate) struct ErrorEvent<'e> {
    exit: u8,
    what: &'e str,
    /// Excerpt of what a peer sent.
    got: Option<&'e str>,
    expected: Option<&'e str>,
    /// Clause of the rule that the peer violated.
    clause: Option<&'e str>,
    /// Stage of the protocol.
    stage: Option<&'e str>,
    remedy: Option<&'e str>,
}

/// Summary of a run without figures, such as one that failed before it had any; JSON only.
#[derive(JsonSchema, Serialize)]
#[serde(tag = "type", rename = "summary")]
pub(crate) struct BareSummary<'e> {
    pub command: Option<&'e str>,
}

// The text is empty: there is nothing to report.
impl std::fmt::Display for BareSummary<'_> {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Ok(())
    }
}

impl<'e> ErrorEvent<'e> {
    pub(super) fn new(error: &'e Error) -> Self {
        Self {
            exit: error.exit().code(),
            what: error.message(),
            got: error.origin().and_then(|origin| origin.got.as_deref()),
            expected: error.expectation(),
            clause: error.origin().and_then(|origin| origin.clause),
            stage: error.origin().and_then(|origin| origin.stage),
            remedy: error.advice(),
        }
    }
}

/// Installs the panic hook: a panic on any thread is reported as a bug and ends the process with
/// `exit_code`, unless [`catch_panic`](crate::error::catch_panic) handles it.
#[expect(clippy::exit, reason = "a bug on a worker thread must not leave the process running without that thread")]
pub(crate) fn install_panic_hook(exit_code: u8) {
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
    // Fails only if another hook was installed before; reports are then less detailed.
    let _ = eyre.install();
    std::panic::set_hook(Box::new(move |info| {
        Stderr::default().write(&format!("{}\n", panic.panic_report(info)));
        if !is_catching_panics() {
            std::process::exit(i32::from(exit_code));
        }
    }));
}
