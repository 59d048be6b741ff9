//! What came on one connection and was not taken yet.
//!
//! Owns the unparsed tail between two turns, and whether its conversation has a reason to look at it
//! again. The octets of a turn are in the thread's buffer; here is only what is left of them.

/// The unparsed tail. Empty, it owns no buffer.
#[derive(Debug, Default)]
pub struct Inbox {
    kept: Vec<u8>,
    /// Whether something changed since the conversation was last asked.
    offer: bool,
}

impl Inbox {
    /// How many octets are kept.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Something changed: what is kept may be taken now.
    pub fn reoffer(&mut self) {
        self.offer = true;
    }

    /// Whether what is kept is to be offered before more is read.
    pub fn is_due(&mut self) -> bool {
        std::mem::take(&mut self.offer) && !self.kept.is_empty()
    }

    /// Puts what is kept in front of what `buffer` has behind it, so that the conversation sees one
    /// run of `length` octets.
    pub fn join<'b>(&self, buffer: &'b mut [u8], length: usize) -> &'b [u8] {
        if let Some(front) = buffer.get_mut(..self.kept.len()) {
            front.copy_from_slice(&self.kept);
        }
        buffer.get(..length).unwrap_or_default()
    }

    /// Keeps what was not taken of `all`.
    pub fn keep(&mut self, all: &[u8], taken: usize) {
        let rest = all.get(taken..).unwrap_or_default();
        if rest.is_empty() {
            self.kept = Vec::new();
        } else if taken > 0 || rest.len() > self.kept.len() {
            self.kept.clear();
            self.kept.extend_from_slice(rest);
        }
        self.offer = taken > 0;
    }
}

#[cfg(test)]
mod tests {
    use super::Inbox;

    #[test]
    fn what_was_not_taken_stands_in_front_of_what_comes() {
        let mut inbox = Inbox::default();
        inbox.keep(b"one two", 4);
        assert!(inbox.is_due() && !inbox.is_due());
        let mut buffer = *b"???+three";
        assert_eq!(inbox.join(&mut buffer, 9), b"two+three");
        inbox.keep(b"two+three", 9);
        assert!(inbox.is_empty() && !inbox.is_due());
    }

    #[test]
    fn what_nobody_takes_is_not_offered_again_until_something_changes() {
        let mut inbox = Inbox::default();
        inbox.keep(b"half a li", 0);
        assert!(!inbox.is_due() && inbox.len() == 9);
        inbox.reoffer();
        assert!(inbox.is_due());
    }
}
