//! A client over the loop.

use super::{
    Callback, RecordingProtocol, StopWhen, TEST_TIMEOUT, await_kernel_timestamps, client_endpoint, plain_socket,
    run_until, with_echo_server,
};
use crate::net::bind::BindAddress;
use crate::net::clock::now;
use crate::net::datagram::{DatagramTimeouts, StopReason, run_client};
use crate::net::signals::Signals;
use crate::probe::{ProbeEncoding, RttClocks, Sender, SenderConfig};
use crate::protocol::Transmit;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

/// An address that nobody listens on: the port is ours on another one.
fn closed_port() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = socket.local_addr().expect("bound").port();
    (socket, SocketAddr::new(Ipv4Addr::new(127, 0, 0, 2).into(), port))
}

#[test]
fn every_round_trip_has_the_kernels_stamps_of_both_ends() {
    await_kernel_timestamps();
    with_echo_server(BindAddress::Loopback(0), 1, |bound| {
        for peer in bound {
            let pace = SenderConfig { count: Some(100), ..SenderConfig::textbook() }.stop_and_wait();
            let sender = run_until(
                client_endpoint(Sender::new(pace, ProbeEncoding::TEXTBOOK, *peer, now()), *peer),
                Sender::is_finished,
            );
            let report = sender.statistics();
            assert_eq!((report.sent, report.received, report.clock), (100, 100, Some(RttClocks::Kernel)), "{peer}");
        }
    });
}

#[test]
fn a_closed_port_is_told_at_once_with_the_payload() {
    let (_port, peer) = closed_port();
    let tape =
        run_until(client_endpoint(RecordingProtocol::sending([&b"hello"[..]]), peer), |tape| tape.callbacks.len() >= 3);
    assert_eq!(tape.callbacks[..2], [Callback::Woken, Callback::Transmitted(1)]);
    assert_eq!(tape.callbacks[2], Callback::Unreachable(0, "port unreachable".into(), b"hello".into()));
}

#[test]
fn probes_to_a_closed_port_are_all_refused_and_none_is_lost() {
    let (_port, peer) = closed_port();
    let pace = SenderConfig { count: Some(200), ..SenderConfig::textbook() };
    for pace in [pace.stop_and_wait(), pace.flood(64)] {
        let sender =
            run_until(client_endpoint(Sender::new(pace, ProbeEncoding::TEXTBOOK, peer, now()), peer), |sender| {
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
    let (receiver, _) = closed_port();
    let peer = receiver.local_addr().expect("bound");
    let large = vec![b'x'; 65_508];
    let tape = RecordingProtocol::sending([b"one", &large[..], b"two", b"three"]);
    let tape = run_until(client_endpoint(tape, peer), |tape| {
        tape.count(|heard| matches!(heard, Callback::Transmitted(_))) >= 2
    });
    assert!(tape.callbacks.contains(&Callback::NotSent(2, "message too long".into())));
    // Which stamps come after the failure depends on when the count began anew; none is wrong.
    assert!(tape.callbacks.contains(&Callback::Transmitted(3)) && tape.callbacks.contains(&Callback::Transmitted(4)));
    assert!(!tape.callbacks.contains(&Callback::Transmitted(2)));
    let mut octets = [0; 8];
    for expected in [&b"one"[..], b"two", b"three"] {
        let length = receiver.recv(&mut octets).expect("sent");
        assert_eq!(octets[..length], *expected);
    }
}

#[test]
fn a_further_socket_has_a_port_of_its_own_until_it_is_retired() {
    let (receiver, _) = closed_port();
    let peer = receiver.local_addr().expect("bound");
    let first = (1..=40).map(|number| (Transmit::connected(number, number), b"ping".to_vec())).collect();
    let tape = RecordingProtocol { to_send: first, next_wake: Some(now()), ..RecordingProtocol::default() };
    let mut side = client_endpoint(tape, peer);
    let mut signals = Signals::install().expect("a pipe");
    let patience = DatagramTimeouts { deadline: Some(now() + TEST_TIMEOUT), ..DatagramTimeouts::default() };
    let mut carry = |side: &mut _, enough: fn(&RecordingProtocol) -> bool| {
        run_client(std::slice::from_mut(side), patience, &mut signals, &mut StopWhen(enough))
    };
    carry(&mut side, |tape| tape.count(|heard| matches!(heard, Callback::Transmitted(_))) == 40);
    let mut ports = Vec::new();
    for _ in 0..40 {
        let (_, from) = receiver.recv_from(&mut [0; 8]).expect("sent");
        receiver.send_to(b"pong", from).expect("sent");
        ports.push(from.port());
    }
    carry(&mut side, |tape| tape.datagram_count() == 40);
    let mut numbers: Vec<_> = side.protocol().datagrams.iter().map(|seen| seen.socket).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=40).collect::<Vec<_>>());
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 40);
    let tape = side.protocol_mut();
    (tape.to_retire, tape.next_wake) = ((0..40).collect(), Some(now()));
    tape.callbacks.clear();
    carry(&mut side, |tape| tape.callbacks.contains(&Callback::Woken));
    assert_eq!(side.sockets.iter().map(|port| port.id).collect::<Vec<_>>(), [0, 40]);
}

