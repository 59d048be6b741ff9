//! Tests of the identity check: which beats are accepted.

use super::{Fixture, SECOND, START, config, local_peer, remote_peer};
use crate::heartbeat::event::{RejectReason, SenderStatus, WatcherEvent};
use crate::heartbeat::sender_state::ReceivedBeat;
use crate::heartbeat::watcher_config::WatcherConfig;
use crate::mac::MacKey;
use std::time::Duration;

#[test]
fn a_new_address_of_the_same_incarnation_is_a_move_once_the_old_one_is_silent() {
    let mut bench = Fixture::new(config());
    bench.receive_at(0.0, 1);
    bench.events();
    let moved = |second, seq| ReceivedBeat { peer: remote_peer(), ..Fixture::beat(second, 1, seq) };
    assert_eq!(bench.receive(&moved(1.0, 2)), Err(RejectReason::Conflict));
    assert_eq!(
        bench.receive(&ReceivedBeat { is_bye: true, ..moved(1.1, 1) }),
        Err(RejectReason::Conflict),
        "a forged stop message"
    );
    bench.receive(&moved(2.0, 3)).expect("accepted");
    assert!(matches!(
        bench.events()[..],
        [WatcherEvent::Conflict { .. }, WatcherEvent::Lost { .. }, WatcherEvent::Moved { from, to, .. }] if from == local_peer() && to == remote_peer()
    ));
    let mut bench = Fixture::new(WatcherConfig { key: Some(MacKey::new(b"sesame")), ..config() });
    bench.receive_at(0.0, 1);
    bench.receive(&moved(1.0, 2)).expect("authenticated");
}

#[test]
fn an_outlier_number_does_not_block_later_beats() {
    let mut bench = Fixture::new(config());
    (1..=5_u32).for_each(|second| bench.receive_at(second.into(), second.into()));
    for far in [5_000, u64::MAX] {
        assert_eq!(bench.receive(&Fixture::beat(5.1, 1, far)), Err(RejectReason::Stray));
    }
    let forged = ReceivedBeat { is_bye: true, ..Fixture::beat(5.2, 1, u64::MAX) };
    assert_eq!(bench.receive(&forged), Err(RejectReason::Stray));
    (6..=9_u32).for_each(|second| bench.receive_at(second.into(), second.into()));
    let counts = *bench.sender.loss.counts();
    assert_eq!((bench.sender.liveness, counts.beats, counts.lost, counts.too_late), (SenderStatus::Up, 9, 0, 0));
}

#[test]
fn numbers_that_start_over_are_a_restart_once_confirmed() {
    for (first, next) in [(5_000, 5_001), (1, 2)] {
        let mut bench = Fixture::new(config());
        bench.receive_at(0.0, 1_000);
        bench.receive_at(1.0, 1_001);
        assert_eq!(bench.receive(&Fixture::beat(2.0, 1, first)), Err(RejectReason::Stray));
        bench.receive(&Fixture::beat(3.0, 1, next)).expect("confirmed");
        assert_eq!(
            (bench.sender.restarts, bench.sender.loss.counts().lost, bench.sender.liveness),
            (1, 0, SenderStatus::Up)
        );
    }
}

#[test]
fn a_long_silence_explains_a_long_gap() {
    let mut bench = Fixture::new(config());
    bench.receive_at(0.0, 1);
    bench.run_until(2_000.0);
    bench.receive_at(2_000.0, 2_001);
    assert_eq!((bench.sender.liveness, bench.sender.loss.counts().lost), (SenderStatus::Up, 1_999));
}

#[test]
fn a_cron_job_whose_interval_or_clock_changed_is_up_again() {
    let mut bench = Fixture::new(config());
    for (second, seq) in [(0.0, 1_000), (1.0, 1_001)] {
        bench.receive(&Fixture::beat(second, 0, seq)).expect("accepted");
    }
    bench.run_until(5.0);
    // Twice the interval halves the sequence number.
    bench.receive(&Fixture::beat(5.0, 0, 503)).expect("accepted");
    assert_eq!((bench.sender.liveness, bench.sender.restarts), (SenderStatus::Up, 1));
    bench.run_until(9.0);
    bench.receive(&Fixture::beat(9.0, 0, 503)).expect("the clock was set back");
    assert_eq!((bench.sender.liveness, bench.sender.restarts), (SenderStatus::Up, 2));
}

#[test]
fn with_a_key_an_older_incarnation_does_not_bring_a_sender_up() {
    let mut bench = Fixture::new(WatcherConfig { key: Some(MacKey::new(b"sesame")), ..config() });
    let old = [1, 2, 3_u32].map(|seq| Fixture::beat(f64::from(seq) - 1.0, 1, seq.into()));
    old.iter().for_each(|beat| bench.receive(beat).expect("accepted"));
    bench.run_until(10.0);
    bench.receive(&Fixture::beat(10.0, 2, 1)).expect("restarted");
    bench.run_until(20.0);
    for beat in old {
        let replay = ReceivedBeat { received_at: START + 21 * SECOND, peer: remote_peer(), ..beat };
        assert_eq!(bench.receive(&replay), Err(RejectReason::Replayed));
    }
    assert_eq!(bench.sender.liveness, SenderStatus::Down);
}

#[test]
fn with_a_key_no_packet_is_accepted_twice() {
    let mut bench = Fixture::new(WatcherConfig { key: Some(MacKey::new(b"sesame")), ..config() });
    let old = Fixture::beat(0.0, 1, 1);
    bench.receive(&old).expect("accepted");
    bench.receive(&Fixture::beat(1.0, 2, 1)).expect("restarted");
    bench.receive(&Fixture::beat(2.0, 2, 2)).expect("accepted");
    bench.run_until(10.0);
    assert_eq!(bench.sender.liveness, SenderStatus::Down);
    let replay =
        |beat: ReceivedBeat, second: u64| ReceivedBeat { received_at: START + Duration::from_secs(second), ..beat };
    for (beat, second) in
        [(Fixture::beat(1.0, 2, 1), 11), (Fixture::beat(2.0, 2, 2), 12), (Fixture::beat(0.5, 9, 1), 13)]
    {
        assert_eq!(bench.receive(&replay(beat, second)), Err(RejectReason::Replayed), "{beat:?}");
    }
    assert_eq!(bench.sender.liveness, SenderStatus::Down);
}
