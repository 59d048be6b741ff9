//! End of a run: plots, `--fail-if`, summaries and the exit code.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::events::Summary;
use super::observer::TargetRun;
use crate::commands::fail_if::{FailIf, check_all};
use crate::commands::plot_data::write_chart;
use crate::commands::report::{self, plural};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::net::datagram::StopReason;
use crate::output::{Attempts, Format, Output};
use crate::probe::{PingClient, PingStatistics};
use crate::stop::StopConditions;

/// Failure conditions and plots at the end of a run.
pub(super) struct FinalReport<'p> {
    pub fail_if: &'p [FailIf],
    /// Plot even if stdout is not a terminal.
    pub plot: bool,
    /// File to write a chart to.
    pub svg: Option<&'p Path>,
    pub elapsed: Duration,
    pub ended: StopReason,
    pub stop: StopConditions,
}

impl FinalReport<'_> {
    /// Writes plots and summaries, and returns the exit code.
    pub(super) fn write(&self, senders: &[PingClient], runs: &[TargetRun], mut output: Output) -> Result<Exit> {
        if let Some(file) = self.svg {
            let charts: Vec<_> = runs.iter().map(|run| (&*run.target, &run.plot_data)).collect();
            write_chart((file, &self.stop), Attempts { one: "ping", many: "pings" }, &charts)?;
        }
        let style = output.style();
        let plots = style.format == Format::Text && (self.plot || (output.is_terminal() && style.prints_events()));
        let mut exits = Vec::new();
        for (sender, run) in senders.iter().zip(runs) {
            if plots {
                output.write_text(run.plot_data.plot(output.width()))?;
            }
            let report = sender.statistics();
            let exit = self.evaluate_target(&report);
            match exit {
                Exit::Unavailable => output.report_error(&all_refused_error(&run.target)),
                Exit::Negative => output.report_error(&no_reply_error(&run.target, report.sent)),
                _ => {}
            }
            let summary = Summary::new((Arc::clone(&run.target), run.peer), self.elapsed, report);
            let exit = check_all(self.fail_if, &summary, exit, &mut output);
            exits.push(exit);
            report::emit_summary(&mut output, &summary, exit)?;
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

fn no_reply_error(target: &str, sent: u64) -> Error {
    let pings = plural(sent, "ping", "pings");
    Error::new(Exit::Negative, format!("{target}: no reply to {sent} {pings}"))
}

fn all_refused_error(target: &str) -> Error {
    Error::new(Exit::Unavailable, format!("{target}: every ping was refused"))
        .expected("a UDP echo server listening on this port")
        .remedy("start one with 'netlab ping-serve', or check the port")
}
