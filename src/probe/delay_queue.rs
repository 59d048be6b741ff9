//! Delay queue: replies held until they are due.
//!
//! Bounded in replies and in bytes, because delay times packet rate is the memory a flood could use.
//! Buffers are reused, so that a reply costs no allocation once the queue has reached its usual size.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use crate::protocol::Transmit;
use crate::time::Moment;

/// Maximum number of replies in the queue.
pub(super) const MAX_REPLIES: usize = 16_384;

/// Maximum total size of the queued replies in bytes.
pub(super) const MAX_BYTES: usize = 16 << 20;

/// Largest buffer kept for reuse; a full Ethernet frame fits.
const MAX_SPARE_CAPACITY: usize = 2_048;

/// Replies ordered by due time; replies due at the same time keep their order.
#[derive(Debug, Default)]
pub(super) struct DelayQueue {
    queue: BinaryHeap<Reverse<DelayedReply>>,
    bytes: usize,
    sequence: u64,
    spare_buffers: Vec<Vec<u8>>,
}

#[derive(Debug)]
struct DelayedReply {
    due: Moment,
    sequence: u64,
    transmit: Transmit,
    bytes: Vec<u8>,
}

impl DelayQueue {
    /// Queues a reply until it is due. Returns `false` if the queue is full.
    pub(super) fn push(&mut self, due: Moment, transmit: Transmit, bytes: &[u8]) -> bool {
        if self.queue.len() >= MAX_REPLIES || self.bytes + bytes.len() > MAX_BYTES {
            return false;
        }
        self.bytes += bytes.len();
        self.sequence += 1;
        let mut buffer = self.spare_buffers.pop().unwrap_or_default();
        buffer.extend_from_slice(bytes);
        self.queue.push(Reverse(DelayedReply { due, sequence: self.sequence, transmit, bytes: buffer }));
        true
    }

    /// Passes every due reply to `send`, earliest first.
    pub(super) fn drain_due(&mut self, now: Moment, mut send: impl FnMut(Transmit, &[u8])) {
        while self.next_due().is_some_and(|due| due <= now) {
            let Some(Reverse(reply)) = self.queue.pop() else {
                return;
            };
            self.bytes -= reply.bytes.len();
            send(reply.transmit, &reply.bytes);
            let mut buffer = reply.bytes;
            if buffer.capacity() <= MAX_SPARE_CAPACITY {
                buffer.clear();
                self.spare_buffers.push(buffer);
            }
        }
    }

    pub(super) fn next_due(&self) -> Option<Moment> {
        self.queue.peek().map(|reply| reply.0.due)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }
}

impl Ord for DelayedReply {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.due, self.sequence).cmp(&(other.due, other.sequence))
    }
}

impl PartialOrd for DelayedReply {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for DelayedReply {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for DelayedReply {}

#[cfg(test)]
mod tests {
    use super::{DelayQueue, MAX_BYTES, MAX_REPLIES, MAX_SPARE_CAPACITY};
    use crate::protocol::Transmit;
    use crate::time::Moment;
    use std::time::Duration;

    fn at(millis: u64) -> Moment {
        Moment::new(Duration::from_millis(millis), Duration::ZERO)
    }

    fn push(delayed: &mut DelayQueue, millis: u64, ticket: u64, size: usize) -> bool {
        delayed.push(at(millis), Transmit::connected(0, ticket), &vec![b'x'; size])
    }

    fn drained(delayed: &mut DelayQueue, millis: u64) -> Vec<u64> {
        let mut tickets = Vec::new();
        delayed.drain_due(at(millis), |transmit, _| tickets.push(transmit.ticket));
        tickets
    }

    #[test]
    fn replies_leave_when_due_and_equal_due_times_keep_their_order() {
        let mut delayed = DelayQueue::default();
        for (millis, ticket) in [(30, 1), (10, 2), (20, 3), (10, 4)] {
            assert!(push(&mut delayed, millis, ticket, 8));
        }
        assert_eq!(delayed.next_due(), Some(at(10)));
        assert!(drained(&mut delayed, 9).is_empty());
        assert_eq!(drained(&mut delayed, 20), [2, 4, 3]);
        assert_eq!(delayed.next_due(), Some(at(30)));
        assert_eq!(drained(&mut delayed, 99), [1]);
        assert_eq!((delayed.len(), delayed.next_due()), (0, None));
    }

    #[test]
    fn the_queue_holds_its_limit_of_replies_and_not_one_more() {
        let mut delayed = DelayQueue::default();
        assert!((0..MAX_REPLIES).all(|_| push(&mut delayed, 1, 0, 0)));
        assert!(!push(&mut delayed, 1, 0, 0));
        assert_eq!(drained(&mut delayed, 1).len(), MAX_REPLIES);
        assert!(push(&mut delayed, 1, 0, 0), "a drained queue accepts replies");
    }

    #[test]
    fn the_queue_holds_its_limit_of_bytes_and_not_one_more() {
        let mut delayed = DelayQueue::default();
        assert!((0..MAX_BYTES / 65_536).all(|_| push(&mut delayed, 1, 0, 65_536)));
        assert!(!push(&mut delayed, 1, 0, 1));
        drained(&mut delayed, 1);
        assert!(push(&mut delayed, 1, 0, 1));
    }

    #[test]
    fn buffers_are_reused_unless_they_are_large() {
        let mut delayed = DelayQueue::default();
        push(&mut delayed, 1, 0, MAX_SPARE_CAPACITY);
        push(&mut delayed, 1, 0, MAX_SPARE_CAPACITY + 1);
        drained(&mut delayed, 1);
        assert_eq!(delayed.spare_buffers.len(), 1);
        push(&mut delayed, 1, 0, 64);
        assert_eq!(delayed.spare_buffers.len(), 0);
    }
}
