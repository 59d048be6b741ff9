//! Batched receive: recvmmsg and control messages.
//!
//! Owns the receive buffers and the parsing of control messages; [`super::send`] is its counterpart. It must not
//! interpret datagrams, and keeps no state between calls except its buffers.
//!
//! nix does not restore the control-buffer lengths in [`MultiHeaders`] that the kernel has shortened, so
//! headers with more space than was used serve one call only. But a server receives the same control messages
//! with every datagram: headers of exactly that size stay as they were and can be reused. A call for one
//! datagram needs none. The first drop adds a control message between the timestamp and the TTL: that batch
//! has no TTL, and the next one has full-size buffers again.

use std::array;
use std::io::IoSliceMut;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::RawFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc::sock_extended_err;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, MultiHeaders, RecvMsg, SockaddrIn, SockaddrIn6, SockaddrLike, cmsg_space, recvmmsg,
    recvmsg,
};
use nix::sys::time::TimeSpec;

use crate::net::clock::now;
use crate::time::Moment;

/// Maximum number of datagrams in one call.
pub(super) const BATCH_SIZE: usize = 64;

/// Control-buffer size for one datagram, rounded up: timestamp in long form 64, ICMP error with its sender
/// 64, IPv6 address 40, TTL and drop count 24 each.
pub(super) const CONTROL_SIZE: usize = 224;

/// Headers with unchanged lengths, for up to `capacity` datagrams.
pub(super) struct ReusableHeaders<S> {
    headers: MultiHeaders<S>,
    capacity: usize,
    control_len: usize,
}

pub(super) type HeaderSlot<S> = Option<ReusableHeaders<S>>;

/// Reusable headers of each address family.
#[derive(Default)]
pub(super) struct HeaderCache {
    v4: HeaderSlot<SockaddrIn>,
    v6: HeaderSlot<SockaddrIn6>,
    error_queue: HeaderSlot<()>,
}

/// Address of one family, as the system calls take it.
pub(super) trait AddressFamily: SockaddrLike + Copy {
    /// Converts an address of this family; `None` for any other.
    fn from_std(address: SocketAddr) -> Option<Self>;
    /// Converts to a standard address; `None` for the error queue, which has no address.
    fn into_std(self) -> Option<SocketAddr>;
    /// Returns the slot of this family's headers.
    fn cached_headers(cache: &mut HeaderCache) -> &mut HeaderSlot<Self>;
}

impl AddressFamily for SockaddrIn {
    fn from_std(address: SocketAddr) -> Option<Self> {
        if let SocketAddr::V4(v4) = address { Some(v4.into()) } else { None }
    }

    fn into_std(self) -> Option<SocketAddr> {
        Some(SocketAddr::V4(self.into()))
    }

    fn cached_headers(cache: &mut HeaderCache) -> &mut HeaderSlot<Self> {
        &mut cache.v4
    }
}

impl AddressFamily for SockaddrIn6 {
    fn from_std(address: SocketAddr) -> Option<Self> {
        if let SocketAddr::V6(v6) = address { Some(v6.into()) } else { None }
    }

    fn into_std(self) -> Option<SocketAddr> {
        Some(SocketAddr::V6(self.into()))
    }

    fn cached_headers(cache: &mut HeaderCache) -> &mut HeaderSlot<Self> {
        &mut cache.v6
    }
}

/// No address, for entries of the error queue.
impl AddressFamily for () {
    fn from_std(_: SocketAddr) -> Option<Self> {
        None
    }

    fn into_std(self) -> Option<SocketAddr> {
        None
    }

    fn cached_headers(cache: &mut HeaderCache) -> &mut HeaderSlot<Self> {
        &mut cache.error_queue
    }
}

/// Datagram, or entry of the error queue, with its control messages.
pub(super) struct RawDatagram<'a, S> {
    pub peer: S,
    pub bytes: &'a [u8],
    pub truncated: bool,
    pub ancillary: AncillaryData,
}

