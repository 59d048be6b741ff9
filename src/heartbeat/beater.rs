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

use super::beat::{Beat, Kind as Verb, Line};
use super::fact::ns_or_null;
use crate::conversation::{Datagram, DatagramActions, DatagramProtocol, Transmit, TransmitError};
use crate::impair::{DecisionKind, SeededRandom};
use crate::seal::MacKey;
use crate::stats::{DurationSummary, Series};
use crate::time::{Moment, Timestamps, serialize_ns};

/// A goodbye is said so many times, since one may get lost.
const GOODBYES: u32 = 3;
/// How far apart.
const GOODBYE_EVERY: Duration = Duration::from_millis(20);
/// How many beats are remembered for their echo.
const REMEMBERED: usize = 256;
/// How long whoever beats once waits for an error or an echo.
const ONCE_PATIENCE: Duration = Duration::from_millis(200);

/// What a sender says of itself.
#[derive(Clone)]
pub struct Promise {
    /// Its name.
    pub name: Arc<str>,
    /// Which run of it this is.
    pub incarnation: u64,
    /// Within which time the next beat comes.
    pub interval: Duration,
    /// After how many intervals of silence it is down.
    pub multiplier: u8,
    /// Whether echoes are asked for.
    pub echo: bool,
    /// What vouches for its beats.
    pub key: Option<MacKey>,
}

/// How long a sender goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// Until it is told to stop, or so many beats were sent; then it says goodbye.
    Count(Option<u64>),
    /// One beat with this number, and no goodbye: the next run sends the next one.
    Once(u64),
}

/// What a sender tells.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum BeatFact {
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
pub struct BeatReport {
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
pub struct Beater {
    promise: Promise,
    lifetime: Lifetime,
    stage: Stage,
    /// Where the schedule begins, and the number of the next place in it.
    start: Moment,
    place: u32,
    dice: SeededRandom,
    seq: u64,
    remembered: VecDeque<(u64, Moment, Option<Moment>)>,
    figures: Figures,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Beating,
    Leaving { left: u32, next: Moment, exit: Option<u8> },
    Waiting { until: Moment },
    Over,
}

#[derive(Default)]
struct Figures {
    sent: u64,
    refused: u64,
    send_errors: u64,
    skipped: u64,
    rtt: Series,
    last_rtt: Option<Duration>,
}

impl Beater {
    /// A sender whose first beat belongs at `start`; the same seed is early by the same times.
    pub fn new(promise: Promise, lifetime: Lifetime, seed: u64, start: Moment) -> Self {
        let seq = if let Lifetime::Once(seq) = lifetime { seq.saturating_sub(1) } else { 0 };
        Self {
            promise,
            lifetime,
            stage: Stage::Beating,
            start,
            place: 0,
            dice: SeededRandom::new(seed, 1),
            seq,
            remembered: VecDeque::new(),
            figures: Figures::default(),
        }
    }

    /// Says goodbye from now on, with the exit code of what was watched over.
    pub fn leave(&mut self, exit: Option<u8>, now: Moment) {
        if self.stage == Stage::Beating {
            self.stage = Stage::Leaving { left: GOODBYES, next: now, exit };
        }
    }

    /// Whether there is nothing left to say.
    pub fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    /// The figures so far.
    pub fn report(&self) -> BeatReport {
        let Figures { sent, refused, send_errors, skipped, rtt, last_rtt } = &self.figures;
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
    fn due(&self) -> Moment {
        let slot = self.slot(self.place);
        if self.place == 0 {
            return slot;
        }
        // The upper half of a throw, so that it is a part of 2³² intervals.
        let share = self.dice.draw(DecisionKind::JITTER, self.place.into()) >> 32;
        let most = self.promise.interval.as_nanos() / 20;
        let early = u64::try_from((most * u128::from(share)) >> 32).unwrap_or(0);
        slot.before(Duration::from_nanos(early))
    }

    /// The latest moment for the beat at this place.
    fn slot(&self, place: u32) -> Moment {
        self.start + (self.promise.interval / 20 * 19).saturating_mul(place)
    }

    fn beat(&mut self, now: Moment, post: &mut DatagramActions<BeatFact>) {
        self.seq += 1;
        self.figures.sent += 1;
        let wants_echo = self.promise.echo;
        if wants_echo {
            if self.remembered.len() == REMEMBERED {
                self.remembered.pop_front();
            }
            self.remembered.push_back((self.seq, now, None));
        }
        self.say(Verb::Beat, wants_echo, None, now, post);
        post.emit(|| BeatFact::Sent { seq: self.seq });
    }

    fn say(&self, kind: Verb, wants_echo: bool, exit: Option<u8>, now: Moment, post: &mut DatagramActions<BeatFact>) {
        let Promise { name, incarnation, interval, multiplier, key, .. } = &self.promise;
        let beat = Beat {
            kind,
            name,
            incarnation: *incarnation,
            seq: self.seq,
            sent: now.wall(),
            interval: *interval,
            multiplier: *multiplier,
            wants_echo,
            exit,
        };
        post.send(Transmit::connected(0, self.seq), |out| beat.write(key.as_ref(), out));
    }

    /// Beats if it is time, and skips what was slept through.
    fn beat_if_due(&mut self, now: Moment, post: &mut DatagramActions<BeatFact>) {
        if self.due() > now {
            return;
        }
        self.beat(now, post);
        let begun = self.place;
        self.place += 1;
        while self.due() <= now {
            self.place += 1;
        }
        let skipped = u64::from(self.place - begun - 1);
        if skipped > 0 {
            self.figures.skipped += skipped;
            post.emit(|| BeatFact::Skipped { count: skipped });
        }
        if self.place >= 1 << 16 {
            (self.start, self.place) = (self.slot(self.place - 1), 1);
        }
        match self.lifetime {
            Lifetime::Once(_) => self.stage = Stage::Waiting { until: now + ONCE_PATIENCE },
            Lifetime::Count(Some(count)) if self.figures.sent >= count => self.leave(None, now),
            Lifetime::Count(_) => {}
        }
    }
}

impl DatagramProtocol for Beater {
    type Event = BeatFact;

