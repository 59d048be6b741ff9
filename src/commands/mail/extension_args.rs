//! What is asked of a server beyond the delivery.
//!
//! Owns the flags for chunks, reports, strictness and TLS on the whole way. A server that does not offer what is asked
//! for gets nothing: whoever asks wants to know.

use clap::{Args, ValueEnum};

use super::message::Message;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::smtp::{MAX_ENVID_LENGTH, RequestedExtensions, is_valid_notify};

/// Beyond the delivery.
#[derive(Debug, Args)]
#[command(next_help_heading = "Protocol")]
pub(super) struct ExtensionArgs {
    /// Send the message as one chunk (CHUNKING, BDAT) and not as lines
    #[arg(long, hide_short_help = true)]
    chunking: bool,

    /// Ask for reports (DSN): never, or success, failure and delay with commas
    #[arg(long, value_name = "WHEN", value_parser = notify, hide_short_help = true)]
    notify: Option<String>,

    /// How much of the mail a report of failure is to hold
    #[arg(long, value_enum, value_name = "WHAT", hide_short_help = true)]
    ret: Option<Ret>,

    /// What reports are to call this mail
    #[arg(long, value_name = "ID", value_parser = envid, hide_short_help = true)]
    envid: Option<String>,

    /// Bear nothing that is usually forgiven
    ///
    /// Replies that end in a bare LF (76), a password file that others can read (77), a message with a CR
    /// that ends no line (65).
    #[arg(long, hide_short_help = true)]
    pub strict: bool,

    /// Let the mail go on under verified TLS only (REQUIRETLS)
    #[arg(long, conflicts_with_all = ["plain", "insecure"], hide_short_help = true)]
    require_tls: bool,
}

/// How much of a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Ret {
    /// All of it
    Full,
    /// Its headers
    Hdrs,
}

impl ExtensionArgs {
    /// Refuses what could not be done.
    pub(super) fn check(&self, is_encrypted: bool) -> Result<()> {
        if self.require_tls && !is_encrypted {
            return Err(Error::new(Exit::Usage, "--require-tls wants TLS on our part of the way too")
                .expected("--starttls or --tls"));
        }
        Ok(())
    }

    /// Refuses a message that would have to be mended.
    pub(super) fn check_message(&self, message: &Message) -> Result<()> {
        if self.strict && message.bare_cr_count > 0 {
            return Err(Error::new(Exit::InvalidInput, "the message holds a CR that ends no line")
                .expected("lines that end in LF or in CR LF"));
        }
        Ok(())
    }

    /// The same in the words of [`smtp`](crate::smtp).
    pub(super) fn requested_extensions(&self) -> RequestedExtensions {
        RequestedExtensions {
            chunking: self.chunking,
            ret: self.ret.map(|ret| if ret == Ret::Full { "FULL" } else { "HDRS" }),
            envid: self.envid.clone(),
            notify: self.notify.clone(),
            require_tls: self.require_tls,
            strict: self.strict,
        }
    }
}

fn notify(text: &str) -> Result<String, String> {
    let text = text.to_ascii_uppercase();
    if is_valid_notify(&text) {
        Ok(text)
    } else {
        Err("expected never, or success, failure and delay with commas".to_owned())
    }
}

/// RFC 3461 §4.4: printable.
fn envid(text: &str) -> Result<String, String> {
    let fits = (1..=MAX_ENVID_LENGTH).contains(&text.len())
        && text.bytes().all(|octet| octet.is_ascii_graphic() || octet == b' ');
    if fits { Ok(text.to_owned()) } else { Err("expected up to 100 printable characters of ASCII".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::{envid, notify};

    #[test]
    fn never_stands_alone() {
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
