//! Tracer: wraps the session of a server and shows what it receives and sends.
//!
//! Owns the order of the pieces. The session says what each piece of input is and hides secrets; the observer formats it.

use super::{Action, Actions, AwaitsInput, CloseReason, StreamProtocol};
use crate::time::Moment;

/// Piece of input, as a session understands it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum InputPiece {
    /// Lines as received, or with a secret replaced.
    Lines(Vec<u8>),
    /// Number of bytes of content.
    Content(u64),
}

/// Input that a session has consumed.
pub(super) struct TracedInput {
    pub piece: InputPiece,
    /// Output queued before it.
    pub queued_bytes: usize,
}

/// Receiver of the dialogue of one connection.
pub(crate) trait TraceObserver {
    fn received(&mut self, piece: &InputPiece);

    fn sent(&mut self, bytes: &[u8]);

    /// A part of a file was sent.
    fn sent_file(&mut self, length: u64);

    /// The connection is encrypted from here on.
    fn encrypted(&mut self);
}

/// Session with an observer; without one, calls are forwarded unchanged.
pub(crate) struct Traced<P, T> {
    pub session: P,
    observer: Option<T>,
    /// Input that the session has not consumed.
    unconsumed: Vec<u8>,
}

impl<P: AwaitsInput, T: TraceObserver> Traced<P, T> {
    pub(crate) fn new(session: P, observer: Option<T>) -> Self {
        Self { session, observer, unconsumed: Vec::new() }
    }

    /// Calls the session and shows what it has received and sent.
    fn call<R>(
        &mut self,
        actions: &mut Actions<P::Event>,
        call: impl FnOnce(&mut P, &mut Actions<P::Event>) -> R,
    ) -> R {
        let Some(observer) = &mut self.observer else { return call(&mut self.session, actions) };
        let (mut shown, steps_before) = (actions.queued_bytes(), actions.queued().0.len());
        actions.inputs = Some(Vec::new());
        let result = call(&mut self.session, actions);
        let mut show_sent = |observer: &mut T, end: usize, bytes: &[u8]| {
            if let Some(sent) = bytes.get(shown..end).filter(|sent| !sent.is_empty()) {
                observer.sent(sent);
            }
            shown = end;
        };
        for TracedInput { piece, queued_bytes } in actions.inputs.take().unwrap_or_default() {
            show_sent(observer, queued_bytes, &actions.bytes);
            observer.received(&piece);
        }
        show_sent(observer, actions.bytes.len(), &actions.bytes);
        for step in actions.queue.iter().skip(steps_before) {
            if let Action::File { length, .. } = step {
                observer.sent_file(*length);
            }
        }
        result
    }
}

impl<P: AwaitsInput, T: TraceObserver> StreamProtocol for Traced<P, T> {
    type Event = P::Event;
    const FULL_DUPLEX: bool = P::FULL_DUPLEX;

    fn opened(&mut self, tls: Option<&'static str>, now: Moment, actions: &mut Actions<Self::Event>) {
        if let Some(observer) = self.observer.as_mut().filter(|_| tls.is_some()) {
            observer.encrypted();
        }
        self.call(actions, |session, actions| session.opened(tls, now, actions));
    }

    fn opened_in_clear(&mut self, now: Moment, actions: &mut Actions<Self::Event>) -> bool {
        self.call(actions, |session, actions| session.opened_in_clear(now, actions))
    }

    fn received(&mut self, bytes: &[u8], now: Moment, actions: &mut Actions<Self::Event>) -> usize {
        let taken = self.call(actions, |session, actions| session.received(bytes, now, actions));
        if self.observer.is_some() {
            self.unconsumed = bytes.get(taken..).unwrap_or_default().to_vec();
        }
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
        // What could not be parsed is shown too.
        let unconsumed = std::mem::take(&mut self.unconsumed);
        if let Some(observer) = self.observer.as_mut().filter(|_| !unconsumed.is_empty()) {
            let lines = unconsumed.split(|byte| *byte == b'\n');
            let shown = lines.map(|line| self.session.shown_line(line).unwrap_or_else(|| "[hidden]".to_owned()));
            observer.received(&InputPiece::Lines(shown.collect::<Vec<_>>().join("\n").into_bytes()));
        }
        self.call(actions, |session, actions| session.ended(reason, now, actions));
    }

    fn wake_at(&self) -> Option<Moment> {
        self.session.wake_at()
    }

    fn handshake_wake_at(&self) -> Option<Moment> {
        self.session.handshake_wake_at()
    }

    fn handshake_woken(&mut self, now: Moment, actions: &mut Actions<Self::Event>) {
        self.session.handshake_woken(now, actions);
    }

    fn idle_deadline(&self) -> Option<Moment> {
        self.session.idle_deadline()
    }

    fn is_paused(&self) -> bool {
        self.session.is_paused()
    }
}
