//! Summaries, percentiles and intervals. Arithmetic only.
//!
//! Owns every number that is computed from many: what a duration series looks like ([`Series`] →
//! [`Summary`]), what a count of failures proves ([`Ratio`]), how unsteady arrivals are
//! ([`Jitter`]), which came out of order ([`Order`]) and which came before ([`Window`]). It must
//! not know where the numbers came from, nor how they are printed.

mod jitter;
mod order;
mod ratio;
mod series;
mod window;

pub(crate) use jitter::JitterEstimator;
pub(crate) use order::ReorderCounter;
pub(crate) use ratio::Ratio;
pub(crate) use series::{DurationSummary, Series};
pub(crate) use window::{SequenceStatus, SequenceWindow};
