//! Hours of pinging, and what must hold of each.

use std::time::Duration;

use super::{SERVER, START, World};
use crate::conversation::{Datagram, DatagramActions, DatagramProtocol, TransmitError};
use crate::impair::{Chance, Dice, Impairment, Jitter, Kind, Loss, Spread};
use crate::probe::{Fact, Pace, Report, Rules, Sender, Wire};
use crate::seal::Key;

fn chance(text: &str) -> Chance {
    text.parse().expect("a probability")
}

/// A day at sea.
fn storm(seed: u64) -> Impairment {
    Impairment {
        loss: "ge:3%,30%".parse().expect("a model"),
        corrupt: chance("1%"),
        duplicate: chance("2%"),
        delay: Duration::from_millis(400),
        jitter: Jitter { spread: Duration::from_millis(100), shape: Spread::Pareto },
        reorder: chance("5%"),
        ..Impairment::none(seed)
    }
}

fn calm() -> Impairment {
    Impairment { delay: Duration::from_millis(1), ..Impairment::none(1) }
}

fn honest() -> Rules {
    rules(Impairment::none(1))
}

fn rules(impairment: Impairment) -> Rules {
    Rules { impairment, key: None, own: vec![SERVER], public: false, remaining: None }
}

fn every_second_for_an_hour() -> Pace {
    Pace { count: Some(3_600), ..Pace::textbook() }
}

#[track_caller]
fn assert_sums(report: &Report, facts: &[Fact]) {
    let parts = [report.received, report.late, report.lost, report.refused, report.send_errors, report.waiting];
    assert_eq!(parts.iter().sum::<u64>(), report.sent);
    let count = |wanted: fn(&Fact) -> bool| facts.iter().filter(|fact| wanted(fact)).count() as u64;
    assert_eq!(count(|fact| matches!(fact, Fact::Sent { .. })), report.sent);
    assert_eq!(count(|fact| matches!(fact, Fact::Reply { .. })), report.received);
    assert_eq!(count(|fact| matches!(fact, Fact::Late { .. })), report.late);
    assert_eq!(count(|fact| matches!(fact, Fact::Lost { .. })), report.lost + report.late);
    assert_eq!(count(|fact| matches!(fact, Fact::Duplicate { .. })), report.duplicates);
    assert_eq!(count(|fact| matches!(fact, Fact::Corrupt { .. })), report.corrupt);
    assert_eq!(count(|fact| matches!(fact, Fact::Foreign { .. })), report.foreign);
}

#[test]
fn an_hour_in_a_storm_adds_up_in_every_encoding() {
    let wires = [
        Wire::Text { size: 64 },
        Wire::Bare { message: b"ping".to_vec() },
        Wire::Stamp { ssid: 7, size: 0, key: None },
    ];
    for (seed, wire) in wires.into_iter().enumerate() {
        let world = World::new(every_second_for_an_hour(), wire, honest(), &storm(seed as u64));
        let (report, facts, _) = world.run();
        assert_sums(&report, &facts);
        assert_eq!(report.sent, 3_600);
        let bad = [report.lost, report.late];
        assert!(bad.iter().all(|count| (50..1_500).contains(count)), "{report:?}");
        assert!(report.corrupt + report.foreign > 0);
    }
}

#[test]
fn dense_probes_in_a_storm_are_reordered_and_doubled() {
    let pace = Pace { interval: Duration::from_millis(20), ..every_second_for_an_hour() };
    let (report, facts, _) = World::new(pace, Wire::TEXTBOOK, honest(), &storm(9)).run();
    assert_sums(&report, &facts);
    assert!(report.reordered > 100 && report.duplicates > 50, "{report:?}");
    assert!(facts.iter().all(|fact| !matches!(fact, Fact::ClockGap { .. })));
}

#[test]
fn the_same_seed_makes_the_same_hour() {
    let hour = || World::new(every_second_for_an_hour(), Wire::TEXTBOOK, honest(), &storm(5)).run();
    assert_eq!(hour().1, hour().1);
}

#[test]
fn the_lost_probes_are_those_of_the_plan() {
    for loss in ["4/11", "ge:5%,40%,10%,99%", "nth:7", "list:1,2,500", "0"] {
        let impairment = Impairment {
            loss: loss.parse::<Loss>().expect("a model"),
            jitter: Jitter { spread: Duration::from_millis(30), shape: Spread::Normal },
            ..Impairment::none(2026)
        };
        let plan: Vec<u64> = impairment
            .plan(1, 1_000)
            .filter(|planned| planned.dropped.is_some())
            .map(|planned| planned.number)
            .collect();
        let pace = Pace { count: Some(1_000), ..Pace::textbook() };
        let (report, facts, _) = World::new(pace, Wire::TEXTBOOK, rules(impairment), &calm()).run();
        let lost: Vec<u64> =
            facts.iter().filter_map(|fact| if let Fact::Lost { seq } = fact { Some(*seq) } else { None }).collect();
        assert_eq!(lost, plan, "{loss}");
        assert_eq!(report.lost, plan.len() as u64);
    }
}

#[test]
fn stamp_tells_which_way_a_probe_was_lost() {
    let impairment = Impairment {
        loss: "10%".parse().expect("a model"),
        direction: "both".parse().expect("a direction"),
        ..Impairment::none(8)
    };
    let wire = Wire::Stamp { ssid: 1, size: 0, key: None };
    let world = World::new(every_second_for_an_hour(), wire, rules(impairment), &calm());
    let (report, _, echo) = world.run();
    let ways = report.ways.expect("stamp");
    assert!(ways.lost_somewhere <= 3);
    assert!(echo.tally().lost_in.abs_diff(ways.lost_up) <= ways.lost_somewhere);
    assert!(echo.tally().lost_out.abs_diff(ways.lost_down) <= ways.lost_somewhere);
    assert_eq!(ways.lost_up + ways.lost_down + ways.lost_somewhere, report.lost);
}

#[test]
fn sealed_stamp_never_takes_a_damaged_packet() {
    let key = Key::new(b"a secret of both");
    let wire = Wire::Stamp { ssid: 1, size: 150, key: Some(key.clone()) };
    let weather = Impairment { corrupt: chance("20%"), ..calm() };
    let rules = Rules { key: Some(key), ..honest() };
    let (report, facts, echo) = World::new(every_second_for_an_hour(), wire, rules, &weather).run();
    assert_sums(&report, &facts);
    // What is damaged beyond the sealed part is padding, and comes through.
    assert!(echo.tally().unauthentic > 300 && report.foreign > 200, "{report:?}");
    assert_eq!(report.corrupt, 0);
    assert_eq!(report.lost, echo.tally().unauthentic + report.foreign);
}

#[test]
fn an_echo_and_a_pinger_survive_any_octets() {
    let dice = Dice::new(4, 1);
    let wires = [Wire::TEXTBOOK, Wire::Stamp { ssid: 0, size: 0, key: None }];
    for wire in wires {
        let mut sender = Sender::new(Pace::textbook(), wire, SERVER, START);
        let mut post = DatagramActions::new(true);
        sender.woken(START, &mut post);
        let (_, probe) = post.transmits().next().expect("the first probe");
        let probe = probe.to_vec();
        for number in 0..20_000 {
            // A damaged copy of the real answer gets further than noise would.
            let mut bytes = probe.clone();
            let throw = dice.throw(Kind::DAMAGE, number);
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
        let report = sender.report();
        assert_eq!(report.sent, 1);
        assert!(report.corrupt + report.foreign + report.duplicates >= 19_999);
    }
}
