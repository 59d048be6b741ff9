//! The watcher's side: whose beat it is, and who has been silent for too long.
//!
//! Owns all senders and the rules they are judged by. It must not know sockets; it is an
//! [`Exchange`] for all peers at once.
//!
//! ```text
//!   datagram ─▶ a beat? ─▶ authentic? ─▶ whose? ─▶ record: run, number, delay, state ─▶ facts
//!   silence  ─▶ (did we run ourselves?) ─▶ record: late, down, forgotten ─────────────▶ facts
//! ```

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::event::{Liveness, RejectReason, WatcherEvent};
#[cfg(test)]
use super::failure_detector::DetectionMethod;
use super::failure_detector::FailureDetector;
use super::histogram::Histogram;
use super::packet::{BeatPacket, Packet, PacketError, PacketKind, make_echo};
use super::report::StateCounts;
use super::sender_state::{ReceivedBeat, SenderState};
use super::sender_table::{SenderKey, SenderTable};
use crate::mac::MacKey;
use crate::protocol::{Datagram, DatagramActions, DatagramProtocol, Transmit, TransmitError};
use crate::time::Moment;

/// How a watcher judges.
#[derive(Clone)]
pub(crate) struct WatcherConfig {
    /// How long silence is borne.
    pub failure_detector: FailureDetector,
    /// With a key only what it vouches for is heard.
    pub key: Option<MacKey>,
    /// How long those that are expected may take to be heard first.
    pub expect_within: Duration,
    /// How long somebody is remembered who is down or stopped.
    pub forget_after: Duration,
    /// How fast it is forgiven to come and go.
    pub flap_half_life: Duration,
    /// How many senders there may be.
    pub max_senders: usize,
    /// How many datagrams are heard; what comes after them is not.
    pub max_datagrams: Option<u64>,
    /// Since when datagrams are heard.
    pub started_at: Moment,
    /// Since when we have been awake: silence before it may have been our own.
    pub awake_since: Moment,
}

#[cfg(test)]
impl WatcherConfig {
    /// The defaults without slack or damping, since `started`.
    pub(crate) fn strict(started: Moment) -> Self {
        Self {
            failure_detector: FailureDetector {
                method: DetectionMethod::Multiplier(None),
                slack: Duration::ZERO,
                rise: 1,
                fall: 1,
            },
            key: None,
            expect_within: Duration::from_secs(10),
            forget_after: Duration::from_secs(3_600),
            flap_half_life: Duration::ZERO,
            max_senders: 100,
            max_datagrams: None,
            started_at: started,
            awake_since: started,
        }
    }
}

/// How often a watcher looks whether it was stopped meanwhile.
const STALL_CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// A timer that is served later than this was served by somebody who did not run, …
const DEFAULT_STALL_THRESHOLD: Duration = Duration::from_millis(100);
/// … or than the shortest interval anybody promised, but not less than a busy machine needs.
const MIN_STALL_THRESHOLD: Duration = Duration::from_millis(10);
/// Refused datagrams are told once in so much time.
const REJECT_REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// What became of all datagrams.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct WatcherCounters {
    /// Datagrams that came.
    pub received: u64,
    /// Echoes that were sent back.
    pub echoes: u64,
    /// Datagrams that counted for nobody, by reason.
    pub refused: u64,
    #[serde(skip)]
    pub by_reason: [u64; RejectReason::ALL.len()],
    /// Datagrams that found no room in our own receive buffer.
    pub local_drops: u64,
    /// How often we did not run ourselves.
    pub stalls: u64,
    /// How often a sender's state has changed.
    pub changes: u64,
}

/// Everybody who is watched.
pub(crate) struct Watcher {
    config: WatcherConfig,
    table: SenderTable,
    counters: WatcherCounters,
    delays: Histogram,
    last_turn: Moment,
    next_stall_check: Moment,
    last_reject_report: Option<(Moment, u64)>,
    /// How late a timer must be served to be a stall.
    stall_threshold: Duration,
}

impl Watcher {
    /// A watcher that waits for those `expected`.
    pub(crate) fn new(config: WatcherConfig, expected: &[Arc<str>], now: Moment) -> Self {
        let mut watcher = Self {
            table: SenderTable::new(config.max_senders.max(expected.len())),
            config,
            counters: WatcherCounters::default(),
            delays: Histogram::default(),
            last_turn: now,
            next_stall_check: now + STALL_CHECK_INTERVAL,
            last_reject_report: None,
            stall_threshold: DEFAULT_STALL_THRESHOLD,
        };
        for name in expected {
            watcher.expect_sender(name, now);
        }
        watcher
    }

    fn expect_sender(&mut self, name: &Arc<str>, now: Moment) {
        let who = SenderKey::Named(Arc::clone(name));
        let known = self.table.find(&who);
        let place = known.or_else(|| self.table.insert(who, SenderState::new(Arc::clone(name), true, now), None).ok());
        let rules = &self.config;
        place.map(|place| {
            self.table.update(place, |record| record.is_expected = true, |record| record.next_deadline(rules))
        });
    }

