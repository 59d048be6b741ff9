//! The kernel's word on when a datagram came or left.
//!
//! Owns the step from wall time to our own clock, and which stamp belongs to which datagram sent.
//!
//! ```text
//!   send ticket 41 ─▶ number 7 ─▶ …wire… ─▶ error queue: number 7 left at 12:00:00.123 ─▶ ticket 41
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Moment;

/// How many datagrams are waited for. A device that never stamps what it sends, and some do not,
/// must not make us remember everything we ever sent.
const MAX_PENDING: usize = 4096;

/// Brings a stamp over to the monotonic clock: as long before `now` as the wall clock says, but
/// not before `floor`, when nothing had come yet. So a step of the wall clock bends nothing by
/// more than the distance of the two readings.
pub(super) fn to_monotonic(timestamp: Duration, now: Moment, not_before: Moment) -> Moment {
    const START: Moment = Moment::new(Duration::ZERO, Duration::ZERO);
    let ago = now.wall().saturating_sub(timestamp);
    let mono = (now - START).saturating_sub(ago).max(not_before - START);
    Moment::new(mono, timestamp)
}

/// The datagrams of one socket whose stamps have not come, numbered as the kernel does.
#[derive(Debug, Default)]
pub(super) struct PendingTimestamps {
    /// Their tickets; `None` once the stamp has come, out of order.
    tickets: VecDeque<Option<u64>>,
    /// The number of the first of them.
    first_number: u32,
}

impl PendingTimestamps {
    /// One more was sent.
    pub(super) fn push(&mut self, ticket: u64) {
        if self.tickets.len() >= MAX_PENDING {
            self.clear();
        }
        self.tickets.push_back(Some(ticket));
    }

    /// Whose stamp this is.
    pub(super) fn take(&mut self, number: u32) -> Option<u64> {
        let place = usize::try_from(number.wrapping_sub(self.first_number)).ok()?;
        let ticket = self.tickets.get_mut(place)?.take();
        while self.tickets.front() == Some(&None) {
            self.tickets.pop_front();
            self.first_number = self.first_number.wrapping_add(1);
        }
        ticket
    }

    /// How many stamps have not come.
    pub(super) fn count(&self) -> usize {
        self.tickets.len()
    }

    /// Waits for none of them any more.
    pub(super) fn clear(&mut self) {
        let passed = u32::try_from(self.tickets.len()).expect("bounded by AWAITED");
        self.first_number = self.first_number.wrapping_add(passed);
        self.tickets.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_PENDING, PendingTimestamps, to_monotonic};
    use crate::time::Moment;
    use std::time::Duration;

    const fn at(mono: u64, wall: u64) -> Moment {
        Moment::new(Duration::from_millis(mono), Duration::from_millis(wall))
    }

    #[test]
    fn a_stamp_is_as_old_as_the_wall_clock_says() {
        let came = to_monotonic(Duration::from_millis(997), at(50, 1_000), at(0, 950));
        assert_eq!(came, at(47, 0));
        assert_eq!(came.wall(), Duration::from_millis(997));
    }

    #[test]
    fn a_clock_step_moves_a_stamp_no_further_than_the_two_readings() {
        let (floor, now) = (at(40, 950), at(50, 1_000));
        assert_eq!(to_monotonic(Duration::ZERO, now, floor), floor);
        assert_eq!(to_monotonic(Duration::from_secs(9_999), now, floor), now);
    }

    #[test]
    fn each_stamp_finds_its_ticket_in_any_order_and_once() {
        let mut departures = PendingTimestamps::default();
        (10..14).for_each(|ticket| departures.push(ticket));
        assert_eq!([1, 0, 1, 7, 3].map(|number| departures.take(number)), [Some(11), Some(10), None, None, Some(13)]);
        departures.push(14);
        assert_eq!([4, 2].map(|number| departures.take(number)), [Some(14), Some(12)]);
        assert_eq!(departures.count(), 0);
    }

    #[test]
    fn stamps_that_never_come_are_given_up() {
        let mut departures = PendingTimestamps::default();
        (0..=MAX_PENDING as u64).for_each(|ticket| departures.push(ticket));
        assert_eq!(departures.count(), 1);
        let number = u32::try_from(MAX_PENDING).expect("small");
        assert_eq!((departures.take(0), departures.take(number)), (None, Some(MAX_PENDING as u64)));
    }
}
