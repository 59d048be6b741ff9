//! Outcomes of the probes of one target.
//!
//! Each probe has exactly one outcome, so the counts always add up to the number of probes sent:
//!
//! ```text
//!   waiting ──reply─────▶ answered
//!      │──timeout────▶ lost ──reply while the probe is tracked─────▶ late
//!      │──ICMP error─▶ refused        (a reply nevertheless makes it answered or late)
//!      └──send error─▶ send error
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Moment;

/// Maximum number of tracked probes: probes in flight and, as space allows, earlier probes, so that a very late reply
/// is still recognised.
pub(super) const MAX_TRACKED: usize = 65_536;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProbeOutcome {
    Waiting,
    Answered,
    Late,
    Lost,
    Refused,
    SendError,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct SentProbe {
    pub sent_at: Moment,
    /// Kernel timestamp of the transmission.
    pub kernel_sent_at: Option<Moment>,
    pub outcome: ProbeOutcome,
}

/// Outcomes of probes sent less than one timeout ago; excluded from the loss while others are in flight.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RecentOutcomes {
    pub answered: u64,
    pub late: u64,
    pub refused: u64,
}

/// The probes of one target, numbered from 1.
#[derive(Debug)]
pub(super) struct Ledger {
    timeout: Duration,
    linger: Duration,
    probes: VecDeque<SentProbe>,
    /// Sequence number of the oldest tracked probe.
    oldest: u64,
    /// First probe that may still be in state `Waiting`.
    first_waiting: u64,
    /// First probe whose linger time has not passed.
    first_open: u64,
    counts: [u64; 6],
    /// Lost probes whose linger time has not passed.
    lingering: u64,
}

impl Ledger {
    /// Creates an empty ledger that accepts late replies until `timeout + linger`.
    pub(super) fn new(timeout: Duration, linger: Duration) -> Self {
        Self {
            timeout,
            linger,
            probes: VecDeque::new(),
            oldest: 1,
            first_waiting: 1,
            first_open: 1,
            counts: [0; 6],
            lingering: 0,
        }
    }

    pub(super) fn count(&self, outcome: ProbeOutcome) -> u64 {
        self.counts.get(outcome as usize).copied().unwrap_or_default()
    }

    pub(super) fn sent(&self) -> u64 {
        self.next_seq() - 1
    }

    pub(super) fn next_seq(&self) -> u64 {
        self.oldest + self.probes.len() as u64
    }

    pub(super) fn lingering(&self) -> u64 {
        self.lingering
    }

    /// Makes space for another probe by evicting the oldest, if it has an outcome; returns whether there is space.
    /// `on_closed` is called if the linger time of the evicted probe had not passed.
    pub(super) fn make_room(&mut self, on_closed: impl FnMut(u64)) -> bool {
        if self.probes.len() >= MAX_TRACKED && self.first_waiting > self.oldest {
            if self.first_open == self.oldest {
                self.close_oldest(on_closed);
            }
            self.probes.pop_front();
            self.oldest += 1;
        }
        self.probes.len() < MAX_TRACKED
    }

    /// Returns whether the ledger is full and its oldest probe is still waiting.
    pub(super) fn is_blocked(&self) -> bool {
        self.probes.len() >= MAX_TRACKED && self.first_waiting == self.oldest
    }

    /// Adds the next probe and returns its sequence number.
    pub(super) fn record_sent(&mut self, at: Moment) -> u64 {
        let seq = self.next_seq();
        self.probes.push_back(SentProbe { sent_at: at, kernel_sent_at: None, outcome: ProbeOutcome::Waiting });
        *self.counter(ProbeOutcome::Waiting) += 1;
        seq
    }

    pub(super) fn probe(&self, seq: u64) -> Option<&SentProbe> {
        self.probes.get(self.index(seq)?)
    }

    pub(super) fn record_kernel_sent(&mut self, seq: u64, at: Moment) {
        if let Some(probe) = self.index(seq).and_then(|index| self.probes.get_mut(index)) {
            probe.kernel_sent_at = Some(at);
        }
    }

    pub(super) fn set_outcome(&mut self, seq: u64, outcome: ProbeOutcome) {
        let Some(probe) = self.index(seq).and_then(|index| self.probes.get_mut(index)) else {
            return;
        };
        let before = std::mem::replace(&mut probe.outcome, outcome);
        *self.counter(before) -= 1;
        *self.counter(outcome) += 1;
        if seq >= self.first_open {
            self.lingering -= u64::from(before == ProbeOutcome::Lost);
            self.lingering += u64::from(outcome == ProbeOutcome::Lost);
        }
        while self.probe(self.first_waiting).is_some_and(|probe| probe.outcome != ProbeOutcome::Waiting) {
            self.first_waiting += 1;
        }
    }

    /// Marks the oldest waiting probe as lost if its timeout has passed, and returns it.
    pub(super) fn expire(&mut self, now: Moment) -> Option<u64> {
        let seq = self.first_waiting;
        if now < self.probe(seq)?.sent_at + self.timeout {
            return None;
        }
        self.set_outcome(seq, ProbeOutcome::Lost);
        Some(seq)
    }

    /// Calls `on_closed` for each probe whose linger time has passed.
    pub(super) fn close_expired(&mut self, now: Moment, mut on_closed: impl FnMut(u64)) {
        while self.next_linger_end().is_some_and(|end| end <= now) && self.first_waiting > self.first_open {
            self.close_oldest(&mut on_closed);
        }
    }

    /// Timeout of the oldest waiting probe.
    pub(super) fn next_timeout(&self) -> Option<Moment> {
        Some(self.probe(self.first_waiting)?.sent_at + self.timeout)
    }

