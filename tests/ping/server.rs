//! `ping-serve` against raw datagrams, valid and hostile.

use std::net::UdpSocket;
use std::time::Duration;

use crate::support::{Server, TEST_TIMEOUT, run};

fn client(server: &Server) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.connect(server.address()).expect("loopback");
    socket.set_read_timeout(Some(TEST_TIMEOUT)).expect("set");
    socket
}

/// Sends `bytes` and receives the reply.
fn request(socket: &UdpSocket, bytes: &[u8]) -> Vec<u8> {
    let mut reply = vec![0; 65_536];
    socket.send(bytes).expect("sent");
    let length = socket.recv(&mut reply).expect("a reply");
    reply.truncate(length);
    reply
}

#[test]
fn the_first_event_describes_the_loss_of_the_textbook() {
    let server = Server::start(&["ping-serve"]);
    let ran = server.stop();
    assert!(ran.stdout.contains("dropping 4 of 11 datagrams at random (36.4 %), seed "), "{}", ran.stdout);
}

#[test]
fn ascii_letters_come_back_in_upper_case_and_nothing_else_changes() {
    let server = Server::start(&["ping-serve", "--loss", "0"]);
    let socket = client(&server);
    for (sent, reply) in [
        (&b"Ping 1 1700000000000"[..], &b"PING 1 1700000000000"[..]),
        (b"ping", b"PING"),
        ("grüße ß".as_bytes(), "GRüßE ß".as_bytes()),
        (b"\x01\xff~", b"\x01\xff~"),
        (b"", b""),
    ] {
        assert_eq!(request(&socket, sent), reply);
    }
    let large = vec![b'a'; 65_507];
    assert_eq!(request(&socket, &large), vec![b'A'; 65_507], "the largest payload");
}

#[test]
fn every_datagram_has_its_events_and_the_summary_adds_up() {
    let server = Server::start(&["ping-serve", "--loss", "list:2", "--json"]);
    let socket = client(&server);
    request(&socket, b"one");
    socket.send(b"two").expect("sent");
    request(&socket, b"three");
    let ran = server.stop();
    let types: Vec<String> =
        ran.events().iter().map(|event| event["type"].as_str().expect("a type").to_owned()).collect();
    assert_eq!(types, ["listening", "received", "sent", "received", "dropped", "received", "sent", "summary"]);
    let summary = ran.summary();
    assert_eq!((&summary["received"], &summary["sent"], &summary["lost_in"]), (&3.into(), &2.into(), &1.into()));
    assert_eq!((&summary["clients"][0]["client"], &summary["clients"][0]["received"]), (&1.into(), &3.into()));
}

#[test]
fn the_server_stops_after_its_count_or_its_time() {
    let server = Server::start(&["ping-serve", "--loss", "0", "--count", "3", "--threads=2"]);
    let socket = client(&server);
    (0..3).for_each(|_| drop(request(&socket, b"x")));
    assert_eq!(server.wait().code, 0);
    assert_eq!(run(&["ping-serve", "--bind", "0", "--for", "20ms"]).code, 0);
}

#[test]
fn a_port_is_never_shared_with_another_server() {
    let server = Server::start(&["ping-serve", "--threads=2"]);
    let ran = run(&["ping-serve", "--bind", &server.addresses[0], "--threads=2"]);
    assert_eq!(ran.code, 71, "{}", ran.stderr);
}

#[test]
fn garbage_is_counted_and_never_amplified() {
    let server = Server::start(&["ping-serve", "--loss", "0", "-q", "--json"]);
    let socket = client(&server);
    // Replies are read only after everything is sent.
    socket2::SockRef::from(&socket).set_recv_buffer_size(4 << 20).expect("set");
    let mut seed = 7_u32;
    let (mut sent, mut count) = (0, 0);
    for length in 0..300_usize {
        let noise: Vec<u8> = (0..length)
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 24) as u8
            })
            .collect();
        socket.send(&noise).expect("sent");
        sent += noise.len();
        count += 1;
    }
    // Replies keep the order of their requests, so this reply is the last.
    socket.send(b"the last one").expect("sent");
    let (mut received, mut reply) = (0, vec![0; 65_536]);
    loop {
        let length = socket.recv(&mut reply).expect("a reply");
        if reply[..length] == *b"THE LAST ONE" {
            break;
        }
        received += length;
    }
    assert!(received <= sent, "{received} of {sent}");
    let summary = server.stop().summary();
    assert_eq!(summary["received"], count + 1);
    assert!(summary["malformed"].as_u64().is_some_and(|malformed| malformed > 0), "{summary}");
}

#[test]
fn a_loop_between_two_servers_is_broken() {
    let first = Server::start(&["ping-serve", "--loss", "0", "-q", "--json"]);
    let second = Server::start(&["ping-serve", "--loss", "0", "-q", "--json"]);
    // A relay that only swaps addresses has the effect of a forged source.
    let relay = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    relay.set_read_timeout(Some(Duration::from_millis(300))).expect("set");
    relay.send_to(b"PING 1 2", first.address()).expect("sent");
    let mut buffer = [0; 100];
    let mut rounds = 0;
    while let Ok((length, from)) = relay.recv_from(&mut buffer) {
        let to = if from == first.address() { second.address() } else { first.address() };
        relay.send_to(&buffer[..length], to).expect("sent");
        rounds += 1;
        assert!(rounds < 1_000, "the loop is not broken");
    }
    let looping = |server: Server| server.stop().summary()["looping"].as_u64().expect("a count");
    assert!(looping(first) + looping(second) > 0);
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    let server = Server::start(&["ping-serve", "--loss", "0"]);
    request(&client(&server), b"\x1b[2J\x07");
    assert!(!server.stop().stdout.contains('\x1b'));
}

#[test]
fn the_number_of_remembered_clients_is_bounded() {
    let server = Server::start(&["ping-serve", "--loss", "0", "-q", "--json"]);
    for batch in 0..40 {
        let sockets: Vec<UdpSocket> = (0..250).map(|_| client(&server)).collect();
        for socket in &sockets {
            request(socket, format!("ping {batch}").as_bytes());
        }
    }
    let summary = server.stop().summary();
    assert_eq!(summary["received"], 10_000);
    assert!(summary["clients"].as_array().is_some_and(|clients| clients.len() <= 4096), "the table is bounded");
}
