//! The textbook's wire.
//!
//! Owns the message of the second exercise and what an echo makes of it:
//!
//! ```text
//!   probe   Ping <seq> <milliseconds since 1970>[ .....]      the dots fill up to --size
//!   reply   the same octets, or their upper case
//! ```
//!
//! Only letters, digits, spaces and dots: an echo that upper-cases rewrites every octet from `a`
//! to `z`, so nothing binary would survive. A text datagram holds no NUL octet; that tells it from
//! STAMP on the same port.

use std::io::Write as _;

use crate::error::{Error, Result};
use crate::exit::Exit;

/// The largest payload that IPv4 carries: 65 535 less 20 of IP and 8 of UDP.
pub(crate) const MAX_UDP_PAYLOAD: usize = 65_507;

/// Refuses a payload size that no datagram has.
pub(crate) fn check_size(size: usize) -> Result<usize> {
    if size <= MAX_UDP_PAYLOAD {
        return Ok(size);
    }
    Err(Error::new(Exit::Usage, format!("a datagram cannot carry {size} octets"))
        .expected(format!("at most {MAX_UDP_PAYLOAD}, what fits a UDP datagram")))
}

/// Appends the probe `seq` of `millis` milliseconds since 1970, filled up to `size` octets; a
/// message that is longer by itself stays as it is.
pub(super) fn write(seq: u64, millis: u64, size: usize, out: &mut Vec<u8>) {
    let start = out.len();
    // Writing to a Vec cannot fail.
    let _ = write!(out, "Ping {seq} {millis}");
    let size = size.min(MAX_UDP_PAYLOAD);
    let length = out.len() - start;
    if size > length {
        // A word of its own, so that whoever splits at spaces still finds three words first.
        out.push(b' ');
        out.resize(start + size, b'.');
    }
}

/// The sequence number a reply names, whatever case it came back in.
pub(super) fn parse_seq(reply: &[u8]) -> Option<u64> {
    let mut words = reply.split(|octet| *octet == b' ');
    if !words.next()?.eq_ignore_ascii_case(b"ping") {
        return None;
    }
    parse_decimal(words.next()?)
}

/// A decimal without sign that fits, and without the leading zero that would make two of one.
fn parse_decimal(digits: &[u8]) -> Option<u64> {
    let plain = digits.iter().all(u8::is_ascii_digit);
    let canonical = digits.len() == 1 || digits.first() != Some(&b'0');
    if !plain || !canonical {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Whether a reply is its request, or the upper case of it.
pub(super) fn is_echo(request: &[u8], reply: &[u8]) -> bool {
    request.eq_ignore_ascii_case(reply)
}

/// Whether a datagram is text.
pub(super) fn is_text(datagram: &[u8]) -> bool {
    !datagram.contains(&0)
}

/// Whether upper-casing leaves it as it is; only such a datagram can go round in a loop of echoes.
pub(super) fn is_uppercase(datagram: &[u8]) -> bool {
    !datagram.iter().any(u8::is_ascii_lowercase)
}

/// What the textbook's server makes of a message: ASCII only, so that the length stays (the upper
/// case of `ß` is longer than `ß`).
pub(super) fn make_uppercase(message: &mut [u8]) {
    message.make_ascii_uppercase();
}

#[cfg(test)]
mod tests {
    use super::{MAX_UDP_PAYLOAD, check_size, is_echo, is_text, is_uppercase, make_uppercase, parse_seq, write};

    fn probe(size: usize) -> Vec<u8> {
        let mut out = Vec::new();
        write(12, 1_700_000_000_123, size, &mut out);
        out
    }

    #[test]
    fn a_probe_is_the_message_of_the_second_exercise() {
        assert_eq!(probe(0), b"Ping 12 1700000000123");
    }

    #[test]
    fn filling_makes_the_size_exact_and_survives_upper_casing() {
        for size in [22, 23, 64, 1_024, MAX_UDP_PAYLOAD] {
            let probe = probe(size);
            assert_eq!(probe.len(), size);
            let mut reply = probe.clone();
            make_uppercase(&mut reply);
            assert!(is_echo(&probe, &reply));
            assert_eq!(parse_seq(&reply), Some(12));
        }
        assert_eq!(probe(MAX_UDP_PAYLOAD + 1).len(), MAX_UDP_PAYLOAD);
    }

    #[test]
    fn the_largest_datagram_is_allowed_and_one_more_byte_is_not() {
        assert_eq!(check_size(MAX_UDP_PAYLOAD).ok(), Some(MAX_UDP_PAYLOAD));
        assert!(check_size(MAX_UDP_PAYLOAD + 1).is_err());
    }

    #[test]
    fn a_sequence_number_is_read_in_either_case_and_nothing_else_is() {
        assert_eq!(parse_seq(b"PING 7 1700"), Some(7));
        assert_eq!(parse_seq(b"ping 0"), Some(0));
        for wrong in [&b""[..], b"PONG 7 1", b"PING", b"PING  7", b"PING -7 1", b"PING +7", b"PING 07 1"] {
            assert_eq!(parse_seq(wrong), None, "{wrong:?}");
        }
        assert_eq!(parse_seq(b"PING 18446744073709551615 0"), Some(u64::MAX));
        assert_eq!(parse_seq(b"PING 18446744073709551616 0"), None);
    }

    #[test]
    fn an_answer_has_the_length_of_its_message() {
        let mut message = "Grüße, ß!".as_bytes().to_vec();
        let length = message.len();
        make_uppercase(&mut message);
        assert_eq!(message.len(), length);
        assert!(message.starts_with(b"GR"));
        assert!(is_uppercase(&message));
    }

    #[test]
    fn text_never_contains_a_nul_byte() {
        assert!(is_text(b"") && is_text(b"Ping") && is_text(b"\x1b[31m"));
        assert!(!is_text(b"Ping\0"));
    }
}
