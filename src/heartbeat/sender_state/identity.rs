//! Whose beat it is.
//!
//! Owns which run of a sender is believed. Whoever can write to the watcher's port can write any name
//! and any number, so what a beat claims is held against what is known:
//!
//! ```text
//!   run        number                       address           is taken for
//!   the same   near, or as far as time goes  the same          the next beat
//!   the same   near                          another, silent   the next beat, moved (a key: at once)
//!   the same   near                          another, live     a conflict
//!   the same   elsewhere, once               the same          nothing
//!   the same   elsewhere, and going on       the same          numbers that begin anew
//!   another    any                           the same, silent  a restart
//!   another    any                           another, live     a conflict
//!   any        sent before the newest beat   any, with a key   a replay
//! ```

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::time::Duration;

use super::{ReceivedBeat, SenderState};
use crate::heartbeat::event::{Liveness, RejectReason, WatcherEvent};
use crate::heartbeat::watcher::WatcherConfig;
use crate::protocol::DatagramActions;
use crate::time::Moment;

/// A conflict is told once in so much time.
const CONFLICT_REPORT_INTERVAL: Duration = Duration::from_secs(60);
/// How far numbers may jump or fall and still be those of one count: what is remembered of it.
const SEQ_TOLERANCE: u64 = 256;

/// The run of a sender that is believed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Incarnation {
    pub peer: SocketAddr,
    pub id: u64,
    pub advertised_timing: Option<(Duration, u8)>,
    /// When it was last heard.
    pub last_received: Moment,
    /// From when on its silence counts: later than that, where we were deaf ourselves.
    pub silent_since: Moment,
    /// When its newest beat was sent, by its own clock.
    pub sent_at: Duration,
    /// Nobody watched since the beat with this number.
    pub restored_seq: Option<u64>,
    pub conflicting: Option<ConflictingSender>,
    /// A number that none of the others explains.
    pub outlier_seq: Option<NonZeroU64>,
}

/// Another run under the same name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConflictingSender {
    incarnation: u64,
    /// When it was replaced, or last told of.
    updated_at: Moment,
    is_reported: bool,
}

impl ConflictingSender {
    /// A run that another one replaced.
    pub(crate) fn replaced(incarnation: u64, at: Moment) -> Self {
        Self { incarnation, updated_at: at, is_reported: false }
    }
}

/// Whose beat it is.
pub(super) enum Identity {
    First,
    Same,
    Restarted,
    Conflict,
    Outlier,
    Rejected(RejectReason),
}

impl Incarnation {
    /// A run that nobody has watched since its beat `last`, which came at `heard`.
    pub(crate) fn from_snapshot(
        peer: SocketAddr,
        id: u64,
        advertised_timing: Option<(Duration, u8)>,
        last_received: Moment,
        sent_at: Duration,
        last_seq: u64,
    ) -> Self {
        let (unwatched, rival, astray) = (Some(last_seq), None, None);
        Self {
            peer,
            id,
            advertised_timing,
            last_received,
            silent_since: last_received,
            sent_at,
            restored_seq: unwatched,
            conflicting: rival,
            outlier_seq: astray,
        }
    }

    /// Whether so many beats can have been sent since the newest one that came.
    fn could_have_skipped(&self, skipped: u64, beat: &ReceivedBeat) -> bool {
        let interval = |promise: Option<(Duration, u8)>| promise.map(|(interval, _)| interval);
        let shortest = interval(self.advertised_timing)
            .into_iter()
            .chain(interval(beat.advertised_timing))
            .min()
            .unwrap_or_default();
        // Beats are at least 90 % of the interval apart.
        let least = (shortest / 10 * 9).as_nanos().max(1);
        u128::from(skipped) <= u128::from(SEQ_TOLERANCE) + (beat.received_at - self.last_received).as_nanos() / least
    }

