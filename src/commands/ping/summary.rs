//! End of a run: plots, `--fail-if`, summaries and the exit code.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::events::Summary;
use super::observer::TargetRun;
use super::plot_data;
use crate::commands::fail_if::{FailIf, check_all};
use crate::disk;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::net::datagram::StopReason;
use crate::output::{Format, Output};
use crate::probe::{PingClient, PingStatistics};

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
            let exit = self.evaluate_target(&report);
            if exit == Exit::Unavailable {
                output.report_error(&all_refused_error(&run.target));
            }
            let summary = Summary::new(Arc::clone(&run.target), self.elapsed, report);
            exits.push(check_all(self.fail_if, &summary, exit, &mut output));
            output.emit_summary(&summary)?;
        }
        Ok(Exit::combined(exits))
    }

    /// Returns the exit code of one target.
    fn evaluate_target(&self, report: &PingStatistics) -> Exit {
        match self.ended {
            _ if report.received > 0 => Exit::Success,
            // Interrupted before any ping had an outcome.
            StopReason::Signal(signal) if report.sent == report.waiting => signal.into(),
            // Pings may still be in flight when the run ends.
            _ if report.refused > 0 && report.refused + report.waiting == report.sent => Exit::Unavailable,
            _ => Exit::Negative,
        }
    }
}

fn all_refused_error(target: &str) -> Error {
    Error::new(Exit::Unavailable, format!("{target}: every ping was refused"))
        .expected("a UDP echo server listening on this port")
        .remedy("start one with 'netlab ping-serve', or check the port")
}
