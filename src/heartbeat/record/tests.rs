//! One sender's life, beat by beat.

mod whose;

use super::{Heard, Record};
use crate::conversation::DatagramActions;
use crate::heartbeat::fact::{Fact, Refusal, State};
use crate::heartbeat::rules::Rules;
use crate::time::Moment;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

const START: Moment = Moment::new(Duration::from_secs(1_000), Duration::from_secs(1_764_000_000));
const SECOND: Duration = Duration::from_secs(1);

fn rules() -> Rules {
    Rules::strict(START)
}

fn here() -> SocketAddr {
    SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 5_000)
}

fn elsewhere() -> SocketAddr {
    SocketAddr::new(Ipv4Addr::new(192, 0, 2, 1).into(), 5_000)
}

struct Bench {
    record: Record,
    rules: Rules,
    post: DatagramActions<Fact>,
}

impl Bench {
    fn new(rules: Rules) -> Self {
        Self { record: Record::new("web".into(), false, START), rules, post: DatagramActions::new(true) }
    }

    fn beat(second: f64, incarnation: u64, seq: u64) -> Heard {
        let after = Duration::from_secs_f64(second);
        Heard {
            peer: here(),
            at: START + after,
            incarnation,
            seq,
            sent: START.wall() + after,
            promise: Some((SECOND, 3)),
            is_bye: false,
            exit: None,
        }
    }

    fn hear(&mut self, heard: &Heard) -> Result<(), Refusal> {
        self.record.hear(heard, &self.rules, &mut self.post)
    }

    /// A beat of run 1.
    fn at(&mut self, second: f64, seq: u64) {
        self.hear(&Self::beat(second, 1, seq)).expect("taken");
    }

    /// Lets time pass, doing what is due on the way, and gives each new state with its time.
    fn until(&mut self, second: f64) -> Vec<(f64, State)> {
        let end = START + Duration::from_secs_f64(second);
        let mut seen = Vec::new();
        while let Some(due) = self.record.due(&self.rules).filter(|due| *due <= end) {
            let before = self.record.state;
            if self.record.wake(due, &self.rules, &mut self.post) {
                break;
            }
            if self.record.state != before {
                seen.push(((due - START).as_secs_f64(), self.record.state));
            }
        }
        seen
    }

    fn facts(&mut self) -> Vec<Fact> {
        self.post.events().filter(|fact| !matches!(fact, Fact::Beat { .. })).collect()
    }

    fn states(&mut self) -> Vec<(State, State)> {
        let state = |fact: Fact| if let Fact::State { from, to, .. } = fact { Some((from, to)) } else { None };
        self.facts().into_iter().filter_map(state).collect()
    }
}

#[test]
fn a_life_is_up_late_down_and_up_again() {
    let mut bench = Bench::new(rules());
    bench.at(0.0, 1);
    bench.at(1.0, 2);
    assert_eq!(bench.until(10.0), [(2.5, State::Late), (4.0, State::Down)]);
    bench.at(11.0, 12);
    let facts = bench.facts();
    assert!(
        matches!(facts[..], [
        Fact::State { from: State::New, to: State::Up, .. },
        Fact::State { from: State::Up, to: State::Late, .. },
        Fact::State { from: State::Late, to: State::Down, silent: Some(silent), .. },
        Fact::Lost { first_seq: 3, count: 9, .. },
        Fact::State { from: State::Down, to: State::Up, before, .. },
    ] if silent == 3 * SECOND && before == 7 * SECOND),
        "{facts:?}"
    );
}

#[test]
fn a_punctual_sender_never_changes_its_state() {
    let mut bench = Bench::new(rules());
    for second in 0..1_000_u32 {
        bench.at(second.into(), (second + 1).into());
        assert_eq!(bench.until(f64::from(second) + 0.999), []);
    }
    assert_eq!(bench.states(), [(State::New, State::Up)]);
}

#[test]
fn one_lost_beat_makes_it_late_and_not_down() {
    let mut bench = Bench::new(rules());
    bench.at(0.0, 1);
    assert_eq!(bench.until(1.9), [(1.5, State::Late)]);
    bench.at(2.0, 3);
    assert_eq!(bench.record.state, State::Up);
    assert_eq!(bench.record.gaps.counts().lost, 1);
}

