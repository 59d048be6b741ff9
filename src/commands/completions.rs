//! `netlab completions`: what a shell needs to know to complete the command line.

use clap::Args;
use clap_complete::Shell;

use crate::error::Result;
use crate::exit::Exit;
use crate::output::{Output, Style};

/// Print a completion script for a shell.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  netlab completions bash > ~/.local/share/bash-completion/completions/netlab
  netlab completions zsh > ~/.zfunc/_netlab")]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    /// Prints the script for the whole command line, which is handed down as a value.
    pub(crate) fn run(&self, mut command: clap::Command, style: Style) -> Result<Exit> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, "netlab", &mut script);
        Output::new(style).write_bytes(&script)?;
        Ok(Exit::Success)
    }
}
