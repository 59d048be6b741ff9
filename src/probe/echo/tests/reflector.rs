//! What an echo does with STAMP.

use std::time::Duration;

use super::{Bench, START, reflection, stamp, stranger};
use crate::conversation::DatagramProtocol as _;
use crate::impair::{Impairment, Loss};
use crate::probe::echo::Rules;
use crate::probe::stamp::{LONG, Reflection, SHORT};
use crate::seal::Key;

#[test]
fn a_short_stamp_packet_is_dropped_and_counted() {
    let mut bench = Bench::honest();
    for length in 1..SHORT {
        assert!(bench.ask(&vec![0; length]).is_empty());
    }
    assert_eq!(bench.echo.tally().malformed, 43);
    assert_eq!(bench.ask(&stamp(0, None, 0)).len(), 1);
}

#[test]
fn two_reflectors_set_on_each_other_die_down() {
    let mut bench = Bench::honest();
    let mut packet = bench.ask_as(stranger(1), &stamp(3, None, 0)).remove(0);
    let mut answered = 0;
    for _ in 0..10_000 {
        // Ten thousand times round in a second, each time with other stamps.
        bench.now = bench.now + Duration::from_micros(100);
        if let Some(reply) = bench.ask_as(stranger(2), &packet).pop() {
            packet = reply;
            answered += 1;
        }
    }
    assert_eq!((answered, bench.echo.tally().looping), (20, 9_980));
}

#[test]
fn what_lies_where_zeros_belong_is_ignored() {
    let mut bench = Bench::honest();
    let mut probe = stamp(3, None, 0);
    probe[16..].fill(0xA5);
    assert_eq!(reflection(&bench.ask(&probe)[0]).probe.seq, 3);
}

#[test]
fn stamp_with_a_key_takes_what_the_key_vouches_for_and_nothing_else() {
    let key = Key::new(b"secret");
    let mut bench = Bench::by(Rules {
        impairment: Impairment::none(1),
        key: Some(key.clone()),
        own: Vec::new(),
        public: false,
        remaining: None,
    });
    let reply = bench.ask(&stamp(5, Some(&key), 0)).remove(0);
    assert_eq!(Reflection::read(&reply, Some(&key)).expect("sealed").probe.seq, 5);
    let other = Key::new(b"other");
    for packet in [stamp(6, Some(&other), 0), stamp(6, None, LONG)] {
        assert!(bench.ask(&packet).is_empty());
    }
    assert_eq!(bench.echo.tally().unauthentic, 2);
    let mut keyless = Bench::honest();
    assert!(keyless.ask(&stamp(5, Some(&key), 0)).is_empty());
}

#[test]
fn the_reflector_counts_its_own_and_stamps_both_ways() {
    let mut bench = Bench::new(Impairment { delay: Duration::from_millis(20), ..Impairment::none(1) });
    assert!(bench.ask(&stamp(100, None, 60)).is_empty());
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
    let mut bench = Bench::honest();
    bench.ask(&stamp(4, None, 0));
    bench.ask(&stamp(4, None, 0));
    assert_eq!(bench.echo.tally().repeated, 1);
}

#[test]
fn a_loss_on_the_way_out_is_counted_by_the_reflector() {
    let mut bench = Bench::new(Impairment {
        loss: "list:1".parse::<Loss>().expect("a model"),
        direction: "out".parse().expect("a direction"),
        ..Impairment::none(1)
    });
    assert!(bench.ask(&stamp(0, None, 0)).is_empty());
    assert_eq!(reflection(&bench.ask(&stamp(1, None, 0))[0]).seq, 1);
    assert_eq!(bench.echo.tally().lost_out, 1);
}
