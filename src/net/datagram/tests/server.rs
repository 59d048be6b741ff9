//! A server over the loop.

use super::{
    Callback, RecordingProtocol, await_kernel_timestamps, client_endpoint, plain_socket, run_until, server_endpoint,
    with_echo_server,
};
use crate::impair::Impairment;
use crate::net::bind::BindAddress;
use crate::net::clock::now;
use crate::net::datagram::endpoint::{Buffers, Endpoint};
use crate::net::datagram::recv::BatchBuffer;
use crate::net::datagram::send::SendBuffers;
use crate::net::udp::DatagramSockets;
use crate::probe::{Echo, EchoConfig, ProbeEncoding, RttClocks, Sender, SenderConfig};
use crate::protocol::Transmit;
use rustix::event::PollFlags;
use socket2::Socket;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

#[test]
fn an_answer_leaves_from_the_address_that_was_asked() {
    let tallies = with_echo_server(BindAddress::Wildcard(0), 1, |bound| {
        let port = bound[0].port();
        let v4 = (2..5).map(|host| SocketAddr::new(Ipv4Addr::new(127, 0, 0, host).into(), port));
        let v6 =
            bound.iter().filter(|bound| bound.is_ipv6()).map(|_| SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port));
        for peer in v4.chain(v6) {
            // A connected socket hears nobody but the address it asked.
            let pace = SenderConfig { count: Some(3), ..SenderConfig::textbook() }.stop_and_wait();
            let sender = run_until(
                client_endpoint(Sender::new(pace, ProbeEncoding::TEXTBOOK, peer, now()), peer),
                Sender::is_finished,
            );
            assert_eq!(sender.statistics().received, 3, "{peer}");
        }
    });
    assert_eq!(tallies[0].not_sent, 0);
}

#[test]
fn one_batch_answers_neighbours_from_different_addresses() {
    with_echo_server(BindAddress::Wildcard(0), 1, |bound| {
        let peers = [1, 2, 1, 1, 3].map(|host| SocketAddr::new(Ipv4Addr::new(127, 0, 0, host).into(), bound[0].port()));
        let sockets = peers.map(plain_socket);
        for socket in &sockets {
            socket.send(b"whose").expect("sent");
        }
        for socket in &sockets {
            let mut octets = [0; 8];
            let length = socket.recv(&mut octets).expect("answered");
            assert_eq!(octets[..length], *b"WHOSE");
        }
    });
}

#[test]
fn a_datagram_larger_than_the_buffer_is_flagged_and_one_that_fills_it_is_not() {
    let mut receivers = DatagramSockets::bind(&[BindAddress::Host("127.0.0.1".into(), 0)], 1).expect("a free port");
    let peer = plain_socket(receivers.socket_addresses()[0]);
    for size in [0, 16, 17, 1_000] {
        peer.send(&vec![b'x'; size]).expect("sent");
    }
    let mut sides = [Endpoint::bound(RecordingProtocol::default(), receivers.take(), false)];
    let mut signals = crate::net::signals::Signals::install().expect("a pipe");
    let mut watch = super::StopWhen(|tape: &RecordingProtocol| tape.callbacks.len() == 4);
    super::super::run_loop(&mut sides, super::DatagramTimeouts::default(), 16, &mut signals, &mut watch);
    let expected = [
        Callback::Datagram(vec![]),
        Callback::Datagram(vec![b'x'; 16]),
        Callback::Truncated(16),
        Callback::Truncated(16),
    ];
    assert_eq!(sides[0].protocol().callbacks, expected);
}

const SENT_COUNT: usize = 500;

/// A server's socket to which more was sent than its buffer holds, and who sent it.
fn flooded_sockets() -> (Vec<(Socket, SocketAddr)>, UdpSocket) {
    let mut receivers = DatagramSockets::bind(&[BindAddress::Host("127.0.0.1".into(), 0)], 1).expect("a free port");
    let peer = plain_socket(receivers.socket_addresses()[0]);
    let sockets = receivers.take();
    sockets[0].0.set_recv_buffer_size(1).expect("the least there is");
    for _ in 0..SENT_COUNT {
        peer.send(b"flood").expect("sent");
    }
    (sockets, peer)
}

