//! The machine around us: child processes.
//!
//! Owns processes that we start and must not leave behind.

mod child;

pub use child::{Child, Ended};
