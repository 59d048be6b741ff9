//! Meaning of a datagram for `--trace`, and explanations of `--explain` for datagrams and events.
//!
//! Written for readers who see a heartbeat for the first time. Text only; makes no decisions.

use super::event::{RejectReason, SenderStatus, WatcherEvent};
use super::packet::{Packet, PacketKind, packet_kind, without_line_end};

/// Returns the meaning of a datagram, and an explanation.
pub(crate) fn describe_datagram(bytes: &[u8]) -> (String, &'static str) {
    let line = without_line_end(bytes);
    let packet = std::str::from_utf8(line).ok().and_then(Packet::parse_unverified);
    match packet {
        Some(Packet::Textbook { seq, .. }) => {
            (format!("textbook beat {seq}"), "the number reveals lost beats, the time shows how long this one took")
        }
        Some(Packet::Beat(beat)) => {
            let (name, seq) = (beat.name, beat.seq);
            match beat.kind {
                PacketKind::Beat => (
                    format!("beat {seq} of {name}"),
                    "the sender is up and sends its next beat within the interval (as in RFC 5880 §6.8.7)",
                ),
                PacketKind::Bye => (
                    format!("stop message of {name}"),
                    "the sender stops on purpose; sent three times, because datagrams can be lost",
                ),
                PacketKind::Echo => (
                    format!("echo of beat {seq} of {name}"),
                    "the watcher returns the beat, and the sender computes the round-trip time",
                ),
            }
        }
        None => ("not a beat".to_owned(), explain_malformed(line)),
    }
}

/// Explains why a line is not a beat.
fn explain_malformed(line: &[u8]) -> &'static str {
    let Some(text) = std::str::from_utf8(line).ok().filter(|text| !text.contains('\0')) else {
        return "binary data; a beat is text, such as 'Heartbeat 1 1764520000.25'";
    };
    if text.trim().is_empty() {
        return "empty; a beat has a sequence number and the time, such as 'Heartbeat 1 1764520000.25'";
    }
    if packet_kind(text).is_some() {
        return "malformed beat; expected BEAT NAME INCARNATION SEQ MS INTERVAL MULTIPLIER, optionally echo and HMAC";
    }
    if text.contains('\n') {
        return "several lines in one datagram; send each beat in a datagram of its own";
    }
    if text.starts_with(['{', '[', '(']) || text.starts_with("b'") {
        return "a serialized object (JSON, tuple, bytes literal); send the number and the time as words: 'Heartbeat 1 1764520000.25'";
    }
    if text.contains([',', ';', '\t']) || text.contains("  ") || text.trim() != text {
        return "words are separated by one space each, without commas: 'Heartbeat 1 1764520000.25'";
    }
    let words: Vec<&str> = text.split(' ').collect();
    match words[..] {
        [_] => "the number or the time is missing; the number is needed to count losses, the time to measure delay",
        [.., time] if time.parse::<f64>().is_err() => "the last word is not a time in seconds since 1970",
        [.., seq, _] if !seq.bytes().all(|byte| byte.is_ascii_digit()) => {
            "the word before the time is not a sequence number: digits only, without sign or fraction"
        }
        _ => "expected [WORD ]SEQ TIME: a decimal number, and the time in seconds without sign or exponent",
    }
}

/// Explains an event of a watcher.
pub(crate) fn explain_event(event: &WatcherEvent) -> Option<&'static str> {
    Some(match event {
        WatcherEvent::Lost { .. } => "sequence gap: beats were lost or are delayed",
        WatcherEvent::Late { .. } => "the beat arrived out of order; UDP does not preserve order (RFC 8085 §3.3)",
        WatcherEvent::State { to: SenderStatus::Late, .. } => "the next beat is overdue; it may be lost",
        WatcherEvent::State { to: SenderStatus::Down, .. } => {
            "no beat within the detection time (default: interval × multiplier, as in RFC 5880 §6.8.4)"
        }
        WatcherEvent::Restarted { .. } => "the sender restarted; loss is counted anew from here",
        WatcherEvent::Rejected { reason, .. } => match reason {
            RejectReason::Unauthentic => {
                "HMAC tag missing, wrong or unexpected; the sender cannot be authenticated (RFC 2104)"
            }
            RejectReason::Replayed => "duplicate or replayed beat; it must not keep a sender up that is down",
            RejectReason::Stray => "an echo, a stop message of an unknown sender, or an implausible sequence number",
            RejectReason::Conflict => "two senders use one name; give each its own",
            RejectReason::Malformed | RejectReason::Oversize | RejectReason::Full => return None,
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::describe_datagram;

    #[test]
    fn each_kind_of_packet_is_named() {
        for (line, meaning) in [
            ("BEAT web-1 a1 7 1764520000000 1000 3", "beat 7 of web-1"),
            ("BYE web-1 a1 7 1764520000000 1000 3 exit=2\n", "stop message of web-1"),
            ("ECHO web-1 a1 7 1764520000000 1000 3 echo", "echo of beat 7 of web-1"),
            ("Heartbeat 4 1764520000.25", "textbook beat 4"),
            ("4 1764520000", "textbook beat 4"),
        ] {
            assert_eq!(describe_datagram(line.as_bytes()).0, meaning);
        }
    }

    #[test]
    fn each_usual_mistake_is_explained() {
        for (line, explanation) in [
            (&b""[..], "empty"),
            (b"\x00\x00\x00\x01", "binary data"),
            (b"Heartbeat", "missing"),
            (b"1764520000.25", "missing"),
            (b"Heartbeat,1,1764520000.25", "one space"),
            (b"Heartbeat  1 1764520000.25", "one space"),
            (b"{\"seq\": 1, \"time\": 1764520000.25}", "serialized object"),
            (b"(1, 1764520000.25)", "serialized object"),
            (b"b'Heartbeat 1 1764520000.25'", "serialized object"),
            (b"Heartbeat 1 Mon Nov 30 16:00:00 2026", "sequence number"),
            (b"Heartbeat 1 16:00:00", "not a time"),
            (b"Heartbeat 1764520000.25 1", "sequence number"),
            (b"Heartbeat -1 1764520000.25", "sequence number"),
            (b"Heartbeat 1 1.0\nHeartbeat 2 2.0", "several lines"),
            (b"my heart beat 1 1764520000.25", "[WORD ]SEQ TIME"),
            (b"BEAT web-1 1", "malformed beat"),
        ] {
            let (meaning, sentence) = describe_datagram(line);
            assert_eq!(meaning, "not a beat", "{}", line.escape_ascii());
            assert!(sentence.contains(explanation), "{}: {sentence}", line.escape_ascii());
        }
    }
}
