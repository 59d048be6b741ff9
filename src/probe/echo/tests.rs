//! Echo server against regular and hostile datagrams.

mod reflector;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::{EchoConfig, EchoEvent, EchoServer, PREFIX_RATE_LIMIT};
use crate::impair::{DecisionKind, Impairment, LossModel, SeededRandom};
use crate::mac::MacKey;
use crate::probe::ntp::ErrorEstimate;
use crate::probe::session_table::MAX_SESSIONS;
use crate::probe::stamp::{Probe, Reflection, UNAUTHENTICATED_SIZE};
use crate::probe::{delay_queue, text_format};
use crate::protocol::{Datagram, DatagramActions, DatagramProtocol, TransmitError};
use crate::time::Moment;

const START: Moment = Moment::new(Duration::from_secs(5), Duration::from_secs(1_764_000_000));

struct Fixture {
    echo: EchoServer,
    actions: DatagramActions<EchoEvent>,
    now: Moment,
}

impl Fixture {
    fn new(impairment: Impairment) -> Self {
        Self::with_config(EchoConfig {
            impairment,
            key: None,
            own_addresses: Vec::new(),
            is_public: false,
            remaining: None,
        })
    }

    fn with_config(config: EchoConfig) -> Self {
        Self { echo: EchoServer::new(config, Arc::default()), actions: DatagramActions::new(true), now: START }
    }

    fn unimpaired() -> Self {
        Self::new(Impairment::none(1))
    }

    fn replies(&mut self) -> Vec<Vec<u8>> {
        let replies = self.actions.transmits().map(|(_, bytes)| bytes.to_vec()).collect();
        self.actions.clear();
        replies
    }

    fn request_from(&mut self, peer: SocketAddr, bytes: &[u8]) -> Vec<Vec<u8>> {
        self.echo.received(&datagram(peer, self.now, bytes), self.now, &mut self.actions);
        self.replies()
    }

    fn request(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        self.request_from(client(), bytes)
    }

    fn wait(&mut self, time: Duration) -> Vec<Vec<u8>> {
        self.now = self.now + time;
        self.echo.woken(self.now, &mut self.actions);
        self.replies()
    }
}

fn client() -> SocketAddr {
    SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 40_000)
}

fn remote_client(n: u32) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::from_bits(0x0b00_0000 + n).into(), 4_000)
}

fn datagram(peer: SocketAddr, at: Moment, bytes: &[u8]) -> Datagram<'_> {
    Datagram { ttl: Some(64), ..Datagram::plain(peer, at, bytes) }
}

fn stamp(seq: u32, key: Option<&MacKey>, size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let probe = Probe { seq, timestamp: 1, estimate: ErrorEstimate::UNKNOWN, ssid: 7 };
    probe.write(key, size, &mut out);
    out
}

fn reflection(bytes: &[u8]) -> Reflection {
    Reflection::read(bytes, None).expect("a reflection")
}

#[test]
fn text_comes_back_in_upper_case() {
    let mut bench = Fixture::unimpaired();
    assert_eq!(bench.request(b"Ping 1 1700"), [b"PING 1 1700"]);
    assert_eq!(bench.request("Grüße\x1b".as_bytes()), ["GRüßE\x1b".as_bytes()]);
}

#[test]
fn an_empty_datagram_is_answered_and_ends_nothing() {
    let mut bench = Fixture::unimpaired();
    assert_eq!(bench.request(b""), [b""]);
    assert_eq!(bench.request(b"a"), [b"A"]);
    assert_eq!(bench.echo.counters().received, 2);
}

#[test]
fn a_truncated_datagram_is_never_answered() {
    let mut bench = Fixture::unimpaired();
    let truncated = Datagram { truncated: true, ..datagram(client(), START, b"half of it") };
    bench.echo.received(&truncated, START, &mut bench.actions);
    assert!(bench.replies().is_empty());
    assert_eq!(bench.echo.counters().oversize, 1);
    assert_eq!(bench.request(&vec![b'x'; text_format::MAX_UDP_PAYLOAD]), [vec![b'X'; text_format::MAX_UDP_PAYLOAD]]);
}

