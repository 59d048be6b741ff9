//! State of one sender: the transitions caused by beats and by silence.
//!
//! [`identity`] decides which incarnation a beat belongs to. The state has a fixed size.
//!
//! ```text
//!          rise beats              1.5 intervals          the deadline
//!   New ──────────────▶ Up ─────────────────────▶ Late ────────────────▶ Down
//!                       ▲ ◀──────── a beat ────────┘                      │
//!                       └───────────────── rise beats ────────────────────┘
//!   any state ── stop message ──▶ Stopped ── rise beats ──▶ Up;  New, expected ── expect_within ──▶ Down
//! ```

mod identity;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::delay::{DelayEstimator, DelaySample};
use super::event::{RejectReason, SenderStatus, WatcherEvent};
use super::failure_detector::{InterArrivalTimes, SilenceTimeouts};
use super::flap_damping::FlapDamping;
use super::loss::{BeatStatus, SequenceLoss};
use super::watcher_config::WatcherConfig;
use crate::protocol::DatagramActions;
use crate::time::Moment;
use identity::{ConflictingSender, Identity};

pub(super) use identity::Incarnation;

/// Interval assumed for a sender of textbook beats until it can be measured.
const DEFAULT_TEXTBOOK_INTERVAL: Duration = Duration::from_secs(10);
/// Smallest measured interval accepted for a sender of textbook beats.
const MIN_TEXTBOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Maximum number of beats before the first received one that are counted as lost.
const MAX_INITIAL_LOSS: u64 = 65_536;

/// Received beat or stop message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReceivedBeat {
    pub peer: SocketAddr,
    /// Kernel timestamp.
    pub received_at: Moment,
    pub incarnation: u64,
    pub seq: u64,
    /// Time of sending by the sender's clock.
    pub sent_at: Duration,
    /// Interval and multiplier; absent in a textbook beat.
    pub advertised_timing: Option<(Duration, u8)>,
    pub is_bye: bool,
    pub exit_code: Option<u8>,
}

/// State and history of one sender.
#[derive(Clone, Debug)]
pub(crate) struct SenderState {
    /// Name, or the address of a sender of textbook beats.
    pub name: Arc<str>,
    pub is_textbook: bool,
    /// Whether `--expect` names this sender.
    pub is_expected: bool,
    pub liveness: SenderStatus,
    pub since: Moment,
    pub incarnation: Option<Incarnation>,
    pub loss: SequenceLoss,
    pub arrivals: Arrivals,
    pub reporting: Reporting,
    pub restarts: u32,
    pub exit_code: Option<u8>,
    pub timer: ArmedTimer,
}

/// Times of the beats received in the current incarnation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Arrivals {
    pub delays: DelayEstimator,
    intervals: InterArrivalTimes,
}

/// Last report about a sender, and the conditions of the next one.
#[derive(Clone, Debug)]
pub(crate) struct Reporting {
    /// Last reported state; differs from the true one while the sender is flapping.
    state: SenderStatus,
    pub flap_damping: FlapDamping,
    /// Consecutive beats since the sender was last down.
    consecutive_beats: u32,
}

/// Timer of a sender in the sender table.
#[derive(Clone, Debug, Default)]
pub(crate) struct ArmedTimer {
    pub deadline: Option<Moment>,
    /// Distinguishes the timer from those of an earlier sender in the same slot.
    pub generation: u32,
}

impl Reporting {
    fn new(state: SenderStatus) -> Self {
        Self { state, flap_damping: FlapDamping::default(), consecutive_beats: 0 }
    }
}

impl SenderState {
    /// Creates a sender without any beat.
    pub(crate) fn new(name: Arc<str>, is_expected: bool, now: Moment) -> Self {
        Self {
            name,
            is_textbook: false,
            is_expected,
            liveness: SenderStatus::New,
            since: now,
            incarnation: None,
            loss: SequenceLoss::default(),
            arrivals: Arrivals::default(),
            reporting: Reporting::new(SenderStatus::New),
            restarts: 0,
            exit_code: None,
            timer: ArmedTimer::default(),
        }
    }

