//! What got lost on the way, by the numbers of the beats alone.
//!
//! Owns the count of one sender's beats. A number that is skipped is lost, until it comes after all:
//! then the loss is taken back, openly. What lies before the window of the newest 256 numbers cannot
//! be told from a copy any more and changes nothing.
//!
//! ```text
//!   7   8   _   _   11  ──▶ 9 and 10 lost ──9 comes──▶ 9 taken back, 10 lost
//! ```

use serde::{Deserialize, Serialize};

use crate::stats::{SequenceStatus, SequenceWindow};

/// The newest numbers, 256 of them.
type RecentWindow = SequenceWindow<4>;

/// The beats of one run of a sender.
#[derive(Clone, Debug, Default)]
pub(crate) struct SequenceLoss {
    seq_window: RecentWindow,
    /// The first number that counts.
    first_seq: u64,
    counts: BeatCounts,
}

/// What they came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BeatCounts {
    /// Beats that came, each counted once.
    pub beats: u64,
    /// Beats that did not come, as far as later ones tell.
    pub lost: u64,
    /// How many times in a row something was lost.
    pub runs: u64,
    /// The most beats lost in a row.
    pub longest_run: u64,
    /// Losses that were taken back, since the beat came after all.
    pub taken_back: u64,
    /// Further copies of a beat.
    pub duplicates: u64,
    /// Beats that came after a later one (RFC 4737).
    pub reordered: u64,
    /// Beats that came so late that nobody can tell whether they are copies.
    pub too_late: u64,
}

/// What a beat is to those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BeatStatus {
    /// Ahead of all others; so many before it were skipped.
    Ahead(u64),
    /// One that was counted as lost.
    Recovered,
    /// A copy.
    Duplicate,
    /// Too old to be known.
    TooLate,
}

impl SequenceLoss {
    /// Begins with the beat `number`, of which those from `first` on were sent to us.
    pub(crate) fn restart(&mut self, seq: u64, first_seq: u64) -> BeatStatus {
        self.seq_window = RecentWindow::default();
        self.first_seq = first_seq.min(seq);
        if let Some(before) = self.first_seq.checked_sub(1) {
            self.seq_window.advance_to(before);
        }
        // Nothing is lost before the first one that counts.
        self.record(seq)
    }

    /// Counts a beat.
    pub(crate) fn record(&mut self, seq: u64) -> BeatStatus {
        let expected = self.seq_window.highest().map_or(0, |highest| highest + 1);
        let is_ahead = seq >= expected;
        let place = match self.seq_window.record(seq) {
            SequenceStatus::New if is_ahead => {
                let skipped = seq - expected;
                self.count_lost(skipped);
                self.counts.beats += 1;
                BeatStatus::Ahead(skipped)
            }
            SequenceStatus::New if seq >= self.first_seq => {
                self.counts.beats += 1;
                self.counts.lost = self.counts.lost.saturating_sub(1);
                self.counts.taken_back += 1;
                BeatStatus::Recovered
            }
            SequenceStatus::Duplicate => BeatStatus::Duplicate,
            SequenceStatus::New | SequenceStatus::TooOld => BeatStatus::TooLate,
        };
        self.counts.duplicates += u64::from(place == BeatStatus::Duplicate);
        self.counts.too_late += u64::from(place == BeatStatus::TooLate);
        self.counts.reordered += u64::from(place == BeatStatus::Recovered);
        place
    }

    /// The sender says that `last` was the last one; what is missing up to there is lost. Says how
    /// many and the first of them.
    pub(crate) fn finish(&mut self, last_seq: u64) -> (u64, u64) {
        let expected = self.seq_window.highest().map_or(0, |highest| highest + 1);
        let skipped = (last_seq + 1).saturating_sub(expected);
        self.seq_window.advance_to(last_seq);
        self.count_lost(skipped);
        (skipped, expected)
    }

