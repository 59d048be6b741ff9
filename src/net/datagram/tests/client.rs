//! Tests of a client endpoint.

use super::{
    Callback, RecordingProtocol, StopWhen, TEST_TIMEOUT, await_kernel_timestamps, client_endpoint, plain_socket,
    run_until, with_echo_server,
};
use crate::net::bind_address::BindAddress;
use crate::net::clock::now;
use crate::net::datagram::{DatagramTimeouts, StopReason, run_client};
use crate::net::signals::Signals;
use crate::probe::{PingClient, PingConfig, ProbeEncoding, RttClocks};
use crate::protocol::Transmit;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

/// Returns an address without a listener: its port is reserved on another address.
fn closed_port() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = socket.local_addr().expect("bound").port();
    (socket, SocketAddr::new(Ipv4Addr::new(127, 0, 0, 2).into(), port))
}

#[test]
fn every_round_trip_has_kernel_timestamps_for_sending_and_receiving() {
    await_kernel_timestamps();
    with_echo_server(BindAddress::Loopback(0), 1, |bound| {
        for peer in bound {
            let config = PingConfig { count: Some(100), ..PingConfig::textbook() }.stop_and_wait();
            let sender = run_until(
                client_endpoint(PingClient::new(config, ProbeEncoding::TEXTBOOK, *peer, now()), *peer),
                PingClient::is_finished,
            );
            let report = sender.statistics();
            assert_eq!((report.sent, report.received, report.clock), (100, 100, Some(RttClocks::Kernel)), "{peer}");
        }
    });
}

#[test]
fn a_closed_port_is_reported_at_once_with_the_payload() {
    let (_port, peer) = closed_port();
    let protocol = run_until(client_endpoint(RecordingProtocol::sending([&b"hello"[..]]), peer), |protocol| {
        protocol.callbacks.len() >= 3
    });
    assert_eq!(protocol.callbacks[..2], [Callback::Woken, Callback::Transmitted(1)]);
    assert_eq!(protocol.callbacks[2], Callback::Unreachable(0, "port unreachable".into(), b"hello".into()));
}

#[test]
fn probes_to_a_closed_port_are_all_refused_and_none_is_lost() {
    let (_port, peer) = closed_port();
    let config = PingConfig { count: Some(200), ..PingConfig::textbook() };
    for config in [config.stop_and_wait(), config.flood(64)] {
        let sender =
            run_until(client_endpoint(PingClient::new(config, ProbeEncoding::TEXTBOOK, peer, now()), peer), |sender| {
                let report = sender.statistics();
                // The kernel limits ICMP errors to a few per second and destination, but not on loopback.
                report.refused + report.lost == 200
            });
        let report = sender.statistics();
        assert_eq!((report.refused, report.send_errors, report.lost), (200, 0, 0));
    }
}

#[test]
fn a_datagram_the_system_rejects_does_not_delay_the_others() {
    let (receiver, _) = closed_port();
    let peer = receiver.local_addr().expect("bound");
    let large = vec![b'x'; 65_508];
    let protocol = RecordingProtocol::sending([b"one", &large[..], b"two", b"three"]);
    let protocol = run_until(client_endpoint(protocol, peer), |protocol| {
        protocol.count(|callback| matches!(callback, Callback::Transmitted(_))) >= 2
    });
    assert!(protocol.callbacks.contains(&Callback::NotSent(2, "message too long".into())));
    // A failed send restarts the numbering of send timestamps; later ones must still belong to the right ticket.
    assert!(
        protocol.callbacks.contains(&Callback::Transmitted(3))
            && protocol.callbacks.contains(&Callback::Transmitted(4))
    );
    assert!(!protocol.callbacks.contains(&Callback::Transmitted(2)));
    let mut buffer = [0; 8];
    for expected in [&b"one"[..], b"two", b"three"] {
        let length = receiver.recv(&mut buffer).expect("sent");
        assert_eq!(buffer[..length], *expected);
    }
}

#[test]
fn a_further_socket_has_a_port_of_its_own_until_it_is_retired() {
    let (receiver, _) = closed_port();
    let peer = receiver.local_addr().expect("bound");
    let to_send = (1..=40).map(|number| (Transmit::connected(number, number), b"ping".to_vec())).collect();
    let protocol = RecordingProtocol { to_send, next_wake: Some(now()), ..RecordingProtocol::default() };
    let mut endpoint = client_endpoint(protocol, peer);
    let mut signals = Signals::install().expect("a pipe");
    let timeouts = DatagramTimeouts { deadline: Some(now() + TEST_TIMEOUT), ..DatagramTimeouts::default() };
    let mut run = |endpoint: &mut _, is_done: fn(&RecordingProtocol) -> bool| {
        run_client(std::slice::from_mut(endpoint), timeouts, &mut signals, &mut StopWhen(is_done))
    };
    run(&mut endpoint, |protocol| protocol.count(|callback| matches!(callback, Callback::Transmitted(_))) == 40);
    let mut ports = Vec::new();
    for _ in 0..40 {
        let (_, from) = receiver.recv_from(&mut [0; 8]).expect("sent");
        receiver.send_to(b"pong", from).expect("sent");
        ports.push(from.port());
    }
    run(&mut endpoint, |protocol| protocol.datagram_count() == 40);
    let mut sockets: Vec<_> = endpoint.protocol().datagrams.iter().map(|seen| seen.socket).collect();
    sockets.sort_unstable();
    assert_eq!(sockets, (1..=40).collect::<Vec<_>>());
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 40);
    let protocol = endpoint.protocol_mut();
    (protocol.to_retire, protocol.next_wake) = ((0..40).collect(), Some(now()));
    protocol.callbacks.clear();
    run(&mut endpoint, |protocol| protocol.callbacks.contains(&Callback::Woken));
    assert_eq!(endpoint.sockets.iter().map(|socket| socket.id).collect::<Vec<_>>(), [0, 40]);
}

