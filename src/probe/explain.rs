//! Meaning of a datagram for `--trace`, and explanations of `--explain` for datagrams and outcomes.
//!
//! Written for readers who see a UDP pinger for the first time. Text only; makes no decisions.

use super::counters::EchoEvent;
use super::event::{ForeignReason, PingEvent};
use super::reject::EchoRejectReason;
use super::stamp::{self, Probe, Reflection};
use super::text_format;
use crate::impair::DropReason;

/// Returns the meaning of a datagram from a client to a server, and an explanation.
pub(crate) fn describe_request(bytes: &[u8]) -> (String, &'static str) {
    if let Some(seq) = text_format::parse_seq(bytes) {
        return (format!("ping {seq}"), "a ping with its number and the time of sending; the server returns it");
    }
    if let Some(probe) = Probe::read_unverified(bytes).filter(|_| !text_format::is_text(bytes)) {
        return (stamp_meaning("probe", &probe), "a Session-Sender test packet (RFC 8762 §4.2)");
    }
    (unknown(bytes), "the server echoes any text; without a sequence number, a client cannot match replies to pings")
}

/// Returns the meaning of a datagram from a server to a client, and an explanation.
pub(crate) fn describe_reply(bytes: &[u8]) -> (String, &'static str) {
    if let Some(seq) = text_format::parse_seq(bytes) {
        let case = if text_format::is_uppercase(bytes) { "in upper case" } else { "unchanged" };
        return (
            format!("reply to ping {seq}, {case}"),
            "the number shows which ping it answers; the time since that ping is the round-trip time",
        );
    }
    if let Some(reflection) = Reflection::read_unverified(bytes).filter(|_| !text_format::is_text(bytes)) {
        return (
            stamp_meaning("reply to probe", &reflection.probe),
            "a Session-Reflector test packet: when the probe arrived, and when the reply left (RFC 8762 §4.3)",
        );
    }
    (unknown(bytes), "a reply repeats the ping, unchanged or in upper case; other bytes match no ping")
}

fn stamp_meaning(kind: &str, probe: &Probe) -> String {
    format!("STAMP {kind} {}, session {}", probe.seq, probe.ssid)
}

fn unknown(bytes: &[u8]) -> String {
    let kind = match bytes {
        [] => "empty",
        _ if text_format::is_text(bytes) => "text without a ping number",
        _ if bytes.len() < stamp::UNAUTHENTICATED_SIZE => "binary data, too short for STAMP",
        _ => "binary data",
    };
    kind.to_owned()
}

/// Explains the outcome of a ping.
pub(crate) fn explain_outcome(event: &PingEvent) -> Option<&'static str> {
    Some(match event {
        PingEvent::Lost { .. } => {
            "the ping or its reply was dropped, or the server did not answer; UDP does not retransmit (RFC 8085 §3.3)"
        }
        PingEvent::Late { .. } => {
            "the reply came after the timeout; a client that matches it to the next ping reports a wrong round-trip time"
        }
        PingEvent::Duplicate { .. } => "the network or the server may deliver a datagram twice (RFC 8085 §3.3)",
        PingEvent::Reply { reordered: true, .. } => "datagrams may overtake each other (RFC 8085 §3.3)",
        PingEvent::Corrupt { .. } => "same length as the ping, different content; an echo may change only the case",
        PingEvent::Foreign { reason, .. } => match reason {
            ForeignReason::Peer => {
                "a client accepts replies only from the address and port it sent to; answer on the socket that received the ping"
            }
            ForeignReason::Content => {
                "check for a missing number, a truncated reply (a short receive buffer), or added bytes"
            }
            ForeignReason::Unreflected => "a reflector fills in its own timestamps (RFC 8762 §4.3)",
            ForeignReason::NeverSent => {
                "the server numbers its replies itself; it must return the sequence number of the ping"
            }
            ForeignReason::TooLate => "reply to a ping too old to be tracked",
        },
        PingEvent::Refused { .. } => {
            "the network or the host reported the target as unreachable (ICMP, RFC 792 and RFC 4443 §3.1)"
        }
        _ => return None,
    })
}

/// Explains what an echo server did with a datagram.
pub(crate) fn explain_decision(event: &EchoEvent) -> Option<&'static str> {
    Some(match event {
        EchoEvent::Dropped { cause: DropReason::QueueFull, .. } => {
            "the queue of the simulated link is full, as in a congested router"
        }
        EchoEvent::Dropped { .. } => "dropped on purpose; the client must detect the loss by timeout",
        EchoEvent::Rejected { reason, .. } => match reason {
            EchoRejectReason::Oversize => "larger than the receive buffer; a truncated echo would look like corruption",
            EchoRejectReason::BadSource | EchoRejectReason::Loop => {
                "a reply could be answered by another server, endlessly (CVE-2024-2169)"
            }
            EchoRejectReason::RateLimited => {
                "limits the traffic that this server reflects to forged source addresses (RFC 8085 §6)"
            }
            EchoRejectReason::Malformed => {
                "a NUL byte means STAMP, whose packets have at least 44 bytes (RFC 8762 §4.2.1)"
            }
            EchoRejectReason::Unauthentic => "the HMAC is wrong, missing or not expected (RFC 8762 §4.4)",
        },
        EchoEvent::DelayFull { .. } => "the queue of delayed replies is full",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::{describe_reply, describe_request, explain_outcome};
    use crate::probe::encoding::ProbeEncoding;
    use crate::probe::event::{ForeignReason, PingEvent};
    use std::time::Duration;

    fn encode(encoding: &ProbeEncoding) -> Vec<u8> {
        let mut out = Vec::new();
        encoding.write(3, Duration::from_secs(1_700_000_000), &mut out);
        out
    }

    #[test]
    fn a_datagram_is_named_by_its_direction() {
        let ping = encode(&ProbeEncoding::TEXTBOOK);
        assert_eq!(describe_request(&ping).0, "ping 3");
        assert_eq!(describe_reply(&ping).0, "reply to ping 3, unchanged");
        assert_eq!(describe_reply(&ping.to_ascii_uppercase()).0, "reply to ping 3, in upper case");
    }

    #[test]
    fn stamp_packets_are_named_in_both_modes() {
        let key = crate::mac::MacKey::new(b"0123456789abcdef");
        for key in [None, Some(key)] {
            let probe = encode(&ProbeEncoding::Stamp { ssid: 7, size: 0, key });
            assert_eq!(describe_request(&probe).0, "STAMP probe 2, session 7");
        }
    }

    #[test]
    fn other_bytes_are_named_and_explained() {
        for (bytes, meaning) in [
            (&b""[..], "empty"),
            (b"hello", "text without a ping number"),
            (b"\0\x01", "binary data, too short for STAMP"),
        ] {
            assert_eq!(describe_reply(bytes).0, meaning);
            assert!(describe_reply(bytes).1.contains("match no ping"));
        }
    }

    #[test]
    fn every_failed_outcome_is_explained() {
        assert!(explain_outcome(&PingEvent::Lost { seq: 1 }).is_some_and(|text| text.contains("RFC 8085")));
        let reason = ForeignReason::NeverSent;
        let wrong_number =
            PingEvent::Foreign { reason, source: ([127, 0, 0, 1], 12000).into(), bytes: 6, got: "PING 9".to_owned() };
        assert!(
            explain_outcome(&wrong_number).is_some_and(|text| text.contains("return the sequence number of the ping"))
        );
        assert_eq!(explain_outcome(&PingEvent::ClockStep { step_ns: 1 }), None);
    }
}