    /// Restores a sender from a snapshot; its deadlines start again from `now`.
    pub(crate) fn from_snapshot(
        name: Arc<str>,
        liveness: SenderStatus,
        since: Moment,
        loss: SequenceLoss,
        incarnation: Incarnation,
        now: Moment,
    ) -> Self {
        let state = if liveness == SenderStatus::Late { SenderStatus::Up } else { liveness };
        let run = Incarnation { silent_since: now, ..incarnation };
        Self {
            liveness: state,
            reporting: Reporting::new(state),
            since,
            loss,
            incarnation: Some(run),
            ..Self::new(name, false, now)
        }
    }

    /// Marks a sender without any beat as down since `since`, without an event.
    pub(crate) fn restore_missing(&mut self, since: Moment) {
        if self.incarnation.is_none() {
            (self.liveness, self.reporting.state, self.since) = (SenderStatus::Down, SenderStatus::Down, since);
        }
    }

    /// Processes a beat or a stop message, or returns the reason for ignoring it.
    pub(crate) fn on_beat(
        &mut self,
        beat: &ReceivedBeat,
        config: &WatcherConfig,
        actions: &mut DatagramActions<WatcherEvent>,
    ) -> Result<(), RejectReason> {
        let status = match self.identify(beat, config) {
            Identity::Rejected(reason) => return Err(reason),
            Identity::Conflict => return self.on_conflict(beat, actions),
            Identity::Outlier => return self.on_outlier(beat),
            Identity::First | Identity::Restarted if beat.is_bye => return Err(RejectReason::Stray),
            Identity::Same if beat.is_bye => {
                self.on_bye(beat, config, actions);
                return Ok(());
            }
            Identity::First => self.start_incarnation(beat, config.started_at, None),
            Identity::Restarted => self.restart(beat, actions),
            Identity::Same => self.count_beat(beat),
        };
        match status {
            BeatStatus::Ahead(skipped) => {
                if skipped > 0 {
                    let (name, first_seq) = (&self.name, beat.seq - skipped);
                    actions.emit(|| WatcherEvent::Lost { name: Arc::clone(name), first_seq, count: skipped });
                }
                self.on_new_beat(beat, skipped + 1, config, actions);
                Ok(())
            }
            BeatStatus::Recovered => {
                actions.emit(|| WatcherEvent::Late { name: Arc::clone(&self.name), seq: beat.seq });
                Ok(())
            }
            BeatStatus::Duplicate | BeatStatus::TooLate if config.key.is_some() => Err(RejectReason::Replayed),
            BeatStatus::Duplicate | BeatStatus::TooLate => Ok(()),
        }
    }

    /// Starts an incarnation. Beats sent after `since` but before the first received one are lost.
    fn start_incarnation(
        &mut self,
        beat: &ReceivedBeat,
        since: Moment,
        conflicting: Option<ConflictingSender>,
    ) -> BeatStatus {
        let before = beat.seq.saturating_sub(1);
        // Beats are at least 90 % of the interval apart.
        let least_time = |(interval, _): (Duration, u8)| {
            (interval / 10 * 9).saturating_mul(u32::try_from(before).unwrap_or(u32::MAX))
        };
        let least_time = beat.advertised_timing.map(least_time);
        let was_sent_to_us =
            least_time.is_some_and(|time| time <= beat.received_at - since) && before <= MAX_INITIAL_LOSS;
        let first = if was_sent_to_us { 1 } else { beat.seq };
        self.arrivals = Arrivals::default();
        self.incarnation = Some(Incarnation {
            peer: beat.peer,
            id: beat.incarnation,
            advertised_timing: beat.advertised_timing,
            last_received: beat.received_at,
            silent_since: beat.received_at,
            sent_at: beat.sent_at,
            restored_seq: None,
            conflicting,
            outlier_seq: None,
        });
        self.loss.restart(beat.seq, first)
    }

