//! Replies that are held back.
//!
//! Owns the queue of answers whose moment has not come. It is bounded in number and in octets,
//! because a delay times a flood is as much memory as the flood likes; buffers are used again, so
//! that a held reply costs no allocation once the queue has reached its usual size.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use crate::conversation::Transmit;
use crate::time::Moment;

/// How many replies are held at most.
pub const REPLIES: usize = 16_384;

/// How many octets they may have together.
pub const OCTETS: usize = 16 << 20;

/// The largest buffer that is kept for the next reply: a full Ethernet frame fits.
const KEPT: usize = 2_048;

/// Replies by the moment they are due; those of one moment in the order they were held.
#[derive(Debug, Default)]
pub struct Delayed {
    queue: BinaryHeap<Reverse<Held>>,
    octets: usize,
    order: u64,
    spare: Vec<Vec<u8>>,
}

#[derive(Debug)]
struct Held {
    due: Moment,
    order: u64,
    envelope: Transmit,
    bytes: Vec<u8>,
}

impl Delayed {
    /// Holds a reply until it is due. Says whether there was room.
    pub fn hold(&mut self, due: Moment, envelope: Transmit, bytes: &[u8]) -> bool {
        if self.queue.len() >= REPLIES || self.octets + bytes.len() > OCTETS {
            return false;
        }
        self.octets += bytes.len();
        self.order += 1;
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.extend_from_slice(bytes);
        self.queue.push(Reverse(Held { due, order: self.order, envelope, bytes: buffer }));
        true
    }

    /// Hands over every reply that is due, earliest first.
    pub fn release(&mut self, now: Moment, mut send: impl FnMut(Transmit, &[u8])) {
        while self.next_due().is_some_and(|due| due <= now) {
            let Some(Reverse(held)) = self.queue.pop() else {
                return;
            };
            self.octets -= held.bytes.len();
            send(held.envelope, &held.bytes);
            let mut buffer = held.bytes;
            if buffer.capacity() <= KEPT {
                buffer.clear();
                self.spare.push(buffer);
            }
        }
    }

    /// When the next reply is due.
    pub fn next_due(&self) -> Option<Moment> {
        self.queue.peek().map(|held| held.0.due)
    }

    /// How many replies are held.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.queue.len()
    }
}

impl Ord for Held {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.due, self.order).cmp(&(other.due, other.order))
    }
}

impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Held {}

#[cfg(test)]
mod tests {
    use super::{Delayed, KEPT, OCTETS, REPLIES};
    use crate::conversation::Transmit;
    use crate::time::Moment;
    use std::time::Duration;

    fn at(millis: u64) -> Moment {
        Moment::new(Duration::from_millis(millis), Duration::ZERO)
    }

    fn hold(delayed: &mut Delayed, millis: u64, ticket: u64, size: usize) -> bool {
        delayed.hold(at(millis), Transmit::connected(0, ticket), &vec![b'x'; size])
    }

    fn released(delayed: &mut Delayed, millis: u64) -> Vec<u64> {
        let mut tickets = Vec::new();
        delayed.release(at(millis), |envelope, _| tickets.push(envelope.ticket));
        tickets
    }

    #[test]
    fn replies_leave_when_due_and_equals_in_their_order() {
        let mut delayed = Delayed::default();
        for (millis, ticket) in [(30, 1), (10, 2), (20, 3), (10, 4)] {
            assert!(hold(&mut delayed, millis, ticket, 8));
        }
        assert_eq!(delayed.next_due(), Some(at(10)));
        assert!(released(&mut delayed, 9).is_empty());
        assert_eq!(released(&mut delayed, 20), [2, 4, 3]);
        assert_eq!(delayed.next_due(), Some(at(30)));
        assert_eq!(released(&mut delayed, 99), [1]);
        assert_eq!((delayed.len(), delayed.next_due()), (0, None));
    }

    #[test]
    fn the_queue_holds_as_many_as_its_limit_and_not_one_more() {
        let mut delayed = Delayed::default();
        assert!((0..REPLIES).all(|_| hold(&mut delayed, 1, 0, 0)));
        assert!(!hold(&mut delayed, 1, 0, 0));
        assert_eq!(released(&mut delayed, 1).len(), REPLIES);
        assert!(hold(&mut delayed, 1, 0, 0), "there is room again");
    }

    #[test]
    fn the_queue_holds_as_many_octets_as_its_limit_and_not_one_more() {
        let mut delayed = Delayed::default();
        assert!((0..OCTETS / 65_536).all(|_| hold(&mut delayed, 1, 0, 65_536)));
        assert!(!hold(&mut delayed, 1, 0, 1));
        released(&mut delayed, 1);
        assert!(hold(&mut delayed, 1, 0, 1));
    }

    #[test]
    fn buffers_are_used_again_unless_they_are_large() {
        let mut delayed = Delayed::default();
        hold(&mut delayed, 1, 0, KEPT);
        hold(&mut delayed, 1, 0, KEPT + 1);
        released(&mut delayed, 1);
        assert_eq!(delayed.spare.len(), 1);
        hold(&mut delayed, 1, 0, 64);
        assert_eq!(delayed.spare.len(), 0);
    }
}
