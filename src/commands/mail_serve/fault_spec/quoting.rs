//! Brackets, commas and quotes in a fault rule.
//!
//! Owns the escapes for bytes that a shell or the grammar would change.

/// Returns the index of the bracket that closes the open one; an address literal has brackets, too.
pub(super) fn find_closing_bracket(text: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '[' => depth += 1,
            ']' if depth == 0 => return Some(at),
            ']' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// Splits at commas outside quotes.
pub(super) fn split_at_commas(text: &str) -> Result<Vec<&str>, String> {
    let (mut from, mut quoted, mut escaped) = (0, false, false);
    let mut pieces = Vec::new();
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' if !quoted => {
                pieces.push(text.get(from..at).unwrap_or_default());
                from = at + 1;
            }
            _ => {}
        }
    }
    pieces.push(text.get(from..).unwrap_or_default());
    if quoted { Err("missing closing quote".to_owned()) } else { Ok(pieces) }
}

/// Parses a text whose end may be quoted: `4.7.1 "later, please"`.
pub(super) fn parse_text(text: &str) -> Result<String, String> {
    let (front, quoted) = text.split_once('"').unwrap_or((text, ""));
    let bytes = unquote(&format!("\"{quoted}"))?;
    let quoted = String::from_utf8(bytes).map_err(|_| "a reply is UTF-8 text; use raw for other bytes")?;
    Ok(format!("{front}{quoted}"))
}

/// Returns the bytes of a quoted text with the escapes `\r`, `\n`, `\t`, `\0`, `\\`, `\"` and `\xNN`.
pub(super) fn unquote(text: &str) -> Result<Vec<u8>, String> {
    const EXPECTED: &str = "expected bytes in double quotes, with the escapes \\r, \\n, \\t, \\0, \\\\, \\\" and \\xNN";
    let inner = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).ok_or(EXPECTED)?;
    let mut bytes = Vec::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c == '"' {
            return Err(EXPECTED.to_owned());
        }
        if c != '\\' {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        bytes.push(match chars.next() {
            Some('r') => b'\r',
            Some('n') => b'\n',
            Some('t') => b'\t',
            Some('0') => 0,
            Some('\\') => b'\\',
            Some('"') => b'"',
            Some('x') => {
                let digits: String = chars.by_ref().take(2).collect();
                let is_plain = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
                u8::from_str_radix(&digits, 16).ok().filter(|_| is_plain).ok_or(EXPECTED)?
            }
            _ => return Err(EXPECTED.to_owned()),
        });
    }
    Ok(bytes)
}
