//! Which probe a datagram answers.
//!
//! Owns the judgement "this is the answer to number 7", "this is what is left of it", or "this is
//! none of ours". Never "the next datagram wins": the textbook's client takes a late answer for the
//! one it waits for, and every number after it is wrong.

use std::net::SocketAddr;

use super::fact::Foreign;
use super::ledger::{Ledger, Outcome};
use super::wire::{Match, Wire};
use crate::conversation::Datagram;

/// Among how many unanswered probes the owner of a damaged answer is looked for.
const SUSPECTS: usize = 64;

/// The number of the probe that a datagram from `peer`'s side answers, and how well, or why it
/// answers none. Never [`Match::Other`]; `scratch` is written over.
pub fn matched(
    wire: &Wire,
    peer: SocketAddr,
    ledger: &Ledger,
    datagram: &Datagram<'_>,
    scratch: &mut Vec<u8>,
) -> Result<(u64, Match), Foreign> {
    let same = datagram.peer.ip().to_canonical() == peer.ip().to_canonical() && datagram.peer.port() == peer.port();
    if !same {
        return Err(Foreign::Peer);
    }
    if datagram.truncated {
        return Err(Foreign::Content);
    }
    if wire.is_unreflected(datagram.bytes) {
        return Err(Foreign::Unreflected);
    }
    let bare = wire.is_bare().then_some(datagram.socket);
    let named = bare.or_else(|| wire.seq_of_reply(datagram.bytes, ledger.sent()));
    let judged = named.ok_or(Foreign::Content).and_then(|seq| judge(wire, ledger, seq, datagram.bytes, scratch));
    if let Ok((_, Match::Whole(_))) = judged {
        return judged;
    }
    // The damage may have hit the number itself, so whom it names says little.
    let suspect = suspect(wire, ledger, datagram.bytes, scratch);
    suspect.map_or(judged, |seq| Ok((seq, Match::Damaged)))
}

/// Compares a datagram with the probe it names.
fn judge(wire: &Wire, ledger: &Ledger, seq: u64, bytes: &[u8], scratch: &mut Vec<u8>) -> Result<(u64, Match), Foreign> {
    let Some(probe) = ledger.probe(seq) else {
        let sent = (1..ledger.next()).contains(&seq);
        return Err(if sent { Foreign::TooLate } else { Foreign::NeverSent });
    };
    match wire.compare(seq, probe.at.wall(), bytes, scratch) {
        Match::Other => Err(Foreign::Content),
        _ if probe.outcome == Outcome::SendError => Err(Foreign::NeverSent),
        matched => Ok((seq, matched)),
    }
}

/// The one unanswered probe that differs least from a text of its length, if it differs little:
/// a few octets of a probe may be damaged, and two neighbours differ in as few.
fn suspect(wire: &Wire, ledger: &Ledger, bytes: &[u8], scratch: &mut Vec<u8>) -> Option<u64> {
    let mut best = None;
    let mut is_alone = true;
    for (seq, probe) in ledger.unanswered().take(SUSPECTS) {
        let Some(distance) = wire.distance(seq, probe.at.wall(), bytes, scratch) else { continue };
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
    use super::matched;
    use crate::conversation::Datagram;
    use crate::probe::fact::Foreign;
    use crate::probe::ledger::Ledger;
    use crate::probe::wire::{Match, Wire};
    use crate::time::Moment;
    use std::net::{Ipv4Addr, SocketAddr};
    use std::time::Duration;

    const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 12_000);

    /// What a datagram is to ten probes, a second apart.
    fn judged(bytes: &[u8]) -> Result<(u64, Match), Foreign> {
        let mut ledger = Ledger::new(Duration::from_secs(1), Duration::ZERO);
        for second in 0..10 {
            let since = Duration::from_secs(1_700_000_000 + second);
            ledger.send(Moment::new(since, since));
        }
        let at = Moment::new(Duration::ZERO, Duration::ZERO);
        let datagram = Datagram::plain(PEER, at, bytes);
        matched(&Wire::TEXTBOOK, PEER, &ledger, &datagram, &mut Vec::new())
    }

    #[test]
    fn damage_is_told_wherever_it_hits() {
        for damaged in [
            "PING 3 1700000002001",
            "PKNG 3 1700000002000",
            "PING x 1700000002000",
            "PING 31700000002000.",
            "\u{1}ING 3 1700000002000",
        ] {
            let expected = if damaged.ends_with('.') { Err(Foreign::Content) } else { Ok((3, Match::Damaged)) };
            assert_eq!(judged(damaged.as_bytes()), expected, "{damaged}");
        }
    }

    #[test]
    fn damage_that_makes_two_alike_counts_for_the_one_it_names() {
        assert_eq!(judged(b"PING 7 1700000002000"), Ok((7, Match::Damaged)));
    }

    #[test]
    fn what_resembles_no_probe_or_two_alike_is_not_ours() {
        assert_eq!(judged(b"hello"), Err(Foreign::Content));
        assert_eq!(judged(b"####################"), Err(Foreign::Content));
        assert_eq!(judged(b"PING 11 170000000900"), Err(Foreign::NeverSent));
        assert_eq!(judged(b"PING . 170000000.000"), Err(Foreign::Content), "each of the ten is as likely");
    }
}
