//! The client's side: when to send, and what each answer means.
//!
//! Owns the schedule of one target and its figures. It must not know sockets; it is an
//! [`Exchange`] with one peer.
//!
//! Probe *i* belongs at t₀ + *i* · interval, whatever happened to those before it: a probe that
//! slips is sent late and its slip is recorded, none is skipped, and an answer that is slow does
//! not thin out the probes that would have seen it. Only when this process itself did not run is
//! the schedule begun anew, so that a stopped pinger does not come back with a burst.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use super::fact::{Clock, Fact};
use super::ledger::{Ledger, Outcome, WINDOW};
use super::matching::matched;
use super::pace::{GAP, Pace, Schedule};
use super::report::{Figures, Report};
use super::stamp::Reflection;
use super::wire::{Match, Wire};
use crate::conversation::{Datagram, DatagramActions, DatagramProtocol, Transmit, TransmitError};
use crate::stats::Series;
use crate::time::{Moment, Stamps, step};

/// How many probes are handed over in one turn; the loop comes back for the rest.
pub const BURST: usize = 64;

/// How many sockets of answered bare probes are kept.
const KEPT: usize = 16;

/// How long a pinger without an interval waits after the system would not send.
const BACK_OFF: Duration = Duration::from_millis(10);

/// The pinger of one target.
pub struct Sender {
    pace: Pace,
    wire: Wire,
    peer: SocketAddr,
    ledger: Ledger,
    schedule: Schedule,
    stopped: bool,
    last_turn: Moment,
    figures: Figures,
    scratch: Vec<u8>,
    /// Bare probes that were answered, whose sockets are kept for copies.
    answered: VecDeque<u64>,
}

impl Sender {
    /// A pinger of `peer` whose first probe belongs at `start`.
    pub fn new(pace: Pace, wire: Wire, peer: SocketAddr, start: Moment) -> Self {
        let in_flight = if wire.is_bare() { 1 } else { pace.in_flight.clamp(1, WINDOW) };
        Self {
            ledger: Ledger::new(pace.timeout, pace.linger),
            pace: Pace { in_flight, ..pace },
            wire,
            peer,
            schedule: Schedule::new(start),
            stopped: false,
            last_turn: start,
            figures: Figures::default(),
            scratch: Vec::new(),
            answered: VecDeque::new(),
        }
    }

    /// Sends nothing more; what is in flight is still waited for.
    #[cfg(test)]
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// Whether there is nothing left to send or to wait for.
    pub fn is_finished(&self) -> bool {
        let waiting = self.ledger.count(Outcome::Waiting) + self.ledger.lingering();
        !self.has_more() && waiting == 0
    }

    /// The figures so far.
    pub fn report(&self) -> Report {
        let stamp = matches!(self.wire, Wire::Stamp { .. });
        self.figures.report(&self.ledger, self.last_turn, stamp)
    }

    /// The round trips of answers in time.
    pub fn round_trips(&self) -> &Series {
        &self.figures.rtt
    }

    fn has_more(&self) -> bool {
        !self.stopped && self.pace.count.is_none_or(|count| self.ledger.sent() < count)
    }

    fn is_full(&self) -> bool {
        let waiting = self.ledger.count(Outcome::Waiting);
        let in_flight = usize::try_from(waiting).unwrap_or(usize::MAX);
        in_flight >= self.pace.in_flight || self.ledger.is_blocked()
    }

    /// When the next probe may be sent; `None` while it waits for others to be decided.
    fn ready(&self) -> Option<Moment> {
        let slot = self.schedule.slot(self.pace.interval).max(self.schedule.freed);
        let slot = self.schedule.last.map_or(slot, |last| slot.max(last + self.pace.least));
        let ready = match (self.has_more(), self.is_full()) {
            (false, _) => None,
            (true, false) => Some(slot),
            (true, true) => Some(slot.max(self.schedule.last? + self.pace.trickle?)),
        };
        // What is sent at the very end cannot be answered any more.
        ready.filter(|ready| self.pace.until.is_none_or(|until| *ready < until))
    }

