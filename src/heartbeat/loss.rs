//! Loss of one sender's beats, derived from sequence numbers alone.
//!
//! A skipped number counts as lost. If its beat arrives after all, the loss is withdrawn with an event of its
//! own. A beat older than the window of the newest 256 numbers may be a duplicate and changes nothing.
//!
//! ```text
//!   7   8   _   _   11  ──▶ 9 and 10 lost ──9 arrives──▶ 9 withdrawn, 10 lost
//! ```

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::stats::{SequenceStatus, SequenceWindow};

/// Window of the newest 256 sequence numbers.
type RecentWindow = SequenceWindow<4>;

/// Sequence numbers of one incarnation, and the counts of all incarnations of a sender.
#[derive(Clone, Debug, Default)]
pub(crate) struct SequenceLoss {
    seq_window: RecentWindow,
    first_seq: u64,
    counts: BeatCounts,
}

/// Counts of a sender's beats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub(crate) struct BeatCounts {
    /// Beats received, without duplicates.
    pub beats: u64,
    /// Beats skipped by later sequence numbers and not received since.
    pub lost: u64,
    /// Runs of consecutive lost beats.
    pub runs: u64,
    /// Length of the longest run.
    pub longest_run: u64,
    /// Losses withdrawn because the beat arrived after all.
    pub taken_back: u64,
    pub duplicates: u64,
    /// Beats received after a later one (RFC 4737).
    pub reordered: u64,
    /// Beats older than the window, which may be duplicates.
    pub too_late: u64,
}

/// Relation of a beat to the earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BeatStatus {
    /// Newer than all others; holds the number of skipped beats.
    Ahead(u64),
    /// Counted as lost before.
    Recovered,
    Duplicate,
    /// Older than the window.
    TooLate,
}

impl SequenceLoss {
    /// Starts over with the beat `seq`; earlier beats from `first_seq` on count as lost.
    pub(crate) fn restart(&mut self, seq: u64, first_seq: u64) -> BeatStatus {
        self.seq_window = RecentWindow::default();
        self.first_seq = first_seq.min(seq);
        if let Some(before) = self.first_seq.checked_sub(1) {
            self.seq_window.advance_to(before);
        }
        self.record(seq)
    }

    pub(crate) fn record(&mut self, seq: u64) -> BeatStatus {
        let expected = self.seq_window.highest().map_or(0, |highest| highest + 1);
        let is_ahead = seq >= expected;
        let status = match self.seq_window.record(seq) {
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
        self.counts.duplicates += u64::from(status == BeatStatus::Duplicate);
        self.counts.too_late += u64::from(status == BeatStatus::TooLate);
        self.counts.reordered += u64::from(status == BeatStatus::Recovered);
        status
    }

    /// Processes a stop message: the beats missing up to `last_seq` are lost. Returns their number and the first
    /// of them.
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

    pub(crate) fn highest_seq(&self) -> Option<u64> {
        self.seq_window.highest()
    }

    /// Returns the number of beats missing from the window and the number of sequence numbers it covers.
    pub(crate) fn recent_loss(&self) -> (u64, u64) {
        self.seq_window.missing(self.first_seq)
    }

    /// Returns the counts over all incarnations of the sender.
    pub(crate) fn counts(&self) -> &BeatCounts {
        &self.counts
    }

    /// Continues the counts of an earlier watcher; beats sent while no watcher was running are not lost.
    pub(crate) fn from_counts(counts: BeatCounts) -> Self {
        Self { counts, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::{BeatCounts, BeatStatus, SequenceLoss};

    fn started_at(seq: u64) -> SequenceLoss {
        let mut loss = SequenceLoss::default();
        assert_eq!(loss.restart(seq, seq), BeatStatus::Ahead(0));
        loss
    }

    #[test]
    fn skipped_numbers_are_lost_and_recovered_when_they_arrive() {
        let mut loss = started_at(7);
        assert_eq!(loss.record(8), BeatStatus::Ahead(0));
        assert_eq!(loss.record(11), BeatStatus::Ahead(2));
        assert_eq!(loss.record(9), BeatStatus::Recovered);
        assert_eq!(loss.record(9), BeatStatus::Duplicate);
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
        assert_eq!((*loss.counts(), loss.recent_loss()), (expected, (1, 5)));
    }

    #[test]
    fn beats_before_the_first_are_neither_lost_nor_recovered() {
        let mut loss = started_at(7);
        assert_eq!(loss.record(6), BeatStatus::TooLate);
        assert_eq!((loss.counts().lost, loss.counts().beats), (0, 1));
    }

    #[test]
    fn beats_sent_before_the_first_received_one_are_lost() {
        let mut loss = SequenceLoss::default();
        assert_eq!(loss.restart(4, 1), BeatStatus::Ahead(3));
        assert_eq!(loss.record(2), BeatStatus::Recovered);
        assert_eq!((loss.counts().lost, loss.recent_loss()), (2, (2, 4)));
    }

    #[test]
    fn the_window_recovers_its_oldest_beat_and_none_before_it() {
        let mut loss = started_at(1);
        loss.record(1_000);
        assert_eq!((loss.record(1_000 - 255), loss.record(1_000 - 256)), (BeatStatus::Recovered, BeatStatus::TooLate));
        assert_eq!((loss.counts().lost, loss.counts().too_late), (997, 1));
    }

    #[test]
    fn a_stop_message_reveals_losses_at_the_end() {
        let mut loss = started_at(1);
        assert_eq!(loss.finish(4), (3, 2));
        assert_eq!(loss.finish(4), (0, 5));
        assert_eq!(loss.record(3), BeatStatus::Recovered);
        assert_eq!(loss.counts().lost, 2);
    }

    #[test]
    fn a_new_incarnation_starts_over_and_keeps_the_counts() {
        let mut loss = started_at(500);
        loss.record(502);
        assert_eq!(loss.restart(1, 1), BeatStatus::Ahead(0));
        assert_eq!((loss.counts().lost, loss.counts().beats, loss.recent_loss()), (1, 3, (0, 1)));
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let mut loss = started_at(0);
        loss.record(u64::MAX - 1);
        assert_eq!(loss.finish(u64::MAX - 1), (0, u64::MAX));
        assert_eq!(loss.record(u64::MAX - 1), BeatStatus::Duplicate);
    }
}
