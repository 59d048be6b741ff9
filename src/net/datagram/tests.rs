//! Tests of the datagram loop over real sockets on loopback.

mod client;
mod server;

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::ops::ControlFlow;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Once};
use std::time::Duration;

use super::{
    DatagramObserver, DatagramServerConfig, DatagramTimeouts, Endpoint, MAX_PAYLOAD, StopReason, run_client, serve,
};
use crate::impair::Impairment;
use crate::net::bind_address::BindAddress;
use crate::net::clock::now;
use crate::net::signals::{Signals, Waker};
use crate::net::udp::{DatagramSockets, SocketOptions};
use crate::probe::{EchoConfig, EchoCounters, EchoServer};
use crate::protocol::{Datagram, DatagramActions, DatagramProtocol, Transmit, TransmitError};
use crate::time::Moment;

/// Longer than any test takes; a loop that runs into this has failed.
const TEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Calls that a [`RecordingProtocol`] received, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Callback {
    Datagram(Vec<u8>),
    Truncated(usize),
    Transmitted(u64),
    NotSent(u64, String),
    Unreachable(u64, String, Vec<u8>),
    Overflowed(u64),
    Woken,
}

/// Protocol that sends its datagrams once and records every call.
#[derive(Default)]
struct RecordingProtocol {
    callbacks: Vec<Callback>,
    datagrams: Vec<DatagramInfo>,
    /// Datagrams to send at the first wakeup.
    to_send: Vec<(Transmit, Vec<u8>)>,
    to_retire: Vec<u64>,
    next_wake: Option<Moment>,
}

/// Received datagram without its payload.
#[derive(Clone, Copy)]
struct DatagramInfo {
    peer: SocketAddr,
    socket: u64,
    received_at: Moment,
    read_at: Moment,
    has_kernel_timestamp: bool,
    ttl: Option<u8>,
}

impl RecordingProtocol {
    /// Creates a protocol that sends these payloads on socket 0 as soon as the loop runs, as tickets 1, 2, ….
    fn sending<'a>(payloads: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let to_send =
            (1..).zip(payloads).map(|(ticket, bytes)| (Transmit::connected(0, ticket), bytes.to_vec())).collect();
        Self { to_send, next_wake: Some(now()), ..Self::default() }
    }

    fn count(&self, matches: impl Fn(&Callback) -> bool) -> usize {
        self.callbacks.iter().filter(|callback| matches(callback)).count()
    }

    fn datagram_count(&self) -> usize {
        self.count(|callback| matches!(callback, Callback::Datagram(_)))
    }
}

impl DatagramProtocol for RecordingProtocol {
    type Event = ();

    fn received(&mut self, datagram: &Datagram<'_>, now: Moment, _actions: &mut DatagramActions<()>) {
        let Datagram { peer, socket, received_at, has_kernel_timestamp, ttl, .. } = *datagram;
        self.datagrams.push(DatagramInfo { peer, socket, received_at, read_at: now, has_kernel_timestamp, ttl });
        let bytes = datagram.bytes;
        self.callbacks.push(if datagram.truncated {
            Callback::Truncated(bytes.len())
        } else {
            Callback::Datagram(bytes.to_vec())
        });
    }

    fn transmitted(&mut self, ticket: u64, _at: Moment) {
        self.callbacks.push(Callback::Transmitted(ticket));
    }

    fn failed(&mut self, failure: &TransmitError<'_>, _now: Moment, _actions: &mut DatagramActions<()>) {
        self.callbacks.push(match *failure {
            TransmitError::NotSent { ticket, error } => Callback::NotSent(ticket, error.to_string()),
            TransmitError::Unreachable { socket, error, bytes } => {
                Callback::Unreachable(socket, error.to_string(), bytes.to_vec())
            }
        });
    }

    fn overflowed(&mut self, count: u64, _now: Moment, _actions: &mut DatagramActions<()>) {
        self.callbacks.push(Callback::Overflowed(count));
    }

    fn woken(&mut self, _now: Moment, actions: &mut DatagramActions<()>) {
        self.callbacks.push(Callback::Woken);
        self.next_wake = None;
        for (transmit, bytes) in self.to_send.drain(..) {
            actions.send(transmit, |out| out.extend_from_slice(&bytes));
        }
        self.to_retire.drain(..).for_each(|socket| actions.retire(socket));
    }

    fn wake_at(&self) -> Option<Moment> {
        self.next_wake
    }
}

