//! The datagram loop over real sockets on loopback.

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
use crate::net::bind::BindAddress;
use crate::net::clock::now;
use crate::net::signals::{Signals, Waker};
use crate::net::udp::{DatagramSockets, SocketOptions};
use crate::probe::{Echo, EchoConfig, EchoCounters};
use crate::protocol::{Datagram, DatagramActions, DatagramProtocol, Transmit, TransmitError};
use crate::time::Moment;

/// More than any test takes; a loop that gets here has failed.
const TEST_TIMEOUT: Duration = Duration::from_secs(60);

/// What a [`Tape`] hears, in order.
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

/// An exchange that does what it was told once, and writes down what it hears.
#[derive(Default)]
struct RecordingProtocol {
    callbacks: Vec<Callback>,
    datagrams: Vec<DatagramInfo>,
    /// Sent when first woken.
    to_send: Vec<(Transmit, Vec<u8>)>,
    to_retire: Vec<u64>,
    next_wake: Option<Moment>,
}

/// A datagram without its octets.
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
    /// Sends these on socket 0 as soon as the loop runs, as tickets 1, 2, ….
    fn sending<'a>(payloads: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let first =
            (1..).zip(payloads).map(|(ticket, bytes)| (Transmit::connected(0, ticket), bytes.to_vec())).collect();
        Self { to_send: first, next_wake: Some(now()), ..Self::default() }
    }

    fn count(&self, matches: impl Fn(&Callback) -> bool) -> usize {
        self.callbacks.iter().filter(|heard| matches(heard)).count()
    }

    fn datagram_count(&self) -> usize {
        self.count(|heard| matches!(heard, Callback::Datagram(_)))
    }
}

impl DatagramProtocol for RecordingProtocol {
    type Event = ();

    fn received(&mut self, datagram: &Datagram<'_>, now: Moment, _post: &mut DatagramActions<()>) {
        let Datagram { peer, socket, received_at: at, has_kernel_timestamp: stamped, ttl, .. } = *datagram;
        self.datagrams.push(DatagramInfo {
            peer,
            socket,
            received_at: at,
            read_at: now,
            has_kernel_timestamp: stamped,
            ttl,
        });
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

    fn failed(&mut self, failure: &TransmitError<'_>, _now: Moment, _post: &mut DatagramActions<()>) {
        self.callbacks.push(match *failure {
            TransmitError::NotSent { ticket, error } => Callback::NotSent(ticket, error.to_string()),
            TransmitError::Unreachable { socket, error, bytes } => {
                Callback::Unreachable(socket, error.to_string(), bytes.to_vec())
            }
        });
    }

    fn overflowed(&mut self, count: u64, _now: Moment, _post: &mut DatagramActions<()>) {
        self.callbacks.push(Callback::Overflowed(count));
    }

    fn woken(&mut self, _now: Moment, post: &mut DatagramActions<()>) {
        self.callbacks.push(Callback::Woken);
        self.next_wake = None;
        for (outgoing, bytes) in self.to_send.drain(..) {
            post.send(outgoing, |out| out.extend_from_slice(&bytes));
        }
        self.to_retire.drain(..).for_each(|socket| post.retire(socket));
    }

    fn wake_at(&self) -> Option<Moment> {
        self.next_wake
    }
}

/// The kernel begins to stamp some time after the first socket of the host asked for it; what came
/// before has no stamp. So one socket asks for all tests, and is never closed.
fn await_kernel_timestamps() {
    static BEGUN: Once = Once::new();
    BEGUN.call_once(|| {
        let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let mut side = client_endpoint(RecordingProtocol::default(), receiver.local_addr().expect("bound"));
        let mut signals = Signals::install().expect("a pipe");
        while !side.protocol().datagrams.last().is_some_and(|seen| seen.has_kernel_timestamp) {
            receiver.send_to(b"stamped?", side.sockets[0].local_address()).expect("sent");
            let come = side.protocol().datagram_count() + 1;
            let mut watch = StopWhen(|tape: &RecordingProtocol| tape.datagram_count() == come);
            run_client(std::slice::from_mut(&mut side), DatagramTimeouts::default(), &mut signals, &mut watch);
        }
        std::mem::forget(side);
    });
}

/// Watches until the first side's exchange has heard enough.
struct StopWhen<F>(F);

impl<E: DatagramProtocol, F: FnMut(&E) -> bool> DatagramObserver<E> for StopWhen<F> {
    fn on_event(&mut self, _side: usize, _fact: E::Event) {}

    fn on_turn(&mut self, sides: &mut [Endpoint<E>], _now: Moment) -> ControlFlow<()> {
        if (self.0)(sides[0].protocol()) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn on_status_request(&mut self, _sides: &mut [Endpoint<E>], _now: Moment) {}
}

/// Carries one side until it has heard enough.
fn run_until<E: DatagramProtocol>(side: Endpoint<E>, is_done: impl FnMut(&E) -> bool) -> E {
    let mut signals = Signals::install().expect("a pipe");
    let patience = DatagramTimeouts { deadline: Some(now() + TEST_TIMEOUT), ..DatagramTimeouts::default() };
    let mut sides = [side];
    assert_eq!(run_client(&mut sides, patience, &mut signals, &mut StopWhen(is_done)), StopReason::Observer);
    let [side] = sides;
    side.into_protocol()
}

fn client_endpoint<E: DatagramProtocol>(exchange: E, peer: SocketAddr) -> Endpoint<E> {
    Endpoint::connected(exchange, peer, SocketOptions::default(), false).expect("a socket")
}

/// A server with one socket of 127.0.0.1, for a test that is the other end itself.
fn server_endpoint(exchange: RecordingProtocol) -> (Endpoint<RecordingProtocol>, SocketAddr) {
    let mut receivers = DatagramSockets::bind(&[BindAddress::Host("127.0.0.1".into(), 0)], 1).expect("a free port");
    let address = receivers.socket_addresses()[0];
    (Endpoint::bound(exchange, receivers.take(), false), address)
}

/// A plain socket that sends to `peer`.
fn plain_socket(peer: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    socket.connect(peer).expect("connected");
    socket
}

/// Runs honest echoes while `test` talks to them, and gives the tally of each thread.
fn with_echo_server(bind: BindAddress, threads: usize, test: impl FnOnce(&[SocketAddr])) -> Vec<EchoCounters> {
    let receivers = DatagramSockets::bind(&[bind], threads).expect("a free port");
    let bound = receivers.socket_addresses();
    let plan = DatagramServerConfig {
        sockets: receivers,
        threads,
        max_payload: MAX_PAYLOAD,
        events_wanted: false,
        deadline: Some(now() + TEST_TIMEOUT),
        coalesce_delay: Duration::ZERO,
    };
    let mut signals = Signals::install().expect("a pipe");
    let nudge: Waker = signals.waker().expect("a copy");
    let rules = EchoConfig {
        impairment: Impairment::none(1),
        key: None,
        own_addresses: bound.clone(),
        is_public: false,
        remaining: None,
    };
    let ordinals = Arc::new(AtomicU32::new(0));
    let (done, tallies) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let serving = scope.spawn(move || {
            let make = || (Echo::new(rules.clone(), ordinals.clone()), StopWhen(|_: &Echo| false));
            let finish = |echo: Echo, _| done.send(echo.counters().clone()).expect("somebody listens");
            serve(plan, &mut signals, make, finish).expect("threads")
        });
        let tested = std::panic::catch_unwind(AssertUnwindSafe(|| test(&bound)));
        nudge.wake();
        tested.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        assert_eq!(serving.join().expect("no panic"), StopReason::Waker);
    });
    tallies.try_iter().collect()
}