    fn count_lost(&mut self, skipped: u64) {
        if skipped > 0 {
            self.counts.lost += skipped;
            self.counts.runs += 1;
            self.counts.longest_run = self.counts.longest_run.max(skipped);
        }
    }

    /// The highest number so far.
    pub(crate) fn highest_seq(&self) -> Option<u64> {
        self.seq_window.highest()
    }

    /// How many of the newest beats are missing, and of how many.
    pub(crate) fn recent_loss(&self) -> (u64, u64) {
        self.seq_window.missing(self.first_seq)
    }

    /// What it all came to, over every run of the sender.
    pub(crate) fn counts(&self) -> &BeatCounts {
        &self.counts
    }

    /// Takes up the counts of an earlier watcher; what was sent while nobody watched is not lost.
    pub(crate) fn from_counts(counts: BeatCounts) -> Self {
        Self { counts, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::{BeatCounts, BeatStatus, SequenceLoss};

    fn started_at(seq: u64) -> SequenceLoss {
        let mut gaps = SequenceLoss::default();
        assert_eq!(gaps.restart(seq, seq), BeatStatus::Ahead(0));
        gaps
    }

    #[test]
    fn skipped_numbers_are_lost_and_recovered_when_they_arrive() {
        let mut gaps = started_at(7);
        assert_eq!(gaps.record(8), BeatStatus::Ahead(0));
        assert_eq!(gaps.record(11), BeatStatus::Ahead(2));
        assert_eq!(gaps.record(9), BeatStatus::Recovered);
        assert_eq!(gaps.record(9), BeatStatus::Duplicate);
        let expected = BeatCounts {
            beats: 4,
            lost: 1,
            runs: 1,
            longest_run: 2,
            taken_back: 1,
            duplicates: 1,
            reordered: 1,
            too_late: 0,
        };
        assert_eq!((*gaps.counts(), gaps.recent_loss()), (expected, (1, 5)));
    }

    #[test]
    fn beats_before_the_first_are_neither_lost_nor_recovered() {
        let mut gaps = started_at(7);
        assert_eq!(gaps.record(6), BeatStatus::TooLate);
        assert_eq!((gaps.counts().lost, gaps.counts().beats), (0, 1));
    }

    #[test]
    fn beats_sent_before_the_first_received_one_are_lost() {
        let mut gaps = SequenceLoss::default();
        assert_eq!(gaps.restart(4, 1), BeatStatus::Ahead(3));
        assert_eq!(gaps.record(2), BeatStatus::Recovered);
        assert_eq!((gaps.counts().lost, gaps.recent_loss()), (2, (2, 4)));
    }

    #[test]
    fn the_window_recovers_its_oldest_beat_and_none_before_it() {
        let mut gaps = started_at(1);
        gaps.record(1_000);
        assert_eq!((gaps.record(1_000 - 255), gaps.record(1_000 - 256)), (BeatStatus::Recovered, BeatStatus::TooLate));
        assert_eq!((gaps.counts().lost, gaps.counts().too_late), (997, 1));
    }

    #[test]
    fn a_goodbye_reveals_losses_at_the_end() {
        let mut gaps = started_at(1);
        assert_eq!(gaps.finish(4), (3, 2));
        assert_eq!(gaps.finish(4), (0, 5));
        assert_eq!(gaps.record(3), BeatStatus::Recovered);
        assert_eq!(gaps.counts().lost, 2);
    }

    #[test]
    fn a_new_incarnation_starts_over_and_keeps_the_counts() {
        let mut gaps = started_at(500);
        gaps.record(502);
        assert_eq!(gaps.restart(1, 1), BeatStatus::Ahead(0));
        assert_eq!((gaps.counts().lost, gaps.counts().beats, gaps.recent_loss()), (1, 3, (0, 1)));
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let mut gaps = started_at(0);
        gaps.record(u64::MAX - 1);
        assert_eq!(gaps.finish(u64::MAX - 1), (0, u64::MAX));
        assert_eq!(gaps.record(u64::MAX - 1), BeatStatus::Duplicate);
    }
}
