//! Text format of the UDP pinger exercise (Kurose and Ross, Computer Networking, chapter 2).
//!
//! ```text
//!   probe   Ping <seq> <milliseconds since 1970>[ .....]      dots pad the message to --size
//!   reply   the same octets, or their upper case
//! ```
//!
//! The message has only letters, digits, spaces and dots: an echo server that converts to upper case rewrites
//! every byte from `a` to `z`, which would corrupt binary data. A text datagram contains no NUL byte, which
//! distinguishes it from STAMP on the same port.

use std::io::Write as _;

use crate::failure::{Failure, FailureKind, Result};

/// Largest UDP payload over IPv4: 65 535 bytes minus 20 of the IP header and 8 of the UDP header.
pub(crate) const MAX_UDP_PAYLOAD: usize = 65_507;

/// Rejects a payload size larger than a UDP datagram allows.
pub(crate) fn check_size(size: usize) -> Result<usize> {
    if size <= MAX_UDP_PAYLOAD {
        return Ok(size);
    }
    Err(Failure::new(FailureKind::InvalidValue, format!("size {size} is too large for a UDP datagram"))
        .expected(format!("at most {MAX_UDP_PAYLOAD} bytes")))
}

/// Appends probe `seq`, sent `millis` milliseconds after 1970, padded to `size` bytes; a longer message is
/// not truncated.
pub(super) fn write(seq: u64, millis: u64, size: usize, out: &mut Vec<u8>) {
    let start = out.len();
    // Writing to a Vec cannot fail.
    let _ = write!(out, "Ping {seq} {millis}");
    let size = size.min(MAX_UDP_PAYLOAD);
    let length = out.len() - start;
    if size > length {
        // A separate word, so that a server that splits at spaces finds the first three unchanged.
        out.push(b' ');
        out.resize(start + size, b'.');
    }
}

/// Parses the sequence number of a reply in upper or lower case.
pub(super) fn parse_seq(reply: &[u8]) -> Option<u64> {
    let mut words = reply.split(|byte| *byte == b' ');
    if !words.next()?.eq_ignore_ascii_case(b"ping") {
        return None;
    }
    parse_decimal(words.next()?)
}

/// Parses a decimal without a sign or a leading zero, so that each number has one spelling.
fn parse_decimal(digits: &[u8]) -> Option<u64> {
    let plain = digits.iter().all(u8::is_ascii_digit);
    let canonical = digits.len() == 1 || digits.first() != Some(&b'0');
    if !plain || !canonical {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Returns whether a reply equals its request, ignoring ASCII case.
pub(super) fn is_echo(request: &[u8], reply: &[u8]) -> bool {
    request.eq_ignore_ascii_case(reply)
}

pub(super) fn is_text(datagram: &[u8]) -> bool {
    !datagram.contains(&0)
}

/// Returns whether upper-casing leaves a datagram unchanged; only then can it pass through a loop of servers.
pub(super) fn is_uppercase(datagram: &[u8]) -> bool {
    !datagram.iter().any(u8::is_ascii_lowercase)
}

/// Converts a message to upper case, ASCII only, so that its length stays the same (the upper case of `ß` is
/// longer than `ß`).
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
    fn padding_makes_the_size_exact_and_survives_upper_casing() {
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
    fn a_sequence_number_is_parsed_in_either_case_and_nothing_else_is() {
        assert_eq!(parse_seq(b"PING 7 1700"), Some(7));
        assert_eq!(parse_seq(b"ping 0"), Some(0));
        for wrong in [&b""[..], b"PONG 7 1", b"PING", b"PING  7", b"PING -7 1", b"PING +7", b"PING 07 1"] {
            assert_eq!(parse_seq(wrong), None, "{wrong:?}");
        }
        assert_eq!(parse_seq(b"PING 18446744073709551615 0"), Some(u64::MAX));
        assert_eq!(parse_seq(b"PING 18446744073709551616 0"), None);
    }

    #[test]
    fn a_reply_has_the_length_of_its_message() {
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
