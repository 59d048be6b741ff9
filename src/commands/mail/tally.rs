//! What many mails came to.
//!
//! Owns the sums of a load: how many ended with which code, how long each step took, and the figures that
//! `--fail-if` can ask for.

use std::collections::BTreeMap;

use crate::commands::fail_if::{Figure, Kind, Known, statistic};
use crate::error::Error;
use crate::exit::Exit;
use crate::smtp::Stage;
use crate::stats::Series;

/// The figures of `--fail-if`.
pub const FIGURES: &Known = &[
    ("errors", Kind::Count),
    ("accepted", Kind::Count),
    ("total", Kind::Series),
    ("connect", Kind::Series),
    ("banner", Kind::Series),
    ("ehlo", Kind::Series),
    ("tls", Kind::Series),
    ("auth", Kind::Series),
    ("mail", Kind::Series),
    ("rcpt", Kind::Series),
    ("data", Kind::Series),
    ("body", Kind::Series),
    ("dot", Kind::Series),
];

/// A figure of `--fail-if`, if there is one.
pub fn figure(tally: &Tally, name: &str) -> Option<Figure> {
    let accepted = tally.count(Exit::Done);
    match name {
        "errors" => return Some(Figure::Count(tally.exits.values().sum::<u64>() - accepted)),
        "accepted" => return Some(Figure::Count(accepted)),
        _ => {}
    }
    let (name, part) = name.split_once('.')?;
    let stage = || Stage::ALL.into_iter().find(|stage| stage.word() == name);
    let series = if name == "total" { Some(&tally.total) } else { stage().and_then(|stage| tally.stages.get(&stage)) };
    statistic(series?, part).flatten()
}

/// What many mails came to.
#[derive(Debug, Default)]
pub struct Tally {
    /// How many ended with which code.
    pub exits: BTreeMap<Exit, u64>,
    /// From the first step of a mail to the answer to its dot.
    pub total: Series,
    /// Each step.
    pub stages: BTreeMap<Stage, Series>,
    /// Why the first one failed.
    pub first_failure: Option<Error>,
    /// Whether a thread has given up.
    pub is_hopeless: bool,
}

impl Tally {
    /// How many ended so.
    pub fn count(&self, exit: Exit) -> u64 {
        self.exits.get(&exit).copied().unwrap_or_default()
    }

    /// Takes in what another thread has counted.
    pub fn merge(&mut self, other: Self) {
        for (exit, count) in other.exits {
            *self.exits.entry(exit).or_default() += count;
        }
        self.total.merge(&other.total);
        for (stage, series) in other.stages {
            self.stages.entry(stage).or_default().merge(&series);
        }
        self.first_failure = self.first_failure.take().or(other.first_failure);
        self.is_hopeless |= other.is_hopeless;
    }

    /// One more has ended so, and why.
    pub fn fail(&mut self, exit: Exit, error: Error) {
        *self.exits.entry(exit).or_default() += 1;
        self.first_failure.get_or_insert(error);
    }
}
