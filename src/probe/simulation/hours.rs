//! Simulated hours of pinging, with the invariants of each run.

use std::time::Duration;

use super::{SERVER, START, Simulation};
use crate::impair::{DecisionKind, Distribution, Impairment, Jitter, LossModel, Probability, SeededRandom};
use crate::mac::MacKey;
use crate::probe::{EchoConfig, PingClient, PingConfig, PingEvent, PingStatistics, ProbeEncoding};
use crate::protocol::{Datagram, DatagramActions, DatagramProtocol, TransmitError};

fn probability(text: &str) -> Probability {
    text.parse().expect("a probability")
}

fn lossy_network(seed: u64) -> Impairment {
    Impairment {
        loss: "ge:3%,30%".parse().expect("a model"),
        corrupt: probability("1%"),
        duplicate: probability("2%"),
        delay: Duration::from_millis(400),
        jitter: Jitter { spread: Duration::from_millis(100), distribution: Distribution::Pareto },
        reorder: probability("5%"),
        ..Impairment::none(seed)
    }
}

fn quiet_network() -> Impairment {
    Impairment { delay: Duration::from_millis(1), ..Impairment::none(1) }
}

fn unimpaired() -> EchoConfig {
    echo_config(Impairment::none(1))
}

fn echo_config(impairment: Impairment) -> EchoConfig {
    EchoConfig { impairment, key: None, own_addresses: vec![SERVER], is_public: false, remaining: None }
}

fn every_second_for_an_hour() -> PingConfig {
    PingConfig { count: Some(3_600), ..PingConfig::textbook() }
}

#[track_caller]
fn assert_sums(report: &PingStatistics, events: &[PingEvent]) {
    let parts = [report.received, report.late, report.lost, report.refused, report.send_errors, report.waiting];
    assert_eq!(parts.iter().sum::<u64>(), report.sent);
    let count = |matches: fn(&PingEvent) -> bool| events.iter().filter(|event| matches(event)).count() as u64;
    assert_eq!(count(|event| matches!(event, PingEvent::Sent { .. })), report.sent);
    assert_eq!(count(|event| matches!(event, PingEvent::Reply { .. })), report.received);
    assert_eq!(count(|event| matches!(event, PingEvent::Late { .. })), report.late);
    assert_eq!(count(|event| matches!(event, PingEvent::Lost { .. })), report.lost + report.late);
    assert_eq!(count(|event| matches!(event, PingEvent::Duplicate { .. })), report.duplicates);
    assert_eq!(count(|event| matches!(event, PingEvent::Corrupt { .. })), report.corrupt);
    assert_eq!(count(|event| matches!(event, PingEvent::Foreign { .. })), report.foreign);
}

#[test]
fn an_hour_on_a_lossy_network_adds_up_in_every_encoding() {
    let encodings = [
        ProbeEncoding::Text { size: 64 },
        ProbeEncoding::FixedMessage { message: b"ping".to_vec() },
        ProbeEncoding::Stamp { ssid: 7, size: 0, key: None },
    ];
    for (seed, encoding) in encodings.into_iter().enumerate() {
        let network = lossy_network(seed as u64);
        let (report, events, _) = Simulation::new(every_second_for_an_hour(), encoding, unimpaired(), &network).run();
        assert_sums(&report, &events);
        assert_eq!(report.sent, 3_600);
        let failures = [report.lost, report.late];
        assert!(failures.iter().all(|count| (50..1_500).contains(count)), "{report:?}");
        assert!(report.corrupt + report.foreign > 0);
    }
}

#[test]
fn dense_probes_on_a_lossy_network_are_reordered_and_duplicated() {
    let config = PingConfig { interval: Duration::from_millis(20), ..every_second_for_an_hour() };
    let (report, events, _) = Simulation::new(config, ProbeEncoding::TEXTBOOK, unimpaired(), &lossy_network(9)).run();
    assert_sums(&report, &events);
    assert!(report.reordered > 100 && report.duplicates > 50, "{report:?}");
    assert!(events.iter().all(|event| !matches!(event, PingEvent::ClockGap { .. })));
}

#[test]
fn the_same_seed_makes_the_same_hour() {
    let hour =
        || Simulation::new(every_second_for_an_hour(), ProbeEncoding::TEXTBOOK, unimpaired(), &lossy_network(5)).run();
    assert_eq!(hour().1, hour().1);
}

