//! Usage errors in netlab's own words: what is wrong, what is expected, what to type instead.
//!
//! Owns the wording of the argument parser's errors and the hints for spellings of other programs. A value parser's
//! own error carries its message and exit code already.

use std::error::Error as StdError;
use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::error::Error;
use crate::exit::Exit;

/// Turns an error of the argument parser into a report; `subcommand` may be empty.
pub(super) fn report(error: &clap::Error, subcommand: &str, arguments: &[OsString]) -> Error {
    if let Some(own) = error.source().and_then(|source| source.downcast_ref::<Error>()) {
        return own.with_exit(own.exit()).with_context(flag_name(&context(error, ContextKind::InvalidArg)));
    }
    let argument = context(error, ContextKind::InvalidArg);
    let flag = flag_name(&argument);
    let value = context(error, ContextKind::InvalidValue);
    let report = match error.kind() {
        ErrorKind::UnknownArgument => {
            let is_option = flag.starts_with('-') && !flag.strip_prefix('-').is_some_and(is_number);
            let noun = if is_option { "unknown option" } else { "unexpected argument" };
            Error::new(Exit::Usage, format!("{noun} '{argument}'"))
        }
        ErrorKind::InvalidSubcommand => {
            let word = context(error, ContextKind::InvalidSubcommand);
            Error::new(Exit::Usage, format!("no such subcommand '{word}'"))
        }
        ErrorKind::InvalidValue if value.is_empty() => {
            Error::new(Exit::Usage, format!("{flag} requires a value")).expected(argument.as_str())
        }
        ErrorKind::InvalidValue => Error::new(Exit::Usage, format!("invalid value '{value}' for {flag}"))
            .expected(context(error, ContextKind::ValidValue)),
        ErrorKind::ValueValidation => invalid_value(error, flag, &value),
        ErrorKind::MissingRequiredArgument => Error::new(Exit::Usage, format!("missing argument: {argument}")),
        ErrorKind::ArgumentConflict => {
            let prior = context(error, ContextKind::PriorArg);
            Error::new(Exit::Usage, format!("{flag} cannot be used with {}", flag_name(&prior)))
        }
        ErrorKind::TooManyValues => Error::new(Exit::Usage, format!("{flag} takes no value")),
        ErrorKind::InvalidUtf8 => Error::new(Exit::Usage, "an argument is not valid UTF-8"),
        ErrorKind::MissingSubcommand => Error::new(Exit::Usage, "missing subcommand"),
        ErrorKind::NoEquals => {
            Error::new(Exit::Usage, format!("{flag} requires '=' before its value")).expected(argument.as_str())
        }
        _ => {
            let text = error.render().to_string();
            let first_line = text.lines().next().unwrap_or_default();
            Error::new(Exit::Usage, first_line.strip_prefix("error: ").unwrap_or(first_line))
        }
    };
    let next = word_after(arguments, flag);
    let hint = if word_after(arguments, "--threads") == flag && is_number(flag) {
        Some(format!("use --threads={flag}"))
    } else {
        hint(subcommand, short_flag(arguments, &value).unwrap_or(flag), next)
    };
    match (hint, suggestion(error, flag)) {
        (Some(hint), _) => report.remedy(hint),
        (None, Some(suggested)) => report.remedy(format!("did you mean '{suggested}'?")),
        (None, None) if report.expectation().is_some() => report,
        (None, None) if subcommand.is_empty() => report.remedy("'netlab --help' lists the subcommands"),
        (None, None) => report.remedy(format!("'netlab {subcommand} --help' describes the arguments")),
    }
}

/// Report of a value that its parser rejects with a text, which says what is expected.
fn invalid_value(error: &clap::Error, flag: &str, value: &str) -> Error {
    let reason = error.source().map(ToString::to_string).unwrap_or_default();
    Error::invalid_value(&format!("value '{value}' for {flag}"), &reason)
}

fn context(error: &clap::Error, kind: ContextKind) -> String {
    match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join(", "),
        _ => String::new(),
    }
}

/// Name of a flag without the placeholder of its value; the name of another argument unchanged.
fn flag_name(argument: &str) -> &str {
    if !argument.starts_with('-') {
        return argument;
    }
    argument.split([' ', '=', '[']).next().unwrap_or(argument)
}

