//! A pinger and an echo in virtual time, with seeded weather between them.
//!
//! The network here is made of the same dice as the echo's impairments, but of its own: each way
//! loses, doubles, damages and delays what it carries, and what arrives is handed over in the
//! order of arrival. An hour takes milliseconds and comes out the same every time.

mod hours;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::{Echo, EchoConfig, PingStatistics, ProbeEncoding, Sender, SenderConfig, SenderEvent};
use crate::impair::{CopyOutcome, Impairment, PathState};
use crate::protocol::{Datagram, DatagramActions, DatagramProtocol};
use crate::time::Moment;

const START: Moment = Moment::new(Duration::from_secs(50), Duration::from_secs(1_764_000_000));
const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 12_000);
const CLIENT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 40_000);

/// One way of the network.
struct Path {
    impairment: Impairment,
    state: PathState,
}

impl Path {
    fn new(impairment: Impairment) -> Self {
        Self { state: impairment.path_state(1), impairment }
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct SimulatedDatagram {
    arrives_at: Moment,
    sequence: u64,
    to_server: bool,
    socket: u64,
    bytes: Vec<u8>,
}

struct Simulation {
    sender: Sender,
    echo: Echo,
    up: Path,
    down: Path,
    in_flight: BinaryHeap<Reverse<SimulatedDatagram>>,
    sequence: u64,
    events: Vec<SenderEvent>,
}

impl Simulation {
    fn new(config: SenderConfig, encoding: ProbeEncoding, echo_config: EchoConfig, network: &Impairment) -> Self {
        let other = Impairment { seed: network.seed + 1, ..network.clone() };
        Self {
            sender: Sender::new(config, encoding, SERVER, START),
            echo: Echo::new(echo_config, Arc::default()),
            up: Path::new(network.clone()),
            down: Path::new(other),
            in_flight: BinaryHeap::new(),
            sequence: 0,
            events: Vec::new(),
        }
    }

    /// Lets it all happen, and says what the pinger makes of it.
    fn run(mut self) -> (PingStatistics, Vec<SenderEvent>, Echo) {
        let (mut probes, mut replies) = (DatagramActions::new(true), DatagramActions::new(false));
        let mut now = START;
        for _ in 0..10_000_000_u64 {
            while self.in_flight.peek().is_some_and(|carried| carried.0.arrives_at <= now) {
                let Some(Reverse(carried)) = self.in_flight.pop() else {
                    break;
                };
                let peer = if carried.to_server { CLIENT } else { SERVER };
                let seen = Datagram::plain(peer, carried.arrives_at, &carried.bytes);
                let datagram = Datagram { socket: carried.socket, ..seen };
                if carried.to_server {
                    self.echo.received(&datagram, now, &mut replies);
                } else {
                    self.sender.received(&datagram, now, &mut probes);
                }
            }
            self.echo.woken(now, &mut replies);
            self.sender.woken(now, &mut probes);
            self.transmit(&mut replies, false, now);
            self.transmit(&mut probes, true, now);
            self.events.extend(probes.events());
            if self.sender.is_finished() {
                return (self.sender.statistics(), self.events, self.echo);
            }
            let arrival = self.in_flight.peek().map(|carried| carried.0.arrives_at);
            let next = [arrival, self.sender.wake_at(), self.echo.wake_at()];
            now = next.into_iter().flatten().min().expect("something is to happen").max(now);
        }
        panic!("it does not end");
    }

    fn transmit<F>(&mut self, actions: &mut DatagramActions<F>, to_server: bool, now: Moment) {
        let way = if to_server { &mut self.up } else { &mut self.down };
        for (envelope, bytes) in actions.transmits() {
            let verdict = way.impairment.decide(&mut way.state, now, bytes.len());
            for fate in verdict.copies() {
                let CopyOutcome::Delivered(passage) = fate else {
                    continue;
                };
                let mut bytes = bytes.to_vec();
                passage.inbound.bit_flip.inspect(|flip| flip.apply(&mut bytes));
                self.sequence += 1;
                self.in_flight.push(Reverse(SimulatedDatagram {
                    arrives_at: now + passage.inbound.delay,
                    sequence: self.sequence,
                    to_server,
                    socket: envelope.socket,
                    bytes,
                }));
            }
        }
        actions.clear();
    }
}
