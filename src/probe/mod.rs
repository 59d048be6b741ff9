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

mod delayed;
mod echo;
mod fact;
mod guard;
mod ledger;
mod loops;
mod matching;
mod ntp;
mod oneway;
mod pace;
mod reply;
mod report;
mod sender;
mod stamp;
mod table;
mod tally;
mod text;
mod wire;

#[cfg(test)]
mod weather;

pub use echo::{Echo, EchoConfig};
pub use fact::{ForeignReason, SenderEvent};
pub use oneway::OneWayStatistics;
pub use pace::SenderConfig;
pub use report::{PingStatistics, RttClocks};
pub use sender::Sender;
pub use tally::{ClientCounters, EchoCounters, EchoEvent};
pub use text::{MAX_UDP_PAYLOAD, check_size};
pub use wire::ProbeEncoding;
