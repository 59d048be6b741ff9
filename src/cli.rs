//! Command line: global flags and the list of subcommands. A new subcommand is added here.

mod usage;

use std::ffi::OsString;
use std::path::Path;

use clap::error::ErrorKind;
use clap::{ArgAction, Args, CommandFactory as _, Parser, Subcommand};

use crate::commands::completions::Completions;
use crate::commands::demo::Demo;
use crate::commands::get::Get;
use crate::commands::heartbeat::Heartbeat;
use crate::commands::mail::Mail;
use crate::commands::mail_serve::MailServe;
use crate::commands::ping::Ping;
use crate::commands::ping_serve::PingServe;
use crate::commands::serve_http::ServeHttp;
use crate::disk::ReadyFile;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::net;
use crate::output::{self, Color, Format, Output, Style, Verbosity};

/// Clients and servers for HTTP, UDP ping, heartbeats and SMTP.
#[derive(Debug, Parser)]
#[command(name = "netlab", version, max_term_width = 100, args_override_self = true, disable_help_flag = true)]
#[command(after_help = "\
Examples:
  netlab demo
  netlab serve-http assets/site --threads
  netlab get http://127.0.0.1:6789/HelloWorld.html")]
struct Cli {
    #[command(flatten)]
    global: GlobalArgs,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
struct GlobalArgs {
    /// Print events as JSON, one object per line
    #[arg(long, global = true, hide_short_help = true)]
    json: bool,

    /// Print only the summary and errors; -qq: only errors
    #[arg(short, long, global = true, action = ArgAction::Count, hide_short_help = true)]
    quiet: u8,

    /// Print more events, the time of each, and the causes of errors
    #[arg(short, long, global = true, hide_short_help = true)]
    verbose: bool,

    /// When to use colours
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t, hide_short_help = true)]
    color: Color,

    /// Print help; --help adds --json, -q and others
    #[arg(short, long, global = true, action = ArgAction::Help, display_order = 999, help_heading = None::<&str>, long_help = "Print help (see a summary with '-h')")]
    help: Option<bool>,
}

/// Subcommands. Flags are built for the invoked subcommand only (`defer`), because building all of them takes a
/// large part of a short run; so the one-line descriptions are repeated here, and a test compares them.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
enum Command {
    /// Serve the files of a directory over HTTP
    ServeHttp(Box<ServeHttp>),
    /// Fetch URLs over HTTP, once or repeatedly with statistics
    Get(Box<Get>),
    /// Echo UDP datagrams in upper case and drop some on purpose
    PingServe(Box<PingServe>),
    /// Measure round-trip times and loss with UDP datagrams
    Ping(Box<Ping>),
    /// Send heartbeats or monitor senders
    Heartbeat(Heartbeat),
    /// Send mail and report the result for each recipient
    Mail(Box<Mail>),
    /// Capture mail and inject faults on request
    MailServe(Box<MailServe>),
    /// Run every server with its client on loopback
    Demo(Demo),
    /// Print a completion script for a shell
    Completions(Completions),
}

impl Cli {
    fn style(&self) -> Style {
        Style {
            format: if self.global.json { Format::Json } else { Format::Text },
            verbosity: match self.global.quiet {
                0 if self.global.verbose => Verbosity::Verbose,
                0 => Verbosity::Normal,
                1 => Verbosity::Quiet,
                2.. => Verbosity::Silent,
            },
            color: self.global.color,
        }
    }

    fn run(self, output: Output) -> Result<Exit> {
        match self.command {
            Command::ServeHttp(serve_http) => serve_http.run(output),
            Command::Get(get) => get.run(output),
            Command::PingServe(ping_serve) => ping_serve.run(output),
            Command::Ping(ping) => ping.run(output),
            Command::Heartbeat(heartbeat) => heartbeat.run(output),
            Command::Mail(mail) => mail.run(output),
            Command::MailServe(mail_serve) => mail_serve.run(output),
            Command::Demo(Demo {}) => Demo::run(output),
            Command::Completions(completions) => completions.run(command(), output),
        }
    }
}

/// Command line as clap defines it; man pages and completions are generated from it.
pub fn command() -> clap::Command {
    let exits = format!("Exit codes:\n{}", Exit::table());
    let command = Cli::command();
    let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    command.after_long_help(format!("{examples}\n\n{}", exits.trim_end()))
}

/// JSON schema of the events, derived from their types.
pub fn event_schema() -> serde_json::Value {
    crate::commands::event_schema()
}

