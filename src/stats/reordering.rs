//! Reordering counter.
//!
//! Owns the definition of RFC 4737 §3.3: a packet is reordered if its number is smaller than `NextExp`, one
//! more than the highest that arrived before it. Each packet counts once; the caller excludes duplicates.

/// Counter of packets that arrived out of order.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ReorderCounter {
    next_expected: u64,
    reordered: u64,
}

impl ReorderCounter {
    /// Records an arrival and returns true if it was reordered.
    pub(crate) fn record(&mut self, seq: u64) -> bool {
        let reordered = seq < self.next_expected;
        self.reordered += u64::from(reordered);
        self.next_expected = self.next_expected.max(seq.saturating_add(1));
        reordered
    }

    pub(crate) fn reordered(self) -> u64 {
        self.reordered
    }
}

#[cfg(test)]
mod tests {
    use super::ReorderCounter;

    #[test]
    fn a_packet_after_a_higher_number_is_reordered() {
        let mut order = ReorderCounter::default();
        // This example separates the definition from "smaller than the previous one".
        assert_eq!([5, 3, 4, 6].map(|number| order.record(number)), [false, true, true, false]);
        assert_eq!(order.reordered(), 2);
    }

    #[test]
    fn a_gap_is_not_reordering() {
        let mut order = ReorderCounter::default();
        assert_eq!([1, 9, 10].map(|number| order.record(number)), [false; 3]);
    }
}