#[test]
fn what_our_own_buffer_could_not_hold_is_counted() {
    let (sockets, peer) = flooded_sockets();
    let side = Endpoint::bound(RecordingProtocol::default(), sockets, false);
    let mut lasts = 0;
    let tape = run_until(side, |tape| {
        let told = tape.callbacks.iter().any(|heard| matches!(heard, Callback::Overflowed(_)));
        // The count comes with a datagram that finds room, and at the latest with the next one.
        if !told && tape.datagram_count() as u64 >= lasts {
            peer.send(b"last").expect("sent");
            lasts += 1;
        }
        told
    });
    let lost: u64 =
        tape.callbacks.iter().map(|heard| if let Callback::Overflowed(count) = heard { *count } else { 0 }).sum();
    let came = tape.datagram_count() as u64;
    assert!(lost > 0 && came + lost == SENT_COUNT as u64 + lasts, "{came} came, {lost} lost");
}

#[test]
fn a_drop_with_nothing_behind_it_is_counted_in_the_end() {
    let (sockets, _peer) = flooded_sockets();
    // Woken only once the socket was found empty.
    let side =
        Endpoint::bound(RecordingProtocol { next_wake: Some(now()), ..RecordingProtocol::default() }, sockets, false);
    let tape = run_until(side, |tape| tape.callbacks.contains(&Callback::Woken));
    let lost = u64::try_from(SENT_COUNT - tape.datagram_count()).expect("small");
    assert_eq!(tape.callbacks.last(), Some(&Callback::Overflowed(lost)));
}

#[test]
fn a_crowd_is_read_in_batches_and_none_is_left() {
    await_kernel_timestamps();
    let (side, address) = server_endpoint(RecordingProtocol::default());
    let peer = plain_socket(address);
    for number in 0..200_u32 {
        peer.send(&number.to_be_bytes()).expect("sent");
    }
    let tape = run_until(side, |tape| tape.datagram_count() == 200);
    let expected: Vec<_> = (0..200_u32).map(|number| Callback::Datagram(number.to_be_bytes().into())).collect();
    assert_eq!(tape.callbacks, expected);
    assert!(tape.datagrams.windows(2).all(|pair| pair[0].received_at.wall() <= pair[1].received_at.wall()));
    assert!(
        tape.datagrams
            .iter()
            .all(|seen| seen.has_kernel_timestamp && seen.received_at <= seen.read_at && seen.ttl == Some(64))
    );
    assert!(tape.datagrams.iter().all(|seen| Some(seen.peer) == peer.local_addr().ok()));
}

#[test]
fn a_flood_is_answered_to_the_last() {
    await_kernel_timestamps();
    let tallies = with_echo_server(BindAddress::Loopback(0), 1, |bound| {
        for peer in bound {
            let pace = SenderConfig { count: Some(20_000), ..SenderConfig::textbook() }.flood(100);
            let sender = run_until(
                client_endpoint(Sender::new(pace, ProbeEncoding::TEXTBOOK, *peer, now()), *peer),
                Sender::is_finished,
            );
            let report = sender.statistics();
            assert_eq!((report.received, report.lost, report.clock), (20_000, 0, Some(RttClocks::Kernel)), "{peer}");
        }
    });
    assert_eq!(tallies[0].received, tallies[0].sent);
}

