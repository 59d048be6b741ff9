//! Matching of received datagrams to probes.
//!
//! A datagram is the reply to one probe, a corrupted reply to one probe, or foreign. It is never matched by order of
//! arrival: the textbook's client mistakes a late reply for the reply to the current ping, so every later round-trip
//! time is wrong.

use std::net::SocketAddr;

use super::encoding::{ProbeEncoding, ReplyMatch};
use super::event::ForeignReason;
use super::ledger::{Ledger, ProbeOutcome};
use crate::protocol::Datagram;

/// Number of unanswered probes that a corrupted reply is compared with.
const MAX_CANDIDATES: usize = 64;

/// Returns the sequence number of the probe that a datagram from `peer` answers and how well it matches,
/// never [`ReplyMatch::NoMatch`]. Overwrites `scratch`.
pub(super) fn match_reply(
    encoding: &ProbeEncoding,
    peer: SocketAddr,
    ledger: &Ledger,
    datagram: &Datagram<'_>,
    scratch: &mut Vec<u8>,
) -> Result<(u64, ReplyMatch), ForeignReason> {
    let is_from_peer =
        datagram.peer.ip().to_canonical() == peer.ip().to_canonical() && datagram.peer.port() == peer.port();
    if !is_from_peer {
        return Err(ForeignReason::Peer);
    }
    if datagram.truncated {
        return Err(ForeignReason::Content);
    }
    if encoding.is_unreflected(datagram.bytes) {
        return Err(ForeignReason::Unreflected);
    }
    let by_socket = encoding.is_fixed_message().then_some(datagram.socket);
    let seq = by_socket.or_else(|| encoding.seq_of_reply(datagram.bytes, ledger.sent()));
    let matched = seq
        .ok_or(ForeignReason::Content)
        .and_then(|seq| compare_numbered(encoding, ledger, seq, datagram.bytes, scratch));
    if let Ok((_, ReplyMatch::Intact(_))) = matched {
        return matched;
    }
    // The sequence number itself may be corrupted; prefer the closest probe over the numbered one.
    let closest = closest_probe(encoding, ledger, datagram.bytes, scratch);
    closest.map_or(matched, |seq| Ok((seq, ReplyMatch::Corrupt)))
}

/// Compares a datagram with the probe of its sequence number.
fn compare_numbered(
    encoding: &ProbeEncoding,
    ledger: &Ledger,
    seq: u64,
    bytes: &[u8],
    scratch: &mut Vec<u8>,
) -> Result<(u64, ReplyMatch), ForeignReason> {
    let Some(probe) = ledger.probe(seq) else {
        let sent = (1..ledger.next_seq()).contains(&seq);
        return Err(if sent { ForeignReason::TooLate } else { ForeignReason::NeverSent });
    };
    match encoding.compare(seq, probe.sent_at.wall(), bytes, scratch) {
        ReplyMatch::NoMatch => Err(ForeignReason::Content),
        _ if probe.outcome == ProbeOutcome::SendError => Err(ForeignReason::NeverSent),
        matched => Ok((seq, matched)),
    }
}

/// Returns the unanswered probe that differs from `bytes` in the fewest bytes, and in no more than the limit.
/// Returns `None` on a tie: consecutive probes differ in a few bytes only.
fn closest_probe(encoding: &ProbeEncoding, ledger: &Ledger, bytes: &[u8], scratch: &mut Vec<u8>) -> Option<u64> {
    let mut best = None;
    let mut is_unique = true;
    for (seq, probe) in ledger.unanswered().take(MAX_CANDIDATES) {
        let Some(distance) = encoding.distance(seq, probe.sent_at.wall(), bytes, scratch) else { continue };
        match best {
            Some((_, least)) if distance > least => {}
            Some((_, least)) if distance == least => is_unique = false,
            _ => (best, is_unique) = (Some((seq, distance)), true),
        }
    }
    best.filter(|_| is_unique).map(|(seq, _)| seq)
}

#[cfg(test)]
mod tests {
    use super::match_reply;
    use crate::probe::encoding::{ProbeEncoding, ReplyMatch};
    use crate::probe::event::ForeignReason;
    use crate::probe::ledger::Ledger;
    use crate::protocol::Datagram;
    use crate::time::Moment;
    use std::net::{Ipv4Addr, SocketAddr};
    use std::time::Duration;

    const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 12_000);

    /// Matches a datagram against ten probes, sent a second apart.
    fn classify(bytes: &[u8]) -> Result<(u64, ReplyMatch), ForeignReason> {
        let mut ledger = Ledger::new(Duration::from_secs(1), Duration::ZERO);
        for second in 0..10 {
            let sent = Duration::from_secs(1_700_000_000 + second);
            ledger.record_sent(Moment::new(sent, sent));
        }
        let at = Moment::new(Duration::ZERO, Duration::ZERO);
        let datagram = Datagram::plain(PEER, at, bytes);
        match_reply(&ProbeEncoding::TEXTBOOK, PEER, &ledger, &datagram, &mut Vec::new())
    }

    #[test]
    fn corruption_is_detected_at_any_position() {
        for corrupt in [
            "PING 3 1700000002001",
            "PKNG 3 1700000002000",
            "PING x 1700000002000",
            "PING 31700000002000.",
            "\u{1}ING 3 1700000002000",
        ] {
            let expected =
                if corrupt.ends_with('.') { Err(ForeignReason::Content) } else { Ok((3, ReplyMatch::Corrupt)) };
            assert_eq!(classify(corrupt.as_bytes()), expected, "{corrupt}");
        }
    }

    #[test]
    fn corruption_that_makes_two_probes_equally_close_counts_for_the_numbered_one() {
        assert_eq!(classify(b"PING 7 1700000002000"), Ok((7, ReplyMatch::Corrupt)));
    }

    #[test]
    fn a_datagram_close_to_no_probe_or_to_several_is_foreign() {
        assert_eq!(classify(b"hello"), Err(ForeignReason::Content));
        assert_eq!(classify(b"####################"), Err(ForeignReason::Content));
        assert_eq!(classify(b"PING 11 170000000900"), Err(ForeignReason::NeverSent));
        assert_eq!(classify(b"PING . 170000000.000"), Err(ForeignReason::Content), "all ten are equally close");
    }
}
