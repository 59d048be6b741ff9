//! What is known of one sender.
//!
//! Owns a sender's life: what a beat or a silence makes of its state. [`whose`] says which run of it is
//! believed. It has a fixed size.
//!
//! ```text
//!          rise beats              1.5 intervals          the deadline
//!   New ──────────────▶ Up ─────────────────────▶ Late ────────────────▶ Down
//!    ▲                  ▲ ◀──────── a beat ────────┘                      │
//!    │ expected         └───────────────── rise beats ────────────────────┤
//!                                                   Stopped ◀── goodbye ──┘ (from any)
//! ```

mod whose;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::delay::{Delays, Sample};
use super::detect::{Arrivals, Limits};
use super::fact::{Fact, Refusal, State};
use super::flap::Flap;
use super::gaps::{Gaps, Place};
use super::rules::Rules;
use crate::conversation::DatagramActions;
use crate::time::Moment;
use whose::{Identity, Rival};

pub use whose::Run;

/// What a textbook's sender may be silent for before its rhythm is known.
const UNKNOWN_RHYTHM: Duration = Duration::from_secs(10);
/// The least rhythm that is believed of it.
const LEAST_RHYTHM: Duration = Duration::from_millis(100);
/// The most beats before the first one heard that are taken for lost.
const MOST_BEFORE: u64 = 65_536;

/// A beat or a goodbye, as it was heard.
#[derive(Clone, Copy, Debug)]
pub struct Heard {
    pub peer: SocketAddr,
    /// When the kernel received it.
    pub at: Moment,
    pub incarnation: u64,
    pub seq: u64,
    /// By the sender's clock.
    pub sent: Duration,
    /// Interval and multiplier; the textbook's beat has none.
    pub promise: Option<(Duration, u8)>,
    pub is_bye: bool,
    pub exit: Option<u8>,
}

/// A sender.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its name, or its address if it sends the textbook's beats.
    pub name: Arc<str>,
    pub is_textbook: bool,
    /// Whether it is missed if it is never heard.
    pub is_expected: bool,
    pub state: State,
    /// What was told last, which differs while it flaps.
    told: State,
    pub since: Moment,
    pub run: Option<Run>,
    pub gaps: Gaps,
    pub delays: Delays,
    arrivals: Arrivals,
    pub flap: Flap,
    /// Beats in a row since it was last down.
    streak: u32,
    pub restarts: u32,
    pub exit: Option<u8>,
    /// When a timer of it is due, and which of its timers count.
    pub armed: Option<Moment>,
    pub generation: u32,
}

impl Record {
    /// A sender that was not heard yet.
    pub fn new(name: Arc<str>, is_expected: bool, now: Moment) -> Self {
        Self {
            name,
            is_textbook: false,
            is_expected,
            state: State::New,
            told: State::New,
            since: now,
            run: None,
            gaps: Gaps::default(),
            delays: Delays::default(),
            arrivals: Arrivals::default(),
            flap: Flap::default(),
            streak: 0,
            restarts: 0,
            exit: None,
            armed: None,
            generation: 0,
        }
    }

    /// A sender as it was when an earlier watcher knew it; it has all its patience again.
    pub fn restored(name: Arc<str>, state: State, since: Moment, gaps: Gaps, run: Run, now: Moment) -> Self {
        let state = if state == State::Late { State::Up } else { state };
        let run = Run { silent_since: now, ..run };
        Self { state, told: state, since, gaps, run: Some(run), ..Self::new(name, false, now) }
    }

    /// An earlier watcher has missed it since then; nothing new is to be told.
    pub fn is_missed_since(&mut self, since: Moment) {
        if self.run.is_none() {
            (self.state, self.told, self.since) = (State::Down, State::Down, since);
        }
    }

