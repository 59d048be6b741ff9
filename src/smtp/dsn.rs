//! Notices of what became of a mail (DSN), in the words of its envelope.
//!
//! Owns the values of NOTIFY, ENVID and ORCPT (RFC 3461 §4), and the alphabets they are written in: xtext, and
//! for addresses beyond ASCII that of RFC 6533 §3.

use std::fmt::Write as _;

/// RFC 3461 §4.4.
pub(crate) const MAX_ENVID_LENGTH: usize = 100;
/// RFC 3461 §4.2.
pub(super) const MAX_ORCPT_LENGTH: usize = 500;

/// Whether it says what is to be reported, each thing once; NEVER stands alone (RFC 3461 §4.1).
pub(crate) fn is_valid_notify(text: &str) -> bool {
    let words: Vec<String> = text.split(',').map(str::to_ascii_uppercase).collect();
    let is_new = |(place, word): (usize, &String)| !words.iter().take(place).any(|before| before == word);
    let is_known = words.iter().all(|word| ["SUCCESS", "FAILURE", "DELAY"].contains(&word.as_str()));
    text.eq_ignore_ascii_case("NEVER") || (is_known && words.iter().enumerate().all(is_new))
}

/// RFC 3461 §4: what is not printable, and `+` and `=`, as `+` with two hexadecimal digits.
pub(super) fn encode_xtext(text: &str) -> String {
    text.bytes().fold(String::new(), |mut whole, octet| {
        if octet.is_ascii_graphic() && !matches!(octet, b'+' | b'=') {
            whole.push(char::from(octet));
        } else {
            let _ = write!(whole, "+{octet:02X}");
        }
        whole
    })
}

/// RFC 3461 §4: printable, and `+` and `=` only as `+` with two hexadecimal digits.
pub(super) fn is_valid_xtext(text: &str) -> bool {
    let is_plain = |piece: &str| piece.bytes().all(|octet| octet.is_ascii_graphic() && octet != b'=');
    let is_hex = |octet: &u8| matches!(octet, b'0'..=b'9' | b'A'..=b'F');
    let mut pieces = text.split('+');
    pieces.next().is_some_and(is_plain)
        && pieces.all(|piece| is_plain(piece) && piece.len() >= 2 && piece.bytes().take(2).all(|octet| is_hex(&octet)))
}

/// RFC 6533 §3: as it is, but for what could end the parameter or be taken for an escape.
pub(super) fn encode_unitext(text: &str) -> String {
    text.chars().fold(String::new(), |mut whole, letter| {
        if letter.is_ascii() && (!letter.is_ascii_graphic() || matches!(letter, '\\' | '+' | '=')) {
            let _ = write!(whole, "\\x{{{:02X}}}", u32::from(letter));
        } else {
            whole.push(letter);
        }
        whole
    })
}

/// Whether it is an ENVID in xtext; its limit counts what it stands for.
pub(super) fn is_valid_envid(text: &str) -> bool {
    let escapes = text.matches('+').count();
    is_valid_xtext(text) && text.len().saturating_sub(2 * escapes) <= MAX_ENVID_LENGTH
}

/// A type and an address (RFC 3461 §4.2); `utf-8` has an alphabet of its own (RFC 6533 §3).
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
    fn what_is_written_can_be_read() {
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
    fn each_thing_is_reported_once_and_never_stands_alone() {
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