#[test]
fn a_reply_in_the_socket_is_seen_before_a_timer_that_is_due() {
    await_kernel_timestamps();
    for _ in 0..50 {
        let (receiver, _) = closed_port();
        let mut endpoint = client_endpoint(RecordingProtocol::default(), receiver.local_addr().expect("bound"));
        let client = endpoint.sockets[0].local_address();
        for _ in 0..3 {
            receiver.send_to(b"reply!", client).expect("sent");
        }
        endpoint.protocol_mut().next_wake = Some(now());
        let protocol = run_until(endpoint, |protocol| protocol.callbacks.contains(&Callback::Woken));
        assert_eq!((protocol.callbacks.len(), &protocol.callbacks[3]), (4, &Callback::Woken));
        assert!(
            protocol
                .datagrams
                .iter()
                .all(|seen| seen.has_kernel_timestamp && seen.received_at <= seen.read_at && seen.ttl == Some(64))
        );
    }
}

#[test]
fn a_timer_never_fires_early_and_the_deadline_ends_the_loop() {
    let (receiver, _) = closed_port();
    let due = now() + Duration::from_millis(5);
    let endpoint = client_endpoint(
        RecordingProtocol { next_wake: Some(due), ..RecordingProtocol::default() },
        receiver.local_addr().expect("bound"),
    );
    let mut endpoints = [endpoint];
    let mut signals = Signals::install().expect("a pipe");
    let timeouts = DatagramTimeouts { deadline: Some(now() + TEST_TIMEOUT), ..DatagramTimeouts::default() };
    run_client(
        &mut endpoints,
        timeouts,
        &mut signals,
        &mut StopWhen(|protocol: &RecordingProtocol| !protocol.callbacks.is_empty()),
    );
    assert!(now() >= due);
    let timeouts = DatagramTimeouts { deadline: Some(now()), ..DatagramTimeouts::default() };
    assert_eq!(
        run_client(&mut endpoints, timeouts, &mut signals, &mut StopWhen(|_: &RecordingProtocol| false)),
        StopReason::Deadline
    );
}

#[test]
fn a_waker_ends_the_loop_and_sigquit_asks_for_a_status() {
    use rustix::process::{Signal as Kind, getpid, kill_process};
    // Only SIGQUIT is sent: the other signals would reach every other test of this process.
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
    let mut endpoints = [client_endpoint(RecordingProtocol::default(), receiver.local_addr().expect("bound"))];
    let mut signals = Signals::install().and_then(Signals::with_sigquit).expect("a pipe");
    let mut observer = CountStatusRequests(0, signals.waker().expect("a copy"));
    observer.1.wake();
    assert_eq!(run_client(&mut endpoints, DatagramTimeouts::default(), &mut signals, &mut observer), StopReason::Waker);
    kill_process(getpid(), Kind::QUIT).expect("it is ours");
    let ended = run_client(&mut endpoints, DatagramTimeouts::default(), &mut signals, &mut observer);
    assert_eq!((ended, observer.0), (StopReason::Waker, 1));
}

#[test]
fn many_endpoints_share_one_loop() {
    struct StopWhenAllDone;
    impl super::DatagramObserver<RecordingProtocol> for StopWhenAllDone {
        fn on_event(&mut self, _: usize, (): ()) {}
        fn on_turn(
            &mut self,
            endpoints: &mut [super::Endpoint<RecordingProtocol>],
            _: crate::time::Moment,
        ) -> std::ops::ControlFlow<()> {
            // Each gets an ICMP error: the receiver is connected to another address.
            let done = endpoints.iter().all(|endpoint| endpoint.protocol().callbacks.len() == 3);
            if done { std::ops::ControlFlow::Break(()) } else { std::ops::ControlFlow::Continue(()) }
        }
        fn on_status_request(&mut self, _: &mut [super::Endpoint<RecordingProtocol>], _: crate::time::Moment) {}
    }
    let receiver = plain_socket(closed_port().1);
    let peer = receiver.local_addr().expect("bound");
    let mut endpoints: Vec<_> =
        (0..40).map(|_| client_endpoint(RecordingProtocol::sending([&b"hi"[..]]), peer)).collect();
    let mut signals = Signals::install().expect("a pipe");
    let timeouts = DatagramTimeouts { deadline: Some(now() + TEST_TIMEOUT), ..DatagramTimeouts::default() };
    assert_eq!(run_client(&mut endpoints, timeouts, &mut signals, &mut StopWhenAllDone), StopReason::Observer);
}
