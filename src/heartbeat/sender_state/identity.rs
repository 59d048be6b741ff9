//! Identity check: which incarnation of a sender a beat belongs to.
//!
//! Any host that can reach the port can send any name and any sequence number, so each beat is compared with
//! the accepted incarnation:
//!
//! ```text
//!   incarnation  sequence number              source address     result
//!   same         near, or explained by time   same               next beat
//!   same         near                         other, old silent  next beat, moved (with a key: at once)
//!   same         near                         other, old up      conflict
//!   same         outlier, once                same               ignored
//!   same         outlier, confirmed           same               restart: numbers start over
//!   other        any                          same, or silent    restart
//!   other        any                          other, old up      conflict
//!   any          sent before the newest beat  any, with a key    replay
//! ```

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::time::Duration;

use super::{ReceivedBeat, SenderState};
use crate::heartbeat::event::{RejectReason, SenderStatus, WatcherEvent};
use crate::heartbeat::watcher_config::WatcherConfig;
use crate::protocol::DatagramActions;
use crate::time::Moment;

/// Minimum time between two reports of a conflict.
const CONFLICT_REPORT_INTERVAL: Duration = Duration::from_secs(60);
/// Maximum difference in either direction for two sequence numbers of one run: the size of the loss window.
const SEQ_TOLERANCE: u64 = 256;

/// Accepted incarnation of a sender.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Incarnation {
    pub peer: SocketAddr,
    pub id: u64,
    pub advertised_timing: Option<(Duration, u8)>,
    pub last_received: Moment,
    /// Start of the silence, not counting stalls of this process.
    pub silent_since: Moment,
    /// Time at which the newest beat was sent, by the sender's clock.
    pub sent_at: Duration,
    /// Last sequence number of a restored sender, until its next beat.
    pub restored_seq: Option<u64>,
    pub conflicting: Option<ConflictingSender>,
    /// Sequence number outside the tolerance, waiting for confirmation.
    pub outlier_seq: Option<NonZeroU64>,
}

/// Other incarnation under the same name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConflictingSender {
    incarnation: u64,
    /// Time at which the incarnation was replaced or last reported as conflicting.
    updated_at: Moment,
    is_reported: bool,
}

impl ConflictingSender {
    /// Creates the entry of an incarnation that was replaced at `at`.
    pub(crate) fn replaced(incarnation: u64, at: Moment) -> Self {
        Self { incarnation, updated_at: at, is_reported: false }
    }
}

/// Relation of a beat to the accepted incarnation.
pub(super) enum Identity {
    First,
    Same,
    Restarted,
    Conflict,
    Outlier,
    Rejected(RejectReason),
}

impl Incarnation {
    /// Restores an incarnation whose last beat known to the snapshot is `last_seq`.
    pub(crate) fn from_snapshot(
        peer: SocketAddr,
        id: u64,
        advertised_timing: Option<(Duration, u8)>,
        last_received: Moment,
        sent_at: Duration,
        last_seq: u64,
    ) -> Self {
        Self {
            peer,
            id,
            advertised_timing,
            last_received,
            silent_since: last_received,
            sent_at,
            restored_seq: Some(last_seq),
            conflicting: None,
            outlier_seq: None,
        }
    }

    /// Returns whether the sender had time for `skipped` beats since the newest received one.
    fn could_have_skipped(&self, skipped: u64, beat: &ReceivedBeat) -> bool {
        let interval = |timing: Option<(Duration, u8)>| timing.map(|(interval, _)| interval);
        let shortest = interval(self.advertised_timing)
            .into_iter()
            .chain(interval(beat.advertised_timing))
            .min()
            .unwrap_or_default();
        // Beats are at least 90 % of the interval apart.
        let least = (shortest / 10 * 9).as_nanos().max(1);
        u128::from(skipped) <= u128::from(SEQ_TOLERANCE) + (beat.received_at - self.last_received).as_nanos() / least
    }

