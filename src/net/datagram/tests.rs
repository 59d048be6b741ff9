//! The datagram loop over real sockets on loopback.

mod client;
mod server;

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::ops::ControlFlow;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Once};
use std::time::Duration;

use super::{Ended, LARGEST, Patience, Plan, Side, Watch, answer, exchange};
use crate::conversation::{Datagram, DatagramActions, DatagramProtocol, Transmit, TransmitError};
use crate::impair::Impairment;
use crate::net::bind::Bind;
use crate::net::clock::now;
use crate::net::signals::{Nudge, Signals};
use crate::net::udp::{Origin, Receivers};
use crate::probe::{Echo, EchoConfig, EchoCounters};
use crate::time::Moment;

/// More than any test takes; a loop that gets here has failed.
const FOR_EVER: Duration = Duration::from_secs(60);

/// What a [`Tape`] hears, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Heard {
    Datagram(Vec<u8>),
    Cut(usize),
    Left(u64),
    NotSent(u64, String),
    Unreachable(u64, String, Vec<u8>),
    Overflowed(u64),
    Woken,
}

/// An exchange that does what it was told once, and writes down what it hears.
#[derive(Default)]
struct Tape {
    heard: Vec<Heard>,
    seen: Vec<Seen>,
    /// Sent when first woken.
    first: Vec<(Transmit, Vec<u8>)>,
    retire: Vec<u64>,
    wake: Option<Moment>,
}

/// A datagram without its octets.
#[derive(Clone, Copy)]
struct Seen {
    peer: SocketAddr,
    socket: u64,
    at: Moment,
    read: Moment,
    stamped: bool,
    ttl: Option<u8>,
}

impl Tape {
    /// Sends these on socket 0 as soon as the loop runs, as tickets 1, 2, ….
    fn sending<'a>(payloads: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let first =
            (1..).zip(payloads).map(|(ticket, bytes)| (Transmit::connected(0, ticket), bytes.to_vec())).collect();
        Self { first, wake: Some(now()), ..Self::default() }
    }

    fn count(&self, what: impl Fn(&Heard) -> bool) -> usize {
        self.heard.iter().filter(|heard| what(heard)).count()
    }

    fn datagrams(&self) -> usize {
        self.count(|heard| matches!(heard, Heard::Datagram(_)))
    }
}

impl DatagramProtocol for Tape {
    type Event = ();

    fn received(&mut self, datagram: &Datagram<'_>, now: Moment, _post: &mut DatagramActions<()>) {
        let Datagram { peer, socket, received_at: at, has_kernel_timestamp: stamped, ttl, .. } = *datagram;
        self.seen.push(Seen { peer, socket, at, read: now, stamped, ttl });
        let bytes = datagram.bytes;
        self.heard.push(if datagram.truncated { Heard::Cut(bytes.len()) } else { Heard::Datagram(bytes.to_vec()) });
    }

    fn transmitted(&mut self, ticket: u64, _at: Moment) {
        self.heard.push(Heard::Left(ticket));
    }

    fn failed(&mut self, failure: &TransmitError<'_>, _now: Moment, _post: &mut DatagramActions<()>) {
        self.heard.push(match *failure {
            TransmitError::NotSent { ticket, error } => Heard::NotSent(ticket, error.to_string()),
            TransmitError::Unreachable { socket, error, bytes } => {
                Heard::Unreachable(socket, error.to_string(), bytes.to_vec())
            }
        });
    }

    fn overflowed(&mut self, count: u64, _now: Moment, _post: &mut DatagramActions<()>) {
        self.heard.push(Heard::Overflowed(count));
    }

    fn woken(&mut self, _now: Moment, post: &mut DatagramActions<()>) {
        self.heard.push(Heard::Woken);
        self.wake = None;
        for (outgoing, bytes) in self.first.drain(..) {
            post.send(outgoing, |out| out.extend_from_slice(&bytes));
        }
        self.retire.drain(..).for_each(|socket| post.retire(socket));
    }

