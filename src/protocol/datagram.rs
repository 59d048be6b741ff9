//! Interface between datagram protocols and the event loop.
//!
//! A [`DatagramProtocol`] receives datagrams with their arrival times, and acts through [`DatagramActions`].
//! One serves all clients of a server, or one target of a client.
//!
//! ```text
//!            received · transmitted · failed · overflowed · woken
//!   net ───────────────────────────────────────────────────────────▶ protocol
//!       ◀───────────────────────────────────────────────────────────
//!            DatagramActions: datagrams to send · retired sockets · events          wake_at
//! ```

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use crate::time::Moment;

/// Protocol at one end of an exchange of datagrams.
///
/// The loop reads everything pending (errors and send timestamps first, then datagrams) before it calls
/// [`woken`](Self::woken): after a suspension of the process, a reply that is already in the socket must be
/// seen before its timeout is.
pub(crate) trait DatagramProtocol {
    /// Event reported to the observer as it happens.
    type Event;

    /// Called for each datagram received.
    fn received(&mut self, datagram: &Datagram<'_>, now: Moment, actions: &mut DatagramActions<Self::Event>);

    /// Called with the time at which the kernel sent the datagram with this ticket.
    fn transmitted(&mut self, ticket: u64, at: Moment);

    /// Called when a datagram could not be sent, or the network reports that one was not delivered.
    fn failed(&mut self, error: &TransmitError<'_>, now: Moment, actions: &mut DatagramActions<Self::Event>);

    /// Called with the number of datagrams dropped since the last call because our receive buffer was full
    /// (`SO_RXQ_OVFL`).
    fn overflowed(&mut self, count: u64, now: Moment, actions: &mut DatagramActions<Self::Event>);

    /// Called at the moment given by [`wake_at`](Self::wake_at), possibly early.
    fn woken(&mut self, now: Moment, actions: &mut DatagramActions<Self::Event>);

    /// Returns the next wakeup, if nothing happens before; asked after each turn.
    fn wake_at(&self) -> Option<Moment>;
}

/// Received datagram with its metadata.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Datagram<'a> {
    pub peer: SocketAddr,
    /// Destination address, if the socket reports it: the reply leaves from there.
    pub local: Option<IpAddr>,
    /// Receiving socket, as in [`Transmit::socket`].
    pub socket: u64,
    /// Arrival time: the kernel timestamp in monotonic time, else the loop's own reading.
    pub received_at: Moment,
    pub has_kernel_timestamp: bool,
    /// TTL or hop limit on arrival, if the socket reports it.
    pub ttl: Option<u8>,
    /// The datagram was larger than the buffer (`MSG_TRUNC`); `bytes` is a part of it.
    pub truncated: bool,
    pub bytes: &'a [u8],
}

#[cfg(test)]
impl<'a> Datagram<'a> {
    /// Creates a datagram without metadata.
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

    /// Creates a datagram with a kernel timestamp.
    pub(crate) fn timestamped(peer: SocketAddr, at: Moment, bytes: &'a [u8]) -> Self {
        Self { has_kernel_timestamp: true, ..Self::plain(peer, at, bytes) }
    }
}

/// Failure to deliver a datagram.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TransmitError<'a> {
    /// The system did not send the datagram with this ticket.
    NotSent { ticket: u64, error: &'a io::Error },
    /// ICMP error for a datagram sent earlier. A pending error that is returned by a later `send` belongs
    /// here too, and that `send` is retried.
    Unreachable {
        /// Sending socket, as in [`Datagram::socket`].
        socket: u64,
        /// Error from the network; `ConnectionRefused` is a closed port.
        error: &'a io::Error,
        /// Part of the payload that was returned with the error, possibly none.
        bytes: &'a [u8],
    },
}

/// Actions requested by a protocol, in order. They belong to the loop, are emptied after each turn and keep
/// their memory, so that a datagram costs no allocation.
#[derive(Debug)]
pub(crate) struct DatagramActions<E> {
    transmits: Vec<Transmit>,
    retired: Vec<u64>,
    payloads: Vec<u8>,
    events: Vec<E>,
    events_wanted: bool,
}

/// Datagram to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Transmit {
    /// Destination; `None` on a connected socket.
    pub to: Option<SocketAddr>,
    /// Source address; `None` leaves the choice to the system.
    pub from: Option<IpAddr>,
    /// Socket number: 0 always exists. For a client, any other number is a further socket with its own port,
    /// created on first use and kept until it is retired; for a server, one of those it was bound to.
    pub socket: u64,
    /// Identifier in [`DatagramProtocol::transmitted`] and [`TransmitError::NotSent`].
    pub ticket: u64,
    /// Range in [`DatagramActions::payloads`].
    pub payload: Range<usize>,
}