#[test]
fn the_lost_probes_are_those_of_the_plan() {
    for loss in ["4/11", "ge:5%,40%,10%,99%", "nth:7", "list:1,2,500", "0"] {
        let impairment = Impairment {
            loss: loss.parse::<LossModel>().expect("a model"),
            jitter: Jitter { spread: Duration::from_millis(30), distribution: Distribution::Normal },
            ..Impairment::none(2026)
        };
        let plan: Vec<u64> = impairment
            .plan(1, 1_000)
            .filter(|planned| planned.dropped.is_some())
            .map(|planned| planned.number)
            .collect();
        let config = PingConfig { count: Some(1_000), ..PingConfig::textbook() };
        let (report, events, _) =
            Simulation::new(config, ProbeEncoding::TEXTBOOK, echo_config(impairment), &quiet_network()).run();
        let lost: Vec<u64> = events
            .iter()
            .filter_map(|event| if let PingEvent::Lost { seq } = event { Some(*seq) } else { None })
            .collect();
        assert_eq!(lost, plan, "{loss}");
        assert_eq!(report.lost, plan.len() as u64);
    }
}

#[test]
fn stamp_shows_in_which_direction_a_probe_was_lost() {
    let impairment = Impairment {
        loss: "10%".parse().expect("a model"),
        direction: "both".parse().expect("a direction"),
        ..Impairment::none(8)
    };
    let encoding = ProbeEncoding::Stamp { ssid: 1, size: 0, key: None };
    let simulation = Simulation::new(every_second_for_an_hour(), encoding, echo_config(impairment), &quiet_network());
    let (report, _, echo) = simulation.run();
    let ways = report.ways.expect("stamp");
    assert!(ways.lost_somewhere <= 3);
    assert!(echo.counters().lost_in.abs_diff(ways.lost_up) <= ways.lost_somewhere);
    assert!(echo.counters().lost_out.abs_diff(ways.lost_down) <= ways.lost_somewhere);
    assert_eq!(ways.lost_up + ways.lost_down + ways.lost_somewhere, report.lost);
}

#[test]
fn authenticated_stamp_never_accepts_a_corrupt_packet() {
    let key = MacKey::new(b"a shared secret");
    let encoding = ProbeEncoding::Stamp { ssid: 1, size: 150, key: Some(key.clone()) };
    let network = Impairment { corrupt: probability("20%"), ..quiet_network() };
    let config = EchoConfig { key: Some(key), ..unimpaired() };
    let (report, events, echo) = Simulation::new(every_second_for_an_hour(), encoding, config, &network).run();
    assert_sums(&report, &events);
    // Corrupt padding, which the HMAC does not cover, is not detected.
    assert!(echo.counters().unauthentic > 300 && report.foreign > 200, "{report:?}");
    assert_eq!(report.corrupt, 0);
    assert_eq!(report.lost, echo.counters().unauthentic + report.foreign);
}

#[test]
fn echo_and_sender_survive_any_bytes() {
    let random = SeededRandom::new(4, 1);
    let encodings = [ProbeEncoding::TEXTBOOK, ProbeEncoding::Stamp { ssid: 0, size: 0, key: None }];
    for encoding in encodings {
        let mut sender = PingClient::new(PingConfig::textbook(), encoding, SERVER, START);
        let mut actions = DatagramActions::new(true);
        sender.woken(START, &mut actions);
        let (_, probe) = actions.transmits().next().expect("the first probe");
        let probe = probe.to_vec();
        for number in 0..20_000 {
            // A corrupted copy of a real reply is parsed further than noise would be.
            let mut bytes = probe.clone();
            let draw = random.draw(DecisionKind::CORRUPT_BIT, number);
            let at = usize::try_from(draw % bytes.len() as u64).expect("small");
            bytes[at] = draw.to_le_bytes()[7];
            bytes.truncate(usize::try_from(draw >> 32 & 63).expect("small"));
            let datagram = Datagram::timestamped(SERVER, START, &bytes);
            sender.received(&datagram, START, &mut actions);
            let error = &std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
            let failure = TransmitError::Unreachable { socket: 0, error, bytes: &bytes };
            if number > 19_990 {
                sender.failed(&failure, START, &mut actions);
            }
        }
        let report = sender.statistics();
        assert_eq!(report.sent, 1);
        assert!(report.corrupt + report.foreign + report.duplicates >= 19_999);
    }
}
