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

use super::{Echo, Fact, Pace, Report, Rules, Sender, Wire};
use crate::conversation::{Datagram, DatagramActions, DatagramProtocol};
use crate::impair::{Fate, Impairment, Path};
use crate::time::Moment;

const START: Moment = Moment::new(Duration::from_secs(50), Duration::from_secs(1_764_000_000));
const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 12_000);
const CLIENT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 40_000);

/// One way of the network.
struct Way {
    impairment: Impairment,
    path: Path,
}

impl Way {
    fn new(impairment: Impairment) -> Self {
        Self { path: impairment.path(1), impairment }
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Carried {
    at: Moment,
    order: u64,
    upwards: bool,
    socket: u64,
    bytes: Vec<u8>,
}

struct World {
    sender: Sender,
    echo: Echo,
    up: Way,
    down: Way,
    sky: BinaryHeap<Reverse<Carried>>,
    order: u64,
    facts: Vec<Fact>,
}

impl World {
    fn new(pace: Pace, wire: Wire, rules: Rules, weather: &Impairment) -> Self {
        let other = Impairment { seed: weather.seed + 1, ..weather.clone() };
        Self {
            sender: Sender::new(pace, wire, SERVER, START),
            echo: Echo::new(rules, Arc::default()),
            up: Way::new(weather.clone()),
            down: Way::new(other),
            sky: BinaryHeap::new(),
            order: 0,
            facts: Vec::new(),
        }
    }

    /// Lets it all happen, and says what the pinger makes of it.
    fn run(mut self) -> (Report, Vec<Fact>, Echo) {
        let (mut probes, mut replies) = (DatagramActions::new(true), DatagramActions::new(false));
        let mut now = START;
        for _ in 0..10_000_000_u64 {
            while self.sky.peek().is_some_and(|carried| carried.0.at <= now) {
                let Some(Reverse(carried)) = self.sky.pop() else {
                    break;
                };
                let peer = if carried.upwards { CLIENT } else { SERVER };
                let seen = Datagram::plain(peer, carried.at, &carried.bytes);
                let datagram = Datagram { socket: carried.socket, ..seen };
                if carried.upwards {
                    self.echo.received(&datagram, now, &mut replies);
                } else {
                    self.sender.received(&datagram, now, &mut probes);
                }
            }
            self.echo.woken(now, &mut replies);
            self.sender.woken(now, &mut probes);
            self.carry(&mut replies, false, now);
            self.carry(&mut probes, true, now);
            self.facts.extend(probes.events());
            if self.sender.is_finished() {
                return (self.sender.report(), self.facts, self.echo);
            }
            let arrival = self.sky.peek().map(|carried| carried.0.at);
            let next = [arrival, self.sender.wake_at(), self.echo.wake_at()];
            now = next.into_iter().flatten().min().expect("something is to happen").max(now);
        }
        panic!("it does not end");
    }

    fn carry<F>(&mut self, post: &mut DatagramActions<F>, upwards: bool, now: Moment) {
        let way = if upwards { &mut self.up } else { &mut self.down };
        for (envelope, bytes) in post.transmits() {
            let verdict = way.impairment.arrival(&mut way.path, now, bytes.len());
            for fate in verdict.fates() {
                let Fate::Passed(passage) = fate else {
                    continue;
                };
                let mut bytes = bytes.to_vec();
                passage.inward.flip.inspect(|flip| flip.apply(&mut bytes));
                self.order += 1;
                self.sky.push(Reverse(Carried {
                    at: now + passage.inward.delay,
                    order: self.order,
                    upwards,
                    socket: envelope.socket,
                    bytes,
                }));
            }
        }
        post.clear();
    }
}