#[test]
fn answers_to_a_crowd_of_many_sizes_and_peers_stay_apart() {
    with_echo_server(BindAddress::Host("127.0.0.1".into(), 0), 1, |bound| {
        let sockets = [plain_socket(bound[0]), plain_socket(bound[0])];
        let sizes = [24, 24, 24, 1_000, 1_000, 1_001, 1_001, 24, 7];
        for size in sizes {
            for socket in sockets.iter().chain(&sockets) {
                socket.send(&vec![b'x'; size]).expect("sent");
            }
        }
        for size in sizes {
            for socket in sockets.iter().chain(&sockets) {
                let mut octets = [0; 2_000];
                let length = socket.recv(&mut octets).expect("answered");
                assert!(length == size && octets[..length].iter().all(|octet| *octet == b'X'), "{length} of {size}");
            }
        }
    });
}

#[test]
fn neighbours_for_one_peer_leave_as_separate_datagrams_in_their_order() {
    let other = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let to = other.local_addr().ok();
    let posted = |number: u64| {
        let envelope = Transmit { to, from: None, socket: 0, ticket: number, payload: 0..0 };
        (envelope, number.to_string().into_bytes())
    };
    // Once 90 of two octets, then one longer: the run is merged up to there.
    let first = (10..=100).map(posted).collect();
    let (side, _) =
        server_endpoint(RecordingProtocol { to_send: first, next_wake: Some(now()), ..RecordingProtocol::default() });
    let tape = run_until(side, |tape| !tape.callbacks.is_empty());
    assert_eq!(tape.callbacks, [Callback::Woken]);
    for number in 10..=100 {
        let mut octets = [0; 8];
        let length = other.recv(&mut octets).expect("sent");
        assert_eq!(octets[..length], *number.to_string().as_bytes());
    }
}

#[test]
fn two_threads_share_a_port() {
    let tallies = with_echo_server(BindAddress::Host("127.0.0.1".into(), 0), 2, |bound| {
        let sockets: Vec<UdpSocket> = (0..64).map(|_| plain_socket(bound[0])).collect();
        for socket in &sockets {
            socket.set_read_timeout(Some(Duration::from_secs(30))).expect("set");
            socket.send(b"me").expect("sent");
        }
        for socket in &sockets {
            assert_eq!(socket.recv(&mut [0; 8]).expect("answered"), 2);
        }
    });
    assert_eq!(tallies.iter().map(|tally| tally.received).sum::<u64>(), 64);
    assert!(tallies.iter().all(|tally| tally.received > 0), "{tallies:?}");
}

#[test]
fn an_echo_at_work_allocates_nothing() {
    let mut receivers = DatagramSockets::bind(&[BindAddress::Host("127.0.0.1".into(), 0)], 1).expect("a free port");
    let address = receivers.socket_addresses()[0];
    let rules = EchoConfig {
        impairment: Impairment::none(1),
        key: None,
        own_addresses: vec![address],
        is_public: false,
        remaining: None,
    };
    let mut side = Endpoint::bound(Echo::new(rules, Arc::default()), receivers.take(), false);
    let (buffer, outgoings) = (BatchBuffer::new(super::MAX_PAYLOAD), SendBuffers::new());
    let mut gear = Buffers { receive: buffer, send: outgoings, failures: Vec::new(), now: now() };
    let peers = [plain_socket(address), plain_socket(address)];
    let mut ask = |rounds: u64, pack: usize| {
        for _ in 0..rounds {
            for peer in peers.iter().cycle().take(pack) {
                peer.send(b"over and over").expect("sent");
            }
            let due = side.protocol().counters().received + pack as u64;
            while side.protocol().counters().received < due {
                side.sockets.iter().for_each(|port| port.set_ready(PollFlags::IN));
                gear.now = now();
                side.turn(&mut gear);
            }
            for peer in peers.iter().cycle().take(pack) {
                peer.recv(&mut [0; 64]).expect("answered");
            }
        }
    };
    // The first datagrams before the kernel stamps, and the first of each batch size, pay for the rest.
    ask(100, 64);
    let spent = allocation_counter::measure(|| ask(200, 64));
    // A batch of another shape may want new headers, a datagram never wants anything.
    assert!(spent.count_total < 128, "{spent:?} for 12,800 echoes");
}
