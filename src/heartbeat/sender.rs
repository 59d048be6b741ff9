//! Heartbeat sender: the schedule of the beats to one watcher, and the stop messages at the end.
//!
//! A [`DatagramProtocol`] with one peer. It must not know sockets.
//!
//! The schedule is absolute: beat *i* is due at t₀ + *i* · 95 % of the interval, up to 5 % earlier. Two beats
//! are therefore 90 to 100 % of the interval apart, which keeps the announced interval and prevents senders
//! that were started together from sending in step (RFC 5880 §6.8.7 uses 75 to 100 %). Beats that were due
//! while this process was suspended are skipped and reported, not sent in a burst.
//!
//! ```text
//!   Sending ──count reached, or stopped──▶ Stopping ──three stop messages──▶ Finished
//!      └────────────── once ──▶ AwaitingReply ──an echo, an error, a timeout───┘
//! ```

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::packet::{BeatEncoding, BeatPacket, Packet, PacketKind, encode_textbook};
use crate::impair::{DecisionKind, SeededRandom};
use crate::mac::MacKey;
use crate::protocol::{Datagram, DatagramActions, DatagramProtocol, Transmit, TransmitError};
use crate::stats::{DurationSummary, Series};
use crate::time::{Moment, Nanoseconds, OptionalNanoseconds, Timestamps};

/// Copies of the stop message, because one datagram may get lost.
const BYE_COUNT: u32 = 3;
const BYE_INTERVAL: Duration = Duration::from_millis(20);
/// Maximum number of beats that wait for their echo; the oldest is dropped.
const MAX_PENDING_ECHOES: usize = 256;
/// Time that a sender with `--once` waits for an echo or an ICMP error.
const ONCE_REPLY_TIMEOUT: Duration = Duration::from_millis(200);

/// Settings of a sender, most of which each beat announces.
#[derive(Clone)]
pub(crate) struct BeatSenderConfig {
    pub name: Arc<str>,
    /// Random number of this run; 0 with `--once`.
    pub incarnation: u64,
    /// Longest time between two beats.
    pub interval: Duration,
    /// Intervals of silence after which the sender is down.
    pub multiplier: u8,
    pub wants_echo: bool,
    pub encoding: BeatEncoding,
    /// Key that signs the beats.
    pub key: Option<MacKey>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// Until stopped, or until that number of beats was sent; ends with stop messages.
    Count(Option<u64>),
    /// One beat with this sequence number and no stop message: the next run sends the next beat.
    Once(u64),
}

/// Event of a sender; `type` comes first in JSON.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum BeatEvent {
    /// A beat was passed to the socket.
    Sent { seq: u64 },
    /// The first stop message was passed to the socket.
    Bye {
        /// Sequence number of the last beat.
        seq: u64,
        /// Exit code of the supervised command.
        exit: Option<u8>,
    },
    /// The watcher echoed a beat.
    Echo {
        seq: u64,
        #[serde(rename = "rtt_ns", with = "Nanoseconds")]
        rtt: Duration,
    },
    /// Beats were due while this process was suspended.
    Skipped { count: u64 },
    /// The network reported an error, such as port unreachable.
    Refused { error: String },
    /// The system rejected a send.
    SendError { seq: u64, error: String },
}

/// Counts and round-trip times of the beats to one watcher.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize)]
pub(crate) struct BeatReport {
    /// Beats passed to the socket.
    pub sent: u64,
    /// Beats that the watcher echoed.
    pub echoes: u64,
    /// Errors reported by the network, such as port unreachable.
    pub refused: u64,
    /// Beats that the system could not send.
    pub send_errors: u64,
    /// Beats that were due while this process was suspended.
    pub skipped: u64,
    /// Round-trip times of the echoes.
    pub rtt: Option<DurationSummary>,
    /// Round-trip time of the last echo.
    #[serde(rename = "last_rtt_ns", with = "OptionalNanoseconds")]
    pub last_rtt: Option<Duration>,
}

/// Sender of beats to one watcher.
pub(crate) struct BeatSender {
    config: BeatSenderConfig,
    lifetime: Lifetime,
    stage: Stage,
    /// Origin of the schedule, and the index of the next slot in it.
    start: Moment,
    slot_index: u32,
    random: SeededRandom,
    seq: u64,
    pending_echoes: VecDeque<(u64, Moment, Option<Moment>)>,
    counters: SenderCounters,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Sending,
    Stopping { remaining: u32, next_at: Moment, exit_code: Option<u8> },
    AwaitingReply { deadline: Moment },
    Finished,
}

