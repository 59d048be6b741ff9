//! `--fail-if`: a failure condition on the figures of a run.
//!
//! Owns the grammar `FIGURE RELATION LIMIT` and the comparison. Each command lists its figures. A figure without data
//! counts as a failure, because nothing was measured.

use std::fmt;
use std::time::Duration;

use super::args::{duration, one_line, parse_arg};
use crate::error::Error;
use crate::exit::Exit;
use crate::impair::Probability;
use crate::stats::Series;
use crate::time::HumanDuration;

/// Failure condition as typed, such as `loss>5%`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FailIf {
    text: String,
    figure: String,
    relation: Relation,
    limit: Figure,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    Above,
    AtLeast,
    Below,
    AtMost,
}

#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub(super) enum Figure {
    /// Number between 0 and 1.
    Ratio(f64),
    Count(u64),
    Time(Duration),
}

/// Kind of a figure, which decides how its limit is parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FigureKind {
    /// Limit such as `5%`, `0.05` or `1/20`.
    Ratio,
    Count,
    Time,
    /// Series of durations: `.min`, `.mean`, `.max`, `.stddev` or a percentile such as `.p99`.
    Series,
}

/// Figures of a command, each with its kind.
pub(super) type KnownFigures = [(&'static str, FigureKind)];

impl FailIf {
    /// Parses a failure condition on one of the `known` figures.
    pub(super) fn parse(text: &str, known: &KnownFigures) -> Result<Self, String> {
        let shape = || {
            format!(
                "expected FIGURE>LIMIT such as {}; figures: {}; STAT is min, mean, max, stddev or a percentile such as p99",
                example(known),
                names(known)
            )
        };
        let at = text.find(['<', '>']).ok_or_else(shape)?;
        let (figure, rest) = text.split_at(at);
        let (relation, limit) = match (rest.strip_prefix(">="), rest.strip_prefix("<="), rest.strip_prefix('>')) {
            (Some(limit), ..) => (Relation::AtLeast, limit),
            (_, Some(limit), _) => (Relation::AtMost, limit),
            (.., Some(limit)) => (Relation::Above, limit),
            _ => (Relation::Below, rest.get(1..).unwrap_or_default()),
        };
        let (figure, limit) = (figure.trim(), limit.trim());
        let (name, part) = figure.split_once('.').map_or((figure, None), |(name, part)| (name, Some(part)));
        let kind = known.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind).ok_or_else(shape)?;
        let is_whole = match part {
            Some(part) => kind == FigureKind::Series && statistic(&Series::default(), part).is_some(),
            None => kind != FigureKind::Series,
        };
        if !is_whole {
            return Err(shape());
        }
        let limit = match kind {
            FigureKind::Ratio => parse_arg::<Probability>(limit)
                .map_err(|error| one_line(&error))
                .map(|limit| Figure::Ratio(limit.value())),
            FigureKind::Count => {
                limit.parse().map(Figure::Count).map_err(|_| format!("expected a whole number for {figure}"))
            }
            FigureKind::Time | FigureKind::Series => duration(limit).map(Figure::Time),
        }?;
        Ok(Self { text: text.to_owned(), figure: figure.to_owned(), relation, limit })
    }

    /// Fails if the condition holds; `lookup` finds a figure by its name.
    pub(super) fn check(&self, lookup: impl FnOnce(&str) -> Option<Figure>) -> Result<(), Error> {
        let found = lookup(&self.figure);
        let broken = found.is_none_or(|found| match self.relation {
            Relation::Above => found > self.limit,
            Relation::AtLeast => found >= self.limit,
            Relation::Below => found < self.limit,
            Relation::AtMost => found <= self.limit,
        });
        if !broken {
            return Ok(());
        }
        let found = found.map_or_else(|| "has no data".to_owned(), |found| format!("is {found}"));
        Err(Error::new(Exit::Negative, format!("--fail-if '{}' failed: {} {found}", self.text, self.figure)))
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ratio(ratio) => write!(f, "{:.1} %", ratio * 100.0),
            Self::Count(count) => write!(f, "{count}"),
            Self::Time(time) => write!(f, "{}", HumanDuration(*time)),
        }
    }
}

