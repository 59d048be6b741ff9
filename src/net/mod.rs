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
mod carry;
mod clock;
pub mod datagram;
mod dial;
mod groups;
mod inbox;
mod jobs;
mod link;
mod listen;
mod names;
mod outflow;
mod serve;
mod signals;
mod timers;
pub mod tls;
mod udp;
mod upgrade;
mod wire;
mod worker;

pub use bind::BindAddress;
pub use carry::run_client;
pub use clock::now;
pub use dial::connect;
pub use link::{Connection, ConnectionTimeouts};
pub use listen::{Address, Listeners};
pub use names::resolve;
pub use serve::{Accepted, Incoming, Notice, ServerConfig, Service, serve};
pub use signals::{Signal, Signals, WakeReason, Waker};
pub use udp::{SocketOptions, UdpSockets};
pub use upgrade::StartTls;
