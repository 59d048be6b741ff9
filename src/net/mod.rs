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
pub(crate) mod datagram;
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
pub(crate) mod tls;
mod udp;

pub(crate) use bind::BindAddress;
pub(crate) use client_loop::run_client;
pub(crate) use clock::now;
pub(crate) use connect::connect;
pub(crate) use connection::StartTls;
pub(crate) use connection::{Connection, ConnectionTimeouts};
pub(crate) use listen::{Address, Listeners};
pub(crate) use resolve::resolve;
pub(crate) use server::{Accepted, Incoming, Notice, ServerConfig, Service, serve};
pub(crate) use signals::{Signal, Signals, WakeReason, Waker};
pub(crate) use udp::{DatagramSockets, SocketOptions};
