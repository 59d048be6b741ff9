//! Parser for replies (RFC 5321 §4.2).
//!
//! Owns the format: three digits, then `-` for more lines or a space (or nothing) for the last one, all lines
//! with the same code. Violations are errors; tolerated deviations are flagged in the reply.
//!
//! ```text
//!   250-mx.example greets you        250-8BITMIME        250 SIZE 1000
//!   └┬┘└ more lines                  the last one ──────────┘
//!    └ code: 2 accepted · 3 continue · 4 rejected for now · 5 rejected
//! ```

use std::fmt;

use crate::protocol::Violation;

/// Maximum length of a line; RFC 5321 §4.5.3.1.5 promises 512.
pub(super) const MAX_LINE_LENGTH: usize = 4096;
/// Maximum number of lines in a reply.
pub(super) const MAX_LINES: usize = 128;
/// Maximum bytes of a reply, since every read parses it again from the start.
pub(super) const MAX_REPLY_LENGTH: usize = 64 * 1024;

/// Complete reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    /// Reply code, 200 to 599.
    pub code: u16,
    /// Text of each line, lossy where it is not UTF-8.
    pub lines: Vec<String>,
    /// Set if a line ended without a CR.
    pub has_bare_lf: bool,
}

/// Class, subject and detail of RFC 3463.
pub(super) type EnhancedStatus = (u8, u16, u16);

const NO_CODE: Violation =
    Violation::new("reply line without a code", "three digits, then a space or a hyphen", "RFC 5321 §4.2");
const BAD_CODE: Violation =
    Violation::new("reply code outside 200 to 599", "a first digit from 2 to 5", "RFC 5321 §4.2.1");
const MIXED_CODES: Violation =
    Violation::new("different codes in one reply", "the same code on each line", "RFC 5321 §4.2.1");
const LINE_TOO_LONG: Violation = Violation::new("reply line too long", "at most 4096 bytes", "RFC 5321 §4.5.3.1.5");
const REPLY_TOO_LONG: Violation =
    Violation::new("reply too long", "at most 128 lines and 64 KiB", "RFC 5321 §4.5.3.1.5");

impl Reply {
    /// Parses one reply at the start of `bytes`. Returns the bytes consumed and the reply, or `None` while the
    /// reply is incomplete. A violation comes with the position of its line.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(usize, Self)>, (Violation, usize)> {
        let mut reply: Option<Self> = None;
        let mut consumed = 0;
        loop {
            let start = consumed;
            let at_start = |violation| (violation, start);
            let rest = bytes.get(start..).unwrap_or_default();
            let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
                return if rest.len() > MAX_LINE_LENGTH {
                    Err(at_start(LINE_TOO_LONG))
                } else if bytes.len() > MAX_REPLY_LENGTH {
                    Err(at_start(REPLY_TOO_LONG))
                } else {
                    check_code_digits(rest).map(|()| None).map_err(at_start)
                };
            };
            if end > MAX_LINE_LENGTH {
                return Err(at_start(LINE_TOO_LONG));
            }
            let line = rest.get(..end).unwrap_or_default();
            consumed += end + 1;
            if consumed > MAX_REPLY_LENGTH {
                return Err(at_start(REPLY_TOO_LONG));
            }
            let (line, bare_lf) = line.strip_suffix(b"\r").map_or((line, true), |line| (line, false));
            let (code, is_last, text) = split_line(line).map_err(at_start)?;
            let text = String::from_utf8_lossy(text).into_owned();
            let partial = reply.get_or_insert(Self { code, lines: Vec::new(), has_bare_lf: false });
            if partial.code != code {
                return Err(at_start(MIXED_CODES));
            }
            if partial.lines.len() == MAX_LINES {
                return Err(at_start(REPLY_TOO_LONG));
            }
            partial.lines.push(text);
            partial.has_bare_lf |= bare_lf;
            if is_last {
                return Ok(reply.map(|reply| (consumed, reply)));
            }
        }
    }

    /// Returns true for 2yz.
    pub(crate) fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }

    /// Returns true for 4yz: the command may succeed later.
    pub(crate) fn is_transient(&self) -> bool {
        self.code / 100 == 4
    }

    /// Returns the enhanced status code at the start of the text (RFC 2034 §4), if its class fits the code.
    pub(crate) fn enhanced_status(&self) -> Option<EnhancedStatus> {
        let word = self.lines.first()?.split(' ').next()?;
        let mut numbers = word.split('.').map(|number| {
            let plain = (1..=3).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| number.parse::<u16>().ok())?
        });
        let (class, subject, detail) = (numbers.next()??, numbers.next()??, numbers.next()??);
        let fits = numbers.next().is_none() && class == self.code / 100;
        fits.then(|| Some((u8::try_from(class).ok()?, subject, detail)))?
    }

    /// Returns the text of all lines, joined with spaces.
    pub(crate) fn text(&self) -> String {
        self.lines.join(" ")
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.text())
    }
}

