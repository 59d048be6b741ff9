//! A window over sequence numbers.
//!
//! Owns the question whether a number was seen before, for the newest of them: the sliding window
//! that RFC 4303 §3.4.3 describes against replay. `WORDS` of 64 numbers each.

/// The newest numbers seen.
#[derive(Clone, Copy, Debug)]
pub struct Window<const WORDS: usize = 1> {
    /// The highest number seen plus one; 0 before the first.
    next: u64,
    /// Bit b of word w: the number `next − 1 − (64·w + b)` was seen.
    seen: [u64; WORDS],
}

impl<const WORDS: usize> Default for Window<WORDS> {
    fn default() -> Self {
        Self { next: 0, seen: [0; WORDS] }
    }
}

/// What a number is to a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Not seen before.
    New,
    /// Seen before.
    Twice,
    /// Too far below the highest to be known.
    Unknown,
}

impl<const WORDS: usize> Window<WORDS> {
    /// How far below the highest number it reaches.
    pub const WIDTH: u64 = 64 * WORDS as u64;

    /// Notes a number and says what is known of it. The largest `u64` is never new.
    pub fn see(&mut self, number: u64) -> Seen {
        if number >= self.next {
            self.shift(number - self.next + 1);
            self.mark(0);
            self.next = number.saturating_add(1);
            return Seen::New;
        }
        let below = self.next - 1 - number;
        if below >= Self::WIDTH {
            return Seen::Unknown;
        }
        if self.mark(below) { Seen::Twice } else { Seen::New }
    }

    /// Moves on to a number that was not seen itself.
    pub fn expect(&mut self, number: u64) {
        if number >= self.next {
            self.shift(number - self.next + 1);
            self.next = number.saturating_add(1);
        }
    }

    /// The highest number seen or expected.
    pub fn highest(&self) -> Option<u64> {
        self.next.checked_sub(1)
    }

    /// How many of the newest numbers, down to `first`, were not seen, and of how many.
    pub fn missing(&self, first: u64) -> (u64, u64) {
        let span = self.next.saturating_sub(first).min(Self::WIDTH);
        let seen = |(word, bits): (u64, u64)| match span.saturating_sub(64 * word) {
            0 => 0,
            left @ 1..64 => (bits & ((1 << left) - 1)).count_ones(),
            _ => bits.count_ones(),
        };
        let seen: u32 = (0..).zip(self.seen).map(seen).sum();
        (span - u64::from(seen), span)
    }

    /// Marks the number so far below the highest, and says whether it was marked.
    fn mark(&mut self, below: u64) -> bool {
        let place = usize::try_from(below / 64).ok().and_then(|word| self.seen.get_mut(word));
        let Some(word) = place else { return false };
        let bit = 1 << (below % 64);
        let known = *word & bit != 0;
        *word |= bit;
        known
    }

    /// Makes room for so many higher numbers.
    fn shift(&mut self, step: u64) {
        let words = usize::try_from(step / 64).unwrap_or(usize::MAX).min(WORDS);
        self.seen.rotate_right(words);
        self.seen.iter_mut().take(words).for_each(|word| *word = 0);
        let bits = step % 64;
        if bits > 0 {
            let mut carried = 0;
            for word in &mut self.seen {
                let out = *word >> (64 - bits);
                *word = *word << bits | carried;
                carried = out;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Seen, Window};

    const WIDTH: u64 = Window::<1>::WIDTH;

    #[test]
    fn numbers_are_new_once_in_any_order() {
        let mut window = Window::<1>::default();
        for number in [0, 5, 3, 9, 1] {
            assert_eq!(window.see(number), Seen::New, "{number}");
            assert_eq!(window.see(number), Seen::Twice, "{number}");
        }
    }

    #[test]
    fn the_window_reaches_its_width_and_not_one_further() {
        let mut window = Window::<1>::default();
        window.see(1_000);
        assert_eq!(window.see(1_000 - WIDTH + 1), Seen::New);
        assert_eq!(window.see(1_000 - WIDTH), Seen::Unknown);
    }

    #[test]
    fn a_jump_forgets_what_is_left_behind_and_extremes_do_no_harm() {
        let mut window = Window::<1>::default();
        window.see(3);
        window.see(3 + WIDTH);
        assert_eq!(window.see(3 + WIDTH - 1), Seen::New);
        window.see(u64::MAX - 1);
        assert_eq!(window.see(0), Seen::Unknown);
        window.see(u64::MAX);
        assert_eq!(window.see(u64::MAX), Seen::New, "documented: the largest is never known");
    }

    #[test]
    fn a_wide_window_remembers_across_its_words() {
        let mut window = Window::<4>::default();
        for number in (0..1_000).filter(|number| number % 7 != 0) {
            assert_eq!(window.see(number), Seen::New);
        }
        for number in 1_000 - 256..1_000 {
            let expected = if number % 7 == 0 { Seen::New } else { Seen::Twice };
            assert_eq!(window.see(number), expected, "{number}");
        }
        assert_eq!(window.see(743), Seen::Unknown);
        window.see(1_000 + 130);
        assert_eq!((window.see(999), window.see(1_001)), (Seen::Twice, Seen::New));
    }

    #[test]
    fn what_is_missing_is_counted_within_the_window_and_from_the_first() {
        let mut window = Window::<4>::default();
        window.see(10);
        assert_eq!(window.missing(10), (0, 1));
        window.see(14);
        assert_eq!((window.missing(10), window.missing(0)), ((3, 5), (13, 15)));
        for number in (15..1_000).filter(|number| number % 2 == 0) {
            window.see(number);
        }
        assert_eq!((window.highest(), window.missing(10)), (Some(998), (128, 256)));
        window.expect(999);
        assert_eq!((window.highest(), window.missing(998)), (Some(999), (1, 2)));
        assert_eq!((window.see(999), window.see(998)), (Seen::New, Seen::Twice));
        let mut narrow = Window::<1>::default();
        for number in 0..64 {
            narrow.see(number);
        }
        assert_eq!(narrow.missing(0), (0, 64));
    }
}
