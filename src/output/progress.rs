//! A progress bar: on stderr, only on a terminal, only for work that takes a while.

use std::fmt::Write;
use std::io::{self, IsTerminal as _};
use std::time::Duration;

use indicatif::{BinaryBytes, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::{Format, Style};
use crate::time::Moment;

/// Work shorter than this shows no bar.
const SHOW_AFTER: Duration = Duration::from_millis(500);

/// Octets on their way, and how many there will be, if that is known.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    started: Moment,
    total: Option<u64>,
    enabled: bool,
}

impl Progress {
    /// A bar for `total` octets that shows itself once the work has lasted for half a second.
    pub(crate) fn new(total: Option<u64>, style: Style, now: Moment) -> Self {
        let allowed = !style.quiet && style.format == Format::Text;
        Self { bar: ProgressBar::hidden(), started: now, total, enabled: allowed }
    }

    /// Says how many have come so far.
    pub(crate) fn set_position(&mut self, bytes: u64, now: Moment) {
        if self.enabled && self.bar.is_hidden() && now - self.started >= SHOW_AFTER {
            self.enabled = false;
            self.bar = new_bar(self.total).with_elapsed(now - self.started);
        }
        self.bar.set_position(bytes);
    }

    /// Takes the bar away.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

/// A line at the bottom of the terminal that says how it goes.
#[derive(Debug)]
pub(crate) struct StatusLine {
    bar: Option<ProgressBar>,
    last_update: Option<Moment>,
}

/// Between two changes of a live line.
const REFRESH_INTERVAL: Duration = Duration::from_millis(200);

impl StatusLine {
    /// A line, where there is a terminal and nobody asked for quiet.
    pub(crate) fn new(style: Style) -> Self {
        let wanted = !style.quiet && style.format == Format::Text && io::stderr().is_terminal();
        let bar = wanted.then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.set_style(ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Self { bar, last_update: None }
    }

    /// Says how it goes, if it is time to say so again.
    pub(crate) fn update(&mut self, now: Moment, text: impl FnOnce() -> String) {
        let Some(bar) = &self.bar else { return };
        if self.last_update.is_none_or(|shown| now - shown >= REFRESH_INTERVAL) {
            self.last_update = Some(now);
            bar.set_message(text());
            bar.tick();
        }
    }

    /// Takes the line away while something else is printed.
    pub(crate) fn suspend(&self, print: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// Takes the line away for good.
    pub(crate) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// indicatif hides a bar by itself where stderr is no terminal.
fn new_bar(total: Option<u64>) -> ProgressBar {
    let template = match total {
        Some(_) => "{wide_bar} {binary_bytes} of {binary_total_bytes}, {rate}, {left} left",
        None => "{spinner} {binary_bytes}, {rate}, {elapsed}",
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    // The mean so far: what fills a buffer at once says nothing of what follows.
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

/// Octets in a second, over all the time so far.
fn mean_rate(state: &ProgressState) -> u64 {
    let millis = state.elapsed().as_millis().max(1);
    u64::try_from(u128::from(state.pos()) * 1000 / millis).unwrap_or(u64::MAX)
}
