//! Hears what happens to every ping and tells it, line by line, while the loop runs.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::events::{self, Line};
use super::record::Record;
use crate::error::Result;
use crate::net::datagram::{Side, Watch};
use crate::output::{Form, Live, Output};
use crate::probe::{Fact, Sender};
use crate::time::Moment;

/// One target's run, beside its sender.
pub struct Run {
    /// Its name, as typed, with its port.
    pub target: Arc<str>,
    /// What its pictures are drawn from.
    pub record: Record,
}

/// Hears what happens and tells it.
pub struct Ear {
    /// Where it is told.
    pub output: Output,
    /// By target.
    pub runs: Vec<Run>,
    /// Whether each fact is.
    pub tells: bool,
    /// The line at the bottom of a terminal.
    pub live: Live,
    /// When the run began.
    pub started: Moment,
    /// Why telling failed, if it did; the loop ends then.
    pub failure: Result<()>,
}

impl Watch<Sender> for Ear {
    fn fact(&mut self, side: usize, fact: Fact) {
        let is_alone = self.runs.len() == 1;
        let Some(run) = self.runs.get_mut(side) else { return };
        run.record.note(&fact);
        // `sent` is for programs and for the curious: the answer says it again.
        let is_shown = self.tells
            && (self.output.style().form == Form::Json
                || self.output.style().verbose > 0
                || !matches!(fact, Fact::Sent { .. }));
        if is_shown && self.failure.is_ok() {
            let line = Line::fact(fact, Arc::clone(&run.target), is_alone);
            let (output, failure) = (&mut self.output, &mut self.failure);
            self.live.aside(|| *failure = output.event(&line));
        }
    }

    fn turned(&mut self, sides: &mut [Side<Sender>], now: Moment) -> ControlFlow<()> {
        self.live.show(now, || events::live(sides.iter().map(Side::exchange), now - self.started));
        let is_over = sides.iter().all(|side| side.exchange().is_finished());
        if is_over || self.output.is_gone() || self.failure.is_err() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    fn asked(&mut self, sides: &mut [Side<Sender>], now: Moment) {
        for (side, run) in sides.iter().zip(&self.runs) {
            let snapshot = events::snapshot(&run.target, &side.exchange().report(), now - self.started);
            let output = &self.output;
            self.live.aside(|| output.note(&snapshot));
        }
    }
}
