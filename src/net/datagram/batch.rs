//! Many datagrams in one system call.
//!
//! Owns recvmmsg and sendmmsg, and what the kernel tells beside a datagram. It must not know what
//! a datagram means, nor keep anything from one call to the next but memory.
//!
//! nix gives the lengths in a [`MultiHeaders`] back as the kernel left them, so headers that
//! receive are good for one call only. A call for one datagram needs none at all, and so a quiet
//! socket costs no allocation and a busy one a few per batch.

use std::array;
use std::io::{IoSlice, IoSliceMut};
use std::iter::Peekable;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::RawFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo, sock_extended_err};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, RecvMsg, SockaddrIn, SockaddrIn6, SockaddrLike,
    recvmmsg, recvmsg, sendmmsg,
};
use nix::sys::time::TimeSpec;

use crate::conversation::Outgoing;
use crate::net::clock::now;
use crate::time::Moment;

/// The most datagrams in one call.
pub const BATCH: usize = 64;

/// Room for what the kernel tells beside one datagram, rounded up: a stamp of the long kind 64,
/// an ICMP error with its sender 64, an IPv6 address 40, TTL and drops 24 each.
const CONTROL: usize = 224;

/// An address of one family, as the system calls want it.
pub trait Family: SockaddrLike + Copy {
    /// As the system calls want it, if it is of this family.
    fn of(address: SocketAddr) -> Option<Self>;
    /// As everybody else wants it; `None` if there is none.
    fn address(self) -> Option<SocketAddr>;
}

impl Family for SockaddrIn {
    fn of(address: SocketAddr) -> Option<Self> {
        if let SocketAddr::V4(v4) = address { Some(v4.into()) } else { None }
    }

    fn address(self) -> Option<SocketAddr> {
        Some(SocketAddr::V4(self.into()))
    }
}

impl Family for SockaddrIn6 {
    fn of(address: SocketAddr) -> Option<Self> {
        if let SocketAddr::V6(v6) = address { Some(v6.into()) } else { None }
    }

    fn address(self) -> Option<SocketAddr> {
        Some(SocketAddr::V6(self.into()))
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
        Self { octets: vec![0; stride * BATCH], stride, largest, control: Control([0; CONTROL]) }
    }

