//! Flags for optional SMTP extensions: CHUNKING, DSN, REQUIRETLS.
//!
//! If the server does not offer a requested extension, nothing is sent.

use clap::{Args, ValueEnum};

use super::message::Message;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::smtp::{Extension, MAX_ENVID_LENGTH, RequestedExtensions, is_valid_notify};

/// Flags for SMTP extensions.
#[derive(Debug, Args)]
#[command(next_help_heading = "Protocol")]
pub(super) struct ExtensionArgs {
    /// Send the message with BDAT instead of DATA (CHUNKING)
    #[arg(long, hide_short_help = true)]
    chunking: bool,

    /// Request delivery reports (DSN): never, or a list of success,failure,delay
    #[arg(long, value_name = "WHEN", value_parser = notify, hide_short_help = true)]
    notify: Option<String>,

    /// Part of the message that a failure report returns
    #[arg(long, value_enum, value_name = "WHAT", hide_short_help = true)]
    ret: Option<Ret>,

    /// Envelope identifier for delivery reports
    #[arg(long, value_name = "ID", value_parser = envid, hide_short_help = true)]
    envid: Option<String>,

    /// Treat tolerated deviations as errors
    ///
    /// These deviations are a reply that ends in a bare LF (exit code 76), a password file readable by other
    /// users (77) and a message with a bare CR (65).
    #[arg(long, hide_short_help = true)]
    pub strict: bool,

    /// Require verified TLS on every further hop (REQUIRETLS)
    #[arg(long, conflicts_with_all = ["plain", "insecure"], hide_short_help = true)]
    require_tls: bool,
}

/// Part of the message that a failure report returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Ret {
    /// The complete message
    Full,
    /// Headers only
    Hdrs,
}

impl ExtensionArgs {
    /// Rejects contradictory flags.
    pub(super) fn check(&self, is_encrypted: bool) -> Result<()> {
        if self.require_tls && !is_encrypted {
            return Err(
                Error::new(Exit::Usage, "--require-tls also needs TLS to this server").expected("--starttls or --tls")
            );
        }
        Ok(())
    }

    /// Rejects a message with a bare CR if `--strict` is given.
    pub(super) fn check_message(&self, message: &Message) -> Result<()> {
        if self.strict && message.bare_cr_count > 0 {
            return Err(Error::new(Exit::InvalidInput, "the message contains a bare CR")
                .expected("lines that end in LF or CR LF"));
        }
        Ok(())
    }

    /// Converts the flags to [`RequestedExtensions`].
    pub(super) fn requested_extensions(&self) -> RequestedExtensions {
        RequestedExtensions {
            extensions: [(self.chunking, Extension::Chunking), (self.require_tls, Extension::RequireTls)]
                .into_iter()
                .filter_map(|(is_wanted, extension)| is_wanted.then_some(extension))
                .collect(),
            ret: self.ret.map(|ret| if ret == Ret::Full { "FULL" } else { "HDRS" }),
            envid: self.envid.clone(),
            notify: self.notify.clone(),
            strict: self.strict,
        }
    }
}

fn notify(text: &str) -> Result<String, String> {
    let text = text.to_ascii_uppercase();
    if is_valid_notify(&text) {
        Ok(text)
    } else {
        Err("expected never, or a list of success, failure and delay, separated by commas".to_owned())
    }
}

/// Parses an ENVID, which must be printable (RFC 3461 §4.4).
fn envid(text: &str) -> Result<String, String> {
    let fits = (1..=MAX_ENVID_LENGTH).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    if fits { Ok(text.to_owned()) } else { Err("expected 1 to 100 printable ASCII characters".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::{envid, notify};

    #[test]
    fn never_excludes_other_conditions() {
        assert_eq!(notify("success,Delay").as_deref(), Ok("SUCCESS,DELAY"));
        assert!(notify("never").is_ok());
        for text in ["", "never,delay", "success,", "sometimes", "success delay"] {
            assert!(notify(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_envid_cannot_inject_a_command() {
        assert!(envid("run 7").is_ok());
        for text in ["", "a\r\nRCPT", "\u{fc}", &"x".repeat(101)] {
            assert!(envid(text).is_err());
        }
    }
}
