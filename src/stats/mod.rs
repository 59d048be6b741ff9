//! Statistics: summaries, percentiles, intervals and sequence numbers. Arithmetic only.
//!
//! Owns every figure computed from many: the summary of a series of durations ([`Series`] → [`DurationSummary`]), the
//! confidence interval of a ratio ([`Ratio`]), jitter ([`JitterEstimator`]), reordering ([`ReorderCounter`]) and
//! duplicates ([`SequenceWindow`]). It must not know where the numbers came from, nor how they are printed.

mod jitter;
mod ratio;
mod reordering;
mod sequence_window;
mod series;

pub(crate) use jitter::JitterEstimator;
pub(crate) use ratio::Ratio;
pub(crate) use reordering::ReorderCounter;
pub(crate) use sequence_window::{SequenceStatus, SequenceWindow};
pub(crate) use series::{DurationSummary, Series};
