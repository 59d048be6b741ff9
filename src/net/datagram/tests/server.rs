//! Tests of server endpoints.

use super::{
    Callback, RecordingProtocol, await_kernel_timestamps, client_endpoint, plain_socket, run_until, server_endpoint,
    with_echo_server,
};
use crate::impair::Impairment;
use crate::net::bind_address::BindAddress;
use crate::net::clock::now;
use crate::net::datagram::endpoint::{Buffers, Endpoint};
use crate::net::datagram::recv::BatchBuffer;
use crate::net::datagram::send::SendBuffers;
use crate::net::udp::DatagramSockets;
use crate::probe::{EchoConfig, EchoServer, PingClient, PingConfig, ProbeEncoding, RttClocks};
use crate::protocol::Transmit;
use rustix::event::PollFlags;
use socket2::Socket;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

#[test]
fn a_reply_leaves_from_the_address_that_was_contacted() {
    let counters = with_echo_server(BindAddress::Wildcard(0), 1, |bound| {
        let port = bound[0].port();
        let v4 = (2..5).map(|host| SocketAddr::new(Ipv4Addr::new(127, 0, 0, host).into(), port));
        let v6 =
            bound.iter().filter(|bound| bound.is_ipv6()).map(|_| SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port));
        for peer in v4.chain(v6) {
            // A connected socket only receives from the address it contacted.
            let config = PingConfig { count: Some(3), ..PingConfig::textbook() }.stop_and_wait();
            let sender = run_until(
                client_endpoint(PingClient::new(config, ProbeEncoding::TEXTBOOK, peer, now()), peer),
                PingClient::is_finished,
            );
            assert_eq!(sender.statistics().received, 3, "{peer}");
        }
    });
    assert_eq!(counters[0].not_sent, 0);
}

#[test]
fn one_batch_replies_from_different_addresses() {
    with_echo_server(BindAddress::Wildcard(0), 1, |bound| {
        let peers = [1, 2, 1, 1, 3].map(|host| SocketAddr::new(Ipv4Addr::new(127, 0, 0, host).into(), bound[0].port()));
        let sockets = peers.map(plain_socket);
        for socket in &sockets {
            socket.send(b"hello").expect("sent");
        }
        for socket in &sockets {
            let mut buffer = [0; 8];
            let length = socket.recv(&mut buffer).expect("answered");
            assert_eq!(buffer[..length], *b"HELLO");
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
    let mut endpoints = [Endpoint::bound(RecordingProtocol::default(), receivers.take(), false)];
    let mut signals = crate::net::signals::Signals::install().expect("a pipe");
    let mut observer = super::StopWhen(|protocol: &RecordingProtocol| protocol.callbacks.len() == 4);
    super::super::run_loop(&mut endpoints, super::DatagramTimeouts::default(), 16, &mut signals, &mut observer);
    let expected = [
        Callback::Datagram(vec![]),
        Callback::Datagram(vec![b'x'; 16]),
        Callback::Truncated(16),
        Callback::Truncated(16),
    ];
    assert_eq!(endpoints[0].protocol().callbacks, expected);
}

const SENT_COUNT: usize = 500;

/// Returns a server's socket to which more was sent than its buffer holds, and the socket that sent it.
fn flooded_sockets() -> (Vec<(Socket, SocketAddr)>, UdpSocket) {
    let mut receivers = DatagramSockets::bind(&[BindAddress::Host("127.0.0.1".into(), 0)], 1).expect("a free port");
    let peer = plain_socket(receivers.socket_addresses()[0]);
    let sockets = receivers.take();
    sockets[0].0.set_recv_buffer_size(1).expect("the minimum");
    for _ in 0..SENT_COUNT {
        peer.send(b"flood").expect("sent");
    }
    (sockets, peer)
}

#[test]
fn datagrams_dropped_by_a_full_receive_buffer_are_counted() {
    let (sockets, peer) = flooded_sockets();
    let endpoint = Endpoint::bound(RecordingProtocol::default(), sockets, false);
    let mut extra = 0;
    let protocol = run_until(endpoint, |protocol| {
        let overflowed = protocol.callbacks.iter().any(|callback| matches!(callback, Callback::Overflowed(_)));
        // The drop count is attached to a datagram queued after the drop, so send one more whenever all have been
        // read.
        if !overflowed && protocol.datagram_count() as u64 >= extra {
            peer.send(b"last").expect("sent");
            extra += 1;
        }
        overflowed
    });
    let lost: u64 = protocol
        .callbacks
        .iter()
        .map(|callback| if let Callback::Overflowed(count) = callback { *count } else { 0 })
        .sum();
    let received = protocol.datagram_count() as u64;
    assert!(lost > 0 && received + lost == SENT_COUNT as u64 + extra, "{received} received, {lost} lost");
}

#[test]
fn a_drop_followed_by_no_datagram_is_counted_at_the_end() {
    let (sockets, _peer) = flooded_sockets();
    // The wakeup comes only once the socket was found empty.
    let endpoint =
        Endpoint::bound(RecordingProtocol { next_wake: Some(now()), ..RecordingProtocol::default() }, sockets, false);
    let protocol = run_until(endpoint, |protocol| protocol.callbacks.contains(&Callback::Woken));
    let lost = u64::try_from(SENT_COUNT - protocol.datagram_count()).expect("small");
    assert_eq!(protocol.callbacks.last(), Some(&Callback::Overflowed(lost)));
}

#[test]
fn many_datagrams_are_read_in_batches_and_none_is_left() {
    await_kernel_timestamps();
    let (endpoint, address) = server_endpoint(RecordingProtocol::default());
    let peer = plain_socket(address);
    for number in 0..200_u32 {
        peer.send(&number.to_be_bytes()).expect("sent");
    }
    let protocol = run_until(endpoint, |protocol| protocol.datagram_count() == 200);
    let expected: Vec<_> = (0..200_u32).map(|number| Callback::Datagram(number.to_be_bytes().into())).collect();
    assert_eq!(protocol.callbacks, expected);
    assert!(protocol.datagrams.windows(2).all(|pair| pair[0].received_at.wall() <= pair[1].received_at.wall()));
    assert!(
        protocol
            .datagrams
            .iter()
            .all(|seen| seen.has_kernel_timestamp && seen.received_at <= seen.read_at && seen.ttl == Some(64))
    );
    assert!(protocol.datagrams.iter().all(|seen| Some(seen.peer) == peer.local_addr().ok()));
}

#[test]
fn every_datagram_of_a_flood_is_answered() {
    await_kernel_timestamps();
    let counters = with_echo_server(BindAddress::Loopback(0), 1, |bound| {
        for peer in bound {
            let config = PingConfig { count: Some(20_000), ..PingConfig::textbook() }.flood(100);
            let sender = run_until(
                client_endpoint(PingClient::new(config, ProbeEncoding::TEXTBOOK, *peer, now()), *peer),
                PingClient::is_finished,
            );
            let report = sender.statistics();
            assert_eq!((report.received, report.lost, report.clock), (20_000, 0, Some(RttClocks::Kernel)), "{peer}");
        }
    });
    assert_eq!(counters[0].received, counters[0].sent);
}

#[test]
fn replies_of_many_sizes_to_two_peers_stay_separate() {
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
                let mut buffer = [0; 2_000];
                let length = socket.recv(&mut buffer).expect("answered");
                assert!(length == size && buffer[..length].iter().all(|byte| *byte == b'X'), "{length} of {size}");
            }
        }
    });
}

