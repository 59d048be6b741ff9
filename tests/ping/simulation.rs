//! `ping` and `ping-serve` through a relay that loses, duplicates, reorders and corrupts datagrams.

use std::net::UdpSocket;

use crate::support::relay::{Direction, Relay, Treatment};
use crate::support::{Server, run};

fn measure(
    decide: impl Fn(Direction, u64) -> Treatment + Send + Sync + 'static,
    flags: &[&str],
) -> (serde_json::Value, (u64, u64)) {
    let server = Server::start(&["ping-serve", "--loss", "0", "-q"]);
    let relay = Relay::udp(server.address(), decide);
    let target = relay.address.to_string();
    let ran = run(&[&["ping", &target, "-c", "50", "-i", "2ms", "--timeout", "300ms", "--json"], flags].concat());
    (ran.summary(), relay.dropped())
}

#[test]
fn the_reported_loss_is_that_of_the_network() {
    let lossy = |way: Direction, number: u64| {
        if (number * 7 + u64::from(way == Direction::Down)).is_multiple_of(5) {
            Treatment::Drop
        } else {
            Treatment::Pass
        }
    };
    for flags in [&[][..], &["--wire", "stamp"]] {
        let (summary, (up, down)) = measure(lossy, flags);
        assert!(up > 0 && down > 0);
        assert_eq!(summary["lost"], up + down, "{summary}");
        if !flags.is_empty() {
            let ways = &summary["ways"];
            let split = ["lost_up", "lost_down", "lost_somewhere"].map(|key| ways[key].as_u64().expect("a count"));
            assert!(split[0] <= up && split[1] <= down && split.iter().sum::<u64>() == up + down, "{ways} {up} {down}");
        }
    }
}

#[test]
fn duplicates_are_counted_separately_from_replies() {
    let (summary, _) = measure(
        |way, number| if way == Direction::Down && number % 10 == 5 { Treatment::Duplicate } else { Treatment::Pass },
        &[],
    );
    assert_eq!(
        (&summary["received"], &summary["duplicates"], &summary["loss"]),
        (&50.into(), &5.into(), &0.0.into()),
        "{summary}"
    );
    assert_eq!(summary["rtt"]["count"], 50, "only first replies are measured");
}

#[test]
fn reordered_replies_are_matched_to_their_pings() {
    let (summary, _) = measure(
        |way, number| if way == Direction::Down && number % 10 == 5 { Treatment::Reorder } else { Treatment::Pass },
        &[],
    );
    assert_eq!((&summary["received"], &summary["reordered"]), (&50.into(), &5.into()), "{summary}");
}

#[test]
fn a_corrupted_reply_does_not_count_as_a_reply() {
    let (summary, _) = measure(
        |way, number| {
            if way == Direction::Down && number.is_multiple_of(10) { Treatment::Corrupt } else { Treatment::Pass }
        },
        &[],
    );
    assert_eq!((&summary["corrupt"], &summary["lost"]), (&5.into(), &5.into()), "{summary}");
}

#[test]
fn a_reply_from_another_port_does_not_count_as_a_reply() {
    // A server that replies from another port than the target.
    let target_socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let target = target_socket.local_addr().expect("bound").to_string();
    let server = std::thread::spawn(move || {
        let other = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let mut buffer = [0; 100];
        for _ in 0..3 {
            let (length, from) = target_socket.recv_from(&mut buffer).expect("a ping");
            other.send_to(&buffer[..length], from).expect("sent");
        }
    });
    let ran = run(&["ping", &target, "-c", "3", "-i", "1ms", "--timeout", "50ms", "--linger", "0", "--json"]);
    server.join().expect("three pings received");
    assert_eq!((ran.code, &ran.summary()["received"]), (1, &0.into()));
}
