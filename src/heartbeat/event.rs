//! Events of a watcher, and the states of a sender.
//!
//! Owns their JSON form. The text form belongs to the command.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::time::{Nanoseconds, OptionalNanoseconds};

/// State of a sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SenderStatus {
    /// Not yet up: no beat received, or fewer than `rise`.
    New,
    /// Beats arrive in time.
    Up,
    /// The next beat is overdue.
    Late,
    /// Silent for longer than the failure detector allows.
    Down,
    /// A stop message was received.
    Stopped,
}

impl SenderStatus {
    pub(crate) const ALL: [Self; 5] = [Self::New, Self::Up, Self::Late, Self::Down, Self::Stopped];

    /// Returns the name used in JSON.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Up => "up",
            Self::Late => "late",
            Self::Down => "down",
            Self::Stopped => "stopped",
        }
    }
}

/// Event of a watcher; `type` comes first in JSON.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum WatcherEvent {
    /// A sender's state has changed.
    State {
        name: Arc<str>,
        /// The state reported before.
        from: SenderStatus,
        to: SenderStatus,
        /// Absent if no beat was ever received.
        peer: Option<SocketAddr>,
        /// Time since the last beat.
        #[serde(rename = "silent_ns", with = "OptionalNanoseconds")]
        silent: Option<Duration>,
        /// Time spent in the previous state.
        #[serde(rename = "before_ns", with = "Nanoseconds")]
        before: Duration,
        /// Exit code of the supervised command, from the stop message.
        exit: Option<u8>,
    },
    /// A beat was received.
    Beat {
        name: Arc<str>,
        seq: u64,
        /// Delay above the estimated minimum.
        #[serde(rename = "delay_above_min_ns", with = "OptionalNanoseconds")]
        delay: Option<Duration>,
    },
    /// Sequence numbers were skipped.
    Lost { name: Arc<str>, first_seq: u64, count: u64 },
    /// A beat that was counted as lost has arrived; the loss is withdrawn.
    Late { name: Arc<str>, seq: u64 },
    /// The sender was restarted.
    Restarted { name: Arc<str>, peer: SocketAddr },
    /// The sender's address has changed.
    Moved { name: Arc<str>, from: SocketAddr, to: SocketAddr },
    /// Another sender uses the same name; only the first one is accepted.
    Conflict {
        name: Arc<str>,
        /// Address of the conflicting sender.
        peer: SocketAddr,
    },
    /// The sender started or stopped flapping; its state changes are suppressed in between.
    Flapping { name: Arc<str>, flapping: bool },
    /// The sender's clock was set.
    ClockStep {
        name: Arc<str>,
        /// Negative if the clock was set back.
        step_ns: i64,
    },
    /// The sender was removed from the table after being down or stopped for `--forget-after`.
    Forgotten { name: Arc<str> },
    /// The watcher process was suspended or starved; every deadline is extended by the gap.
    MonitorStall {
        #[serde(rename = "gap_ns", with = "Nanoseconds")]
        gap: Duration,
    },
    /// Datagrams were rejected; reported at most once a second.
    Rejected {
        /// Source of the last one.
        peer: SocketAddr,
        /// Reason for the last one.
        reason: RejectReason,
        /// Excerpt of the last one.
        got: String,
        /// Datagrams rejected since the previous report.
        count: u64,
    },
    /// The receive buffer overflowed and datagrams were dropped.
    LocalDrop { count: u64 },
}

impl WatcherEvent {
    /// Returns the sender's name if the event concerns one sender.
    pub(crate) fn sender_name(&self) -> Option<&Arc<str>> {
        match self {
            Self::State { name, .. }
            | Self::Beat { name, .. }
            | Self::Lost { name, .. }
            | Self::Late { name, .. }
            | Self::Restarted { name, .. }
            | Self::Moved { name, .. }
            | Self::Conflict { name, .. }
            | Self::Flapping { name, .. }
            | Self::ClockStep { name, .. }
            | Self::Forgotten { name } => Some(name),
            Self::MonitorStall { .. } | Self::Rejected { .. } | Self::LocalDrop { .. } => None,
        }
    }
}

/// Reason for rejecting a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RejectReason {
    /// Neither our format nor the textbook's.
    Malformed,
    /// Longer than any beat.
    Oversize,
    /// The tag is wrong or missing, or the watcher has no key.
    Unauthentic,
    /// Received before, or sent before a beat already received.
    Replayed,
    /// An echo, a stop message of an unknown sender, or an outlier sequence number.
    Stray,
    /// From another sender, under the name of one that is up.
    Conflict,
    /// The sender table, or the share of the source prefix, is full.
    Full,
}

impl RejectReason {
    pub(crate) const ALL: [Self; 7] =
        [Self::Malformed, Self::Oversize, Self::Unauthentic, Self::Replayed, Self::Stray, Self::Conflict, Self::Full];

    /// Returns the name used in JSON.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Oversize => "oversize",
            Self::Unauthentic => "unauthentic",
            Self::Replayed => "replayed",
            Self::Stray => "stray",
            Self::Conflict => "conflict",
            Self::Full => "full",
        }
    }
}
