//! Echo server as a STAMP reflector.

use std::time::Duration;

use super::{Fixture, START, reflection, remote_client, stamp};
use crate::impair::{Impairment, LossModel};
use crate::mac::MacKey;
use crate::probe::echo::EchoConfig;
use crate::probe::stamp::{AUTHENTICATED_SIZE, Reflection, UNAUTHENTICATED_SIZE};
use crate::protocol::DatagramProtocol as _;

#[test]
fn a_short_stamp_packet_is_dropped_and_counted() {
    let mut bench = Fixture::unimpaired();
    for length in 1..UNAUTHENTICATED_SIZE {
        assert!(bench.request(&vec![0; length]).is_empty());
    }
    assert_eq!(bench.echo.counters().malformed, 43);
    assert_eq!(bench.request(&stamp(0, None, 0)).len(), 1);
}

#[test]
fn a_loop_between_two_reflectors_is_broken() {
    let mut bench = Fixture::unimpaired();
    let mut packet = bench.request_from(remote_client(1), &stamp(3, None, 0)).remove(0);
    let mut answered = 0;
    for _ in 0..10_000 {
        // Ten thousand rounds in a second, each with new timestamps.
        bench.now = bench.now + Duration::from_micros(100);
        if let Some(reply) = bench.request_from(remote_client(2), &packet).pop() {
            packet = reply;
            answered += 1;
        }
    }
    assert_eq!((answered, bench.echo.counters().looping), (20, 9_980));
}

#[test]
fn nonzero_bytes_in_zero_fields_are_ignored() {
    let mut bench = Fixture::unimpaired();
    let mut probe = stamp(3, None, 0);
    probe[16..].fill(0xA5);
    assert_eq!(reflection(&bench.request(&probe)[0]).probe.seq, 3);
}

#[test]
fn stamp_with_a_key_accepts_authentic_packets_only() {
    let key = MacKey::new(b"secret");
    let mut bench = Fixture::with_config(EchoConfig {
        impairment: Impairment::none(1),
        key: Some(key.clone()),
        own_addresses: Vec::new(),
        is_public: false,
        remaining: None,
    });
    let reply = bench.request(&stamp(5, Some(&key), 0)).remove(0);
    assert_eq!(Reflection::read(&reply, Some(&key)).expect("authentic").probe.seq, 5);
    let other = MacKey::new(b"other");
    for packet in [stamp(6, Some(&other), 0), stamp(6, None, AUTHENTICATED_SIZE)] {
        assert!(bench.request(&packet).is_empty());
    }
    assert_eq!(bench.echo.counters().unauthentic, 2);
    let mut keyless = Fixture::unimpaired();
    assert!(keyless.request(&stamp(5, Some(&key), 0)).is_empty());
}

#[test]
fn the_reflector_numbers_its_replies_and_writes_both_timestamps() {
    let mut bench = Fixture::new(Impairment { delay: Duration::from_millis(20), ..Impairment::none(1) });
    assert!(bench.request(&stamp(100, None, 60)).is_empty());
    assert_eq!(bench.echo.wake_at(), Some(START + Duration::from_millis(20)));
    let reply = bench.wait(Duration::from_millis(20)).remove(0);
    assert_eq!(reply.len(), 60);
    let reflection = reflection(&reply);
    assert_eq!((reflection.seq, reflection.probe.seq, reflection.ttl), (0, 100, 64));
    let arrived = reflection.estimate.format().decode(reflection.received, START.wall());
    assert_eq!(arrived, Some(START.wall() + Duration::from_millis(20)), "held on the way in");
    assert_eq!(reflection.timestamp, reflection.received);
}

#[test]
fn a_repeated_stamp_probe_is_counted() {
    let mut bench = Fixture::unimpaired();
    bench.request(&stamp(4, None, 0));
    bench.request(&stamp(4, None, 0));
    assert_eq!(bench.echo.counters().repeated, 1);
}

#[test]
fn a_loss_on_the_way_out_is_counted_by_the_reflector() {
    let mut bench = Fixture::new(Impairment {
        loss: "list:1".parse::<LossModel>().expect("a model"),
        direction: "out".parse().expect("a direction"),
        ..Impairment::none(1)
    });
    assert!(bench.request(&stamp(0, None, 0)).is_empty());
    assert_eq!(reflection(&bench.request(&stamp(1, None, 0))[0]).seq, 1);
    assert_eq!(bench.echo.counters().lost_out, 1);
}
