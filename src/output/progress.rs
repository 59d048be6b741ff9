//! Progress bars and status lines on stderr; only on a terminal.

use std::fmt::Write;
use std::io::{self, IsTerminal as _};
use std::time::Duration;

use indicatif::{BinaryBytes, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::{Format, Style, terminal_width};
use crate::time::Moment;

/// Minimum duration of work before a bar appears.
const SHOW_AFTER: Duration = Duration::from_millis(500);

/// Progress bar of a transfer.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    started: Moment,
    total: Option<u64>,
    enabled: bool,
}

impl Progress {
    /// Creates a bar for `total` bytes, if known; it appears after half a second.
    pub(crate) fn new(total: Option<u64>, style: Style, now: Moment) -> Self {
        let allowed = style.prints_events() && style.format == Format::Text;
        Self { bar: ProgressBar::hidden(), started: now, total, enabled: allowed }
    }

    /// Sets the number of bytes transferred so far.
    pub(crate) fn set_position(&mut self, bytes: u64, now: Moment) {
        if self.enabled && self.bar.is_hidden() && now - self.started >= SHOW_AFTER {
            self.enabled = false;
            self.bar = new_bar(self.total).with_elapsed(now - self.started);
        }
        self.bar.set_position(bytes);
    }

    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

/// Columns left free at the end of a line: the terminal shows Ctrl-C as `^C`, and a line that wraps is not removed whole.
const INTERRUPT_WIDTH: usize = 3;

/// Status line at the bottom of the terminal.
#[derive(Debug)]
pub(crate) struct StatusLine {
    bar: Option<ProgressBar>,
    width: usize,
    last_update: Option<Moment>,
}

/// Interval between updates of a status line.
const REFRESH_INTERVAL: Duration = Duration::from_millis(200);

impl StatusLine {
    /// Creates a status line; without a terminal, with `-q` or `--json` it is never shown.
    pub(crate) fn new(style: Style) -> Self {
        let is_shown = style.prints_events() && style.format == Format::Text && io::stderr().is_terminal();
        Self::new_if(is_shown)
    }

    /// Creates a status line that is never shown, beside a trace on stderr.
    pub(crate) fn hidden() -> Self {
        Self::new_if(false)
    }

    fn new_if(is_shown: bool) -> Self {
        let bar = is_shown.then(|| ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()));
        Self { bar, width: 0, last_update: None }
    }

    /// Updates the text, at most once per refresh interval.
    pub(crate) fn update(&mut self, now: Moment, text: impl FnOnce() -> String) {
        let Some(bar) = &self.bar else { return };
        if self.last_update.is_none_or(|shown| now - shown >= REFRESH_INTERVAL) {
            self.last_update = Some(now);
            let width = terminal_width(io::stderr()).saturating_sub(INTERRUPT_WIDTH);
            if self.width != width {
                self.width = width;
                let style = ProgressStyle::with_template(&format!("{{msg:{width}!}}"));
                bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            }
            bar.set_message(text());
            bar.tick();
        }
    }

    /// Hides the line while `print` runs.
    pub(crate) fn suspend(&self, print: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// Removes the line.
    pub(crate) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Columns of the figures beside a bar, at most.
const FIGURES_WIDTH: usize = 60;

/// Creates a visible bar; indicatif hides it if stderr is not a terminal.
fn new_bar(total: Option<u64>) -> ProgressBar {
    // A line that wraps cannot be redrawn in place.
    let width = terminal_width(io::stderr());
    let with_bar = format!(
        "{{bar:{}}} {{binary_bytes}} of {{binary_total_bytes}}, {{rate}}, {{left}} left",
        width.saturating_sub(FIGURES_WIDTH + INTERRUPT_WIDTH)
    );
    let template = match (total, width) {
        (Some(_), 76..) => with_bar.as_str(),
        (Some(_), 36..) => "{binary_bytes} of {binary_total_bytes}, {rate}",
        (Some(_), _) => "{percent} % {binary_bytes}",
        (None, 30..) => "{spinner} {binary_bytes}, {rate}, {elapsed}",
        (None, _) => "{binary_bytes}",
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    // The mean rate so far: the first burst only fills socket buffers and does not predict the rest.
    let rate = |state: &ProgressState, out: &mut dyn Write| {
        let _ = write!(out, "{}/s", BinaryBytes(mean_rate(state)));
    };
    let left = |state: &ProgressState, out: &mut dyn Write| {
        let rest = state.len().unwrap_or_default().saturating_sub(state.pos());
        let seconds = rest.div_ceil(mean_rate(state).max(1));
        let _ = write!(out, "{}", HumanDuration(Duration::from_secs(seconds)));
    };
    let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
    bar.set_style(style.with_key("rate", rate).with_key("left", left));
    bar
}

/// Mean rate in bytes per second since the start.
fn mean_rate(state: &ProgressState) -> u64 {
    let millis = state.elapsed().as_millis().max(1);
    u64::try_from(u128::from(state.pos()) * 1000 / millis).unwrap_or(u64::MAX)
}
