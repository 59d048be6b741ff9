//! A client over the loop.

use super::{FOR_EVER, Heard, Tape, Until, begin_stamping, client, plain, run, with_echoes};
use crate::conversation::Transmit;
use crate::net::bind::Bind;
use crate::net::clock::now;
use crate::net::datagram::{Ended, Patience, exchange};
use crate::net::signals::Signals;
use crate::probe::{ProbeEncoding, RttClocks, Sender, SenderConfig};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

/// An address that nobody listens on: the port is ours on another one.
fn nobody() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = socket.local_addr().expect("bound").port();
    (socket, SocketAddr::new(Ipv4Addr::new(127, 0, 0, 2).into(), port))
}

#[test]
fn every_round_trip_has_the_kernels_stamps_of_both_ends() {
    begin_stamping();
    with_echoes(Bind::Loopback(0), 1, |bound| {
        for peer in bound {
            let pace = SenderConfig { count: Some(100), ..SenderConfig::textbook() }.stop_and_wait();
            let sender =
                run(client(Sender::new(pace, ProbeEncoding::TEXTBOOK, *peer, now()), *peer), Sender::is_finished);
            let report = sender.statistics();
            assert_eq!((report.sent, report.received, report.clock), (100, 100, Some(RttClocks::Kernel)), "{peer}");
        }
    });
}

#[test]
fn a_closed_port_is_told_at_once_with_the_payload() {
    let (_port, peer) = nobody();
    let tape = run(client(Tape::sending([&b"hello"[..]]), peer), |tape| tape.heard.len() >= 3);
    assert_eq!(tape.heard[..2], [Heard::Woken, Heard::Left(1)]);
    assert_eq!(tape.heard[2], Heard::Unreachable(0, "port unreachable".into(), b"hello".into()));
}

#[test]
fn probes_to_a_closed_port_are_all_refused_and_none_is_lost() {
    let (_port, peer) = nobody();
    let pace = SenderConfig { count: Some(200), ..SenderConfig::textbook() };
    for pace in [pace.stop_and_wait(), pace.flood(64)] {
        let sender = run(client(Sender::new(pace, ProbeEncoding::TEXTBOOK, peer, now()), peer), |sender| {
            let report = sender.statistics();
            // ICMP is limited to a few a second per destination, but not on loopback.
            report.refused + report.lost == 200
        });
        let report = sender.statistics();
        assert_eq!((report.refused, report.send_errors, report.lost), (200, 0, 0));
    }
}

#[test]
fn what_the_system_will_not_send_does_not_hold_up_the_others() {
    let (receiver, _) = nobody();
    let peer = receiver.local_addr().expect("bound");
    let large = vec![b'x'; 65_508];
    let tape = Tape::sending([b"one", &large[..], b"two", b"three"]);
    let tape = run(client(tape, peer), |tape| tape.count(|heard| matches!(heard, Heard::Left(_))) >= 2);
    assert!(tape.heard.contains(&Heard::NotSent(2, "message too long".into())));
    // Which stamps come after the failure depends on when the count began anew; none is wrong.
    assert!(tape.heard.contains(&Heard::Left(3)) && tape.heard.contains(&Heard::Left(4)));
    assert!(!tape.heard.contains(&Heard::Left(2)));
    let mut octets = [0; 8];
    for expected in [&b"one"[..], b"two", b"three"] {
        let length = receiver.recv(&mut octets).expect("sent");
        assert_eq!(octets[..length], *expected);
    }
}

#[test]
fn a_further_socket_has_a_port_of_its_own_until_it_is_retired() {
    let (receiver, _) = nobody();
    let peer = receiver.local_addr().expect("bound");
    let first = (1..=40).map(|number| (Transmit::connected(number, number), b"ping".to_vec())).collect();
    let tape = Tape { first, wake: Some(now()), ..Tape::default() };
    let mut side = client(tape, peer);
    let mut signals = Signals::listen().expect("a pipe");
    let patience = Patience { until: Some(now() + FOR_EVER), ..Patience::default() };
    let mut carry = |side: &mut _, enough: fn(&Tape) -> bool| {
        exchange(std::slice::from_mut(side), patience, &mut signals, &mut Until(enough))
    };
    carry(&mut side, |tape| tape.count(|heard| matches!(heard, Heard::Left(_))) == 40);
    let mut ports = Vec::new();
    for _ in 0..40 {
        let (_, from) = receiver.recv_from(&mut [0; 8]).expect("sent");
        receiver.send_to(b"pong", from).expect("sent");
        ports.push(from.port());
    }
    carry(&mut side, |tape| tape.datagrams() == 40);
    let mut numbers: Vec<_> = side.exchange().seen.iter().map(|seen| seen.socket).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=40).collect::<Vec<_>>());
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 40);
    let tape = side.exchange_mut();
    (tape.retire, tape.wake) = ((0..40).collect(), Some(now()));
    tape.heard.clear();
    carry(&mut side, |tape| tape.heard.contains(&Heard::Woken));
    assert_eq!(side.ports.iter().map(|port| port.number).collect::<Vec<_>>(), [0, 40]);
}

