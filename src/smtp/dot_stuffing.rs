//! Wire format of the message after DATA (RFC 5321 §4.5.2, §2.3.8).
//!
//! Owns dot stuffing and line ends: every line ends in CRLF and nothing else does, a line that starts with a
//! dot gets another one, and CRLF . CRLF ends the message. A bare LF or CR would end the message for some
//! servers and not for others, which then take the rest for commands (SMTP smuggling, CVE-2023-51764).

/// Appends `message` as it is sent after DATA, with the final dot.
pub(super) fn dot_stuff(message: &[u8], out: &mut Vec<u8>) {
    for line in lines(message) {
        if line.first() == Some(&b'.') {
            out.push(b'.');
        }
        out.extend_from_slice(line);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b".\r\n");
}

/// Appends `message` in canonical form (RFC 2045 §2.4): every line ends in CRLF. BDAT sends this form, with
/// its length and without dot stuffing (RFC 3030 §2).
pub(crate) fn canonicalize(message: &[u8], out: &mut Vec<u8>) {
    for line in lines(message) {
        out.extend_from_slice(line);
        out.extend_from_slice(b"\r\n");
    }
}

/// Iterates over the lines, which may end in CRLF, LF or CR.
fn lines(message: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = message;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = memchr::memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
        let (line, after) = rest.split_at(end);
        rest = match after {
            [b'\r', b'\n', next @ ..] | [b'\r' | b'\n', next @ ..] => next,
            _ => &[],
        };
        Some(line)
    })
}

/// Returns true for bytes above 127, which require 8BITMIME (RFC 6152).
pub(super) fn is_8bit(message: &[u8]) -> bool {
    !message.is_ascii()
}

/// Returns true for non-ASCII headers as defined in RFC 6532. Header bytes that are not UTF-8 use an older
/// convention, which SMTPUTF8 does not cover.
pub(super) fn has_utf8_headers(message: &[u8]) -> bool {
    let head: Vec<&[u8]> = lines(message).take_while(|line| !line.is_empty()).collect();
    head.iter().any(|line| !line.is_ascii() && std::str::from_utf8(line).is_ok())
}

/// Returns the size with CRLF line ends and without dot stuffing, as SIZE counts it (RFC 1870 §5).
pub(crate) fn canonical_size(message: &[u8]) -> usize {
    lines(message).map(|line| line.len() + 2).sum()
}

/// Counts LFs without a preceding CR, and CRs without a following LF.
pub(crate) fn count_bare_line_ends(message: &[u8]) -> (usize, usize) {
    let (mut bare_lf, mut bare_cr) = (0, 0);
    for at in memchr::memchr2_iter(b'\r', b'\n', message) {
        match message.get(at) {
            Some(b'\n') if at.checked_sub(1).and_then(|before| message.get(before)) != Some(&b'\r') => bare_lf += 1,
            Some(b'\r') if message.get(at + 1) != Some(&b'\n') => bare_cr += 1,
            _ => {}
        }
    }
    (bare_lf, bare_cr)
}

#[cfg(test)]
mod tests {
    use super::{canonical_size, count_bare_line_ends, dot_stuff};

    fn stuffed(message: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        dot_stuff(message, &mut out);
        out
    }

    /// Parses like a strict server: the message, and the bytes it would take for commands.
    fn unstuff(wire: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let mut message = Vec::new();
        let mut rest = wire;
        loop {
            let end = rest.windows(2).position(|pair| pair == b"\r\n").expect("a line");
            let (line, after) = (&rest[..end], &rest[end + 2..]);
            if line == b"." {
                return (message, after.to_vec());
            }
            message.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
            message.extend_from_slice(b"\r\n");
            rest = after;
        }
    }

    #[test]
    fn dots_and_line_ends_of_every_kind_arrive_as_lines() {
        for (message, arrives) in [
            (&b""[..], &b""[..]),
            (b"a", b"a\r\n"),
            (b"a\r\n", b"a\r\n"),
            (b"a\nb\rc\r\nd", b"a\r\nb\r\nc\r\nd\r\n"),
            (b".\r\n..\r\n.x", b".\r\n..\r\n.x\r\n"),
            (b"\n.\n", b"\r\n.\r\n"),
            (b"\n.\r\nRCPT TO:<evil@x>\r\n", b"\r\n.\r\nRCPT TO:<evil@x>\r\n"),
            (b"a\r.\rb", b"a\r\n.\r\nb\r\n"),
            (b"a\r\n\r.\r\n", b"a\r\n\r\n.\r\n"),
            (b"a\0b", b"a\0b\r\n"),
        ] {
            let wire = stuffed(message);
            assert_eq!(unstuff(&wire), (arrives.to_vec(), Vec::new()), "{message:?}");
            assert_eq!(canonical_size(message), arrives.len(), "{message:?}");
        }
    }

    #[test]
    fn only_crlf_ends_a_line_for_every_input() {
        let alphabet = [b'\r', b'\n', b'.', b'x'];
        for number in 0..4_usize.pow(7) {
            let message: Vec<u8> = (0..7).map(|index| alphabet[number >> (2 * index) & 3]).collect();
            let wire = stuffed(&message);
            let bare = wire.iter().enumerate().any(|(at, byte)| match byte {
                b'\n' => at == 0 || wire[at - 1] != b'\r',
                b'\r' => wire.get(at + 1) != Some(&b'\n'),
                _ => false,
            });
            assert!(!bare && unstuff(&wire).1.is_empty(), "{message:?}");
        }
    }

    #[test]
    fn bare_line_ends_are_counted() {
        assert_eq!(count_bare_line_ends(b"a\r\nb\nc\rd\r\n\r"), (1, 2));
        assert_eq!(count_bare_line_ends(b"\n\n\r\r\n"), (2, 1));
    }
}
