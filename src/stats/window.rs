//! A window over sequence numbers.
//!
//! Owns the question whether a number was seen before, for the newest [`WIDTH`] of them, in two
//! words: the sliding window that RFC 4303 §3.4.3 describes against replay.

/// How far below the highest number the window reaches.
pub const WIDTH: u64 = 64;

/// The newest numbers seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Window {
    /// The highest number seen plus one; 0 before the first.
    next: u64,
    /// Bit b: the number `next − 1 − b` was seen.
    seen: u64,
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

impl Window {
    /// Notes a number and says what is known of it. The largest `u64` is never new.
    pub fn see(&mut self, number: u64) -> Seen {
        if number >= self.next {
            let step = number - self.next + 1;
            let shift = u32::try_from(step).unwrap_or(u32::MAX);
            self.seen = self.seen.checked_shl(shift).unwrap_or(0) | 1;
            self.next = number.saturating_add(1);
            return Seen::New;
        }
        let below = self.next - 1 - number;
        if below >= WIDTH {
            return Seen::Unknown;
        }
        let bit = 1 << below;
        let known = self.seen & bit != 0;
        self.seen |= bit;
        if known { Seen::Twice } else { Seen::New }
    }
}

#[cfg(test)]
mod tests {
    use super::{Seen, WIDTH, Window};

    #[test]
    fn numbers_are_new_once_in_any_order() {
        let mut window = Window::default();
        for number in [0, 5, 3, 9, 1] {
            assert_eq!(window.see(number), Seen::New, "{number}");
            assert_eq!(window.see(number), Seen::Twice, "{number}");
        }
    }

    #[test]
    fn the_window_reaches_its_width_and_not_one_further() {
        let mut window = Window::default();
        window.see(1_000);
        assert_eq!(window.see(1_000 - WIDTH + 1), Seen::New);
        assert_eq!(window.see(1_000 - WIDTH), Seen::Unknown);
    }

    #[test]
    fn a_jump_forgets_what_is_left_behind_and_extremes_do_no_harm() {
        let mut window = Window::default();
        window.see(3);
        window.see(3 + WIDTH);
        assert_eq!(window.see(3 + WIDTH - 1), Seen::New);
        window.see(u64::MAX - 1);
        assert_eq!(window.see(0), Seen::Unknown);
        window.see(u64::MAX);
        assert_eq!(window.see(u64::MAX), Seen::New, "documented: the largest is never known");
    }
}
