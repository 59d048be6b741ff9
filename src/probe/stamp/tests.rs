//! Packets against golden ones: the open pair was built by Scapy (`scapy.contrib.stamp`), the
//! sealed pair, which Scapy does not know, from the figures of the RFC with Python's own `hmac`.

use super::{Key, LONG, Probe, Reflection, SHORT, Wrong};
use crate::probe::ntp::ErrorEstimate;

const OPEN_PROBE: &str = "01020304ec5a1234800000008507beef\
    00000000000000000000000000000000000000000000000000000000";
const OPEN_REFLECTION: &str = "00000009ec5a1236400000003f01beef\
    ec5a1235c000000001020304ec5a123480000000850700003d000000";
const SEALED_PROBE: &str = "01020304000000000000000000000000ec5a1234800000008507beef00000000\
    0000000000000000000000000000000000000000000000000000000000000000\
    0000000000000000000000000000000000000000000000000000000000000000\
    a484035ccfd7829d0f3278699830600e";
const SEALED_REFLECTION: &str = "00000009000000000000000000000000ec5a1236400000003f01beef00000000\
    ec5a1235c0000000000000000000000001020304000000000000000000000000\
    ec5a12348000000085070000000000003d000000000000000000000000000000\
    6cdb7d6930108e5c65f58f360434e476";

const PROBE: Probe = Probe {
    seq: 0x0102_0304,
    timestamp: 0xec5a_1234_8000_0000,
    estimate: ErrorEstimate::from_bits(0x8507),
    ssid: 0xbeef,
};

const REFLECTION: Reflection = Reflection {
    seq: 9,
    timestamp: 0xec5a_1236_4000_0000,
    estimate: ErrorEstimate::UNKNOWN,
    received: 0xec5a_1235_c000_0000,
    ttl: 61,
    probe: PROBE,
};

fn octets(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    let octet = |pair: &[u32]| u8::try_from(pair[0] << 4 | pair[1]).expect("two digits");
    digits.chunks_exact(2).map(octet).collect()
}

fn probe(key: Option<&Key>, size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    PROBE.write(key, size, &mut out);
    out
}

/// Both modes, with what belongs to each.
fn modes() -> [(Option<Key>, Vec<u8>, Vec<u8>); 2] {
    let key = Key::new(b"netlab");
    [(None, octets(OPEN_PROBE), octets(OPEN_REFLECTION)), (Some(key), octets(SEALED_PROBE), octets(SEALED_REFLECTION))]
}

#[test]
fn packets_equal_the_golden_ones_octet_for_octet() {
    for (key, golden_probe, golden_reflection) in modes() {
        let key = key.as_ref();
        let mut packet = probe(key, 0);
        assert_eq!(packet, golden_probe);
        assert_eq!(Probe::read(&packet, key), Ok(PROBE));
        REFLECTION.write_over(&mut packet, key);
        assert_eq!(packet, golden_reflection);
        assert_eq!(Reflection::read(&packet, key), Ok(REFLECTION));
    }
}

#[test]
fn a_packet_one_octet_short_is_refused() {
    for (key, probe, reflection) in modes() {
        for length in 0..probe.len() {
            let (probe, reflection) = (&probe[..length], &reflection[..length]);
            assert_eq!(Probe::read(probe, key.as_ref()), Err(Wrong::Short));
            assert_eq!(Reflection::read(reflection, key.as_ref()), Err(Wrong::Short));
        }
    }
}

#[test]
fn padding_comes_back_as_it_went() {
    for (key, ..) in modes() {
        let mut packet = probe(key.as_ref(), 200);
        assert_eq!(packet.len(), 200);
        packet[150..].fill(b'x');
        let request = packet.clone();
        REFLECTION.write_over(&mut packet, key.as_ref());
        assert_eq!(packet[LONG..], request[LONG..]);
        assert_eq!(Reflection::read(&packet, key.as_ref()), Ok(REFLECTION));
    }
}

#[test]
fn a_reflection_is_suspected_where_a_probe_belongs() {
    for (key, probe, reflection) in modes() {
        assert!(Probe::may_be_reflected(&reflection, key.as_ref()));
        assert!(!Probe::may_be_reflected(&probe, key.as_ref()));
    }
}

#[test]
fn every_flipped_bit_of_a_sealed_packet_is_noticed() {
    let key = Key::new(b"netlab");
    for bit in 0..LONG * 8 {
        let mut packet = octets(SEALED_PROBE);
        packet[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Probe::read(&packet, Some(&key)), Err(Wrong::Unauthentic), "bit {bit}");
    }
}

#[test]
fn a_key_on_one_side_only_is_refused_on_the_other() {
    let key = Key::new(b"netlab");
    assert_eq!(Probe::read(&octets(SEALED_PROBE), None), Err(Wrong::Unauthentic));
    assert_eq!(Probe::read(&probe(None, LONG), Some(&key)), Err(Wrong::Unauthentic));
    assert_eq!(Probe::read(&probe(None, SHORT), Some(&key)), Err(Wrong::Short));
    let other = Key::new(b"netlab2");
    assert_eq!(Probe::read(&octets(SEALED_PROBE), Some(&other)), Err(Wrong::Unauthentic));
}
