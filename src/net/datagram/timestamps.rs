//! Kernel timestamps of datagrams received and sent.
//!
//! Owns the conversion from wall time to monotonic time, and the assignment of send timestamps to tickets.
//!
//! ```text
//!   send ticket 41 ─▶ number 7 ─▶ …network… ─▶ error queue: number 7 sent at 12:00:00.123 ─▶ ticket 41
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Moment;

/// Maximum number of pending timestamps. Some devices never timestamp what they send, and must not make the
/// list grow without limit.
const MAX_PENDING: usize = 4096;

/// Converts a timestamp to monotonic time: as long before `now` as the wall clock says, but not before
/// `not_before`, when the socket was still empty. A step of the wall clock thus shifts the result by no more
/// than the time between the two readings.
pub(super) fn to_monotonic(timestamp: Duration, now: Moment, not_before: Moment) -> Moment {
    const START: Moment = Moment::new(Duration::ZERO, Duration::ZERO);
    let ago = now.wall().saturating_sub(timestamp);
    let mono = (now - START).saturating_sub(ago).max(not_before - START);
    Moment::new(mono, timestamp)
}

/// Sent datagrams of one socket whose timestamps are pending, numbered as in the kernel.
#[derive(Debug, Default)]
pub(super) struct PendingTimestamps {
    /// Tickets; `None` once a timestamp has arrived out of order.
    tickets: VecDeque<Option<u64>>,
    /// Number of the first ticket.
    first_number: u32,
}

impl PendingTimestamps {
    /// Adds a sent datagram; at the limit, gives up on all before it.
    pub(super) fn push(&mut self, ticket: u64) {
        if self.tickets.len() >= MAX_PENDING {
            self.clear();
        }
        self.tickets.push_back(Some(ticket));
    }

    /// Removes and returns the ticket of this number.
    pub(super) fn take(&mut self, number: u32) -> Option<u64> {
        let index = usize::try_from(number.wrapping_sub(self.first_number)).ok()?;
        let ticket = self.tickets.get_mut(index)?.take();
        while self.tickets.front() == Some(&None) {
            self.tickets.pop_front();
            self.first_number = self.first_number.wrapping_add(1);
        }
        ticket
    }

    pub(super) fn count(&self) -> usize {
        self.tickets.len()
    }

    /// Gives up on all pending timestamps.
    pub(super) fn clear(&mut self) {
        let skipped = u32::try_from(self.tickets.len()).expect("bounded by MAX_PENDING");
        self.first_number = self.first_number.wrapping_add(skipped);
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
    fn a_timestamp_is_as_old_as_the_wall_clock_says() {
        let converted = to_monotonic(Duration::from_millis(997), at(50, 1_000), at(0, 950));
        assert_eq!(converted, at(47, 0));
        assert_eq!(converted.wall(), Duration::from_millis(997));
    }

    #[test]
    fn a_clock_step_moves_a_timestamp_no_further_than_the_two_readings() {
        let (not_before, now) = (at(40, 950), at(50, 1_000));
        assert_eq!(to_monotonic(Duration::ZERO, now, not_before), not_before);
        assert_eq!(to_monotonic(Duration::from_secs(9_999), now, not_before), now);
    }

    #[test]
    fn each_timestamp_finds_its_ticket_in_any_order_and_once() {
        let mut pending = PendingTimestamps::default();
        (10..14).for_each(|ticket| pending.push(ticket));
        assert_eq!([1, 0, 1, 7, 3].map(|number| pending.take(number)), [Some(11), Some(10), None, None, Some(13)]);
        pending.push(14);
        assert_eq!([4, 2].map(|number| pending.take(number)), [Some(14), Some(12)]);
        assert_eq!(pending.count(), 0);
    }

    #[test]
    fn timestamps_that_never_arrive_are_given_up() {
        let mut pending = PendingTimestamps::default();
        (0..=MAX_PENDING as u64).for_each(|ticket| pending.push(ticket));
        assert_eq!(pending.count(), 1);
        let number = u32::try_from(MAX_PENDING).expect("small");
        assert_eq!((pending.take(0), pending.take(number)), (None, Some(MAX_PENDING as u64)));
    }
}
