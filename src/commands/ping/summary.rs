//! End of a run: plots, `--fail-if`, summaries and the exit code.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::events::Summary;
use super::observer::TargetRun;
use super::plot_data;
use crate::commands::fail_if::{FailIf, Figure, FigureKind, KnownFigures, statistic};
use crate::disk;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::net::datagram::StopReason;
use crate::output::{Format, Output};
use crate::probe::{PingClient, PingStatistics};

/// Figures that `--fail-if` accepts.
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

/// Failure conditions and plots at the end of a run.
pub(super) struct FinalReport<'p> {
    pub fail_if: &'p [FailIf],
    /// Plot even if stdout is not a terminal.
    pub plot: bool,
    /// File to write a chart to.
    pub svg: Option<&'p Path>,
    pub elapsed: Duration,
    pub ended: StopReason,
}

impl FinalReport<'_> {
    /// Writes plots and summaries, and returns the exit code.
    pub(super) fn write(&self, senders: &[PingClient], runs: &[TargetRun], mut output: Output) -> Result<Exit> {
        if let Some(file) = self.svg {
            let charts: Vec<_> = runs.iter().map(|run| (&*run.target, &run.plot_data)).collect();
            disk::replace(file, plot_data::svg_chart(&charts).as_bytes())?;
        }
        let style = output.style();
        let plots = style.format == Format::Text && (self.plot || (output.is_terminal() && !style.quiet));
        let mut exits = Vec::new();
        for (sender, run) in senders.iter().zip(runs) {
            if plots {
                output.write_text(run.plot_data.plot())?;
            }
            let report = sender.statistics();
            exits.push(self.evaluate_target(sender, &report, &run.target, &mut output));
            let summary = Summary::new(Arc::clone(&run.target), self.elapsed, report);
            output.emit_summary(&summary)?;
        }
        Ok(Exit::combined(exits))
    }

    /// Returns the exit code of one target and reports the failure conditions that hold.
    fn evaluate_target(&self, sender: &PingClient, report: &PingStatistics, target: &str, output: &mut Output) -> Exit {
        let mut exit = match self.ended {
            _ if report.received > 0 => Exit::Success,
            // Interrupted before any ping had an outcome.
            StopReason::Signal(signal) if report.sent == report.waiting => signal.exit(),
            // Pings may still be in flight when the run ends.
            _ if report.refused > 0 && report.refused + report.waiting == report.sent => Exit::Unavailable,
            _ => Exit::Negative,
        };
        if exit == Exit::Unavailable {
            output.report_error(&all_refused_error(target));
        }
        for assertion in self.fail_if {
            if let Err(broken) = assertion.check(|name| figure(sender, name)) {
                output.report_error(&broken.with_context(target));
                // Any error code takes precedence over a failure condition that holds.
                exit = if exit == Exit::Success { Exit::Negative } else { exit };
            }
        }
        exit
    }
}

fn all_refused_error(target: &str) -> Error {
    Error::new(Exit::Unavailable, format!("{target}: every ping was refused"))
        .expected("a UDP echo server listening on this port")
        .remedy("start one with 'netlab ping-serve', or check the port")
}

/// Looks up a figure by its name in `--fail-if`.
fn figure(sender: &PingClient, name: &str) -> Option<Figure> {
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
