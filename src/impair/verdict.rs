//! Verdict: outcome of one arrival.
//!
//! Owns the result of all decisions on a datagram, small and `Copy`. It must not decide anything itself.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

/// Maximum number of copies of one datagram: each direction can double them.
pub(crate) const MAX_COPIES: usize = 4;

/// Outcome of one arrival.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Verdict {
    ordinal: u64,
    copies: [Option<CopyOutcome>; MAX_COPIES],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CopyOutcome {
    Dropped(DropReason),
    Delivered(PathEffects),
}

/// Reason for an intentional drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DropReason {
    /// Dropped before the server processed it.
    LossIn,
    /// Lost on the way back, after the reply.
    LossOut,
    /// Queue of the rate-limited link full.
    QueueFull,
}

/// Effects on one copy, per direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PathEffects {
    pub inbound: LinkEffects,
    pub outbound: LinkEffects,
}

/// Effects of one direction on a copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LinkEffects {
    pub delay: Duration,
    pub bit_flip: Option<BitFlip>,
    /// Index of the copy; 0 is the original.
    pub copy_index: u8,
}

/// One flipped bit at a random position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BitFlip {
    draw: u64,
}

impl BitFlip {
    pub(super) fn new(draw: u64) -> Self {
        Self { draw }
    }

    /// Flips one of the lower five bits of a byte. The sixth would change the case of a letter, which an
    /// upper-casing echo hides, and the corruption could not be counted.
    pub(crate) fn apply(self, bytes: &mut [u8]) {
        let at = (u128::from(self.draw) * bytes.len() as u128) >> 64;
        let byte = usize::try_from(at).ok().and_then(|at| bytes.get_mut(at));
        if let Some(byte) = byte {
            *byte ^= 1 << (self.draw % 5);
        }
    }
}

impl Verdict {
    pub(super) fn new(ordinal: u64) -> Self {
        Self { ordinal, copies: [None; MAX_COPIES] }
    }

    pub(super) fn push(&mut self, outcome: CopyOutcome) {
        if let Some(free) = self.copies.iter_mut().find(|outcome| outcome.is_none()) {
            *free = Some(outcome);
        }
    }

    /// Returns the ordinal of the arrival on its path, counted from 1.
    pub(crate) fn ordinal(&self) -> u64 {
        self.ordinal
    }

    /// Returns the outcome of each copy; there is at least one.
    pub(crate) fn copies(&self) -> impl Iterator<Item = CopyOutcome> {
        self.copies.into_iter().flatten()
    }

    /// Returns the reason of the first drop, if no copy is delivered.
    pub(crate) fn drop_reason(&self) -> Option<DropReason> {
        let mut first = None;
        for outcome in self.copies() {
            match outcome {
                CopyOutcome::Delivered(_) => return None,
                CopyOutcome::Dropped(reason) => first = first.or(Some(reason)),
            }
        }
        first
    }
}