/// Control messages of one datagram.
#[derive(Default)]
pub(super) struct AncillaryData {
    /// Wall-clock time since 1970.
    pub timestamp: Option<Duration>,
    pub ttl: Option<u8>,
    pub local: Option<IpAddr>,
    /// Datagrams that this socket has dropped since its creation.
    pub dropped: Option<u32>,
    pub error: Option<sock_extended_err>,
}

/// Receive buffers of one thread.
pub(super) struct BatchBuffer {
    bytes: Vec<u8>,
    stride: usize,
    max_payload: usize,
    control: ControlBuffer,
    header_cache: HeaderCache,
}

/// Control buffer, aligned for the headers that the kernel writes into it.
#[repr(align(16))]
struct ControlBuffer([u8; CONTROL_SIZE]);

impl BatchBuffer {
    /// Allocates buffers for a batch of datagrams of up to `max_payload` bytes. Pages that no datagram has
    /// reached take no memory.
    pub(super) fn new(max_payload: usize) -> Self {
        // One cache line more than a round number, or the first bytes of all datagrams would compete for the
        // same cache set.
        let stride = max_payload.max(1).next_multiple_of(64) + 64;
        Self {
            bytes: vec![0; stride * BATCH_SIZE],
            stride,
            max_payload,
            control: ControlBuffer([0; CONTROL_SIZE]),
            header_cache: HeaderCache::default(),
        }
    }

