//! Tests of the wire format.

use super::{BeatPacket, MAX_NAME_BYTES, MAX_PACKET_BYTES, Packet, PacketError, PacketKind, is_valid_name, make_echo};
use crate::mac::MacKey;
use proptest::prelude::*;
use std::time::Duration;

const BEAT: BeatPacket<'_> = BeatPacket {
    kind: PacketKind::Beat,
    name: "web-1",
    incarnation: 0x9f3c,
    seq: 17,
    sent_at: Duration::from_millis(1_764_000_000_123),
    interval: Duration::from_secs(1),
    multiplier: 3,
    requests_echo: false,
    exit_code: None,
};

fn encoded(beat: &BeatPacket<'_>, key: Option<&MacKey>) -> Vec<u8> {
    let mut out = Vec::new();
    beat.encode(key, &mut out);
    out
}

fn parse(text: &str) -> Result<Packet<'_>, PacketError> {
    Packet::parse(text.as_bytes(), None)
}

#[test]
fn a_beat_is_a_line_of_text() {
    assert_eq!(encoded(&BEAT, None), b"BEAT web-1 0000000000009f3c 17 1764000000123 1000 3");
    let bye = BeatPacket { kind: PacketKind::Bye, exit_code: Some(7), ..BEAT };
    assert_eq!(encoded(&bye, None), b"BYE web-1 0000000000009f3c 17 1764000000123 1000 3 exit=7");
}

#[test]
fn an_encoded_packet_parses_to_itself() {
    let key = MacKey::new(b"sesame");
    for kind in [PacketKind::Beat, PacketKind::Bye, PacketKind::Echo] {
        let echo = kind != PacketKind::Bye;
        for beat in [
            BeatPacket { kind, ..BEAT },
            BeatPacket { kind, requests_echo: echo, exit_code: (!echo).then_some(0), ..BEAT },
            BeatPacket { kind, name: "gr\u{fc}n/\u{2665}", incarnation: u64::MAX, seq: u64::MAX - 1, ..BEAT },
        ] {
            for key in [None, Some(&key)] {
                let line = encoded(&beat, key);
                assert_eq!(Packet::parse(&line, key), Ok(Packet::Beat(beat)));
                assert_eq!(Packet::parse(&[&line, &b"\r\n"[..]].concat(), key), Ok(Packet::Beat(beat)));
                assert!(line.len() < MAX_PACKET_BYTES);
            }
        }
    }
}

#[test]
fn a_hand_written_beat_is_accepted() {
    let expected = BeatPacket { incarnation: 1, ..BEAT };
    assert_eq!(parse("BEAT web-1 1 17 1764000000123 1000 3\n"), Ok(Packet::Beat(expected)));
}

#[test]
fn name_length_and_characters_are_limited() {
    assert!(is_valid_name(&"n".repeat(MAX_NAME_BYTES)) && !is_valid_name(&"n".repeat(MAX_NAME_BYTES + 1)));
    for name in ["", "a b", "a\tb", "a\u{1b}[2J", "a\u{a0}b", "\u{7f}"] {
        assert!(!is_valid_name(name), "{name:?}");
    }
}

#[test]
fn malformed_packets_are_rejected() {
    for text in [
        "",
        "BEAT",
        "BEAT web-1",
        "beat web-1 1 1 1 1000 3",
        "BEAT  1 1 1 1000 3",
        "BEAT w x 1 1 1000 3",
        "BEAT w 11112222333344445 1 1 1000 3",
        "BEAT w 1 -1 1 1000 3",
        "BEAT w 1 +1 1 1000 3",
        "BEAT w 1 18446744073709551615 1 1000 3",
        "BEAT w 1 1 1 0 3",
        "BEAT w 1 1 1 86400001 3",
        "BEAT w 1 1 1 1000 0",
        "BEAT w 1 1 1 1000 256",
        "BEAT w 1 1 1 1000 3 exit=1",
        "BYE w 1 1 1 1000 3 exit=256",
        "BYE w 1 1 1 1000 3 echo",
        "BEAT w 1 1 1 1000 3 echo echo",
        "BEAT w 1 1 1 1000 3 more",
        "BEAT w 1 1 1 1000 3 ",
        "BEAT w 1 1 1 1000 3\n\n",
    ] {
        assert_eq!(parse(text), Err(PacketError::Malformed), "{text:?}");
    }
    assert_eq!(Packet::parse(b"BEAT \xff 1 1 1 1000 3", None), Err(PacketError::Malformed));
}

