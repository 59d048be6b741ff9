//! `netlab demo`: every pair against itself, on loopback, in seconds.
//!
//! Owns the list of pairs and the table at the end. Runs this program itself, so that its output is what a user
//! would see; [`runner`] starts the processes, each pair has its own file.

mod heartbeat;
mod mail;
mod ping;
mod runner;
mod web;

use std::fmt;
use std::time::Duration;

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use crate::commands::schema::EventSchemas;
use crate::error::Result;
use crate::exit::Exit;
use crate::net::{self, Signals};
use crate::output::Output;
use crate::time::{HumanDuration, nanoseconds};
use runner::DemoRunner;

/// Lists the events for the JSON schema.
pub(super) fn list_events(schemas: &mut EventSchemas) {
    schemas.add::<Step>("demo");
    schemas.add::<Summary>("demo");
}

/// Run every server with its client on loopback.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  netlab demo
  netlab demo --json")]
pub(crate) struct Demo {}

impl Demo {
    /// Runs all pairs; succeeds only if every step ended as expected.
    pub(crate) fn run(output: Output) -> Result<Exit> {
        let started = net::now();
        let mut runner = DemoRunner::new(output, Signals::install()?)?;
        web::run(&mut runner)?;
        ping::run(&mut runner)?;
        heartbeat::run(&mut runner)?;
        mail::run(&mut runner)?;
        let (mut output, steps) = runner.finish();
        let summary = Summary::new(steps, net::now() - started);
        let exit = if summary.failed == 0 { Exit::Success } else { Exit::Negative };
        output.emit_summary(&summary)?;
        Ok(exit)
    }
}

/// One command line and its result.
#[derive(Clone, Debug, JsonSchema, Serialize)]
#[serde(tag = "type", rename = "step")]
struct Step {
    /// Subcommands of the pair.
    pair: &'static str,
    /// Behaviour that the step demonstrates.
    shows: &'static str,
    /// Command line as a user would type it.
    command: String,
    expected: i32,
    /// Exit code; `null` if a signal ended the command.
    exit: Option<i32>,
    /// Exit code and output were as expected.
    ok: bool,
    /// Output, shortened.
    #[serde(skip)]
    printed: String,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "$ {}", self.command)?;
        for line in self.printed.lines() {
            write!(f, "\n  {line}")?;
        }
        Ok(())
    }
}

#[derive(Debug, JsonSchema, Serialize)]
#[serde(tag = "type", rename = "summary")]
struct Summary {
    command: &'static str,
    elapsed_ns: u64,
    passed: usize,
    failed: usize,
    steps: Vec<Step>,
}

impl Summary {
    fn new(steps: Vec<Step>, elapsed: Duration) -> Self {
        let passed = steps.iter().filter(|step| step.ok).count();
        Self { command: "demo", elapsed_ns: nanoseconds(elapsed), passed, failed: steps.len() - passed, steps }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{:<18} {:<50} {:>6} {:>6}", "pair", "what it shows", "exit", "")?;
        for step in &self.steps {
            let exit = step.exit.map_or_else(|| "signal".to_owned(), |exit| exit.to_string());
            let verdict = if step.ok { "ok".to_owned() } else { format!("not {}", step.expected) };
            writeln!(f, "{:<18} {:<50} {exit:>6} {verdict:>6}", step.pair, step.shows)?;
        }
        let elapsed = HumanDuration(Duration::from_nanos(self.elapsed_ns));
        match self.failed {
            0 => write!(f, "all {} steps passed in {elapsed}", self.passed),
            failed => write!(f, "{failed} of {} steps failed in {elapsed}", self.passed + failed),
        }
    }
}
