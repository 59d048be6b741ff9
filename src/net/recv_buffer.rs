//! Receive buffer of one connection: bytes read but not yet consumed by the protocol.
//!
//! Owns the unconsumed tail between two turns, and whether it must be passed to the protocol again.
//! The bytes of a turn are in the thread's read buffer, which is part of [`Scratch`].

use crate::protocol::Actions;

/// Size of a thread's read buffer; also the limit of what a protocol may leave unconsumed.
const READ_BUFFER_SIZE: usize = 128 * 1024;

/// Buffers of a thread, lent to the connection that has its turn.
pub(crate) struct Scratch<E> {
    pub(super) read_buffer: Box<[u8]>,
    pub(super) actions: Actions<E>,
}

impl<E> Default for Scratch<E> {
    fn default() -> Self {
        Self { read_buffer: vec![0; READ_BUFFER_SIZE].into_boxed_slice(), actions: Actions::default() }
    }
}

/// Unconsumed tail of the received bytes. An empty one owns no buffer.
#[derive(Debug, Default)]
pub(super) struct ReceiveBuffer {
    unparsed: Vec<u8>,
    /// Set when the protocol may consume more of the tail than before.
    changed: bool,
}

impl ReceiveBuffer {
    pub(super) fn len(&self) -> usize {
        self.unparsed.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.unparsed.is_empty()
    }

    /// Records that the protocol may consume kept bytes now.
    pub(super) fn mark_changed(&mut self) {
        self.changed = true;
    }

    /// Returns whether kept bytes must be passed to the protocol before more is read.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed) && !self.unparsed.is_empty()
    }

    /// Copies the kept bytes in front of those just read into `buffer`; returns `length` contiguous bytes.
    pub(super) fn prepend_to<'b>(&self, buffer: &'b mut [u8], length: usize) -> &'b [u8] {
        if let Some(front) = buffer.get_mut(..self.unparsed.len()) {
            front.copy_from_slice(&self.unparsed);
        }
        buffer.get(..length).unwrap_or_default()
    }

    /// Keeps what was not consumed of `received`.
    pub(super) fn keep_unconsumed(&mut self, received: &[u8], consumed: usize) {
        let rest = received.get(consumed..).unwrap_or_default();
        if rest.is_empty() {
            self.unparsed = Vec::new();
        } else if consumed > 0 || rest.len() > self.unparsed.len() {
            self.unparsed.clear();
            self.unparsed.extend_from_slice(rest);
        }
        self.changed = consumed > 0;
    }
}

#[cfg(test)]
mod tests {
    use super::ReceiveBuffer;

    #[test]
    fn unconsumed_bytes_precede_those_read_later() {
        let mut buffer = ReceiveBuffer::default();
        buffer.keep_unconsumed(b"one two", 4);
        assert!(buffer.take_changed() && !buffer.take_changed());
        let mut bytes = *b"???+three";
        assert_eq!(buffer.prepend_to(&mut bytes, 9), b"two+three");
        buffer.keep_unconsumed(b"two+three", 9);
        assert!(buffer.is_empty() && !buffer.take_changed());
    }

    #[test]
    fn unconsumed_bytes_are_not_passed_on_again_until_something_changes() {
        let mut buffer = ReceiveBuffer::default();
        buffer.keep_unconsumed(b"half a li", 0);
        assert!(!buffer.take_changed() && buffer.len() == 9);
        buffer.mark_changed();
        assert!(buffer.take_changed());
    }
}
