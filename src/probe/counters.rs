//! What a server counts and tells.
//!
//! Owns the figures of an echo and its events. Their wording belongs to the command.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

use super::amplification::EchoRefusal;
use crate::impair::DropReason;
use crate::time::serialize_ns;

/// What became of all datagrams so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct EchoCounters {
    /// Datagrams that came.
    pub received: u64,
    /// Replies that were handed over to be sent, copies counted.
    pub sent: u64,
    /// Replies that are held back until they are due; in the end, what never left.
    pub held: u64,
    /// Dropped on purpose on the way in.
    pub lost_in: u64,
    /// Dropped on purpose on the way out.
    pub lost_out: u64,
    /// Dropped because the link's queue was full.
    pub queue_full: u64,
    /// Dropped because too many replies were being held.
    pub delay_full: u64,
    /// STAMP probes that came with a sequence number seen before.
    pub repeated: u64,
    /// Larger than the buffer.
    pub oversize: u64,
    /// From a port that would answer back.
    pub bad_source: u64,
    /// Answers coming round again.
    pub looping: u64,
    /// Over a rate limit.
    pub rate_limited: u64,
    /// Neither text nor STAMP.
    pub malformed: u64,
    /// STAMP that the key does not vouch for.
    pub unauthentic: u64,
    /// Replies the system would not send.
    pub not_sent: u64,
    /// Datagrams that found no room in our own receive buffer.
    pub local_drops: u64,
}

/// What an echo tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum EchoEvent {
    /// A datagram came.
    Received {
        /// Who sent it.
        peer: SocketAddr,
        /// Its length.
        bytes: usize,
    },
    /// It was dropped on purpose, all of it or a copy.
    Dropped {
        /// Who sent it.
        peer: SocketAddr,
        /// The ordinal of the client.
        client: u32,
        /// The how-manieth of this client it is, as in the plan.
        number: u64,
        /// Where.
        cause: DropReason,
    },
    /// It is not answered.
    Refused {
        /// Who sent it.
        peer: SocketAddr,
        /// Why.
        reason: EchoRefusal,
    },
    /// It is answered, now or later.
    Sent {
        /// To whom.
        peer: SocketAddr,
        /// The ordinal of the client.
        client: u32,
        /// The how-manieth of this client it is.
        number: u64,
        /// The length of the reply.
        bytes: usize,
        /// How long it is held on purpose.
        #[serde(rename = "delay_ns", serialize_with = "serialize_ns")]
        delay: Duration,
    },
    /// A reply found no room among those that are held.
    DelayFull {
        /// To whom it would have gone.
        peer: SocketAddr,
    },
    /// The system would not send a reply.
    NotSent {
        /// The system's word for it.
        error: String,
    },
    /// Our own receive buffer overflowed.
    LocalDrop {
        /// How many datagrams were dropped.
        count: u64,
    },
}

/// One client for the summary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ClientCounters {
    /// Its ordinal.
    pub client: u32,
    /// Its address.
    pub peer: SocketAddr,
    /// Datagrams of it that were taken.
    pub received: u64,
    /// Replies to it, those that are still held counted.
    pub sent: u64,
}

impl EchoCounters {
    /// Adds what another thread counted.
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

    pub(super) fn count_refusal(&mut self, reason: EchoRefusal) {
        *match reason {
            EchoRefusal::Oversize => &mut self.oversize,
            EchoRefusal::BadSource => &mut self.bad_source,
            EchoRefusal::Loop => &mut self.looping,
            EchoRefusal::RateLimited => &mut self.rate_limited,
            EchoRefusal::Malformed => &mut self.malformed,
            EchoRefusal::Unauthentic => &mut self.unauthentic,
        } += 1;
    }
}