/// Looks up a statistic of a series; the outer `None` is an unknown name, the inner one no data.
#[expect(clippy::option_option, reason = "an unknown name and a series without data are two cases")]
pub(super) fn statistic(series: &Series, name: &str) -> Option<Option<Figure>> {
    let summary = series.summary();
    let time = match name {
        "min" => summary.map(|summary| summary.min),
        "mean" => summary.map(|summary| summary.mean),
        "max" => summary.map(|summary| summary.max),
        "stddev" => summary.and_then(|summary| summary.stddev),
        _ => {
            let digits = name
                .strip_prefix('p')
                .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'))?;
            let percent: f64 = digits.parse().ok().filter(|percent| (0.0..=100.0).contains(percent))?;
            series.percentile(percent / 100.0)
        }
    };
    Some(time.map(Figure::Time))
}

fn example(known: &KnownFigures) -> &'static str {
    if known.iter().any(|(name, _)| *name == "rtt") {
        "'loss>5%' or 'rtt.p99>20ms'"
    } else {
        "'failure>5%' or 'total.p95>20ms'"
    }
}

fn names(known: &KnownFigures) -> String {
    let name = |(name, kind): &(&str, FigureKind)| {
        if *kind == FigureKind::Series { format!("{name}.STAT") } else { (*name).to_owned() }
    };
    known.iter().map(name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::{FailIf, Figure, FigureKind, KnownFigures, statistic};
    use crate::stats::Series;
    use std::time::Duration;

    const KNOWN_FIGURES: &KnownFigures = &[
        ("loss", FigureKind::Ratio),
        ("late", FigureKind::Count),
        ("jitter", FigureKind::Time),
        ("rtt", FigureKind::Series),
    ];

    fn broken(text: &str, figure: Option<Figure>) -> bool {
        FailIf::parse(text, KNOWN_FIGURES).expect(text).check(|_| figure).is_err()
    }

    #[test]
    fn an_assertion_holds_or_is_broken_at_its_limit() {
        let ratio = |ratio| Some(Figure::Ratio(ratio));
        assert!(!broken("loss>5%", ratio(0.05)) && broken("loss>5%", ratio(0.051)));
        assert!(broken("loss>=5%", ratio(0.05)));
        assert!(broken("loss < 1/2", ratio(0.4)) && !broken("loss<0.5", ratio(0.5)));
        assert!(broken("late<=3", Some(Figure::Count(3))));
        assert!(broken("rtt.p99>20ms", Some(Figure::Time(Duration::from_millis(21)))));
    }

    #[test]
    fn a_figure_without_data_breaks_its_assertion() {
        assert!(broken("rtt.p99>20ms", None) && broken("loss<5%", None));
    }

    #[test]
    fn invalid_assertions_list_the_figures() {
        for text in [
            "loss",
            "loss>",
            "loss>x",
            "rtt>1ms",
            "rtt.p101>1ms",
            "rtt.p>1ms",
            "rtt.best>1ms",
            "loss.p99>1%",
            "loss.foo>1%",
            "late.max>1",
            "speed>1",
            "late>1.5",
            "jitter>5",
            ">5%",
        ] {
            let parsed = FailIf::parse(text, KNOWN_FIGURES);
            if text == "jitter>5" {
                assert!(parsed.is_ok(), "a bare number is seconds");
                continue;
            }
            assert!(!parsed.expect_err(text).is_empty(), "{text}");
        }
        assert!(FailIf::parse("x>1", KNOWN_FIGURES).expect_err("no figure").contains("rtt.STAT"));
    }

    #[test]
    fn any_percentile_can_be_asked_for() {
        let mut series = Series::default();
        (1..=100).for_each(|n| series.push(Duration::from_millis(n)));
        assert_eq!(statistic(&series, "p95"), Some(Some(Figure::Time(Duration::from_millis(95)))));
        assert_eq!(statistic(&series, "p99.5"), Some(Some(Figure::Time(Duration::from_millis(100)))));
        assert_eq!(statistic(&Series::default(), "max"), Some(None));
    }
}
