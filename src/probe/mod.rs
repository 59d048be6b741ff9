//! UDP ping protocol: packets, the client's probes and statistics, the echo server. No sockets, no clocks.
//!
//! [`PingClient`] pings one target and accounts for every probe; [`EchoServer`] answers datagrams from any peer and
//! drops some on purpose. A datagram loop in `net` drives both through [`crate::protocol::DatagramProtocol`].
//!
//! ```text
//!   sender                                   echo
//!     ├─ schedule  when probes are sent        ├─ amplification  datagrams not answered
//!     ├─ wire      encodings of a probe        ├─ session_table  bounded table of clients
//!     ├─ matching  replies to probes           ├─ loops          loop guard
//!     ├─ ledger    outcome of each probe       ├─ reply          building of replies
//!     ├─ one_way   up and down, with STAMP     ├─ delayed        delay queue
//!     └─ report    statistics; event           └─ counters       counters and events
//!                text · stamp · ntp   wire formats of both
//! ```

mod client;
mod counters;
mod delay_queue;
mod echo;
mod encoding;
mod event;
pub(crate) mod explain;
mod ledger;
mod loop_guard;
mod matching;
mod ntp;
mod one_way;
mod reject;
mod reply;
mod schedule;
mod session_table;
mod stamp;
mod statistics;
mod text_format;

#[cfg(test)]
mod simulation;

pub(crate) use client::PingClient;
pub(crate) use counters::{ClientCounters, EchoCounters, EchoEvent};
pub(crate) use echo::{EchoConfig, EchoServer};
pub(crate) use encoding::ProbeEncoding;
pub(crate) use event::{ForeignReason, PingEvent};
pub(crate) use one_way::OneWayStatistics;
pub(crate) use reject::EchoRejectReason;
pub(crate) use schedule::PingConfig;
pub(crate) use statistics::{PingStatistics, RttClocks};
pub(crate) use text_format::{MAX_UDP_PAYLOAD, check_size};
