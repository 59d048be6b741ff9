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
type Newest = SequenceWindow<4>;

/// The beats of one run of a sender.
#[derive(Clone, Debug, Default)]
pub struct Gaps {
    newest: Newest,
    /// The first number that counts.
    first: u64,
    counts: Counts,
}

/// What they came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
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
pub enum Place {
    /// Ahead of all others; so many before it were skipped.
    Ahead(u64),
    /// One that was counted as lost.
    TakenBack,
    /// A copy.
    Copy,
    /// Too old to be known.
    TooLate,
}

impl Gaps {
    /// Begins with the beat `number`, of which those from `first` on were sent to us.
    pub fn begin(&mut self, number: u64, first: u64) -> Place {
        self.newest = Newest::default();
        self.first = first.min(number);
        if let Some(before) = self.first.checked_sub(1) {
            self.newest.advance_to(before);
        }
        // Nothing is lost before the first one that counts.
        self.see(number)
    }

    /// Counts a beat.
    pub fn see(&mut self, number: u64) -> Place {
        let expected = self.newest.highest().map_or(0, |highest| highest + 1);
        let is_ahead = number >= expected;
        let place = match self.newest.record(number) {
            SequenceStatus::New if is_ahead => {
                let skipped = number - expected;
                self.lose(skipped);
                self.counts.beats += 1;
                Place::Ahead(skipped)
            }
            SequenceStatus::New if number >= self.first => {
                self.counts.beats += 1;
                self.counts.lost = self.counts.lost.saturating_sub(1);
                self.counts.taken_back += 1;
                Place::TakenBack
            }
            SequenceStatus::Duplicate => Place::Copy,
            SequenceStatus::New | SequenceStatus::TooOld => Place::TooLate,
        };
        self.counts.duplicates += u64::from(place == Place::Copy);
        self.counts.too_late += u64::from(place == Place::TooLate);
        self.counts.reordered += u64::from(place == Place::TakenBack);
        place
    }

    /// The sender says that `last` was the last one; what is missing up to there is lost. Says how
    /// many and the first of them.
    pub fn finish(&mut self, last: u64) -> (u64, u64) {
        let expected = self.newest.highest().map_or(0, |highest| highest + 1);
        let skipped = (last + 1).saturating_sub(expected);
        self.newest.advance_to(last);
        self.lose(skipped);
        (skipped, expected)
    }

    fn lose(&mut self, skipped: u64) {
        if skipped > 0 {
            self.counts.lost += skipped;
            self.counts.runs += 1;
            self.counts.longest_run = self.counts.longest_run.max(skipped);
        }
    }

    /// The highest number so far.
    pub fn highest(&self) -> Option<u64> {
        self.newest.highest()
    }

    /// How many of the newest beats are missing, and of how many.
    pub fn window(&self) -> (u64, u64) {
        self.newest.missing(self.first)
    }

    /// What it all came to, over every run of the sender.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Takes up the counts of an earlier watcher; what was sent while nobody watched is not lost.
    pub fn restored(counts: Counts) -> Self {
        Self { counts, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::{Counts, Gaps, Place};

    fn begun(number: u64) -> Gaps {
        let mut gaps = Gaps::default();
        assert_eq!(gaps.begin(number, number), Place::Ahead(0));
        gaps
    }

    #[test]
    fn skipped_numbers_are_lost_and_taken_back_when_they_come() {
        let mut gaps = begun(7);
        assert_eq!(gaps.see(8), Place::Ahead(0));
        assert_eq!(gaps.see(11), Place::Ahead(2));
        assert_eq!(gaps.see(9), Place::TakenBack);
        assert_eq!(gaps.see(9), Place::Copy);
        let expected = Counts {
            beats: 4,
            lost: 1,
            runs: 1,
            longest_run: 2,
            taken_back: 1,
            duplicates: 1,
            reordered: 1,
            too_late: 0,
        };
        assert_eq!((*gaps.counts(), gaps.window()), (expected, (1, 5)));
    }

    #[test]
    fn what_came_before_the_first_is_neither_lost_nor_taken_back() {
        let mut gaps = begun(7);
        assert_eq!(gaps.see(6), Place::TooLate);
        assert_eq!((gaps.counts().lost, gaps.counts().beats), (0, 1));
    }

    #[test]
    fn beats_that_were_sent_before_the_first_that_came_are_lost() {
        let mut gaps = Gaps::default();
        assert_eq!(gaps.begin(4, 1), Place::Ahead(3));
        assert_eq!(gaps.see(2), Place::TakenBack);
        assert_eq!((gaps.counts().lost, gaps.window()), (2, (2, 4)));
    }

    #[test]
    fn the_window_takes_back_its_last_beat_and_not_one_before() {
        let mut gaps = begun(1);
        gaps.see(1_000);
        assert_eq!((gaps.see(1_000 - 255), gaps.see(1_000 - 256)), (Place::TakenBack, Place::TooLate));
        assert_eq!((gaps.counts().lost, gaps.counts().too_late), (997, 1));
    }

    #[test]
    fn a_goodbye_tells_of_the_tail() {
        let mut gaps = begun(1);
        assert_eq!(gaps.finish(4), (3, 2));
        assert_eq!(gaps.finish(4), (0, 5));
        assert_eq!(gaps.see(3), Place::TakenBack);
        assert_eq!(gaps.counts().lost, 2);
    }

    #[test]
    fn a_new_run_starts_over_and_keeps_what_was_counted() {
        let mut gaps = begun(500);
        gaps.see(502);
        assert_eq!(gaps.begin(1, 1), Place::Ahead(0));
        assert_eq!((gaps.counts().lost, gaps.counts().beats, gaps.window()), (1, 3, (0, 1)));
    }

    #[test]
    fn the_largest_numbers_do_no_harm() {
        let mut gaps = begun(0);
        gaps.see(u64::MAX - 1);
        assert_eq!(gaps.finish(u64::MAX - 1), (0, u64::MAX));
        assert_eq!(gaps.see(u64::MAX - 1), Place::Copy);
    }
}