    /// An earlier watcher has missed somebody since then; if it is not expected any more, nobody is
    /// missed.
    pub(crate) fn restore_missing(&mut self, name: &Arc<str>, since: Moment) {
        let rules = &self.config;
        if let Some(place) = self.table.find(&SenderKey::Named(Arc::clone(name))) {
            self.table.update(place, |record| record.restore_missing(since), |record| record.next_deadline(rules));
        }
    }

    /// Takes in somebody whom an earlier watcher knew, if there is room.
    pub(crate) fn restore(&mut self, mut sender: SenderState) -> bool {
        let who = SenderKey::of(&sender);
        let peer = sender.incarnation.map(|run| run.peer);
        if let Some(place) = self.table.find(&who) {
            sender.is_expected = self.table.get(place).is_some_and(|known| known.is_expected);
            self.table.remove(place);
        }
        let rules = &self.config;
        let admitted = self.table.insert(who, sender, peer).ok();
        admitted.and_then(|place| self.table.update(place, |_| (), |record| record.next_deadline(rules))).is_some()
    }

    /// Everybody, by place.
    pub(crate) fn sender_table(&self) -> &SenderTable {
        &self.table
    }

    /// What became of all datagrams so far.
    pub(crate) fn counters(&self) -> &WatcherCounters {
        &self.counters
    }

    /// The delays of all beats, above the smallest of each sender.
    pub(crate) fn delays(&self) -> &Histogram {
        &self.delays
    }

    /// Hears a datagram, and says why it counts for nobody.
    fn handle_datagram(
        &mut self,
        datagram: &Datagram<'_>,
        actions: &mut DatagramActions<WatcherEvent>,
    ) -> Result<(), RejectReason> {
        if datagram.truncated {
            return Err(RejectReason::Oversize);
        }
        let line = Packet::parse(datagram.bytes, self.config.key.as_ref()).map_err(|wrong| match wrong {
            PacketError::Malformed => RejectReason::Malformed,
            PacketError::Unauthentic => RejectReason::Unauthentic,
        })?;
        let (peer, at) = (datagram.peer, datagram.received_at);
        match line {
            Packet::Beat(BeatPacket { kind: PacketKind::Echo, .. }) => Err(RejectReason::Stray),
            Packet::Beat(beat) => {
                let heard = ReceivedBeat {
                    peer,
                    received_at: at,
                    incarnation: beat.incarnation,
                    seq: beat.seq,
                    sent_at: beat.sent_at,
                    advertised_timing: Some((beat.interval, beat.multiplier)),
                    is_bye: beat.kind == PacketKind::Bye,
                    exit_code: beat.exit_code,
                };
                self.count_beat(SenderKey::Named(beat.name.into()), &heard, actions)?;
                self.stall_threshold = self.stall_threshold.min(beat.interval.max(MIN_STALL_THRESHOLD));
                if beat.wants_echo {
                    self.counters.echoes += 1;
                    let key = self.config.key.as_ref();
                    actions.send(Transmit::reply(datagram, heard.seq), |out| {
                        let start = out.len();
                        out.extend_from_slice(datagram.bytes);
                        make_echo(out.get_mut(start..).unwrap_or_default(), key);
                    });
                }
                Ok(())
            }
            Packet::Textbook { seq, sent_at: sent } => {
                let (promise, is_bye, exit) = (None, false, None);
                let heard = ReceivedBeat {
                    peer,
                    received_at: at,
                    incarnation: 0,
                    seq,
                    sent_at: sent,
                    advertised_timing: promise,
                    is_bye,
                    exit_code: exit,
                };
                self.count_beat(SenderKey::Address(peer), &heard, actions)
            }
        }
    }

    fn count_beat(
        &mut self,
        key: SenderKey,
        beat: &ReceivedBeat,
        actions: &mut DatagramActions<WatcherEvent>,
    ) -> Result<(), RejectReason> {
        let place = match self.table.find(&key) {
            Some(place) => place,
            None if beat.is_bye => return Err(RejectReason::Stray),
            None => {
                let name = match &key {
                    SenderKey::Named(name) => Arc::clone(name),
                    SenderKey::Address(address) => address.to_string().into(),
                };
                let is_textbook = beat.advertised_timing.is_none();
                let mut record = SenderState::new(name, false, beat.received_at);
                record.is_textbook = is_textbook;
                self.table.insert(key, record, Some(beat.peer))?
            }
        };
        let rules = &self.config;
        let act = |record: &mut SenderState| {
            let before = (record.liveness, record.delays.sample_count());
            let counted = record.on_beat(beat, rules, actions);
            let delay = record.delays.last().filter(|_| record.delays.sample_count() > before.1);
            (counted, before.0 != record.liveness, delay)
        };
        let Some((counted, changed, delay)) = self.table.update(place, act, |record| record.next_deadline(rules))
        else {
            return Err(RejectReason::Full);
        };
        self.counters.changes += u64::from(changed);
        delay.inspect(|delay| self.delays.observe(*delay));
        counted
    }

