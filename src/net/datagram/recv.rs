//! Many datagrams from one system call.
//!
//! Owns recvmmsg, and what the kernel tells beside a datagram; [`super::run`] is its other half.
//! It must not know what a datagram means, nor keep anything from one call to the next but memory.
//!
//! nix gives the lengths in a [`MultiHeaders`] back as the kernel left them, so headers with more
//! room than was filled are good for one call. But a server is told the same beside every datagram:
//! headers with exactly that room stay as they were, and serve for ever. A call for one datagram
//! needs none at all. The first loss makes the kernel tell one thing more, after the stamp and
//! before the TTL: that batch has no TTL, and the next has room again.

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

/// The most datagrams in one call.
pub(super) const BATCH_SIZE: usize = 64;

/// Room for what the kernel tells beside one datagram, rounded up: a stamp of the long kind 64,
/// an ICMP error with its sender 64, an IPv6 address 40, TTL and drops 24 each.
pub(super) const CONTROL_SIZE: usize = 224;

/// Headers as good as new.
pub(super) struct ReusableHeaders<S> {
    headers: MultiHeaders<S>,
    capacity: usize,
    control_len: usize,
}

pub(super) type HeaderSlot<S> = Option<ReusableHeaders<S>>;

/// Those of each family.
#[derive(Default)]
pub(super) struct HeaderCache {
    v4: HeaderSlot<SockaddrIn>,
    v6: HeaderSlot<SockaddrIn6>,
    error_queue: HeaderSlot<()>,
}

/// An address of one family, as the system calls want it.
pub(super) trait AddressFamily: SockaddrLike + Copy {
    /// As the system calls want it, if it is of this family.
    fn from_std(address: SocketAddr) -> Option<Self>;
    /// As everybody else wants it; `None` if there is none.
    fn into_std(self) -> Option<SocketAddr>;
    /// Where headers of this family are kept.
    fn cached_headers(cache: &mut HeaderCache) -> &mut HeaderSlot<Self>;
}

impl AddressFamily for SockaddrIn {
    fn from_std(address: SocketAddr) -> Option<Self> {
        if let SocketAddr::V4(v4) = address { Some(v4.into()) } else { None }
    }

    fn into_std(self) -> Option<SocketAddr> {
        Some(SocketAddr::V4(self.into()))
    }

    fn cached_headers(headers: &mut HeaderCache) -> &mut HeaderSlot<Self> {
        &mut headers.v4
    }
}

impl AddressFamily for SockaddrIn6 {
    fn from_std(address: SocketAddr) -> Option<Self> {
        if let SocketAddr::V6(v6) = address { Some(v6.into()) } else { None }
    }

    fn into_std(self) -> Option<SocketAddr> {
        Some(SocketAddr::V6(self.into()))
    }

    fn cached_headers(headers: &mut HeaderCache) -> &mut HeaderSlot<Self> {
        &mut headers.v6
    }
}

/// No address: what comes from the error queue.
impl AddressFamily for () {
    fn from_std(_: SocketAddr) -> Option<Self> {
        None
    }

    fn into_std(self) -> Option<SocketAddr> {
        None
    }

    fn cached_headers(headers: &mut HeaderCache) -> &mut HeaderSlot<Self> {
        &mut headers.error_queue
    }
}

/// A datagram, or an entry of the error queue, with what the kernel tells beside it.
pub(super) struct RawDatagram<'a, S> {
    pub peer: S,
    pub bytes: &'a [u8],
    pub truncated: bool,
    pub ancillary: AncillaryData,
}

/// What the kernel tells beside a datagram.
#[derive(Default)]
pub(super) struct AncillaryData {
    /// By the wall clock, since 1970.
    pub timestamp: Option<Duration>,
    pub ttl: Option<u8>,
    pub local: Option<IpAddr>,
    /// How many this socket has dropped since it was made.
    pub dropped: Option<u32>,
    pub error: Option<sock_extended_err>,
}

/// Where a thread receives.
pub(super) struct BatchBuffer {
    bytes: Vec<u8>,
    stride: usize,
    max_payload: usize,
    control: ControlBuffer,
    header_cache: HeaderCache,
}

/// The kernel writes headers into it, so it is aligned as they are.
#[repr(align(16))]
struct ControlBuffer([u8; CONTROL_SIZE]);

impl BatchBuffer {
    /// Room for a whole batch of datagrams of up to `largest` octets. Pages that no datagram has
    /// reached take no memory.
    pub(super) fn new(max_payload: usize) -> Self {
        // One cache line more than a round number: else the first octets of all datagrams would
        // fight for the same place in the cache.
        let stride = max_payload.max(1).next_multiple_of(64) + 64;
        Self {
            bytes: vec![0; stride * BATCH_SIZE],
            stride,
            max_payload,
            control: ControlBuffer([0; CONTROL_SIZE]),
            header_cache: HeaderCache::default(),
        }
    }

