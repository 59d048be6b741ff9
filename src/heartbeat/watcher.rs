//! Heartbeat watcher: assigns each beat to its sender and reports senders that are silent for too long.
//!
//! Owns all senders and the settings that apply to them. A [`DatagramProtocol`] for all peers at once; it must
//! not know sockets.
//!
//! ```text
//!   datagram ─▶ parse ─▶ authenticate ─▶ find the sender ─▶ update incarnation, loss, delay, state ─▶ events
//!   timer    ─▶ detect a stall of this process ─▶ update the state: late, down, forgotten ──────────▶ events
//! ```

use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::event::{RejectReason, SenderStatus, WatcherEvent};
use super::histogram::Histogram;
use super::packet::{BeatPacket, Packet, PacketError, PacketKind, make_echo};
use super::report::StateCounts;
use super::sender_state::{ReceivedBeat, SenderState};
use super::sender_table::{SenderKey, SenderTable};
use super::watcher_config::WatcherConfig;
use crate::protocol::{Datagram, DatagramActions, DatagramProtocol, Transmit, TransmitError, datagram_excerpt};
use crate::time::Moment;

/// Interval at which a watcher checks whether this process was suspended.
const STALL_CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// Default delay of a timer above which this process counts as stalled.
const DEFAULT_STALL_THRESHOLD: Duration = Duration::from_millis(100);
/// Minimum of the stall threshold, which otherwise follows the shortest announced interval; a busy machine delays
/// timers by this much.
const MIN_STALL_THRESHOLD: Duration = Duration::from_millis(10);
/// Minimum time between two reports of rejected datagrams.
const REJECT_REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Counters of all datagrams.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema, Serialize)]
pub(crate) struct WatcherCounters {
    /// Datagrams received.
    pub received: u64,
    /// Echoes sent.
    pub echoes: u64,
    /// Datagrams rejected.
    pub rejected: u64,
    /// Datagrams rejected, by reason.
    #[serde(skip)]
    pub by_reason: [u64; RejectReason::ALL.len()],
    /// Datagrams dropped because the receive buffer was full.
    pub local_drops: u64,
    /// Number of stalls of this process.
    pub stalls: u64,
    /// State changes of all senders.
    pub changes: u64,
}

/// Watcher of all senders.
pub(crate) struct Watcher {
    config: WatcherConfig,
    table: SenderTable,
    counters: WatcherCounters,
    delays: Histogram,
    last_turn: Moment,
    next_stall_check: Moment,
    last_reject_report: Option<(Moment, u64)>,
    /// Delay of a timer from which this process counts as stalled.
    stall_threshold: Duration,
}

