//! Every hostile input has its right answer, mostly silence.

mod reflector;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::{Echo, EchoFact, NET_LIMIT, Rules};
use crate::conversation::{Datagram, DatagramActions, DatagramProtocol, TransmitError};
use crate::impair::{Dice, Impairment, Kind, Loss};
use crate::probe::ntp::ErrorEstimate;
use crate::probe::stamp::{Probe, Reflection, SHORT};
use crate::probe::table::SESSIONS;
use crate::probe::{delayed, text};
use crate::seal::Key;
use crate::time::Moment;

const START: Moment = Moment::new(Duration::from_secs(5), Duration::from_secs(1_764_000_000));

struct Bench {
    echo: Echo,
    post: DatagramActions<EchoFact>,
    now: Moment,
}

impl Bench {
    fn new(impairment: Impairment) -> Self {
        Self::by(Rules { impairment, key: None, own: Vec::new(), public: false, remaining: None })
    }

    fn by(rules: Rules) -> Self {
        Self { echo: Echo::new(rules, Arc::default()), post: DatagramActions::new(true), now: START }
    }

    fn honest() -> Self {
        Self::new(Impairment::none(1))
    }

    fn replies(&mut self) -> Vec<Vec<u8>> {
        let replies = self.post.transmits().map(|(_, bytes)| bytes.to_vec()).collect();
        self.post.clear();
        replies
    }

    fn ask_as(&mut self, peer: SocketAddr, bytes: &[u8]) -> Vec<Vec<u8>> {
        self.echo.received(&datagram(peer, self.now, bytes), self.now, &mut self.post);
        self.replies()
    }

    fn ask(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        self.ask_as(client(), bytes)
    }

    fn wait(&mut self, time: Duration) -> Vec<Vec<u8>> {
        self.now = self.now + time;
        self.echo.woken(self.now, &mut self.post);
        self.replies()
    }
}

fn client() -> SocketAddr {
    SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 40_000)
}

fn stranger(n: u32) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::from_bits(0x0b00_0000 + n).into(), 4_000)
}

fn datagram(peer: SocketAddr, at: Moment, bytes: &[u8]) -> Datagram<'_> {
    Datagram { ttl: Some(64), ..Datagram::plain(peer, at, bytes) }
}

fn stamp(seq: u32, key: Option<&Key>, size: usize) -> Vec<u8> {
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
    let mut bench = Bench::honest();
    assert_eq!(bench.ask(b"Ping 1 1700"), [b"PING 1 1700"]);
    assert_eq!(bench.ask("Grüße\x1b".as_bytes()), ["GRüßE\x1b".as_bytes()]);
}

#[test]
fn an_empty_datagram_is_an_empty_message_and_not_the_end() {
    let mut bench = Bench::honest();
    assert_eq!(bench.ask(b""), [b""]);
    assert_eq!(bench.ask(b"a"), [b"A"]);
    assert_eq!(bench.echo.tally().received, 2);
}

#[test]
fn a_cut_datagram_is_never_answered_by_half() {
    let mut bench = Bench::honest();
    let cut = Datagram { truncated: true, ..datagram(client(), START, b"half of it") };
    bench.echo.received(&cut, START, &mut bench.post);
    assert!(bench.replies().is_empty());
    assert_eq!(bench.echo.tally().oversize, 1);
    assert_eq!(bench.ask(&vec![b'x'; text::LARGEST]), [vec![b'X'; text::LARGEST]]);
}

#[test]
fn services_that_would_answer_back_get_nothing() {
    let own = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 12_000);
    let mut bench =
        Bench::by(Rules { impairment: Impairment::none(1), key: None, own: vec![own], public: false, remaining: None });
    for port in [0, 7, 13, 17, 19, 53, 69, 123, 12_000] {
        assert!(bench.ask_as(SocketAddr::new(own.ip(), port), b"ping").is_empty());
    }
    assert_eq!(bench.echo.tally().bad_source, 9);
}

#[test]
fn two_echoes_set_on_each_other_die_down() {
    let mut servers = [Bench::honest(), Bench::honest()];
    let addresses = [stranger(1), stranger(2)];
    let mut message = b"PING 1 2".to_vec();
    let mut exchanged = 0;
    for turn in 0..10_000 {
        let (from, to) = (turn % 2, (turn + 1) % 2);
        for server in &mut servers {
            server.wait(Duration::from_micros(100));
        }
        let mut replies = servers[to].ask_as(addresses[from], &message);
        let Some(reply) = replies.pop() else { break };
        message = reply;
        exchanged += 1;
    }
    assert!(exchanged <= 20, "{exchanged} datagrams in a second");
}

#[test]
fn an_upper_case_probe_is_answered_twenty_times_a_second_and_others_always() {
    let mut bench = Bench::honest();
    let mut same = 0;
    for i in 0..1_000 {
        bench.wait(Duration::from_millis(1));
        same += bench.ask(b"PING").len();
        let other = SocketAddr::new(client().ip(), 50_000);
        assert_eq!(bench.ask_as(other, format!("PING {i} 0").as_bytes()).len(), 1);
    }
    assert_eq!(same, 20);
}

