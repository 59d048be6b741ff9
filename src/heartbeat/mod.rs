//! The heartbeat's rules: beats, a sender's history, the failure detector. No socket, no clock.
//!
//! Owns both ends of the third lab. [`Beater`] says to one watcher that somebody lives; [`Watcher`]
//! hears everybody and says who does not. Both are carried by a datagram loop through
//! [`crate::conversation::Exchange`].
//!
//! ```text
//!   beater                  watcher
//!     └─ beat  the line ─▶    ├─ crowd    everybody, and their timers
//!                             ├─ record   one sender: which run of it, which state
//!                             │    ├─ gaps     what got lost
//!                             │    ├─ delay    how long beats take
//!                             │    ├─ detect   how long silence is borne
//!                             │    └─ flap     who comes and goes
//!                             ├─ report   figures; kept: what outlives a watcher
//!                             ├─ rules    how it judges
//!                             └─ fact     events; histogram: all delays
//! ```

mod delay;
mod event;
mod failure_detector;
mod flap_damping;
mod histogram;
mod loss;
mod packet;
mod report;
mod sender;
mod sender_state;
mod sender_table;
mod snapshot;
mod watcher;

#[cfg(test)]
mod simulation;

pub(crate) use event::{Liveness, RejectReason, WatcherEvent};
pub(crate) use failure_detector::{DetectionMethod, FailureDetector};
pub(crate) use packet::{MAX_INTERVAL, MAX_PACKET_BYTES, is_valid_name};
pub(crate) use report::{SenderReport, StateCounts};
pub(crate) use sender::{BeatEvent, BeatReport, BeatSender, BeatSenderConfig, Lifetime};
pub(crate) use snapshot::{MissingSenderSnapshot, SNAPSHOT_VERSION, SenderSnapshot, Snapshot};
pub(crate) use watcher::{Watcher, WatcherConfig, WatcherCounters};