/// Similar name, if it begins with the same letter: others are not typing errors.
fn suggestion(error: &clap::Error, typed: &str) -> Option<String> {
    let found = [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand].map(|kind| context(error, kind));
    let found = found.into_iter().find(|found| !found.is_empty())?;
    let first = |word: &str| word.trim_start_matches('-').chars().next();
    (!found.starts_with('-') || first(&found) == first(typed)).then_some(found)
}

/// One-letter flag in front of `value`: the parser names the long one.
fn short_flag<'a>(arguments: &'a [OsString], value: &str) -> Option<&'a str> {
    let at = arguments.iter().position(|word| word == value)?;
    let before = arguments.get(at.checked_sub(1)?)?.to_str()?;
    (before.len() == 2 && before.starts_with('-')).then_some(before)
}

/// Word that follows `flag` on the command line.
fn word_after<'a>(arguments: &'a [OsString], flag: &str) -> &'a str {
    let next = arguments.iter().skip_while(|word| *word != flag).nth(1);
    next.and_then(|word| word.to_str()).unwrap_or_default()
}

/// Returns whether a text is an address with a port.
fn is_address(text: &str) -> bool {
    text.parse::<std::net::SocketAddr>().is_ok()
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Advice for arguments that other programs, or other subcommands, know.
fn hint(subcommand: &str, flag: &str, next: &str) -> Option<String> {
    let is_server = matches!(subcommand, "serve-http" | "ping-serve" | "mail-serve" | "heartbeat watch");
    let fixed = match (subcommand, flag) {
        (_, "--port" | "-p") if is_server => {
            return Some(if is_number(next) { format!("use --bind {next}") } else { "use --bind PORT".to_owned() });
        }
        (_, "--port" | "-p") => "write the port after the host, as HOST:PORT",
        (_, address) if is_server && is_address(address) => return Some(format!("use --bind {address}")),
        (_, number) if is_number(number) && is_server => return Some(format!("use --bind {number}")),
        ("mail", number) if is_number(number) => "write the port after the host, as HOST:PORT",
        (_, negative) if negative.strip_prefix('-').is_some_and(is_number) => "numbers here are 0 or more",
        ("get", "-L" | "--location") => "not needed: redirects are followed; --max-redirects 0 turns that off",
        ("get", "-f" | "--fail") => "not needed: a status of 400 or above exits with 1",
        ("get", "-s" | "--silent") => "use -q, or -qq to print errors only",
        ("get", "-S" | "--show-error") => "not needed: errors are always printed",
        (_, "-k") => "use --insecure",
        ("get", "-m" | "--max-time") => "use --deadline DURATION",
        ("get", "-w") => "-w is --deadline; --json prints status, sizes and the time of each phase",
        ("get", "--write-out") => "use --json, which prints status, sizes and the time of each phase",
        ("get", "-u" | "--user") => "use -H 'Authorization: Basic ...'",
        ("get", "-c") => "-c is --count; downloads cannot be resumed",
        (_, "--cacert") => "use --ca FILE",
        ("mail", "--password" | "--pass") => {
            "use --password-file FILE or --password-command CMD: other users can see a command line"
        }
        ("mail", "--server") => "name the server without a flag",
        ("mail", "--auth-user" | "--auth-password") => "use --user NAME with --password-file or --password-command",
        ("mail-serve", "--tls") => "use --tls-self-signed, or --tls-cert and --tls-key",
        ("mail", "--body") => "use --text TEXT",
        ("ping", "-t") => "use --timeout DURATION, or --ttl N",
        ("serve-http", "--directory" | "--root") => "name the directory without a flag",
        _ => return None,
    };
    Some(fixed.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{flag_name, hint};

    #[test]
    fn the_placeholder_of_a_value_is_not_part_of_the_flag() {
        for (argument, name) in [
            ("--count <N>", "--count"),
            ("--threads[=<N>]", "--threads"),
            ("--bind=<ADDR>", "--bind"),
            ("<HOST[:PORT]>...", "<HOST[:PORT]>..."),
        ] {
            assert_eq!(flag_name(argument), name);
        }
    }

    #[test]
    fn hints_repeat_the_number_that_was_typed() {
        assert_eq!(hint("serve-http", "--port", "8080").as_deref(), Some("use --bind 8080"));
        assert_eq!(hint("ping-serve", "12000", "").as_deref(), Some("use --bind 12000"));
        assert_eq!(hint("ping", "--size", "9"), None);
    }
}
