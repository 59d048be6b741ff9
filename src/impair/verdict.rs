//! What becomes of one arrival.
//!
//! Owns the outcome of all decisions about a datagram, small and `Copy`. It must not decide
//! anything itself.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// One datagram in becomes at most this many out: twice as many for each way.
pub const COPIES: usize = 4;

/// What becomes of one arrival.
#[derive(Clone, Copy, Debug)]
pub struct Verdict {
    number: u64,
    fates: [Option<Fate>; COPIES],
}

/// What becomes of one copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It ends here.
    Dropped(Cause),
    /// It goes through.
    Passed(Passage),
}

/// Why a datagram was dropped on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Lost before it was seen.
    LossIn,
    /// Lost on the way back, after it was answered.
    LossOut,
    /// No room in the queue of a link that was given a rate.
    QueueFull,
}

/// A copy's way in and out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passage {
    /// Towards the server.
    pub inward: Leg,
    /// Back to the client.
    pub outward: Leg,
}

/// What one way did to a copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leg {
    /// How long it was held.
    pub delay: Duration,
    /// The damage done to it.
    pub flip: Option<Flip>,
    /// Which copy it is; 0 is the original.
    pub copy: u8,
}

/// One flipped bit, somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flip {
    throw: u64,
}

impl Flip {
    pub(super) fn new(throw: u64) -> Self {
        Self { throw }
    }

    /// Flips the bit. One of the lower five: the sixth would turn a letter into its other case,
    /// which an upper-casing echo hides, and then the damage could not be counted.
    pub fn apply(self, octets: &mut [u8]) {
        let at = (u128::from(self.throw) * octets.len() as u128) >> 64;
        let octet = usize::try_from(at).ok().and_then(|at| octets.get_mut(at));
        if let Some(octet) = octet {
            *octet ^= 1 << (self.throw % 5);
        }
    }
}

impl Verdict {
    pub(super) fn new(number: u64) -> Self {
        Self { number, fates: [None; COPIES] }
    }

    pub(super) fn push(&mut self, fate: Fate) {
        if let Some(free) = self.fates.iter_mut().find(|fate| fate.is_none()) {
            *free = Some(fate);
        }
    }

    /// The number of the arrival on its path, counted from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// What becomes of each copy; at least one.
    pub fn fates(&self) -> impl Iterator<Item = Fate> {
        self.fates.into_iter().flatten()
    }

    /// Why nothing of it goes through, if nothing does.
    pub fn dropped(&self) -> Option<Cause> {
        let mut first = None;
        for fate in self.fates() {
            match fate {
                Fate::Passed(_) => return None,
                Fate::Dropped(cause) => first = first.or(Some(cause)),
            }
        }
        first
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LossIn => "lost on the way in",
            Self::LossOut => "lost on the way out",
            Self::QueueFull => "no room in the queue",
        })
    }
}
