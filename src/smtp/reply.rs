//! A reply, read as a client has to.
//!
//! Owns RFC 5321 §4.2: three digits, then `-` for more lines or a space (or nothing) for the last one,
//! all lines with the same code. What breaks that is a fault; what only bends it is told.
//!
//! ```text
//!   250-mx.example greets you        250-8BITMIME        250 SIZE 1000
//!   └┬┘└ more lines                  the last one ──────────┘
//!    └ code: 2 yes · 3 go on · 4 try later · 5 no
//! ```

use std::fmt;

/// The longest line that is read; §4.5.3.1.5 promises 512.
pub(super) const MAX_LINE_LENGTH: usize = 4096;
/// The most lines of one reply.
pub(super) const MAX_LINES: usize = 128;
/// The most octets of one reply: each packet of it is read from its beginning.
pub(super) const MAX_REPLY_LENGTH: usize = 64 * 1024;

/// A whole reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    /// 200 to 599.
    pub code: u16,
    /// The text of each line, lossy where it is not UTF-8.
    pub lines: Vec<String>,
    /// Whether a line ended without a CR.
    pub has_bare_lf: bool,
}

/// The class, subject and detail of RFC 3463.
pub(super) type EnhancedStatus = (u8, u16, u16);

/// Why octets are no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplyError {
    /// A line without a code.
    NoCode,
    /// A code outside 200 to 599.
    BadCode,
    /// Lines of different codes.
    MixedCodes,
    /// A line longer than [`LONGEST_LINE`].
    LineTooLong,
    /// More than [`MOST_LINES`] lines.
    TooManyLines,
    /// More than [`LONGEST`] octets.
    ReplyTooLong,
}

impl Reply {
    /// Reads one reply from the front of `bytes`; the number of octets it took, or `None` while it is
    /// not complete.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(usize, Self)>, ReplyError> {
        let mut reply: Option<Self> = None;
        let mut taken = 0;
        loop {
            let rest = bytes.get(taken..).unwrap_or_default();
            let Some(end) = rest.iter().position(|octet| *octet == b'\n') else {
                return if rest.len() > MAX_LINE_LENGTH {
                    Err(ReplyError::LineTooLong)
                } else if bytes.len() > MAX_REPLY_LENGTH {
                    Err(ReplyError::ReplyTooLong)
                } else {
                    check_code_digits(rest).map(|()| None)
                };
            };
            if end > MAX_LINE_LENGTH {
                return Err(ReplyError::LineTooLong);
            }
            let line = rest.get(..end).unwrap_or_default();
            taken += end + 1;
            if taken > MAX_REPLY_LENGTH {
                return Err(ReplyError::ReplyTooLong);
            }
            let (line, bare_lf) = line.strip_suffix(b"\r").map_or((line, true), |line| (line, false));
            let (code, is_last, text) = split_line(line)?;
            let text = String::from_utf8_lossy(text).into_owned();
            let whole = reply.get_or_insert(Self { code, lines: Vec::new(), has_bare_lf: false });
            if whole.code != code {
                return Err(ReplyError::MixedCodes);
            }
            if whole.lines.len() == MAX_LINES {
                return Err(ReplyError::TooManyLines);
            }
            whole.lines.push(text);
            whole.has_bare_lf |= bare_lf;
            if is_last {
                return Ok(reply.map(|reply| (taken, reply)));
            }
        }
    }

    /// Whether it is a yes: 2yz.
    pub(crate) fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }

    /// Whether it may be a yes later: 4yz.
    pub(crate) fn is_transient(&self) -> bool {
        self.code / 100 == 4
    }

    /// The enhanced status code at the front of its text (RFC 2034 §4), if its class fits the code.
    pub(crate) fn enhanced_status(&self) -> Option<EnhancedStatus> {
        let word = self.lines.first()?.split(' ').next()?;
        let mut numbers = word.split('.').map(|number| {
            let plain = (1..=3).contains(&number.len()) && number.bytes().all(|octet| octet.is_ascii_digit());
            plain.then(|| number.parse::<u16>().ok())?
        });
        let (class, subject, detail) = (numbers.next()??, numbers.next()??, numbers.next()??);
        let fits = numbers.next().is_none() && class == self.code / 100;
        fits.then(|| Some((u8::try_from(class).ok()?, subject, detail)))?
    }

    /// All of it in one line.
    pub(crate) fn text(&self) -> String {
        self.lines.join(" ")
    }
}

/// As a person reads it: the code and the text.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.text())
    }
}

/// Refuses at the first octets what can never become a reply.
fn check_code_digits(prefix: &[u8]) -> Result<(), ReplyError> {
    if prefix.iter().take(3).all(u8::is_ascii_digit) { Ok(()) } else { Err(ReplyError::NoCode) }
}

