//! Timers of a worker's connections.
//!
//! Owns a heap of deadlines with one current entry per connection. A deadline that moves later (the common case: each
//! request extends the idle timeout) needs no change to the heap: when the old entry expires, one with the current
//! deadline of the connection replaces it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use crate::time::Moment;

/// Timeouts that the connection itself enforces, rather than its protocol.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionTimeouts {
    /// Limit for the whole TLS handshake.
    pub handshake: Duration,
    /// Limit for a peer that reads none of the queued data.
    pub stall: Duration,
}

/// Heap of deadlines with their slots and generations.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Moment, usize, u64)>>,
}

/// Entry of one slot in the heap.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ConnectionTimer {
    /// Deadline of the current entry.
    at: Option<Moment>,
    /// Distinguishes the current entry from older ones of the same slot.
    generation: u64,
}

impl Timers {
    /// Ensures that `slot` expires at `deadline` or earlier.
    pub(super) fn arm(&mut self, slot: usize, timer: &mut ConnectionTimer, deadline: Option<Moment>) {
        let Some(deadline) = deadline else { return };
        if timer.at.is_some_and(|at| at <= deadline) {
            return;
        }
        timer.generation += 1;
        timer.at = Some(deadline);
        self.heap.push(Reverse((deadline, slot, timer.generation)));
    }

    pub(super) fn next_deadline(&self) -> Option<Moment> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    /// Takes the next expired entry, as slot and generation.
    pub(super) fn pop_due(&mut self, now: Moment) -> Option<(usize, u64)> {
        let Reverse((at, slot, generation)) = *self.heap.peek()?;
        if at > now {
            return None;
        }
        self.heap.pop();
        Some((slot, generation))
    }
}

impl ConnectionTimer {
    /// Creates a timer; `generation` must exceed those of the slot's earlier connections.
    pub(super) fn new(generation: u64) -> Self {
        Self { at: None, generation }
    }

    /// Returns whether an expired entry is the current one, and clears it.
    pub(super) fn fires(&mut self, generation: u64) -> bool {
        let fires = self.at.is_some() && self.generation == generation;
        if fires {
            self.at = None;
        }
        fires
    }
}

#[cfg(test)]
mod tests {
    use super::{ConnectionTimer, Timers};
    use crate::time::Moment;
    use std::time::Duration;

    fn at(seconds: u64) -> Moment {
        Moment::new(Duration::from_secs(seconds), Duration::ZERO)
    }

    #[test]
    fn a_deadline_that_moves_later_costs_no_entry() {
        let (mut timers, mut timer) = (Timers::default(), ConnectionTimer::default());
        timers.arm(7, &mut timer, Some(at(10)));
        timers.arm(7, &mut timer, Some(at(20)));
        assert_eq!(timers.next_deadline(), Some(at(10)));
        let (slot, generation) = timers.pop_due(at(10)).expect("due");
        assert!(slot == 7 && timer.fires(generation));
        timers.arm(7, &mut timer, Some(at(20)));
        assert_eq!(timers.pop_due(at(19)), None);
        assert!(timers.pop_due(at(20)).is_some());
    }

    #[test]
    fn an_outdated_entry_does_not_fire_the_timer() {
        let (mut timers, mut timer) = (Timers::default(), ConnectionTimer::default());
        timers.arm(7, &mut timer, Some(at(20)));
        timers.arm(7, &mut timer, Some(at(10)));
        let fired: Vec<bool> =
            std::iter::from_fn(|| timers.pop_due(at(30))).map(|(_, generation)| timer.fires(generation)).collect();
        assert_eq!(fired, [true, false]);
    }
}
