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

use super::beat::{Beat, Kind, Line, Wrong, make_echo};
use super::crowd::{Crowd, Who};
use super::fact::{Fact, Refusal, State};
use super::histogram::Histogram;
use super::record::{Heard, Record};
use super::report::Heads;
use super::rules::Rules;
use crate::conversation::{Datagram, DatagramActions, DatagramProtocol, Transmit, TransmitError};
use crate::time::Moment;

/// How often a watcher looks whether it was stopped meanwhile.
const TICK: Duration = Duration::from_millis(250);
/// A timer that is served later than this was served by somebody who did not run, …
const STALL: Duration = Duration::from_millis(100);
/// … or than the shortest interval anybody promised, but not less than a busy machine needs.
const LEAST_STALL: Duration = Duration::from_millis(10);
/// Refused datagrams are told once in so much time.
const REFUSED_EVERY: Duration = Duration::from_secs(1);

/// What became of all datagrams.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Datagrams that came.
    pub received: u64,
    /// Echoes that were sent back.
    pub echoes: u64,
    /// Datagrams that counted for nobody, by reason.
    pub refused: u64,
    #[serde(skip)]
    pub by_reason: [u64; Refusal::ALL.len()],
    /// Datagrams that found no room in our own receive buffer.
    pub local_drops: u64,
    /// How often we did not run ourselves.
    pub stalls: u64,
    /// How often a sender's state has changed.
    pub changes: u64,
}

/// Everybody who is watched.
pub struct Watcher {
    rules: Rules,
    crowd: Crowd,
    tally: Tally,
    delays: Histogram,
    last_turn: Moment,
    tick: Moment,
    refused: Option<(Moment, u64)>,
    /// How late a timer must be served to be a stall.
    stall: Duration,
}

impl Watcher {
    /// A watcher that waits for those `expected`.
    pub fn new(rules: Rules, expected: &[Arc<str>], now: Moment) -> Self {
        let mut watcher = Self {
            crowd: Crowd::new(rules.most.max(expected.len())),
            rules,
            tally: Tally::default(),
            delays: Histogram::default(),
            last_turn: now,
            tick: now + TICK,
            refused: None,
            stall: STALL,
        };
        for name in expected {
            watcher.expect(name, now);
        }
        watcher
    }

    fn expect(&mut self, name: &Arc<str>, now: Moment) {
        let who = Who::Named(Arc::clone(name));
        let known = self.crowd.find(&who);
        let place = known.or_else(|| self.crowd.admit(who, Record::new(Arc::clone(name), true, now), None).ok());
        let rules = &self.rules;
        place.map(|place| self.crowd.with(place, |record| record.is_expected = true, |record| record.due(rules)));
    }

    /// An earlier watcher has missed somebody since then; if it is not expected any more, nobody is
    /// missed.
    pub fn miss(&mut self, name: &Arc<str>, since: Moment) {
        let rules = &self.rules;
        if let Some(place) = self.crowd.find(&Who::Named(Arc::clone(name))) {
            self.crowd.with(place, |record| record.is_missed_since(since), |record| record.due(rules));
        }
    }

    /// Takes in somebody whom an earlier watcher knew, if there is room.
    pub fn restore(&mut self, mut record: Record) -> bool {
        let who = Who::of(&record);
        let peer = record.run.map(|run| run.peer);
        if let Some(place) = self.crowd.find(&who) {
            record.is_expected = self.crowd.get(place).is_some_and(|known| known.is_expected);
            self.crowd.forget(place);
        }
        let rules = &self.rules;
        let admitted = self.crowd.admit(who, record, peer).ok();
        admitted.and_then(|place| self.crowd.with(place, |_| (), |record| record.due(rules))).is_some()
    }

    /// Everybody, by place.
    pub fn crowd(&self) -> &Crowd {
        &self.crowd
    }

    /// What became of all datagrams so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// The delays of all beats, above the smallest of each sender.
    pub fn delays(&self) -> &Histogram {
        &self.delays
    }

    /// Hears a datagram, and says why it counts for nobody.
    fn hear(&mut self, datagram: &Datagram<'_>, post: &mut DatagramActions<Fact>) -> Result<(), Refusal> {
        if datagram.truncated {
            return Err(Refusal::Oversize);
        }
        let line = Line::read(datagram.bytes, self.rules.key.as_ref()).map_err(|wrong| match wrong {
            Wrong::Malformed => Refusal::Malformed,
            Wrong::Unauthentic => Refusal::Unauthentic,
        })?;
        let (peer, at) = (datagram.peer, datagram.received_at);
        match line {
            Line::Beat(Beat { kind: Kind::Echo, .. }) => Err(Refusal::Stray),
            Line::Beat(beat) => {
                let heard = Heard {
                    peer,
                    at,
                    incarnation: beat.incarnation,
                    seq: beat.seq,
                    sent: beat.sent,
                    promise: Some((beat.interval, beat.multiplier)),
                    is_bye: beat.kind == Kind::Bye,
                    exit: beat.exit,
                };
                self.count(Who::Named(beat.name.into()), &heard, post)?;
                self.stall = self.stall.min(beat.interval.max(LEAST_STALL));
                if beat.wants_echo {
                    self.tally.echoes += 1;
                    let key = self.rules.key.as_ref();
                    post.send(Transmit::reply(datagram, heard.seq), |out| {
                        let start = out.len();
                        out.extend_from_slice(datagram.bytes);
                        make_echo(out.get_mut(start..).unwrap_or_default(), key);
                    });
                }
                Ok(())
            }
            Line::Textbook { seq, sent } => {
                let (promise, is_bye, exit) = (None, false, None);
                let heard = Heard { peer, at, incarnation: 0, seq, sent, promise, is_bye, exit };
                self.count(Who::At(peer), &heard, post)
            }
        }
    }

