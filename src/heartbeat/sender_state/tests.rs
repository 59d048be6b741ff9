//! Tests of [`SenderState`], beat by beat.

mod identity;

use super::{ReceivedBeat, SenderState};
use crate::heartbeat::event::{RejectReason, SenderStatus, WatcherEvent};
use crate::heartbeat::watcher_config::WatcherConfig;
use crate::protocol::DatagramActions;
use crate::time::Moment;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

const START: Moment = Moment::new(Duration::from_secs(1_000), Duration::from_secs(1_764_000_000));
const SECOND: Duration = Duration::from_secs(1);

fn config() -> WatcherConfig {
    WatcherConfig::strict(START)
}

fn local_peer() -> SocketAddr {
    SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 5_000)
}

fn remote_peer() -> SocketAddr {
    SocketAddr::new(Ipv4Addr::new(192, 0, 2, 1).into(), 5_000)
}

struct Fixture {
    sender: SenderState,
    config: WatcherConfig,
    actions: DatagramActions<WatcherEvent>,
}

impl Fixture {
    fn new(config: WatcherConfig) -> Self {
        Self { sender: SenderState::new("web".into(), false, START), config, actions: DatagramActions::new(true) }
    }

    fn beat(second: f64, incarnation: u64, seq: u64) -> ReceivedBeat {
        let after = Duration::from_secs_f64(second);
        ReceivedBeat {
            peer: local_peer(),
            received_at: START + after,
            incarnation,
            seq,
            sent_at: START.wall() + after,
            advertised_timing: Some((SECOND, 3)),
            is_bye: false,
            exit_code: None,
        }
    }

    fn receive(&mut self, beat: &ReceivedBeat) -> Result<(), RejectReason> {
        self.sender.on_beat(beat, &self.config, &mut self.actions)
    }

    /// Delivers a beat of incarnation 1.
    fn receive_at(&mut self, second: f64, seq: u64) {
        self.receive(&Self::beat(second, 1, seq)).expect("accepted");
    }

    /// Runs all timers until `second` and returns each new state with its time.
    fn run_until(&mut self, second: f64) -> Vec<(f64, SenderStatus)> {
        let end = START + Duration::from_secs_f64(second);
        let mut seen = Vec::new();
        while let Some(due) = self.sender.next_deadline(&self.config).filter(|due| *due <= end) {
            let before = self.sender.liveness;
            if self.sender.on_timeout(due, &self.config, &mut self.actions) {
                break;
            }
            if self.sender.liveness != before {
                seen.push(((due - START).as_secs_f64(), self.sender.liveness));
            }
        }
        seen
    }

    fn events(&mut self) -> Vec<WatcherEvent> {
        self.actions.events().filter(|event| !matches!(event, WatcherEvent::Beat { .. })).collect()
    }

    fn state_changes(&mut self) -> Vec<(SenderStatus, SenderStatus)> {
        let state = |event: WatcherEvent| {
            if let WatcherEvent::State { from, to, .. } = event { Some((from, to)) } else { None }
        };
        self.events().into_iter().filter_map(state).collect()
    }
}

#[test]
fn a_sender_goes_up_late_down_and_up_again() {
    let mut bench = Fixture::new(config());
    bench.receive_at(0.0, 1);
    bench.receive_at(1.0, 2);
    assert_eq!(bench.run_until(10.0), [(2.5, SenderStatus::Late), (4.0, SenderStatus::Down)]);
    bench.receive_at(11.0, 12);
    let events = bench.events();
    assert!(
        matches!(events[..], [
        WatcherEvent::State { from: SenderStatus::New, to: SenderStatus::Up, .. },
        WatcherEvent::State { from: SenderStatus::Up, to: SenderStatus::Late, .. },
        WatcherEvent::State { from: SenderStatus::Late, to: SenderStatus::Down, silent: Some(silent), .. },
        WatcherEvent::Lost { first_seq: 3, count: 9, .. },
        WatcherEvent::State { from: SenderStatus::Down, to: SenderStatus::Up, before, .. },
    ] if silent == 3 * SECOND && before == 7 * SECOND),
        "{events:?}"
    );
}

#[test]
fn a_punctual_sender_never_changes_its_state() {
    let mut bench = Fixture::new(config());
    for second in 0..1_000_u32 {
        bench.receive_at(second.into(), (second + 1).into());
        assert_eq!(bench.run_until(f64::from(second) + 0.999), []);
    }
    assert_eq!(bench.state_changes(), [(SenderStatus::New, SenderStatus::Up)]);
}

#[test]
fn one_lost_beat_makes_a_sender_late_and_not_down() {
    let mut bench = Fixture::new(config());
    bench.receive_at(0.0, 1);
    assert_eq!(bench.run_until(1.9), [(1.5, SenderStatus::Late)]);
    bench.receive_at(2.0, 3);
    assert_eq!(bench.sender.liveness, SenderStatus::Up);
    assert_eq!(bench.sender.loss.counts().lost, 1);
}

