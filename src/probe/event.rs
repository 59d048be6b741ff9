//! Events of the ping client, for one target. The command formats them as text.

use std::net::SocketAddr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use crate::time::Nanoseconds;

/// Event of one probe, or of the run; `type` comes first in JSON.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum PingEvent {
    /// A ping was sent.
    Sent {
        /// Sequence number, from 1.
        seq: u64,
        bytes: usize,
        /// Delay behind the schedule.
        #[serde(rename = "slip_ns", with = "Nanoseconds")]
        slip: Duration,
    },
    /// The reply arrived within the timeout.
    Reply {
        seq: u64,
        #[serde(rename = "rtt_ns", with = "Nanoseconds")]
        rtt: Duration,
        clock: RttClock,
        /// Set if the reply to a later probe arrived first.
        reordered: bool,
        /// Set if the wall clock was set during the round trip.
        clock_step: bool,
        bytes: usize,
    },
    /// No reply arrived within the timeout.
    Lost { seq: u64 },
    /// The reply arrived after the timeout; the probe no longer counts as lost.
    Late {
        seq: u64,
        #[serde(rename = "rtt_ns", with = "Nanoseconds")]
        rtt: Duration,
        reordered: bool,
    },
    /// A further reply to the same probe.
    Duplicate { seq: u64 },
    /// The content of a reply differs from the probe; it does not count as a reply.
    Corrupt {
        seq: u64,
        /// Excerpt of the reply.
        got: String,
    },
    /// A datagram matches no probe.
    Foreign {
        reason: ForeignReason,
        source: SocketAddr,
        bytes: usize,
        /// Excerpt of the datagram.
        got: String,
    },
    /// The network reported the target as unreachable.
    Refused { seq: u64, error: String },
    /// The probe could not be sent.
    SendError { seq: u64, error: String },
    /// This process was stalled; the schedule was restarted.
    ClockGap {
        #[serde(rename = "gap_ns", with = "Nanoseconds")]
        gap: Duration,
    },
    /// The wall clock was set.
    ClockStep { step_ns: i64 },
    /// Datagrams were dropped because our receive buffer was full.
    LocalDrop { count: u64 },
}

/// Clock used to measure a round trip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RttClock {
    /// Kernel timestamps of both packets.
    Kernel,
    Monotonic,
}

/// Reason why a datagram matches no probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ForeignReason {
    /// The source address differs from the target.
    Peer,
    /// The content equals no probe, in upper or lower case.
    Content,
    /// A sender's STAMP packet: the target is an echo server without STAMP.
    Unreflected,
    /// The sequence number was never sent.
    NeverSent,
    /// The probe is too old to be tracked.
    TooLate,
}
