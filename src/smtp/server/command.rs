//! Command parser: one line of the client becomes one [`Command`].
//!
//! Owns the verbs of RFC 5321 §4.1.1 and of the supported extensions; verbs are case-insensitive (§2.4).
//! The parameters of MAIL and RCPT are parsed by [`envelope`](super::envelope).

use super::super::stage::Stage;

/// Maximum length of the EHLO argument (RFC 5321 §4.5.3.1.2).
const MAX_NAME_LEN: usize = 255;

/// Parsed command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command<'l> {
    /// EHLO, or HELO if not `is_extended`.
    Hello {
        name: &'l str,
        is_extended: bool,
    },
    Starttls,
    Auth {
        mechanism: &'l str,
        initial: Option<&'l str>,
    },
    /// Arguments of `MAIL FROM:`.
    Mail(&'l str),
    /// Arguments of `RCPT TO:`.
    Rcpt(&'l str),
    Data,
    /// Chunk header (RFC 3030 §2); `size` bytes of content follow.
    Bdat {
        size: u64,
        is_last: bool,
    },
    Rset,
    Noop,
    Quit,
    Vrfy,
    Help,
    /// Known verb with invalid parameters.
    Malformed(Option<Stage>),
    /// BDAT without a valid length: the end of its content is unknown.
    InvalidBdat,
    Unknown,
}

impl<'l> Command<'l> {
    pub(super) fn parse(line: &'l str) -> Self {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim_ascii();
        let bare = |command, stage| if rest.is_empty() { command } else { Self::Malformed(stage) };
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" | "HELO" if rest.is_empty() || rest.contains(' ') || rest.len() > MAX_NAME_LEN => {
                Self::Malformed(Some(Stage::Ehlo))
            }
            "EHLO" => Self::Hello { name: rest, is_extended: true },
            "HELO" => Self::Hello { name: rest, is_extended: false },
            "STARTTLS" => bare(Self::Starttls, Some(Stage::Starttls)),
            "AUTH" => Self::parse_auth(rest),
            "MAIL" => strip_keyword(rest, "FROM:").map_or(Self::Malformed(Some(Stage::Mail)), Self::Mail),
            "RCPT" => strip_keyword(rest, "TO:").map_or(Self::Malformed(Some(Stage::Rcpt)), Self::Rcpt),
            "DATA" => bare(Self::Data, Some(Stage::Data)),
            "BDAT" => Self::parse_bdat(rest),
            "RSET" => bare(Self::Rset, None),
            "NOOP" => Self::Noop,
            "QUIT" => bare(Self::Quit, Some(Stage::Quit)),
            "VRFY" => Self::Vrfy,
            "HELP" => Self::Help,
            _ => Self::Unknown,
        }
    }

    fn parse_auth(rest: &'l str) -> Self {
        let mut words = rest.split(' ');
        match (words.next().filter(|word| !word.is_empty()), words.next(), words.next()) {
            (Some(mechanism), initial, None) => Self::Auth { mechanism, initial },
            _ => Self::Malformed(Some(Stage::Auth)),
        }
    }

    fn parse_bdat(rest: &'l str) -> Self {
        let (size, last) = rest.split_once(' ').unwrap_or((rest, ""));
        let last = last.trim_ascii();
        let is_plain = !size.is_empty() && size.bytes().all(|byte| byte.is_ascii_digit());
        match size.parse().ok().filter(|_| is_plain) {
            Some(size) if last.is_empty() => Self::Bdat { size, is_last: false },
            Some(size) if last.eq_ignore_ascii_case("LAST") => Self::Bdat { size, is_last: true },
            _ => Self::InvalidBdat,
        }
    }

    /// Stage of the command; `None` for commands outside a transaction's sequence, such as NOOP.
    pub(super) fn stage(&self) -> Option<Stage> {
        match self {
            Self::Hello { .. } => Some(Stage::Ehlo),
            Self::Starttls => Some(Stage::Starttls),
            Self::Auth { .. } => Some(Stage::Auth),
            Self::Mail(_) => Some(Stage::Mail),
            Self::Rcpt(_) => Some(Stage::Rcpt),
            Self::Bdat { is_last: true, .. } => Some(Stage::Dot),
            Self::Data | Self::Bdat { .. } | Self::InvalidBdat => Some(Stage::Data),
            Self::Quit => Some(Stage::Quit),
            Self::Malformed(stage) => *stage,
            Self::Rset | Self::Noop | Self::Vrfy | Self::Help | Self::Unknown => None,
        }
    }
}

/// Returns whether a line begins with an HTTP method. A browser that was directed here (cross-protocol
/// request) must not get to send SMTP commands in a request body.
pub(super) fn is_http(line: &[u8]) -> bool {
    const METHODS: [&[u8]; 11] =
        [b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"CONNECT", b"PATCH", b"DELETE", b"TRACE", b"PROPFIND", b"PRI"];
    let word = line.split(|byte| matches!(byte, b' ' | b'\t')).next().unwrap_or_default();
    METHODS.iter().any(|method| method.eq_ignore_ascii_case(word))
}

