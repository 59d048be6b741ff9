//! What a pinger tells.
//!
//! Owns the events of one target. Their wording belongs to the command.

use std::time::Duration;

use serde::Serialize;

use crate::time::serialize_ns;

/// One event; `type` comes first in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum SenderEvent {
    /// A probe was handed over.
    Sent {
        /// Its number, from 1.
        seq: u64,
        /// Its length.
        bytes: usize,
        /// How long after its place in the schedule.
        #[serde(rename = "slip_ns", serialize_with = "serialize_ns")]
        slip: Duration,
    },
    /// Its answer came in time.
    Reply {
        /// Its number.
        seq: u64,
        /// How long it took.
        #[serde(rename = "rtt_ns", serialize_with = "serialize_ns")]
        rtt: Duration,
        /// By which clock.
        clock: RttClock,
        /// Whether a later probe's answer had come before.
        reordered: bool,
        /// Whether the wall clock was set meanwhile.
        clock_step: bool,
        /// The length of the answer.
        bytes: usize,
    },
    /// No answer came in time.
    Lost {
        /// Its number.
        seq: u64,
    },
    /// An answer came after all: the probe is no longer lost but late.
    Late {
        /// Its number.
        seq: u64,
        /// How long it took.
        #[serde(rename = "rtt_ns", serialize_with = "serialize_ns")]
        rtt: Duration,
        /// Whether a later probe's answer had come before.
        reordered: bool,
    },
    /// A further answer to the same probe.
    Duplicate {
        /// Its number.
        seq: u64,
    },
    /// An answer that was damaged on the way, and so is none.
    Corrupt {
        /// The number it names.
        seq: u64,
    },
    /// A datagram that is no answer to any probe.
    Foreign {
        /// Why not.
        reason: ForeignReason,
        /// Its length.
        bytes: usize,
    },
    /// The network says that nobody is there.
    Refused {
        /// Its number.
        seq: u64,
        /// The system's word for it.
        error: String,
    },
    /// The probe could not be sent.
    SendError {
        /// Its number.
        seq: u64,
        /// The system's word for it.
        error: String,
    },
    /// This process did not run when it should have; the schedule begins anew.
    ClockGap {
        /// For how long.
        #[serde(rename = "gap_ns", serialize_with = "serialize_ns")]
        gap: Duration,
    },
    /// The wall clock was set.
    ClockStep {
        /// By how much, forwards or back.
        step_ns: i64,
    },
    /// Datagrams found no room in our own receive buffer.
    LocalDrop {
        /// How many.
        count: u64,
    },
}

/// Which clock a round trip was taken by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RttClock {
    /// The kernel's stamps of both packets.
    Kernel,
    /// Our own monotonic clock.
    Monotonic,
}

/// Why a datagram is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ForeignReason {
    /// It comes from somewhere else.
    Peer,
    /// It is not what we sent, in whatever case.
    Content,
    /// It is a STAMP packet as a sender makes it: an echo gave ours back, but is no reflector.
    Unreflected,
    /// It names a probe that was never sent.
    NeverSent,
    /// It names a probe whose time to be late is over.
    TooLate,
}