/// Rejects a prefix that cannot become a reply, before the line is complete.
fn check_code_digits(prefix: &[u8]) -> Result<(), Violation> {
    if prefix.iter().take(3).all(u8::is_ascii_digit) { Ok(()) } else { Err(NO_CODE) }
}

fn split_line(line: &[u8]) -> Result<(u16, bool, &[u8]), Violation> {
    let (code, rest) = line.split_at_checked(3).ok_or(NO_CODE)?;
    check_code_digits(code)?;
    let code = code.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0'));
    if !(200..600).contains(&code) {
        return Err(BAD_CODE);
    }
    match rest {
        [] => Ok((code, true, rest)),
        [b' ', text @ ..] => Ok((code, true, text)),
        [b'-', text @ ..] => Ok((code, false, text)),
        _ => Err(NO_CODE),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        BAD_CODE, LINE_TOO_LONG, MAX_LINE_LENGTH, MAX_LINES, MAX_REPLY_LENGTH, MIXED_CODES, NO_CODE, REPLY_TOO_LONG,
        Reply,
    };
    use crate::protocol::Violation;

    fn parse(text: &str) -> Result<Option<(usize, Reply)>, Violation> {
        Reply::parse(text.as_bytes()).map_err(|(violation, _)| violation)
    }

    fn reply(text: &str) -> Reply {
        parse(text).expect(text).expect("complete").1
    }

    #[test]
    fn a_reply_is_parsed_at_every_split() {
        let text = "250-mx.test\r\n250-8BITMIME\r\n250 SIZE 100\r\n220 next";
        for split in 0..38 {
            assert_eq!(parse(&text[..split]), Ok(None), "{split}");
        }
        let (consumed, reply) = parse(text).expect("well-formed").expect("complete");
        assert_eq!(
            (consumed, reply.code, reply.lines),
            (41, 250, vec!["mx.test".into(), "8BITMIME".into(), "SIZE 100".into()])
        );
    }

    #[test]
    fn a_bare_code_is_a_complete_reply_and_a_bare_lf_is_flagged() {
        assert_eq!(reply("250\r\n").lines, [""]);
        assert!(reply("250 ok\n").has_bare_lf && !reply("250 ok\r\n").has_bare_lf);
    }

    #[test]
    fn an_invalid_reply_is_rejected_at_once() {
        for (text, error) in [
            ("HTTP/1.1 400", NO_CODE),
            ("SSH-2.0", NO_CODE),
            ("\r\n", NO_CODE),
            ("25\r\n", NO_CODE),
            ("250x\r\n", NO_CODE),
            ("999 x\r\n", BAD_CODE),
            ("100 x\r\n", BAD_CODE),
            ("250-a\r\n550 b\r\n", MIXED_CODES),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
        assert_eq!(Reply::parse(b"250-a\r\n550 b\r\n"), Err((MIXED_CODES, 7)), "the second line is at fault");
    }

    #[test]
    fn lines_and_replies_have_their_limits() {
        let line = |length: usize| format!("250 {}\r\n", "x".repeat(length - 5));
        assert!(parse(&line(MAX_LINE_LENGTH)).is_ok_and(|reply| reply.is_some()));
        assert_eq!(parse(&line(MAX_LINE_LENGTH + 1)), Err(LINE_TOO_LONG));
        assert_eq!(parse(&"2".repeat(MAX_LINE_LENGTH + 1)), Err(LINE_TOO_LONG));
        let lines = |count: usize| "250-x\r\n".repeat(count - 1) + "250 x\r\n";
        assert!(parse(&lines(MAX_LINES)).is_ok_and(|reply| reply.is_some()));
        assert_eq!(parse(&lines(MAX_LINES + 1)), Err(REPLY_TOO_LONG));
        let long = |bytes: usize| format!("250-{}\r\n", "x".repeat(1_018)).repeat(63) + &line(bytes - 63 * 1_024);
        assert!(parse(&long(MAX_REPLY_LENGTH - 1)).is_ok_and(|reply| reply.is_some()));
        assert_eq!(parse(&long(MAX_REPLY_LENGTH)), Err(REPLY_TOO_LONG));
        assert_eq!(parse(&long(MAX_REPLY_LENGTH)[..=MAX_REPLY_LENGTH]), Err(REPLY_TOO_LONG), "at every split");
    }

    #[test]
    fn an_enhanced_code_is_parsed_if_it_fits_the_reply_code() {
        assert_eq!(reply("550 5.1.1 no such user\r\n").enhanced_status(), Some((5, 1, 1)));
        for text in
            ["550 4.1.1 no\r\n", "550 no such user\r\n", "550 5.1\r\n", "550 5.1.x\r\n", "550 5.1.1.1 x\r\n", "550\r\n"]
        {
            assert_eq!(reply(text).enhanced_status(), None, "{text}");
        }
    }
}