#[test]
fn an_answer_that_lies_in_the_socket_is_seen_before_a_timer_that_is_due() {
    await_kernel_timestamps();
    for _ in 0..50 {
        let (receiver, _) = closed_port();
        let mut side = client_endpoint(RecordingProtocol::default(), receiver.local_addr().expect("bound"));
        let client = side.sockets[0].local_address();
        for _ in 0..3 {
            receiver.send_to(b"answer", client).expect("sent");
        }
        side.protocol_mut().next_wake = Some(now());
        let tape = run_until(side, |tape| tape.callbacks.contains(&Callback::Woken));
        assert_eq!((tape.callbacks.len(), &tape.callbacks[3]), (4, &Callback::Woken));
        assert!(
            tape.datagrams
                .iter()
                .all(|seen| seen.has_kernel_timestamp && seen.received_at <= seen.read_at && seen.ttl == Some(64))
        );
    }
}

#[test]
fn a_timer_is_never_early_and_a_deadline_ends() {
    for spin in [false, true] {
        let (receiver, _) = closed_port();
        let due = now() + Duration::from_millis(5);
        let side = client_endpoint(
            RecordingProtocol { next_wake: Some(due), ..RecordingProtocol::default() },
            receiver.local_addr().expect("bound"),
        );
        let mut sides = [side];
        let mut signals = Signals::install().expect("a pipe");
        let patience = DatagramTimeouts { deadline: Some(now() + TEST_TIMEOUT), spin, ..DatagramTimeouts::default() };
        run_client(
            &mut sides,
            patience,
            &mut signals,
            &mut StopWhen(|tape: &RecordingProtocol| !tape.callbacks.is_empty()),
        );
        assert!(now() >= due);
        let patience = DatagramTimeouts { deadline: Some(now()), spin, ..DatagramTimeouts::default() };
        assert_eq!(
            run_client(&mut sides, patience, &mut signals, &mut StopWhen(|_: &RecordingProtocol| false)),
            StopReason::Deadline
        );
    }
}

#[test]
fn a_nudge_ends_and_sigquit_only_asks() {
    use rustix::process::{Signal as Kind, getpid, kill_process};
    // Only SIGQUIT is sent: every other test of this process would hear the others as well.
    struct CountStatusRequests(u32, crate::net::signals::Waker);
    impl super::DatagramObserver<RecordingProtocol> for CountStatusRequests {
        fn on_event(&mut self, _: usize, (): ()) {}
        fn on_turn(
            &mut self,
            _: &mut [super::Endpoint<RecordingProtocol>],
            _: crate::time::Moment,
        ) -> std::ops::ControlFlow<()> {
            std::ops::ControlFlow::Continue(())
        }
        fn on_status_request(&mut self, _: &mut [super::Endpoint<RecordingProtocol>], _: crate::time::Moment) {
            self.0 += 1;
            self.1.wake();
        }
    }
    let (receiver, _) = closed_port();
    let mut sides = [client_endpoint(RecordingProtocol::default(), receiver.local_addr().expect("bound"))];
    let mut signals = Signals::install().and_then(Signals::with_sigquit).expect("a pipe");
    let mut watch = CountStatusRequests(0, signals.waker().expect("a copy"));
    watch.1.wake();
    assert_eq!(run_client(&mut sides, DatagramTimeouts::default(), &mut signals, &mut watch), StopReason::Waker);
    kill_process(getpid(), Kind::QUIT).expect("it is ours");
    let ended = run_client(&mut sides, DatagramTimeouts::default(), &mut signals, &mut watch);
    assert_eq!((ended, watch.0), (StopReason::Waker, 1));
}

#[test]
fn more_targets_than_a_few_share_one_loop() {
    struct StopWhenAllDone;
    impl super::DatagramObserver<RecordingProtocol> for StopWhenAllDone {
        fn on_event(&mut self, _: usize, (): ()) {}
        fn on_turn(
            &mut self,
            sides: &mut [super::Endpoint<RecordingProtocol>],
            _: crate::time::Moment,
        ) -> std::ops::ControlFlow<()> {
            // Each is refused: the receiver is connected to somebody else.
            let done = sides.iter().all(|side| side.protocol().callbacks.len() == 3);
            if done { std::ops::ControlFlow::Break(()) } else { std::ops::ControlFlow::Continue(()) }
        }
        fn on_status_request(&mut self, _: &mut [super::Endpoint<RecordingProtocol>], _: crate::time::Moment) {}
    }
    let receiver = plain_socket(closed_port().1);
    let peer = receiver.local_addr().expect("bound");
    let mut sides: Vec<_> = (0..40).map(|_| client_endpoint(RecordingProtocol::sending([&b"hi"[..]]), peer)).collect();
    let mut signals = Signals::install().expect("a pipe");
    let patience = DatagramTimeouts { deadline: Some(now() + TEST_TIMEOUT), ..DatagramTimeouts::default() };
    assert_eq!(run_client(&mut sides, patience, &mut signals, &mut StopWhenAllDone), StopReason::Observer);
}
