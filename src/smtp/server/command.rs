//! What a client says, as a command.
//!
//! Owns the verbs of RFC 5321 §4.1.1 and of the extensions that are offered; verbs are compared without
//! case (§2.4). The parameters of MAIL and RCPT are read by [`envelope`](super::envelope).

use super::super::stage::Stage;

/// The longest name (RFC 5321 §4.5.3.1.2).
const MAX_NAME_LEN: usize = 255;

/// A command line without its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command<'l> {
    /// EHLO or, without extensions, HELO.
    Hello { name: &'l str, is_extended: bool },
    /// RFC 3207.
    Starttls,
    /// RFC 4954.
    Auth { mechanism: &'l str, initial: Option<&'l str> },
    /// What follows `MAIL FROM:`.
    Mail(&'l str),
    /// What follows `RCPT TO:`.
    Rcpt(&'l str),
    /// The message comes as lines.
    Data,
    /// So many octets of it come (RFC 3030 §2).
    Bdat { size: u64, is_last: bool },
    /// Forget the mail.
    Rset,
    /// Nothing.
    Noop,
    /// Goodbye.
    Quit,
    /// Is there such a mailbox?
    Vrfy,
    /// What can be said?
    Help,
    /// A known verb with parameters it cannot have.
    Malformed(Option<Stage>),
    /// BDAT whose length cannot be read: nobody knows where its octets end.
    InvalidBdat,
    /// Anything else.
    Unknown,
}

impl<'l> Command<'l> {
    /// Reads a line.
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
        let (octets, last) = rest.split_once(' ').unwrap_or((rest, ""));
        let last = last.trim_ascii();
        let is_plain = !octets.is_empty() && octets.bytes().all(|byte| byte.is_ascii_digit());
        match octets.parse().ok().filter(|_| is_plain) {
            Some(octets) if last.is_empty() => Self::Bdat { size: octets, is_last: false },
            Some(octets) if last.eq_ignore_ascii_case("LAST") => Self::Bdat { size: octets, is_last: true },
            _ => Self::InvalidBdat,
        }
    }

    /// The stage it belongs to; what only keeps house belongs to none.
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

/// Whether a line begins as one of HTTP does, whatever else is in it: a browser that was sent here must
/// not get to say more.
pub(super) fn is_http(line: &[u8]) -> bool {
    const METHODS: [&[u8]; 11] =
        [b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"CONNECT", b"PATCH", b"DELETE", b"TRACE", b"PROPFIND", b"PRI"];
    let word = line.split(|octet| matches!(octet, b' ' | b'\t')).next().unwrap_or_default();
    METHODS.iter().any(|method| method.eq_ignore_ascii_case(word))
}

/// Verbs that others know; what else is unknown may be anything, a password too.
pub(super) fn is_unsupported_verb(line: &str) -> bool {
    const VERBS: [&str; 9] = ["EXPN", "ETRN", "TURN", "SEND", "SOML", "SAML", "LHLO", "XCLIENT", "XFORWARD"];
    let verb = line.split(' ').next().unwrap_or_default();
    VERBS.iter().any(|known| known.eq_ignore_ascii_case(verb))
}

/// What follows a word, which is compared without case; a space behind its colon is forgiven.
fn strip_keyword<'l>(rest: &'l str, keyword: &str) -> Option<&'l str> {
    let (front, rest) = rest.split_at_checked(keyword.len())?;
    front.eq_ignore_ascii_case(keyword).then(|| rest.trim_ascii_start())
}

#[cfg(test)]
mod tests {
    use super::{Command, Stage, is_http};

    #[test]
    fn verbs_are_read_in_any_case() {
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
            ("NOOP whatever", Command::Noop),
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
    fn the_first_line_of_http_is_known_however_it_goes_on() {
        for line in ["GET / HTTP/1.1", "post /\t\0", "PRI * HTTP/2.0", "DELETE"] {
            assert!(is_http(line.as_bytes()), "{line}");
        }
        for line in ["", "GETTY", "MAIL FROM:<get@x>", "RSET"] {
            assert!(!is_http(line.as_bytes()), "{line}");
        }
    }
}