#[test]
fn ports_of_services_that_reply_to_anything_are_not_answered() {
    let own = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 12_000);
    let mut bench = Fixture::with_config(EchoConfig {
        impairment: Impairment::none(1),
        key: None,
        own_addresses: vec![own],
        is_public: false,
        remaining: None,
    });
    for port in [0, 7, 13, 17, 19, 53, 69, 123, 12_000] {
        assert!(bench.request_from(SocketAddr::new(own.ip(), port), b"ping").is_empty());
    }
    assert_eq!(bench.echo.counters().bad_source, 9);
}

#[test]
fn a_loop_between_two_echo_servers_is_broken() {
    let mut servers = [Fixture::unimpaired(), Fixture::unimpaired()];
    let addresses = [remote_client(1), remote_client(2)];
    let mut message = b"PING 1 2".to_vec();
    let mut exchanged = 0;
    for turn in 0..10_000 {
        let (from, to) = (turn % 2, (turn + 1) % 2);
        for server in &mut servers {
            server.wait(Duration::from_micros(100));
        }
        let mut replies = servers[to].request_from(addresses[from], &message);
        let Some(reply) = replies.pop() else { break };
        message = reply;
        exchanged += 1;
    }
    assert!(exchanged <= 20, "{exchanged} datagrams in a second");
}

#[test]
fn an_upper_case_probe_is_answered_twenty_times_a_second_and_others_always() {
    let mut bench = Fixture::unimpaired();
    let mut same = 0;
    for i in 0..1_000 {
        bench.wait(Duration::from_millis(1));
        same += bench.request(b"PING").len();
        let other = SocketAddr::new(client().ip(), 50_000);
        assert_eq!(bench.request_from(other, format!("PING {i} 0").as_bytes()).len(), 1);
    }
    assert_eq!(same, 20);
}

#[test]
fn a_hundred_thousand_sources_keep_the_table_at_its_limit_and_an_active_session_in_it() {
    let mut bench = Fixture::unimpaired();
    bench.request(&stamp(0, None, 0));
    bench.request(&stamp(1, None, 0));
    for n in 0..100_000 {
        bench.request_from(remote_client(n), &stamp(0, None, 0));
    }
    assert_eq!(bench.echo.session_count(), MAX_SESSIONS);
    let reply = bench.request(&stamp(2, None, 0)).remove(0);
    assert_eq!(reflection(&reply).seq, 2, "its session was kept");
}

#[test]
fn a_public_server_limits_remote_clients_and_not_loopback() {
    let mut bench = Fixture::with_config(EchoConfig {
        impairment: Impairment::none(1),
        key: None,
        own_addresses: Vec::new(),
        is_public: true,
        remaining: None,
    });
    let answered = (0..1_000).filter(|_| !bench.request_from(remote_client(1), b"a").is_empty()).count();
    // The first datagram creates the session that holds the bucket of its prefix.
    assert_eq!(answered, PREFIX_RATE_LIMIT as usize + 1);
    assert!((0..1_000).all(|_| !bench.request(b"a").is_empty()));
    let others = (0..20_000).filter(|n| !bench.request_from(remote_client(2 + n), b"a").is_empty()).count();
    assert!(others < 10_000, "the total is limited, too: {others}");
}

#[test]
fn a_full_delay_queue_is_counted() {
    let mut bench = Fixture::new(Impairment { delay: Duration::from_secs(1), ..Impairment::none(1) });
    for _ in 0..=delay_queue::MAX_REPLIES {
        bench.request(b"a");
    }
    let held = delay_queue::MAX_REPLIES as u64;
    let counters = bench.echo.counters();
    assert_eq!((counters.delay_full, counters.held, counters.sent), (1, held, 0), "nothing has left yet");
    assert_eq!(bench.wait(Duration::from_secs(1)).len(), delay_queue::MAX_REPLIES);
    assert_eq!((bench.echo.counters().held, bench.echo.counters().sent), (0, held));
    assert_eq!(bench.echo.wake_at(), None);
}