    /// Receives up to `wanted` datagrams without waiting, and hands over each with a reading of
    /// the clock that is later than all of them. Beside each there is `room` for what the kernel
    /// tells.
    pub(super) fn receive<S: AddressFamily>(
        &mut self,
        fd: RawFd,
        max_count: usize,
        control_len: usize,
        flags: MsgFlags,
        mut on_datagram: impl FnMut(RawDatagram<'_, S>, Moment),
    ) -> Result<ReceivedBatch, Errno> {
        let flags = flags | MsgFlags::MSG_DONTWAIT;
        let largest = self.max_payload;
        if max_count <= 1 {
            let octets = self.bytes.get_mut(..largest).unwrap_or_default();
            let mut slices = [IoSliceMut::new(octets)];
            let mut message = recvmsg::<S>(fd, &mut slices, Some(&mut self.control.0), flags)?;
            let (length, peer, truncated) = (message.bytes, message.address, is_truncated(&message));
            let (notes, filled) = parse_ancillary(&mut message);
            let moment = now();
            let bytes = self.bytes.get(..length.min(largest)).unwrap_or_default();
            if let Some(peer) = peer {
                on_datagram(RawDatagram { peer, bytes, truncated, ancillary: notes }, moment);
            }
            return Ok(ReceivedBatch { count: 1, control_len: filled });
        }
        let spare = S::cached_headers(&mut self.header_cache);
        let fits = spare.take().filter(|kept| kept.control_len == control_len && kept.capacity >= max_count);
        let mut kept = fits.unwrap_or_else(|| ReusableHeaders::new(max_count, control_len));
        let mut rooms = self.bytes.chunks_exact_mut(self.stride);
        let mut slices: [[IoSliceMut<'_>; 1]; BATCH_SIZE] = array::from_fn(|_| {
            let room = rooms.next().and_then(|room| room.get_mut(..largest));
            [IoSliceMut::new(room.unwrap_or_default())]
        });
        let messages = match recvmmsg(fd, &mut kept.headers, slices.iter_mut().take(max_count), flags, None) {
            Ok(messages) => messages,
            Err(errno) => {
                *spare = Some(kept);
                return Err(errno);
            }
        };
        let moment = now();
        let (mut count, mut all_filled) = (0, None);
        for mut message in messages {
            let bytes = message.iovs().next().unwrap_or_default();
            if let Some(peer) = message.address {
                let truncated = is_truncated(&message);
                let (notes, filled) = parse_ancillary(&mut message);
                all_filled = if count == 0 { filled } else { all_filled.filter(|all| Some(*all) == filled) };
                on_datagram(RawDatagram { peer, bytes, truncated, ancillary: notes }, moment);
            }
            count += 1;
        }
        if all_filled == Some(control_len) {
            *spare = Some(kept);
        }
        Ok(ReceivedBatch { count, control_len: all_filled })
    }
}

/// What a call brought.
pub(super) struct ReceivedBatch {
    /// How many datagrams.
    pub count: usize,
    /// How much room was filled beside each of them, if it is known and was the same for all.
    pub control_len: Option<usize>,
}

impl<S: AddressFamily> ReusableHeaders<S> {
    /// Headers that will serve but once are no more than needed.
    fn new(max_count: usize, control_len: usize) -> Self {
        let count = if control_len == CONTROL_SIZE { max_count.min(BATCH_SIZE) } else { BATCH_SIZE };
        let headers = MultiHeaders::preallocate(count, Some(Vec::with_capacity(control_len)));
        Self { headers, capacity: count, control_len }
    }
}

fn is_truncated<S>(message: &RecvMsg<'_, '_, S>) -> bool {
    message.flags.contains(MsgFlags::MSG_TRUNC)
}

/// What was told, and how much room that filled.
fn parse_ancillary<S>(message: &mut RecvMsg<'_, '_, S>) -> (AncillaryData, Option<usize>) {
    let (mut notes, mut filled) = (AncillaryData::default(), 0);
    // nix tells nothing where not everything fitted. Room is a sum of whole messages, so what did fit
    // is whole.
    let is_cut = message.flags.contains(MsgFlags::MSG_CTRUNC);
    message.flags.remove(MsgFlags::MSG_CTRUNC);
    let Ok(all) = message.cmsgs() else { return (notes, None) };
    for told in all {
        filled += match &told {
            ControlMessageOwned::ScmTimestampns(_) => cmsg_space::<TimeSpec>(),
            ControlMessageOwned::Ipv4Ttl(_) | ControlMessageOwned::Ipv6HopLimit(_) => cmsg_space::<i32>(),
            ControlMessageOwned::RxqOvfl(_) => cmsg_space::<u32>(),
            // Nobody asks how much room the others fill; it is more than there is.
            _ => CONTROL_SIZE,
        };
        match told {
            ControlMessageOwned::ScmTimestampns(time) => notes.timestamp = unix_timestamp(time),
            ControlMessageOwned::ScmTimestampsns(times) => notes.timestamp = unix_timestamp(times.system),
            ControlMessageOwned::Ipv4Ttl(ttl) | ControlMessageOwned::Ipv6HopLimit(ttl) => {
                notes.ttl = u8::try_from(ttl).ok();
            }
            ControlMessageOwned::RxqOvfl(dropped) => notes.dropped = Some(dropped),
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                notes.local = Some(Ipv4Addr::from_bits(u32::from_be(info.ipi_addr.s_addr)).into());
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                notes.local = Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
            }
            ControlMessageOwned::Ipv4RecvErr(error, _) | ControlMessageOwned::Ipv6RecvErr(error, _) => {
                notes.error = Some(error);
            }
            _ => {}
        }
    }
    let known = notes.timestamp.is_some() && filled < CONTROL_SIZE && !is_cut;
    (notes, known.then_some(filled))
}

/// A time of zero is no stamp.
fn unix_timestamp(time: TimeSpec) -> Option<Duration> {
    let seconds = u64::try_from(time.tv_sec()).ok()?;
    let nanoseconds = u32::try_from(time.tv_nsec()).ok()?;
    Some(Duration::new(seconds, nanoseconds)).filter(|time| !time.is_zero())
}
