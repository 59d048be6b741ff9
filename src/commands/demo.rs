//! `netlab demo`: every pair against itself.

use clap::Args;

use crate::error::Result;
use crate::exit::Exit;
use crate::output::Style;

/// Run every pair against itself on loopback and show what came of it.
#[derive(Debug, Args)]
pub struct Demo {}

impl Demo {
    /// Runs all pairs.
    pub fn run(&self, style: Style) -> Result<Exit> {
        let _ = style;
        Ok(Exit::Done)
    }
}
