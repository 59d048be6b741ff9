//! The files we write.
//!
//! Owns what must hold when a run is cut at any moment: a file under its own name is always whole
//! ([`replace()`], [`Part`]), and nothing of ours is left behind ([`Scratch`]).

mod part;
mod replace;
mod scratch;
mod secret;
mod spool;

pub(crate) use part::{Overwrite, PartFile};
pub(crate) use replace::{check_writable, replace};
pub(crate) use scratch::ScratchDir;
pub(crate) use secret::read_secret;
pub(crate) use spool::Spool;

/// Four random octets as text, for names nobody else has.
fn random_suffix() -> String {
    format!("{:08x}", rand::random::<u32>())
}
