//! Simulation of a ping client and an echo server in virtual time, with a seeded network between them.
//!
//! Each direction loses, duplicates, corrupts and delays datagrams, with the impairments of `impair` but a
//! seed of its own, and delivers them in order of arrival. An hour takes milliseconds and is repeatable.

mod hours;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::{EchoConfig, EchoServer, PingClient, PingConfig, PingEvent, PingStatistics, ProbeEncoding};
use crate::impair::{CopyOutcome, Impairment, PathState};
use crate::protocol::{Datagram, DatagramActions, DatagramProtocol};
use crate::time::Moment;

const START: Moment = Moment::new(Duration::from_secs(50), Duration::from_secs(1_764_000_000));
const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 12_000);
const CLIENT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 40_000);

/// One direction of the network.
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
    sender: PingClient,
    echo: EchoServer,
    up: Path,
    down: Path,
    in_flight: BinaryHeap<Reverse<SimulatedDatagram>>,
    sequence: u64,
    events: Vec<PingEvent>,
}

impl Simulation {
    fn new(config: PingConfig, encoding: ProbeEncoding, echo_config: EchoConfig, network: &Impairment) -> Self {
        let reverse = Impairment { seed: network.seed + 1, ..network.clone() };
        Self {
            sender: PingClient::new(config, encoding, SERVER, START),
            echo: EchoServer::new(echo_config, Arc::default()),
            up: Path::new(network.clone()),
            down: Path::new(reverse),
            in_flight: BinaryHeap::new(),
            sequence: 0,
            events: Vec::new(),
        }
    }

    /// Runs until the client is finished.
    fn run(mut self) -> (PingStatistics, Vec<PingEvent>, EchoServer) {
        let (mut probes, mut replies) = (DatagramActions::new(true), DatagramActions::new(false));
        let mut now = START;
        for _ in 0..10_000_000_u64 {
            while self.in_flight.peek().is_some_and(|datagram| datagram.0.arrives_at <= now) {
                let Some(Reverse(arrived)) = self.in_flight.pop() else {
                    break;
                };
                let peer = if arrived.to_server { CLIENT } else { SERVER };
                let plain = Datagram::plain(peer, arrived.arrives_at, &arrived.bytes);
                let datagram = Datagram { socket: arrived.socket, ..plain };
                if arrived.to_server {
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
            let arrival = self.in_flight.peek().map(|datagram| datagram.0.arrives_at);
            let next = [arrival, self.sender.wake_at(), self.echo.wake_at()];
            now = next.into_iter().flatten().min().expect("an event is pending").max(now);
        }
        panic!("the simulation does not end");
    }

    fn transmit<E>(&mut self, actions: &mut DatagramActions<E>, to_server: bool, now: Moment) {
        let path = if to_server { &mut self.up } else { &mut self.down };
        for (transmit, bytes) in actions.transmits() {
            let verdict = path.impairment.decide(&mut path.state, now, bytes.len());
            for copy in verdict.copies() {
                let CopyOutcome::Delivered(effects) = copy else {
                    continue;
                };
                let mut bytes = bytes.to_vec();
                effects.inbound.bit_flip.inspect(|flip| flip.apply(&mut bytes));
                self.sequence += 1;
                self.in_flight.push(Reverse(SimulatedDatagram {
                    arrives_at: now + effects.inbound.delay,
                    sequence: self.sequence,
                    to_server,
                    socket: transmit.socket,
                    bytes,
                }));
            }
        }
        actions.clear();
    }
}