#[derive(Default)]
struct SenderCounters {
    sent: u64,
    refused: u64,
    send_errors: u64,
    skipped: u64,
    rtt: Series,
    last_rtt: Option<Duration>,
}

impl BeatSender {
    /// Creates a sender whose first beat is due at `start`; the seed fixes the jitter of the schedule.
    pub(crate) fn new(config: BeatSenderConfig, lifetime: Lifetime, seed: u64, start: Moment) -> Self {
        let seq = if let Lifetime::Once(seq) = lifetime { seq.saturating_sub(1) } else { 0 };
        Self {
            config,
            lifetime,
            stage: Stage::Sending,
            start,
            slot_index: 0,
            random: SeededRandom::new(seed, 1),
            seq,
            pending_echoes: VecDeque::new(),
            counters: SenderCounters::default(),
        }
    }

    /// Starts to send the stop messages, with the exit code of the supervised command.
    pub(crate) fn stop(&mut self, exit_code: Option<u8>, now: Moment) {
        if self.stage == Stage::Sending && self.config.encoding == BeatEncoding::Text {
            // The textbook has no stop message.
            self.stage = Stage::Finished;
        } else if self.stage == Stage::Sending {
            self.stage = Stage::Stopping { remaining: BYE_COUNT, next_at: now, exit_code };
        }
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.stage == Stage::Finished
    }

    pub(crate) fn report(&self) -> BeatReport {
        let SenderCounters { sent, refused, send_errors, skipped, rtt, last_rtt } = &self.counters;
        let rtt = rtt.summary();
        BeatReport {
            sent: *sent,
            echoes: rtt.as_ref().map_or(0, |rtt| rtt.count),
            refused: *refused,
            send_errors: *send_errors,
            skipped: *skipped,
            rtt,
            last_rtt: *last_rtt,
        }
    }

    /// Returns the due time of the next beat.
    fn next_send_time(&self) -> Moment {
        let slot = self.slot_time(self.slot_index);
        if self.slot_index == 0 {
            return slot;
        }
        // The upper half of a draw: a share of 2³² of the jitter.
        let share = self.random.draw(DecisionKind::JITTER, self.slot_index.into()) >> 32;
        let max = self.config.interval.as_nanos() / 20;
        let early = u64::try_from((max * u128::from(share)) >> 32).unwrap_or(0);
        slot.before(Duration::from_nanos(early))
    }

    /// Returns the latest time for the beat in this slot.
    fn slot_time(&self, index: u32) -> Moment {
        self.start + (self.config.interval / 20 * 19).saturating_mul(index)
    }

    fn send_beat(&mut self, now: Moment, actions: &mut DatagramActions<BeatEvent>) {
        self.seq += 1;
        self.counters.sent += 1;
        let wants_echo = self.config.wants_echo;
        if wants_echo {
            if self.pending_echoes.len() == MAX_PENDING_ECHOES {
                self.pending_echoes.pop_front();
            }
            self.pending_echoes.push_back((self.seq, now, None));
        }
        self.send_packet(PacketKind::Beat, wants_echo, None, now, actions);
        actions.emit(|| BeatEvent::Sent { seq: self.seq });
    }

    fn send_packet(
        &self,
        kind: PacketKind,
        wants_echo: bool,
        exit_code: Option<u8>,
        now: Moment,
        actions: &mut DatagramActions<BeatEvent>,
    ) {
        if self.config.encoding == BeatEncoding::Text {
            return actions.send(Transmit::connected(0, self.seq), |out| encode_textbook(self.seq, now.wall(), out));
        }
        let BeatSenderConfig { name, incarnation, interval, multiplier, key, .. } = &self.config;
        let beat = BeatPacket {
            kind,
            name,
            incarnation: *incarnation,
            seq: self.seq,
            sent_at: now.wall(),
            interval: *interval,
            multiplier: *multiplier,
            requests_echo: wants_echo,
            exit_code,
        };
        actions.send(Transmit::connected(0, self.seq), |out| beat.encode(key.as_ref(), out));
    }

