//! The mails that can be looked at.
//!
//! Owns the last of them in memory, so many and so large in all; `--save` keeps the others.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::events::Mail;
use crate::smtp::server::Addressee;

/// The most mails that are kept.
const MOST: usize = 1_000;
/// The most octets that they may have together; one that is larger alone is kept alone.
const MOST_OCTETS: usize = 128 << 20;

/// A mail with its message.
#[derive(Debug)]
pub struct Kept {
    /// What is known of it.
    pub mail: Arc<Mail>,
    /// The message, octet for octet.
    pub message: Vec<u8>,
}

impl Kept {
    /// What it takes, about: a short mail may be for many.
    fn octets(&self) -> usize {
        const EACH: usize = 128;
        let recipients = self.mail.recipients.iter().map(Addressee::octets);
        self.message.len() + recipients.sum::<usize>() + self.mail.parts.len() * EACH
    }
}

/// The last mails.
#[derive(Debug, Default)]
pub struct Archive(Mutex<Shelf>);

#[derive(Debug, Default)]
struct Shelf {
    mails: VecDeque<Arc<Kept>>,
    octets: usize,
    forgotten: u64,
}

impl Archive {
    /// Puts one in, and forgets the oldest if there are too many.
    pub fn push(&self, kept: Kept) {
        let mut shelf = self.lock();
        shelf.octets += kept.octets();
        shelf.mails.push_back(Arc::new(kept));
        while shelf.mails.len() > MOST || (shelf.octets > MOST_OCTETS && shelf.mails.len() > 1) {
            let Some(oldest) = shelf.mails.pop_front() else { break };
            shelf.octets -= oldest.octets();
            shelf.forgotten += 1;
        }
    }

    /// All that are there, the newest first, and how many were forgotten.
    pub fn list(&self) -> (Vec<Arc<Kept>>, u64) {
        let shelf = self.lock();
        (shelf.mails.iter().rev().cloned().collect(), shelf.forgotten)
    }

    /// The one with this number.
    pub fn find(&self, number: u64) -> Option<Arc<Kept>> {
        self.lock().mails.iter().find(|kept| kept.mail.number == number).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{Archive, Kept, MOST, MOST_OCTETS};
    use crate::commands::mail_serve::events::tests::mail;
    use std::sync::Arc;

    fn push(archive: &Archive, number: u64, octets: usize) {
        archive.push(Kept { mail: Arc::new(mail(number)), message: vec![0; octets] });
    }

    #[test]
    fn the_newest_come_first_and_the_oldest_go() {
        let archive = Archive::default();
        (1..=MOST as u64 + 2).for_each(|number| push(&archive, number, 1));
        let (mails, forgotten) = archive.list();
        assert_eq!((mails.len(), forgotten, mails[0].mail.number), (MOST, 2, MOST as u64 + 2));
        assert!(archive.find(2).is_none() && archive.find(3).is_some());
    }

    #[test]
    fn their_octets_have_a_limit_too() {
        let archive = Archive::default();
        push(&archive, 1, MOST_OCTETS / 2 - 1_000);
        push(&archive, 2, MOST_OCTETS / 2 - 1_000);
        assert_eq!(archive.list().0.len(), 2);
        push(&archive, 3, 2_000);
        assert_eq!(archive.list().0.len(), 2);
        push(&archive, 4, MOST_OCTETS * 2);
        assert_eq!(archive.list().0.len(), 1);
    }
}
