//! Most recent mails in memory, for the web pages.
//!
//! Owns the limits of their number and total size. `--save` keeps all mails.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::events::MessageEvent;
use crate::smtp::server::EnvelopeRecipient;

const MAX_MESSAGES: usize = 1_000;
/// Limit of the total size of the kept mails. A single larger mail is kept alone.
const MAX_BYTES: usize = 128 << 20;

#[derive(Debug)]
pub(super) struct RecentMessage {
    pub event: Arc<MessageEvent>,
    /// The message as received, byte for byte.
    pub message: Vec<u8>,
}

impl RecentMessage {
    /// Estimates the memory used; a short message may have many recipients.
    fn memory_size(&self) -> usize {
        const PART_SIZE: usize = 128;
        let recipients = self.event.recipients.iter().map(EnvelopeRecipient::memory_size);
        self.message.len() + recipients.sum::<usize>() + self.event.parts.len() * PART_SIZE
    }
}

#[derive(Debug, Default)]
pub(super) struct RecentMessages(Mutex<RecentQueue>);

#[derive(Debug, Default)]
struct RecentQueue {
    messages: VecDeque<Arc<RecentMessage>>,
    bytes: usize,
    evicted: u64,
}

impl RecentMessages {
    /// Adds a mail and drops the oldest ones beyond the limits.
    pub(super) fn push(&self, message: RecentMessage) {
        let mut queue = self.lock();
        queue.bytes += message.memory_size();
        queue.messages.push_back(Arc::new(message));
        while queue.messages.len() > MAX_MESSAGES || (queue.bytes > MAX_BYTES && queue.messages.len() > 1) {
            let Some(oldest) = queue.messages.pop_front() else { break };
            queue.bytes -= oldest.memory_size();
            queue.evicted += 1;
        }
    }

    /// Returns all mails, newest first, and the number of dropped ones.
    pub(super) fn list(&self) -> (Vec<Arc<RecentMessage>>, u64) {
        let queue = self.lock();
        (queue.messages.iter().rev().cloned().collect(), queue.evicted)
    }

    pub(super) fn find(&self, number: u64) -> Option<Arc<RecentMessage>> {
        self.lock().messages.iter().find(|message| message.event.number == number).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, RecentQueue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_BYTES, MAX_MESSAGES, RecentMessage, RecentMessages};
    use crate::commands::mail_serve::events::tests::message_event;
    use std::sync::Arc;

    fn push(recent: &RecentMessages, number: u64, size: usize) {
        recent.push(RecentMessage { event: Arc::new(message_event(number)), message: vec![0; size] });
    }

    #[test]
    fn the_newest_come_first_and_the_oldest_are_dropped() {
        let recent = RecentMessages::default();
        (1..=MAX_MESSAGES as u64 + 2).for_each(|number| push(&recent, number, 1));
        let (mails, dropped) = recent.list();
        assert_eq!((mails.len(), dropped, mails[0].event.number), (MAX_MESSAGES, 2, MAX_MESSAGES as u64 + 2));
        assert!(recent.find(2).is_none() && recent.find(3).is_some());
    }

    #[test]
    fn their_total_size_is_limited() {
        let recent = RecentMessages::default();
        push(&recent, 1, MAX_BYTES / 2 - 1_000);
        push(&recent, 2, MAX_BYTES / 2 - 1_000);
        assert_eq!(recent.list().0.len(), 2);
        push(&recent, 3, 2_000);
        assert_eq!(recent.list().0.len(), 2);
        push(&recent, 4, MAX_BYTES * 2);
        assert_eq!(recent.list().0.len(), 1);
    }
}