    /// Whether a number goes on from the `highest` so far.
    fn check_sequence(&self, beat: &ReceivedBeat, highest: u64, is_live: bool, config: &WatcherConfig) -> Identity {
        let is_newer = beat.sent_at > self.sent_at;
        let is_near = match beat.seq.checked_sub(highest).filter(|ahead| *ahead > 0) {
            Some(ahead) => self.could_have_skipped(ahead, beat),
            // Jobs of cron have the time for their number, by a clock and an interval that may be set:
            // what is no number of a living one begins anew.
            None if beat.incarnation == 0 && !is_live && (is_newer || config.key.is_none()) => {
                return Identity::Restarted;
            }
            // What was sent before the newest beat is late, however late.
            None => highest - beat.seq < SEQ_TOLERANCE || !is_newer,
        };
        match is_near {
            true => Identity::Same,
            false if self.confirms_restart(beat.seq) && !beat.is_bye => Identity::Restarted,
            false => Identity::Outlier,
        }
    }

    /// Whether this is the second beat of a count that the newest does not belong to.
    fn confirms_restart(&self, seq: u64) -> bool {
        self.outlier_seq
            .and_then(|astray| seq.checked_sub(astray.get()))
            .is_some_and(|ahead| (1..=SEQ_TOLERANCE).contains(&ahead))
    }
}

impl SenderState {
    /// Holds a beat against what is known.
    pub(super) fn identify(&self, beat: &ReceivedBeat, config: &WatcherConfig) -> Identity {
        let Some(run) = &self.incarnation else { return Identity::First };
        // By its own clock, which a key vouches for.
        let is_newer = beat.sent_at > run.sent_at;
        let highest = self.loss.highest_seq().filter(|_| run.restored_seq.is_none());
        if beat.advertised_timing.is_none() {
            // A number that falls while the time rises is a program that was started again; one that
            // falls with the time came late.
            let falls = highest.is_some_and(|highest| beat.seq < highest);
            return if falls && is_newer { Identity::Restarted } else { Identity::Same };
        }
        if config.key.is_some() && !is_newer && beat.incarnation != run.id {
            // Its key vouches for it, but it may have been recorded long ago.
            return Identity::Rejected(RejectReason::Replayed);
        }
        let late = self.timeouts(config).late;
        let is_live =
            matches!(self.liveness, Liveness::Up | Liveness::Late) && beat.received_at - run.silent_since < late;
        if beat.incarnation != run.id {
            return match run.conflicting.filter(|rival| rival.incarnation == beat.incarnation) {
                // Its sender is the only one left.
                Some(_) if !is_live && !beat.is_bye => Identity::Restarted,
                // What was on the way when it was replaced.
                Some(rival) if !rival.is_reported && beat.received_at - rival.updated_at < late => {
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

    /// A number from nowhere: one of them is a forgery or damage, two that follow are a count.
    pub(super) fn on_outlier(&mut self, beat: &ReceivedBeat) -> Result<(), RejectReason> {
        if let Some(run) = self.incarnation.as_mut().filter(|_| !beat.is_bye) {
            run.outlier_seq = NonZeroU64::new(beat.seq);
        }
        Err(RejectReason::Stray)
    }

    /// Somebody else beats under this name.
    pub(super) fn on_conflict(
        &mut self,
        beat: &ReceivedBeat,
        actions: &mut DatagramActions<WatcherEvent>,
    ) -> Result<(), RejectReason> {
        let Some(run) = &mut self.incarnation else { return Ok(()) };
        let known = run.conflicting.filter(|rival| rival.incarnation == beat.incarnation);
        let mut rival = known.unwrap_or(ConflictingSender {
            incarnation: beat.incarnation,
            updated_at: beat.received_at,
            is_reported: false,
        });
        if !rival.is_reported || beat.received_at - rival.updated_at >= CONFLICT_REPORT_INTERVAL {
            (rival.updated_at, rival.is_reported) = (beat.received_at, true);
            actions.emit(|| WatcherEvent::Conflict { name: self.name.clone(), peer: beat.peer });
        }
        run.conflicting = Some(rival);
        Err(RejectReason::Conflict)
    }
}