/// Runs `netlab` with these arguments, including the program name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    output::install_panic_hook(Exit::Bug.code());
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    match command().try_get_matches_from(&arguments) {
        Ok(matches) => match <Cli as clap::FromArgMatches>::from_arg_matches(&matches) {
            Ok(cli) => {
                let mut output = Output::new(cli.style(), net::now);
                cli.run(output.clone()).unwrap_or_else(|error| {
                    output.report_fatal(&error, Some(&subcommand_path(&matches)));
                    error.exit()
                })
            }
            Err(error) => report_usage_error(&error, &arguments),
        },
        Err(error) if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let text = error.render();
            let (style, (_, path)) = (raw_style(&arguments), raw_subcommand(&arguments));
            let mut output = Output::new(style, net::now);
            if style.format == Format::Text {
                output.print_usage(&text.ansi().to_string(), &text.to_string());
            }
            output.report_fatal(&Error::new(Exit::Usage, "missing subcommand"), Some(&path));
            Exit::Usage
        }
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            let text = error.render();
            let mut output = Output::new(raw_style(&arguments), net::now);
            match output.print_help(&text.ansi().to_string(), &text.to_string()) {
                Ok(()) => Exit::Success,
                Err(failure) => {
                    let error = Error::from(failure);
                    output.report_error(&error);
                    error.exit()
                }
            }
        }
        Err(error) => report_usage_error(&error, &arguments),
    }
}

/// Name of the invoked subcommand, such as `ping` or `heartbeat watch`.
fn subcommand_path(matches: &clap::ArgMatches) -> String {
    let levels = std::iter::successors(Some(matches), |matches| Some(matches.subcommand()?.1));
    levels.filter_map(clap::ArgMatches::subcommand_name).collect::<Vec<_>>().join(" ")
}

/// Style of a command line that was not parsed: `--json` and `--color` are read from the raw arguments.
fn raw_style(arguments: &[OsString]) -> Style {
    let format = if raw_words(arguments).any(|word| word == "--json") { Format::Json } else { Format::Text };
    let color = raw_value(arguments, "--color");
    let color = color.and_then(|when| <Color as clap::ValueEnum>::from_str(when, false).ok()).unwrap_or_default();
    Style { format, color, ..Style::default() }
}

/// Last value of a flag of a command line that was not parsed.
fn raw_value<'a>(arguments: &'a [OsString], flag: &str) -> Option<&'a str> {
    let mut words = raw_words(arguments);
    let mut value = None;
    while let Some(word) = words.next() {
        match word.strip_prefix(flag) {
            Some("") => value = words.next(),
            Some(rest) => value = rest.strip_prefix('=').or(value),
            None => {}
        }
    }
    value
}

/// Words of a command line that was not parsed, without the program and what belongs to another command.
fn raw_words(arguments: &[OsString]) -> impl Iterator<Item = &str> {
    arguments.iter().skip(1).take_while(|word| *word != "--").filter_map(|word| word.to_str())
}

/// Reports a usage error. Style and subcommand are unknown if parsing failed, so both are read from the raw
/// arguments.
fn report_usage_error(error: &clap::Error, arguments: &[OsString]) -> Exit {
    let (command, path) = raw_subcommand(arguments);
    // A script that waits for the ready file must not find that of an earlier run.
    let has_ready_file = command.get_arguments().any(|argument| argument.get_id() == "ready_file");
    if let Some(file) = raw_value(arguments, "--ready-file").filter(|_| has_ready_file) {
        let _ = ReadyFile::prepare(Path::new(file));
    }
    let error = usage::report(error, &path, arguments);
    Output::new(raw_style(arguments), net::now)
        .report_fatal(&error, Some(&path).filter(|path| !path.is_empty()).map(String::as_str));
    error.exit()
}

/// Subcommand of a command line that was not parsed, and its names, such as `heartbeat watch`.
fn raw_subcommand(arguments: &[OsString]) -> (clap::Command, String) {
    let (mut command, mut path) = (command(), Vec::new());
    for word in arguments.iter().skip(1).filter_map(|word| word.to_str()).filter(|word| !word.starts_with('-')) {
        let Some(found) = command.find_subcommand(word).cloned() else { break };
        path.push(word.to_owned());
        command = found;
        command.build();
    }
    (command, path.join(" "))
}

#[cfg(test)]
mod tests {
    use super::command;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }
}
