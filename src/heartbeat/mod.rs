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

mod beat;
mod beater;
mod crowd;
mod delay;
mod detect;
mod fact;
mod flap;
mod gaps;
mod histogram;
mod kept;
mod record;
mod report;
mod rules;
mod watcher;

#[cfg(test)]
mod weather;

pub use beat::{MAX_INTERVAL, MAX_PACKET_BYTES, is_valid_name};
pub use beater::{BeatEvent, BeatReport, BeatSender, BeatSenderConfig, Lifetime};
pub use detect::{DetectionMethod, FailureDetector};
pub use fact::{Liveness, RejectReason, WatcherEvent};
pub use kept::{MissingSenderSnapshot, SNAPSHOT_VERSION, SenderSnapshot, Snapshot};
pub use report::{SenderReport, StateCounts};
pub use rules::WatcherConfig;
pub use watcher::{Watcher, WatcherCounters};