#[test]
fn copies_and_late_beats_keep_nobody_alive() {
    let mut bench = Bench::new(rules());
    bench.at(0.0, 1);
    bench.at(1.0, 3);
    bench.at(3.9, 3);
    bench.at(3.9, 2);
    assert_eq!(bench.until(5.0), [(2.5, State::Late), (4.0, State::Down)]);
    assert!(bench.facts().iter().any(|fact| matches!(fact, Fact::Late { seq: 2, .. })));
}

#[test]
fn rise_and_fall_want_more_of_it() {
    let mut patient = rules();
    (patient.patience.rise, patient.patience.fall) = (3, 2);
    let mut bench = Bench::new(patient);
    for second in 0..3_u32 {
        assert_eq!(bench.record.state, State::New);
        bench.at(second.into(), (second + 1).into());
    }
    assert_eq!(bench.record.state, State::Up);
    assert_eq!(bench.until(20.0), [(3.5, State::Late), (8.0, State::Down)]);
    bench.at(21.0, 22);
    assert_eq!(bench.until(28.0), []);
    bench.at(28.0, 29);
    bench.at(29.0, 30);
    assert_eq!(bench.record.state, State::Up);
}

#[test]
fn a_goodbye_stops_it_once_and_tells_of_the_tail() {
    let mut bench = Bench::new(rules());
    bench.at(0.0, 1);
    for second in [1.0, 1.02, 1.04] {
        let bye = Heard { is_bye: true, exit: Some(7), ..Bench::beat(second, 1, 4) };
        bench.hear(&bye).expect("taken");
    }
    let facts = bench.facts();
    assert!(
        matches!(
            facts[1..],
            [
                Fact::Lost { first_seq: 2, count: 3, .. },
                Fact::State { from: State::Up, to: State::Stopped, exit: Some(7), .. },
            ]
        ),
        "{facts:?}"
    );
    assert_eq!(bench.until(3_000.0), [], "it is not down");
}

#[test]
fn a_new_run_of_the_same_host_is_a_restart_and_no_loss() {
    let mut bench = Bench::new(rules());
    bench.at(0.0, 1_000_000);
    bench.facts();
    bench.hear(&Bench::beat(1.0, 2, 1)).expect("taken");
    assert!(matches!(bench.facts()[..], [Fact::Restarted { .. }]));
    bench.hear(&Bench::beat(1.2, 1, 1_000_001)).expect_err("what was still on its way");
    bench.hear(&Bench::beat(2.0, 2, 2)).expect("taken");
    let counts = bench.record.gaps.counts();
    assert_eq!((counts.beats, counts.lost, bench.record.restarts), (3, 0, 1));
}

#[test]
fn beats_lost_right_after_a_restart_are_lost() {
    let mut bench = Bench::new(rules());
    bench.at(0.0, 5);
    bench.hear(&Bench::beat(3.0, 2, 3)).expect("taken");
    assert_eq!(bench.record.gaps.counts().lost, 2);
    assert!(bench.facts().iter().any(|fact| matches!(fact, Fact::Lost { first_seq: 1, count: 2, .. })));
}

#[test]
fn two_hosts_of_one_name_are_a_conflict_and_the_first_is_believed() {
    let mut bench = Bench::new(rules());
    let rival = |second: f64, seq| Heard { peer: elsewhere(), ..Bench::beat(second, 2, seq) };
    bench.at(0.0, 1);
    for second in 1..50_u32 {
        bench.at(second.into(), (second + 1).into());
        assert_eq!(bench.hear(&rival(f64::from(second) + 0.5, second.into())), Err(Refusal::Conflict));
    }
    let conflicts = bench.facts().iter().filter(|fact| matches!(fact, Fact::Conflict { .. })).count();
    assert_eq!((conflicts, bench.record.gaps.counts().lost), (1, 0), "told once a minute");
    // The first one falls silent, and the other one is heard.
    bench.until(55.0);
    bench.hear(&rival(55.0, 60)).expect("the only one left");
    assert_eq!(bench.record.state, State::Up);
}

