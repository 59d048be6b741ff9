//! Sliding window over sequence numbers.
//!
//! Owns the detection of duplicates among the newest numbers, as RFC 4303 §3.4.3 describes it against replay.
//! The window holds `WORDS` × 64 numbers.

/// Window of the newest numbers seen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SequenceWindow<const WORDS: usize = 1> {
    /// Highest number seen plus one; 0 before the first.
    next: u64,
    /// Bit b of word w: the number `next − 1 − (64·w + b)` was seen.
    bitmap: [u64; WORDS],
}

impl<const WORDS: usize> Default for SequenceWindow<WORDS> {
    fn default() -> Self {
        Self { next: 0, bitmap: [0; WORDS] }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SequenceStatus {
    New,
    Duplicate,
    /// Number too far below the highest to be known.
    TooOld,
}

impl<const WORDS: usize> SequenceWindow<WORDS> {
    /// Number of sequence numbers that the window covers.
    pub(crate) const WIDTH: u64 = 64 * WORDS as u64;

    /// Records a number and returns its status. The largest `u64` is always new.
    pub(crate) fn record(&mut self, seq: u64) -> SequenceStatus {
        if seq >= self.next {
            self.shift(seq - self.next + 1);
            self.mark(0);
            self.next = seq.saturating_add(1);
            return SequenceStatus::New;
        }
        let below = self.next - 1 - seq;
        if below >= Self::WIDTH {
            return SequenceStatus::TooOld;
        }
        if self.mark(below) { SequenceStatus::Duplicate } else { SequenceStatus::New }
    }

    /// Advances to a number that was not seen itself.
    pub(crate) fn advance_to(&mut self, seq: u64) {
        if seq >= self.next {
            self.shift(seq - self.next + 1);
            self.next = seq.saturating_add(1);
        }
    }

    /// Returns the highest number seen or expected.
    pub(crate) fn highest(&self) -> Option<u64> {
        self.next.checked_sub(1)
    }

    /// Returns how many of the window's numbers from `first` on were not seen, and how many there are.
    pub(crate) fn missing(&self, first: u64) -> (u64, u64) {
        let span = self.next.saturating_sub(first).min(Self::WIDTH);
        let seen = |(word, bits): (u64, u64)| match span.saturating_sub(64 * word) {
            0 => 0,
            left @ 1..64 => (bits & ((1 << left) - 1)).count_ones(),
            _ => bits.count_ones(),
        };
        let seen: u32 = (0..).zip(self.bitmap).map(seen).sum();
        (span - u64::from(seen), span)
    }

    /// Marks the number at this distance below the highest, and returns true if it was marked before.
    fn mark(&mut self, below: u64) -> bool {
        let entry = usize::try_from(below / 64).ok().and_then(|word| self.bitmap.get_mut(word));
        let Some(word) = entry else { return false };
        let bit = 1 << (below % 64);
        let was_marked = *word & bit != 0;
        *word |= bit;
        was_marked
    }

    /// Shifts the window up by `step` numbers.
    fn shift(&mut self, step: u64) {
        let words = usize::try_from(step / 64).unwrap_or(usize::MAX).min(WORDS);
        self.bitmap.rotate_right(words);
        self.bitmap.iter_mut().take(words).for_each(|word| *word = 0);
        let bits = step % 64;
        if bits > 0 {
            let mut carried = 0;
            for word in &mut self.bitmap {
                let out = *word >> (64 - bits);
                *word = *word << bits | carried;
                carried = out;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{SequenceStatus, SequenceWindow};

    const WIDTH: u64 = SequenceWindow::<1>::WIDTH;

    #[test]
    fn numbers_are_new_once_in_any_order() {
        let mut window = SequenceWindow::<1>::default();
        for number in [0, 5, 3, 9, 1] {
            assert_eq!(window.record(number), SequenceStatus::New, "{number}");
            assert_eq!(window.record(number), SequenceStatus::Duplicate, "{number}");
        }
    }

    #[test]
    fn the_window_reaches_its_width_and_not_one_further() {
        let mut window = SequenceWindow::<1>::default();
        window.record(1_000);
        assert_eq!(window.record(1_000 - WIDTH + 1), SequenceStatus::New);
        assert_eq!(window.record(1_000 - WIDTH), SequenceStatus::TooOld);
    }

    #[test]
    fn a_jump_forgets_older_numbers_and_extreme_numbers_are_handled() {
        let mut window = SequenceWindow::<1>::default();
        window.record(3);
        window.record(3 + WIDTH);
        assert_eq!(window.record(3 + WIDTH - 1), SequenceStatus::New);
        window.record(u64::MAX - 1);
        assert_eq!(window.record(0), SequenceStatus::TooOld);
        window.record(u64::MAX);
        assert_eq!(window.record(u64::MAX), SequenceStatus::New, "documented: the largest is always new");
    }

    #[test]
    fn a_wide_window_remembers_across_its_words() {
        let mut window = SequenceWindow::<4>::default();
        for number in (0..1_000).filter(|number| number % 7 != 0) {
            assert_eq!(window.record(number), SequenceStatus::New);
        }
        for number in 1_000 - 256..1_000 {
            let expected = if number % 7 == 0 { SequenceStatus::New } else { SequenceStatus::Duplicate };
            assert_eq!(window.record(number), expected, "{number}");
        }
        assert_eq!(window.record(743), SequenceStatus::TooOld);
        window.record(1_000 + 130);
        assert_eq!((window.record(999), window.record(1_001)), (SequenceStatus::Duplicate, SequenceStatus::New));
    }

    #[test]
    fn missing_numbers_are_counted_within_the_window_and_from_the_first() {
        let mut window = SequenceWindow::<4>::default();
        window.record(10);
        assert_eq!(window.missing(10), (0, 1));
        window.record(14);
        assert_eq!((window.missing(10), window.missing(0)), ((3, 5), (13, 15)));
        for number in (15..1_000).filter(|number| number % 2 == 0) {
            window.record(number);
        }
        assert_eq!((window.highest(), window.missing(10)), (Some(998), (128, 256)));
        window.advance_to(999);
        assert_eq!((window.highest(), window.missing(998)), (Some(999), (1, 2)));
        assert_eq!((window.record(999), window.record(998)), (SequenceStatus::New, SequenceStatus::Duplicate));
        let mut narrow = SequenceWindow::<1>::default();
        for number in 0..64 {
            narrow.record(number);
        }
        assert_eq!(narrow.missing(0), (0, 64));
    }
}
