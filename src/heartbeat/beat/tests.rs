//! What is a beat and what is none.

use super::{Beat, Kind, LARGEST, LONGEST_NAME, Line, Wrong, is_name, make_echo};
use crate::seal::MacKey;
use std::time::Duration;

const BEAT: Beat<'_> = Beat {
    kind: Kind::Beat,
    name: "web-1",
    incarnation: 0x9f3c,
    seq: 17,
    sent: Duration::from_millis(1_764_000_000_123),
    interval: Duration::from_secs(1),
    multiplier: 3,
    wants_echo: false,
    exit: None,
};

fn line(beat: &Beat<'_>, key: Option<&MacKey>) -> Vec<u8> {
    let mut out = Vec::new();
    beat.write(key, &mut out);
    out
}

fn read(text: &str) -> Result<Line<'_>, Wrong> {
    Line::read(text.as_bytes(), None)
}

#[test]
fn a_beat_is_a_line_of_text() {
    assert_eq!(line(&BEAT, None), b"BEAT web-1 0000000000009f3c 17 1764000000123 1000 3");
    let bye = Beat { kind: Kind::Bye, exit: Some(7), ..BEAT };
    assert_eq!(line(&bye, None), b"BYE web-1 0000000000009f3c 17 1764000000123 1000 3 exit=7");
}

#[test]
fn what_is_written_is_what_is_read() {
    let key = MacKey::new(b"sesame");
    for kind in [Kind::Beat, Kind::Bye, Kind::Echo] {
        let echo = kind != Kind::Bye;
        for beat in [
            Beat { kind, ..BEAT },
            Beat { kind, wants_echo: echo, exit: (!echo).then_some(0), ..BEAT },
            Beat { kind, name: "gr\u{fc}n/\u{2665}", incarnation: u64::MAX, seq: u64::MAX - 1, ..BEAT },
        ] {
            for key in [None, Some(&key)] {
                let line = line(&beat, key);
                assert_eq!(Line::read(&line, key), Ok(Line::Beat(beat)));
                assert_eq!(Line::read(&[&line, &b"\r\n"[..]].concat(), key), Ok(Line::Beat(beat)));
                assert!(line.len() < LARGEST);
            }
        }
    }
}

#[test]
fn a_hand_written_beat_is_a_beat() {
    let expected = Beat { incarnation: 1, ..BEAT };
    assert_eq!(read("BEAT web-1 1 17 1764000000123 1000 3\n"), Ok(Line::Beat(expected)));
}

#[test]
fn a_name_has_its_limits() {
    assert!(is_name(&"n".repeat(LONGEST_NAME)) && !is_name(&"n".repeat(LONGEST_NAME + 1)));
    for name in ["", "a b", "a\tb", "a\u{1b}[2J", "a\u{a0}b", "\u{7f}"] {
        assert!(!is_name(name), "{name:?}");
    }
}

#[test]
fn what_is_no_beat_is_refused() {
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
        assert_eq!(read(text), Err(Wrong::Malformed), "{text:?}");
    }
    assert_eq!(Line::read(b"BEAT \xff 1 1 1 1000 3", None), Err(Wrong::Malformed));
}

#[test]
fn the_textbooks_beats_are_understood_in_seconds_and_milliseconds() {
    for text in ["17 1764000000.5", "Ping 17 1764000000.5", "HB 17 1764000000500", "17 1764000000500\n"] {
        let sent_at = Duration::from_millis(1_764_000_000_500);
        assert_eq!(read(text), Ok(Line::Textbook { seq: 17, sent }), "{text}");
    }
    for text in ["17", "x y", "1 2 3 4", "17 1e9", "17 -1", "17 NaN", "17 .", "17 1.2.3", "17 inf", "a\u{7} 1 2", "17 "]
    {
        assert_eq!(read(text), Err(Wrong::Malformed), "{text}");
    }
    let forever = format!("1 {}", "9".repeat(300));
    assert_eq!(read(&forever), Err(Wrong::Malformed));
}

#[test]
fn a_key_takes_what_it_vouches_for_and_nothing_else() {
    let key = MacKey::new(b"sesame");
    let sealed = line(&BEAT, Some(&key));
    for at in 0..sealed.len() {
        let mut forged = sealed.clone();
        forged[at] ^= 1;
        assert!(Line::read(&forged, Some(&key)).is_err(), "octet {at}");
    }
    assert_eq!(Line::read(&sealed, Some(&MacKey::new(b"other"))), Err(Wrong::Unauthentic));
    assert_eq!(Line::read(&sealed, None), Err(Wrong::Unauthentic));
    assert_eq!(Line::read(&line(&BEAT, None), Some(&key)), Err(Wrong::Unauthentic));
    assert_eq!(Line::read(b"17 1764000000", Some(&key)), Err(Wrong::Unauthentic));
}

#[test]
fn an_echo_is_as_long_as_its_beat_and_never_taken_for_one() {
    let key = MacKey::new(b"sesame");
    let asking = Beat { wants_echo: true, ..BEAT };
    for key in [None, Some(&key)] {
        for end in ["", "\r\n"] {
            let beat = [&line(&asking, key), end.as_bytes()].concat();
            let mut echo = beat.clone();
            make_echo(&mut echo, key);
            assert_eq!(echo.len(), beat.len());
            let expected = Beat { kind: Kind::Echo, ..asking };
            assert_eq!(Line::read(&echo, key), Ok(Line::Beat(expected)));
            echo[..4].copy_from_slice(b"BEAT");
            assert_eq!(Line::read(&echo, key).is_ok(), key.is_none(), "a sealed echo is no sealed beat");
        }
    }
}

#[test]
fn no_octets_at_all_make_it_panic() {
    let key = MacKey::new(b"k");
    let mut seed = 1_u64;
    let mut octet = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        b"BEATYCHO w019af. \n\xc3\xbc\xff="[(seed >> 33) as usize % 22]
    };
    for length in 0..2_000 {
        let mut noise: Vec<u8> = (0..length % 90).map(|_| octet()).collect();
        let _ = (Line::read(&noise, None), Line::read(&noise, Some(&key)));
        make_echo(&mut noise, Some(&key));
    }
}
