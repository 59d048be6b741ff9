//! Ping client for one target: sends probes on schedule and evaluates the replies.
//!
//! Owns the schedule and the statistics. Does not know sockets; it is a [`DatagramProtocol`] with one peer.
//!
//! Probe *i* is due at t₀ + *i* · interval, regardless of earlier probes: a delayed probe is sent late and
//! its delay recorded, none is skipped, and slow replies do not reduce the probe rate. Only if this process
//! was stalled is the schedule restarted, so that a stopped client does not resume with a burst.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use super::encoding::{ProbeEncoding, ReplyMatch};
use super::event::{PingEvent, RttClock};
use super::ledger::{Ledger, MAX_TRACKED, ProbeOutcome};
use super::matching::match_reply;
use super::schedule::{PingConfig, RESTART_THRESHOLD, Schedule};
use super::stamp::Reflection;
use super::statistics::{Measurements, PingStatistics};
use crate::protocol::{Datagram, DatagramActions, DatagramProtocol, Transmit, TransmitError, datagram_excerpt};
use crate::time::{Moment, Timestamps, clock_step};

/// Maximum number of probes sent per event-loop turn.
pub(super) const PROBES_PER_TURN: usize = 64;

/// Maximum number of sockets kept open for duplicates of answered fixed-message probes.
const MAX_RETAINED_SOCKETS: usize = 16;

/// Delay after a send error if there is no interval.
const SEND_ERROR_BACKOFF: Duration = Duration::from_millis(10);

/// Ping client of one target.
pub(crate) struct PingClient {
    config: PingConfig,
    encoding: ProbeEncoding,
    peer: SocketAddr,
    ledger: Ledger,
    schedule: Schedule,
    last_turn: Moment,
    measurements: Measurements,
    scratch: Vec<u8>,
    /// Answered fixed-message probes whose sockets are still open for duplicates.
    answered_sockets: VecDeque<u64>,
}

impl PingClient {
    /// Creates a client of `peer` whose first probe is due at `start`.
    pub(crate) fn new(config: PingConfig, encoding: ProbeEncoding, peer: SocketAddr, start: Moment) -> Self {
        let in_flight = if encoding.is_fixed_message() { 1 } else { config.max_in_flight.clamp(1, MAX_TRACKED) };
        Self {
            ledger: Ledger::new(config.timeout, config.linger),
            config: PingConfig { max_in_flight: in_flight, ..config },
            encoding,
            peer,
            schedule: Schedule::new(start),
            last_turn: start,
            measurements: Measurements::default(),
            scratch: Vec::new(),
            answered_sockets: VecDeque::new(),
        }
    }

    /// Returns whether all probes are sent and no reply is awaited.
    pub(crate) fn is_finished(&self) -> bool {
        let waiting = self.ledger.count(ProbeOutcome::Waiting) + self.ledger.lingering();
        !self.has_more_to_send() && waiting == 0
    }

    pub(crate) fn statistics(&self) -> PingStatistics {
        let stamp = matches!(self.encoding, ProbeEncoding::Stamp { .. });
        self.measurements.statistics(&self.ledger, self.last_turn, stamp)
    }

    fn has_more_to_send(&self) -> bool {
        self.config.count.is_none_or(|count| self.ledger.sent() < count)
    }

    fn is_window_full(&self) -> bool {
        let waiting = self.ledger.count(ProbeOutcome::Waiting);
        let in_flight = usize::try_from(waiting).unwrap_or(usize::MAX);
        in_flight >= self.config.max_in_flight || self.ledger.is_blocked()
    }

    /// Time at which the next probe may be sent; `None` while the window is full.
    fn next_send_at(&self) -> Option<Moment> {
        let slot = self.schedule.slot(self.config.interval).max(self.schedule.window_freed_at);
        let slot = self.schedule.last_sent.map_or(slot, |last| slot.max(last + self.config.min_interval));
        let ready = match (self.has_more_to_send(), self.is_window_full()) {
            (false, _) => None,
            (true, false) => Some(slot),
            (true, true) => Some(slot.max(self.schedule.last_sent? + self.config.stalled_interval?)),
        };
        // A probe sent at the deadline could not be answered.
        ready.filter(|ready| self.config.deadline.is_none_or(|deadline| *ready < deadline))
    }

    /// Sets the outcome of a probe, and records the time if a full window has space again.
    fn set_outcome(&mut self, seq: u64, outcome: ProbeOutcome, now: Moment) {
        let was_full = self.is_window_full();
        self.ledger.set_outcome(seq, outcome);
        if was_full && !self.is_window_full() {
            self.schedule.window_freed_at = now;
        }
    }

