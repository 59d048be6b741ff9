//! netlab: both ends of the classic socket labs in one executable.
mod conversation;
pub mod error;
pub mod exit;
mod stats;
mod time;
