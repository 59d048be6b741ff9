//! What a watcher tells.
//!
//! Owns the events. Their wording belongs to the command.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};

use crate::time::{nanoseconds, serialize_ns};

/// How a sender is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Liveness {
    /// Expected or heard, but not often enough yet.
    New,
    /// It beats.
    Up,
    /// A beat is missing.
    Late,
    /// It has been silent for too long.
    Down,
    /// It said goodbye.
    Stopped,
}

impl Liveness {
    /// Every state, in the order of a life.
    pub(crate) const ALL: [Self; 5] = [Self::New, Self::Up, Self::Late, Self::Down, Self::Stopped];

    /// Its name, as in JSON.
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

/// One event; `type` comes first in JSON.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum WatcherEvent {
    /// A sender's state has changed.
    State {
        /// Whose.
        name: Arc<str>,
        /// What was told before.
        from: Liveness,
        /// What it is.
        to: Liveness,
        /// Where it sends from, if it was ever heard.
        peer: Option<SocketAddr>,
        /// How long nothing was heard.
        #[serde(rename = "silent_ns", serialize_with = "ns_or_null")]
        silent: Option<Duration>,
        /// How long it was in the state before.
        #[serde(rename = "before_ns", serialize_with = "serialize_ns")]
        before: Duration,
        /// With a goodbye: the exit code of what was watched over.
        exit: Option<u8>,
    },
    /// A beat came.
    Beat {
        /// Whose.
        name: Arc<str>,
        /// Its number.
        seq: u64,
        /// How long it took, above the smallest delay there can have been.
        #[serde(rename = "delay_above_min_ns", serialize_with = "ns_or_null")]
        delay: Option<Duration>,
    },
    /// Beats were skipped.
    Lost {
        /// Whose.
        name: Arc<str>,
        /// The first of them.
        first_seq: u64,
        /// How many.
        count: u64,
    },
    /// A beat that was counted as lost has come: the loss is taken back.
    Late {
        /// Whose.
        name: Arc<str>,
        /// Its number.
        seq: u64,
    },
    /// The sender was started anew.
    Restarted {
        /// Its name.
        name: Arc<str>,
        /// Where it sends from.
        peer: SocketAddr,
    },
    /// The sender has another address.
    Moved {
        /// Its name.
        name: Arc<str>,
        /// Where it was.
        from: SocketAddr,
        /// Where it is.
        to: SocketAddr,
    },
    /// Somebody else beats under the same name; whoever was first is believed.
    Conflict {
        /// The name.
        name: Arc<str>,
        /// Where the other one sends from.
        peer: SocketAddr,
    },
    /// The sender comes and goes, or has stopped doing so; meanwhile its states are not told.
    Flapping {
        /// Its name.
        name: Arc<str>,
        /// Whether it does.
        flapping: bool,
    },
    /// The sender's clock was set.
    ClockStep {
        /// Its name.
        name: Arc<str>,
        /// By how much; negative is back.
        step_ns: i64,
    },
    /// The sender has been silent for so long that it is forgotten.
    Forgotten {
        /// Its name.
        name: Arc<str>,
    },
    /// The watcher itself did not run; every deadline is moved by as much.
    MonitorStall {
        /// For how long.
        #[serde(rename = "gap_ns", serialize_with = "serialize_ns")]
        gap: Duration,
    },
    /// Datagrams that were no beats; told at most once a second.
    Refused {
        /// Where the last of them came from.
        peer: SocketAddr,
        /// Why it was refused.
        reason: RejectReason,
        /// How many there were since this was last told.
        count: u64,
    },
    /// Our own receive buffer overflowed.
    LocalDrop {
        /// How many datagrams were dropped.
        count: u64,
    },
}

impl WatcherEvent {
    /// Whose it is, if it is about one sender.
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
            Self::MonitorStall { .. } | Self::Refused { .. } | Self::LocalDrop { .. } => None,
        }
    }
}

/// Why a datagram counts for nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RejectReason {
    /// No beat of ours nor of the textbook's.
    Malformed,
    /// Too long for a beat.
    Oversize,
    /// The key does not vouch for it, or there is none that could.
    Unauthentic,
    /// A beat that came before, or is older than what came before.
    Replayed,
    /// An echo, or a goodbye of somebody unknown.
    Stray,
    /// Of another sender under the name of one that lives.
    Conflict,
    /// There is no room for another sender, or its network has its share.
    Full,
}

impl RejectReason {
    /// Every reason.
    pub(crate) const ALL: [Self; 7] =
        [Self::Malformed, Self::Oversize, Self::Unauthentic, Self::Replayed, Self::Stray, Self::Conflict, Self::Full];

    /// Its name, as in JSON.
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

#[expect(clippy::ref_option, reason = "serde's signature")]
pub(super) fn ns_or_null<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(nanoseconds).serialize(serializer)
}
