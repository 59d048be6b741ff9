//! Which probe a datagram answers.
//!
//! Owns the judgement "this is the answer to number 7", "this is what is left of it", or "this is
//! none of ours". Never "the next datagram wins": the textbook's client takes a late answer for the
//! one it waits for, and every number after it is wrong.

use std::net::SocketAddr;

use super::event::ForeignReason;
use super::ledger::{Ledger, ProbeOutcome};
use super::wire::{ProbeEncoding, ReplyMatch};
use crate::protocol::Datagram;

/// Among how many unanswered probes the owner of a damaged answer is looked for.
const MAX_CANDIDATES: usize = 64;

/// The number of the probe that a datagram from `peer`'s side answers, and how well, or why it
/// answers none. Never [`Match::Other`]; `scratch` is written over.
pub(super) fn match_reply(
    encoding: &ProbeEncoding,
    peer: SocketAddr,
    ledger: &Ledger,
    datagram: &Datagram<'_>,
    scratch: &mut Vec<u8>,
) -> Result<(u64, ReplyMatch), ForeignReason> {
    let same = datagram.peer.ip().to_canonical() == peer.ip().to_canonical() && datagram.peer.port() == peer.port();
    if !same {
        return Err(ForeignReason::Peer);
    }
    if datagram.truncated {
        return Err(ForeignReason::Content);
    }
    if encoding.is_unreflected(datagram.bytes) {
        return Err(ForeignReason::Unreflected);
    }
    let bare = encoding.is_fixed_message().then_some(datagram.socket);
    let named = bare.or_else(|| encoding.seq_of_reply(datagram.bytes, ledger.sent()));
    let judged = named
        .ok_or(ForeignReason::Content)
        .and_then(|seq| compare_named(encoding, ledger, seq, datagram.bytes, scratch));
    if let Ok((_, ReplyMatch::Intact(_))) = judged {
        return judged;
    }
    // The damage may have hit the number itself, so whom it names says little.
    let suspect = closest_probe(encoding, ledger, datagram.bytes, scratch);
    suspect.map_or(judged, |seq| Ok((seq, ReplyMatch::Corrupt)))
}

/// Compares a datagram with the probe it names.
fn compare_named(
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

/// The one unanswered probe that differs least from a text of its length, if it differs little:
/// a few octets of a probe may be damaged, and two neighbours differ in as few.
fn closest_probe(encoding: &ProbeEncoding, ledger: &Ledger, bytes: &[u8], scratch: &mut Vec<u8>) -> Option<u64> {
    let mut best = None;
    let mut is_alone = true;
    for (seq, probe) in ledger.unanswered().take(MAX_CANDIDATES) {
        let Some(distance) = encoding.distance(seq, probe.sent_at.wall(), bytes, scratch) else { continue };
        match best {
            Some((_, least)) if distance > least => {}
            Some((_, least)) if distance == least => is_alone = false,
            _ => (best, is_alone) = (Some((seq, distance)), true),
        }
    }
    best.filter(|_| is_alone).map(|(seq, _)| seq)
}

#[cfg(test)]
mod tests {
    use super::match_reply;
    use crate::probe::event::ForeignReason;
    use crate::probe::ledger::Ledger;
    use crate::probe::wire::{ProbeEncoding, ReplyMatch};
    use crate::protocol::Datagram;
    use crate::time::Moment;
    use std::net::{Ipv4Addr, SocketAddr};
    use std::time::Duration;

    const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 12_000);

    /// What a datagram is to ten probes, a second apart.
    fn classify(bytes: &[u8]) -> Result<(u64, ReplyMatch), ForeignReason> {
        let mut ledger = Ledger::new(Duration::from_secs(1), Duration::ZERO);
        for second in 0..10 {
            let since = Duration::from_secs(1_700_000_000 + second);
            ledger.record_sent(Moment::new(since, since));
        }
        let at = Moment::new(Duration::ZERO, Duration::ZERO);
        let datagram = Datagram::plain(PEER, at, bytes);
        match_reply(&ProbeEncoding::TEXTBOOK, PEER, &ledger, &datagram, &mut Vec::new())
    }

    #[test]
    fn corruption_is_detected_at_any_position() {
        for damaged in [
            "PING 3 1700000002001",
            "PKNG 3 1700000002000",
            "PING x 1700000002000",
            "PING 31700000002000.",
            "\u{1}ING 3 1700000002000",
        ] {
            let expected =
                if damaged.ends_with('.') { Err(ForeignReason::Content) } else { Ok((3, ReplyMatch::Corrupt)) };
            assert_eq!(classify(damaged.as_bytes()), expected, "{damaged}");
        }
    }

    #[test]
    fn damage_that_makes_two_alike_counts_for_the_one_it_names() {
        assert_eq!(classify(b"PING 7 1700000002000"), Ok((7, ReplyMatch::Corrupt)));
    }

    #[test]
    fn what_resembles_no_probe_or_two_alike_is_not_ours() {
        assert_eq!(classify(b"hello"), Err(ForeignReason::Content));
        assert_eq!(classify(b"####################"), Err(ForeignReason::Content));
        assert_eq!(classify(b"PING 11 170000000900"), Err(ForeignReason::NeverSent));
        assert_eq!(classify(b"PING . 170000000.000"), Err(ForeignReason::Content), "each of the ten is as likely");
    }
}
