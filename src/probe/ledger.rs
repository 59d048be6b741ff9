//! What became of each probe.
//!
//! Owns the probes in flight and the one state each of them is in. The counts of the states always
//! add up to the number of probes sent:
//!
//! ```text
//!   waiting ──answer──▶ ok
//!      │──timeout──▶ lost ──answer while it is remembered──▶ late
//!      │──ICMP─────▶ refused          (an answer in spite of it makes it ok or late)
//!      └──send─────▶ send error
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Moment;

/// How many probes are remembered at once: those in flight, and those before them for as long as
/// there is room, so that an answer that comes much too late is still told as what it is.
pub const WINDOW: usize = 65_536;

/// What a probe has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing yet.
    Waiting,
    /// Answered in time.
    Ok,
    /// Answered too late.
    Late,
    /// Not answered in time.
    Lost,
    /// Nobody is there.
    Refused,
    /// Never sent.
    SendError,
}

/// A probe that is remembered.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// When it was handed over.
    pub at: Moment,
    /// When the kernel says it left.
    pub left: Option<Moment>,
    /// What it has come to.
    pub outcome: Outcome,
}

/// What became of probes whose time is not over.
#[derive(Clone, Copy, Debug, Default)]
pub struct Young {
    /// In time.
    pub ok: u64,
    /// Too late.
    pub late: u64,
    /// By the network.
    pub refused: u64,
}

/// The probes of one target, numbered from 1.
#[derive(Debug)]
pub struct Ledger {
    timeout: Duration,
    linger: Duration,
    probes: VecDeque<Sent>,
    /// The number of the oldest probe that is remembered.
    first: u64,
    /// Every probe before this one has left the state `Waiting`.
    undecided: u64,
    /// For every probe before this one the linger is over: nobody waits for it any more.
    closed: u64,
    counts: [u64; 6],
    /// How many of the lost are still waited for.
    lingering: u64,
}

impl Ledger {
    /// An empty ledger; an answer is in time up to `timeout`, and late for `linger` more.
    pub fn new(timeout: Duration, linger: Duration) -> Self {
        Self {
            timeout,
            linger,
            probes: VecDeque::new(),
            first: 1,
            undecided: 1,
            closed: 1,
            counts: [0; 6],
            lingering: 0,
        }
    }

