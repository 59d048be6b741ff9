//! Counters of a load test: exit codes and stage durations.

use std::collections::BTreeMap;

use crate::commands::plot_data::PlotData;
use crate::error::Error;
use crate::exit::Exit;
use crate::smtp::Stage;
use crate::stats::Series;

#[derive(Debug, Default)]
pub(super) struct LoadCounters {
    /// Mails by exit code.
    pub exits: BTreeMap<Exit, u64>,
    /// Time from the first stage of a mail to the reply to its final dot.
    pub total: Series,
    pub stages: BTreeMap<Stage, Series>,
    pub first_failure: Option<Error>,
    /// Address of the server; the last one if there were several.
    pub peer: Option<String>,
    /// Set if a worker gave up connecting.
    pub has_given_up: bool,
    pub plot: PlotData,
}

impl LoadCounters {
    /// Creates empty counters; the times of the mails are kept for a chart if `plots`.
    pub(super) fn new(plots: bool) -> Self {
        Self { plot: PlotData::new(plots), ..Self::default() }
    }

    pub(super) fn count(&self, exit: Exit) -> u64 {
        self.exits.get(&exit).copied().unwrap_or_default()
    }

    /// Adds the counters of another worker.
    pub(super) fn merge(&mut self, other: Self) {
        for (exit, count) in other.exits {
            *self.exits.entry(exit).or_default() += count;
        }
        self.total.merge(&other.total);
        for (stage, series) in other.stages {
            self.stages.entry(stage).or_default().merge(&series);
        }
        self.first_failure = self.first_failure.take().or(other.first_failure);
        self.peer = other.peer.or(self.peer.take());
        self.has_given_up |= other.has_given_up;
        self.plot.merge(other.plot);
    }

    /// Counts a failure and keeps the first error.
    pub(super) fn record_failure(&mut self, exit: Exit, error: Error) {
        *self.exits.entry(exit).or_default() += 1;
        self.first_failure.get_or_insert(error);
    }
}
