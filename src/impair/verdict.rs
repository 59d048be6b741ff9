//! What becomes of one arrival.
//!
//! Owns the outcome of all decisions about a datagram, small and `Copy`. It must not decide
//! anything itself.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// One datagram in becomes at most this many out: twice as many for each way.
pub(crate) const MAX_COPIES: usize = 4;

/// What becomes of one arrival.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Verdict {
    ordinal: u64,
    copies: [Option<CopyOutcome>; MAX_COPIES],
}

/// What becomes of one copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CopyOutcome {
    /// It ends here.
    Dropped(DropReason),
    /// It goes through.
    Delivered(PathEffects),
}

/// Why a datagram was dropped on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DropReason {
    /// Lost before it was seen.
    LossIn,
    /// Lost on the way back, after it was answered.
    LossOut,
    /// No room in the queue of a link that was given a rate.
    QueueFull,
}

/// A copy's way in and out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PathEffects {
    /// Towards the server.
    pub inbound: LinkEffects,
    /// Back to the client.
    pub outbound: LinkEffects,
}

/// What one way did to a copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LinkEffects {
    /// How long it was held.
    pub delay: Duration,
    /// The damage done to it.
    pub bit_flip: Option<BitFlip>,
    /// Which copy it is; 0 is the original.
    pub copy_index: u8,
}

/// One flipped bit, somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BitFlip {
    draw: u64,
}

impl BitFlip {
    pub(super) fn new(draw: u64) -> Self {
        Self { draw }
    }

    /// Flips the bit. One of the lower five: the sixth would turn a letter into its other case,
    /// which an upper-casing echo hides, and then the damage could not be counted.
    pub(crate) fn apply(self, bytes: &mut [u8]) {
        let at = (u128::from(self.draw) * bytes.len() as u128) >> 64;
        let octet = usize::try_from(at).ok().and_then(|at| bytes.get_mut(at));
        if let Some(octet) = octet {
            *octet ^= 1 << (self.draw % 5);
        }
    }
}

impl Verdict {
    pub(super) fn new(ordinal: u64) -> Self {
        Self { ordinal, copies: [None; MAX_COPIES] }
    }

    pub(super) fn push(&mut self, outcome: CopyOutcome) {
        if let Some(free) = self.copies.iter_mut().find(|fate| fate.is_none()) {
            *free = Some(outcome);
        }
    }

    /// The number of the arrival on its path, counted from 1.
    pub(crate) fn ordinal(&self) -> u64 {
        self.ordinal
    }

    /// What becomes of each copy; at least one.
    pub(crate) fn copies(&self) -> impl Iterator<Item = CopyOutcome> {
        self.copies.into_iter().flatten()
    }

    /// Why nothing of it goes through, if nothing does.
    pub(crate) fn drop_reason(&self) -> Option<DropReason> {
        let mut first = None;
        for fate in self.copies() {
            match fate {
                CopyOutcome::Delivered(_) => return None,
                CopyOutcome::Dropped(cause) => first = first.or(Some(cause)),
            }
        }
        first
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LossIn => "lost on the way in",
            Self::LossOut => "lost on the way out",
            Self::QueueFull => "no room in the queue",
        })
    }
}
