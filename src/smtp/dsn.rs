//! Parameters for delivery status notifications (DSN).
//!
//! Owns the values of NOTIFY, ENVID and ORCPT (RFC 3461 §4) and their encodings: xtext, and for non-ASCII
//! addresses that of RFC 6533 §3.

use std::fmt::Write as _;

/// RFC 3461 §4.4.
pub(crate) const MAX_ENVID_LENGTH: usize = 100;
/// RFC 3461 §4.2.
pub(super) const MAX_ORCPT_LENGTH: usize = 500;

/// Returns true for NEVER, or for a list of other keywords without repetition (RFC 3461 §4.1).
pub(crate) fn is_valid_notify(text: &str) -> bool {
    let words: Vec<String> = text.split(',').map(str::to_ascii_uppercase).collect();
    let is_new = |(index, word): (usize, &String)| !words.iter().take(index).any(|before| before == word);
    let is_known = words.iter().all(|word| ["SUCCESS", "FAILURE", "DELAY"].contains(&word.as_str()));
    text.eq_ignore_ascii_case("NEVER") || (is_known && words.iter().enumerate().all(is_new))
}

/// Encodes everything that is not printable, `+` and `=` as `+` with two hexadecimal digits (RFC 3461 §4).
pub(super) fn encode_xtext(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_graphic() && !matches!(byte, b'+' | b'=') {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "+{byte:02X}");
        }
        encoded
    })
}

/// Returns true for printable text in which `+` and `=` are encoded (RFC 3461 §4).
pub(super) fn is_valid_xtext(text: &str) -> bool {
    let is_plain = |piece: &str| piece.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'=');
    let is_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'A'..=b'F');
    let mut pieces = text.split('+');
    pieces.next().is_some_and(is_plain)
        && pieces.all(|piece| is_plain(piece) && piece.len() >= 2 && piece.bytes().take(2).all(|byte| is_hex(&byte)))
}

/// Encodes only what could end the parameter or be taken for an escape (RFC 6533 §3).
pub(super) fn encode_unitext(text: &str) -> String {
    text.chars().fold(String::new(), |mut encoded, letter| {
        if letter.is_ascii() && (!letter.is_ascii_graphic() || matches!(letter, '\\' | '+' | '=')) {
            let _ = write!(encoded, "\\x{{{:02X}}}", u32::from(letter));
        } else {
            encoded.push(letter);
        }
        encoded
    })
}

/// Returns true for an ENVID in xtext; its length limit applies to the decoded text.
pub(super) fn is_valid_envid(text: &str) -> bool {
    let escapes = text.matches('+').count();
    is_valid_xtext(text) && text.len().saturating_sub(2 * escapes) <= MAX_ENVID_LENGTH
}

/// Returns true for a type and an address (RFC 3461 §4.2); `utf-8` has its own encoding (RFC 6533 §3).
pub(super) fn is_valid_orcpt(text: &str) -> bool {
    text.split_once(';').is_some_and(|(kind, address)| {
        let is_utf8 = kind.eq_ignore_ascii_case("utf-8");
        let fits = !kind.is_empty() && !address.is_empty() && text.len() <= MAX_ORCPT_LENGTH;
        fits && (is_utf8 || is_valid_xtext(address))
    })
}

#[cfg(test)]
mod tests {
    use super::{encode_unitext, encode_xtext, is_valid_envid, is_valid_notify, is_valid_orcpt, is_valid_xtext};

    #[test]
    fn encoded_text_is_valid() {
        assert_eq!(encode_xtext("a+b=c d"), "a+2Bb+3Dc+20d");
        assert_eq!(encode_unitext("\"\u{f6} +\"@x"), "\"\u{f6}\\x{20}\\x{2B}\"@x");
        for text in ["", "a", "+", "=", " ", "\r\n", "\u{fc}", "a+b=c d@x.test"] {
            assert!(is_valid_xtext(&encode_xtext(text)), "{text:?}");
        }
        assert!(is_valid_envid(&encode_xtext(&"+".repeat(100))) && !is_valid_envid(&encode_xtext(&"+".repeat(101))));
        for text in ["a=b", "a+2b", "+", "+2", "a b", "\u{fc}"] {
            assert!(!is_valid_xtext(text), "{text:?}");
        }
    }

    #[test]
    fn keywords_do_not_repeat_and_never_stands_alone() {
        for (text, fits) in [
            ("NEVER", true),
            ("success,Delay", true),
            ("never,delay", false),
            ("DELAY,delay", false),
            ("", false),
            ("success,", false),
        ] {
            assert_eq!(is_valid_notify(text), fits, "{text}");
        }
        for (text, fits) in
            [("rfc822;a@b", true), ("utf-8;\u{f6}@b", true), ("rfc822;\u{f6}@b", false), (";a", false), ("x;", false)]
        {
            assert_eq!(is_valid_orcpt(text), fits, "{text}");
        }
    }
}
