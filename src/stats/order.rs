//! Reordering.
//!
//! Owns the definition of RFC 4737 §3.3: a packet is reordered if its number is smaller than
//! `NextExp`, one more than the highest that arrived before it. Each packet counts once; whoever
//! calls keeps duplicates out.

/// What has arrived, as far as order is concerned.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ReorderCounter {
    next_expected: u64,
    reordered: u64,
}

impl ReorderCounter {
    /// Notes an arrival and says whether it came too late to be in order.
    pub(crate) fn record(&mut self, seq: u64) -> bool {
        let reordered = seq < self.next_expected;
        self.reordered += u64::from(reordered);
        self.next_expected = self.next_expected.max(seq.saturating_add(1));
        reordered
    }

    /// How many came out of order.
    pub(crate) fn reordered(self) -> u64 {
        self.reordered
    }
}

#[cfg(test)]
mod tests {
    use super::ReorderCounter;

    #[test]
    fn reordered_is_what_comes_after_a_higher_number() {
        let mut order = ReorderCounter::default();
        // The example that tells this definition from "smaller than the one just before".
        assert_eq!([5, 3, 4, 6].map(|number| order.record(number)), [false, true, true, false]);
        assert_eq!(order.reordered(), 2);
    }

    #[test]
    fn a_gap_is_no_reordering() {
        let mut order = ReorderCounter::default();
        assert_eq!([1, 9, 10].map(|number| order.record(number)), [false; 3]);
    }
}
