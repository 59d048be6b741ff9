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
pub(super) const MAX_TRACKED: usize = 65_536;

/// What a probe has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProbeOutcome {
    /// Nothing yet.
    Waiting,
    /// Answered in time.
    Answered,
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
pub(super) struct SentProbe {
    /// When it was handed over.
    pub sent_at: Moment,
    /// When the kernel says it left.
    pub kernel_sent_at: Option<Moment>,
    /// What it has come to.
    pub outcome: ProbeOutcome,
}

/// What became of probes whose time is not over.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct InFlight {
    /// In time.
    pub answered: u64,
    /// Too late.
    pub late: u64,
    /// By the network.
    pub refused: u64,
}

/// The probes of one target, numbered from 1.
#[derive(Debug)]
pub(super) struct Ledger {
    timeout: Duration,
    linger: Duration,
    probes: VecDeque<SentProbe>,
    /// The number of the oldest probe that is remembered.
    oldest: u64,
    /// Every probe before this one has left the state `Waiting`.
    first_waiting: u64,
    /// For every probe before this one the linger is over: nobody waits for it any more.
    first_open: u64,
    counts: [u64; 6],
    /// How many of the lost are still waited for.
    lingering: u64,
}

impl Ledger {
    /// An empty ledger; an answer is in time up to `timeout`, and late for `linger` more.
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

    /// How many probes are in this state.
    pub(super) fn count(&self, outcome: ProbeOutcome) -> u64 {
        self.counts.get(outcome as usize).copied().unwrap_or_default()
    }

    /// How many probes were begun.
    pub(super) fn sent(&self) -> u64 {
        self.next_seq() - 1
    }

    /// The number the next probe will have.
    pub(super) fn next_seq(&self) -> u64 {
        self.oldest + self.probes.len() as u64
    }

    /// How many of the lost are waited for until their linger ends.
    pub(super) fn lingering(&self) -> u64 {
        self.lingering
    }

    /// Whether another probe can be remembered. Makes room by forgetting the oldest if it is
    /// decided; an undecided one is waited for. Tells if that ended its linger.
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

    /// Whether the window is full and its oldest probe still undecided.
    pub(super) fn is_blocked(&self) -> bool {
        self.probes.len() >= MAX_TRACKED && self.first_waiting == self.oldest
    }

    /// Begins the next probe.
    pub(super) fn record_sent(&mut self, at: Moment) -> u64 {
        let seq = self.next_seq();
        self.probes.push_back(SentProbe { sent_at: at, kernel_sent_at: None, outcome: ProbeOutcome::Waiting });
        *self.counter(ProbeOutcome::Waiting) += 1;
        seq
    }

    /// A probe, if it is remembered.
    pub(super) fn probe(&self, seq: u64) -> Option<&SentProbe> {
        self.probes.get(self.index(seq)?)
    }

    /// Notes when the kernel says a probe left.
    pub(super) fn record_kernel_sent(&mut self, seq: u64, at: Moment) {
        if let Some(probe) = self.index(seq).and_then(|place| self.probes.get_mut(place)) {
            probe.kernel_sent_at = Some(at);
        }
    }

    /// Decides about a probe.
    pub(super) fn set_outcome(&mut self, seq: u64, outcome: ProbeOutcome) {
        let Some(probe) = self.index(seq).and_then(|place| self.probes.get_mut(place)) else {
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

    /// The oldest probe that has waited too long by now, decided as lost.
    pub(super) fn expire(&mut self, now: Moment) -> Option<u64> {
        let seq = self.first_waiting;
        if now < self.probe(seq)?.sent_at + self.timeout {
            return None;
        }
        self.set_outcome(seq, ProbeOutcome::Lost);
        Some(seq)
    }

    /// Ends the linger of the probes whose time for it has come, telling each.
    pub(super) fn close_expired(&mut self, now: Moment, mut on_closed: impl FnMut(u64)) {
        while self.next_linger_end().is_some_and(|closing| closing <= now) && self.first_waiting > self.first_open {
            self.close_oldest(&mut on_closed);
        }
    }

    /// When the oldest waiting probe will be lost.
    pub(super) fn next_timeout(&self) -> Option<Moment> {
        Some(self.probe(self.first_waiting)?.sent_at + self.timeout)
    }

    /// When the next linger ends.
    pub(super) fn next_linger_end(&self) -> Option<Moment> {
        Some(self.probe(self.first_open)?.sent_at + self.timeout + self.linger)
    }

    /// Whether a round trip is in time.
    pub(super) fn is_in_time(&self, rtt: Duration) -> bool {
        rtt <= self.timeout
    }

    /// The oldest probe that is still waiting.
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

    /// The probes that may still be answered, newest first.
    pub(super) fn unanswered(&self) -> impl Iterator<Item = (u64, &SentProbe)> {
        let open = |(_, probe): &(u64, &SentProbe)| matches!(probe.outcome, ProbeOutcome::Waiting | ProbeOutcome::Lost);
        let numbered = |(place, probe): (usize, _)| (self.oldest + place as u64, probe);
        self.probes.iter().enumerate().rev().map(numbered).filter(open)
    }

    /// The answers to those whose time is not over by now.
    pub(super) fn in_flight(&self, now: Moment) -> InFlight {
        let is_young = |probe: &&SentProbe| probe.sent_at + self.timeout > now;
        let mut young = InFlight::default();
        for probe in self.probes.iter().rev().take_while(is_young) {
            young.answered += u64::from(probe.outcome == ProbeOutcome::Answered);
            young.late += u64::from(probe.outcome == ProbeOutcome::Late);
            young.refused += u64::from(probe.outcome == ProbeOutcome::Refused);
        }
        young
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
    fn a_probe_is_in_one_state_at_a_time_and_the_sum_stays() {
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
    fn a_lost_probe_is_waited_for_until_its_linger_ends_and_remembered_beyond() {
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
        assert!(!ledger.make_room(|_| ()) && ledger.is_blocked(), "the oldest is undecided");
        ledger.set_outcome(1, ProbeOutcome::Answered);
        let mut closed = 0;
        assert!(ledger.make_room(|seq| closed = seq));
        assert_eq!(closed, 1);
        assert!(ledger.probe(1).is_none() && ledger.probe(2).is_some());
    }

    #[test]
    fn what_was_never_sent_is_unknown() {
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
