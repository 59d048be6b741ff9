//! The mails that can be looked at.
//!
//! Owns the last of them in memory, so many and so large in all; `--save` keeps the others.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::events::MessageEvent;
use crate::smtp::server::EnvelopeRecipient;

/// The most mails that are kept.
const MAX_MESSAGES: usize = 1_000;
/// The most octets that they may have together; one that is larger alone is kept alone.
const MAX_BYTES: usize = 128 << 20;

/// A mail with its message.
#[derive(Debug)]
pub(super) struct RecentMessage {
    /// What is known of it.
    pub event: Arc<MessageEvent>,
    /// The message, octet for octet.
    pub message: Vec<u8>,
}

impl RecentMessage {
    /// What it takes, about: a short mail may be for many.
    fn memory_size(&self) -> usize {
        const PART_SIZE: usize = 128;
        let recipients = self.event.recipients.iter().map(EnvelopeRecipient::memory_size);
        self.message.len() + recipients.sum::<usize>() + self.event.parts.len() * PART_SIZE
    }
}

/// The last mails.
#[derive(Debug, Default)]
pub(super) struct RecentMessages(Mutex<RecentQueue>);

#[derive(Debug, Default)]
struct RecentQueue {
    messages: VecDeque<Arc<RecentMessage>>,
    bytes: usize,
    evicted: u64,
}

impl RecentMessages {
    /// Puts one in, and forgets the oldest if there are too many.
    pub(super) fn push(&self, message: RecentMessage) {
        let mut shelf = self.lock();
        shelf.bytes += message.memory_size();
        shelf.messages.push_back(Arc::new(message));
        while shelf.messages.len() > MAX_MESSAGES || (shelf.bytes > MAX_BYTES && shelf.messages.len() > 1) {
            let Some(oldest) = shelf.messages.pop_front() else { break };
            shelf.bytes -= oldest.memory_size();
            shelf.evicted += 1;
        }
    }

    /// All that are there, the newest first, and how many were forgotten.
    pub(super) fn list(&self) -> (Vec<Arc<RecentMessage>>, u64) {
        let shelf = self.lock();
        (shelf.messages.iter().rev().cloned().collect(), shelf.evicted)
    }

    /// The one with this number.
    pub(super) fn find(&self, number: u64) -> Option<Arc<RecentMessage>> {
        self.lock().messages.iter().find(|kept| kept.event.number == number).cloned()
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

    fn push(archive: &RecentMessages, number: u64, size: usize) {
        archive.push(RecentMessage { event: Arc::new(message_event(number)), message: vec![0; size] });
    }

    #[test]
    fn the_newest_come_first_and_the_oldest_go() {
        let archive = RecentMessages::default();
        (1..=MAX_MESSAGES as u64 + 2).for_each(|number| push(&archive, number, 1));
        let (mails, forgotten) = archive.list();
        assert_eq!((mails.len(), forgotten, mails[0].event.number), (MAX_MESSAGES, 2, MAX_MESSAGES as u64 + 2));
        assert!(archive.find(2).is_none() && archive.find(3).is_some());
    }

    #[test]
    fn their_octets_have_a_limit_too() {
        let archive = RecentMessages::default();
        push(&archive, 1, MAX_BYTES / 2 - 1_000);
        push(&archive, 2, MAX_BYTES / 2 - 1_000);
        assert_eq!(archive.list().0.len(), 2);
        push(&archive, 3, 2_000);
        assert_eq!(archive.list().0.len(), 2);
        push(&archive, 4, MAX_BYTES * 2);
        assert_eq!(archive.list().0.len(), 1);
    }
}
