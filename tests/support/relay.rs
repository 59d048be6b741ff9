//! A bad network between two programs, on loopback, by rules that can be repeated.
//!
//! For TCP: the server's octets come in slices of any size, or the connection is reset after so
//! many of them. For UDP: loss, duplication, reordering and delay, decided per datagram by its number and
//! direction, so that a run can be repeated. It forwards between one server and any number of
//! clients and ends with its test.

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// What happens to one datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It passes.
    Pass,
    /// It is lost.
    Drop,
    /// It passes twice.
    Twice,
    /// It passes after the next one of its direction.
    AfterNext,
    /// One bit of its last octet is flipped.
    Flip,
}

/// Which way a datagram goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Way {
    /// From a client to the server.
    Up,
    /// Back.
    Down,
}

type Decide = dyn Fn(Way, u64) -> Fate + Send + Sync;

/// The network.
pub(crate) struct Relay {
    /// Where clients send to.
    pub address: SocketAddr,
    over: Arc<AtomicBool>,
    dropped: Arc<[AtomicU64; 2]>,
    threads: Vec<JoinHandle<()>>,
}

/// How often a thread looks whether the test is over.
const GLANCE: Duration = Duration::from_millis(20);

impl Relay {
    /// A network in front of `server`; datagrams are counted from 1 in each direction.
    pub(crate) fn udp(server: SocketAddr, decide: impl Fn(Way, u64) -> Fate + Send + Sync + 'static) -> Self {
        let front = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        front.set_read_timeout(Some(GLANCE)).expect("set");
        let address = front.local_addr().expect("bound");
        let (over, dropped) = (Arc::new(AtomicBool::new(false)), Arc::new([AtomicU64::new(0), AtomicU64::new(0)]));
        let decide: Arc<Decide> = Arc::new(decide);
        let thread = {
            let (over, dropped) = (Arc::clone(&over), Arc::clone(&dropped));
            std::thread::spawn(move || up(&front, server, &decide, &over, &dropped))
        };
        Self { address, over, dropped, threads: vec![thread] }
    }

    /// A network in front of `server` through which its octets come as `weather` says; one
    /// connection after the other.
    pub(crate) fn tcp(server: SocketAddr, weather: TcpImpairment) -> Self {
        let front = TcpListener::bind("127.0.0.1:0").expect("a free port");
        front.set_nonblocking(true).expect("set");
        let address = front.local_addr().expect("bound");
        let (over, dropped) = (Arc::new(AtomicBool::new(false)), Arc::new([AtomicU64::new(0), AtomicU64::new(0)]));
        let thread = {
            let over = Arc::clone(&over);
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    match front.accept() {
                        Ok((client, _)) => drop(carry(client, server, weather)),
                        Err(_) => std::thread::park_timeout(GLANCE),
                    }
                }
            })
        };
        Self { address, over, dropped, threads: vec![thread] }
    }

    /// Datagrams lost on the way up and on the way down.
    pub(crate) fn dropped(&self) -> (u64, u64) {
        (self.dropped[0].load(Ordering::Relaxed), self.dropped[1].load(Ordering::Relaxed))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

/// What a TCP connection goes through on its way down.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TcpImpairment {
    /// Slices of so many octets, each on its way before the next.
    Slices(usize),
    /// An RST after so many octets.
    ResetAfter(usize),
}

/// Carries one connection; the client's octets pass as they are.
fn carry(client: TcpStream, server: SocketAddr, weather: TcpImpairment) -> io::Result<()> {
    client.set_nonblocking(false)?;
    client.set_nodelay(true)?;
    let server = TcpStream::connect(server)?;
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    let up = std::thread::spawn(move || {
        io::copy(&mut from_client, &mut to_server).map(|_| to_server.shutdown(std::net::Shutdown::Write))
    });
    let carried = down(&server, &client, weather);
    if matches!(weather, TcpImpairment::ResetAfter(_)) {
        socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO))?;
    }
    let _ = server.shutdown(std::net::Shutdown::Both);
    let _ = client.shutdown(std::net::Shutdown::Read);
    drop(client);
    drop(up.join());
    carried
}

fn down(mut server: &TcpStream, mut client: &TcpStream, weather: TcpImpairment) -> io::Result<()> {
    let (slice, most) = match weather {
        TcpImpairment::Slices(slice) => (slice, usize::MAX),
        TcpImpairment::ResetAfter(most) => (most, most),
    };
    let mut buffer = vec![0; slice];
    let mut passed = 0;
    while passed < most {
        let length = server.read(&mut buffer)?;
        if length == 0 {
            return client.shutdown(std::net::Shutdown::Write);
        }
        client.write_all(&buffer[..length])?;
        passed += length;
    }
    Ok(())
}

fn up(
    front: &UdpSocket,
    server: SocketAddr,
    decide: &Arc<Decide>,
    over: &Arc<AtomicBool>,
    dropped: &Arc<[AtomicU64; 2]>,
) {
    let mut backs: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut threads = Vec::new();
    let mut lane = Lane::new(Way::Up);
    let mut buffer = vec![0; 65_536];
    while !over.load(Ordering::Relaxed) {
        let Ok((length, client)) = front.recv_from(&mut buffer) else { continue };
        let back = backs.entry(client).or_insert_with(|| {
            let back = Arc::new(UdpSocket::bind("127.0.0.1:0").expect("a free port"));
            back.connect(server).expect("loopback");
            back.set_read_timeout(Some(GLANCE)).expect("set");
            let (socket, front) = (Arc::clone(&back), front.try_clone().expect("cloned"));
            let (decide, over, dropped) = (Arc::clone(decide), Arc::clone(over), Arc::clone(dropped));
            threads.push(std::thread::spawn(move || {
                let mut lane = Lane::new(Way::Down);
                let mut buffer = vec![0; 65_536];
                while !over.load(Ordering::Relaxed) {
                    let Ok(length) = socket.recv(&mut buffer) else { continue };
                    lane.pass(&buffer[..length], &*decide, &dropped, |bytes| front.send_to(bytes, client));
                }
            }));
            back
        });
        lane.pass(&buffer[..length], &**decide, dropped, |bytes| back.send(bytes));
    }
    threads.into_iter().for_each(|thread| drop(thread.join()));
}

/// One direction.
struct Lane {
    way: Way,
    number: u64,
    held: Option<Vec<u8>>,
}

impl Lane {
    fn new(way: Way) -> Self {
        Self { way, number: 0, held: None }
    }

    fn pass(
        &mut self,
        bytes: &[u8],
        decide: &Decide,
        dropped: &[AtomicU64; 2],
        send: impl Fn(&[u8]) -> io::Result<usize>,
    ) {
        self.number += 1;
        let held = self.held.take();
        let send = |bytes: &[u8]| drop(send(bytes));
        match decide(self.way, self.number) {
            Fate::Pass => send(bytes),
            Fate::Drop => {
                dropped[usize::from(self.way == Way::Down)].fetch_add(1, Ordering::Relaxed);
            }
            Fate::Twice => {
                send(bytes);
                send(bytes);
            }
            Fate::AfterNext => self.held = Some(bytes.to_owned()),
            Fate::Flip => {
                let mut bytes = bytes.to_owned();
                if let Some(last) = bytes.last_mut() {
                    *last ^= 1;
                }
                send(&bytes);
            }
        }
        if let Some(held) = held {
            send(&held);
        }
    }
}
