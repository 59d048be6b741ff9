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

use super::{Heard, Record};
use crate::conversation::DatagramActions;
use crate::heartbeat::fact::{Fact, Refusal, State};
use crate::heartbeat::rules::Rules;
use crate::time::Moment;

/// A conflict is told once in so much time.
const CONFLICT_EVERY: Duration = Duration::from_secs(60);
/// How far numbers may jump or fall and still be those of one count: what is remembered of it.
const NEAR: u64 = 256;

/// The run of a sender that is believed.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    pub peer: SocketAddr,
    pub incarnation: u64,
    pub promise: Option<(Duration, u8)>,
    /// When it was last heard.
    pub heard: Moment,
    /// From when on its silence counts: later than that, where we were deaf ourselves.
    pub silent_since: Moment,
    /// When its newest beat was sent, by its own clock.
    pub sent: Duration,
    /// Nobody watched since the beat with this number.
    pub unwatched: Option<u64>,
    pub rival: Option<Rival>,
    /// A number that none of the others explains.
    pub astray: Option<NonZeroU64>,
}

/// Another run under the same name.
#[derive(Clone, Copy, Debug)]
pub struct Rival {
    incarnation: u64,
    /// When it was replaced, or last told of.
    at: Moment,
    is_told: bool,
}

impl Rival {
    /// A run that another one replaced.
    pub fn replaced(incarnation: u64, at: Moment) -> Self {
        Self { incarnation, at, is_told: false }
    }
}

/// Whose beat it is.
pub enum Identity {
    First,
    Same,
    Restarted,
    Conflict,
    Astray,
    Not(Refusal),
}

impl Run {
    /// A run that nobody has watched since its beat `last`, which came at `heard`.
    pub fn restored(
        peer: SocketAddr,
        incarnation: u64,
        promise: Option<(Duration, u8)>,
        heard: Moment,
        sent: Duration,
        last: u64,
    ) -> Self {
        let (unwatched, rival, astray) = (Some(last), None, None);
        Self { peer, incarnation, promise, heard, silent_since: heard, sent, unwatched, rival, astray }
    }

    /// Whether so many beats can have been sent since the newest one that came.
    fn has_time_for(&self, skipped: u64, heard: &Heard) -> bool {
        let interval = |promise: Option<(Duration, u8)>| promise.map(|(interval, _)| interval);
        let shortest = interval(self.promise).into_iter().chain(interval(heard.promise)).min().unwrap_or_default();
        // Beats are at least 90 % of the interval apart.
        let least = (shortest / 10 * 9).as_nanos().max(1);
        u128::from(skipped) <= u128::from(NEAR) + (heard.at - self.heard).as_nanos() / least
    }

    /// Whether a number goes on from the `highest` so far.
    fn goes_on(&self, heard: &Heard, highest: u64, is_live: bool, rules: &Rules) -> Identity {
        let is_newer = heard.sent > self.sent;
        let is_near = match heard.seq.checked_sub(highest).filter(|ahead| *ahead > 0) {
            Some(ahead) => self.has_time_for(ahead, heard),
            // Jobs of cron have the time for their number, by a clock and an interval that may be set:
            // what is no number of a living one begins anew.
            None if heard.incarnation == 0 && !is_live && (is_newer || rules.key.is_none()) => {
                return Identity::Restarted;
            }
            // What was sent before the newest beat is late, however late.
            None => highest - heard.seq < NEAR || !is_newer,
        };
        match is_near {
            true => Identity::Same,
            false if self.is_second(heard.seq) && !heard.is_bye => Identity::Restarted,
            false => Identity::Astray,
        }
    }

    /// Whether this is the second beat of a count that the newest does not belong to.
    fn is_second(&self, number: u64) -> bool {
        self.astray.and_then(|astray| number.checked_sub(astray.get())).is_some_and(|ahead| (1..=NEAR).contains(&ahead))
    }
}

impl Record {
    /// Holds a beat against what is known.
    pub(super) fn identify(&self, heard: &Heard, rules: &Rules) -> Identity {
        let Some(run) = &self.run else { return Identity::First };
        // By its own clock, which a key vouches for.
        let is_newer = heard.sent > run.sent;
        let highest = self.gaps.highest().filter(|_| run.unwatched.is_none());
        if heard.promise.is_none() {
            // A number that falls while the time rises is a program that was started again; one that
            // falls with the time came late.
            let falls = highest.is_some_and(|highest| heard.seq < highest);
            return if falls && is_newer { Identity::Restarted } else { Identity::Same };
        }
        if rules.key.is_some() && !is_newer && heard.incarnation != run.incarnation {
            // Its key vouches for it, but it may have been recorded long ago.
            return Identity::Not(Refusal::Replayed);
        }
        let late = self.limits(rules).late;
        let is_live = matches!(self.state, State::Up | State::Late) && heard.at - run.silent_since < late;
        if heard.incarnation != run.incarnation {
            return match run.rival.filter(|rival| rival.incarnation == heard.incarnation) {
                // Its sender is the only one left.
                Some(_) if !is_live && !heard.is_bye => Identity::Restarted,
                // What was on the way when it was replaced.
                Some(rival) if !rival.is_told && heard.at - rival.at < late => Identity::Not(Refusal::Stray),
                Some(_) => Identity::Conflict,
                None if is_live && heard.peer.ip() != run.peer.ip() => Identity::Conflict,
                None => Identity::Restarted,
            };
        }
        if rules.key.is_some() && run.unwatched.is_some_and(|last| heard.seq <= last) {
            return Identity::Not(Refusal::Replayed);
        }
        if rules.key.is_none() && is_live && heard.peer.ip() != run.peer.ip() {
            return Identity::Conflict;
        }
        highest.map_or(Identity::Same, |highest| run.goes_on(heard, highest, is_live, rules))
    }

    /// A number from nowhere: one of them is a forgery or damage, two that follow are a count.
    pub(super) fn strayed(&mut self, heard: &Heard) -> Result<(), Refusal> {
        if let Some(run) = self.run.as_mut().filter(|_| !heard.is_bye) {
            run.astray = NonZeroU64::new(heard.seq);
        }
        Err(Refusal::Stray)
    }

    /// Somebody else beats under this name.
    pub(super) fn contradicted(&mut self, heard: &Heard, post: &mut DatagramActions<Fact>) -> Result<(), Refusal> {
        let Some(run) = &mut self.run else { return Ok(()) };
        let known = run.rival.filter(|rival| rival.incarnation == heard.incarnation);
        let mut rival = known.unwrap_or(Rival { incarnation: heard.incarnation, at: heard.at, is_told: false });
        if !rival.is_told || heard.at - rival.at >= CONFLICT_EVERY {
            (rival.at, rival.is_told) = (heard.at, true);
            post.emit(|| Fact::Conflict { name: self.name.clone(), peer: heard.peer });
        }
        run.rival = Some(rival);
        Err(Refusal::Conflict)
    }
}