#[test]
fn two_runs_on_one_host_are_a_conflict_too() {
    let mut bench = Bench::new(rules());
    bench.at(0.0, 1);
    bench.hear(&Bench::beat(0.5, 2, 1)).expect("looks like a restart");
    bench.hear(&Bench::beat(1.5, 2, 2)).expect("taken");
    assert_eq!(bench.hear(&Bench::beat(2.1, 1, 3)), Err(Refusal::Conflict));
    bench.hear(&Bench::beat(2.5, 2, 3)).expect("taken");
    assert_eq!(bench.record.restarts, 1);
}

#[test]
fn a_stopped_watcher_takes_nobody_for_dead() {
    let mut bench = Bench::new(rules());
    bench.at(0.0, 1);
    let (gap, now) = (Duration::from_secs(10), START + Duration::from_secs(11));
    bench.record.shift(gap, now);
    assert_eq!(bench.until(11.4), []);
    assert_eq!(bench.until(20.0), [(11.5, State::Late), (13.0, State::Down)]);
}

#[test]
fn somebody_expected_who_never_comes_is_down_and_stays_known() {
    let mut bench = Bench::new(rules());
    bench.record.is_expected = true;
    assert_eq!(bench.until(100_000.0), [(10.0, State::Down)]);
    assert!(matches!(
        bench.facts()[..],
        [Fact::State { from: State::New, to: State::Down, peer: None, silent: None, .. }]
    ));
}

#[test]
fn somebody_unexpected_is_forgotten_in_the_end() {
    let mut bench = Bench::new(rules());
    bench.at(0.0, 1);
    bench.until(100_000.0);
    let end = START + Duration::from_secs(3 + 3_600);
    assert!(bench.record.wake(end, &bench.rules, &mut bench.post));
}

#[test]
fn who_comes_and_goes_is_told_once() {
    let mut bench = Bench::new(Rules { flap_half_life: 60 * SECOND, ..rules() });
    for round in 0..10_u32 {
        bench.at(f64::from(round) * 8.0, (round * 8 + 1).into());
        bench.until(f64::from(round) * 8.0 + 7.0);
    }
    let facts = bench.facts();
    let downs = facts.iter().filter(|fact| matches!(fact, Fact::State { to: State::Down, .. })).count();
    let flaps = facts.iter().filter(|fact| matches!(fact, Fact::Flapping { flapping: true, .. })).count();
    assert_eq!((downs, flaps), (3, 1), "{facts:?}");
    bench.at(100.0, 200);
    for second in 101..500_u32 {
        bench.until(second.into());
        bench.at(second.into(), (second + 100).into());
    }
    let facts = bench.facts();
    let told: Vec<_> = facts.iter().filter(|fact| !matches!(fact, Fact::Lost { .. })).collect();
    assert!(
        matches!(
            told[..],
            [Fact::Flapping { flapping: false, .. }, Fact::State { from: State::Down, to: State::Up, .. },]
        ),
        "{told:?}"
    );
}

#[test]
fn the_textbooks_sender_is_watched_by_its_own_rhythm() {
    let mut bench = Bench::new(rules());
    let beat = |second: f64, seq| Heard { promise: None, ..Bench::beat(second, 0, seq) };
    bench.hear(&beat(0.0, 1)).expect("taken");
    assert_eq!(bench.until(9.9), []);
    for second in 1..10_u32 {
        bench.hear(&beat(f64::from(second) * 2.0, (second + 1).into())).expect("taken");
    }
    assert_eq!(bench.until(60.0), [(21.0, State::Late), (24.0, State::Down)]);
    // Started again: the number falls while the time rises.
    bench.hear(&beat(61.0, 1)).expect("taken");
    assert_eq!((bench.record.restarts, bench.record.gaps.counts().lost, bench.record.state), (1, 0, State::Up));
}

#[test]
fn a_clock_an_hour_off_changes_nothing_but_the_delay() {
    let mut bench = Bench::new(rules());
    for second in 0..10_u32 {
        let sent = START.wall().saturating_sub(3_600 * SECOND) + SECOND * second;
        bench.hear(&Heard { sent, ..Bench::beat(second.into(), 1, (second + 1).into()) }).expect("taken");
    }
    assert_eq!(bench.states(), [(State::New, State::Up)]);
    assert_eq!(bench.record.delays.last(), Some(Duration::ZERO));
}

#[test]
fn a_record_and_all_that_belongs_to_it_fit_into_a_kibibyte() {
    assert!(size_of::<Record>() <= 768, "{}", size_of::<Record>());
}