/// Returns whether this is a known SMTP verb that this server does not implement. Any other unknown line may hold a
/// password.
pub(super) fn is_unsupported_verb(line: &str) -> bool {
    const VERBS: [&str; 9] = ["EXPN", "ETRN", "TURN", "SEND", "SOML", "SAML", "LHLO", "XCLIENT", "XFORWARD"];
    let verb = line.split(' ').next().unwrap_or_default();
    VERBS.iter().any(|known| known.eq_ignore_ascii_case(verb))
}

/// Strips a case-insensitive keyword; a space after its colon is tolerated.
fn strip_keyword<'l>(rest: &'l str, keyword: &str) -> Option<&'l str> {
    let (front, rest) = rest.split_at_checked(keyword.len())?;
    front.eq_ignore_ascii_case(keyword).then(|| rest.trim_ascii_start())
}

#[cfg(test)]
mod tests {
    use super::{Command, Stage, is_http};
    use crate::smtp::server::envelope::{EnvelopeRecipient, EnvelopeSender};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(crate::protocol::script::property_config())]

        #[test]
        fn a_line_is_parsed_whatever_its_case(
            line in "(EHLO |MAIL FROM:|rcpt to:|AUTH |BDAT |VRFY|x)?[ -~é<>=]{0,60}",
            is_extended in any::<bool>(),
        ) {
            let swap = |letter: char| {
                if letter.is_ascii_lowercase() { letter.to_ascii_uppercase() } else { letter.to_ascii_lowercase() }
            };
            let swapped: String = line.chars().map(swap).collect();
            let (parsed, other) = (Command::parse(&line), Command::parse(&swapped));
            prop_assert_eq!(std::mem::discriminant(&parsed), std::mem::discriminant(&other));
            let arguments = line.split_once(':').map_or(line.as_str(), |(_, arguments)| arguments);
            if let Ok(sender) = EnvelopeSender::parse(arguments, is_extended) {
                prop_assert!(arguments.contains(sender.address()), "{} in {}", sender.address(), arguments);
            }
            if let Ok(recipient) = EnvelopeRecipient::parse(arguments, is_extended, true) {
                prop_assert!(arguments.contains(&recipient.address), "{} in {}", recipient.address, arguments);
            }
        }
    }

    #[test]
    fn verbs_are_case_insensitive() {
        for (line, command) in [
            ("EHLO x", Command::Hello { name: "x", is_extended: true }),
            ("helo x", Command::Hello { name: "x", is_extended: false }),
            ("StartTLS", Command::Starttls),
            ("auth PLAIN", Command::Auth { mechanism: "PLAIN", initial: None }),
            ("AUTH PLAIN AA==", Command::Auth { mechanism: "PLAIN", initial: Some("AA==") }),
            ("mail from:<a@b>", Command::Mail("<a@b>")),
            ("MAIL FROM: <a@b> SIZE=1", Command::Mail("<a@b> SIZE=1")),
            ("RCPT TO:<a@b>", Command::Rcpt("<a@b>")),
            ("data", Command::Data),
            ("BDAT 10", Command::Bdat { size: 10, is_last: false }),
            ("bdat 0 last", Command::Bdat { size: 0, is_last: true }),
            ("RSET", Command::Rset),
            ("NOOP x", Command::Noop),
            ("QUIT", Command::Quit),
            ("", Command::Unknown),
            ("MAILFROM:<a@b>", Command::Unknown),
            ("EHLO", Command::Malformed(Some(Stage::Ehlo))),
            ("EHLO a b", Command::Malformed(Some(Stage::Ehlo))),
            ("STARTTLS now", Command::Malformed(Some(Stage::Starttls))),
            ("AUTH", Command::Malformed(Some(Stage::Auth))),
            ("MAIL <a@b>", Command::Malformed(Some(Stage::Mail))),
            ("MAIL FRÖM:<a@b>", Command::Malformed(Some(Stage::Mail))),
            ("RCPT FROM:<a@b>", Command::Malformed(Some(Stage::Rcpt))),
            ("BDAT", Command::InvalidBdat),
            ("BDAT +1", Command::InvalidBdat),
            ("BDAT 1 FIRST", Command::InvalidBdat),
            ("DATA x", Command::Malformed(Some(Stage::Data))),
        ] {
            assert_eq!(Command::parse(line), command, "{line}");
        }
    }

    #[test]
    fn a_line_that_begins_with_an_http_method_is_recognized() {
        for line in ["GET / HTTP/1.1", "post /\t\0", "PRI * HTTP/2.0", "DELETE"] {
            assert!(is_http(line.as_bytes()), "{line}");
        }
        for line in ["", "GETTY", "MAIL FROM:<get@x>", "RSET"] {
            assert!(!is_http(line.as_bytes()), "{line}");
        }
    }
}
