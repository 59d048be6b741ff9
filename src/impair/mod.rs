//! Seeded chance: which datagram a bad network would lose, damage, repeat or hold back.
//!
//! Owns the dice ([`dice::Dice`]), the figures people write ([`Chance`], [`Loss`], [`Rate`],
//! [`Jitter`]) and the verdict on one arrival ([`Impairment::arrival`]). It must not know what a
//! datagram holds, nor whose it is: decision *i* of one kind is a function of the seed, the
//! client's ordinal, the kind and *i* alone, so a run can be repeated, a plan can be printed
//! without a network, and turning jitter on never changes which datagrams drop.
//!
//! ```text
//!   arrival i ─▶ loss ─▶ corrupt ─▶ duplicate ─▶ rate ─▶ delay ─▶ …the same once more on the
//!               (in)                                              way out, when asked for
//! ```

mod chance;
mod delay;
mod dice;
mod loss;
mod occasions;
mod path;
mod plan;
mod rate;
mod verdict;

pub(crate) use chance::Probability;
pub(crate) use delay::{Distribution, Jitter};
pub(crate) use dice::{DecisionKind, SeededRandom};
pub(crate) use loss::LossModel;
pub(crate) use occasions::Occurrences;
pub(crate) use path::{Direction, Impairment, PathState};
pub(crate) use plan::PlannedDatagram;
pub(crate) use rate::BitRate;
pub(crate) use verdict::{CopyOutcome, DropReason, PathEffects};
#[cfg(test)]
pub(crate) use verdict::{MAX_COPIES, Verdict};