#[test]
fn datagrams_beyond_the_requested_count_are_ignored() {
    let remaining = Some(Arc::new(AtomicU64::new(2)));
    let mut bench = Fixture::with_config(EchoConfig { remaining, ..Fixture::unimpaired().echo.config.clone() });
    let replies: Vec<_> = (0..3).map(|_| bench.request(b"ping").len()).collect();
    assert_eq!((replies, bench.echo.counters().received), (vec![1, 1, 0], 2));
}

#[test]
fn a_send_error_affects_one_peer_only() {
    let mut bench = Fixture::unimpaired();
    let error = &std::io::Error::from(std::io::ErrorKind::PermissionDenied);
    bench.echo.failed(&TransmitError::NotSent { ticket: 1, error }, START, &mut bench.actions);
    let refused = TransmitError::Unreachable { socket: 0, error, bytes: &[] };
    bench.echo.failed(&refused, START, &mut bench.actions);
    bench.echo.overflowed(3, START, &mut bench.actions);
    assert_eq!((bench.echo.counters().not_sent, bench.echo.counters().local_drops), (1, 3));
    assert_eq!(bench.request(b"a").len(), 1);
}

#[test]
fn no_reply_is_longer_than_its_request_whatever_the_bytes() {
    let mut bench = Fixture::new(Impairment {
        corrupt: "50%".parse().expect("a probability"),
        loss: LossModel::textbook(),
        direction: "both".parse().expect("a direction"),
        ..Impairment::none(3)
    });
    let random = SeededRandom::new(99, 1);
    let (mut requested, mut answered) = (0, 0);
    for number in 0..20_000 {
        let length = random.draw(DecisionKind::LOSS, number) % 160;
        let mut bytes: Vec<u8> =
            (0..length).map(|at| random.draw(DecisionKind::CORRUPT_BIT, number * 160 + at).to_le_bytes()[0]).collect();
        // Half of them look like a sender's packet, so that they reach the reflector.
        if number % 2 == 0 && bytes.len() >= UNAUTHENTICATED_SIZE {
            bytes[16..UNAUTHENTICATED_SIZE].fill(0);
        }
        bench.wait(Duration::from_millis(1));
        let replies = bench.request(&bytes);
        assert!(replies.iter().all(|reply| reply.len() <= bytes.len()));
        requested += bytes.len();
        answered += replies.iter().map(Vec::len).sum::<usize>();
    }
    assert!(answered > 0 && answered <= requested);
}

#[test]
fn clients_are_numbered_by_their_first_appearance() {
    let mut bench = Fixture::unimpaired();
    for peer in [remote_client(9), remote_client(3), remote_client(9)] {
        bench.request_from(peer, b"a");
    }
    let clients = bench.echo.clients();
    let seen: Vec<_> = clients.iter().map(|client| (client.client, client.peer, client.sent)).collect();
    assert_eq!(seen, [(1, remote_client(9), 2), (2, remote_client(3), 1)]);
}

#[test]
fn events_serialise_with_their_type() {
    let mut bench = Fixture::new(Impairment { loss: LossModel::textbook(), ..Impairment::none(42) });
    bench.request(b"a");
    let events: Vec<_> = bench.actions.events().collect();
    let json = serde_json::to_string(&events).expect("plain data");
    assert_eq!(
        json,
        r#"[{"type":"received","peer":"127.0.0.1:40000","bytes":1},{"type":"dropped","peer":"127.0.0.1:40000","client":1,"number":1,"cause":"loss_in"}]"#
    );
}
