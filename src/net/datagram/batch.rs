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
pub const BATCH: usize = 64;

/// Room for what the kernel tells beside one datagram, rounded up: a stamp of the long kind 64,
/// an ICMP error with its sender 64, an IPv6 address 40, TTL and drops 24 each.
pub const CONTROL: usize = 224;

/// Headers as good as new.
pub struct Kept<S> {
    headers: MultiHeaders<S>,
    count: usize,
    room: usize,
}

pub type Spare<S> = Option<Kept<S>>;

/// Those of each family.
#[derive(Default)]
pub struct Headers {
    v4: Spare<SockaddrIn>,
    v6: Spare<SockaddrIn6>,
    none: Spare<()>,
}

/// An address of one family, as the system calls want it.
pub trait Family: SockaddrLike + Copy {
    /// As the system calls want it, if it is of this family.
    fn of(address: SocketAddr) -> Option<Self>;
    /// As everybody else wants it; `None` if there is none.
    fn address(self) -> Option<SocketAddr>;
    /// Where headers of this family are kept.
    fn spare(headers: &mut Headers) -> &mut Spare<Self>;
}

impl Family for SockaddrIn {
    fn of(address: SocketAddr) -> Option<Self> {
        if let SocketAddr::V4(v4) = address { Some(v4.into()) } else { None }
    }

    fn address(self) -> Option<SocketAddr> {
        Some(SocketAddr::V4(self.into()))
    }

    fn spare(headers: &mut Headers) -> &mut Spare<Self> {
        &mut headers.v4
    }
}

impl Family for SockaddrIn6 {
    fn of(address: SocketAddr) -> Option<Self> {
        if let SocketAddr::V6(v6) = address { Some(v6.into()) } else { None }
    }

    fn address(self) -> Option<SocketAddr> {
        Some(SocketAddr::V6(self.into()))
    }

    fn spare(headers: &mut Headers) -> &mut Spare<Self> {
        &mut headers.v6
    }
}

/// No address: what comes from the error queue.
impl Family for () {
    fn of(_: SocketAddr) -> Option<Self> {
        None
    }

    fn address(self) -> Option<SocketAddr> {
        None
    }

    fn spare(headers: &mut Headers) -> &mut Spare<Self> {
        &mut headers.none
    }
}

/// A datagram, or an entry of the error queue, with what the kernel tells beside it.
pub struct Arrival<'a, S> {
    pub peer: S,
    pub bytes: &'a [u8],
    pub truncated: bool,
    pub notes: Notes,
}

/// What the kernel tells beside a datagram.
#[derive(Default)]
pub struct Notes {
    /// By the wall clock, since 1970.
    pub stamp: Option<Duration>,
    pub ttl: Option<u8>,
    pub local: Option<IpAddr>,
    /// How many this socket has dropped since it was made.
    pub dropped: Option<u32>,
    pub error: Option<sock_extended_err>,
}

/// Where a thread receives.
pub struct Buffer {
    octets: Vec<u8>,
    stride: usize,
    largest: usize,
    control: Control,
    headers: Headers,
}

/// The kernel writes headers into it, so it is aligned as they are.
#[repr(align(16))]
struct Control([u8; CONTROL]);

impl Buffer {
    /// Room for a whole batch of datagrams of up to `largest` octets. Pages that no datagram has
    /// reached take no memory.
    pub fn new(largest: usize) -> Self {
        // One cache line more than a round number: else the first octets of all datagrams would
        // fight for the same place in the cache.
        let stride = largest.max(1).next_multiple_of(64) + 64;
        Self {
            octets: vec![0; stride * BATCH],
            stride,
            largest,
            control: Control([0; CONTROL]),
            headers: Headers::default(),
        }
    }

    /// Receives up to `wanted` datagrams without waiting, and hands over each with a reading of
    /// the clock that is later than all of them. Beside each there is `room` for what the kernel
    /// tells.
    pub fn receive<S: Family>(
        &mut self,
        fd: RawFd,
        wanted: usize,
        room: usize,
        flags: MsgFlags,
        mut take: impl FnMut(Arrival<'_, S>, Moment),
    ) -> Result<Received, Errno> {
        let flags = flags | MsgFlags::MSG_DONTWAIT;
        let largest = self.largest;
        if wanted <= 1 {
            let octets = self.octets.get_mut(..largest).unwrap_or_default();
            let mut slices = [IoSliceMut::new(octets)];
            let mut message = recvmsg::<S>(fd, &mut slices, Some(&mut self.control.0), flags)?;
            let (length, peer, truncated) = (message.bytes, message.address, is_truncated(&message));
            let (notes, filled) = notes(&mut message);
            let moment = now();
            let bytes = self.octets.get(..length.min(largest)).unwrap_or_default();
            if let Some(peer) = peer {
                take(Arrival { peer, bytes, truncated, notes }, moment);
            }
            return Ok(Received { count: 1, filled });
        }
        let spare = S::spare(&mut self.headers);
        let fits = spare.take().filter(|kept| kept.room == room && kept.count >= wanted);
        let mut kept = fits.unwrap_or_else(|| Kept::fresh(wanted, room));
        let mut rooms = self.octets.chunks_exact_mut(self.stride);
        let mut slices: [[IoSliceMut<'_>; 1]; BATCH] = array::from_fn(|_| {
            let room = rooms.next().and_then(|room| room.get_mut(..largest));
            [IoSliceMut::new(room.unwrap_or_default())]
        });
        let messages = match recvmmsg(fd, &mut kept.headers, slices.iter_mut().take(wanted), flags, None) {
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
                let (notes, filled) = notes(&mut message);
                all_filled = if count == 0 { filled } else { all_filled.filter(|all| Some(*all) == filled) };
                take(Arrival { peer, bytes, truncated, notes }, moment);
            }
            count += 1;
        }
        if all_filled == Some(room) {
            *spare = Some(kept);
        }
        Ok(Received { count, filled: all_filled })
    }
}

/// What a call brought.
pub struct Received {
    /// How many datagrams.
    pub count: usize,
    /// How much room was filled beside each of them, if it is known and was the same for all.
    pub filled: Option<usize>,
}

impl<S: Family> Kept<S> {
    /// Headers that will serve but once are no more than needed.
    fn fresh(wanted: usize, room: usize) -> Self {
        let count = if room == CONTROL { wanted.min(BATCH) } else { BATCH };
        let headers = MultiHeaders::preallocate(count, Some(Vec::with_capacity(room)));
        Self { headers, count, room }
    }
}

fn is_truncated<S>(message: &RecvMsg<'_, '_, S>) -> bool {
    message.flags.contains(MsgFlags::MSG_TRUNC)
}

/// What was told, and how much room that filled.
fn notes<S>(message: &mut RecvMsg<'_, '_, S>) -> (Notes, Option<usize>) {
    let (mut notes, mut filled) = (Notes::default(), 0);
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
            _ => CONTROL,
        };
        match told {
            ControlMessageOwned::ScmTimestampns(time) => notes.stamp = since_1970(time),
            ControlMessageOwned::ScmTimestampsns(times) => notes.stamp = since_1970(times.system),
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
    let known = notes.stamp.is_some() && filled < CONTROL && !is_cut;
    (notes, known.then_some(filled))
}

/// A time of zero is no stamp.
fn since_1970(time: TimeSpec) -> Option<Duration> {
    let seconds = u64::try_from(time.tv_sec()).ok()?;
    let nanoseconds = u32::try_from(time.tv_nsec()).ok()?;
    Some(Duration::new(seconds, nanoseconds)).filter(|time| !time.is_zero())
}
