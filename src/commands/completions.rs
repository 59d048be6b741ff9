//! `netlab completions`: shell completion scripts.

use clap::{Args, Command, ValueHint};
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
    pub(crate) fn run(&self, mut command: Command, mut output: Output) -> Result<Exit> {
        if output.style().format == Format::Json {
            return Err(Error::new(Exit::Usage, "a completion script has no JSON form").remedy("leave out --json"));
        }
        let mut script = Vec::new();
        command.build();
        let mut command = with_value_hints(command);
        clap_complete::generate(self.shell, &mut command, "netlab", &mut script);
        if self.shell == Shell::Bash {
            script = offer_paths(&String::from_utf8_lossy(&script)).into_bytes();
        }
        output.write_bytes(&script)?;
        Ok(Exit::Success)
    }
}

/// Makes bash offer paths, not flags, for the directory of `serve-http`: the generated script offers flags for the first
/// word of each subcommand.
fn offer_paths(script: &str) -> String {
    let Some((before, block)) = script.split_once("\n        netlab__subcmd__serve__subcmd__http)\n") else {
        return script.to_owned();
    };
    let (block, after) = block.split_once("\n            ;;\n").unwrap_or((block, ""));
    let flags = r#"COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )"#;
    let paths = "compopt -o filenames\n            COMPREPLY=( $(compgen -f -- \"${cur}\") )";
    let block = block.replacen(" || ${COMP_CWORD} -eq 2", "", 1);
    let block = block.rsplit_once(flags).map_or(block.clone(), |(first, last)| format!("{first}{paths}{last}"));
    format!("{before}\n        netlab__subcmd__serve__subcmd__http)\n{block}\n            ;;\n{after}")
}

/// Adds completion hints to all arguments; a value without a kind of its own completes to nothing.
fn with_value_hints(command: Command) -> Command {
    let command = command.mut_args(|argument| {
        let hint = match argument.get_value_names().and_then(|names| names.first()).map(clap::builder::Str::as_str) {
            Some("FILE") => ValueHint::FilePath,
            Some("DIR") => ValueHint::DirPath,
            Some("HOST[:PORT]") => ValueHint::Hostname,
            Some("URL") => ValueHint::Url,
            Some("CMD") => ValueHint::CommandName,
            _ => ValueHint::Other,
        };
        if argument.get_action().takes_values() { argument.value_hint(hint) } else { argument }
    });
    command.mut_subcommands(with_value_hints)
}
