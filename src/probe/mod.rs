//! UDP ping protocol: packets, the client's probes and statistics, the echo server. No sockets, no clocks.
//!
//! [`Sender`] pings one target and accounts for every probe; [`Echo`] answers datagrams from any peer and
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

mod amplification;
mod counters;
mod delayed;
mod echo;
mod event;
mod ledger;
mod loops;
mod matching;
mod ntp;
mod one_way;
mod reply;
mod report;
mod schedule;
mod sender;
mod session_table;
mod stamp;
mod text;
mod wire;

#[cfg(test)]
mod simulation;

pub(crate) use counters::{ClientCounters, EchoCounters, EchoEvent};
pub(crate) use echo::{EchoConfig, EchoServer};
pub(crate) use event::{ForeignReason, PingEvent};
pub(crate) use one_way::OneWayStatistics;
pub(crate) use report::{PingStatistics, RttClocks};
pub(crate) use schedule::PingConfig;
pub(crate) use sender::PingClient;
pub(crate) use text::{MAX_UDP_PAYLOAD, check_size};
pub(crate) use wire::ProbeEncoding;
