//! Brackets, commas and quotes in a rule.
//!
//! Owns how octets are written that no shell and no grammar would leave alone.

/// Where the bracket that is open is closed again; an address literal has brackets too.
pub(super) fn find_closing_bracket(text: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, letter) in text.char_indices() {
        match letter {
            '[' => depth += 1,
            ']' if depth == 0 => return Some(at),
            ']' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// What stands between commas, those within quotes excepted.
pub(super) fn split_at_commas(text: &str) -> Result<Vec<&str>, String> {
    let (mut from, mut quoted, mut escaped) = (0, false, false);
    let mut all = Vec::new();
    for (at, letter) in text.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' if !quoted => {
                all.push(text.get(from..at).unwrap_or_default());
                from = at + 1;
            }
            _ => {}
        }
    }
    all.push(text.get(from..).unwrap_or_default());
    if quoted { Err("a quote is not closed".to_owned()) } else { Ok(all) }
}

/// A text, part of which may be quoted: `4.7.1 "later, please"`.
pub(super) fn parse_text(text: &str) -> Result<String, String> {
    let (front, quoted) = text.split_once('"').unwrap_or((text, ""));
    let octets = unquote(&format!("\"{quoted}"))?;
    let quoted = String::from_utf8(octets).map_err(|_| "a reply is text; anything else is raw")?;
    Ok(format!("{front}{quoted}"))
}

/// What stands between quotes, with `\r`, `\n`, `\t`, `\0`, `\\`, `\"` and `\xNN`.
pub(super) fn unquote(text: &str) -> Result<Vec<u8>, String> {
    const EXPECTED: &str = "octets are written in quotes, with \\r, \\n, \\t, \\0, \\\\, \\\" and \\xNN";
    let inner = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).ok_or(EXPECTED)?;
    let mut octets = Vec::new();
    let mut letters = inner.chars();
    while let Some(letter) = letters.next() {
        if letter == '"' {
            return Err(EXPECTED.to_owned());
        }
        if letter != '\\' {
            octets.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        octets.push(match letters.next() {
            Some('r') => b'\r',
            Some('n') => b'\n',
            Some('t') => b'\t',
            Some('0') => 0,
            Some('\\') => b'\\',
            Some('"') => b'"',
            Some('x') => {
                let digits: String = letters.by_ref().take(2).collect();
                let is_plain = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
                u8::from_str_radix(&digits, 16).ok().filter(|_| is_plain).ok_or(EXPECTED)?
            }
            _ => return Err(EXPECTED.to_owned()),
        });
    }
    Ok(octets)
}
