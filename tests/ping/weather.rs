//! The pair through a bad network that is not ours.

use std::net::UdpSocket;

use crate::support::relay::{Fate, Relay, Way};
use crate::support::{Server, run};

fn through(
    decide: impl Fn(Way, u64) -> Fate + Send + Sync + 'static,
    flags: &[&str],
) -> (serde_json::Value, (u64, u64)) {
    let server = Server::start(&["ping-serve", "--loss", "0", "-q"]);
    let relay = Relay::udp(server.address(), decide);
    let target = relay.address.to_string();
    let ran = run(&[&["ping", &target, "-c", "50", "-i", "2ms", "--timeout", "300ms", "--json"], flags].concat());
    (ran.summary(), relay.dropped())
}

#[test]
fn what_the_network_loses_is_what_is_reported() {
    let lossy = |way: Way, number: u64| {
        if (number * 7 + u64::from(way == Way::Down)).is_multiple_of(5) { Fate::Drop } else { Fate::Pass }
    };
    for flags in [&[][..], &["--wire", "stamp"]] {
        let (summary, (up, down)) = through(lossy, flags);
        assert!(up > 0 && down > 0);
        assert_eq!(summary["lost"], up + down, "{summary}");
        if !flags.is_empty() {
            let ways = &summary["ways"];
            let known = ["lost_up", "lost_down", "lost_somewhere"].map(|key| ways[key].as_u64().expect("a count"));
            assert!(known[0] <= up && known[1] <= down && known.iter().sum::<u64>() == up + down, "{ways} {up} {down}");
        }
    }
}

#[test]
fn copies_are_counted_beside_and_never_make_up_for_losses() {
    let (summary, _) =
        through(|way, number| if way == Way::Down && number % 10 == 5 { Fate::Twice } else { Fate::Pass }, &[]);
    assert_eq!(
        (&summary["received"], &summary["duplicates"], &summary["loss"]),
        (&50.into(), &5.into(), &0.0.into()),
        "{summary}"
    );
    assert_eq!(summary["rtt"]["count"], 50, "only first copies are measured");
}

#[test]
fn answers_out_of_order_belong_to_their_own_pings() {
    let (summary, _) =
        through(|way, number| if way == Way::Down && number % 10 == 5 { Fate::AfterNext } else { Fate::Pass }, &[]);
    assert_eq!((&summary["received"], &summary["reordered"]), (&50.into(), &5.into()), "{summary}");
}

#[test]
fn a_damaged_answer_is_no_answer() {
    let (summary, _) =
        through(|way, number| if way == Way::Down && number.is_multiple_of(10) { Fate::Flip } else { Fate::Pass }, &[]);
    assert_eq!((&summary["corrupt"], &summary["lost"]), (&5.into(), &5.into()), "{summary}");
}

#[test]
fn an_answer_from_somebody_else_is_none() {
    // A server that answers from another port than it was asked at.
    let asked = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let target = asked.local_addr().expect("bound").to_string();
    let stranger = std::thread::spawn(move || {
        let other = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let mut buffer = [0; 100];
        for _ in 0..3 {
            let (length, from) = asked.recv_from(&mut buffer).expect("a ping");
            other.send_to(&buffer[..length], from).expect("sent");
        }
    });
    let ran = run(&["ping", &target, "-c", "3", "-i", "1ms", "--timeout", "50ms", "--linger", "0", "--json"]);
    stranger.join().expect("it heard three pings");
    assert_eq!((ran.code, &ran.summary()["received"]), (1, &0.into()));
}
