//! What came on one connection and was not taken yet.
//!
//! Owns the unparsed tail between two turns, and whether its conversation has a reason to look at it
//! again. The octets of a turn are in the thread's buffer; here is only what is left of them.

/// The unparsed tail. Empty, it owns no buffer.
#[derive(Debug, Default)]
pub(super) struct ReceiveBuffer {
    unparsed: Vec<u8>,
    /// Whether something changed since the conversation was last asked.
    changed: bool,
}

impl ReceiveBuffer {
    /// How many octets are kept.
    pub(super) fn len(&self) -> usize {
        self.unparsed.len()
    }

    /// Whether none is.
    pub(super) fn is_empty(&self) -> bool {
        self.unparsed.is_empty()
    }

    /// Something changed: what is kept may be taken now.
    pub(super) fn mark_changed(&mut self) {
        self.changed = true;
    }

    /// Whether what is kept is to be offered before more is read.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed) && !self.unparsed.is_empty()
    }

    /// Puts what is kept in front of what `buffer` has behind it, so that the conversation sees one
    /// run of `length` octets.
    pub(super) fn prepend_to<'b>(&self, buffer: &'b mut [u8], length: usize) -> &'b [u8] {
        if let Some(front) = buffer.get_mut(..self.unparsed.len()) {
            front.copy_from_slice(&self.unparsed);
        }
        buffer.get(..length).unwrap_or_default()
    }

    /// Keeps what was not taken of `all`.
    pub(super) fn keep_unparsed(&mut self, received: &[u8], taken: usize) {
        let rest = received.get(taken..).unwrap_or_default();
        if rest.is_empty() {
            self.unparsed = Vec::new();
        } else if taken > 0 || rest.len() > self.unparsed.len() {
            self.unparsed.clear();
            self.unparsed.extend_from_slice(rest);
        }
        self.changed = taken > 0;
    }
}

#[cfg(test)]
mod tests {
    use super::ReceiveBuffer;

    #[test]
    fn what_was_not_taken_stands_in_front_of_what_comes() {
        let mut inbox = ReceiveBuffer::default();
        inbox.keep_unparsed(b"one two", 4);
        assert!(inbox.take_changed() && !inbox.take_changed());
        let mut buffer = *b"???+three";
        assert_eq!(inbox.prepend_to(&mut buffer, 9), b"two+three");
        inbox.keep_unparsed(b"two+three", 9);
        assert!(inbox.is_empty() && !inbox.take_changed());
    }

    #[test]
    fn what_nobody_takes_is_not_offered_again_until_something_changes() {
        let mut inbox = ReceiveBuffer::default();
        inbox.keep_unparsed(b"half a li", 0);
        assert!(!inbox.take_changed() && inbox.len() == 9);
        inbox.mark_changed();
        assert!(inbox.take_changed());
    }
}
