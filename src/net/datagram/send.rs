//! Batched send: sendmmsg and UDP segmentation offload.
//!
//! Owns the grouping of datagrams into system calls. It must not wait, nor decide what follows from a failed send.
//!
//! ```text
//!   queue  a→A  a→A  b→A  c→B  c→B  |  d→A            one socket, one source address: a batch
//!   plain  [a]  [a]  [b]  [c]  [c]                    one message each
//!   merged [a    a    b]  [c    c]                    one per peer; the kernel splits it (UDP_SEGMENT)
//! ```
//!
//! A merged message passes through the network stack once, which saves two thirds of the cost of sending.

use std::io::IoSlice;
use std::iter::Peekable;
use std::net::IpAddr;
use std::os::fd::RawFd;

use nix::errno::Errno;
use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrIn, SockaddrIn6, sendmmsg};

use super::recv::{AddressFamily, BATCH_SIZE};
use crate::protocol::Transmit;

/// Largest payload that is merged: with its headers it fits every IPv6 link (RFC 8200 §5), and a whole batch
/// does not exceed the maximum datagram size.
const MAX_GSO_SEGMENT: usize = 1000;

const SEND_FLAGS: MsgFlags = MsgFlags::MSG_DONTWAIT.union(MsgFlags::MSG_NOSIGNAL);

