//! Packets compared with reference packets. The unauthenticated pair was built with Scapy (`scapy.contrib.stamp`),
//! the authenticated pair, which Scapy does not support, after the figures of the RFC with Python's `hmac`.

use super::{AUTHENTICATED_SIZE, MacKey, Probe, Reflection, StampError, UNAUTHENTICATED_SIZE};
use crate::probe::ntp::ErrorEstimate;
use proptest::prelude::*;

const UNAUTHENTICATED_PROBE: &str = "01020304ec5a1234800000008507beef\
    00000000000000000000000000000000000000000000000000000000";
const UNAUTHENTICATED_REFLECTION: &str = "00000009ec5a1236400000003f01beef\
    ec5a1235c000000001020304ec5a123480000000850700003d000000";
const AUTHENTICATED_PROBE: &str = "01020304000000000000000000000000ec5a1234800000008507beef00000000\
    0000000000000000000000000000000000000000000000000000000000000000\
    0000000000000000000000000000000000000000000000000000000000000000\
    a484035ccfd7829d0f3278699830600e";
const AUTHENTICATED_REFLECTION: &str = "00000009000000000000000000000000ec5a1236400000003f01beef00000000\
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

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    let byte = |pair: &[u32]| u8::try_from(pair[0] << 4 | pair[1]).expect("two digits");
    digits.chunks_exact(2).map(byte).collect()
}

fn probe(key: Option<&MacKey>, size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    PROBE.write(key, size, &mut out);
    out
}

/// Key, reference probe and reference reflection of both modes.
fn modes() -> [(Option<MacKey>, Vec<u8>, Vec<u8>); 2] {
    let key = MacKey::new(b"netlab");
    [
        (None, bytes(UNAUTHENTICATED_PROBE), bytes(UNAUTHENTICATED_REFLECTION)),
        (Some(key), bytes(AUTHENTICATED_PROBE), bytes(AUTHENTICATED_REFLECTION)),
    ]
}

#[test]
fn packets_equal_the_reference_packets() {
    for (key, reference_probe, reference_reflection) in modes() {
        let key = key.as_ref();
        let mut packet = probe(key, 0);
        assert_eq!(packet, reference_probe);
        assert_eq!(Probe::read(&packet, key), Ok(PROBE));
        REFLECTION.write_over(&mut packet, key);
        assert_eq!(packet, reference_reflection);
        assert_eq!(Reflection::read(&packet, key), Ok(REFLECTION));
    }
}

#[test]
fn a_truncated_packet_is_rejected() {
    for (key, probe, reflection) in modes() {
        for length in 0..probe.len() {
            let (probe, reflection) = (&probe[..length], &reflection[..length]);
            assert_eq!(Probe::read(probe, key.as_ref()), Err(StampError::TooShort));
            assert_eq!(Reflection::read(reflection, key.as_ref()), Err(StampError::TooShort));
        }
    }
}

#[test]
fn padding_is_returned_unchanged() {
    for (key, ..) in modes() {
        let mut packet = probe(key.as_ref(), 200);
        assert_eq!(packet.len(), 200);
        packet[150..].fill(b'x');
        let request = packet.clone();
        REFLECTION.write_over(&mut packet, key.as_ref());
        assert_eq!(packet[AUTHENTICATED_SIZE..], request[AUTHENTICATED_SIZE..]);
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
fn every_flipped_bit_of_an_authenticated_packet_is_detected() {
    let key = MacKey::new(b"netlab");
    for bit in 0..AUTHENTICATED_SIZE * 8 {
        let mut packet = bytes(AUTHENTICATED_PROBE);
        packet[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Probe::read(&packet, Some(&key)), Err(StampError::Unauthentic), "bit {bit}");
    }
}

#[test]
fn a_packet_of_the_other_mode_is_rejected() {
    let key = MacKey::new(b"netlab");
    assert_eq!(Probe::read(&bytes(AUTHENTICATED_PROBE), None), Err(StampError::Unauthentic));
    assert_eq!(Probe::read(&probe(None, AUTHENTICATED_SIZE), Some(&key)), Err(StampError::Unauthentic));
    assert_eq!(Probe::read(&probe(None, UNAUTHENTICATED_SIZE), Some(&key)), Err(StampError::TooShort));
    let other = MacKey::new(b"netlab2");
    assert_eq!(Probe::read(&bytes(AUTHENTICATED_PROBE), Some(&other)), Err(StampError::Unauthentic));
}

fn any_probe() -> impl Strategy<Value = Probe> {
    (any::<u32>(), any::<u64>(), any::<u16>(), any::<u16>()).prop_map(|(seq, timestamp, estimate, ssid)| Probe {
        seq,
        timestamp,
        estimate: ErrorEstimate::from_bits(estimate),
        ssid,
    })
}

proptest! {
    #![proptest_config(crate::protocol::script::property_config())]

    #[test]
    fn a_packet_is_read_as_it_was_written_and_never_after_a_change(
        probe in any_probe(),
        (seq, timestamp, received, ttl) in (any::<u32>(), any::<u64>(), any::<u64>(), any::<u8>()),
        (size, bit) in (0..200_usize, any::<usize>()),
        noise in prop::collection::vec(any::<u8>(), 0..150),
    ) {
        let mac_key = MacKey::new(b"netlab");
        for key in [None, Some(&mac_key)] {
            let mut packet = Vec::new();
            probe.write(key, size, &mut packet);
            prop_assert_eq!(Probe::read(&packet, key), Ok(probe));
            let reflection =
                Reflection { seq, timestamp, estimate: ErrorEstimate::UNKNOWN, received, ttl, probe };
            reflection.write_over(&mut packet, key);
            prop_assert_eq!(Reflection::read(&packet, key), Ok(reflection));
            if key.is_some() {
                let at = bit % (AUTHENTICATED_SIZE * 8);
                packet[at / 8] ^= 1 << (at % 8);
                prop_assert!(Reflection::read(&packet, key).is_err(), "bit {at} is covered");
            }
            let _ = (Probe::read(&noise, key), Reflection::read(&noise, key));
        }
    }
}
