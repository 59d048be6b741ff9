//! Network layer: the only module that uses sockets, TLS, the clock and name resolution, or handles signals.
//!
//! Owns the transport of bytes, not their meaning. Two loops run a protocol over a [`Connection`]:
//! [`run_client()`] for a client with one connection, [`serve()`] for a server with thousands. Sockets are
//! created with socket2 and waited for with mio, poll or ppoll.
//!
//! ```text
//!   bind ─▶ Listeners ─▶ serve ───────┐                            ┌── StreamProtocol (http, smtp)
//!                                     ├─▶ Connection (TLS inside) ─┤
//!   resolve ─▶ connect ─▶ run_client ─┘                            └── events ─▶ commands
//!
//!   DatagramSockets ─▶ datagram::serve ───┐
//!                                         ├─▶ Endpoint (batches, timestamps) ── DatagramProtocol (probe, heartbeat)
//!   SocketOptions ─▶ datagram::run_client ┘
//! ```

mod bind_address;
mod bound;
mod client_loop;
mod clock;
mod connect;
mod connection;
pub(crate) mod datagram;
mod event_loop;
mod listen;
mod recv_buffer;
mod resolve;
mod send_queue;
mod server;
mod service_manager;
mod signals;
mod stream;
mod thread_pool;
mod timers;
pub(crate) mod tls;
mod udp;

pub(crate) use bind_address::{Address, BindAddress};
pub(crate) use client_loop::run_client;
pub(crate) use clock::now;
pub(crate) use connect::connect;
pub(crate) use connection::Connection;
pub(crate) use listen::Listeners;
pub(crate) use resolve::resolve;
pub(crate) use server::{Accepted, Incoming, Notice, ServerConfig, Service, connection_capacity, serve};
pub(crate) use service_manager::{notify_ready, notify_watchdog, watchdog_interval};
pub(crate) use signals::{Signal, Signals, WakeReason, Waker};
pub(crate) use timers::ConnectionTimeouts;
pub(crate) use tls::StartTls;
pub(crate) use udp::{DatagramSockets, SocketOptions};