    /// How many probes are in this state.
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.counts.get(outcome as usize).copied().unwrap_or_default()
    }

    /// How many probes were begun.
    pub fn sent(&self) -> u64 {
        self.next() - 1
    }

    /// The number the next probe will have.
    pub fn next(&self) -> u64 {
        self.first + self.probes.len() as u64
    }

    /// How many of the lost are waited for until their linger ends.
    pub fn lingering(&self) -> u64 {
        self.lingering
    }

    /// Whether another probe can be remembered. Makes room by forgetting the oldest if it is
    /// decided; an undecided one is waited for. Tells if that ended its linger.
    pub fn has_room(&mut self, closed: impl FnMut(u64)) -> bool {
        if self.probes.len() >= WINDOW && self.undecided > self.first {
            if self.closed == self.first {
                self.close_first(closed);
            }
            self.probes.pop_front();
            self.first += 1;
        }
        self.probes.len() < WINDOW
    }

    /// Whether the window is full and its oldest probe still undecided.
    pub fn is_blocked(&self) -> bool {
        self.probes.len() >= WINDOW && self.undecided == self.first
    }

    /// Begins the next probe.
    pub fn send(&mut self, at: Moment) -> u64 {
        let seq = self.next();
        self.probes.push_back(Sent { at, left: None, outcome: Outcome::Waiting });
        *self.counter(Outcome::Waiting) += 1;
        seq
    }

    /// A probe, if it is remembered.
    pub fn probe(&self, seq: u64) -> Option<&Sent> {
        self.probes.get(self.place(seq)?)
    }

    /// Notes when the kernel says a probe left.
    pub fn left(&mut self, seq: u64, at: Moment) {
        if let Some(probe) = self.place(seq).and_then(|place| self.probes.get_mut(place)) {
            probe.left = Some(at);
        }
    }

    /// Decides about a probe.
    pub fn decide(&mut self, seq: u64, outcome: Outcome) {
        let Some(probe) = self.place(seq).and_then(|place| self.probes.get_mut(place)) else {
            return;
        };
        let before = std::mem::replace(&mut probe.outcome, outcome);
        *self.counter(before) -= 1;
        *self.counter(outcome) += 1;
        if seq >= self.closed {
            self.lingering -= u64::from(before == Outcome::Lost);
            self.lingering += u64::from(outcome == Outcome::Lost);
        }
        while self.probe(self.undecided).is_some_and(|probe| probe.outcome != Outcome::Waiting) {
            self.undecided += 1;
        }
    }

    /// The oldest probe that has waited too long by now, decided as lost.
    pub fn expire(&mut self, now: Moment) -> Option<u64> {
        let seq = self.undecided;
        if now < self.probe(seq)?.at + self.timeout {
            return None;
        }
        self.decide(seq, Outcome::Lost);
        Some(seq)
    }

    /// Ends the linger of the probes whose time for it has come, telling each.
    pub fn close(&mut self, now: Moment, mut closed: impl FnMut(u64)) {
        while self.closing().is_some_and(|closing| closing <= now) && self.undecided > self.closed {
            self.close_first(&mut closed);
        }
    }

    /// When the oldest waiting probe will be lost.
    pub fn next_timeout(&self) -> Option<Moment> {
        Some(self.probe(self.undecided)?.at + self.timeout)
    }

    /// When the next linger ends.
    pub fn closing(&self) -> Option<Moment> {
        Some(self.probe(self.closed)?.at + self.timeout + self.linger)
    }

    /// Whether a round trip is in time.
    pub fn is_in_time(&self, rtt: Duration) -> bool {
        rtt <= self.timeout
    }

    /// The oldest probe that is still waiting.
    pub fn oldest_waiting(&self) -> Option<u64> {
        self.probe(self.undecided).map(|_| self.undecided)
    }

    fn counter(&mut self, outcome: Outcome) -> &mut u64 {
        self.counts.get_mut(outcome as usize).expect("one counter per outcome")
    }

    fn close_first(&mut self, mut closed: impl FnMut(u64)) {
        let was_lost = self.probe(self.closed).is_some_and(|probe| probe.outcome == Outcome::Lost);
        self.lingering -= u64::from(was_lost);
        closed(self.closed);
        self.closed += 1;
    }

    /// The probes that may still be answered, newest first.
    pub fn unanswered(&self) -> impl Iterator<Item = (u64, &Sent)> {
        let open = |(_, probe): &(u64, &Sent)| matches!(probe.outcome, Outcome::Waiting | Outcome::Lost);
        let numbered = |(place, probe): (usize, _)| (self.first + place as u64, probe);
        self.probes.iter().enumerate().rev().map(numbered).filter(open)
    }

    /// The answers to those whose time is not over by now.
    pub fn young(&self, now: Moment) -> Young {
        let is_young = |probe: &&Sent| probe.at + self.timeout > now;
        let mut young = Young::default();
        for probe in self.probes.iter().rev().take_while(is_young) {
            young.ok += u64::from(probe.outcome == Outcome::Ok);
            young.late += u64::from(probe.outcome == Outcome::Late);
            young.refused += u64::from(probe.outcome == Outcome::Refused);
        }
        young
    }

    fn place(&self, seq: u64) -> Option<usize> {
        usize::try_from(seq.checked_sub(self.first)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::{Ledger, Outcome, WINDOW};
    use crate::time::Moment;
    use std::time::Duration;

    fn at(millis: u64) -> Moment {
        Moment::new(Duration::from_millis(millis), Duration::ZERO)
    }

    fn ledger() -> Ledger {
        Ledger::new(Duration::from_secs(1), Duration::from_secs(2))
    }

    fn counts(ledger: &Ledger) -> [u64; 6] {
        use Outcome::{Late, Lost, Ok, Refused, SendError, Waiting};
        [Waiting, Ok, Late, Lost, Refused, SendError].map(|outcome| ledger.count(outcome))
    }

    #[test]
    fn a_probe_is_in_one_state_at_a_time_and_the_sum_stays() {
        let mut ledger = ledger();
        for _ in 0..5 {
            ledger.send(at(0));
        }
        ledger.decide(2, Outcome::Ok);
        ledger.decide(3, Outcome::Refused);
        assert_eq!(ledger.expire(at(999)), None);
        assert_eq!(ledger.expire(at(1_000)), Some(1));
        ledger.decide(1, Outcome::Late);
        ledger.decide(4, Outcome::SendError);
        assert_eq!(counts(&ledger), [1, 1, 1, 0, 1, 1]);
        assert_eq!(ledger.sent(), 5);
        assert_eq!(ledger.oldest_waiting(), Some(5));
    }

    #[test]
    fn a_lost_probe_is_waited_for_until_its_linger_ends_and_remembered_beyond() {
        let mut ledger = ledger();
        ledger.send(at(0));
        ledger.expire(at(1_000));
        assert_eq!((ledger.lingering(), ledger.closing()), (1, Some(at(3_000))));
        ledger.close(at(2_999), |_| unreachable!("not yet"));
        let mut closed = Vec::new();
        ledger.close(at(3_000), |seq| closed.push(seq));
        assert_eq!((closed, ledger.lingering(), ledger.closing()), (vec![1], 0, None));
        assert_eq!((ledger.count(Outcome::Lost), ledger.sent()), (1, 1));
        ledger.decide(1, Outcome::Late);
        assert_eq!((ledger.count(Outcome::Late), ledger.lingering()), (1, 0));
    }

    #[test]
    fn the_window_holds_its_limit_and_forgets_only_what_is_decided() {
        let mut ledger = ledger();
        for _ in 0..WINDOW {
            assert!(ledger.has_room(|_| ()));
            ledger.send(at(0));
        }
        ledger.decide(2, Outcome::Ok);
        assert!(!ledger.has_room(|_| ()) && ledger.is_blocked(), "the oldest is undecided");
        ledger.decide(1, Outcome::Ok);
        let mut closed = 0;
        assert!(ledger.has_room(|seq| closed = seq));
        assert_eq!(closed, 1);
        assert!(ledger.probe(1).is_none() && ledger.probe(2).is_some());
    }

    #[test]
    fn what_was_never_sent_is_unknown() {
        let mut ledger = ledger();
        ledger.send(at(0));
        for seq in [0, 2, u64::MAX] {
            assert!(ledger.probe(seq).is_none());
            ledger.decide(seq, Outcome::Ok);
            ledger.left(seq, at(1));
        }
        assert_eq!(counts(&ledger), [1, 0, 0, 0, 0, 0]);
    }
}
