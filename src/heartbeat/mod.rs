//! Heartbeat protocol: packets, sender, watcher and failure detector. No socket, no clock. Owns both ends of the UDP
//! heartbeat exercise. [`BeatSender`] sends beats to one watcher; [`Watcher`] receives the beats of all senders and
//! reports which are down. A datagram loop runs both through [`crate::protocol::DatagramProtocol`].
//!
//! ```text
//!   sender                   watcher
//!     └─ packet ──────────▶    ├─ sender_table   all senders and their timers
//!                              ├─ sender_state   one sender: incarnation and state
//!                              │    ├─ loss              sequence gaps
//!                              │    ├─ delay             delay above the minimum, clock skew
//!                              │    ├─ failure_detector  timeouts for late and down
//!                              │    └─ flap_damping      suppression of flapping senders
//!                              ├─ report         figures per sender; snapshot: the state file
//!                              └─ event          events; histogram: delays of all senders
//! ```

mod delay;
mod event;
pub(crate) mod explain;
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
mod watcher_config;

#[cfg(test)]
mod simulation;

pub(crate) use event::{RejectReason, SenderStatus, WatcherEvent};
pub(crate) use failure_detector::{DetectionMethod, FailureDetector};
pub(crate) use packet::{BeatEncoding, MAX_INTERVAL, MAX_PACKET_BYTES, is_valid_name};
pub(crate) use report::{SenderReport, StateCounts};
pub(crate) use sender::{BeatEvent, BeatReport, BeatSender, BeatSenderConfig, Lifetime};
pub(crate) use snapshot::{MissingSenderSnapshot, SNAPSHOT_VERSION, SenderSnapshot, Snapshot};
pub(crate) use watcher::{Watcher, WatcherCounters};
pub(crate) use watcher_config::WatcherConfig;