    /// Decides about a probe, and notes if that makes room in flight.
    fn decide(&mut self, seq: u64, outcome: Outcome, now: Moment) {
        let full = self.is_full();
        self.ledger.decide(seq, outcome);
        if full && !self.is_full() {
            self.schedule.freed = now;
        }
    }

    /// Notices that the wall clock was set, or that this process did not run.
    fn notice(&mut self, now: Moment, post: &mut DatagramActions<Fact>) {
        if let Some(step_ns) = step(self.last_turn, now) {
            post.emit(|| Fact::ClockStep { step_ns });
        }
        self.last_turn = now;
        let limit = self.pace.interval.max(GAP);
        if let Some(gap) = self.ready().map(|ready| now - ready).filter(|gap| *gap > limit) {
            self.schedule.begin(now);
            self.figures.paused += gap;
            post.emit(|| Fact::ClockGap { gap });
        }
    }

    fn send_due(&mut self, now: Moment, post: &mut DatagramActions<Fact>) {
        for _ in 0..BURST {
            if self.ready().is_none_or(|ready| now < ready) {
                return;
            }
            if !self.ledger.has_room(|seq| retire(&self.wire, seq, post)) {
                return;
            }
            let mut slip = now - self.schedule.slot(self.pace.interval);
            if slip > self.pace.interval.max(GAP) || self.pace.interval.is_zero() {
                // It was not late, it had to wait for those before it.
                self.schedule.begin(now);
                slip = Duration::ZERO;
            }
            self.schedule.take(now);
            self.send(slip, now, post);
        }
    }

    fn send(&mut self, slip: Duration, now: Moment, post: &mut DatagramActions<Fact>) {
        let seq = self.ledger.send(now);
        self.figures.slip.push(slip);
        let socket = if self.wire.is_bare() { seq } else { 0 };
        let mut bytes = 0;
        post.send(Transmit::connected(socket, seq), |out| {
            let before = out.len();
            self.wire.write(seq, now.wall(), out);
            bytes = out.len() - before;
        });
        post.emit(|| Fact::Sent { seq, bytes, slip });
    }

    /// A whole answer to a probe that is remembered.
    fn answered(
        &mut self,
        seq: u64,
        reflection: Option<Reflection>,
        datagram: &Datagram<'_>,
        now: Moment,
        post: &mut DatagramActions<Fact>,
    ) {
        let Some(probe) = self.ledger.probe(seq).copied() else {
            return;
        };
        let first = !matches!(probe.outcome, Outcome::Ok | Outcome::Late);
        if let Some(reflection) = reflection {
            // The wall clock may be set meanwhile; how long it took, the other one says.
            let sent = probe.at.wall();
            let came = sent + (datagram.received_at - probe.at);
            self.figures.ways.arrived(seq, &reflection, sent, came, first);
        }
        if !first {
            self.figures.duplicates += 1;
            post.emit(|| Fact::Duplicate { seq });
            return;
        }
        let stamps = Stamps {
            sent: probe.at,
            left: probe.left,
            came: datagram.received_at,
            stamped: datagram.has_kernel_timestamp,
            read: now,
        };
        self.first_answer(seq, &stamps, datagram.bytes.len(), post);
        if self.wire.is_bare() {
            // A copy may still come; it does so soon or not at all.
            self.answered.push_back(seq);
            if self.answered.len() > KEPT {
                self.answered.pop_front().into_iter().for_each(|oldest| post.retire(oldest));
            }
        }
    }

    fn first_answer(&mut self, seq: u64, stamps: &Stamps, bytes: usize, post: &mut DatagramActions<Fact>) {
        let trip = stamps.trip();
        let rtt = trip.rtt;
        let figures = &mut self.figures;
        let reordered = figures.order.arrived(seq);
        figures.clock_steps += u64::from(trip.stepped);
        if let Some(host) = trip.host {
            figures.by_kernel += 1;
            figures.host.push(host);
        }
        if self.ledger.is_in_time(rtt) {
            figures.rtt.push(rtt);
            figures.jitter.push(rtt);
            let clock = if trip.host.is_some() { Clock::Kernel } else { Clock::Monotonic };
            let clock_step = trip.stepped;
            self.decide(seq, Outcome::Ok, stamps.read);
            post.emit(|| Fact::Reply { seq, rtt, clock, reordered, clock_step, bytes });
        } else {
            figures.late.push(rtt);
            self.decide(seq, Outcome::Late, stamps.read);
            post.emit(|| Fact::Late { seq, rtt, reordered });
        }
    }
}

