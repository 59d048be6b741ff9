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

pub use chance::Probability;
pub use delay::{Distribution, Jitter};
pub use dice::{DecisionKind, SeededRandom};
pub use loss::LossModel;
pub use occasions::Occurrences;
pub use path::{Direction, Impairment, PathState};
pub use plan::PlannedDatagram;
pub use rate::BitRate;
pub use verdict::{CopyOutcome, DropReason, PathEffects};
#[cfg(test)]
pub use verdict::{MAX_COPIES, Verdict};