    fn wake_at(&self) -> Option<Moment> {
        self.wake
    }
}

/// The kernel begins to stamp some time after the first socket of the host asked for it; what came
/// before has no stamp. So one socket asks for all tests, and is never closed.
fn begin_stamping() {
    static BEGUN: Once = Once::new();
    BEGUN.call_once(|| {
        let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let mut side = client(Tape::default(), receiver.local_addr().expect("bound"));
        let mut signals = Signals::listen().expect("a pipe");
        while !side.exchange().seen.last().is_some_and(|seen| seen.stamped) {
            receiver.send_to(b"stamped?", side.ports[0].local_address()).expect("sent");
            let come = side.exchange().datagrams() + 1;
            let mut watch = Until(|tape: &Tape| tape.datagrams() == come);
            exchange(std::slice::from_mut(&mut side), Patience::default(), &mut signals, &mut watch);
        }
        std::mem::forget(side);
    });
}

/// Watches until the first side's exchange has heard enough.
struct Until<F>(F);

impl<E: DatagramProtocol, F: FnMut(&E) -> bool> Watch<E> for Until<F> {
    fn fact(&mut self, _side: usize, _fact: E::Event) {}

    fn turned(&mut self, sides: &mut [Side<E>], _now: Moment) -> ControlFlow<()> {
        if (self.0)(sides[0].exchange()) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn asked(&mut self, _sides: &mut [Side<E>], _now: Moment) {}
}

/// Carries one side until it has heard enough.
fn run<E: DatagramProtocol>(side: Side<E>, enough: impl FnMut(&E) -> bool) -> E {
    let mut signals = Signals::listen().expect("a pipe");
    let patience = Patience { until: Some(now() + FOR_EVER), ..Patience::default() };
    let mut sides = [side];
    assert_eq!(exchange(&mut sides, patience, &mut signals, &mut Until(enough)), Ended::Enough);
    let [side] = sides;
    side.into_exchange()
}

fn client<E: DatagramProtocol>(exchange: E, peer: SocketAddr) -> Side<E> {
    Side::connected(exchange, peer, Origin::default(), false).expect("a socket")
}

/// A server with one socket of 127.0.0.1, for a test that is the other end itself.
fn server(exchange: Tape) -> (Side<Tape>, SocketAddr) {
    let mut receivers = Receivers::bind(&[Bind::Host("127.0.0.1".into(), 0)], 1).expect("a free port");
    let address = receivers.bound()[0];
    (Side::bound(exchange, receivers.take(), false), address)
}

/// A plain socket that sends to `peer`.
fn plain(peer: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    socket.connect(peer).expect("connected");
    socket
}

/// Runs honest echoes while `test` talks to them, and gives the tally of each thread.
fn with_echoes(bind: Bind, threads: usize, test: impl FnOnce(&[SocketAddr])) -> Vec<EchoCounters> {
    let receivers = Receivers::bind(&[bind], threads).expect("a free port");
    let bound = receivers.bound();
    let plan = Plan {
        receivers,
        threads,
        largest: LARGEST,
        listening: false,
        until: Some(now() + FOR_EVER),
        rest: Duration::ZERO,
    };
    let mut signals = Signals::listen().expect("a pipe");
    let nudge: Nudge = signals.nudger().expect("a copy");
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
            let make = || (Echo::new(rules.clone(), ordinals.clone()), Until(|_: &Echo| false));
            let finish = |echo: Echo, _| done.send(echo.counters().clone()).expect("somebody listens");
            answer(plan, &mut signals, make, finish).expect("threads")
        });
        let tested = std::panic::catch_unwind(AssertUnwindSafe(|| test(&bound)));
        nudge.nudge();
        tested.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        assert_eq!(serving.join().expect("no panic"), Ended::Nudged);
    });
    tallies.try_iter().collect()
}
