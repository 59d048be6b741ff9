//! Relay on loopback that impairs the traffic between two programs in a repeatable direction.
//!
//! TCP: the bytes of the server arrive in slices of a given size, or the connection is reset after a number of
//! bytes. UDP: loss, duplication, reordering and corruption, decided per datagram by its number and direction.
//! The relay forwards between one server and any number of clients and ends with its test.

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Treatment of one datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Treatment {
    Pass,
    Drop,
    Duplicate,
    /// Forward it after the next datagram of its direction.
    Reorder,
    /// Flip one bit of its last byte.
    Corrupt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Direction {
    /// Client to server.
    Up,
    /// Server to client.
    Down,
}

type Decide = dyn Fn(Direction, u64) -> Treatment + Send + Sync;

/// Running relay.
pub(crate) struct Relay {
    /// Address for the clients.
    pub address: SocketAddr,
    over: Arc<AtomicBool>,
    dropped: Arc<[AtomicU64; 2]>,
    threads: Vec<JoinHandle<()>>,
}

/// Interval at which threads check whether the test is over.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

impl Relay {
    /// Starts a UDP relay to `server`; datagrams are counted from 1 in each direction.
    pub(crate) fn udp(
        server: SocketAddr,
        decide: impl Fn(Direction, u64) -> Treatment + Send + Sync + 'static,
    ) -> Self {
        let front = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        front.set_read_timeout(Some(POLL_INTERVAL)).expect("set");
        let address = front.local_addr().expect("bound");
        let (over, dropped) = (Arc::new(AtomicBool::new(false)), Arc::new([AtomicU64::new(0), AtomicU64::new(0)]));
        let decide: Arc<Decide> = Arc::new(decide);
        let thread = {
            let (over, dropped) = (Arc::clone(&over), Arc::clone(&dropped));
            std::thread::spawn(move || up(&front, server, &decide, &over, &dropped))
        };
        Self { address, over, dropped, threads: vec![thread] }
    }

    /// Starts a TCP relay to `server`; handles one connection after the other.
    pub(crate) fn tcp(server: SocketAddr, impairment: TcpImpairment) -> Self {
        let front = TcpListener::bind("127.0.0.1:0").expect("a free port");
        front.set_nonblocking(true).expect("set");
        let address = front.local_addr().expect("bound");
        let (over, dropped) = (Arc::new(AtomicBool::new(false)), Arc::new([AtomicU64::new(0), AtomicU64::new(0)]));
        let thread = {
            let over = Arc::clone(&over);
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    match front.accept() {
                        Ok((client, _)) => drop(forward(client, server, impairment)),
                        Err(_) => std::thread::park_timeout(POLL_INTERVAL),
                    }
                }
            })
        };
        Self { address, over, dropped, threads: vec![thread] }
    }

    /// Number of datagrams dropped upstream and downstream.
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

/// Impairment of a TCP connection from server to client.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TcpImpairment {
    /// Slices of this many bytes, each sent before the next.
    Slices(usize),
    /// RST after this many bytes.
    ResetAfter(usize),
}

/// Carries one connection; the client's octets pass as they are.
fn forward(client: TcpStream, server: SocketAddr, impairment: TcpImpairment) -> io::Result<()> {
    client.set_nonblocking(false)?;
    client.set_nodelay(true)?;
    let server = TcpStream::connect(server)?;
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    let up = std::thread::spawn(move || {
        io::copy(&mut from_client, &mut to_server).map(|_| to_server.shutdown(std::net::Shutdown::Write))
    });
    let result = down(&server, &client, impairment);
    if matches!(impairment, TcpImpairment::ResetAfter(_)) {
        socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO))?;
    }
    let _ = server.shutdown(std::net::Shutdown::Both);
    let _ = client.shutdown(std::net::Shutdown::Read);
    drop(client);
    drop(up.join());
    result
}

fn down(mut server: &TcpStream, mut client: &TcpStream, impairment: TcpImpairment) -> io::Result<()> {
    let (slice, limit) = match impairment {
        TcpImpairment::Slices(slice) => (slice, usize::MAX),
        TcpImpairment::ResetAfter(limit) => (limit, limit),
    };
    let mut buffer = vec![0; slice];
    let mut passed = 0;
    while passed < limit {
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
    let mut state = DirectionState::new(Direction::Up);
    let mut buffer = vec![0; 65_536];
    while !over.load(Ordering::Relaxed) {
        let Ok((length, client)) = front.recv_from(&mut buffer) else { continue };
        let back = backs.entry(client).or_insert_with(|| {
            let back = Arc::new(UdpSocket::bind("127.0.0.1:0").expect("a free port"));
            back.connect(server).expect("loopback");
            back.set_read_timeout(Some(POLL_INTERVAL)).expect("set");
            let (socket, front) = (Arc::clone(&back), front.try_clone().expect("cloned"));
            let (decide, over, dropped) = (Arc::clone(decide), Arc::clone(over), Arc::clone(dropped));
            threads.push(std::thread::spawn(move || {
                let mut state = DirectionState::new(Direction::Down);
                let mut buffer = vec![0; 65_536];
                while !over.load(Ordering::Relaxed) {
                    let Ok(length) = socket.recv(&mut buffer) else { continue };
                    state.pass(&buffer[..length], &*decide, &dropped, |bytes| front.send_to(bytes, client));
                }
            }));
            back
        });
        state.pass(&buffer[..length], &**decide, dropped, |bytes| back.send(bytes));
    }
    threads.into_iter().for_each(|thread| drop(thread.join()));
}

/// One direction.
struct DirectionState {
    direction: Direction,
    number: u64,
    held: Option<Vec<u8>>,
}

impl DirectionState {
    fn new(direction: Direction) -> Self {
        Self { direction, number: 0, held: None }
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
        match decide(self.direction, self.number) {
            Treatment::Pass => send(bytes),
            Treatment::Drop => {
                dropped[usize::from(self.direction == Direction::Down)].fetch_add(1, Ordering::Relaxed);
            }
            Treatment::Duplicate => {
                send(bytes);
                send(bytes);
            }
            Treatment::Reorder => self.held = Some(bytes.to_owned()),
            Treatment::Corrupt => {
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