    fn count(&mut self, who: Who, heard: &Heard, post: &mut DatagramActions<Fact>) -> Result<(), Refusal> {
        let place = match self.crowd.find(&who) {
            Some(place) => place,
            None if heard.is_bye => return Err(Refusal::Stray),
            None => {
                let name = match &who {
                    Who::Named(name) => Arc::clone(name),
                    Who::At(address) => address.to_string().into(),
                };
                let is_textbook = heard.promise.is_none();
                let mut record = Record::new(name, false, heard.at);
                record.is_textbook = is_textbook;
                self.crowd.admit(who, record, Some(heard.peer))?
            }
        };
        let rules = &self.rules;
        let act = |record: &mut Record| {
            let before = (record.state, record.delays.samples());
            let counted = record.hear(heard, rules, post);
            let delay = record.delays.last().filter(|_| record.delays.samples() > before.1);
            (counted, before.0 != record.state, delay)
        };
        let Some((counted, changed, delay)) = self.crowd.with(place, act, |record| record.due(rules)) else {
            return Err(Refusal::Full);
        };
        self.tally.changes += u64::from(changed);
        delay.inspect(|delay| self.delays.push(*delay));
        counted
    }

    /// Notices that this process itself did not run.
    fn notice(&mut self, now: Moment, post: &mut DatagramActions<Fact>) {
        let planned = self.crowd.next().map_or(self.tick, |timer| timer.min(self.tick));
        let gap = now - self.last_turn;
        self.last_turn = now;
        // What was read late because of the same stall is no further one.
        if now - planned > self.stall && gap > self.stall {
            self.rules.awake = now;
            self.tally.stalls += 1;
            post.emit(|| Fact::MonitorStall { gap });
            self.tick = now + TICK;
            let rules = &self.rules;
            self.crowd.with_all(|record| record.shift(gap, now), |record| record.due(rules));
        }
    }

    fn refuse(&mut self, reason: Refusal, datagram: &Datagram<'_>, now: Moment, post: &mut DatagramActions<Fact>) {
        self.tally.refused += 1;
        if let Some(count) = self.tally.by_reason.get_mut(reason as usize) {
            *count += 1;
        }
        // Copies under a key and rivals are counted with their sender; the rest is garbage.
        let count = self.refused.map_or(0, |(_, count)| count) + 1;
        let is_due = self.refused.is_none_or(|(told, _)| now - told >= REFUSED_EVERY);
        if is_due {
            post.emit(|| Fact::Refused { peer: datagram.peer, reason, count });
        }
        let told = self.refused.map(|(told, _)| told).filter(|_| !is_due).unwrap_or(now);
        self.refused = Some((told, if is_due { 0 } else { count }));
    }
}

impl DatagramProtocol for Watcher {
    type Event = Fact;

    fn received(&mut self, datagram: &Datagram<'_>, now: Moment, post: &mut DatagramActions<Fact>) {
        self.notice(now, post);
        if self.rules.datagrams.is_some_and(|most| self.tally.received >= most) {
            return;
        }
        self.tally.received += 1;
        if let Err(reason) = self.hear(datagram, post) {
            self.refuse(reason, datagram, now, post);
        }
    }

    fn transmitted(&mut self, _ticket: u64, _at: Moment) {}

    /// An echo that would not go is lost; its sender measures again.
    fn failed(&mut self, _failure: &TransmitError<'_>, _now: Moment, _post: &mut DatagramActions<Fact>) {}

    fn overflowed(&mut self, count: u64, _now: Moment, post: &mut DatagramActions<Fact>) {
        self.tally.local_drops += count;
        post.emit(|| Fact::LocalDrop { count });
    }

    fn woken(&mut self, now: Moment, post: &mut DatagramActions<Fact>) {
        self.notice(now, post);
        self.tick = now + TICK;
        let rules = &self.rules;
        while let Some(place) = self.crowd.ring(now) {
            let act = |record: &mut Record| {
                let before = record.state;
                let is_over = record.wake(now, rules, post);
                (is_over, before != record.state, Arc::clone(&record.name))
            };
            let Some((is_over, changed, name)) = self.crowd.with(place, act, |record| record.due(rules)) else {
                continue;
            };
            self.tally.changes += u64::from(changed);
            if is_over {
                self.crowd.forget(place);
                post.emit(|| Fact::Forgotten { name });
            }
        }
    }

    fn wake_at(&self) -> Option<Moment> {
        // Who watches nobody has nothing to be late for, but must know when it was last awake.
        Some(self.crowd.next().map_or(self.tick, |timer| timer.min(self.tick)))
    }
}

/// How many senders are in which state.
impl Watcher {
    /// In this one.
    pub fn in_state(&self, state: State) -> usize {
        self.crowd.in_state(state)
    }

    /// In each.
    pub fn heads(&self) -> Heads {
        Heads {
            total: self.senders(),
            up: self.in_state(State::Up),
            late: self.in_state(State::Late),
            down: self.in_state(State::Down),
            stopped: self.in_state(State::Stopped),
            new: self.in_state(State::New),
        }
    }

    /// In any.
    pub fn senders(&self) -> usize {
        self.crowd.len()
    }
}

#[cfg(test)]
mod tests;