    /// Receives up to `wanted` datagrams without waiting, and hands over each with a reading of
    /// the clock that is later than all of them.
    pub fn receive<S: Family>(
        &mut self,
        fd: RawFd,
        wanted: usize,
        flags: MsgFlags,
        mut take: impl FnMut(Arrival<'_, S>, Moment),
    ) -> Result<usize, Errno> {
        let flags = flags | MsgFlags::MSG_DONTWAIT;
        let largest = self.largest;
        if wanted <= 1 {
            let octets = self.octets.get_mut(..largest).unwrap_or_default();
            let mut slices = [IoSliceMut::new(octets)];
            let message = recvmsg::<S>(fd, &mut slices, Some(&mut self.control.0), flags)?;
            let (length, peer, truncated) = (message.bytes, message.address, is_truncated(&message));
            let notes = notes(&message);
            let moment = now();
            let bytes = self.octets.get(..length.min(largest)).unwrap_or_default();
            if let Some(peer) = peer {
                take(Arrival { peer, bytes, truncated, notes }, moment);
            }
            return Ok(1);
        }
        let mut headers = MultiHeaders::<S>::preallocate(wanted.min(BATCH), Some(Vec::with_capacity(CONTROL)));
        let mut rooms = self.octets.chunks_exact_mut(self.stride);
        let mut slices: [[IoSliceMut<'_>; 1]; BATCH] = array::from_fn(|_| {
            let room = rooms.next().and_then(|room| room.get_mut(..largest));
            [IoSliceMut::new(room.unwrap_or_default())]
        });
        let messages = recvmmsg(fd, &mut headers, slices.iter_mut(), flags, None)?;
        let moment = now();
        let mut count = 0;
        for message in messages {
            count += 1;
            let bytes = message.iovs().next().unwrap_or_default();
            if let Some(peer) = message.address {
                let truncated = is_truncated(&message);
                take(Arrival { peer, bytes, truncated, notes: notes(&message) }, moment);
            }
        }
        Ok(count)
    }
}

fn is_truncated<S>(message: &RecvMsg<'_, '_, S>) -> bool {
    message.flags.contains(MsgFlags::MSG_TRUNC)
}

fn notes<S>(message: &RecvMsg<'_, '_, S>) -> Notes {
    let mut notes = Notes::default();
    // An error means that there was more than fits CONTROL; then it is as if nothing was told.
    for told in message.cmsgs().into_iter().flatten() {
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
    notes
}

/// A time of zero is no stamp.
fn since_1970(time: TimeSpec) -> Option<Duration> {
    let seconds = u64::try_from(time.tv_sec()).ok()?;
    let nanoseconds = u32::try_from(time.tv_nsec()).ok()?;
    Some(Duration::new(seconds, nanoseconds)).filter(|time| !time.is_zero())
}

/// Neighbours in a post that leave from the same socket and the same of our addresses, at most a
/// batch of them.
pub struct Run<'p> {
    envelopes: [&'p Outgoing; BATCH],
    payloads: [[IoSlice<'p>; 1]; BATCH],
    count: usize,
}

impl<'p> Run<'p> {
    /// The next run of what is left.
    pub fn next(rest: &mut Peekable<impl Iterator<Item = (&'p Outgoing, &'p [u8])>>) -> Option<Self> {
        let first = rest.peek()?.0;
        let same = |next: &Outgoing| next.socket == first.socket && next.from == first.from;
        let mut run = Self { envelopes: [first; BATCH], payloads: [[IoSlice::new(&[])]; BATCH], count: 0 };
        for (envelope, payload) in run.envelopes.iter_mut().zip(&mut run.payloads) {
            let Some((next, bytes)) = rest.next_if(|(next, _)| same(next)) else { break };
            (*envelope, *payload) = (next, [IoSlice::new(bytes)]);
            run.count += 1;
        }
        Some(run)
    }

    pub fn socket(&self) -> u64 {
        self.envelopes[0].socket
    }

    pub fn from(&self) -> Option<IpAddr> {
        self.envelopes[0].from
    }

    pub fn tickets(&self) -> impl Iterator<Item = u64> {
        self.envelopes().iter().map(|envelope| envelope.ticket)
    }

    fn envelopes(&self) -> &[&'p Outgoing] {
        self.envelopes.get(..self.count).unwrap_or_default()
    }
}

/// What sendmmsg needs for datagrams of one family.
pub struct Sending<S> {
    plain: MultiHeaders<S>,
    /// With room for one address to send from, which all of a call share.
    from: MultiHeaders<S>,
    to: Vec<Option<S>>,
}

impl<S: Family> Sending<S> {
    /// `room` is what an address to send from takes: an option that does not fill it exactly
    /// would leave an empty one behind it.
    fn new(room: usize) -> Self {
        Self {
            plain: MultiHeaders::preallocate(BATCH, None),
            from: MultiHeaders::preallocate(BATCH, Some(Vec::with_capacity(room))),
            to: Vec::with_capacity(BATCH),
        }
    }

    /// Takes the addresses of a run.
    pub fn address(&mut self, run: &Run<'_>) {
        self.to.clear();
        self.to.extend(run.envelopes().iter().map(|envelope| envelope.to.and_then(S::of)));
    }

    /// Sends the run whose addresses were taken, from number `first` on, without waiting, and says
    /// how many went.
    pub fn send(&mut self, fd: RawFd, run: &Run<'_>, first: usize, from: Option<IpAddr>) -> Result<usize, Errno> {
        let payloads = run.payloads.get(first..run.count).unwrap_or_default();
        let to = self.to.get(first..).unwrap_or_default();
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let sent = match from {
            None => sendmmsg(fd, &mut self.plain, payloads, to, [], flags)?.count(),
            Some(IpAddr::V4(from)) => {
                let from = in_addr { s_addr: from.to_bits().to_be() };
                let info = in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: from, ipi_addr: in_addr { s_addr: 0 } };
                sendmmsg(fd, &mut self.from, payloads, to, [ControlMessage::Ipv4PacketInfo(&info)], flags)?.count()
            }
            Some(IpAddr::V6(from)) => {
                let info = in6_pktinfo { ipi6_addr: in6_addr { s6_addr: from.octets() }, ipi6_ifindex: 0 };
                sendmmsg(fd, &mut self.from, payloads, to, [ControlMessage::Ipv6PacketInfo(&info)], flags)?.count()
            }
        };
        Ok(sent)
    }
}

/// Both families.
pub struct Outgoings {
    pub v4: Sending<SockaddrIn>,
    pub v6: Sending<SockaddrIn6>,
}

impl Outgoings {
    pub fn new() -> Self {
        let v4 = nix::cmsg_space!(in_pktinfo).len();
        let v6 = nix::cmsg_space!(in6_pktinfo).len();
        Self { v4: Sending::new(v4), v6: Sending::new(v6) }
    }
}