    pub(super) fn next_linger_end(&self) -> Option<Moment> {
        Some(self.probe(self.first_open)?.sent_at + self.timeout + self.linger)
    }

    pub(super) fn is_in_time(&self, rtt: Duration) -> bool {
        rtt <= self.timeout
    }

    pub(super) fn oldest_waiting(&self) -> Option<u64> {
        self.probe(self.first_waiting).map(|_| self.first_waiting)
    }

    fn counter(&mut self, outcome: ProbeOutcome) -> &mut u64 {
        self.counts.get_mut(outcome as usize).expect("one counter per outcome")
    }

    fn close_oldest(&mut self, mut on_closed: impl FnMut(u64)) {
        let was_lost = self.probe(self.first_open).is_some_and(|probe| probe.outcome == ProbeOutcome::Lost);
        self.lingering -= u64::from(was_lost);
        on_closed(self.first_open);
        self.first_open += 1;
    }

    /// Waiting and lost probes, newest first.
    pub(super) fn unanswered(&self) -> impl Iterator<Item = (u64, &SentProbe)> {
        let open = |(_, probe): &(u64, &SentProbe)| matches!(probe.outcome, ProbeOutcome::Waiting | ProbeOutcome::Lost);
        let numbered = |(index, probe): (usize, _)| (self.oldest + index as u64, probe);
        self.probes.iter().enumerate().rev().map(numbered).filter(open)
    }

    /// Counts the outcomes of probes sent less than one timeout ago.
    pub(super) fn recent_outcomes(&self, now: Moment) -> RecentOutcomes {
        let is_recent = |probe: &&SentProbe| probe.sent_at + self.timeout > now;
        let mut in_flight = RecentOutcomes::default();
        for probe in self.probes.iter().rev().take_while(is_recent) {
            in_flight.answered += u64::from(probe.outcome == ProbeOutcome::Answered);
            in_flight.late += u64::from(probe.outcome == ProbeOutcome::Late);
            in_flight.refused += u64::from(probe.outcome == ProbeOutcome::Refused);
        }
        in_flight
    }

    fn index(&self, seq: u64) -> Option<usize> {
        usize::try_from(seq.checked_sub(self.oldest)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::{Ledger, MAX_TRACKED, ProbeOutcome};
    use crate::time::Moment;
    use std::time::Duration;

    fn at(millis: u64) -> Moment {
        Moment::new(Duration::from_millis(millis), Duration::ZERO)
    }

    fn ledger() -> Ledger {
        Ledger::new(Duration::from_secs(1), Duration::from_secs(2))
    }

    fn counts(ledger: &Ledger) -> [u64; 6] {
        use ProbeOutcome::{Answered, Late, Lost, Refused, SendError, Waiting};
        [Waiting, Answered, Late, Lost, Refused, SendError].map(|outcome| ledger.count(outcome))
    }

    #[test]
    fn each_probe_has_one_outcome_and_the_sum_stays() {
        let mut ledger = ledger();
        for _ in 0..5 {
            ledger.record_sent(at(0));
        }
        ledger.set_outcome(2, ProbeOutcome::Answered);
        ledger.set_outcome(3, ProbeOutcome::Refused);
        assert_eq!(ledger.expire(at(999)), None);
        assert_eq!(ledger.expire(at(1_000)), Some(1));
        ledger.set_outcome(1, ProbeOutcome::Late);
        ledger.set_outcome(4, ProbeOutcome::SendError);
        assert_eq!(counts(&ledger), [1, 1, 1, 0, 1, 1]);
        assert_eq!(ledger.sent(), 5);
        assert_eq!(ledger.oldest_waiting(), Some(5));
    }

    #[test]
    fn a_lost_probe_is_waited_for_until_its_linger_ends_and_remembered_afterwards() {
        let mut ledger = ledger();
        ledger.record_sent(at(0));
        ledger.expire(at(1_000));
        assert_eq!((ledger.lingering(), ledger.next_linger_end()), (1, Some(at(3_000))));
        ledger.close_expired(at(2_999), |_| unreachable!("not yet"));
        let mut closed = Vec::new();
        ledger.close_expired(at(3_000), |seq| closed.push(seq));
        assert_eq!((closed, ledger.lingering(), ledger.next_linger_end()), (vec![1], 0, None));
        assert_eq!((ledger.count(ProbeOutcome::Lost), ledger.sent()), (1, 1));
        ledger.set_outcome(1, ProbeOutcome::Late);
        assert_eq!((ledger.count(ProbeOutcome::Late), ledger.lingering()), (1, 0));
    }

    #[test]
    fn the_window_holds_its_limit_and_forgets_only_probes_with_an_outcome() {
        let mut ledger = ledger();
        for _ in 0..MAX_TRACKED {
            assert!(ledger.make_room(|_| ()));
            ledger.record_sent(at(0));
        }
        ledger.set_outcome(2, ProbeOutcome::Answered);
        assert!(!ledger.make_room(|_| ()) && ledger.is_blocked(), "the oldest is still waiting");
        ledger.set_outcome(1, ProbeOutcome::Answered);
        let mut closed = 0;
        assert!(ledger.make_room(|seq| closed = seq));
        assert_eq!(closed, 1);
        assert!(ledger.probe(1).is_none() && ledger.probe(2).is_some());
    }

    #[test]
    fn a_probe_that_was_never_sent_is_unknown() {
        let mut ledger = ledger();
        ledger.record_sent(at(0));
        for seq in [0, 2, u64::MAX] {
            assert!(ledger.probe(seq).is_none());
            ledger.set_outcome(seq, ProbeOutcome::Answered);
            ledger.record_kernel_sent(seq, at(1));
        }
        assert_eq!(counts(&ledger), [1, 0, 0, 0, 0, 0]);
    }
}
