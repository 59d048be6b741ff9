//! What a datagram exchange looks like to the loop that carries it.
//!
//! An [`Exchange`] takes datagrams with the moment they came, and answers through its [`Post`]. It
//! is one for all peers of a server, or one per target of a client.
//!
//! ```text
//!            received · departed · failed · overflowed · woken
//!   net ────────────────────────────────────────────────────────▶ exchange
//!       ◀────────────────────────────────────────────────────────
//!            Post: datagrams to send now · retired sockets · facts          wake_at
//! ```

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use crate::time::Moment;

/// One side of an exchange of datagrams.
///
/// The loop reads everything that waits (errors and send stamps first, then datagrams) before it
/// says [`woken`](Self::woken): after a pause of the whole process, an answer that lies in the
/// socket must be seen before its time-out is.
pub(crate) trait DatagramProtocol {
    /// What its owner may want to know, told as it happens.
    type Event;

    /// A datagram came.
    fn received(&mut self, datagram: &Datagram<'_>, now: Moment, actions: &mut DatagramActions<Self::Event>);

    /// The kernel says when the datagram posted with this ticket left.
    fn transmitted(&mut self, ticket: u64, at: Moment);

    /// A datagram could not be sent, or the network says that one could not be delivered.
    fn failed(&mut self, error: &TransmitError<'_>, now: Moment, actions: &mut DatagramActions<Self::Event>);

    /// So many datagrams found no room in our own receive buffer (`SO_RXQ_OVFL`), since the last
    /// call.
    fn overflowed(&mut self, count: u64, now: Moment, actions: &mut DatagramActions<Self::Event>);

    /// The moment named by [`wake_at`](Self::wake_at) has come, or may have come.
    fn woken(&mut self, now: Moment, actions: &mut DatagramActions<Self::Event>);

    /// When to be woken, if nothing happens before; asked after each turn.
    fn wake_at(&self) -> Option<Moment>;
}

/// A datagram as it came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Datagram<'a> {
    /// Who sent it.
    pub peer: SocketAddr,
    /// Where it was sent to, if the socket tells: the reply leaves from there.
    pub local: Option<IpAddr>,
    /// The socket it came on, as [`Outgoing::socket`] names it.
    pub socket: u64,
    /// When it came: by the kernel's stamp, brought over to the monotonic clock, else by the
    /// loop's own reading.
    pub received_at: Moment,
    /// Whether that was the kernel's stamp.
    pub has_kernel_timestamp: bool,
    /// The TTL or hop limit it came with, if the socket tells.
    pub ttl: Option<u8>,
    /// Whether it was larger than the buffer (`MSG_TRUNC`), so that `bytes` are a part of it.
    pub truncated: bool,
    /// Its payload.
    pub bytes: &'a [u8],
}

#[cfg(test)]
impl<'a> Datagram<'a> {
    /// One of which nothing more is known.
    pub(crate) fn plain(peer: SocketAddr, at: Moment, bytes: &'a [u8]) -> Self {
        Self {
            peer,
            local: None,
            socket: 0,
            received_at: at,
            has_kernel_timestamp: false,
            ttl: None,
            truncated: false,
            bytes,
        }
    }

    /// One with the kernel's stamp.
    pub(crate) fn timestamped(peer: SocketAddr, at: Moment, bytes: &'a [u8]) -> Self {
        Self { has_kernel_timestamp: true, ..Self::plain(peer, at, bytes) }
    }
}

/// Why a datagram did not get through.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TransmitError<'a> {
    /// The system would not send what was posted with this ticket.
    NotSent {
        /// Its ticket.
        ticket: u64,
        /// The system's word for it.
        error: &'a io::Error,
    },
    /// ICMP says that something sent before was not delivered. A pending one that turns up as the
    /// error of a later `send` belongs here too, and that `send` is to be repeated.
    Unreachable {
        /// The socket it was sent from, as in [`Datagram::socket`].
        socket: u64,
        /// The network's word for it; `ConnectionRefused` is a closed port.
        error: &'a io::Error,
        /// As much of the payload as came back with the error, maybe nothing.
        bytes: &'a [u8],
    },
}

/// What an exchange wants sent, in order. It belongs to the loop, is emptied after each turn and
/// keeps its memory, so that a datagram costs no allocation.
#[derive(Debug)]
pub(crate) struct DatagramActions<E> {
    transmits: Vec<Transmit>,
    retired: Vec<u64>,
    payloads: Vec<u8>,
    events: Vec<E>,
    events_wanted: bool,
}

