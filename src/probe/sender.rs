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

use super::event::{RttClock, SenderEvent};
use super::ledger::{Ledger, MAX_TRACKED, ProbeOutcome};
use super::matching::match_reply;
use super::report::{Measurements, PingStatistics};
use super::schedule::{RESTART_THRESHOLD, Schedule, SenderConfig};
use super::stamp::Reflection;
use super::wire::{ProbeEncoding, ReplyMatch};
use crate::protocol::{Datagram, DatagramActions, DatagramProtocol, Transmit, TransmitError};
use crate::stats::Series;
use crate::time::{Moment, Timestamps, clock_step};

/// How many probes are handed over in one turn; the loop comes back for the rest.
pub(super) const PROBES_PER_TURN: usize = 64;

/// How many sockets of answered bare probes are kept.
const MAX_RETAINED_SOCKETS: usize = 16;

/// How long a pinger without an interval waits after the system would not send.
const SEND_ERROR_BACKOFF: Duration = Duration::from_millis(10);

/// The pinger of one target.
pub(crate) struct Sender {
    config: SenderConfig,
    encoding: ProbeEncoding,
    peer: SocketAddr,
    ledger: Ledger,
    schedule: Schedule,
    stopped: bool,
    last_turn: Moment,
    measurements: Measurements,
    scratch: Vec<u8>,
    /// Bare probes that were answered, whose sockets are kept for copies.
    answered_sockets: VecDeque<u64>,
}

impl Sender {
    /// A pinger of `peer` whose first probe belongs at `start`.
    pub(crate) fn new(config: SenderConfig, encoding: ProbeEncoding, peer: SocketAddr, start: Moment) -> Self {
        let in_flight = if encoding.is_fixed_message() { 1 } else { config.max_in_flight.clamp(1, MAX_TRACKED) };
        Self {
            ledger: Ledger::new(config.timeout, config.linger),
            config: SenderConfig { max_in_flight: in_flight, ..config },
            encoding,
            peer,
            schedule: Schedule::new(start),
            stopped: false,
            last_turn: start,
            measurements: Measurements::default(),
            scratch: Vec::new(),
            answered_sockets: VecDeque::new(),
        }
    }

    /// Sends nothing more; what is in flight is still waited for.
    #[cfg(test)]
    pub(crate) fn stop(&mut self) {
        self.stopped = true;
    }

    /// Whether there is nothing left to send or to wait for.
    pub(crate) fn is_finished(&self) -> bool {
        let waiting = self.ledger.count(ProbeOutcome::Waiting) + self.ledger.lingering();
        !self.has_more_to_send() && waiting == 0
    }

    /// The figures so far.
    pub(crate) fn statistics(&self) -> PingStatistics {
        let stamp = matches!(self.encoding, ProbeEncoding::Stamp { .. });
        self.measurements.statistics(&self.ledger, self.last_turn, stamp)
    }

    /// The round trips of answers in time.
    pub(crate) fn round_trips(&self) -> &Series {
        &self.measurements.rtt
    }

    fn has_more_to_send(&self) -> bool {
        !self.stopped && self.config.count.is_none_or(|count| self.ledger.sent() < count)
    }

    fn is_window_full(&self) -> bool {
        let waiting = self.ledger.count(ProbeOutcome::Waiting);
        let in_flight = usize::try_from(waiting).unwrap_or(usize::MAX);
        in_flight >= self.config.max_in_flight || self.ledger.is_blocked()
    }

    /// When the next probe may be sent; `None` while it waits for others to be decided.
    fn next_send_at(&self) -> Option<Moment> {
        let slot = self.schedule.slot(self.config.interval).max(self.schedule.window_freed_at);
        let slot = self.schedule.last_sent.map_or(slot, |last| slot.max(last + self.config.min_interval));
        let ready = match (self.has_more_to_send(), self.is_window_full()) {
            (false, _) => None,
            (true, false) => Some(slot),
            (true, true) => Some(slot.max(self.schedule.last_sent? + self.config.stalled_interval?)),
        };
        // What is sent at the very end cannot be answered any more.
        ready.filter(|ready| self.config.deadline.is_none_or(|until| *ready < until))
    }

    /// Decides about a probe, and notes if that makes room in flight.
    fn set_outcome(&mut self, seq: u64, outcome: ProbeOutcome, now: Moment) {
        let full = self.is_window_full();
        self.ledger.set_outcome(seq, outcome);
        if full && !self.is_window_full() {
            self.schedule.window_freed_at = now;
        }
    }