    /// Hears a beat or a goodbye, and says why it counts for nothing if it does not.
    pub fn hear(&mut self, heard: &Heard, rules: &Rules, post: &mut DatagramActions<Fact>) -> Result<(), Refusal> {
        let place = match self.identify(heard, rules) {
            Identity::Not(refusal) => return Err(refusal),
            Identity::Conflict => return self.contradicted(heard, post),
            Identity::Astray => return self.strayed(heard),
            Identity::First | Identity::Restarted if heard.is_bye => return Err(Refusal::Stray),
            Identity::Same if heard.is_bye => {
                self.said_goodbye(heard, rules, post);
                return Ok(());
            }
            Identity::First => self.begin(heard, rules.started, None),
            Identity::Restarted => self.restart(heard, post),
            Identity::Same => self.count(heard),
        };
        match place {
            Place::Ahead(skipped) => {
                if skipped > 0 {
                    let (name, first_seq) = (&self.name, heard.seq - skipped);
                    post.emit(|| Fact::Lost { name: Arc::clone(name), first_seq, count: skipped });
                }
                self.lives(heard, skipped + 1, rules, post);
                Ok(())
            }
            Place::TakenBack => {
                post.emit(|| Fact::Late { name: Arc::clone(&self.name), seq: heard.seq });
                Ok(())
            }
            Place::Copy | Place::TooLate if rules.key.is_some() => Err(Refusal::Replayed),
            Place::Copy | Place::TooLate => Ok(()),
        }
    }

    /// Begins a run. What it sent before the first beat that came, but after `since`, is lost.
    fn begin(&mut self, heard: &Heard, since: Moment, rival: Option<Rival>) -> Place {
        let before = heard.seq.saturating_sub(1);
        // Beats are at least 90 % of the interval apart.
        let least = |(interval, _): (Duration, u8)| {
            (interval / 10 * 9).saturating_mul(u32::try_from(before).unwrap_or(u32::MAX))
        };
        let spent = heard.promise.map(least);
        let was_sent_to_us = spent.is_some_and(|spent| spent <= heard.at - since) && before <= MOST_BEFORE;
        let first = if was_sent_to_us { 1 } else { heard.seq };
        (self.delays, self.arrivals) = (Delays::default(), Arrivals::default());
        self.run = Some(Run {
            peer: heard.peer,
            incarnation: heard.incarnation,
            promise: heard.promise,
            heard: heard.at,
            silent_since: heard.at,
            sent: heard.sent,
            unwatched: None,
            rival,
            astray: None,
        });
        self.gaps.begin(heard.seq, first)
    }

    fn restart(&mut self, heard: &Heard, post: &mut DatagramActions<Fact>) -> Place {
        let Some(old) = self.run else { return self.begin(heard, heard.at, None) };
        self.restarts += 1;
        self.streak = 0;
        post.emit(|| Fact::Restarted { name: Arc::clone(&self.name), peer: heard.peer });
        if old.incarnation == heard.incarnation && heard.promise.is_some() {
            // Its numbers begin anew; what they were before says nothing of what got lost.
            return self.begin(heard, heard.at, old.rival);
        }
        self.begin(heard, old.heard, heard.promise.map(|_| Rival::replaced(old.incarnation, heard.at)))
    }

    fn count(&mut self, heard: &Heard) -> Place {
        let unwatched = self.run.as_mut().and_then(|run| run.unwatched.take());
        if unwatched.is_some() { self.gaps.begin(heard.seq, heard.seq) } else { self.gaps.see(heard.seq) }
    }

    fn said_goodbye(&mut self, heard: &Heard, rules: &Rules, post: &mut DatagramActions<Fact>) {
        // It is said three times, since one may get lost.
        if self.state == State::Stopped {
            return;
        }
        let (count, first_seq) = self.gaps.finish(heard.seq);
        if count > 0 {
            post.emit(|| Fact::Lost { name: Arc::clone(&self.name), first_seq, count });
        }
        self.exit = heard.exit;
        self.streak = 0;
        self.pass(State::Stopped, heard.at, rules, post);
    }