    /// Sends a beat if one is due, and skips further overdue slots.
    fn send_beat_if_due(&mut self, now: Moment, actions: &mut DatagramActions<BeatEvent>) {
        if self.next_send_time() > now {
            return;
        }
        self.send_beat(now, actions);
        let sent_slot = self.slot_index;
        self.slot_index += 1;
        while self.next_send_time() <= now {
            self.slot_index += 1;
        }
        let skipped = u64::from(self.slot_index - sent_slot - 1);
        if skipped > 0 {
            self.counters.skipped += skipped;
            actions.emit(|| BeatEvent::Skipped { count: skipped });
        }
        if self.slot_index >= 1 << 16 {
            (self.start, self.slot_index) = (self.slot_time(self.slot_index - 1), 1);
        }
        match self.lifetime {
            Lifetime::Once(_) => self.stage = Stage::AwaitingReply { deadline: now + ONCE_REPLY_TIMEOUT },
            Lifetime::Count(Some(count)) if self.counters.sent >= count => self.stop(None, now),
            Lifetime::Count(_) => {}
        }
    }
}

impl DatagramProtocol for BeatSender {
    type Event = BeatEvent;

    fn received(&mut self, datagram: &Datagram<'_>, now: Moment, actions: &mut DatagramActions<BeatEvent>) {
        let Ok(Packet::Beat(beat)) = Packet::parse(datagram.bytes, self.config.key.as_ref()) else { return };
        let is_ours = beat.kind == PacketKind::Echo && beat.incarnation == self.config.incarnation;
        let index = self.pending_echoes.iter().position(|(seq, ..)| is_ours && *seq == beat.seq);
        // Removed with its first echo, so a duplicate echo is ignored.
        let Some((seq, sent, kernel_sent)) = index.and_then(|index| self.pending_echoes.remove(index)) else { return };
        let timestamps = Timestamps {
            sent,
            kernel_sent,
            received: datagram.received_at,
            timestamped: datagram.has_kernel_timestamp,
            read: now,
        };
        let rtt = timestamps.rtt_sample().rtt;
        self.counters.rtt.push(rtt);
        self.counters.last_rtt = Some(rtt);
        actions.emit(|| BeatEvent::Echo { seq, rtt });
        if matches!(self.stage, Stage::AwaitingReply { .. }) {
            self.stage = Stage::Finished;
        }
    }

    fn transmitted(&mut self, ticket: u64, at: Moment) {
        if let Some((.., kernel_sent)) = self.pending_echoes.iter_mut().rev().find(|(seq, ..)| *seq == ticket) {
            *kernel_sent = Some(at);
        }
    }

    fn failed(&mut self, error: &TransmitError<'_>, _now: Moment, actions: &mut DatagramActions<BeatEvent>) {
        match *error {
            TransmitError::NotSent { ticket, error } => {
                self.counters.send_errors += 1;
                actions.emit(|| BeatEvent::SendError { seq: ticket, error: error.to_string() });
            }
            TransmitError::Unreachable { error, .. } => {
                self.counters.refused += 1;
                actions.emit(|| BeatEvent::Refused { error: error.to_string() });
            }
        }
        if matches!(self.stage, Stage::AwaitingReply { .. }) {
            self.stage = Stage::Finished;
        }
    }

    fn overflowed(&mut self, _count: u64, _now: Moment, _actions: &mut DatagramActions<BeatEvent>) {}

    fn woken(&mut self, now: Moment, actions: &mut DatagramActions<BeatEvent>) {
        match self.stage {
            Stage::Sending => self.send_beat_if_due(now, actions),
            Stage::Stopping { remaining, next_at, exit_code: exit } if next_at <= now => {
                self.send_packet(PacketKind::Bye, false, exit, now, actions);
                if remaining == BYE_COUNT {
                    actions.emit(|| BeatEvent::Bye { seq: self.seq, exit });
                }
                self.stage = match remaining - 1 {
                    0 => Stage::Finished,
                    remaining => Stage::Stopping { remaining, next_at: now + BYE_INTERVAL, exit_code: exit },
                };
            }
            Stage::AwaitingReply { deadline } if deadline <= now => self.stage = Stage::Finished,
            Stage::Stopping { .. } | Stage::AwaitingReply { .. } | Stage::Finished => {}
        }
    }

    fn wake_at(&self) -> Option<Moment> {
        match self.stage {
            Stage::Sending => Some(self.next_send_time()),
            Stage::Stopping { next_at, .. } => Some(next_at),
            Stage::AwaitingReply { deadline } => Some(deadline),
            Stage::Finished => None,
        }
    }
}

#[cfg(test)]
mod tests;
