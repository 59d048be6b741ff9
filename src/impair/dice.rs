//! Dice that can be asked for any throw, in any order.
//!
//! Owns the counter-based generator behind every decision: Philox4x32-10 (Salmon, Moraes, Dror
//! and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011). It keeps no state, so a
//! throw costs ten rounds of arithmetic and no memory, and nobody's throw moves anybody else's.
//!
//! The contract, which the tests pin and which never changes:
//!
//! ```text
//!   key      seed, low word │ seed, high word
//!   counter  number, low    │ number, high    │ client │ kind
//!   throw    first word of the block + second word · 2³²
//! ```
//!
//! Arrivals are numbered from 1, as people and the textbook count; clients from 1 as well.

/// What a throw decides. Kinds never share a throw; their numbers are part of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DecisionKind(u32);

impl DecisionKind {
    /// Whether a datagram is lost.
    pub(crate) const LOSS: Self = Self(1);
    /// Whether a Gilbert-Elliott chain changes its state.
    pub(crate) const BURST: Self = Self(2);
    /// Whether a datagram is damaged.
    pub(crate) const CORRUPT: Self = Self(3);
    /// Which bit of it.
    pub(crate) const CORRUPT_BIT: Self = Self(4);
    /// Whether it is sent twice.
    pub(crate) const DUPLICATE: Self = Self(5);
    /// Whether it overtakes those that are delayed.
    pub(crate) const REORDER: Self = Self(6);
    /// How far its delay is from the middle; further throws of one delay add to it.
    pub(crate) const JITTER: Self = Self(7);
    /// Whether a rule of `--fault` fires; the rule's place on the command line stands for the client.
    pub(crate) const FAULT: Self = Self(8);

    /// The same question about the way out instead of the way in.
    #[must_use]
    pub(crate) const fn outbound(self) -> Self {
        Self(self.0 | 1 << 8)
    }

    /// The same question about the copy number `copy` of a datagram; 0 is the original.
    #[must_use]
    pub(crate) const fn for_copy(self, copy: u8) -> Self {
        Self(self.0 | (copy as u32) << 16)
    }

    /// A further throw for the same question.
    #[must_use]
    pub(crate) const fn nth_draw(self, index: u8) -> Self {
        Self(self.0 | (index as u32) << 24)
    }
}

/// The dice of one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SeededRandom {
    key: [u32; 2],
    client: u32,
}

impl SeededRandom {
    /// The dice of the client that appeared as number `client` in a run with this seed.
    pub(crate) const fn new(seed: u64, client: u32) -> Self {
        Self { key: split(seed), client }
    }

    /// Throw `number` of one kind: 64 bits, all equally likely.
    pub(crate) fn draw(self, kind: DecisionKind, ordinal: u64) -> u64 {
        let [first, second, _, _] = self.block(kind, ordinal);
        u64::from(first) | u64::from(second) << 32
    }

    /// The whole block behind a throw, where one decision needs more than 64 bits.
    pub(crate) fn block(self, kind: DecisionKind, ordinal: u64) -> [u32; 4] {
        let [low, high] = split(ordinal);
        philox(self.key, [low, high, self.client, kind.0])
    }
}

/// The two words of a 64-bit number, low word first.
#[expect(clippy::cast_possible_truncation, reason = "that is the point")]
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

    /// The known answers that the inventors publish with Random123.
    #[test]
    fn the_generator_gives_its_published_answers() {
        let answers = [
            ([0; 2], [0; 4], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([u32::MAX; 2], [u32::MAX; 4], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0xa409_3822, 0x299f_31d0],
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (key, counter, answer) in answers {
            assert_eq!(philox(key, counter), answer);
        }
    }

    #[test]
    fn draws_are_the_same_in_every_version_and_on_every_machine() {
        let dice = SeededRandom::new(42, 1);
        let throws = [1, 2, u64::MAX].map(|number| dice.draw(DecisionKind::LOSS, number));
        assert_eq!(throws, PINNED);
    }

    const PINNED: [u64; 3] = [1_772_201_965_301_499_372, 3_000_402_709_329_922_029, 14_413_240_160_281_205_514];

    #[test]
    fn seed_client_kind_direction_copy_and_ordinal_all_matter() {
        let throw = SeededRandom::new(1, 1).draw(DecisionKind::LOSS, 1);
        let others = [
            SeededRandom::new(2, 1).draw(DecisionKind::LOSS, 1),
            SeededRandom::new(1, 2).draw(DecisionKind::LOSS, 1),
            SeededRandom::new(1, 1).draw(DecisionKind::BURST, 1),
            SeededRandom::new(1, 1).draw(DecisionKind::LOSS.outbound(), 1),
            SeededRandom::new(1, 1).draw(DecisionKind::LOSS.for_copy(1), 1),
            SeededRandom::new(1, 1).draw(DecisionKind::LOSS.nth_draw(1), 1),
            SeededRandom::new(1, 1).draw(DecisionKind::LOSS, 2),
        ];
        assert!(others.iter().all(|other| *other != throw));
    }
}