#[test]
fn duplicates_and_late_beats_do_not_extend_the_deadline() {
    let mut bench = Fixture::new(config());
    bench.receive_at(0.0, 1);
    bench.receive_at(1.0, 3);
    bench.receive_at(3.9, 3);
    bench.receive_at(3.9, 2);
    assert_eq!(bench.run_until(5.0), [(2.5, SenderStatus::Late), (4.0, SenderStatus::Down)]);
    assert!(bench.events().iter().any(|event| matches!(event, WatcherEvent::Late { seq: 2, .. })));
}

#[test]
fn rise_and_fall_require_several_beats_or_missed_deadlines() {
    let mut config = config();
    (config.failure_detector.rise, config.failure_detector.fall) = (3, 2);
    let mut bench = Fixture::new(config);
    for second in 0..3_u32 {
        assert_eq!(bench.sender.liveness, SenderStatus::New);
        bench.receive_at(second.into(), (second + 1).into());
    }
    assert_eq!(bench.sender.liveness, SenderStatus::Up);
    assert_eq!(bench.run_until(20.0), [(3.5, SenderStatus::Late), (8.0, SenderStatus::Down)]);
    bench.receive_at(21.0, 22);
    assert_eq!(bench.run_until(28.0), []);
    bench.receive_at(28.0, 29);
    bench.receive_at(29.0, 30);
    assert_eq!(bench.sender.liveness, SenderStatus::Up);
}

#[test]
fn stop_messages_stop_the_sender_once_and_reveal_losses_at_the_end() {
    let mut bench = Fixture::new(config());
    bench.receive_at(0.0, 1);
    for second in [1.0, 1.02, 1.04] {
        let bye = ReceivedBeat { is_bye: true, exit_code: Some(7), ..Fixture::beat(second, 1, 4) };
        bench.receive(&bye).expect("accepted");
    }
    let events = bench.events();
    assert!(
        matches!(
            events[1..],
            [
                WatcherEvent::Lost { first_seq: 2, count: 3, .. },
                WatcherEvent::State { from: SenderStatus::Up, to: SenderStatus::Stopped, exit: Some(7), .. },
            ]
        ),
        "{events:?}"
    );
    assert_eq!(bench.run_until(3_000.0), [], "the sender is not down");
}

#[test]
fn a_new_incarnation_on_the_same_host_is_a_restart_and_not_a_loss() {
    let mut bench = Fixture::new(config());
    bench.receive_at(0.0, 1_000_000);
    bench.events();
    bench.receive(&Fixture::beat(1.0, 2, 1)).expect("accepted");
    assert!(matches!(bench.events()[..], [WatcherEvent::Restarted { .. }]));
    bench.receive(&Fixture::beat(1.2, 1, 1_000_001)).expect_err("in flight at the restart");
    bench.receive(&Fixture::beat(2.0, 2, 2)).expect("accepted");
    let counts = bench.sender.loss.counts();
    assert_eq!((counts.beats, counts.lost, bench.sender.restarts), (3, 0, 1));
}

#[test]
fn beats_lost_right_after_a_restart_are_lost() {
    let mut bench = Fixture::new(config());
    bench.receive_at(0.0, 5);
    bench.receive(&Fixture::beat(3.0, 2, 3)).expect("accepted");
    assert_eq!(bench.sender.loss.counts().lost, 2);
    assert!(bench.events().iter().any(|event| matches!(event, WatcherEvent::Lost { first_seq: 1, count: 2, .. })));
}

#[test]
fn two_hosts_with_one_name_are_a_conflict_and_the_first_is_kept() {
    let mut bench = Fixture::new(config());
    let conflicting = |second: f64, seq| ReceivedBeat { peer: remote_peer(), ..Fixture::beat(second, 2, seq) };
    bench.receive_at(0.0, 1);
    for second in 1..50_u32 {
        bench.receive_at(second.into(), (second + 1).into());
        assert_eq!(bench.receive(&conflicting(f64::from(second) + 0.5, second.into())), Err(RejectReason::Conflict));
    }
    let conflicts = bench.events().iter().filter(|event| matches!(event, WatcherEvent::Conflict { .. })).count();
    assert_eq!((conflicts, bench.sender.loss.counts().lost), (1, 0), "reported once a minute");
    // The first sender falls silent, and the other one is accepted.
    bench.run_until(55.0);
    bench.receive(&conflicting(55.0, 60)).expect("the only one left");
    assert_eq!(bench.sender.liveness, SenderStatus::Up);
}