impl Watcher {
    /// Creates a watcher that waits for the `expected` senders.
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
        let key = SenderKey::Named(Arc::clone(name));
        let known = self.table.find(&key);
        let slot = known.or_else(|| self.table.insert(key, SenderState::new(Arc::clone(name), true, now), None).ok());
        let config = &self.config;
        slot.map(|slot| {
            self.table.update(slot, |record| record.is_expected = true, |record| record.next_deadline(config))
        });
    }

    /// Restores a sender that an earlier watcher reported as down without ever receiving a beat, if it is still
    /// expected.
    pub(crate) fn restore_missing(&mut self, name: &Arc<str>, since: Moment) {
        let config = &self.config;
        if let Some(slot) = self.table.find(&SenderKey::Named(Arc::clone(name))) {
            self.table.update(slot, |record| record.restore_missing(since), |record| record.next_deadline(config));
        }
    }

    /// Restores a sender from a snapshot and returns whether the table had space for it.
    pub(crate) fn restore(&mut self, mut sender: SenderState) -> bool {
        let key = SenderKey::of(&sender);
        let peer = sender.incarnation.map(|run| run.peer);
        if let Some(slot) = self.table.find(&key) {
            sender.is_expected = self.table.get(slot).is_some_and(|known| known.is_expected);
            self.table.remove(slot);
        }
        let config = &self.config;
        let inserted = self.table.insert(key, sender, peer).ok();
        inserted.and_then(|slot| self.table.update(slot, |_| (), |record| record.next_deadline(config))).is_some()
    }

    pub(crate) fn sender_table(&self) -> &SenderTable {
        &self.table
    }

    pub(crate) fn counters(&self) -> &WatcherCounters {
        &self.counters
    }

    /// Returns the delays of all beats, each above the minimum of its sender.
    pub(crate) fn delays(&self) -> &Histogram {
        &self.delays
    }

    /// Processes a datagram, or returns the reason for rejecting it.
    fn handle_datagram(
        &mut self,
        datagram: &Datagram<'_>,
        actions: &mut DatagramActions<WatcherEvent>,
    ) -> Result<(), RejectReason> {
        if datagram.truncated {
            return Err(RejectReason::Oversize);
        }
        let packet = Packet::parse(datagram.bytes, self.config.key.as_ref()).map_err(|error| match error {
            PacketError::Malformed => RejectReason::Malformed,
            PacketError::Unauthentic => RejectReason::Unauthentic,
        })?;
        let (peer, at) = (datagram.peer, datagram.received_at);
        match packet {
            Packet::Beat(BeatPacket { kind: PacketKind::Echo, .. }) => Err(RejectReason::Stray),
            Packet::Beat(beat) => {
                let received = ReceivedBeat {
                    peer,
                    received_at: at,
                    incarnation: beat.incarnation,
                    seq: beat.seq,
                    sent_at: beat.sent_at,
                    advertised_timing: Some((beat.interval, beat.multiplier)),
                    is_bye: beat.kind == PacketKind::Bye,
                    exit_code: beat.exit_code,
                };
                self.count_beat(SenderKey::Named(beat.name.into()), &received, actions)?;
                self.stall_threshold = self.stall_threshold.min(beat.interval.max(MIN_STALL_THRESHOLD));
                if beat.requests_echo {
                    self.counters.echoes += 1;
                    let key = self.config.key.as_ref();
                    actions.send(Transmit::reply(datagram, received.seq), |out| {
                        let start = out.len();
                        out.extend_from_slice(datagram.bytes);
                        make_echo(out.get_mut(start..).unwrap_or_default(), key);
                    });
                }
                Ok(())
            }
            Packet::Textbook { seq, sent_at } => {
                let received = ReceivedBeat {
                    peer,
                    received_at: at,
                    incarnation: 0,
                    seq,
                    sent_at,
                    advertised_timing: None,
                    is_bye: false,
                    exit_code: None,
                };
                self.count_beat(SenderKey::Address(peer), &received, actions)
            }
        }
    }

    fn count_beat(
        &mut self,
        key: SenderKey,
        beat: &ReceivedBeat,
        actions: &mut DatagramActions<WatcherEvent>,
    ) -> Result<(), RejectReason> {
        let slot = match self.table.find(&key) {
            Some(slot) => slot,
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
        let config = &self.config;
        let act = |record: &mut SenderState| {
            let before = (record.liveness, record.arrivals.delays.sample_count());
            let counted = record.on_beat(beat, config, actions);
            let delay = record.arrivals.delays.last().filter(|_| record.arrivals.delays.sample_count() > before.1);
            (counted, before.0 != record.liveness, delay)
        };
        let Some((counted, changed, delay)) = self.table.update(slot, act, |record| record.next_deadline(config))
        else {
            return Err(RejectReason::Full);
        };
        self.counters.changes += u64::from(changed);
        delay.inspect(|delay| self.delays.observe(*delay));
        counted
    }

    /// Detects that this process did not run, and extends all deadlines by the gap.
    fn detect_stall(&mut self, now: Moment, actions: &mut DatagramActions<WatcherEvent>) {
        let planned =
            self.table.next_deadline().map_or(self.next_stall_check, |timer| timer.min(self.next_stall_check));
        let gap = now - self.last_turn;
        self.last_turn = now;
        // Datagrams and timers served late because of a stall do not count as another stall.
        if now - planned > self.stall_threshold && gap > self.stall_threshold {
            self.config.resumed_at = now;
            self.counters.stalls += 1;
            actions.emit(|| WatcherEvent::MonitorStall { gap });
            self.next_stall_check = now + STALL_CHECK_INTERVAL;
            let config = &self.config;
            self.table.update_all(|record| record.exclude_pause(gap, now), |record| record.next_deadline(config));
        }
    }

    fn reject(
        &mut self,
        reason: RejectReason,
        datagram: &Datagram<'_>,
        now: Moment,
        actions: &mut DatagramActions<WatcherEvent>,
    ) {
        self.counters.rejected += 1;
        if let Some(count) = self.counters.by_reason.get_mut(reason as usize) {
            *count += 1;
        }
        let count = self.last_reject_report.map_or(0, |(_, count)| count) + 1;
        let is_due = self.last_reject_report.is_none_or(|(reported_at, _)| now - reported_at >= REJECT_REPORT_INTERVAL);
        if is_due {
            let got = datagram_excerpt(datagram.bytes);
            actions.emit(|| WatcherEvent::Rejected { peer: datagram.peer, reason, got, count });
        }
        let reported_at = self.last_reject_report.map(|(at, _)| at).filter(|_| !is_due).unwrap_or(now);
        self.last_reject_report = Some((reported_at, if is_due { 0 } else { count }));
    }
}

