//! The sender's side: when to beat, and when it is over.
//!
//! Owns the schedule of one watcher's beats. It must not know sockets; it is an [`Exchange`] with one
//! peer.
//!
//! The schedule is absolute, and two beats are between 90 and 100 % of the interval apart, so that the
//! promise is kept and a fleet that was started together does not beat in step (RFC 5880 §6.8.7 takes
//! 75 to 100 %): beat *i* belongs at t₀ + *i* · 95 % of the interval, up to 5 % earlier. What this
//! process slept through is skipped and said, not made up for in a burst.
//!
//! ```text
//!   Beating ──count reached, or told──▶ Leaving ──three goodbyes──▶ Over
//!      └────────── once ──▶ Waiting for an echo or an error ──────────┘
//! ```

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::event::ns_or_null;
use super::packet::{BeatPacket, Packet, PacketKind as Verb};
use crate::impair::{DecisionKind, SeededRandom};
use crate::mac::MacKey;
use crate::protocol::{Datagram, DatagramActions, DatagramProtocol, Transmit, TransmitError};
use crate::stats::{DurationSummary, Series};
use crate::time::{Moment, Timestamps, serialize_ns};

/// A goodbye is said so many times, since one may get lost.
const GOODBYE_COUNT: u32 = 3;
/// How far apart.
const GOODBYE_INTERVAL: Duration = Duration::from_millis(20);
/// How many beats are remembered for their echo.
const MAX_PENDING_ECHOES: usize = 256;
/// How long whoever beats once waits for an error or an echo.
const ONCE_REPLY_TIMEOUT: Duration = Duration::from_millis(200);

/// What a sender says of itself.
#[derive(Clone)]
pub(crate) struct BeatSenderConfig {
    /// Its name.
    pub name: Arc<str>,
    /// Which run of it this is.
    pub incarnation: u64,
    /// Within which time the next beat comes.
    pub interval: Duration,
    /// After how many intervals of silence it is down.
    pub multiplier: u8,
    /// Whether echoes are asked for.
    pub wants_echo: bool,
    /// What vouches for its beats.
    pub key: Option<MacKey>,
}

/// How long a sender goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// Until it is told to stop, or so many beats were sent; then it says goodbye.
    Count(Option<u64>),
    /// One beat with this number, and no goodbye: the next run sends the next one.
    Once(u64),
}

/// What a sender tells.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum BeatEvent {
    /// A beat was handed over.
    Sent {
        /// Its number.
        seq: u64,
    },
    /// A goodbye was.
    Bye {
        /// The number of the last beat.
        seq: u64,
        /// The exit code of what was watched over.
        exit: Option<u8>,
    },
    /// The watcher has answered a beat.
    Echo {
        /// Its number.
        seq: u64,
        /// How long it took.
        #[serde(rename = "rtt_ns", serialize_with = "serialize_ns")]
        rtt: Duration,
    },
    /// This process did not run when beats were due.
    Skipped {
        /// How many.
        count: u64,
    },
    /// Nobody listens there.
    Refused {
        /// The network's word for it.
        error: String,
    },
    /// The system would not send.
    SendError {
        /// The number of the beat.
        seq: u64,
        /// The system's word for it.
        error: String,
    },
}

/// One watcher's beats in figures.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct BeatReport {
    /// Beats that were handed over.
    pub sent: u64,
    /// Those that the watcher has answered.
    pub echoes: u64,
    /// How often the network said that nobody listens.
    pub refused: u64,
    /// Beats that the system would not send.
    pub send_errors: u64,
    /// Beats that were due while this process did not run.
    pub skipped: u64,
    /// How long echoes took.
    pub rtt: Option<DurationSummary>,
    /// How long the last one took.
    #[serde(rename = "last_rtt_ns", serialize_with = "ns_or_null")]
    pub last_rtt: Option<Duration>,
}

/// The sender of beats to one watcher.
pub(crate) struct BeatSender {
    config: BeatSenderConfig,
    lifetime: Lifetime,
    stage: Stage,
    /// Where the schedule begins, and the number of the next place in it.
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
    SayingGoodbye { remaining: u32, next_at: Moment, exit_code: Option<u8> },
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
    /// A sender whose first beat belongs at `start`; the same seed is early by the same times.
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

    /// Says goodbye from now on, with the exit code of what was watched over.
    pub(crate) fn stop(&mut self, exit_code: Option<u8>, now: Moment) {
        if self.stage == Stage::Sending {
            self.stage = Stage::SayingGoodbye { remaining: GOODBYE_COUNT, next_at: now, exit_code };
        }
    }

