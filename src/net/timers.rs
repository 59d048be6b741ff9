//! When to wake whom, for thousands of connections.
//!
//! Owns a heap of moments with one live entry per connection. A deadline that moves later (the
//! common case: each request pushes the idle limit on) costs nothing: the old entry comes up, the
//! owner says how much later it wants to be woken, and is put back.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::time::Moment;

/// Moments and the slots that asked for them.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Moment, usize, u64)>>,
}

/// One slot's entry in the heap.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ConnectionTimer {
    /// When the earliest entry of this slot comes up.
    at: Option<Moment>,
    /// Tells this entry from older ones of the same slot.
    generation: u64,
}

impl Timers {
    /// Makes sure that `slot` comes up at `wanted` or before.
    pub(super) fn arm(&mut self, slot: usize, timer: &mut ConnectionTimer, deadline: Option<Moment>) {
        let Some(wanted) = deadline else { return };
        if timer.at.is_some_and(|at| at <= wanted) {
            return;
        }
        timer.generation += 1;
        timer.at = Some(wanted);
        self.heap.push(Reverse((wanted, slot, timer.generation)));
    }

    /// When the next entry comes up.
    pub(super) fn next_deadline(&self) -> Option<Moment> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    /// Takes the next entry that is due, as slot and generation.
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
    /// An alarm whose entries cannot be taken for those of the slot's last tenant.
    pub(super) fn new(generation: u64) -> Self {
        Self { at: None, generation }
    }

    /// Whether an entry that came up is this one's latest; it is gone then.
    pub(super) fn fires(&mut self, generation: u64) -> bool {
        let rings = self.at.is_some() && self.generation == generation;
        if rings {
            self.at = None;
        }
        rings
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
        let (mut timers, mut alarm) = (Timers::default(), ConnectionTimer::default());
        timers.arm(7, &mut alarm, Some(at(10)));
        timers.arm(7, &mut alarm, Some(at(20)));
        assert_eq!(timers.next_deadline(), Some(at(10)));
        let (slot, generation) = timers.pop_due(at(10)).expect("due");
        assert!(slot == 7 && alarm.fires(generation));
        timers.arm(7, &mut alarm, Some(at(20)));
        assert_eq!(timers.pop_due(at(19)), None);
        assert!(timers.pop_due(at(20)).is_some());
    }

    #[test]
    fn an_older_entry_does_not_ring_a_newer_alarm() {
        let (mut timers, mut alarm) = (Timers::default(), ConnectionTimer::default());
        timers.arm(7, &mut alarm, Some(at(20)));
        timers.arm(7, &mut alarm, Some(at(10)));
        let rings: Vec<bool> =
            std::iter::from_fn(|| timers.pop_due(at(30))).map(|(_, generation)| alarm.fires(generation)).collect();
        assert_eq!(rings, [true, false]);
    }
}