/// The socket of a bare probe goes with it.
fn retire(wire: &Wire, seq: u64, post: &mut DatagramActions<Fact>) {
    if wire.is_bare() {
        post.retire(seq);
    }
}

impl DatagramProtocol for Sender {
    type Event = Fact;

    fn received(&mut self, datagram: &Datagram<'_>, now: Moment, post: &mut DatagramActions<Fact>) {
        match matched(&self.wire, self.peer, &self.ledger, datagram, &mut self.scratch) {
            Ok((seq, Match::Whole(reflection))) => {
                self.answered(seq, reflection, datagram, now, post);
            }
            Ok((seq, Match::Damaged | Match::Other)) => {
                self.figures.corrupt += 1;
                post.emit(|| Fact::Corrupt { seq });
            }
            Err(reason) => {
                self.figures.foreign += 1;
                let bytes = datagram.bytes.len();
                post.emit(|| Fact::Foreign { reason, bytes });
            }
        }
    }

    fn transmitted(&mut self, ticket: u64, at: Moment) {
        self.ledger.left(ticket, at);
    }

    fn failed(&mut self, failure: &TransmitError<'_>, now: Moment, post: &mut DatagramActions<Fact>) {
        let (seq, outcome, error) = match *failure {
            TransmitError::NotSent { ticket, error } => (Some(ticket), Outcome::SendError, error),
            TransmitError::Unreachable { socket, error, bytes } => {
                let bare = self.wire.is_bare().then_some(socket);
                let named = bare.or_else(|| self.wire.seq_of_probe(bytes, self.ledger.sent()));
                // An error without its payload can only be about the one that waits longest.
                let nameless = || self.ledger.oldest_waiting().filter(|_| bytes.is_empty());
                (named.or_else(nameless), Outcome::Refused, error)
            }
        };
        // The network may take longer to say no than an answer may take to come.
        let waits = |seq: &u64| {
            let probe = self.ledger.probe(*seq);
            probe.is_some_and(|probe| matches!(probe.outcome, Outcome::Waiting | Outcome::Lost))
        };
        let Some(seq) = seq.filter(waits) else {
            return;
        };
        self.decide(seq, outcome, now);
        if outcome == Outcome::SendError && self.pace.interval.is_zero() {
            // Nothing else would hold back a flood into a network that is down.
            self.schedule.freed = now + BACK_OFF;
        }
        retire(&self.wire, seq, post);
        let error = error.to_string();
        post.emit(|| match outcome {
            Outcome::SendError => Fact::SendError { seq, error },
            _ => Fact::Refused { seq, error },
        });
    }

    fn overflowed(&mut self, count: u64, _now: Moment, post: &mut DatagramActions<Fact>) {
        self.figures.local_drops += count;
        post.emit(|| Fact::LocalDrop { count });
    }

    fn woken(&mut self, now: Moment, post: &mut DatagramActions<Fact>) {
        self.notice(now, post);
        while let Some(due) = self.ledger.next_timeout().filter(|due| *due <= now) {
            let full = self.is_full();
            let Some(seq) = self.ledger.expire(now) else {
                break;
            };
            if full {
                self.schedule.freed = due.max(self.schedule.freed);
            }
            post.emit(|| Fact::Lost { seq });
        }
        self.ledger.close(now, |seq| retire(&self.wire, seq, post));
        self.schedule.settle(self.pace.interval);
        self.send_due(now, post);
    }

    fn wake_at(&self) -> Option<Moment> {
        let ready = self.ready();
        let timeout = self.ledger.next_timeout();
        let closing = self.ledger.closing().filter(|_| !self.has_more());
        let last = closing.filter(|_| self.ledger.lingering() > 0 && timeout.is_none());
        [ready, timeout, last].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests;
