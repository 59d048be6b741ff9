//! Network impairments: seeded loss, corruption, duplication, delay and reordering of datagrams.
//!
//! Owns the random numbers ([`SeededRandom`]), the parsed option values ([`Probability`], [`LossModel`],
//! [`BitRate`], [`Jitter`]) and the verdict on one arrival ([`Impairment::decide`]). It must not know what a
//! datagram contains, nor the address of its client: decision *i* of one kind is a function of the seed, the
//! client's ordinal, the kind and *i* alone. So a run can be repeated, a plan can be printed without a
//! network, and turning jitter on never changes which datagrams are dropped.
//!
//! ```text
//!   arrival i ─▶ loss ─▶ corrupt ─▶ duplicate ─▶ rate ─▶ delay ─▶ …and the same again outbound,
//!               (in)                                              if requested
//! ```

mod delay;
mod loss;
mod network_path;
mod occurrences;
mod plan;
mod probability;
mod random;
mod rate;
mod verdict;

pub(crate) use delay::{Distribution, Jitter};
pub(crate) use loss::LossModel;
pub(crate) use network_path::{Direction, Impairment, PathState};
pub(crate) use occurrences::Occurrences;
#[cfg(test)]
pub(crate) use plan::PlannedCopy;
pub(crate) use plan::PlannedDatagram;
pub(crate) use probability::Probability;
pub(crate) use random::{DecisionKind, SeededRandom};
pub(crate) use rate::BitRate;
pub(crate) use verdict::{CopyOutcome, DropReason, PathEffects};
#[cfg(test)]
pub(crate) use verdict::{MAX_COPIES, Verdict};