#[test]
fn datagrams_to_one_peer_leave_separately_and_in_order() {
    let other = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let to = other.local_addr().ok();
    let posted = |number: u64| {
        let transmit = Transmit { to, from: None, socket: 0, ticket: number, payload: 0..0 };
        (transmit, number.to_string().into_bytes())
    };
    // 90 payloads of two bytes, then a longer one: the first batch (64) is merged, the second has mixed lengths and
    // is not.
    let to_send = (10..=100).map(posted).collect();
    let (endpoint, _) =
        server_endpoint(RecordingProtocol { to_send, next_wake: Some(now()), ..RecordingProtocol::default() });
    let protocol = run_until(endpoint, |protocol| !protocol.callbacks.is_empty());
    assert_eq!(protocol.callbacks, [Callback::Woken]);
    for number in 10..=100 {
        let mut buffer = [0; 8];
        let length = other.recv(&mut buffer).expect("sent");
        assert_eq!(buffer[..length], *number.to_string().as_bytes());
    }
}

#[test]
fn two_threads_share_a_port() {
    let counters = with_echo_server(BindAddress::Host("127.0.0.1".into(), 0), 2, |bound| {
        let sockets: Vec<UdpSocket> = (0..64).map(|_| plain_socket(bound[0])).collect();
        for socket in &sockets {
            socket.set_read_timeout(Some(Duration::from_secs(30))).expect("set");
            socket.send(b"me").expect("sent");
        }
        for socket in &sockets {
            assert_eq!(socket.recv(&mut [0; 8]).expect("answered"), 2);
        }
    });
    assert_eq!(counters.iter().map(|counters| counters.received).sum::<u64>(), 64);
    assert!(counters.iter().all(|counters| counters.received > 0), "{counters:?}");
}

#[test]
fn a_running_echo_server_does_not_allocate_per_datagram() {
    let mut receivers = DatagramSockets::bind(&[BindAddress::Host("127.0.0.1".into(), 0)], 1).expect("a free port");
    let address = receivers.socket_addresses()[0];
    let echo_config = EchoConfig {
        impairment: Impairment::none(1),
        key: None,
        own_addresses: vec![address],
        is_public: false,
        remaining: None,
    };
    let mut endpoint = Endpoint::bound(EchoServer::new(echo_config, Arc::default()), receivers.take(), false);
    let (receive, send) = (BatchBuffer::new(super::MAX_PAYLOAD), SendBuffers::new());
    let mut buffers = Buffers { receive, send, failures: Vec::new(), now: now() };
    let peers = [plain_socket(address), plain_socket(address)];
    let mut exchange_datagrams = |rounds: u64, batch_size: usize| {
        for _ in 0..rounds {
            for peer in peers.iter().cycle().take(batch_size) {
                peer.send(b"over and over").expect("sent");
            }
            let due = endpoint.protocol().counters().received + batch_size as u64;
            while endpoint.protocol().counters().received < due {
                endpoint.sockets.iter().for_each(|socket| socket.set_ready(PollFlags::IN));
                buffers.now = now();
                endpoint.turn(&mut buffers);
            }
            for peer in peers.iter().cycle().take(batch_size) {
                peer.recv(&mut [0; 64]).expect("answered");
            }
        }
    };
    // Warm-up: the first datagrams have no kernel timestamps, and the first batch of each size allocates.
    exchange_datagrams(100, 64);
    let allocations = allocation_counter::measure(|| exchange_datagrams(200, 64));
    // A batch of a new size may allocate headers; a datagram by itself never allocates.
    assert!(allocations.count_total < 128, "{allocations:?} for 12,800 echoes");
}
