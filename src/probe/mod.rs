//! Ping's rules: packets, the sender's ledger, the echo's answer. No socket, no clock.
//!
//! Owns both ends of the UDP lab. [`Sender`] pings one target and accounts for every probe;
//! [`Echo`] answers everybody, or does not, on purpose. Both are carried by a datagram loop
//! through [`crate::conversation::Exchange`].
//!
//! ```text
//!   sender                              echo
//!     ├─ pace     when                    ├─ guard    what is not answered
//!     ├─ wire     encodings               ├─ table    who is known
//!     ├─ matching whose answer it is      ├─ loops    what would go round for ever
//!     ├─ ledger   what became of each     ├─ reply    what is answered
//!     ├─ oneway   up and down, by STAMP   ├─ delayed  what is held back
//!     └─ report   figures; fact: events   └─ tally    figures and events
//!              text · stamp · ntp   the octets, for both
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
pub(crate) use echo::{Echo, EchoConfig};
pub(crate) use event::{ForeignReason, SenderEvent};
pub(crate) use one_way::OneWayStatistics;
pub(crate) use report::{PingStatistics, RttClocks};
pub(crate) use schedule::SenderConfig;
pub(crate) use sender::Sender;
pub(crate) use text::{MAX_UDP_PAYLOAD, check_size};
pub(crate) use wire::ProbeEncoding;
