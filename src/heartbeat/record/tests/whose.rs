//! Which beats are believed.

use super::{Bench, SECOND, START, elsewhere, here, rules};
use crate::heartbeat::fact::{Fact, Refusal, State};
use crate::heartbeat::record::Heard;
use crate::heartbeat::rules::Rules;
use crate::seal::MacKey;
use std::time::Duration;

#[test]
fn a_new_address_of_the_same_run_is_a_move_once_the_old_one_is_silent() {
    let mut bench = Bench::new(rules());
    bench.at(0.0, 1);
    bench.facts();
    let moved = |second, seq| Heard { peer: elsewhere(), ..Bench::beat(second, 1, seq) };
    assert_eq!(bench.hear(&moved(1.0, 2)), Err(Refusal::Conflict));
    assert_eq!(bench.hear(&Heard { is_bye: true, ..moved(1.1, 1) }), Err(Refusal::Conflict), "a forged goodbye");
    bench.hear(&moved(2.0, 3)).expect("taken");
    assert!(matches!(
        bench.facts()[..],
        [Fact::Conflict { .. }, Fact::Lost { .. }, Fact::Moved { from, to, .. }] if from == here() && to == elsewhere()
    ));
    let mut bench = Bench::new(Rules { key: Some(MacKey::new(b"sesame")), ..rules() });
    bench.at(0.0, 1);
    bench.hear(&moved(1.0, 2)).expect("vouched for");
}

#[test]
fn a_number_from_nowhere_makes_nobody_deaf() {
    let mut bench = Bench::new(rules());
    (1..=5_u32).for_each(|second| bench.at(second.into(), second.into()));
    for far in [5_000, u64::MAX] {
        assert_eq!(bench.hear(&Bench::beat(5.1, 1, far)), Err(Refusal::Stray));
    }
    let forged = Heard { is_bye: true, ..Bench::beat(5.2, 1, u64::MAX) };
    assert_eq!(bench.hear(&forged), Err(Refusal::Stray));
    (6..=9_u32).for_each(|second| bench.at(second.into(), second.into()));
    let counts = *bench.record.gaps.counts();
    assert_eq!((bench.record.state, counts.beats, counts.lost, counts.too_late), (State::Up, 9, 0, 0));
}

#[test]
fn numbers_that_begin_anew_are_a_restart_once_they_go_on() {
    for (first, next) in [(5_000, 5_001), (1, 2)] {
        let mut bench = Bench::new(rules());
        bench.at(0.0, 1_000);
        bench.at(1.0, 1_001);
        assert_eq!(bench.hear(&Bench::beat(2.0, 1, first)), Err(Refusal::Stray));
        bench.hear(&Bench::beat(3.0, 1, next)).expect("they go on");
        assert_eq!((bench.record.restarts, bench.record.gaps.counts().lost, bench.record.state), (1, 0, State::Up));
    }
}

#[test]
fn a_long_silence_explains_a_long_gap() {
    let mut bench = Bench::new(rules());
    bench.at(0.0, 1);
    bench.until(2_000.0);
    bench.at(2_000.0, 2_001);
    assert_eq!((bench.record.state, bench.record.gaps.counts().lost), (State::Up, 1_999));
}

#[test]
fn a_job_of_cron_whose_interval_or_clock_was_set_is_up_again() {
    let mut bench = Bench::new(rules());
    for (second, seq) in [(0.0, 1_000), (1.0, 1_001)] {
        bench.hear(&Bench::beat(second, 0, seq)).expect("taken");
    }
    bench.until(5.0);
    // Twice the interval is half the number.
    bench.hear(&Bench::beat(5.0, 0, 503)).expect("taken");
    assert_eq!((bench.record.state, bench.record.restarts), (State::Up, 1));
    bench.until(9.0);
    bench.hear(&Bench::beat(9.0, 0, 503)).expect("the clock was set back");
    assert_eq!((bench.record.state, bench.record.restarts), (State::Up, 2));
}

#[test]
fn under_a_key_an_older_run_revives_nobody() {
    let mut bench = Bench::new(Rules { key: Some(MacKey::new(b"sesame")), ..rules() });
    let old = [1, 2, 3_u32].map(|seq| Bench::beat(f64::from(seq) - 1.0, 1, seq.into()));
    old.iter().for_each(|heard| bench.hear(heard).expect("taken"));
    bench.until(10.0);
    bench.hear(&Bench::beat(10.0, 2, 1)).expect("restarted");
    bench.until(20.0);
    for heard in old {
        let again = Heard { at: START + 21 * SECOND, peer: elsewhere(), ..heard };
        assert_eq!(bench.hear(&again), Err(Refusal::Replayed));
    }
    assert_eq!(bench.record.state, State::Down);
}

#[test]
fn under_a_key_nothing_is_heard_twice() {
    let mut bench = Bench::new(Rules { key: Some(MacKey::new(b"sesame")), ..rules() });
    let old = Bench::beat(0.0, 1, 1);
    bench.hear(&old).expect("taken");
    bench.hear(&Bench::beat(1.0, 2, 1)).expect("restarted");
    bench.hear(&Bench::beat(2.0, 2, 2)).expect("taken");
    bench.until(10.0);
    assert_eq!(bench.record.state, State::Down);
    let again = |heard: Heard, second: u64| Heard { at: START + Duration::from_secs(second), ..heard };
    for (heard, second) in [(Bench::beat(1.0, 2, 1), 11), (Bench::beat(2.0, 2, 2), 12), (Bench::beat(0.5, 9, 1), 13)] {
        assert_eq!(bench.hear(&again(heard, second)), Err(Refusal::Replayed), "{heard:?}");
    }
    assert_eq!(bench.record.state, State::Down);
}