/// A datagram to send now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Transmit {
    /// To whom; `None` on a connected socket.
    pub to: Option<SocketAddr>,
    /// From which of our addresses; `None` leaves it to the system.
    pub from: Option<IpAddr>,
    /// On which socket: 0 is the one that is always there. For a client, any other number is a
    /// socket of its own with a port of its own, made when the number is first seen and kept until
    /// it is retired; for a server, one of those it was bound to.
    pub socket: u64,
    /// What [`Exchange::departed`] and [`Failure::NotSent`] call it.
    pub ticket: u64,
    /// Where its payload is.
    pub payload: Range<usize>,
}

impl<E> DatagramActions<E> {
    /// An empty post; facts are only built if somebody is listening.
    pub(crate) fn new(events_wanted: bool) -> Self {
        Self { transmits: Vec::new(), retired: Vec::new(), payloads: Vec::new(), events: Vec::new(), events_wanted }
    }

    /// Posts a datagram whose payload `write` appends to the buffer. The range in `envelope` is
    /// filled in here.
    pub(crate) fn send(&mut self, mut transmit: Transmit, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.payloads.len();
        write(&mut self.payloads);
        transmit.payload = start..self.payloads.len().max(start);
        self.transmits.push(transmit);
    }

    /// Closes a socket that was made for one ticket.
    pub(crate) fn retire(&mut self, socket: u64) {
        self.retired.push(socket);
    }

    /// Tells a fact, if somebody is listening.
    pub(crate) fn emit(&mut self, event: impl FnOnce() -> E) {
        if self.events_wanted {
            self.events.push(event());
        }
    }

    /// The datagrams to send, oldest first, each with its payload.
    pub(crate) fn transmits(&self) -> impl Iterator<Item = (&Transmit, &[u8])> {
        let payload = |outgoing: &Transmit| self.payloads.get(outgoing.payload.clone());
        self.transmits.iter().map(move |outgoing| (outgoing, payload(outgoing).unwrap_or_default()))
    }

    /// All payloads, side by side; [`Outgoing::bytes`] says where each is.
    pub(crate) fn payloads(&self) -> &[u8] {
        &self.payloads
    }

    /// The sockets to close once everything is sent.
    pub(crate) fn retired(&self) -> &[u64] {
        &self.retired
    }

    /// The facts told since the last call, oldest first.
    pub(crate) fn events(&mut self) -> impl Iterator<Item = E> {
        self.events.drain(..)
    }

    /// Whether there is nothing to send and nothing to close.
    pub(crate) fn is_empty(&self) -> bool {
        self.transmits.is_empty() && self.retired.is_empty()
    }

    /// Forgets what has been sent, and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.transmits.clear();
        self.retired.clear();
        self.payloads.clear();
    }
}

impl Transmit {
    /// An answer to a datagram: back to its sender, from the address it was sent to.
    pub(crate) fn reply(datagram: &Datagram<'_>, ticket: u64) -> Self {
        Self { to: Some(datagram.peer), from: datagram.local, socket: datagram.socket, ticket, payload: 0..0 }
    }

    /// Something for the peer of a connected socket.
    pub(crate) fn connected(socket: u64, ticket: u64) -> Self {
        Self { to: None, from: None, socket, ticket, payload: 0..0 }
    }
}

#[cfg(test)]
mod tests {
    use super::{DatagramActions, Transmit};

    #[test]
    fn posted_datagrams_keep_their_own_payload() {
        let mut post = DatagramActions::<u8>::new(false);
        post.send(Transmit::connected(0, 1), |out| out.extend_from_slice(b"one"));
        post.send(Transmit::connected(0, 2), |_| ());
        post.send(Transmit::connected(7, 3), |out| out.extend_from_slice(b"three"));
        let sent: Vec<_> = post.transmits().map(|(out, bytes)| (out.ticket, bytes)).collect();
        assert_eq!(sent, [(1, &b"one"[..]), (2, b""), (3, b"three")]);
        post.clear();
        assert_eq!(post.transmits().count(), 0);
    }

    #[test]
    fn a_fact_is_only_built_if_somebody_listens() {
        let mut deaf = DatagramActions::<u8>::new(false);
        deaf.emit(|| unreachable!("nobody listens"));
        let mut post = DatagramActions::new(true);
        post.emit(|| 7);
        assert_eq!(post.events().collect::<Vec<_>>(), [7]);
    }
}
