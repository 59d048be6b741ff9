//! Hears what happens to every ping and tells it, line by line, while the loop runs.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::events::{self, PingReport};
use super::plot_data::PlotData;
use crate::error::Result;
use crate::net::datagram::{DatagramObserver, Endpoint};
use crate::output::{Format, Output, StatusLine};
use crate::probe::{Sender, SenderEvent};
use crate::time::Moment;

/// One target's run, beside its sender.
pub(super) struct TargetRun {
    /// Its name, as typed, with its port.
    pub target: Arc<str>,
    /// What its pictures are drawn from.
    pub plot_data: PlotData,
}

/// Hears what happens and tells it.
pub(super) struct Observer {
    /// Where it is told.
    pub output: Output,
    /// By target.
    pub runs: Vec<TargetRun>,
    /// Whether each fact is.
    pub events_wanted: bool,
    /// The line at the bottom of a terminal.
    pub status_line: StatusLine,
    /// When the run began.
    pub started: Moment,
    /// Why telling failed, if it did; the loop ends then.
    pub failure: Result<()>,
}

impl DatagramObserver<Sender> for Observer {
    fn on_event(&mut self, side: usize, fact: SenderEvent) {
        let is_alone = self.runs.len() == 1;
        let Some(run) = self.runs.get_mut(side) else { return };
        run.plot_data.on_event(&fact);
        // `sent` is for programs and for the curious: the answer says it again.
        let is_shown = self.events_wanted
            && (self.output.style().format == Format::Json
                || self.output.style().verbose > 0
                || !matches!(fact, SenderEvent::Sent { .. }));
        if is_shown && self.failure.is_ok() {
            let line = PingReport::event(fact, Arc::clone(&run.target), is_alone);
            let (output, failure) = (&mut self.output, &mut self.failure);
            self.status_line.suspend(|| *failure = output.emit(&line));
        }
    }

    fn on_turn(&mut self, sides: &mut [Endpoint<Sender>], now: Moment) -> ControlFlow<()> {
        self.status_line.update(now, || events::status_line(sides.iter().map(Endpoint::protocol), now - self.started));
        let is_over = sides.iter().all(|side| side.protocol().is_finished());
        if is_over || self.output.is_closed() || self.failure.is_err() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    fn on_status_request(&mut self, sides: &mut [Endpoint<Sender>], now: Moment) {
        for (side, run) in sides.iter().zip(&self.runs) {
            let snapshot = events::interim_line(&run.target, &side.protocol().statistics(), now - self.started);
            let output = &self.output;
            self.status_line.suspend(|| output.note(&snapshot));
        }
    }
}