fn split_line(line: &[u8]) -> Result<(u16, bool, &[u8]), ReplyError> {
    let (code, rest) = line.split_at_checked(3).ok_or(ReplyError::NoCode)?;
    check_code_digits(code)?;
    let code = code.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0'));
    if !(200..600).contains(&code) {
        return Err(ReplyError::BadCode);
    }
    match rest {
        [] => Ok((code, true, rest)),
        [b' ', text @ ..] => Ok((code, true, text)),
        [b'-', text @ ..] => Ok((code, false, text)),
        _ => Err(ReplyError::NoCode),
    }
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoCode => "a line without a reply code",
            Self::BadCode => "a reply code outside 200 to 599",
            Self::MixedCodes => "one reply with different codes",
            Self::LineTooLong => "a reply line without end",
            Self::TooManyLines | Self::ReplyTooLong => "a reply without end",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_LINE_LENGTH, MAX_LINES, MAX_REPLY_LENGTH, Reply, ReplyError};

    fn parse(text: &str) -> Result<Option<(usize, Reply)>, ReplyError> {
        Reply::parse(text.as_bytes())
    }

    fn reply(text: &str) -> Reply {
        parse(text).expect(text).expect("complete").1
    }

    #[test]
    fn a_reply_is_read_at_every_split() {
        let text = "250-mx.test\r\n250-8BITMIME\r\n250 SIZE 100\r\n220 next";
        for split in 0..38 {
            assert_eq!(parse(&text[..split]), Ok(None), "{split}");
        }
        let (taken, reply) = parse(text).expect("well-formed").expect("complete");
        assert_eq!(
            (taken, reply.code, reply.lines),
            (41, 250, vec!["mx.test".into(), "8BITMIME".into(), "SIZE 100".into()])
        );
    }

    #[test]
    fn a_bare_code_is_a_whole_reply_and_a_bare_lf_is_told() {
        assert_eq!(reply("250\r\n").lines, [""]);
        assert!(reply("250 ok\n").has_bare_lf && !reply("250 ok\r\n").has_bare_lf);
    }

    #[test]
    fn what_is_no_reply_is_named_at_once() {
        for (text, fault) in [
            ("HTTP/1.1 400", ReplyError::NoCode),
            ("SSH-2.0", ReplyError::NoCode),
            ("\r\n", ReplyError::NoCode),
            ("25\r\n", ReplyError::NoCode),
            ("250x\r\n", ReplyError::NoCode),
            ("999 x\r\n", ReplyError::BadCode),
            ("100 x\r\n", ReplyError::BadCode),
            ("250-a\r\n550 b\r\n", ReplyError::MixedCodes),
        ] {
            assert_eq!(parse(text), Err(fault), "{text}");
        }
    }

    #[test]
    fn lines_and_replies_have_their_limits() {
        let line = |length: usize| format!("250 {}\r\n", "x".repeat(length - 5));
        assert!(parse(&line(MAX_LINE_LENGTH)).is_ok_and(|reply| reply.is_some()));
        assert_eq!(parse(&line(MAX_LINE_LENGTH + 1)), Err(ReplyError::LineTooLong));
        assert_eq!(parse(&"2".repeat(MAX_LINE_LENGTH + 1)), Err(ReplyError::LineTooLong));
        let lines = |count: usize| "250-x\r\n".repeat(count - 1) + "250 x\r\n";
        assert!(parse(&lines(MAX_LINES)).is_ok_and(|reply| reply.is_some()));
        assert_eq!(parse(&lines(MAX_LINES + 1)), Err(ReplyError::TooManyLines));
        let long = |octets: usize| format!("250-{}\r\n", "x".repeat(1_018)).repeat(63) + &line(octets - 63 * 1_024);
        assert!(parse(&long(MAX_REPLY_LENGTH - 1)).is_ok_and(|reply| reply.is_some()));
        assert_eq!(parse(&long(MAX_REPLY_LENGTH)), Err(ReplyError::ReplyTooLong));
        assert_eq!(
            parse(&long(MAX_REPLY_LENGTH)[..=MAX_REPLY_LENGTH]),
            Err(ReplyError::ReplyTooLong),
            "at every split"
        );
    }

    #[test]
    fn enhanced_codes_are_read_where_they_fit() {
        assert_eq!(reply("550 5.1.1 no such user\r\n").enhanced_status(), Some((5, 1, 1)));
        for text in
            ["550 4.1.1 no\r\n", "550 no such user\r\n", "550 5.1\r\n", "550 5.1.x\r\n", "550 5.1.1.1 x\r\n", "550\r\n"]
        {
            assert_eq!(reply(text).enhanced_status(), None, "{text}");
        }
    }
}