/// Consecutive datagrams with the same socket and source address, at most [`BATCH_SIZE`].
pub(super) struct SendBatch<'p> {
    transmits: [&'p Transmit; BATCH_SIZE],
    payloads: [[IoSlice<'p>; 1]; BATCH_SIZE],
    count: usize,
}

impl<'p> SendBatch<'p> {
    /// Takes the next batch from `rest`.
    pub(super) fn next(rest: &mut Peekable<impl Iterator<Item = (&'p Transmit, &'p [u8])>>) -> Option<Self> {
        let first = rest.peek()?.0;
        let same = |next: &Transmit| next.socket == first.socket && next.from == first.from;
        let mut batch = Self { transmits: [first; BATCH_SIZE], payloads: [[IoSlice::new(&[])]; BATCH_SIZE], count: 0 };
        for (transmit, payload) in batch.transmits.iter_mut().zip(&mut batch.payloads) {
            let Some((next, bytes)) = rest.next_if(|(next, _)| same(next)) else { break };
            (*transmit, *payload) = (next, [IoSlice::new(bytes)]);
            batch.count += 1;
        }
        Some(batch)
    }

    pub(super) fn socket(&self) -> u64 {
        self.transmits[0].socket
    }

    pub(super) fn from(&self) -> Option<IpAddr> {
        self.transmits[0].from
    }

    pub(super) fn tickets(&self) -> impl Iterator<Item = u64> {
        self.transmits().iter().map(|transmit| transmit.ticket)
    }

    fn transmits(&self) -> &[&'p Transmit] {
        self.transmits.get(..self.count).unwrap_or_default()
    }

    /// Returns the common payload length if all have the same and at least two can be merged.
    fn gso_segment_len(&self) -> Option<u16> {
        let length = self.transmits[0].payload.len();
        let mut pairs = self.transmits().iter().zip(self.transmits().iter().skip(1));
        let uniform = self.transmits().iter().all(|transmit| transmit.payload.len() == length);
        let fits = (1..=MAX_GSO_SEGMENT).contains(&length) && uniform && pairs.any(|(one, next)| can_merge(one, next));
        u16::try_from(length).ok().filter(|_| fits)
    }
}

/// Returns true if two datagrams can share a message: same peer, adjacent payloads.
fn can_merge(one: &Transmit, next: &Transmit) -> bool {
    one.to == next.to && one.payload.end == next.payload.start
}

/// Headers of sendmmsg for one address family.
pub(super) struct SendHeaders<S> {
    plain: MultiHeaders<S>,
    /// With a control buffer for the segment length.
    gso: MultiHeaders<S>,
    /// With a control buffer for the source address, which all datagrams of a call share.
    with_source: MultiHeaders<S>,
    destinations: Vec<Option<S>>,
}

impl<S: AddressFamily> SendHeaders<S> {
    /// Allocates the headers. `source_control_len` is the exact size of a control message with a source address: a
    /// larger buffer would hold an empty control message after it.
    fn new(source_control_len: usize) -> Self {
        let segment = nix::cmsg_space!(u16).len();
        Self {
            plain: MultiHeaders::preallocate(BATCH_SIZE, None),
            gso: MultiHeaders::preallocate(BATCH_SIZE, Some(Vec::with_capacity(segment))),
            with_source: MultiHeaders::preallocate(BATCH_SIZE, Some(Vec::with_capacity(source_control_len))),
            destinations: Vec::with_capacity(BATCH_SIZE),
        }
    }

    /// Merges a batch and sends it without waiting; returns the number of datagrams sent, 0 if the batch cannot be
    /// merged. `payload_bytes` holds all queued payloads.
    pub(super) fn send_gso(&mut self, fd: RawFd, batch: &SendBatch<'_>, payload_bytes: &[u8]) -> Result<usize, Errno> {
        let Some(segment) = batch.gso_segment_len() else { return Ok(0) };
        let (mut payloads, mut counts) = ([[IoSlice::new(&[])]; BATCH_SIZE], [0; BATCH_SIZE]);
        self.destinations.clear();
        let groups = batch.transmits().chunk_by(|one, next| can_merge(one, next));
        for ((group, payload), count) in groups.zip(&mut payloads).zip(&mut counts) {
            let ends = group.first().zip(group.last());
            let merged = ends.and_then(|(first, last)| payload_bytes.get(first.payload.start..last.payload.end));
            *payload = [IoSlice::new(merged.unwrap_or_default())];
            *count = group.len();
            self.destinations.push(ends.and_then(|(first, _)| first.to).and_then(S::from_std));
        }
        let sent = sendmmsg(
            fd,
            &mut self.gso,
            &payloads,
            &self.destinations,
            [ControlMessage::UdpGsoSegments(&segment)],
            SEND_FLAGS,
        )?;
        Ok(counts.iter().take(sent.count()).sum())
    }

    /// Sets the destinations for [`send`](Self::send).
    pub(super) fn set_destinations(&mut self, batch: &SendBatch<'_>) {
        self.destinations.clear();
        self.destinations.extend(batch.transmits().iter().map(|transmit| transmit.to.and_then(S::from_std)));
    }

    /// Sends the batch from index `first` on, without waiting, and returns the number of datagrams sent. The
    /// destinations must have been set.
    pub(super) fn send(
        &mut self,
        fd: RawFd,
        batch: &SendBatch<'_>,
        first: usize,
        from: Option<IpAddr>,
    ) -> Result<usize, Errno> {
        let payloads = batch.payloads.get(first..batch.count).unwrap_or_default();
        let to = self.destinations.get(first..).unwrap_or_default();
        let sent = match from {
            None => sendmmsg(fd, &mut self.plain, payloads, to, [], SEND_FLAGS)?.count(),
            Some(IpAddr::V4(from)) => {
                let from = in_addr { s_addr: from.to_bits().to_be() };
                let info = in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: from, ipi_addr: in_addr { s_addr: 0 } };
                sendmmsg(fd, &mut self.with_source, payloads, to, [ControlMessage::Ipv4PacketInfo(&info)], SEND_FLAGS)?
                    .count()
            }
            Some(IpAddr::V6(from)) => {
                let info = in6_pktinfo { ipi6_addr: in6_addr { s6_addr: from.octets() }, ipi6_ifindex: 0 };
                sendmmsg(fd, &mut self.with_source, payloads, to, [ControlMessage::Ipv6PacketInfo(&info)], SEND_FLAGS)?
                    .count()
            }
        };
        Ok(sent)
    }
}

/// Send headers of both address families.
pub(super) struct SendBuffers {
    pub v4: SendHeaders<SockaddrIn>,
    pub v6: SendHeaders<SockaddrIn6>,
}

impl SendBuffers {
    pub(super) fn new() -> Self {
        let v4 = nix::cmsg_space!(in_pktinfo).len();
        let v6 = nix::cmsg_space!(in6_pktinfo).len();
        Self { v4: SendHeaders::new(v4), v6: SendHeaders::new(v6) }
    }
}