    /// Checks whether a sequence number continues from the `highest` so far.
    fn check_sequence(&self, beat: &ReceivedBeat, highest: u64, is_live: bool, config: &WatcherConfig) -> Identity {
        let is_newer = beat.sent_at > self.sent_at;
        let is_near = match beat.seq.checked_sub(highest).filter(|ahead| *ahead > 0) {
            Some(ahead) => self.could_have_skipped(ahead, beat),
            // The numbers of cron jobs are wall time divided by the interval, and either may be changed: a
            // lower number after a silence is a restart.
            None if beat.incarnation == 0 && !is_live && (is_newer || config.key.is_none()) => {
                return Identity::Restarted;
            }
            // A beat sent before the newest one is late, however late.
            None => highest - beat.seq < SEQ_TOLERANCE || !is_newer,
        };
        match is_near {
            true => Identity::Same,
            false if self.confirms_restart(beat.seq) && !beat.is_bye => Identity::Restarted,
            false => Identity::Outlier,
        }
    }

    /// Returns whether this number continues from the outlier, which confirms that the numbers start over.
    fn confirms_restart(&self, seq: u64) -> bool {
        self.outlier_seq
            .and_then(|outlier| seq.checked_sub(outlier.get()))
            .is_some_and(|ahead| (1..=SEQ_TOLERANCE).contains(&ahead))
    }
}

impl SenderState {
    /// Compares a beat with the accepted incarnation.
    pub(super) fn identify(&self, beat: &ReceivedBeat, config: &WatcherConfig) -> Identity {
        let Some(run) = &self.incarnation else { return Identity::First };
        // By the sender's clock, which a key authenticates.
        let is_newer = beat.sent_at > run.sent_at;
        let highest = self.loss.highest_seq().filter(|_| run.restored_seq.is_none());
        if beat.advertised_timing.is_none() {
            // A lower number with a later time is a restart; a lower number with an earlier time is a late beat.
            let is_lower = highest.is_some_and(|highest| beat.seq < highest);
            return if is_lower && is_newer { Identity::Restarted } else { Identity::Same };
        }
        if config.key.is_some() && !is_newer && beat.incarnation != run.id {
            // Authentic, but possibly recorded long ago.
            return Identity::Rejected(RejectReason::Replayed);
        }
        let late = self.timeouts(config).late;
        let is_live = matches!(self.liveness, SenderStatus::Up | SenderStatus::Late)
            && beat.received_at - run.silent_since < late;
        if beat.incarnation != run.id {
            return match run.conflicting.filter(|other| other.incarnation == beat.incarnation) {
                // The accepted incarnation is silent, so the conflicting one replaces it.
                Some(_) if !is_live && !beat.is_bye => Identity::Restarted,
                // The beat was in flight when its incarnation was replaced.
                Some(other) if !other.is_reported && beat.received_at - other.updated_at < late => {
                    Identity::Rejected(RejectReason::Stray)
                }
                Some(_) => Identity::Conflict,
                None if is_live && beat.peer.ip() != run.peer.ip() => Identity::Conflict,
                None => Identity::Restarted,
            };
        }
        if config.key.is_some() && run.restored_seq.is_some_and(|last| beat.seq <= last) {
            return Identity::Rejected(RejectReason::Replayed);
        }
        if config.key.is_none() && is_live && beat.peer.ip() != run.peer.ip() {
            return Identity::Conflict;
        }
        highest.map_or(Identity::Same, |highest| run.check_sequence(beat, highest, is_live, config))
    }

    /// Records an outlier. A single outlier counts as forged or corrupted; a second number that continues from it
    /// confirms a restart.
    pub(super) fn on_outlier(&mut self, beat: &ReceivedBeat) -> Result<(), RejectReason> {
        if let Some(run) = self.incarnation.as_mut().filter(|_| !beat.is_bye) {
            run.outlier_seq = NonZeroU64::new(beat.seq);
        }
        Err(RejectReason::Stray)
    }

    /// Reports another sender under this name.
    pub(super) fn on_conflict(
        &mut self,
        beat: &ReceivedBeat,
        actions: &mut DatagramActions<WatcherEvent>,
    ) -> Result<(), RejectReason> {
        let Some(run) = &mut self.incarnation else { return Ok(()) };
        let known = run.conflicting.filter(|other| other.incarnation == beat.incarnation);
        let mut other = known.unwrap_or(ConflictingSender {
            incarnation: beat.incarnation,
            updated_at: beat.received_at,
            is_reported: false,
        });
        if !other.is_reported || beat.received_at - other.updated_at >= CONFLICT_REPORT_INTERVAL {
            (other.updated_at, other.is_reported) = (beat.received_at, true);
            actions.emit(|| WatcherEvent::Conflict { name: self.name.clone(), peer: beat.peer });
        }
        run.conflicting = Some(other);
        Err(RejectReason::Conflict)
    }
}
