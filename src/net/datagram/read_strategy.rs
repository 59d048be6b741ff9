//! Read strategy of a datagram socket: how many datagrams a call asks for, and whether an empty socket is polled again.
//!
//! One datagram at a time answers the first client soonest; batches save system calls once datagrams follow each
//! other without a pause.

use std::time::Duration;

use super::recv::BATCH_SIZE;
use crate::time::Moment;

/// Batch size once two datagrams arrived without a pause between them. A larger one would save little, and
/// the client of the first request would wait for the whole batch.
const GROWN_BATCH_SIZE: usize = 8;
/// Time for which a server polls again before it sleeps. A wakeup costs both sides more than that, and would
/// slow down a client that sends each request after the previous reply.
const BUSY_POLL_TIME: Duration = Duration::from_micros(15);

pub(super) struct ReadStrategy {
    /// Number of datagrams the next call asks for: 1 or `grown_batch_size`.
    batch_size: usize,
    grown_batch_size: usize,
    /// The last datagram followed another one without a pause.
    back_to_back: bool,
    last_received: Moment,
    /// Time after `last_received` for which the socket is polled before the thread sleeps.
    busy_poll_time: Duration,
}

impl ReadStrategy {
    /// Returns the strategy of a server, whose clients wait for replies.
    pub(super) fn new(now: Moment) -> Self {
        Self {
            batch_size: 1,
            grown_batch_size: GROWN_BATCH_SIZE,
            back_to_back: false,
            last_received: now,
            busy_poll_time: BUSY_POLL_TIME,
        }
    }

    pub(super) fn without_busy_polling(now: Moment) -> Self {
        Self { busy_poll_time: Duration::ZERO, ..Self::new(now) }
    }

    /// Disables busy polling and reads the largest batches.
    pub(super) fn prefer_batching(&mut self) {
        (self.busy_poll_time, self.grown_batch_size) = (Duration::ZERO, BATCH_SIZE);
    }

    pub(super) fn batch_size(&self) -> usize {
        self.batch_size
    }

    /// Adapts the next batch size to the number of datagrams received at `now`.
    pub(super) fn on_batch(&mut self, received: usize, now: Moment) {
        self.last_received = now;
        self.batch_size =
            if received > 1 || (self.back_to_back && self.batch_size == 1) { self.grown_batch_size } else { 1 };
        self.back_to_back = true;
    }

    /// Returns whether an empty socket is polled again before the thread sleeps.
    pub(super) fn on_empty(&mut self, now: Moment) -> bool {
        let keep_polling = now - self.last_received < self.busy_poll_time;
        self.back_to_back &= keep_polling;
        keep_polling
    }
}

#[cfg(test)]
mod tests {
    use super::{BUSY_POLL_TIME, GROWN_BATCH_SIZE, ReadStrategy};
    use crate::net::datagram::recv::BATCH_SIZE;
    use crate::time::Moment;
    use std::time::Duration;

    const START: Moment = Moment::new(Duration::from_secs(1), Duration::ZERO);

    #[test]
    fn a_batch_grows_while_datagrams_follow_each_other() {
        let mut strategy = ReadStrategy::new(START);
        strategy.on_batch(1, START);
        assert_eq!(strategy.batch_size(), 1, "the first of a burst");
        strategy.on_batch(1, START);
        assert_eq!(strategy.batch_size(), GROWN_BATCH_SIZE);
        strategy.on_batch(1, START);
        assert_eq!(strategy.batch_size(), 1, "a batch that was not filled");
    }

    #[test]
    fn an_empty_socket_is_polled_for_a_moment_and_the_pause_ends_the_burst() {
        let mut strategy = ReadStrategy::new(START);
        strategy.on_batch(1, START);
        assert!(strategy.on_empty(START));
        assert!(!strategy.on_empty(START + BUSY_POLL_TIME));
        strategy.on_batch(1, START + BUSY_POLL_TIME);
        assert_eq!(strategy.batch_size(), 1);
    }

    #[test]
    fn clients_and_watchers_do_not_poll_an_empty_socket() {
        assert!(!ReadStrategy::without_busy_polling(START).on_empty(START));
        let mut strategy = ReadStrategy::new(START);
        strategy.prefer_batching();
        assert!(!strategy.on_empty(START));
        strategy.on_batch(2, START);
        assert_eq!(strategy.batch_size(), BATCH_SIZE);
    }
}