impl DatagramProtocol for Watcher {
    type Event = WatcherEvent;

    fn received(&mut self, datagram: &Datagram<'_>, now: Moment, actions: &mut DatagramActions<WatcherEvent>) {
        self.detect_stall(now, actions);
        if self.config.max_datagrams.is_some_and(|max| self.counters.received >= max) {
            return;
        }
        self.counters.received += 1;
        if let Err(reason) = self.handle_datagram(datagram, actions) {
            self.reject(reason, datagram, now, actions);
        }
    }

    fn transmitted(&mut self, _ticket: u64, _at: Moment) {}

    /// Ignores the error: the echo is lost, and the sender measures with its next beat.
    fn failed(&mut self, _error: &TransmitError<'_>, _now: Moment, _actions: &mut DatagramActions<WatcherEvent>) {}

    fn overflowed(&mut self, count: u64, _now: Moment, actions: &mut DatagramActions<WatcherEvent>) {
        self.counters.local_drops += count;
        actions.emit(|| WatcherEvent::LocalDrop { count });
    }

    fn woken(&mut self, now: Moment, actions: &mut DatagramActions<WatcherEvent>) {
        self.detect_stall(now, actions);
        self.next_stall_check = now + STALL_CHECK_INTERVAL;
        let config = &self.config;
        while let Some(slot) = self.table.pop_due(now) {
            let act = |record: &mut SenderState| {
                let before = record.liveness;
                let is_over = record.on_timeout(now, config, actions);
                (is_over, before != record.liveness, Arc::clone(&record.name))
            };
            let Some((is_over, changed, name)) = self.table.update(slot, act, |record| record.next_deadline(config))
            else {
                continue;
            };
            self.counters.changes += u64::from(changed);
            if is_over {
                self.table.remove(slot);
                actions.emit(|| WatcherEvent::Forgotten { name });
            }
        }
    }

    fn wake_at(&self) -> Option<Moment> {
        // Without senders the timer still fires, to detect that this process was suspended.
        Some(self.table.next_deadline().map_or(self.next_stall_check, |timer| timer.min(self.next_stall_check)))
    }
}

impl Watcher {
    pub(crate) fn count_in_state(&self, state: SenderStatus) -> usize {
        self.table.count_in_state(state)
    }

    pub(crate) fn state_counts(&self) -> StateCounts {
        StateCounts {
            total: self.sender_count(),
            up: self.count_in_state(SenderStatus::Up),
            late: self.count_in_state(SenderStatus::Late),
            down: self.count_in_state(SenderStatus::Down),
            stopped: self.count_in_state(SenderStatus::Stopped),
            new: self.count_in_state(SenderStatus::New),
        }
    }

    pub(crate) fn sender_count(&self) -> usize {
        self.table.len()
    }
}

#[cfg(test)]
mod tests;