    fn received(&mut self, datagram: &Datagram<'_>, now: Moment, post: &mut DatagramActions<BeatFact>) {
        let Ok(Line::Beat(beat)) = Line::read(datagram.bytes, self.promise.key.as_ref()) else { return };
        let is_ours = beat.kind == Verb::Echo && beat.incarnation == self.promise.incarnation;
        let place = self.remembered.iter().position(|(seq, ..)| is_ours && *seq == beat.seq);
        // Remembered until its echo comes: a second one finds nothing.
        let Some((seq, sent, left)) = place.and_then(|place| self.remembered.remove(place)) else { return };
        let stamps = Timestamps {
            sent,
            kernel_sent: left,
            received: datagram.received_at,
            timestamped: datagram.has_kernel_timestamp,
            read: now,
        };
        let rtt = stamps.rtt_sample().rtt;
        self.figures.rtt.push(rtt);
        self.figures.last_rtt = Some(rtt);
        post.emit(|| BeatFact::Echo { seq, rtt });
        if matches!(self.stage, Stage::Waiting { .. }) {
            self.stage = Stage::Over;
        }
    }

    fn transmitted(&mut self, ticket: u64, at: Moment) {
        if let Some((.., left)) = self.remembered.iter_mut().rev().find(|(seq, ..)| *seq == ticket) {
            *left = Some(at);
        }
    }

    fn failed(&mut self, failure: &TransmitError<'_>, _now: Moment, post: &mut DatagramActions<BeatFact>) {
        match *failure {
            TransmitError::NotSent { ticket, error } => {
                self.figures.send_errors += 1;
                post.emit(|| BeatFact::SendError { seq: ticket, error: error.to_string() });
            }
            TransmitError::Unreachable { error, .. } => {
                self.figures.refused += 1;
                post.emit(|| BeatFact::Refused { error: error.to_string() });
            }
        }
        if matches!(self.stage, Stage::Waiting { .. }) {
            self.stage = Stage::Over;
        }
    }

    fn overflowed(&mut self, _count: u64, _now: Moment, _post: &mut DatagramActions<BeatFact>) {}

    fn woken(&mut self, now: Moment, post: &mut DatagramActions<BeatFact>) {
        match self.stage {
            Stage::Beating => self.beat_if_due(now, post),
            Stage::Leaving { left, next, exit } if next <= now => {
                self.say(Verb::Bye, false, exit, now, post);
                if left == GOODBYES {
                    post.emit(|| BeatFact::Bye { seq: self.seq, exit });
                }
                self.stage = match left - 1 {
                    0 => Stage::Over,
                    left => Stage::Leaving { left, next: now + GOODBYE_EVERY, exit },
                };
            }
            Stage::Waiting { until } if until <= now => self.stage = Stage::Over,
            Stage::Leaving { .. } | Stage::Waiting { .. } | Stage::Over => {}
        }
    }

    fn wake_at(&self) -> Option<Moment> {
        match self.stage {
            Stage::Beating => Some(self.due()),
            Stage::Leaving { next, .. } => Some(next),
            Stage::Waiting { until } => Some(until),
            Stage::Over => None,
        }
    }
}

#[cfg(test)]
mod tests;