#[test]
fn textbook_beats_are_parsed_in_seconds_and_milliseconds() {
    for text in ["17 1764000000.5", "Ping 17 1764000000.5", "HB 17 1764000000500", "17 1764000000500\n"] {
        let sent_at = Duration::from_millis(1_764_000_000_500);
        assert_eq!(parse(text), Ok(Packet::Textbook { seq: 17, sent_at }), "{text}");
    }
    for text in ["17", "x y", "1 2 3 4", "17 1e9", "17 -1", "17 NaN", "17 .", "17 1.2.3", "17 inf", "a\u{7} 1 2", "17 "]
    {
        assert_eq!(parse(text), Err(PacketError::Malformed), "{text}");
    }
    let huge = format!("1 {}", "9".repeat(300));
    assert_eq!(parse(&huge), Err(PacketError::Malformed));
}

#[test]
fn with_a_key_only_authentic_packets_are_accepted() {
    let key = MacKey::new(b"sesame");
    let signed = encoded(&BEAT, Some(&key));
    for at in 0..signed.len() {
        let mut forged = signed.clone();
        forged[at] ^= 1;
        assert!(Packet::parse(&forged, Some(&key)).is_err(), "byte {at}");
    }
    assert_eq!(Packet::parse(&signed, Some(&MacKey::new(b"other"))), Err(PacketError::Unauthentic));
    assert_eq!(Packet::parse(&signed, None), Err(PacketError::Unauthentic));
    assert_eq!(Packet::parse(&encoded(&BEAT, None), Some(&key)), Err(PacketError::Unauthentic));
    assert_eq!(Packet::parse(b"17 1764000000", Some(&key)), Err(PacketError::Unauthentic));
}

#[test]
fn an_echo_has_the_length_of_its_beat_and_is_never_parsed_as_one() {
    let key = MacKey::new(b"sesame");
    let request = BeatPacket { requests_echo: true, ..BEAT };
    for key in [None, Some(&key)] {
        for end in ["", "\r\n"] {
            let beat = [&encoded(&request, key), end.as_bytes()].concat();
            let mut echo = beat.clone();
            make_echo(&mut echo, key);
            assert_eq!(echo.len(), beat.len());
            let expected = BeatPacket { kind: PacketKind::Echo, ..request };
            assert_eq!(Packet::parse(&echo, key), Ok(Packet::Beat(expected)));
            echo[..4].copy_from_slice(b"BEAT");
            assert_eq!(Packet::parse(&echo, key).is_ok(), key.is_none(), "an echo's tag does not authenticate a beat");
        }
    }
}

proptest! {
    #![proptest_config(crate::protocol::script::property_config())]

    #[test]
    fn a_packet_parses_to_itself_and_noise_to_no_panic(
        (name, incarnation, seq) in ("[!-~äß♥]{1,20}", any::<u64>(), 0..u64::MAX),
        (sent_ms, interval_ms, multiplier) in (0..1_u64 << 50, 1..86_400_000_u64, 1..=u8::MAX),
        exit_code in any::<Option<u8>>(),
        noise in "(BEAT|BYE|ECHO|seq)? ?[a-f0-9 .=üw]{0,80}\n?",
    ) {
        let mac_key = MacKey::new(b"k");
        let kind = if exit_code.is_some() { PacketKind::Bye } else { PacketKind::Beat };
        let beat = BeatPacket {
            kind,
            name: &name,
            incarnation,
            seq,
            sent_at: Duration::from_millis(sent_ms),
            interval: Duration::from_millis(interval_ms),
            multiplier,
            requests_echo: false,
            exit_code,
        };
        for key in [None, Some(&mac_key)] {
            let line = encoded(&beat, key);
            prop_assert_eq!(Packet::parse(&line, key), Ok(Packet::Beat(beat)));
            let mut noise = noise.clone().into_bytes();
            let _ = Packet::parse(&noise, key);
            make_echo(&mut noise, key);
        }
    }
}