    /// Whether there is nothing left to say.
    pub(crate) fn is_finished(&self) -> bool {
        self.stage == Stage::Finished
    }

    /// The figures so far.
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

    /// When the next beat belongs.
    fn next_send_time(&self) -> Moment {
        let slot = self.slot_time(self.slot_index);
        if self.slot_index == 0 {
            return slot;
        }
        // The upper half of a throw, so that it is a part of 2³² intervals.
        let share = self.random.draw(DecisionKind::JITTER, self.slot_index.into()) >> 32;
        let most = self.config.interval.as_nanos() / 20;
        let early = u64::try_from((most * u128::from(share)) >> 32).unwrap_or(0);
        slot.before(Duration::from_nanos(early))
    }

    /// The latest moment for the beat at this place.
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
        self.send_packet(Verb::Beat, wants_echo, None, now, actions);
        actions.emit(|| BeatEvent::Sent { seq: self.seq });
    }

    fn send_packet(
        &self,
        kind: Verb,
        wants_echo: bool,
        exit_code: Option<u8>,
        now: Moment,
        actions: &mut DatagramActions<BeatEvent>,
    ) {
        let BeatSenderConfig { name, incarnation, interval, multiplier, key, .. } = &self.config;
        let beat = BeatPacket {
            kind,
            name,
            incarnation: *incarnation,
            seq: self.seq,
            sent_at: now.wall(),
            interval: *interval,
            multiplier: *multiplier,
            wants_echo,
            exit_code,
        };
        actions.send(Transmit::connected(0, self.seq), |out| beat.encode(key.as_ref(), out));
    }

    /// Beats if it is time, and skips what was slept through.
    fn send_beat_if_due(&mut self, now: Moment, actions: &mut DatagramActions<BeatEvent>) {
        if self.next_send_time() > now {
            return;
        }
        self.send_beat(now, actions);
        let begun = self.slot_index;
        self.slot_index += 1;
        while self.next_send_time() <= now {
            self.slot_index += 1;
        }
        let skipped = u64::from(self.slot_index - begun - 1);
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
        let is_ours = beat.kind == Verb::Echo && beat.incarnation == self.config.incarnation;
        let place = self.pending_echoes.iter().position(|(seq, ..)| is_ours && *seq == beat.seq);
        // Remembered until its echo comes: a second one finds nothing.
        let Some((seq, sent, left)) = place.and_then(|place| self.pending_echoes.remove(place)) else { return };
        let stamps = Timestamps {
            sent,
            kernel_sent: left,
            received: datagram.received_at,
            timestamped: datagram.has_kernel_timestamp,
            read: now,
        };
        let rtt = stamps.rtt_sample().rtt;
        self.counters.rtt.push(rtt);
        self.counters.last_rtt = Some(rtt);
        actions.emit(|| BeatEvent::Echo { seq, rtt });
        if matches!(self.stage, Stage::AwaitingReply { .. }) {
            self.stage = Stage::Finished;
        }
    }

    fn transmitted(&mut self, ticket: u64, at: Moment) {
        if let Some((.., left)) = self.pending_echoes.iter_mut().rev().find(|(seq, ..)| *seq == ticket) {
            *left = Some(at);
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
            Stage::SayingGoodbye { remaining: left, next_at: next, exit_code: exit } if next <= now => {
                self.send_packet(Verb::Bye, false, exit, now, actions);
                if left == GOODBYE_COUNT {
                    actions.emit(|| BeatEvent::Bye { seq: self.seq, exit });
                }
                self.stage = match left - 1 {
                    0 => Stage::Finished,
                    left => Stage::SayingGoodbye { remaining: left, next_at: now + GOODBYE_INTERVAL, exit_code: exit },
                };
            }
            Stage::AwaitingReply { deadline: until } if until <= now => self.stage = Stage::Finished,
            Stage::SayingGoodbye { .. } | Stage::AwaitingReply { .. } | Stage::Finished => {}
        }
    }

    fn wake_at(&self) -> Option<Moment> {
        match self.stage {
            Stage::Sending => Some(self.next_send_time()),
            Stage::SayingGoodbye { next_at: next, .. } => Some(next),
            Stage::AwaitingReply { deadline: until } => Some(until),
            Stage::Finished => None,
        }
    }
}

#[cfg(test)]
mod tests;
