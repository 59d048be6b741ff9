//! Escaping of untrusted text for terminals.
//!
//! Everything a peer sent passes through it before it is shown: control characters could clear the screen, fake
//! a line of netlab or change the window title.

use std::fmt::{self, Write as _};

/// Escapes control characters except new lines, which netlab itself wrote.
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

/// Bytes on one line: printable UTF-8 unchanged, control characters as escapes such as `\n` or `\x1b`, invalid bytes
/// as `\xNN`, other characters that are not shown as `\u{N}`.
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
        control if control.is_ascii_control() => write!(f, "\\x{:02x}", u32::from(control)),
        // C1 controls are interpreted by 8-bit terminals; bidirectional overrides can make one name look
        // like another.
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
    fn control_characters_are_escaped_and_text_is_unchanged() {
        assert_eq!(Escaped(b"a\x1b[2J\r\n\tb").to_string(), "a\\x1b[2J\\r\\n\\tb");
        assert_eq!(Escaped("grüße \u{202e}x".as_bytes()).to_string(), "grüße \\u{202e}x");
        assert_eq!(Escaped(b"\xff\xfe\x00").to_string(), "\\xff\\xfe\\x00");
    }

    #[test]
    fn own_line_ends_stay() {
        assert_eq!(escaped("one\ntwo\x07").to_string(), "one\ntwo\\x07");
    }
}
