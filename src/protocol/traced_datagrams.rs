//! Tracer for datagrams: wraps a protocol and shows each datagram that it receives and sends.

use std::net::SocketAddr;

use super::{Datagram, DatagramActions, DatagramProtocol, TransmitError};
use crate::time::Moment;

/// Receiver of the datagrams of one protocol.
pub(crate) trait DatagramTraceObserver {
    fn received(&mut self, datagram: &Datagram<'_>);

    /// A datagram was queued; `to` is absent on a connected socket.
    fn sent(&mut self, to: Option<SocketAddr>, bytes: &[u8]);
}

/// Protocol with an observer; without one, calls are forwarded unchanged.
pub(crate) struct TracedDatagrams<P, T> {
    pub inner: P,
    observer: Option<T>,
}

impl<P: DatagramProtocol, T: DatagramTraceObserver> TracedDatagrams<P, T> {
    pub(crate) fn new(protocol: P, observer: Option<T>) -> Self {
        Self { inner: protocol, observer }
    }

    /// Calls the protocol and shows the datagrams that it queues.
    fn call(
        &mut self,
        actions: &mut DatagramActions<P::Event>,
        call: impl FnOnce(&mut P, &mut DatagramActions<P::Event>),
    ) {
        let before = actions.transmits().count();
        call(&mut self.inner, actions);
        if let Some(observer) = &mut self.observer {
            for (transmit, bytes) in actions.transmits().skip(before) {
                observer.sent(transmit.to, bytes);
            }
        }
    }
}

impl<P: DatagramProtocol, T: DatagramTraceObserver> DatagramProtocol for TracedDatagrams<P, T> {
    type Event = P::Event;

    fn received(&mut self, datagram: &Datagram<'_>, now: Moment, actions: &mut DatagramActions<Self::Event>) {
        if let Some(observer) = &mut self.observer {
            observer.received(datagram);
        }
        self.call(actions, |protocol, actions| protocol.received(datagram, now, actions));
    }

    fn transmitted(&mut self, ticket: u64, at: Moment) {
        self.inner.transmitted(ticket, at);
    }

    fn failed(&mut self, error: &TransmitError<'_>, now: Moment, actions: &mut DatagramActions<Self::Event>) {
        self.call(actions, |protocol, actions| protocol.failed(error, now, actions));
    }

    fn overflowed(&mut self, count: u64, now: Moment, actions: &mut DatagramActions<Self::Event>) {
        self.call(actions, |protocol, actions| protocol.overflowed(count, now, actions));
    }

    fn woken(&mut self, now: Moment, actions: &mut DatagramActions<Self::Event>) {
        self.call(actions, |protocol, actions| protocol.woken(now, actions));
    }

    fn wake_at(&self) -> Option<Moment> {
        self.inner.wake_at()
    }
}

#[cfg(test)]
mod tests {
    use super::{DatagramTraceObserver, TracedDatagrams};
    use crate::protocol::{Datagram, DatagramActions, DatagramProtocol, Transmit, TransmitError};
    use crate::time::Moment;
    use std::net::SocketAddr;
    use std::time::Duration;

    /// Answers each datagram twice, and sends one when it is woken.
    struct Doubler;

    impl DatagramProtocol for Doubler {
        type Event = ();

        fn received(&mut self, datagram: &Datagram<'_>, _: Moment, actions: &mut DatagramActions<()>) {
            for _ in 0..2 {
                actions.send(Transmit::reply(datagram, 0), |out| out.extend_from_slice(datagram.bytes));
            }
        }

        fn transmitted(&mut self, _: u64, _: Moment) {}

        fn failed(&mut self, _: &TransmitError<'_>, _: Moment, _: &mut DatagramActions<()>) {}

        fn overflowed(&mut self, _: u64, _: Moment, _: &mut DatagramActions<()>) {}

        fn woken(&mut self, _: Moment, actions: &mut DatagramActions<()>) {
            actions.send(Transmit::connected(0, 0), |out| out.extend_from_slice(b"beat"));
        }

        fn wake_at(&self) -> Option<Moment> {
            None
        }
    }

    #[derive(Default)]
    struct Lines(Vec<String>);

    impl DatagramTraceObserver for &mut Lines {
        fn received(&mut self, datagram: &Datagram<'_>) {
            self.0.push(format!("< {} {}", datagram.peer, String::from_utf8_lossy(datagram.bytes)));
        }

        fn sent(&mut self, to: Option<SocketAddr>, bytes: &[u8]) {
            let to = to.map_or_else(|| "peer".to_owned(), |to| to.to_string());
            self.0.push(format!("> {to} {}", String::from_utf8_lossy(bytes)));
        }
    }

    #[test]
    fn each_datagram_is_shown_once_and_in_order() {
        let mut lines = Lines::default();
        let now = Moment::new(Duration::ZERO, Duration::ZERO);
        let peer = "127.0.0.1:9".parse().expect("an address");
        let mut actions = DatagramActions::new(false);
        let mut traced = TracedDatagrams::new(Doubler, Some(&mut lines));
        traced.received(&Datagram::plain(peer, now, b"a"), now, &mut actions);
        // The actions of several calls are sent together.
        traced.woken(now, &mut actions);
        assert_eq!(lines.0, ["< 127.0.0.1:9 a", "> 127.0.0.1:9 a", "> 127.0.0.1:9 a", "> peer beat"]);
    }
}
