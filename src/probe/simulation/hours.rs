//! Hours of pinging, and what must hold of each.

use std::time::Duration;

use super::{SERVER, START, Simulation};
use crate::impair::{DecisionKind, Distribution, Impairment, Jitter, LossModel, Probability, SeededRandom};
use crate::mac::MacKey;
use crate::probe::{EchoConfig, PingStatistics, ProbeEncoding, Sender, SenderConfig, SenderEvent};
use crate::protocol::{Datagram, DatagramActions, DatagramProtocol, TransmitError};

fn probability(text: &str) -> Probability {
    text.parse().expect("a probability")
}

/// A day at sea.
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

fn every_second_for_an_hour() -> SenderConfig {
    SenderConfig { count: Some(3_600), ..SenderConfig::textbook() }
}

#[track_caller]
fn assert_sums(report: &PingStatistics, events: &[SenderEvent]) {
    let parts = [report.received, report.late, report.lost, report.refused, report.send_errors, report.waiting];
    assert_eq!(parts.iter().sum::<u64>(), report.sent);
    let count = |wanted: fn(&SenderEvent) -> bool| events.iter().filter(|fact| wanted(fact)).count() as u64;
    assert_eq!(count(|fact| matches!(fact, SenderEvent::Sent { .. })), report.sent);
    assert_eq!(count(|fact| matches!(fact, SenderEvent::Reply { .. })), report.received);
    assert_eq!(count(|fact| matches!(fact, SenderEvent::Late { .. })), report.late);
    assert_eq!(count(|fact| matches!(fact, SenderEvent::Lost { .. })), report.lost + report.late);
    assert_eq!(count(|fact| matches!(fact, SenderEvent::Duplicate { .. })), report.duplicates);
    assert_eq!(count(|fact| matches!(fact, SenderEvent::Corrupt { .. })), report.corrupt);
    assert_eq!(count(|fact| matches!(fact, SenderEvent::Foreign { .. })), report.foreign);
}

#[test]
fn an_hour_on_a_lossy_network_adds_up_in_every_encoding() {
    let wires = [
        ProbeEncoding::Text { size: 64 },
        ProbeEncoding::FixedMessage { message: b"ping".to_vec() },
        ProbeEncoding::Stamp { ssid: 7, size: 0, key: None },
    ];
    for (seed, wire) in wires.into_iter().enumerate() {
        let world = Simulation::new(every_second_for_an_hour(), wire, unimpaired(), &lossy_network(seed as u64));
        let (report, facts, _) = world.run();
        assert_sums(&report, &facts);
        assert_eq!(report.sent, 3_600);
        let bad = [report.lost, report.late];
        assert!(bad.iter().all(|count| (50..1_500).contains(count)), "{report:?}");
        assert!(report.corrupt + report.foreign > 0);
    }
}

#[test]
fn dense_probes_on_a_lossy_network_are_reordered_and_duplicated() {
    let pace = SenderConfig { interval: Duration::from_millis(20), ..every_second_for_an_hour() };
    let (report, facts, _) = Simulation::new(pace, ProbeEncoding::TEXTBOOK, unimpaired(), &lossy_network(9)).run();
    assert_sums(&report, &facts);
    assert!(report.reordered > 100 && report.duplicates > 50, "{report:?}");
    assert!(facts.iter().all(|fact| !matches!(fact, SenderEvent::ClockGap { .. })));
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
        let pace = SenderConfig { count: Some(1_000), ..SenderConfig::textbook() };
        let (report, facts, _) =
            Simulation::new(pace, ProbeEncoding::TEXTBOOK, echo_config(impairment), &quiet_network()).run();
        let lost: Vec<u64> = facts
            .iter()
            .filter_map(|fact| if let SenderEvent::Lost { seq } = fact { Some(*seq) } else { None })
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
    let wire = ProbeEncoding::Stamp { ssid: 1, size: 0, key: None };
    let world = Simulation::new(every_second_for_an_hour(), wire, echo_config(impairment), &quiet_network());
    let (report, _, echo) = world.run();
    let ways = report.ways.expect("stamp");
    assert!(ways.lost_somewhere <= 3);
    assert!(echo.counters().lost_in.abs_diff(ways.lost_up) <= ways.lost_somewhere);
    assert!(echo.counters().lost_out.abs_diff(ways.lost_down) <= ways.lost_somewhere);
    assert_eq!(ways.lost_up + ways.lost_down + ways.lost_somewhere, report.lost);
}

#[test]
fn authenticated_stamp_never_accepts_a_corrupt_packet() {
    let key = MacKey::new(b"a secret of both");
    let wire = ProbeEncoding::Stamp { ssid: 1, size: 150, key: Some(key.clone()) };
    let weather = Impairment { corrupt: probability("20%"), ..quiet_network() };
    let rules = EchoConfig { key: Some(key), ..unimpaired() };
    let (report, facts, echo) = Simulation::new(every_second_for_an_hour(), wire, rules, &weather).run();
    assert_sums(&report, &facts);
    // What is damaged beyond the sealed part is padding, and comes through.
    assert!(echo.counters().unauthentic > 300 && report.foreign > 200, "{report:?}");
    assert_eq!(report.corrupt, 0);
    assert_eq!(report.lost, echo.counters().unauthentic + report.foreign);
}

#[test]
fn echo_and_sender_survive_any_bytes() {
    let dice = SeededRandom::new(4, 1);
    let wires = [ProbeEncoding::TEXTBOOK, ProbeEncoding::Stamp { ssid: 0, size: 0, key: None }];
    for wire in wires {
        let mut sender = Sender::new(SenderConfig::textbook(), wire, SERVER, START);
        let mut post = DatagramActions::new(true);
        sender.woken(START, &mut post);
        let (_, probe) = post.transmits().next().expect("the first probe");
        let probe = probe.to_vec();
        for number in 0..20_000 {
            // A damaged copy of the real answer gets further than noise would.
            let mut bytes = probe.clone();
            let throw = dice.draw(DecisionKind::CORRUPT_BIT, number);
            let at = usize::try_from(throw % bytes.len() as u64).expect("small");
            bytes[at] = throw.to_le_bytes()[7];
            bytes.truncate(usize::try_from(throw >> 32 & 63).expect("small"));
            let datagram = Datagram::timestamped(SERVER, START, &bytes);
            sender.received(&datagram, START, &mut post);
            let error = &std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
            let failure = TransmitError::Unreachable { socket: 0, error, bytes: &bytes };
            if number > 19_990 {
                sender.failed(&failure, START, &mut post);
            }
        }
        let report = sender.statistics();
        assert_eq!(report.sent, 1);
        assert!(report.corrupt + report.foreign + report.duplicates >= 19_999);
    }
}
