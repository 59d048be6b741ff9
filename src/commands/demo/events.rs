//! Text output of `demo`: each command with what it printed, and the table of all steps.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use crate::commands::schema::EventSchemas;
use crate::output::{Event, TextTime};
use crate::time::{HumanDuration, nanoseconds};

/// Lists the events for the JSON schema.
pub(in crate::commands) fn list_events(schemas: &mut EventSchemas) {
    schemas.add::<Step>("demo");
    schemas.add::<Summary>("demo");
}

/// One command line and its result.
#[derive(Clone, Debug, JsonSchema, Serialize)]
#[serde(tag = "type", rename = "step")]
pub(super) struct Step {
    /// Subcommands of the pair.
    pub pair: &'static str,
    /// Behaviour that the step demonstrates.
    pub shows: &'static str,
    /// Command line as a user would type it.
    pub command: String,
    pub expected: i32,
    /// Exit code; `null` if a signal ended the command.
    pub exit: Option<i32>,
    /// Exit code and output were as expected.
    pub ok: bool,
    /// Output, shortened.
    #[serde(skip)]
    pub printed: String,
}

impl Event for Step {
    fn text_time(&self) -> TextTime {
        TextTime::Never
    }
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
pub(super) struct Summary {
    command: &'static str,
    elapsed_ns: u64,
    pub passed: usize,
    pub failed: usize,
    steps: Vec<Step>,
}

impl Summary {
    pub(super) fn new(steps: Vec<Step>, elapsed: Duration) -> Self {
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
