//! Counters of a load test: exit codes, stage durations, and the figures of `--fail-if`.

use std::collections::BTreeMap;

use crate::commands::fail_if::{Figure, FigureKind, KnownFigures, statistic};
use crate::error::Error;
use crate::exit::Exit;
use crate::smtp::Stage;
use crate::stats::Series;

/// Figures that `--fail-if` accepts.
pub(super) const FIGURES: &KnownFigures = &[
    ("errors", FigureKind::Count),
    ("accepted", FigureKind::Count),
    ("total", FigureKind::Series),
    ("connect", FigureKind::Series),
    ("banner", FigureKind::Series),
    ("ehlo", FigureKind::Series),
    ("tls", FigureKind::Series),
    ("auth", FigureKind::Series),
    ("mail", FigureKind::Series),
    ("rcpt", FigureKind::Series),
    ("data", FigureKind::Series),
    ("body", FigureKind::Series),
    ("dot", FigureKind::Series),
];

/// Looks up a figure by its name in `--fail-if`.
pub(super) fn figure(counters: &LoadCounters, name: &str) -> Option<Figure> {
    let accepted = counters.count(Exit::Success);
    match name {
        "errors" => return Some(Figure::Count(counters.exits.values().sum::<u64>() - accepted)),
        "accepted" => return Some(Figure::Count(accepted)),
        _ => {}
    }
    let (name, part) = name.split_once('.')?;
    let stage = || Stage::ALL.into_iter().find(|stage| stage.name() == name);
    let series =
        if name == "total" { Some(&counters.total) } else { stage().and_then(|stage| counters.stages.get(&stage)) };
    statistic(series?, part).flatten()
}

#[derive(Debug, Default)]
pub(super) struct LoadCounters {
    /// Mails by exit code.
    pub exits: BTreeMap<Exit, u64>,
    /// Time from the first stage of a mail to the reply to its final dot.
    pub total: Series,
    pub stages: BTreeMap<Stage, Series>,
    pub first_failure: Option<Error>,
    /// Set if a worker gave up connecting.
    pub has_given_up: bool,
}

impl LoadCounters {
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
        self.has_given_up |= other.has_given_up;
    }

    /// Counts a failure and keeps the first error.
    pub(super) fn record_failure(&mut self, exit: Exit, error: Error) {
        *self.exits.entry(exit).or_default() += 1;
        self.first_failure.get_or_insert(error);
    }
}