    /// Receives up to `max_count` datagrams without waiting, and passes each to `on_datagram` with a clock
    /// reading that is later than all of them. `control_len` is the control-buffer size per datagram.
    pub(super) fn receive<S: AddressFamily>(
        &mut self,
        fd: RawFd,
        max_count: usize,
        control_len: usize,
        flags: MsgFlags,
        mut on_datagram: impl FnMut(RawDatagram<'_, S>, Moment),
    ) -> Result<ReceivedBatch, Errno> {
        let flags = flags | MsgFlags::MSG_DONTWAIT;
        let max_payload = self.max_payload;
        if max_count <= 1 {
            let payload = self.bytes.get_mut(..max_payload).unwrap_or_default();
            let mut slices = [IoSliceMut::new(payload)];
            let mut message = recvmsg::<S>(fd, &mut slices, Some(&mut self.control.0), flags)?;
            let (length, peer, truncated) = (message.bytes, message.address, is_truncated(&message));
            let (ancillary, used) = parse_ancillary(&mut message);
            let moment = now();
            let bytes = self.bytes.get(..length.min(max_payload)).unwrap_or_default();
            if let Some(peer) = peer {
                on_datagram(RawDatagram { peer, bytes, truncated, ancillary }, moment);
            }
            return Ok(ReceivedBatch { count: 1, control_len: used });
        }
        let slot = S::cached_headers(&mut self.header_cache);
        let cached = slot.take().filter(|headers| headers.control_len == control_len && headers.capacity >= max_count);
        let mut reusable = cached.unwrap_or_else(|| ReusableHeaders::new(max_count, control_len));
        let mut chunks = self.bytes.chunks_exact_mut(self.stride);
        let mut slices: [[IoSliceMut<'_>; 1]; BATCH_SIZE] = array::from_fn(|_| {
            let chunk = chunks.next().and_then(|chunk| chunk.get_mut(..max_payload));
            [IoSliceMut::new(chunk.unwrap_or_default())]
        });
        let messages = match recvmmsg(fd, &mut reusable.headers, slices.iter_mut().take(max_count), flags, None) {
            Ok(messages) => messages,
            Err(errno) => {
                *slot = Some(reusable);
                return Err(errno);
            }
        };
        let moment = now();
        let (mut count, mut all_used) = (0, None);
        for mut message in messages {
            let bytes = message.iovs().next().unwrap_or_default();
            if let Some(peer) = message.address {
                let truncated = is_truncated(&message);
                let (ancillary, used) = parse_ancillary(&mut message);
                all_used = if count == 0 { used } else { all_used.filter(|all| Some(*all) == used) };
                on_datagram(RawDatagram { peer, bytes, truncated, ancillary }, moment);
            }
            count += 1;
        }
        if all_used == Some(control_len) {
            *slot = Some(reusable);
        }
        Ok(ReceivedBatch { count, control_len: all_used })
    }
}

/// Result of a receive call.
pub(super) struct ReceivedBatch {
    pub count: usize,
    /// Size of the control messages of each datagram, if it is known and the same for all.
    pub control_len: Option<usize>,
}

impl<S: AddressFamily> ReusableHeaders<S> {
    /// Allocates headers: no more than needed if they can serve one call only.
    fn new(max_count: usize, control_len: usize) -> Self {
        let count = if control_len == CONTROL_SIZE { max_count.min(BATCH_SIZE) } else { BATCH_SIZE };
        let headers = MultiHeaders::preallocate(count, Some(Vec::with_capacity(control_len)));
        Self { headers, capacity: count, control_len }
    }
}

fn is_truncated<S>(message: &RecvMsg<'_, '_, S>) -> bool {
    message.flags.contains(MsgFlags::MSG_TRUNC)
}

/// Parses the control messages, and returns their size if it is known.
fn parse_ancillary<S>(message: &mut RecvMsg<'_, '_, S>) -> (AncillaryData, Option<usize>) {
    let (mut ancillary, mut used) = (AncillaryData::default(), 0);
    // nix returns none if the buffer was too small. Buffer sizes are sums of whole messages, so those that
    // fit are complete.
    let is_incomplete = message.flags.contains(MsgFlags::MSG_CTRUNC);
    message.flags.remove(MsgFlags::MSG_CTRUNC);
    let Ok(control_messages) = message.cmsgs() else { return (ancillary, None) };
    for control_message in control_messages {
        used += match &control_message {
            ControlMessageOwned::ScmTimestampns(_) => cmsg_space::<TimeSpec>(),
            ControlMessageOwned::Ipv4Ttl(_) | ControlMessageOwned::Ipv6HopLimit(_) => cmsg_space::<i32>(),
            ControlMessageOwned::RxqOvfl(_) => cmsg_space::<u32>(),
            // The exact size of the others is not needed; this makes the sum exceed any buffer.
            _ => CONTROL_SIZE,
        };
        match control_message {
            ControlMessageOwned::ScmTimestampns(time) => ancillary.timestamp = unix_timestamp(time),
            ControlMessageOwned::ScmTimestampsns(times) => ancillary.timestamp = unix_timestamp(times.system),
            ControlMessageOwned::Ipv4Ttl(ttl) | ControlMessageOwned::Ipv6HopLimit(ttl) => {
                ancillary.ttl = u8::try_from(ttl).ok();
            }
            ControlMessageOwned::RxqOvfl(dropped) => ancillary.dropped = Some(dropped),
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                ancillary.local = Some(Ipv4Addr::from_bits(u32::from_be(info.ipi_addr.s_addr)).into());
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                ancillary.local = Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
            }
            ControlMessageOwned::Ipv4RecvErr(error, _) | ControlMessageOwned::Ipv6RecvErr(error, _) => {
                ancillary.error = Some(error);
            }
            _ => {}
        }
    }
    let known = ancillary.timestamp.is_some() && used < CONTROL_SIZE && !is_incomplete;
    (ancillary, known.then_some(used))
}

/// Converts a kernel timestamp; a zero time counts as missing.
fn unix_timestamp(time: TimeSpec) -> Option<Duration> {
    let seconds = u64::try_from(time.tv_sec()).ok()?;
    let nanoseconds = u32::try_from(time.tv_nsec()).ok()?;
    Some(Duration::new(seconds, nanoseconds)).filter(|time| !time.is_zero())
}