    /// Detects that the wall clock was set or that this process was stalled.
    fn detect_clock_changes(&mut self, now: Moment, actions: &mut DatagramActions<PingEvent>) {
        if let Some(step_ns) = clock_step(self.last_turn, now) {
            actions.emit(|| PingEvent::ClockStep { step_ns });
        }
        self.last_turn = now;
        let limit = self.config.interval.max(RESTART_THRESHOLD);
        if let Some(gap) = self.next_send_at().map(|ready| now - ready).filter(|gap| *gap > limit) {
            self.schedule.restart(now);
            self.measurements.paused += gap;
            actions.emit(|| PingEvent::ClockGap { gap });
        }
    }

    fn send_due(&mut self, now: Moment, actions: &mut DatagramActions<PingEvent>) {
        for _ in 0..PROBES_PER_TURN {
            if self.next_send_at().is_none_or(|ready| now < ready) {
                return;
            }
            if !self.ledger.make_room(|seq| retire(&self.encoding, seq, actions)) {
                return;
            }
            let mut slip = now - self.schedule.slot(self.config.interval);
            if slip > self.config.interval.max(RESTART_THRESHOLD) || self.config.interval.is_zero() {
                // The window was full; this is not schedule slip.
                self.schedule.restart(now);
                slip = Duration::ZERO;
            }
            self.schedule.advance(now);
            self.send(slip, now, actions);
        }
    }

    fn send(&mut self, slip: Duration, now: Moment, actions: &mut DatagramActions<PingEvent>) {
        let seq = self.ledger.record_sent(now);
        self.measurements.slip.push(slip);
        let socket = if self.encoding.is_fixed_message() { seq } else { 0 };
        let mut bytes = 0;
        actions.send(Transmit::connected(socket, seq), |out| {
            let before = out.len();
            self.encoding.write(seq, now.wall(), out);
            bytes = out.len() - before;
        });
        actions.emit(|| PingEvent::Sent { seq, bytes, slip });
    }

    /// Handles an intact reply.
    fn on_reply(
        &mut self,
        seq: u64,
        reflection: Option<Reflection>,
        datagram: &Datagram<'_>,
        now: Moment,
        actions: &mut DatagramActions<PingEvent>,
    ) {
        let Some(probe) = self.ledger.probe(seq).copied() else {
            return;
        };
        let is_first = !matches!(probe.outcome, ProbeOutcome::Answered | ProbeOutcome::Late);
        if let Some(reflection) = reflection {
            // The wall clock may have been set since the probe was sent; the elapsed time is monotonic.
            let sent = probe.sent_at.wall();
            let arrived = sent + (datagram.received_at - probe.sent_at);
            self.measurements.one_way.record_reply(seq, &reflection, sent, arrived, is_first);
        }
        if !is_first {
            self.measurements.unmatched.duplicates += 1;
            actions.emit(|| PingEvent::Duplicate { seq });
            return;
        }
        let timestamps = Timestamps {
            sent: probe.sent_at,
            kernel_sent: probe.kernel_sent_at,
            received: datagram.received_at,
            timestamped: datagram.has_kernel_timestamp,
            read: now,
        };
        self.on_first_reply(seq, &timestamps, datagram.bytes.len(), actions);
        if self.encoding.is_fixed_message() {
            // A duplicate may still arrive, but only soon.
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
        actions: &mut DatagramActions<PingEvent>,
    ) {
        let sample = timestamps.rtt_sample();
        let rtt = sample.rtt;
        let measurements = &mut self.measurements;
        let reordered = measurements.reordering.record(seq);
        measurements.clock_steps += u64::from(sample.clock_stepped);
        if let Some(host_delay) = sample.host_delay {
            measurements.kernel_timed += 1;
            measurements.host_delay.push(host_delay);
        }
        if self.ledger.is_in_time(rtt) {
            measurements.rtt.push(rtt);
            measurements.jitter.push(rtt);
            let clock = if sample.host_delay.is_some() { RttClock::Kernel } else { RttClock::Monotonic };
            let clock_step = sample.clock_stepped;
            self.set_outcome(seq, ProbeOutcome::Answered, timestamps.read);
            actions.emit(|| PingEvent::Reply { seq, rtt, clock, reordered, clock_step, bytes });
        } else {
            measurements.late_rtt.push(rtt);
            self.set_outcome(seq, ProbeOutcome::Late, timestamps.read);
            actions.emit(|| PingEvent::Late { seq, rtt, reordered });
        }
    }
}

/// Closes the socket of a fixed-message probe.
fn retire(encoding: &ProbeEncoding, seq: u64, actions: &mut DatagramActions<PingEvent>) {
    if encoding.is_fixed_message() {
        actions.retire(seq);
    }
}

impl DatagramProtocol for PingClient {
    type Event = PingEvent;