    /// Notices that this process itself did not run.
    fn detect_stall(&mut self, now: Moment, actions: &mut DatagramActions<WatcherEvent>) {
        let planned =
            self.table.next_deadline().map_or(self.next_stall_check, |timer| timer.min(self.next_stall_check));
        let gap = now - self.last_turn;
        self.last_turn = now;
        // What was read late because of the same stall is no further one.
        if now - planned > self.stall_threshold && gap > self.stall_threshold {
            self.config.awake_since = now;
            self.counters.stalls += 1;
            actions.emit(|| WatcherEvent::MonitorStall { gap });
            self.next_stall_check = now + STALL_CHECK_INTERVAL;
            let rules = &self.config;
            self.table.update_all(|record| record.exclude_pause(gap, now), |record| record.next_deadline(rules));
        }
    }

    fn reject(
        &mut self,
        reason: RejectReason,
        datagram: &Datagram<'_>,
        now: Moment,
        actions: &mut DatagramActions<WatcherEvent>,
    ) {
        self.counters.refused += 1;
        if let Some(count) = self.counters.by_reason.get_mut(reason as usize) {
            *count += 1;
        }
        // Copies under a key and rivals are counted with their sender; the rest is garbage.
        let count = self.last_reject_report.map_or(0, |(_, count)| count) + 1;
        let is_due = self.last_reject_report.is_none_or(|(told, _)| now - told >= REJECT_REPORT_INTERVAL);
        if is_due {
            actions.emit(|| WatcherEvent::Refused { peer: datagram.peer, reason, count });
        }
        let told = self.last_reject_report.map(|(told, _)| told).filter(|_| !is_due).unwrap_or(now);
        self.last_reject_report = Some((told, if is_due { 0 } else { count }));
    }
}

impl DatagramProtocol for Watcher {
    type Event = WatcherEvent;

    fn received(&mut self, datagram: &Datagram<'_>, now: Moment, actions: &mut DatagramActions<WatcherEvent>) {
        self.detect_stall(now, actions);
        if self.config.max_datagrams.is_some_and(|most| self.counters.received >= most) {
            return;
        }
        self.counters.received += 1;
        if let Err(reason) = self.handle_datagram(datagram, actions) {
            self.reject(reason, datagram, now, actions);
        }
    }

    fn transmitted(&mut self, _ticket: u64, _at: Moment) {}

    /// An echo that would not go is lost; its sender measures again.
    fn failed(&mut self, _failure: &TransmitError<'_>, _now: Moment, _post: &mut DatagramActions<WatcherEvent>) {}

    fn overflowed(&mut self, count: u64, _now: Moment, actions: &mut DatagramActions<WatcherEvent>) {
        self.counters.local_drops += count;
        actions.emit(|| WatcherEvent::LocalDrop { count });
    }

    fn woken(&mut self, now: Moment, actions: &mut DatagramActions<WatcherEvent>) {
        self.detect_stall(now, actions);
        self.next_stall_check = now + STALL_CHECK_INTERVAL;
        let rules = &self.config;
        while let Some(place) = self.table.pop_due(now) {
            let act = |record: &mut SenderState| {
                let before = record.liveness;
                let is_over = record.on_timeout(now, rules, actions);
                (is_over, before != record.liveness, Arc::clone(&record.name))
            };
            let Some((is_over, changed, name)) = self.table.update(place, act, |record| record.next_deadline(rules))
            else {
                continue;
            };
            self.counters.changes += u64::from(changed);
            if is_over {
                self.table.remove(place);
                actions.emit(|| WatcherEvent::Forgotten { name });
            }
        }
    }

    fn wake_at(&self) -> Option<Moment> {
        // Who watches nobody has nothing to be late for, but must know when it was last awake.
        Some(self.table.next_deadline().map_or(self.next_stall_check, |timer| timer.min(self.next_stall_check)))
    }
}

/// How many senders are in which state.
impl Watcher {
    /// In this one.
    pub(crate) fn count_in_state(&self, state: Liveness) -> usize {
        self.table.count_in_state(state)
    }

    /// In each.
    pub(crate) fn state_counts(&self) -> StateCounts {
        StateCounts {
            total: self.sender_count(),
            up: self.count_in_state(Liveness::Up),
            late: self.count_in_state(Liveness::Late),
            down: self.count_in_state(Liveness::Down),
            stopped: self.count_in_state(Liveness::Stopped),
            new: self.count_in_state(Liveness::New),
        }
    }

    /// In any.
    pub(crate) fn sender_count(&self) -> usize {
        self.table.len()
    }
}

#[cfg(test)]
mod tests;