    /// Notices that the wall clock was set, or that this process did not run.
    fn detect_clock_changes(&mut self, now: Moment, actions: &mut DatagramActions<SenderEvent>) {
        if let Some(step_ns) = clock_step(self.last_turn, now) {
            actions.emit(|| SenderEvent::ClockStep { step_ns });
        }
        self.last_turn = now;
        let limit = self.config.interval.max(RESTART_THRESHOLD);
        if let Some(gap) = self.next_send_at().map(|ready| now - ready).filter(|gap| *gap > limit) {
            self.schedule.restart(now);
            self.measurements.paused += gap;
            actions.emit(|| SenderEvent::ClockGap { gap });
        }
    }

    fn send_due(&mut self, now: Moment, actions: &mut DatagramActions<SenderEvent>) {
        for _ in 0..PROBES_PER_TURN {
            if self.next_send_at().is_none_or(|ready| now < ready) {
                return;
            }
            if !self.ledger.make_room(|seq| retire(&self.encoding, seq, actions)) {
                return;
            }
            let mut slip = now - self.schedule.slot(self.config.interval);
            if slip > self.config.interval.max(RESTART_THRESHOLD) || self.config.interval.is_zero() {
                // It was not late, it had to wait for those before it.
                self.schedule.restart(now);
                slip = Duration::ZERO;
            }
            self.schedule.advance(now);
            self.send(slip, now, actions);
        }
    }

    fn send(&mut self, slip: Duration, now: Moment, actions: &mut DatagramActions<SenderEvent>) {
        let seq = self.ledger.record_sent(now);
        self.measurements.slip.push(slip);
        let socket = if self.encoding.is_fixed_message() { seq } else { 0 };
        let mut bytes = 0;
        actions.send(Transmit::connected(socket, seq), |out| {
            let before = out.len();
            self.encoding.write(seq, now.wall(), out);
            bytes = out.len() - before;
        });
        actions.emit(|| SenderEvent::Sent { seq, bytes, slip });
    }

    /// A whole answer to a probe that is remembered.
    fn on_reply(
        &mut self,
        seq: u64,
        reflection: Option<Reflection>,
        datagram: &Datagram<'_>,
        now: Moment,
        actions: &mut DatagramActions<SenderEvent>,
    ) {
        let Some(probe) = self.ledger.probe(seq).copied() else {
            return;
        };
        let first = !matches!(probe.outcome, ProbeOutcome::Answered | ProbeOutcome::Late);
        if let Some(reflection) = reflection {
            // The wall clock may be set meanwhile; how long it took, the other one says.
            let sent = probe.sent_at.wall();
            let came = sent + (datagram.received_at - probe.sent_at);
            self.measurements.one_way.record_reply(seq, &reflection, sent, came, first);
        }
        if !first {
            self.measurements.duplicates += 1;
            actions.emit(|| SenderEvent::Duplicate { seq });
            return;
        }
        let stamps = Timestamps {
            sent: probe.sent_at,
            kernel_sent: probe.kernel_sent_at,
            received: datagram.received_at,
            timestamped: datagram.has_kernel_timestamp,
            read: now,
        };
        self.on_first_reply(seq, &stamps, datagram.bytes.len(), actions);
        if self.encoding.is_fixed_message() {
            // A copy may still come; it does so soon or not at all.
            self.answered_sockets.push_back(seq);
            if self.answered_sockets.len() > MAX_RETAINED_SOCKETS {
                self.answered_sockets.pop_front().into_iter().for_each(|oldest| actions.retire(oldest));
            }
        }
    }

    fn on_first_reply(
        &mut self,
        seq: u64,
        timestamps: &Timestamps,
        bytes: usize,
        actions: &mut DatagramActions<SenderEvent>,
    ) {
        let trip = timestamps.rtt_sample();
        let rtt = trip.rtt;
        let figures = &mut self.measurements;
        let reordered = figures.reordering.record(seq);
        figures.clock_steps += u64::from(trip.clock_stepped);
        if let Some(host) = trip.host_delay {
            figures.kernel_timed += 1;
            figures.host_delay.push(host);
        }
        if self.ledger.is_in_time(rtt) {
            figures.rtt.push(rtt);
            figures.jitter.push(rtt);
            let clock = if trip.host_delay.is_some() { RttClock::Kernel } else { RttClock::Monotonic };
            let clock_step = trip.clock_stepped;
            self.set_outcome(seq, ProbeOutcome::Answered, timestamps.read);
            actions.emit(|| SenderEvent::Reply { seq, rtt, clock, reordered, clock_step, bytes });
        } else {
            figures.late_rtt.push(rtt);
            self.set_outcome(seq, ProbeOutcome::Late, timestamps.read);
            actions.emit(|| SenderEvent::Late { seq, rtt, reordered });
        }
    }
}

