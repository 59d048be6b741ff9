//! Login flags and sources of the password.
//!
//! Owns the four sources: a file, a descriptor, a command, a prompt on the terminal. Passwords are not taken
//! from the command line, which other users can read, or the environment, which child processes inherit.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clap::Args;

use crate::commands::args::{choice, number, parse_arg, read_private};
use crate::disk;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::failure::io_error_text;
use crate::host::{Child, Hook};
use crate::mac::Secret;
use crate::output::Output;
use crate::smtp::{Credentials, Mechanism};
use crate::stop::StopConditions;

#[derive(Debug, Args)]
pub(super) struct LoginArgs {
    /// Log in as this user
    #[arg(long, value_name = "NAME")]
    user: Option<String>,

    /// Read the password or token from FILE (mode 0600)
    #[arg(long, value_name = "FILE", requires = "user", group = "password")]
    password_file: Option<PathBuf>,

    /// Read the password or token from file descriptor N
    #[arg(long, value_name = "N", requires = "user", group = "password", hide_short_help = true, value_parser = number::<u32>(0..=u32::MAX))]
    password_fd: Option<u32>,

    /// Read the password or token from the first line that CMD prints
    #[arg(long, value_name = "CMD", requires = "user", group = "password", value_parser = parse_arg::<Hook>, hide_short_help = true)]
    password_command: Option<Hook>,

    /// Mechanism: SCRAM-SHA-256, PLAIN, LOGIN or XOAUTH2 [default: strongest offered]
    #[arg(long, value_name = "MECH", requires = "user", value_parser = choice::<Mechanism>(&["SCRAM-SHA-256", "PLAIN", "LOGIN", "XOAUTH2"]), ignore_case = true, hide_possible_values = true, hide_short_help = true)]
    auth: Option<Mechanism>,

    /// Send the password even without verified TLS
    #[arg(long, requires = "user", hide_short_help = true)]
    insecure_auth: bool,
}

impl LoginArgs {
    /// Returns true if a login was requested.
    pub(super) fn is_wanted(&self) -> bool {
        self.user.is_some()
    }

    /// Obtains the credentials; prompts for the password on a terminal if no flag names a source.
    pub(super) fn credentials(
        &self,
        output: &Output,
        strict: bool,
        stop: &StopConditions,
    ) -> Result<Option<Credentials>> {
        let Some(user) = &self.user else { return Ok(None) };
        if user.chars().any(char::is_control) {
            return Err(Error::new(Exit::InvalidInput, "the user name contains control characters"));
        }
        self.password_command.as_ref().map_or(Ok(()), Hook::check)?;
        let secret = match (&self.password_file, self.password_fd, &self.password_command) {
            (Some(file), ..) => self.read_password_file(file, (output, stop), strict)?,
            (_, Some(number), _) => {
                self.read_password_file(Path::new(&format!("/dev/fd/{number}")), (output, stop), false)?
            }
            (.., Some(command)) => run_password_command(
                command,
                stop.time_left().map_or(PASSWORD_COMMAND_TIMEOUT, |left| left.min(PASSWORD_COMMAND_TIMEOUT)),
            )?,
            _ => prompt_for_password(user)?,
        };
        if secret.is_empty() || secret.contains(&0) || secret.contains(&b'\n') {
            return Err(Error::new(Exit::Config, "the password is empty, or contains a line feed or NUL"));
        }
        Ok(Some(Credentials {
            user: user.clone(),
            secret: Secret::new(secret),
            mechanism: self.auth,
            allow_cleartext: self.insecure_auth,
            nonce: format!("{:032x}", rand::random::<u128>()),
        }))
    }

    fn read_password_file(
        &self,
        path: &Path,
        (output, stop): (&Output, &StopConditions),
        strict: bool,
    ) -> Result<Vec<u8>> {
        if strict {
            return read_private(path, "a password", stop);
        }
        let (secret, is_private) = disk::read_secret(path, stop)?;
        if !is_private && self.password_file.is_some() {
            output.note(&format!("warning: {} is readable by other users; set its mode to 0600", path.display()));
        }
        Ok(secret)
    }
}

/// Time limit of a password command, which may ask the user to unlock a password store.
const PASSWORD_COMMAND_TIMEOUT: Duration = Duration::from_secs(120);

fn run_password_command(hook: &Hook, timeout: Duration) -> Result<Vec<u8>> {
    let failed = |reason: String| {
        Error::new(Exit::Config, format!("--password-command failed: {reason}"))
            .expected("a command that prints the password and exits with 0")
    };
    let (program, arguments) = hook.argv().split_first().ok_or_else(|| failed("empty command".to_owned()))?;
    let mut command = Command::new(program);
    command.args(arguments);
    let child = Child::start(command).map_err(|error| failed(error.message().to_owned()))?;
    if !child.exits_within(timeout) {
        let limit = humantime::format_duration(timeout);
        return Err(Error::new(Exit::TemporaryFailure, format!("--password-command timed out after {limit}"))
            .expected("a command that prints the password and exits"));
    }
    let output = child.wait()?;
    if output.code != Some(0) {
        return Err(failed(
            output.code.map_or_else(|| "killed by a signal".to_owned(), |code| format!("exited with {code}")),
        ));
    }
    Ok(output.stdout.lines().next().unwrap_or_default().as_bytes().to_vec())
}

fn prompt_for_password(user: &str) -> Result<Vec<u8>> {
    if !std::io::stdin().is_terminal() {
        let message = format!("no password for '{user}', and no terminal to prompt on");
        return Err(Error::new(Exit::Config, message)
            .expected("--password-file FILE, --password-fd N or --password-command CMD"));
    }
    let password = rpassword::prompt_password(format!("password for {user}: "));
    password.map(String::into_bytes).map_err(|error| {
        Error::new(Exit::Config, format!("cannot read the password for '{user}': {}", io_error_text(&error)))
            .with_source(error)
    })
}
