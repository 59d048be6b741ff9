//! The outside world of sockets: the only code that knows sockets, TLS, the clock, names and
//! signals.
//!
//! Owns how octets travel, never what they mean. Conversations are carried by two loops over one
//! kind of [`Link`]: [`carry()`] for a client with one connection, [`serve()`] for a
//! server with thousands. Sockets are made and configured by socket2, waited for by mio or
//! ppoll, and moved by rustix.
//!
//! ```text
//!   bind ─▶ Listeners ─▶ serve ──┐                      ┌── Conversation (http, smtp)
//!                                ├─▶ Link (TLS inside) ─┤
//!   resolve ─▶ dial ─▶ carry ────┘                      └── facts ─▶ the command
//!
//!   Receivers ─▶ answer ─────┐
//!                            ├─▶ Side (batches, stamps) ── Exchange (probe)
//!   Origin ────▶ exchange ───┘
//! ```

mod bind;
mod bound;
mod client_loop;
mod clock;
mod connect;
mod connection;
pub mod datagram;
mod event_loop;
mod listen;
mod recv_buffer;
mod resolve;
mod send_queue;
mod server;
mod signals;
mod stream;
mod thread_pool;
mod timers;
pub mod tls;
mod udp;
mod upgrade;

pub use bind::BindAddress;
pub use client_loop::run_client;
pub use clock::now;
pub use connect::connect;
pub use connection::{Connection, ConnectionTimeouts};
pub use listen::{Address, Listeners};
pub use resolve::resolve;
pub use server::{Accepted, Incoming, Notice, ServerConfig, Service, serve};
pub use signals::{Signal, Signals, WakeReason, Waker};
pub use udp::{SocketOptions, UdpSockets};
pub use upgrade::StartTls;
