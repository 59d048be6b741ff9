//! Tests of the decisions on arrivals.

use crate::failure::FailureKind;
use std::time::Duration;

use super::{Direction, Impairment};
use crate::impair::{
    BitRate, CopyOutcome, Distribution, DropReason, Jitter, LossModel, MAX_COPIES, PathEffects, Probability, Verdict,
};
use crate::time::Moment;

const SIZE: usize = 64;

fn verdicts(impairment: &Impairment, count: u32) -> Vec<Verdict> {
    let mut path = impairment.path_state(1);
    let start = Moment::new(Duration::ZERO, Duration::ZERO);
    (0..count).map(|i| impairment.decide(&mut path, start + Duration::from_millis(1) * i, SIZE)).collect()
}

fn dropped(impairment: &Impairment, count: u32) -> Vec<u64> {
    let verdicts = verdicts(impairment, count).into_iter();
    verdicts.filter(|verdict| verdict.drop_reason().is_some()).map(|verdict| verdict.ordinal()).collect()
}

fn textbook() -> Impairment {
    Impairment { loss: LossModel::textbook(), ..Impairment::none(42) }
}

fn half() -> Probability {
    Probability::new(1, 2).expect("a probability")
}

/// All impairments at once except the rate, which depends on time.
fn every_impairment() -> Impairment {
    Impairment {
        corrupt: half(),
        duplicate: half(),
        delay: Duration::from_millis(50),
        jitter: Jitter { spread: Duration::from_millis(20), distribution: Distribution::Normal },
        reorder: half(),
        ..textbook()
    }
}

#[test]
fn no_impairment_lets_everything_through_untouched() {
    for verdict in verdicts(&Impairment::none(1), 100) {
        let outcomes: Vec<_> = verdict.copies().collect();
        assert_eq!(outcomes, [CopyOutcome::Delivered(PathEffects::default())]);
    }
}

#[test]
fn nothing_else_changes_which_datagrams_drop() {
    assert_eq!(dropped(&textbook(), 1_000), dropped(&every_impairment(), 1_000));
}

#[test]
fn the_textbook_losses_of_seed_42_never_change() {
    assert_eq!(dropped(&textbook(), 20), PINNED);
}

const PINNED: [u64; 7] = [1, 2, 5, 7, 8, 12, 16];

#[test]
fn each_direction_has_draws_of_its_own() {
    let reason = |direction| {
        let impairment = Impairment { direction, ..textbook() };
        let verdicts = verdicts(&impairment, 400);
        verdicts.iter().map(Verdict::drop_reason).collect::<Vec<_>>()
    };
    let (inbound, outbound, both) = (reason(Direction::In), reason(Direction::Out), reason(Direction::Both));
    assert_ne!(
        inbound.iter().map(Option::is_some).collect::<Vec<_>>(),
        outbound.iter().map(Option::is_some).collect::<Vec<_>>()
    );
    for ((inbound, outbound), both) in inbound.into_iter().zip(outbound).zip(both) {
        assert_eq!(both, inbound.or(outbound));
    }
}

#[test]
fn copies_are_counted_and_never_exceed_their_limit() {
    let impairment = Impairment { duplicate: Probability::ALWAYS, direction: Direction::Both, ..Impairment::none(1) };
    let one_way = Impairment { direction: Direction::Out, ..impairment.clone() };
    assert!(verdicts(&impairment, 10).iter().all(|verdict| verdict.copies().count() == MAX_COPIES));
    assert!(verdicts(&one_way, 10).iter().all(|verdict| verdict.copies().count() == 2));
}

#[test]
fn the_copies_of_a_datagram_have_delays_of_their_own() {
    let impairment = Impairment { direction: Direction::Both, ..every_impairment() };
    let unlike = verdicts(&impairment, 200).into_iter().filter(|verdict| {
        let mut outcomes = verdict.copies();
        let first = outcomes.next();
        outcomes.any(|other| Some(other) != first)
    });
    assert!(unlike.count() > 50);
}

#[test]
fn a_full_queue_is_reported_separately_from_loss() {
    let impairment = Impairment { rate: BitRate::from_bits_per_second(8_000), ..Impairment::none(1) };
    let reasons: Vec<_> = verdicts(&impairment, 3_000).iter().filter_map(Verdict::drop_reason).collect();
    assert!(!reasons.is_empty() && reasons.iter().all(|reason| *reason == DropReason::QueueFull));
}

#[test]
fn corruption_is_one_bit_that_upper_casing_cannot_hide() {
    let impairment = Impairment { corrupt: Probability::ALWAYS, ..Impairment::none(9) };
    for verdict in verdicts(&impairment, 500) {
        for outcome in verdict.copies() {
            let CopyOutcome::Delivered(PathEffects { inbound, .. }) = outcome else { panic!("nothing is lost here") };
            let original = *b"Ping 12 1700000000000";
            let mut damaged = original;
            inbound.bit_flip.expect("always").apply(&mut damaged);
            let bits: u32 = original.iter().zip(damaged).map(|(a, b)| (a ^ b).count_ones()).sum();
            assert_eq!(bits, 1);
            assert!(!original.eq_ignore_ascii_case(&damaged));
            inbound.bit_flip.expect("always").apply(&mut []);
        }
    }
}

#[test]
fn reordering_needs_a_delay() {
    let impairment = Impairment { reorder: half(), ..Impairment::none(1) };
    let error = impairment.validate().expect_err("there is no delay");
    assert_eq!(error.kind(), FailureKind::InvalidValue);
    assert!(Impairment { delay: Duration::from_millis(1), ..impairment }.validate().is_ok());
    assert!(Impairment::none(1).validate().is_ok());
}