    fn restart(&mut self, beat: &ReceivedBeat, actions: &mut DatagramActions<WatcherEvent>) -> BeatStatus {
        let Some(old) = self.incarnation else { return self.start_incarnation(beat, beat.received_at, None) };
        self.restarts += 1;
        self.reporting.consecutive_beats = 0;
        actions.emit(|| WatcherEvent::Restarted { name: Arc::clone(&self.name), peer: beat.peer });
        if old.id == beat.incarnation && beat.advertised_timing.is_some() {
            // The sequence numbers start over, so a loss cannot be derived from the old ones.
            return self.start_incarnation(beat, beat.received_at, old.conflicting);
        }
        self.start_incarnation(
            beat,
            old.last_received,
            beat.advertised_timing.map(|_| ConflictingSender::replaced(old.id, beat.received_at)),
        )
    }

    fn count_beat(&mut self, beat: &ReceivedBeat) -> BeatStatus {
        let restored_seq = self.incarnation.as_mut().and_then(|run| run.restored_seq.take());
        if restored_seq.is_some() { self.loss.restart(beat.seq, beat.seq) } else { self.loss.record(beat.seq) }
    }

    fn on_bye(&mut self, beat: &ReceivedBeat, config: &WatcherConfig, actions: &mut DatagramActions<WatcherEvent>) {
        // Three copies are sent, because one may get lost.
        if self.liveness == SenderStatus::Stopped {
            return;
        }
        let (count, first_seq) = self.loss.finish(beat.seq);
        if count > 0 {
            actions.emit(|| WatcherEvent::Lost { name: Arc::clone(&self.name), first_seq, count });
        }
        self.exit_code = beat.exit_code;
        self.reporting.consecutive_beats = 0;
        self.set_liveness(SenderStatus::Stopped, beat.received_at, config, actions);
    }

    /// Processes a beat that is newer than all others by `seq_distance`.
    fn on_new_beat(
        &mut self,
        beat: &ReceivedBeat,
        seq_distance: u64,
        config: &WatcherConfig,
        actions: &mut DatagramActions<WatcherEvent>,
    ) {
        let Some(run) = &mut self.incarnation else { return };
        let elapsed = beat.received_at - run.last_received;
        if !elapsed.is_zero() {
            self.arrivals.intervals.push(elapsed, seq_distance);
        }
        if run.peer != beat.peer {
            let (from, to) = (run.peer, beat.peer);
            run.peer = to;
            // Each run of a cron job (incarnation 0) has another source port.
            if from.ip() != to.ip() || beat.incarnation != 0 {
                actions.emit(|| WatcherEvent::Moved { name: Arc::clone(&self.name), from, to });
            }
        }
        run.outlier_seq = None;
        (run.last_received, run.silent_since) = (beat.received_at, beat.received_at.max(config.resumed_at));
        (run.sent_at, run.advertised_timing) = (beat.sent_at, beat.advertised_timing);
        let sample = self.arrivals.delays.push(beat.received_at.since_start(), beat.sent_at);
        if let DelaySample::ClockStep(step_ns) = sample {
            actions.emit(|| WatcherEvent::ClockStep { name: Arc::clone(&self.name), step_ns });
        }
        actions.emit(|| {
            let delay = if let DelaySample::AboveMinimum(delay) = sample { Some(delay) } else { None };
            WatcherEvent::Beat { name: Arc::clone(&self.name), seq: beat.seq, delay }
        });
        self.reporting.consecutive_beats = self.reporting.consecutive_beats.saturating_add(1);
        let is_down = matches!(self.liveness, SenderStatus::New | SenderStatus::Down | SenderStatus::Stopped);
        if !is_down || self.reporting.consecutive_beats >= config.failure_detector.rise {
            self.set_liveness(SenderStatus::Up, beat.received_at, config, actions);
        }
    }

