//! Strangers' octets, made harmless for a terminal.
//!
//! Owns the one escaping that everything a peer sent goes through before it is shown: control
//! characters could clear the screen, fake a line of ours or retitle the window.

use std::fmt::{self, Write as _};

/// Text without control characters, new lines excepted: ours are meant.
pub(crate) fn escaped(text: &str) -> impl fmt::Display + '_ {
    EscapedLines(text)
}

struct EscapedLines<'t>(&'t str);

impl fmt::Display for EscapedLines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .chars()
            .try_for_each(|character| if character == '\n' { f.write_char(character) } else { escape(character, f) })
    }
}

/// Octets on one line: UTF-8 as it is, everything else as `\xNN`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Escaped<'b>(pub &'b [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            chunk.valid().chars().try_for_each(|character| escape(character, f))?;
            chunk.invalid().iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))?;
        }
        Ok(())
    }
}

fn escape(character: char, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match character {
        '\r' => f.write_str("\\r"),
        '\n' => f.write_str("\\n"),
        '\t' => f.write_str("\\t"),
        // C1 controls are two octets of UTF-8 and one octet of trouble on an 8-bit terminal; the
        // bidirectional overrides let a name read as another.
        control if control.is_control() || matches!(control, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => {
            write!(f, "\\u{{{:x}}}", u32::from(control))
        }
        other => f.write_char(other),
    }
}

#[cfg(test)]
mod tests {
    use super::{Escaped, escaped};

    #[test]
    fn controls_are_shown_and_text_is_left_alone() {
        assert_eq!(Escaped(b"a\x1b[2J\r\n\tb").to_string(), "a\\u{1b}[2J\\r\\n\\tb");
        assert_eq!(Escaped("grüße \u{202e}x".as_bytes()).to_string(), "grüße \\u{202e}x");
        assert_eq!(Escaped(b"\xff\xfe\x00").to_string(), "\\xff\\xfe\\u{0}");
    }

    #[test]
    fn our_own_line_ends_stay() {
        assert_eq!(escaped("one\ntwo\x07").to_string(), "one\ntwo\\u{7}");
    }
}
