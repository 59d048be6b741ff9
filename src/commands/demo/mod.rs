//! `netlab demo`: every pair against itself, on loopback, in seconds.
//!
//! Owns the list of pairs. Runs this program itself, so that its output is what a user
//! would see; [`runner`] starts the processes, each pair has its own file.

mod events;
mod heartbeat;
mod mail;
mod ping;
mod runner;
mod web;

use clap::Args;

use super::report;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::net::{self, Signals};
use crate::output::Output;
use events::Summary;
pub(in crate::commands) use events::list_events;
use runner::DemoRunner;

/// Run every server with its client on loopback.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  netlab demo
  netlab demo --json")]
pub(crate) struct Demo {}

impl Demo {
    /// Runs all pairs; succeeds only if every step ended as expected.
    pub(crate) fn run(mut output: Output) -> Result<Exit> {
        let started = net::now();
        let signals = Signals::install()?;
        output.stop_on(signals.stop_conditions(None));
        let mut runner = DemoRunner::new(output, signals)?;
        web::run(&mut runner)?;
        ping::run(&mut runner)?;
        heartbeat::run(&mut runner)?;
        mail::run(&mut runner)?;
        let (mut output, steps) = runner.finish();
        let summary = Summary::new(steps, net::now() - started);
        let exit = if summary.failed == 0 { Exit::Success } else { Exit::Negative };
        if exit != Exit::Success {
            output.report_error(&Error::new(
                exit,
                format!("{} of {} steps failed", summary.failed, summary.failed + summary.passed),
            ));
        }
        report::emit_summary(&mut output, &summary, exit)?;
        Ok(exit)
    }
}
