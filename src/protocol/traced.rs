//! Tracer: wraps the session of a server and shows what it receives and sends.
//!
//! Owns only the order of the pieces; what a piece looks like, and which secrets it hides, is the observer's.

use super::{Action, Actions, CloseReason, StreamProtocol};
use crate::time::Moment;

/// Receiver of the bytes of one connection.
pub(crate) trait TraceObserver {
    /// Bytes that the session has consumed, or that were left when the connection ended.
    fn received(&mut self, bytes: &[u8]);

    fn sent(&mut self, bytes: &[u8]);

    /// A part of a file was sent.
    fn sent_file(&mut self, length: u64);

    /// The connection is encrypted from here on.
    fn encrypted(&mut self);
}

/// Session with an observer; without one it is only passed on.
pub(crate) struct Traced<P, T> {
    pub session: P,
    observer: Option<T>,
    /// Input that the session has not consumed yet.
    unconsumed: Vec<u8>,
}

impl<P: StreamProtocol, T: TraceObserver> Traced<P, T> {
    pub(crate) fn new(session: P, observer: Option<T>) -> Self {
        Self { session, observer, unconsumed: Vec::new() }
    }

    /// Calls the session and shows what it sends.
    fn call(&mut self, actions: &mut Actions<P::Event>, call: impl FnOnce(&mut P, &mut Actions<P::Event>)) {
        let before = queued(actions);
        call(&mut self.session, actions);
        self.show_sent(before, actions);
    }

    fn show_sent(&mut self, (bytes_before, steps_before): (usize, usize), actions: &mut Actions<P::Event>) {
        let Some(observer) = &mut self.observer else { return };
        let (steps, bytes) = actions.queued();
        if let Some(sent) = bytes.get(bytes_before..).filter(|sent| !sent.is_empty()) {
            observer.sent(sent);
        }
        for step in steps.iter().skip(steps_before) {
            if let Action::File { length, .. } = step {
                observer.sent_file(*length);
            }
        }
    }
}

/// Numbers of bytes and of steps queued so far.
fn queued<E>(actions: &mut Actions<E>) -> (usize, usize) {
    (actions.queued_bytes(), actions.queued().0.len())
}

impl<P: StreamProtocol, T: TraceObserver> StreamProtocol for Traced<P, T> {
    type Event = P::Event;
    const FULL_DUPLEX: bool = P::FULL_DUPLEX;

    fn opened(&mut self, tls: Option<&'static str>, now: Moment, actions: &mut Actions<Self::Event>) {
        if let Some(observer) = self.observer.as_mut().filter(|_| tls.is_some()) {
            observer.encrypted();
        }
        self.call(actions, |session, actions| session.opened(tls, now, actions));
    }

    fn received(&mut self, bytes: &[u8], now: Moment, actions: &mut Actions<Self::Event>) -> usize {
        let before = queued(actions);
        let taken = self.session.received(bytes, now, actions);
        if let Some(observer) = &mut self.observer {
            let (consumed, rest) = bytes.split_at_checked(taken).unwrap_or((bytes, &[]));
            self.unconsumed = rest.to_vec();
            if !consumed.is_empty() {
                observer.received(consumed);
            }
        }
        self.show_sent(before, actions);
        taken
    }

    fn sent(&mut self, now: Moment, actions: &mut Actions<Self::Event>) {
        self.call(actions, |session, actions| session.sent(now, actions));
    }

    fn partly_sent(&mut self, bytes: u64, actions: &mut Actions<Self::Event>) {
        self.session.partly_sent(bytes, actions);
    }

    fn woken(&mut self, now: Moment, actions: &mut Actions<Self::Event>) {
        self.call(actions, |session, actions| session.woken(now, actions));
    }

    fn job_done(&mut self, now: Moment, actions: &mut Actions<Self::Event>) {
        self.call(actions, |session, actions| session.job_done(now, actions));
    }

    fn draining(&mut self, now: Moment, actions: &mut Actions<Self::Event>) {
        self.call(actions, |session, actions| session.draining(now, actions));
    }

    fn ended(&mut self, reason: &CloseReason, now: Moment, actions: &mut Actions<Self::Event>) {
        let unconsumed = std::mem::take(&mut self.unconsumed);
        if let Some(observer) = self.observer.as_mut().filter(|_| !unconsumed.is_empty()) {
            observer.received(&unconsumed);
        }
        self.call(actions, |session, actions| session.ended(reason, now, actions));
    }

    fn wake_at(&self) -> Option<Moment> {
        self.session.wake_at()
    }

    fn is_paused(&self) -> bool {
        self.session.is_paused()
    }
}