    /// A beat that is so many numbers ahead of all others: the sender lives.
    fn lives(&mut self, heard: &Heard, numbers: u64, rules: &Rules, post: &mut DatagramActions<Fact>) {
        let Some(run) = &mut self.run else { return };
        let apart = heard.at - run.heard;
        if !apart.is_zero() {
            self.arrivals.push(apart, numbers);
        }
        if run.peer != heard.peer {
            let (from, to) = (run.peer, heard.peer);
            run.peer = to;
            // Every run of cron's job has a port of its own.
            if from.ip() != to.ip() || heard.incarnation != 0 {
                post.emit(|| Fact::Moved { name: Arc::clone(&self.name), from, to });
            }
        }
        run.astray = None;
        (run.heard, run.silent_since) = (heard.at, heard.at.max(rules.awake));
        (run.sent, run.promise) = (heard.sent, heard.promise);
        let sample = self.delays.push(heard.at.since_start(), heard.sent);
        if let Sample::Stepped(step_ns) = sample {
            post.emit(|| Fact::ClockStep { name: Arc::clone(&self.name), step_ns });
        }
        post.emit(|| {
            let delay = if let Sample::Above(above) = sample { Some(above) } else { None };
            Fact::Beat { name: Arc::clone(&self.name), seq: heard.seq, delay }
        });
        self.streak = self.streak.saturating_add(1);
        let is_down = matches!(self.state, State::New | State::Down | State::Stopped);
        if !is_down || self.streak >= rules.patience.rise {
            self.pass(State::Up, heard.at, rules, post);
        }
    }

    fn pass(&mut self, to: State, now: Moment, rules: &Rules, post: &mut DatagramActions<Fact>) {
        if self.state == to {
            return;
        }
        let was_flapping = self.flap.is_flapping();
        let before = now - self.since;
        self.since = now;
        self.state = to;
        if to != State::Stopped {
            self.exit = None;
        }
        if !was_flapping {
            self.tell_state(before, now, post);
        }
        if to == State::Down {
            self.streak = 0;
            if self.flap.died(now, rules.flap_half_life) {
                post.emit(|| Fact::Flapping { name: Arc::clone(&self.name), flapping: true });
            }
        }
    }

    fn tell_state(&mut self, before: Duration, now: Moment, post: &mut DatagramActions<Fact>) {
        let from = std::mem::replace(&mut self.told, self.state);
        let silent = self.run.map(|run| now - run.heard);
        post.emit(|| Fact::State {
            name: Arc::clone(&self.name),
            from,
            to: self.state,
            peer: self.run.map(|run| run.peer),
            silent,
            before,
            exit: self.exit,
        });
    }

    /// How long it may be silent.
    pub fn limits(&self, rules: &Rules) -> Limits {
        let promise = self.run.and_then(|run| run.promise);
        let (interval, multiplier) = promise.unwrap_or_else(|| match self.arrivals.mean() {
            Some(mean) => (mean.max(LEAST_RHYTHM), 3),
            None => (UNKNOWN_RHYTHM, 1),
        });
        rules.patience.limits(interval, multiplier, &self.arrivals)
    }

    /// When something is to be done about it, if nothing is heard.
    pub fn due(&self, rules: &Rules) -> Option<Moment> {
        let limits = self.limits(rules);
        let silent_since = self.run.map(|run| run.silent_since);
        let by_state = match (self.state, silent_since) {
            (State::New, None) => self.is_expected.then(|| self.since + rules.expect_within),
            (State::Up, Some(since)) => Some(since + limits.late),
            (State::New | State::Late, Some(since)) => Some(since + limits.down),
            _ => (!self.is_expected).then(|| self.since + rules.forget),
        };
        [by_state, self.flap.ends(rules.flap_half_life)].into_iter().flatten().min()
    }

    /// Does what is due, and says whether it may be forgotten.
    pub fn wake(&mut self, now: Moment, rules: &Rules, post: &mut DatagramActions<Fact>) -> bool {
        if self.flap.rest(now, rules.flap_half_life) {
            post.emit(|| Fact::Flapping { name: Arc::clone(&self.name), flapping: false });
            if self.told != self.state {
                self.tell_state(now - self.since, now, post);
            }
        }
        while self.due(rules).is_some_and(|due| due <= now) {
            let limits = self.limits(rules);
            match self.state {
                State::Up if limits.late < limits.down => self.pass(State::Late, now, rules, post),
                State::Up | State::Late | State::New => self.pass(State::Down, now, rules, post),
                State::Down | State::Stopped => return true,
            }
        }
        false
    }

    /// The watcher did not run for `gap`: the silence of that time is not the sender's.
    pub fn shift(&mut self, gap: Duration, now: Moment) {
        match &mut self.run {
            Some(run) => run.silent_since = (run.silent_since + gap).min(now),
            None => self.since = (self.since + gap).min(now),
        }
    }
}

#[cfg(test)]
mod tests;