    fn set_liveness(
        &mut self,
        to: SenderStatus,
        now: Moment,
        config: &WatcherConfig,
        actions: &mut DatagramActions<WatcherEvent>,
    ) {
        if self.liveness == to {
            return;
        }
        let was_flapping = self.reporting.flap_damping.is_flapping();
        let before = now - self.since;
        self.since = now;
        self.liveness = to;
        if to != SenderStatus::Stopped {
            self.exit_code = None;
        }
        if !was_flapping {
            self.emit_state(before, now, actions);
        }
        if to == SenderStatus::Down {
            self.reporting.consecutive_beats = 0;
            if self.reporting.flap_damping.record_failure(now, config.flap_half_life) {
                actions.emit(|| WatcherEvent::Flapping { name: Arc::clone(&self.name), flapping: true });
            }
        }
    }

    fn emit_state(&mut self, previous_duration: Duration, now: Moment, actions: &mut DatagramActions<WatcherEvent>) {
        let from = std::mem::replace(&mut self.reporting.state, self.liveness);
        let silent = self.incarnation.map(|run| now - run.last_received);
        actions.emit(|| WatcherEvent::State {
            name: Arc::clone(&self.name),
            from,
            to: self.liveness,
            peer: self.incarnation.map(|run| run.peer),
            silent,
            before: previous_duration,
            exit: self.exit_code,
        });
    }

    /// Returns the silence timeouts of this sender.
    pub(crate) fn timeouts(&self, config: &WatcherConfig) -> SilenceTimeouts {
        let timing = self.incarnation.and_then(|run| run.advertised_timing);
        let (interval, multiplier) = timing.unwrap_or_else(|| match self.arrivals.intervals.mean() {
            Some(mean) => (mean.max(MIN_TEXTBOOK_INTERVAL), 3),
            None => (DEFAULT_TEXTBOOK_INTERVAL, 1),
        });
        config.failure_detector.timeouts(interval, multiplier)
    }

    /// Returns the time of the next action unless a beat arrives first.
    pub(crate) fn next_deadline(&self, config: &WatcherConfig) -> Option<Moment> {
        let timeouts = self.timeouts(config);
        let silent_since = self.incarnation.map(|run| run.silent_since);
        let by_state = match (self.liveness, silent_since) {
            (SenderStatus::New, None) => self.is_expected.then(|| self.since + config.expect_within),
            (SenderStatus::Up, Some(since)) => Some(since + timeouts.late),
            (SenderStatus::New | SenderStatus::Late, Some(since)) => Some(since + timeouts.down),
            _ => (!self.is_expected).then(|| self.since + config.forget_after),
        };
        [by_state, self.reporting.flap_damping.reuse_at(config.flap_half_life)].into_iter().flatten().min()
    }

    /// Performs all due actions and returns whether the sender is to be removed.
    pub(crate) fn on_timeout(
        &mut self,
        now: Moment,
        config: &WatcherConfig,
        actions: &mut DatagramActions<WatcherEvent>,
    ) -> bool {
        if self.reporting.flap_damping.reuse_if_due(now, config.flap_half_life) {
            actions.emit(|| WatcherEvent::Flapping { name: Arc::clone(&self.name), flapping: false });
            if self.reporting.state != self.liveness {
                self.emit_state(now - self.since, now, actions);
            }
        }
        while self.next_deadline(config).is_some_and(|due| due <= now) {
            let timeouts = self.timeouts(config);
            match self.liveness {
                SenderStatus::Up if timeouts.late < timeouts.down => {
                    self.set_liveness(SenderStatus::Late, now, config, actions);
                }
                SenderStatus::Up | SenderStatus::Late | SenderStatus::New => {
                    self.set_liveness(SenderStatus::Down, now, config, actions);
                }
                SenderStatus::Down | SenderStatus::Stopped => return true,
            }
        }
        false
    }

    /// Excludes a stall of the watcher process from the silence of the sender.
    pub(crate) fn exclude_pause(&mut self, gap: Duration, now: Moment) {
        match &mut self.incarnation {
            Some(run) => run.silent_since = (run.silent_since + gap).min(now),
            None => self.since = (self.since + gap).min(now),
        }
    }
}

#[cfg(test)]
mod tests;
