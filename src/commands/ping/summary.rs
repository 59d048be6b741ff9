//! What a run came to: the pictures, the assertions, the summaries, the code.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::events::{PingReport, Summary};
use super::observer::TargetRun;
use super::plot_data;
use crate::commands::fail_if::{FailIf, Figure, FigureKind, KnownFigures, statistic};
use crate::disk;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::net::datagram::StopReason;
use crate::output::{Format, Output};
use crate::probe::{PingStatistics, Sender};

/// The figures that `--fail-if` can judge.
pub(super) const FIGURES: &KnownFigures = &[
    ("loss", FigureKind::Ratio),
    ("rtt", FigureKind::Series),
    ("jitter", FigureKind::Time),
    ("sent", FigureKind::Count),
    ("received", FigureKind::Count),
    ("lost", FigureKind::Count),
    ("late", FigureKind::Count),
    ("refused", FigureKind::Count),
    ("duplicates", FigureKind::Count),
    ("reordered", FigureKind::Count),
    ("corrupt", FigureKind::Count),
    ("foreign", FigureKind::Count),
    ("send_errors", FigureKind::Count),
    ("waiting", FigureKind::Count),
    ("local_drops", FigureKind::Count),
    ("lost_up", FigureKind::Count),
    ("lost_down", FigureKind::Count),
    ("lost_somewhere", FigureKind::Count),
    ("loss_up", FigureKind::Ratio),
    ("loss_down", FigureKind::Ratio),
];

/// How a run is judged and drawn.
pub(super) struct FinalReport<'p> {
    /// What must not be.
    pub assertions: &'p [FailIf],
    /// Whether to draw where there is no terminal.
    pub plot: bool,
    /// Where to draw a chart.
    pub svg: Option<&'p Path>,
    /// How long the run took.
    pub elapsed: Duration,
    /// Why it ended.
    pub ended: StopReason,
}

impl FinalReport<'_> {
    /// Says it all, the summaries last, and gives the code.
    pub(super) fn write(&self, senders: &[Sender], runs: &[TargetRun], mut output: Output) -> Result<Exit> {
        if let Some(file) = self.svg {
            let charts: Vec<_> = runs.iter().map(|run| (&*run.target, &run.plot_data)).collect();
            disk::replace(file, plot_data::svg_chart(&charts).as_bytes())?;
        }
        let style = output.style();
        let draws = style.format == Format::Text && (self.plot || (output.is_terminal() && !style.quiet));
        let mut exits = Vec::new();
        for (sender, run) in senders.iter().zip(runs) {
            if draws {
                output.write_text(&run.plot_data.plot())?;
            }
            let report = sender.statistics();
            exits.push(self.evaluate_target(sender, &report, &run.target, &mut output));
            let summary = Summary::new(Arc::clone(&run.target), self.elapsed, report);
            output.emit(&PingReport::Summary(Box::new(summary)))?;
        }
        Ok(Exit::combined(exits))
    }

    /// One target's code; what broke it is said.
    fn evaluate_target(&self, sender: &Sender, report: &PingStatistics, target: &str, output: &mut Output) -> Exit {
        let mut exit = match self.ended {
            _ if report.received > 0 => Exit::Success,
            // Stopped before anything was decided: nobody can say yes or no.
            StopReason::Signal(signal) if report.sent == report.waiting => signal.exit(),
            // One may still be on its way when the run is ended.
            _ if report.refused > 0 && report.refused + report.waiting == report.sent => Exit::Unavailable,
            _ => Exit::Negative,
        };
        if exit == Exit::Unavailable {
            output.report_error(&all_refused_error(target));
        }
        for assertion in self.assertions {
            if let Err(broken) = assertion.check(|name| figure(sender, name)) {
                output.report_error(&broken.with_context(target));
                // Any error code outranks a broken assertion.
                exit = if exit == Exit::Success { Exit::Negative } else { exit };
            }
        }
        exit
    }
}

fn all_refused_error(target: &str) -> Error {
    Error::new(Exit::Unavailable, format!("{target}: nobody there, every ping was refused"))
        .expected("a server listening there")
        .remedy("start one with netlab ping-serve, or check the port")
}

/// A figure by the name that `--fail-if` knows it by.
fn figure(sender: &Sender, name: &str) -> Option<Figure> {
    let report = sender.statistics();
    if let Some(part) = name.strip_prefix("rtt.") {
        return statistic(sender.round_trips(), part).flatten();
    }
    Some(match name {
        "loss" => Figure::Ratio(report.loss?),
        "jitter" => Figure::Time(report.jitter?),
        "sent" => Figure::Count(report.sent),
        "received" => Figure::Count(report.received),
        "lost" => Figure::Count(report.lost),
        "late" => Figure::Count(report.late),
        "refused" => Figure::Count(report.refused),
        "duplicates" => Figure::Count(report.duplicates),
        "reordered" => Figure::Count(report.reordered),
        "corrupt" => Figure::Count(report.corrupt),
        "foreign" => Figure::Count(report.foreign),
        "send_errors" => Figure::Count(report.send_errors),
        "waiting" => Figure::Count(report.waiting),
        "local_drops" => Figure::Count(report.local_drops),
        "lost_up" => Figure::Count(report.ways?.lost_up),
        "lost_down" => Figure::Count(report.ways?.lost_down),
        "lost_somewhere" => Figure::Count(report.ways?.lost_somewhere),
        "loss_up" => Figure::Ratio(report.ways?.loss_up?),
        "loss_down" => Figure::Ratio(report.ways?.loss_down?),
        _ => return None,
    })
}
