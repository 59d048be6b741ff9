//! Where a password comes from.
//!
//! Owns the four ways: a file, a descriptor, a command, a question on the terminal. Never the command
//! line, never the environment: both can be read by others.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clap::Args;

use crate::commands::args::{parse_arg, read_private};
use crate::disk;
use crate::error::{Error, Result, io_error_text};
use crate::exit::Exit;
use crate::host::{Child, Hook};
use crate::mac::Secret;
use crate::output::Output;
use crate::smtp::{Credentials, Mechanism};

/// Who logs in, and how.
#[derive(Debug, Args)]
pub(super) struct LoginArgs {
    /// Log in as this user
    #[arg(long, value_name = "NAME")]
    user: Option<String>,

    /// The password or token, in a file that only you can read
    #[arg(long, value_name = "FILE", requires = "user", group = "password")]
    password_file: Option<PathBuf>,

    /// The password or token, on this descriptor
    #[arg(long, value_name = "N", requires = "user", group = "password", hide_short_help = true)]
    password_fd: Option<u32>,

    /// The password or token, as the first line that CMD prints
    #[arg(long, value_name = "CMD", requires = "user", group = "password", value_parser = parse_arg::<Hook>, hide_short_help = true)]
    password_command: Option<Hook>,

    /// SCRAM-SHA-256, PLAIN, LOGIN or XOAUTH2; the strongest offered unless given
    #[arg(long, value_name = "MECH", requires = "user", value_parser = parse_arg::<Mechanism>, hide_short_help = true)]
    auth: Option<Mechanism>,

    /// Send the password even where others could read it
    #[arg(long, requires = "user", hide_short_help = true)]
    insecure_auth: bool,
}

impl LoginArgs {
    /// Whether somebody is to log in.
    pub(super) fn is_wanted(&self) -> bool {
        self.user.is_some()
    }

    /// Who logs in; asks for the password if nothing else says it and there is a terminal.
    pub(super) fn credentials(
        &self,
        output: &Output,
        strict: bool,
        deadline: Option<Duration>,
    ) -> Result<Option<Credentials>> {
        let Some(user) = &self.user else { return Ok(None) };
        if user.chars().any(char::is_control) {
            return Err(Error::new(Exit::InvalidInput, "the user's name holds control characters"));
        }
        let secret = match (&self.password_file, self.password_fd, &self.password_command) {
            (Some(file), ..) => self.read_password_file(file, output, strict)?,
            (_, Some(number), _) => self.read_password_file(Path::new(&format!("/dev/fd/{number}")), output, false)?,
            (.., Some(command)) => run_password_command(
                command,
                deadline.map_or(PASSWORD_COMMAND_TIMEOUT, |deadline| deadline.min(PASSWORD_COMMAND_TIMEOUT)),
            )?,
            _ => prompt_for_password(user)?,
        };
        if secret.is_empty() || secret.contains(&0) || secret.contains(&b'\n') {
            return Err(Error::new(Exit::Config, "the password is empty, or has more than one line"));
        }
        Ok(Some(Credentials {
            user: user.clone(),
            secret: Secret::new(secret),
            mechanism: self.auth,
            allow_cleartext: self.insecure_auth,
            nonce: format!("{:032x}", rand::random::<u128>()),
        }))
    }

    fn read_password_file(&self, path: &Path, output: &Output, strict: bool) -> Result<Vec<u8>> {
        if strict {
            return read_private(path, "a password");
        }
        let (secret, is_private) = disk::read_secret(path)?;
        if !is_private && self.password_file.is_some() {
            output.note(&format!("warning: {} can be read by others; chmod 600 it", path.display()));
        }
        Ok(secret)
    }
}

/// How long somebody may take to unlock a store of passwords.
const PASSWORD_COMMAND_TIMEOUT: Duration = Duration::from_secs(120);

fn run_password_command(hook: &Hook, timeout: Duration) -> Result<Vec<u8>> {
    let failed = |why: String| {
        Error::new(Exit::Config, format!("--password-command failed: {why}"))
            .expected("a command that prints the password and ends with 0")
    };
    let (program, arguments) = hook.argv().split_first().ok_or_else(|| failed("it is empty".to_owned()))?;
    let mut command = Command::new(program);
    command.args(arguments);
    let child = Child::start(command).map_err(|error| failed(error.message().to_owned()))?;
    if !child.exits_within(timeout) {
        let limit = humantime::format_duration(timeout);
        return Err(Error::new(Exit::TemporaryFailure, format!("--password-command took longer than {limit}"))
            .expected("a command that prints the password and ends"));
    }
    let ended = child.wait()?;
    if ended.code != Some(0) {
        return Err(failed(
            ended.code.map_or_else(|| "a signal ended it".to_owned(), |code| format!("it ended with {code}")),
        ));
    }
    Ok(ended.stdout.lines().next().unwrap_or_default().as_bytes().to_vec())
}

fn prompt_for_password(user: &str) -> Result<Vec<u8>> {
    if !std::io::stdin().is_terminal() {
        let what = format!("there is no password for {user}, and no terminal to ask on");
        return Err(
            Error::new(Exit::Config, what).expected("--password-file FILE, --password-fd N or --password-command CMD")
        );
    }
    let password = rpassword::prompt_password(format!("password for {user}: "));
    password.map(String::into_bytes).map_err(|error| {
        Error::new(Exit::Config, format!("no password was typed for {user}: {}", io_error_text(&error)))
            .with_source(error)
    })
}