#[test]
fn an_answer_that_lies_in_the_socket_is_seen_before_a_timer_that_is_due() {
    begin_stamping();
    for _ in 0..50 {
        let (receiver, _) = nobody();
        let mut side = client(Tape::default(), receiver.local_addr().expect("bound"));
        let client = side.ports[0].local_address();
        for _ in 0..3 {
            receiver.send_to(b"answer", client).expect("sent");
        }
        side.exchange_mut().wake = Some(now());
        let tape = run(side, |tape| tape.heard.contains(&Heard::Woken));
        assert_eq!((tape.heard.len(), &tape.heard[3]), (4, &Heard::Woken));
        assert!(tape.seen.iter().all(|seen| seen.stamped && seen.at <= seen.read && seen.ttl == Some(64)));
    }
}

#[test]
fn a_timer_is_never_early_and_a_deadline_ends() {
    for spin in [false, true] {
        let (receiver, _) = nobody();
        let due = now() + Duration::from_millis(5);
        let side = client(Tape { wake: Some(due), ..Tape::default() }, receiver.local_addr().expect("bound"));
        let mut sides = [side];
        let mut signals = Signals::listen().expect("a pipe");
        let patience = Patience { until: Some(now() + FOR_EVER), spin, ..Patience::default() };
        exchange(&mut sides, patience, &mut signals, &mut Until(|tape: &Tape| !tape.heard.is_empty()));
        assert!(now() >= due);
        let patience = Patience { until: Some(now()), spin, ..Patience::default() };
        assert_eq!(exchange(&mut sides, patience, &mut signals, &mut Until(|_: &Tape| false)), Ended::Deadline);
    }
}

#[test]
fn a_nudge_ends_and_sigquit_only_asks() {
    use rustix::process::{Signal as Kind, getpid, kill_process};
    // Only SIGQUIT is sent: every other test of this process would hear the others as well.
    struct Asked(u32, crate::net::signals::Nudge);
    impl super::Watch<Tape> for Asked {
        fn fact(&mut self, _: usize, (): ()) {}
        fn turned(&mut self, _: &mut [super::Side<Tape>], _: crate::time::Moment) -> std::ops::ControlFlow<()> {
            std::ops::ControlFlow::Continue(())
        }
        fn asked(&mut self, _: &mut [super::Side<Tape>], _: crate::time::Moment) {
            self.0 += 1;
            self.1.nudge();
        }
    }
    let (receiver, _) = nobody();
    let mut sides = [client(Tape::default(), receiver.local_addr().expect("bound"))];
    let mut signals = Signals::listen().and_then(Signals::with_quit).expect("a pipe");
    let mut watch = Asked(0, signals.nudger().expect("a copy"));
    watch.1.nudge();
    assert_eq!(exchange(&mut sides, Patience::default(), &mut signals, &mut watch), Ended::Nudged);
    kill_process(getpid(), Kind::QUIT).expect("it is ours");
    let ended = exchange(&mut sides, Patience::default(), &mut signals, &mut watch);
    assert_eq!((ended, watch.0), (Ended::Nudged, 1));
}

#[test]
fn more_targets_than_a_few_share_one_loop() {
    struct All;
    impl super::Watch<Tape> for All {
        fn fact(&mut self, _: usize, (): ()) {}
        fn turned(&mut self, sides: &mut [super::Side<Tape>], _: crate::time::Moment) -> std::ops::ControlFlow<()> {
            // Each is refused: the receiver is connected to somebody else.
            let done = sides.iter().all(|side| side.exchange().heard.len() == 3);
            if done { std::ops::ControlFlow::Break(()) } else { std::ops::ControlFlow::Continue(()) }
        }
        fn asked(&mut self, _: &mut [super::Side<Tape>], _: crate::time::Moment) {}
    }
    let receiver = plain(nobody().1);
    let peer = receiver.local_addr().expect("bound");
    let mut sides: Vec<_> = (0..40).map(|_| client(Tape::sending([&b"hi"[..]]), peer)).collect();
    let mut signals = Signals::listen().expect("a pipe");
    let patience = Patience { until: Some(now() + FOR_EVER), ..Patience::default() };
    assert_eq!(exchange(&mut sides, patience, &mut signals, &mut All), Ended::Enough);
}