/// Waits until the kernel timestamps datagrams. Timestamping begins some time after the first socket of the
/// host has enabled it, so one socket enables it for all tests and is never closed.
fn await_kernel_timestamps() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let mut endpoint = client_endpoint(RecordingProtocol::default(), receiver.local_addr().expect("bound"));
        let mut signals = Signals::install().expect("a pipe");
        while !endpoint.protocol().datagrams.last().is_some_and(|seen| seen.has_kernel_timestamp) {
            receiver.send_to(b"timestamp?", endpoint.sockets[0].local_address()).expect("sent");
            let expected = endpoint.protocol().datagram_count() + 1;
            let mut observer = StopWhen(|protocol: &RecordingProtocol| protocol.datagram_count() == expected);
            run_client(std::slice::from_mut(&mut endpoint), DatagramTimeouts::default(), &mut signals, &mut observer);
        }
        std::mem::forget(endpoint);
    });
}

/// Observer that ends the loop once the protocol of the first endpoint meets a condition.
struct StopWhen<F>(F);

impl<E: DatagramProtocol, F: FnMut(&E) -> bool> DatagramObserver<E> for StopWhen<F> {
    fn on_event(&mut self, _endpoint: usize, _event: E::Event) {}

    fn on_turn(&mut self, endpoints: &mut [Endpoint<E>], _now: Moment) -> ControlFlow<()> {
        if (self.0)(endpoints[0].protocol()) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn on_status_request(&mut self, _endpoints: &mut [Endpoint<E>], _now: Moment) {}
}

/// Runs one endpoint until its protocol meets a condition, and returns the protocol.
fn run_until<E: DatagramProtocol>(endpoint: Endpoint<E>, is_done: impl FnMut(&E) -> bool) -> E {
    let mut signals = Signals::install().expect("a pipe");
    let timeouts = DatagramTimeouts { deadline: Some(now() + TEST_TIMEOUT), ..DatagramTimeouts::default() };
    let mut endpoints = [endpoint];
    assert_eq!(run_client(&mut endpoints, timeouts, &mut signals, &mut StopWhen(is_done)), StopReason::Observer);
    let [endpoint] = endpoints;
    endpoint.into_protocol()
}

fn client_endpoint<E: DatagramProtocol>(protocol: E, peer: SocketAddr) -> Endpoint<E> {
    Endpoint::connected(protocol, peer, SocketOptions::default(), false).expect("a socket")
}

/// Creates a server endpoint on 127.0.0.1, for a test that acts as the client.
fn server_endpoint(protocol: RecordingProtocol) -> (Endpoint<RecordingProtocol>, SocketAddr) {
    let mut receivers = DatagramSockets::bind(&[BindAddress::Host("127.0.0.1".into(), 0)], 1).expect("a free port");
    let address = receivers.socket_addresses()[0];
    (Endpoint::bound(protocol, receivers.take(), false), address)
}

/// Opens a plain socket that sends to `peer`.
fn plain_socket(peer: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    socket.connect(peer).expect("connected");
    socket
}

/// Runs an echo server on `threads` threads, without impairments, during `test`; returns the counters of each thread.
fn with_echo_server(bind: BindAddress, threads: usize, test: impl FnOnce(&[SocketAddr])) -> Vec<EchoCounters> {
    let receivers = DatagramSockets::bind(&[bind], threads).expect("a free port");
    let bound = receivers.socket_addresses();
    let config = DatagramServerConfig {
        sockets: receivers,
        threads,
        max_payload: MAX_PAYLOAD,
        events_wanted: false,
        deadline: Some(now() + TEST_TIMEOUT),
        coalesce_delay: Duration::ZERO,
    };
    let mut signals = Signals::install().expect("a pipe");
    let waker: Waker = signals.waker().expect("a copy");
    let echo_config = EchoConfig {
        impairment: Impairment::none(1),
        key: None,
        own_addresses: bound.clone(),
        is_public: false,
        remaining: None,
    };
    let ordinals = Arc::new(AtomicU32::new(0));
    let (done, results) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let serving = scope.spawn(move || {
            let make = || (EchoServer::new(echo_config.clone(), ordinals.clone()), StopWhen(|_: &EchoServer| false));
            let finish = |echo: EchoServer, _| done.send(echo.counters().clone()).expect("the receiver exists");
            serve(config, &mut signals, make, finish).expect("threads")
        });
        let tested = std::panic::catch_unwind(AssertUnwindSafe(|| test(&bound)));
        waker.wake();
        tested.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        assert_eq!(serving.join().expect("no panic"), StopReason::Waker);
    });
    results.try_iter().collect()
}