impl<E> DatagramActions<E> {
    /// Creates an empty list of actions; events are only built if `events_wanted`.
    pub(crate) fn new(events_wanted: bool) -> Self {
        Self { transmits: Vec::new(), retired: Vec::new(), payloads: Vec::new(), events: Vec::new(), events_wanted }
    }

    /// Queues a datagram whose payload `write` appends to the buffer. Sets the range in `transmit`.
    pub(crate) fn send(&mut self, mut transmit: Transmit, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.payloads.len();
        write(&mut self.payloads);
        transmit.payload = start..self.payloads.len().max(start);
        self.transmits.push(transmit);
    }

    /// Closes a further socket once everything is sent.
    pub(crate) fn retire(&mut self, socket: u64) {
        self.retired.push(socket);
    }

    /// Reports an event, if events are wanted.
    pub(crate) fn emit(&mut self, event: impl FnOnce() -> E) {
        if self.events_wanted {
            self.events.push(event());
        }
    }

    /// Returns the datagrams to send, oldest first, each with its payload.
    pub(crate) fn transmits(&self) -> impl Iterator<Item = (&Transmit, &[u8])> {
        let payload = |transmit: &Transmit| self.payloads.get(transmit.payload.clone());
        self.transmits.iter().map(move |transmit| (transmit, payload(transmit).unwrap_or_default()))
    }

    /// Returns all payloads, side by side; [`Transmit::payload`] is the range of each.
    pub(crate) fn payloads(&self) -> &[u8] {
        &self.payloads
    }

    /// Returns the sockets to close once everything is sent.
    pub(crate) fn retired(&self) -> &[u64] {
        &self.retired
    }

    /// Drains the events since the last call, oldest first.
    pub(crate) fn events(&mut self) -> impl Iterator<Item = E> {
        self.events.drain(..)
    }

    /// Returns true if there is nothing to send and nothing to close.
    pub(crate) fn is_empty(&self) -> bool {
        self.transmits.is_empty() && self.retired.is_empty()
    }

    /// Clears the actions and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.transmits.clear();
        self.retired.clear();
        self.payloads.clear();
    }
}

impl Transmit {
    /// Creates a reply to a datagram: back to its sender, from the address it was sent to.
    pub(crate) fn reply(datagram: &Datagram<'_>, ticket: u64) -> Self {
        Self { to: Some(datagram.peer), from: datagram.local, socket: datagram.socket, ticket, payload: 0..0 }
    }

    /// Creates a datagram for the peer of a connected socket.
    pub(crate) fn connected(socket: u64, ticket: u64) -> Self {
        Self { to: None, from: None, socket, ticket, payload: 0..0 }
    }
}

#[cfg(test)]
mod tests {
    use super::{DatagramActions, Transmit};

    #[test]
    fn queued_datagrams_keep_their_own_payload() {
        let mut actions = DatagramActions::<u8>::new(false);
        actions.send(Transmit::connected(0, 1), |out| out.extend_from_slice(b"one"));
        actions.send(Transmit::connected(0, 2), |_| ());
        actions.send(Transmit::connected(7, 3), |out| out.extend_from_slice(b"three"));
        let sent: Vec<_> = actions.transmits().map(|(out, bytes)| (out.ticket, bytes)).collect();
        assert_eq!(sent, [(1, &b"one"[..]), (2, b""), (3, b"three")]);
        actions.clear();
        assert_eq!(actions.transmits().count(), 0);
    }

    #[test]
    fn an_event_is_only_built_if_it_is_wanted() {
        let mut silent = DatagramActions::<u8>::new(false);
        silent.emit(|| unreachable!("events are not wanted"));
        let mut actions = DatagramActions::new(true);
        actions.emit(|| 7);
        assert_eq!(actions.events().collect::<Vec<_>>(), [7]);
    }
}
