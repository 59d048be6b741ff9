//! What many mails came to.
//!
//! Owns the sums of a load: how many ended with which code, how long each step took, and the figures that
//! `--fail-if` can ask for.

use std::collections::BTreeMap;

use crate::commands::fail_if::{Figure, FigureKind, KnownFigures, statistic};
use crate::error::Error;
use crate::exit::Exit;
use crate::smtp::Stage;
use crate::stats::Series;

/// The figures of `--fail-if`.
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

/// A figure of `--fail-if`, if there is one.
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

/// What many mails came to.
#[derive(Debug, Default)]
pub(super) struct LoadCounters {
    /// How many ended with which code.
    pub exits: BTreeMap<Exit, u64>,
    /// From the first step of a mail to the answer to its dot.
    pub total: Series,
    /// Each step.
    pub stages: BTreeMap<Stage, Series>,
    /// Why the first one failed.
    pub first_failure: Option<Error>,
    /// Whether a thread has given up.
    pub has_given_up: bool,
}

impl LoadCounters {
    /// How many ended so.
    pub(super) fn count(&self, exit: Exit) -> u64 {
        self.exits.get(&exit).copied().unwrap_or_default()
    }

    /// Takes in what another thread has counted.
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

    /// One more has ended so, and why.
    pub(super) fn record_failure(&mut self, exit: Exit, error: Error) {
        *self.exits.entry(exit).or_default() += 1;
        self.first_failure.get_or_insert(error);
    }
}