/// The socket of a bare probe goes with it.
fn retire(encoding: &ProbeEncoding, seq: u64, actions: &mut DatagramActions<SenderEvent>) {
    if encoding.is_fixed_message() {
        actions.retire(seq);
    }
}

impl DatagramProtocol for Sender {
    type Event = SenderEvent;

    fn received(&mut self, datagram: &Datagram<'_>, now: Moment, actions: &mut DatagramActions<SenderEvent>) {
        match match_reply(&self.encoding, self.peer, &self.ledger, datagram, &mut self.scratch) {
            Ok((seq, ReplyMatch::Intact(reflection))) => {
                self.on_reply(seq, reflection, datagram, now, actions);
            }
            Ok((seq, ReplyMatch::Corrupt | ReplyMatch::NoMatch)) => {
                self.measurements.corrupt += 1;
                actions.emit(|| SenderEvent::Corrupt { seq });
            }
            Err(reason) => {
                self.measurements.foreign += 1;
                let bytes = datagram.bytes.len();
                actions.emit(|| SenderEvent::Foreign { reason, bytes });
            }
        }
    }

    fn transmitted(&mut self, ticket: u64, at: Moment) {
        self.ledger.record_kernel_sent(ticket, at);
    }

    fn failed(&mut self, failure: &TransmitError<'_>, now: Moment, actions: &mut DatagramActions<SenderEvent>) {
        let (seq, outcome, error) = match *failure {
            TransmitError::NotSent { ticket, error } => (Some(ticket), ProbeOutcome::SendError, error),
            TransmitError::Unreachable { socket, error, bytes } => {
                let bare = self.encoding.is_fixed_message().then_some(socket);
                let named = bare.or_else(|| self.encoding.seq_of_probe(bytes, self.ledger.sent()));
                // An error without its payload can only be about the one that waits longest.
                let nameless = || self.ledger.oldest_waiting().filter(|_| bytes.is_empty());
                (named.or_else(nameless), ProbeOutcome::Refused, error)
            }
        };
        // The network may take longer to say no than an answer may take to come.
        let waits = |seq: &u64| {
            let probe = self.ledger.probe(*seq);
            probe.is_some_and(|probe| matches!(probe.outcome, ProbeOutcome::Waiting | ProbeOutcome::Lost))
        };
        let Some(seq) = seq.filter(waits) else {
            return;
        };
        self.set_outcome(seq, outcome, now);
        if outcome == ProbeOutcome::SendError && self.config.interval.is_zero() {
            // Nothing else would hold back a flood into a network that is down.
            self.schedule.window_freed_at = now + SEND_ERROR_BACKOFF;
        }
        retire(&self.encoding, seq, actions);
        let error = error.to_string();
        actions.emit(|| match outcome {
            ProbeOutcome::SendError => SenderEvent::SendError { seq, error },
            _ => SenderEvent::Refused { seq, error },
        });
    }

    fn overflowed(&mut self, count: u64, _now: Moment, actions: &mut DatagramActions<SenderEvent>) {
        self.measurements.local_drops += count;
        actions.emit(|| SenderEvent::LocalDrop { count });
    }

    fn woken(&mut self, now: Moment, actions: &mut DatagramActions<SenderEvent>) {
        self.detect_clock_changes(now, actions);
        while let Some(due) = self.ledger.next_timeout().filter(|due| *due <= now) {
            let full = self.is_window_full();
            let Some(seq) = self.ledger.expire(now) else {
                break;
            };
            if full {
                self.schedule.window_freed_at = due.max(self.schedule.window_freed_at);
            }
            actions.emit(|| SenderEvent::Lost { seq });
        }
        self.ledger.close_expired(now, |seq| retire(&self.encoding, seq, actions));
        self.schedule.rebase(self.config.interval);
        self.send_due(now, actions);
    }

    fn wake_at(&self) -> Option<Moment> {
        let ready = self.next_send_at();
        let timeout = self.ledger.next_timeout();
        let closing = self.ledger.next_linger_end().filter(|_| !self.has_more_to_send());
        let last = closing.filter(|_| self.ledger.lingering() > 0 && timeout.is_none());
        [ready, timeout, last].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests;