#[test]
fn a_hundred_thousand_sources_leave_the_table_at_its_bound_and_a_live_session_alive() {
    let mut bench = Bench::honest();
    bench.ask(&stamp(0, None, 0));
    bench.ask(&stamp(1, None, 0));
    for n in 0..100_000 {
        bench.ask_as(stranger(n), &stamp(0, None, 0));
    }
    assert_eq!(bench.echo.sessions(), SESSIONS);
    let reply = bench.ask(&stamp(2, None, 0)).remove(0);
    assert_eq!(reflection(&reply).seq, 2, "its counter went on");
}

#[test]
fn where_strangers_can_come_in_they_are_limited_and_loopback_is_not() {
    let mut bench =
        Bench::by(Rules { impairment: Impairment::none(1), key: None, own: Vec::new(), public: true, remaining: None });
    let answered = (0..1_000).filter(|_| !bench.ask_as(stranger(1), b"a").is_empty()).count();
    // The first finds no session of its network yet, and begins one.
    assert_eq!(answered, NET_LIMIT as usize + 1);
    assert!((0..1_000).all(|_| !bench.ask(b"a").is_empty()));
    let others = (0..20_000).filter(|n| !bench.ask_as(stranger(2 + n), b"a").is_empty()).count();
    assert!(others < 10_000, "everybody together is limited too: {others}");
}

#[test]
fn a_full_delay_queue_is_counted() {
    let mut bench = Bench::new(Impairment { delay: Duration::from_secs(1), ..Impairment::none(1) });
    for _ in 0..=delayed::REPLIES {
        bench.ask(b"a");
    }
    let held = delayed::REPLIES as u64;
    let tally = bench.echo.tally();
    assert_eq!((tally.delay_full, tally.held, tally.sent), (1, held, 0), "nothing has left yet");
    assert_eq!(bench.wait(Duration::from_secs(1)).len(), delayed::REPLIES);
    assert_eq!((bench.echo.tally().held, bench.echo.tally().sent), (0, held));
    assert_eq!(bench.echo.wake_at(), None);
}

#[test]
fn what_comes_after_the_last_one_that_was_wanted_is_not_taken() {
    let remaining = Some(Arc::new(AtomicU64::new(2)));
    let mut bench = Bench::by(Rules { remaining, ..Bench::honest().echo.rules.clone() });
    let answers: Vec<_> = (0..3).map(|_| bench.ask(b"ping").len()).collect();
    assert_eq!((answers, bench.echo.tally().received), (vec![1, 1, 0], 2));
}

#[test]
fn what_the_system_will_not_send_is_one_peers_trouble() {
    let mut bench = Bench::honest();
    let error = &std::io::Error::from(std::io::ErrorKind::PermissionDenied);
    bench.echo.failed(&TransmitError::NotSent { ticket: 1, error }, START, &mut bench.post);
    let refused = TransmitError::Unreachable { socket: 0, error, bytes: &[] };
    bench.echo.failed(&refused, START, &mut bench.post);
    bench.echo.overflowed(3, START, &mut bench.post);
    assert_eq!((bench.echo.tally().not_sent, bench.echo.tally().local_drops), (1, 3));
    assert_eq!(bench.ask(b"a").len(), 1);
}

#[test]
fn no_reply_is_longer_than_its_request_whatever_the_octets() {
    let mut bench = Bench::new(Impairment {
        corrupt: "50%".parse().expect("a probability"),
        loss: Loss::textbook(),
        direction: "both".parse().expect("a direction"),
        ..Impairment::none(3)
    });
    let dice = Dice::new(99, 1);
    let (mut asked, mut answered) = (0, 0);
    for number in 0..20_000 {
        let length = dice.throw(Kind::LOSS, number) % 160;
        let mut bytes: Vec<u8> =
            (0..length).map(|at| dice.throw(Kind::DAMAGE, number * 160 + at).to_le_bytes()[0]).collect();
        // Half of them look like a sender's packet, so that the reflector is reached.
        if number % 2 == 0 && bytes.len() >= SHORT {
            bytes[16..SHORT].fill(0);
        }
        bench.wait(Duration::from_millis(1));
        let replies = bench.ask(&bytes);
        assert!(replies.iter().all(|reply| reply.len() <= bytes.len()));
        asked += bytes.len();
        answered += replies.iter().map(Vec::len).sum::<usize>();
    }
    assert!(answered > 0 && answered <= asked);
}

#[test]
fn clients_are_numbered_by_their_first_appearance() {
    let mut bench = Bench::honest();
    for peer in [stranger(9), stranger(3), stranger(9)] {
        bench.ask_as(peer, b"a");
    }
    let clients = bench.echo.clients();
    let seen: Vec<_> = clients.iter().map(|client| (client.client, client.peer, client.sent)).collect();
    assert_eq!(seen, [(1, stranger(9), 2), (2, stranger(3), 1)]);
}

#[test]
fn facts_serialise_with_their_type() {
    let mut bench = Bench::new(Impairment { loss: Loss::textbook(), ..Impairment::none(42) });
    bench.ask(b"a");
    let facts: Vec<_> = bench.post.events().collect();
    let json = serde_json::to_string(&facts).expect("plain data");
    assert_eq!(
        json,
        r#"[{"type":"received","peer":"127.0.0.1:40000","bytes":1},{"type":"dropped","peer":"127.0.0.1:40000","client":1,"number":1,"cause":"loss_in"}]"#
    );
}
