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

pub use jitter::JitterEstimator;
pub use order::ReorderCounter;
pub use ratio::Ratio;
pub use series::{DurationSummary, Series};
pub use window::{SequenceStatus, SequenceWindow};