    fn received(&mut self, datagram: &Datagram<'_>, now: Moment, actions: &mut DatagramActions<PingEvent>) {
        match match_reply(&self.encoding, self.peer, &self.ledger, datagram, &mut self.scratch) {
            Ok((seq, ReplyMatch::Intact(reflection))) => {
                self.on_reply(seq, reflection, datagram, now, actions);
            }
            Ok((seq, ReplyMatch::Corrupt | ReplyMatch::NoMatch)) => {
                self.measurements.unmatched.corrupt += 1;
                actions.emit(|| PingEvent::Corrupt { seq, got: datagram_excerpt(datagram.bytes) });
            }
            Err(reason) => {
                self.measurements.unmatched.foreign += 1;
                let (peer, bytes) = (datagram.peer, datagram.bytes.len());
                actions.emit(|| PingEvent::Foreign {
                    reason,
                    source: peer,
                    bytes,
                    got: datagram_excerpt(datagram.bytes),
                });
            }
        }
    }

    fn transmitted(&mut self, ticket: u64, at: Moment) {
        self.ledger.record_kernel_sent(ticket, at);
    }

    fn failed(&mut self, failure: &TransmitError<'_>, now: Moment, actions: &mut DatagramActions<PingEvent>) {
        let (seq, outcome, error) = match *failure {
            TransmitError::NotSent { ticket, error } => (Some(ticket), ProbeOutcome::SendError, error),
            TransmitError::Unreachable { socket, error, bytes } => {
                let by_socket = self.encoding.is_fixed_message().then_some(socket);
                let numbered = by_socket.or_else(|| self.encoding.seq_of_probe(bytes, self.ledger.sent()));
                // An error without a payload is attributed to the oldest waiting probe.
                let oldest = || self.ledger.oldest_waiting().filter(|_| bytes.is_empty());
                (numbered.or_else(oldest), ProbeOutcome::Refused, error)
            }
        };
        // An ICMP error may arrive after the timeout.
        let is_unanswered = |seq: &u64| {
            let probe = self.ledger.probe(*seq);
            probe.is_some_and(|probe| matches!(probe.outcome, ProbeOutcome::Waiting | ProbeOutcome::Lost))
        };
        let Some(seq) = seq.filter(is_unanswered) else {
            return;
        };
        self.set_outcome(seq, outcome, now);
        if outcome == ProbeOutcome::SendError && self.config.interval.is_zero() {
            // Otherwise nothing would limit a flood into a network that is down.
            self.schedule.window_freed_at = now + SEND_ERROR_BACKOFF;
        }
        retire(&self.encoding, seq, actions);
        let error = error.to_string();
        actions.emit(|| match outcome {
            ProbeOutcome::SendError => PingEvent::SendError { seq, error },
            _ => PingEvent::Refused { seq, error },
        });
    }

    fn overflowed(&mut self, count: u64, _now: Moment, actions: &mut DatagramActions<PingEvent>) {
        self.measurements.local_drops += count;
        actions.emit(|| PingEvent::LocalDrop { count });
    }

    fn woken(&mut self, now: Moment, actions: &mut DatagramActions<PingEvent>) {
        self.detect_clock_changes(now, actions);
        while let Some(due) = self.ledger.next_timeout().filter(|due| *due <= now) {
            let was_full = self.is_window_full();
            let Some(seq) = self.ledger.expire(now) else {
                break;
            };
            if was_full {
                self.schedule.window_freed_at = due.max(self.schedule.window_freed_at);
            }
            actions.emit(|| PingEvent::Lost { seq });
        }
        self.ledger.close_expired(now, |seq| retire(&self.encoding, seq, actions));
        self.schedule.rebase(self.config.interval);
        self.send_due(now, actions);
    }

    fn wake_at(&self) -> Option<Moment> {
        let ready = self.next_send_at();
        let timeout = self.ledger.next_timeout();
        let linger_end = self.ledger.next_linger_end().filter(|_| !self.has_more_to_send());
        let linger_end = linger_end.filter(|_| self.ledger.lingering() > 0 && timeout.is_none());
        [ready, timeout, linger_end].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests;
