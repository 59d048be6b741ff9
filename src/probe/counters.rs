//! Counters and events of the echo server. The command formats them as text.

use std::net::SocketAddr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::reject::EchoRejectReason;
use crate::impair::DropReason;
use crate::time::Nanoseconds;

/// Totals of all datagrams, by outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema, Serialize)]
pub(crate) struct EchoCounters {
    pub received: u64,
    /// Replies sent, including duplicates.
    pub sent: u64,
    /// Replies in the delay queue; in the summary, replies that were never sent.
    pub held: u64,
    /// Datagrams dropped on purpose before they were answered.
    pub lost_in: u64,
    /// Replies dropped on purpose.
    pub lost_out: u64,
    /// Datagrams dropped because the queue of the simulated link was full.
    pub queue_full: u64,
    /// Replies dropped because the delay queue was full.
    pub delay_full: u64,
    /// STAMP probes with a sequence number received before.
    pub repeated: u64,
    pub oversize: u64,
    pub bad_source: u64,
    pub looping: u64,
    pub rate_limited: u64,
    pub malformed: u64,
    /// STAMP packets that failed authentication.
    pub unauthentic: u64,
    /// Replies that the operating system did not send.
    pub not_sent: u64,
    /// Datagrams dropped because our receive buffer was full.
    pub local_drops: u64,
}

/// Events of the echo server.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum EchoEvent {
    /// A datagram was received.
    Received { peer: SocketAddr, bytes: usize },
    /// The datagram, or one copy of it, was dropped on purpose.
    Dropped {
        peer: SocketAddr,
        /// Ordinal of the client.
        client: u32,
        /// Ordinal of the datagram among those of the client, as in the plan.
        number: u64,
        cause: DropReason,
    },
    /// The datagram was rejected and gets no reply.
    Rejected { peer: SocketAddr, reason: EchoRejectReason },
    /// The reply was sent, or queued until `delay` has passed.
    Sent {
        peer: SocketAddr,
        client: u32,
        number: u64,
        bytes: usize,
        #[serde(rename = "delay_ns", with = "Nanoseconds")]
        delay: Duration,
    },
    /// A reply was dropped because the delay queue was full.
    DelayFull { peer: SocketAddr },
    /// The operating system did not send a reply.
    NotSent { error: String },
    /// Datagrams were dropped because our receive buffer was full.
    LocalDrop { count: u64 },
}

/// One client in the summary.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize)]
pub(crate) struct ClientCounters {
    /// Ordinal by first appearance, from 1.
    pub client: u32,
    pub peer: SocketAddr,
    /// Datagrams accepted from the client.
    pub received: u64,
    /// Replies to the client, including those in the delay queue.
    pub sent: u64,
}

impl EchoCounters {
    /// Adds the counters of another thread.
    pub(crate) fn merge(&mut self, other: &Self) {
        let Self {
            received,
            sent,
            held,
            lost_in,
            lost_out,
            queue_full,
            delay_full,
            repeated,
            oversize,
            bad_source,
            looping,
            rate_limited,
            malformed,
            unauthentic,
            not_sent,
            local_drops,
        } = other;
        for (sum, more) in [
            (&mut self.received, received),
            (&mut self.sent, sent),
            (&mut self.held, held),
            (&mut self.lost_in, lost_in),
            (&mut self.lost_out, lost_out),
            (&mut self.queue_full, queue_full),
            (&mut self.delay_full, delay_full),
            (&mut self.repeated, repeated),
            (&mut self.oversize, oversize),
            (&mut self.bad_source, bad_source),
            (&mut self.looping, looping),
            (&mut self.rate_limited, rate_limited),
            (&mut self.malformed, malformed),
            (&mut self.unauthentic, unauthentic),
            (&mut self.not_sent, not_sent),
            (&mut self.local_drops, local_drops),
        ] {
            *sum += more;
        }
    }

    pub(super) fn count_drop(&mut self, cause: DropReason) {
        *match cause {
            DropReason::LossIn => &mut self.lost_in,
            DropReason::LossOut => &mut self.lost_out,
            DropReason::QueueFull => &mut self.queue_full,
        } += 1;
    }

    pub(super) fn count_rejection(&mut self, reason: EchoRejectReason) {
        *match reason {
            EchoRejectReason::Oversize => &mut self.oversize,
            EchoRejectReason::BadSource => &mut self.bad_source,
            EchoRejectReason::Loop => &mut self.looping,
            EchoRejectReason::RateLimited => &mut self.rate_limited,
            EchoRejectReason::Malformed => &mut self.malformed,
            EchoRejectReason::Unauthentic => &mut self.unauthentic,
        } += 1;
    }
}
