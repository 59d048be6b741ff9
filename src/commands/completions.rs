//! `netlab completions`: shell completion scripts.

use clap::Args;
use clap_complete::Shell;

use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::output::{Format, Output};

/// Print a completion script for a shell.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  netlab completions bash > ~/.local/share/bash-completion/completions/netlab
  netlab completions zsh > ~/.zfunc/_netlab")]
pub(crate) struct Completions {
    /// Shell to print the script for
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    /// Prints the script for `command`, the whole command line.
    pub(crate) fn run(&self, mut command: clap::Command, mut output: Output) -> Result<Exit> {
        if output.style().format == Format::Json {
            return Err(Error::new(Exit::Usage, "a completion script has no JSON form").remedy("leave out --json"));
        }
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, "netlab", &mut script);
        output.write_bytes(&script)?;
        Ok(Exit::Success)
    }
}