#[test]
fn two_incarnations_on_one_host_are_a_conflict_too() {
    let mut bench = Fixture::new(config());
    bench.receive_at(0.0, 1);
    bench.receive(&Fixture::beat(0.5, 2, 1)).expect("looks like a restart");
    bench.receive(&Fixture::beat(1.5, 2, 2)).expect("accepted");
    assert_eq!(bench.receive(&Fixture::beat(2.1, 1, 3)), Err(RejectReason::Conflict));
    bench.receive(&Fixture::beat(2.5, 2, 3)).expect("accepted");
    assert_eq!(bench.sender.restarts, 1);
}

#[test]
fn a_suspended_watcher_reports_no_sender_down() {
    let mut bench = Fixture::new(config());
    bench.receive_at(0.0, 1);
    let (gap, now) = (Duration::from_secs(10), START + Duration::from_secs(11));
    bench.sender.exclude_pause(gap, now);
    assert_eq!(bench.run_until(11.4), []);
    assert_eq!(bench.run_until(20.0), [(11.5, SenderStatus::Late), (13.0, SenderStatus::Down)]);
}

#[test]
fn an_expected_sender_without_any_beat_is_down_and_kept() {
    let mut bench = Fixture::new(config());
    bench.sender.is_expected = true;
    assert_eq!(bench.run_until(100_000.0), [(10.0, SenderStatus::Down)]);
    assert!(matches!(
        bench.events()[..],
        [WatcherEvent::State { from: SenderStatus::New, to: SenderStatus::Down, peer: None, silent: None, .. }]
    ));
}

#[test]
fn an_unexpected_sender_is_eventually_forgotten() {
    let mut bench = Fixture::new(config());
    bench.receive_at(0.0, 1);
    bench.run_until(100_000.0);
    let end = START + Duration::from_secs(3 + 3_600);
    assert!(bench.sender.on_timeout(end, &bench.config, &mut bench.actions));
}

#[test]
fn a_flapping_sender_is_reported_once() {
    let mut bench = Fixture::new(WatcherConfig { flap_half_life: 60 * SECOND, ..config() });
    for round in 0..10_u32 {
        bench.receive_at(f64::from(round) * 8.0, (round * 8 + 1).into());
        bench.run_until(f64::from(round) * 8.0 + 7.0);
    }
    let events = bench.events();
    let downs =
        events.iter().filter(|event| matches!(event, WatcherEvent::State { to: SenderStatus::Down, .. })).count();
    let flaps = events.iter().filter(|event| matches!(event, WatcherEvent::Flapping { flapping: true, .. })).count();
    assert_eq!((downs, flaps), (3, 1), "{events:?}");
    bench.receive_at(100.0, 200);
    for second in 101..500_u32 {
        bench.run_until(second.into());
        bench.receive_at(second.into(), (second + 100).into());
    }
    let events = bench.events();
    let reported: Vec<_> = events.iter().filter(|event| !matches!(event, WatcherEvent::Lost { .. })).collect();
    assert!(
        matches!(
            reported[..],
            [
                WatcherEvent::Flapping { flapping: false, .. },
                WatcherEvent::State { from: SenderStatus::Down, to: SenderStatus::Up, .. },
            ]
        ),
        "{reported:?}"
    );
}

#[test]
fn a_textbook_sender_is_monitored_by_its_measured_interval() {
    let mut bench = Fixture::new(config());
    let beat = |second: f64, seq| ReceivedBeat { advertised_timing: None, ..Fixture::beat(second, 0, seq) };
    bench.receive(&beat(0.0, 1)).expect("accepted");
    assert_eq!(bench.run_until(9.9), []);
    for second in 1..10_u32 {
        bench.receive(&beat(f64::from(second) * 2.0, (second + 1).into())).expect("accepted");
    }
    assert_eq!(bench.run_until(60.0), [(21.0, SenderStatus::Late), (24.0, SenderStatus::Down)]);
    // A restart: a lower number with a later time.
    bench.receive(&beat(61.0, 1)).expect("accepted");
    assert_eq!(
        (bench.sender.restarts, bench.sender.loss.counts().lost, bench.sender.liveness),
        (1, 0, SenderStatus::Up)
    );
}

#[test]
fn a_clock_an_hour_off_changes_nothing_but_the_delay() {
    let mut bench = Fixture::new(config());
    for second in 0..10_u32 {
        let sent = START.wall().saturating_sub(3_600 * SECOND) + SECOND * second;
        bench
            .receive(&ReceivedBeat { sent_at: sent, ..Fixture::beat(second.into(), 1, (second + 1).into()) })
            .expect("accepted");
    }
    assert_eq!(bench.state_changes(), [(SenderStatus::New, SenderStatus::Up)]);
    assert_eq!(bench.sender.arrivals.delays.last(), Some(Duration::ZERO));
}

#[test]
fn the_state_of_a_sender_fits_into_768_bytes() {
    assert!(size_of::<SenderState>() <= 768, "{}", size_of::<SenderState>());
}
