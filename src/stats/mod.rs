//! Summaries, percentiles and intervals. Arithmetic only.
//!
//! Owns every number that is computed from many: what a duration series looks like ([`Series`] →
//! [`Summary`]), and what a count of failures proves ([`Ratio`]). It must not know where the
//! numbers came from, nor how they are printed.

mod ratio;
mod series;

pub use ratio::Ratio;
pub use series::{Series, Summary};
