//! Seeded random numbers with random access.
//!
//! Owns the counter-based generator behind every decision: Philox4x32-10 (Salmon, Moraes, Dror and Shaw,
//! "Parallel random numbers: as easy as 1, 2, 3", SC 2011). It keeps no state, so a draw costs ten rounds of
//! arithmetic and no memory, and no draw changes another.
//!
//! The contract, which the tests pin and which never changes:
//!
//! ```text
//!   key      seed, low word │ seed, high word
//!   counter  ordinal, low   │ ordinal, high   │ client │ kind
//!   draw     first word of the block + second word · 2³²
//! ```
//!
//! Arrivals and clients are counted from 1, as in the textbook.

/// Kind of decision. Kinds never share a draw; their numbers are part of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DecisionKind(u32);

impl DecisionKind {
    /// Loss of a datagram.
    pub(crate) const LOSS: Self = Self(1);
    /// State change of a Gilbert-Elliott chain.
    pub(crate) const BURST: Self = Self(2);
    /// Corruption of a datagram.
    pub(crate) const CORRUPT: Self = Self(3);
    /// Position of the flipped bit.
    pub(crate) const CORRUPT_BIT: Self = Self(4);
    /// Duplication of a datagram.
    pub(crate) const DUPLICATE: Self = Self(5);
    /// Reordering: the datagram skips the delay.
    pub(crate) const REORDER: Self = Self(6);
    /// Distance of a delay from the mean; further draws for the same delay add to it.
    pub(crate) const JITTER: Self = Self(7);
    /// Firing of a `--fault` rule; the rule's position on the command line is used as the client.
    pub(crate) const FAULT: Self = Self(8);

    /// Returns the outbound counterpart of an inbound kind.
    #[must_use]
    pub(crate) const fn outbound(self) -> Self {
        Self(self.0 | 1 << 8)
    }

    /// Returns this kind for the copy with index `copy`; 0 is the original.
    #[must_use]
    pub(crate) const fn for_copy(self, copy: u8) -> Self {
        Self(self.0 | (copy as u32) << 16)
    }

    /// Returns this kind for a further draw of the same decision.
    #[must_use]
    pub(crate) const fn nth_draw(self, index: u8) -> Self {
        Self(self.0 | (index as u32) << 24)
    }
}

/// Random numbers of one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SeededRandom {
    key: [u32; 2],
    client: u32,
}

impl SeededRandom {
    /// Creates the random numbers of the client with this ordinal in a run with this seed.
    pub(crate) const fn new(seed: u64, client: u32) -> Self {
        Self { key: split(seed), client }
    }

    /// Returns draw `ordinal` of one kind: 64 uniformly distributed bits.
    pub(crate) fn draw(self, kind: DecisionKind, ordinal: u64) -> u64 {
        let [first, second, _, _] = self.block(kind, ordinal);
        u64::from(first) | u64::from(second) << 32
    }

    /// Returns the whole block behind a draw, for a decision that needs more than 64 bits.
    pub(crate) fn block(self, kind: DecisionKind, ordinal: u64) -> [u32; 4] {
        let [low, high] = split(ordinal);
        philox(self.key, [low, high, self.client, kind.0])
    }
}

/// Splits a 64-bit number into two words, low word first.
#[expect(clippy::cast_possible_truncation, reason = "the low word is wanted")]
const fn split(number: u64) -> [u32; 2] {
    [number as u32, (number >> 32) as u32]
}

fn philox(mut key: [u32; 2], mut counter: [u32; 4]) -> [u32; 4] {
    const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
    const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
    for _ in 0..10 {
        let [low0, high0] = split(u64::from(MULTIPLIERS[0]) * u64::from(counter[0]));
        let [low1, high1] = split(u64::from(MULTIPLIERS[1]) * u64::from(counter[2]));
        counter = [high1 ^ counter[1] ^ key[0], low1, high0 ^ counter[3] ^ key[1], low0];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::{DecisionKind, SeededRandom, philox};

    /// Known answers, published with Random123 by the authors.
    #[test]
    fn the_generator_gives_its_published_answers() {
        let cases = [
            ([0; 2], [0; 4], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([u32::MAX; 2], [u32::MAX; 4], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0xa409_3822, 0x299f_31d0],
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (key, counter, answer) in cases {
            assert_eq!(philox(key, counter), answer);
        }
    }

    #[test]
    fn draws_are_the_same_in_every_version_and_on_every_machine() {
        let random = SeededRandom::new(42, 1);
        let draws = [1, 2, u64::MAX].map(|ordinal| random.draw(DecisionKind::LOSS, ordinal));
        assert_eq!(draws, PINNED);
    }

    const PINNED: [u64; 3] = [1_772_201_965_301_499_372, 3_000_402_709_329_922_029, 14_413_240_160_281_205_514];

    #[test]
    fn seed_client_kind_direction_copy_and_ordinal_all_matter() {
        let draw = SeededRandom::new(1, 1).draw(DecisionKind::LOSS, 1);
        let others = [
            SeededRandom::new(2, 1).draw(DecisionKind::LOSS, 1),
            SeededRandom::new(1, 2).draw(DecisionKind::LOSS, 1),
            SeededRandom::new(1, 1).draw(DecisionKind::BURST, 1),
            SeededRandom::new(1, 1).draw(DecisionKind::LOSS.outbound(), 1),
            SeededRandom::new(1, 1).draw(DecisionKind::LOSS.for_copy(1), 1),
            SeededRandom::new(1, 1).draw(DecisionKind::LOSS.nth_draw(1), 1),
            SeededRandom::new(1, 1).draw(DecisionKind::LOSS, 2),
        ];
        assert!(others.iter().all(|other| *other != draw));
    }
}
