//! The files we write.
//!
//! Owns what must hold when a run is cut at any moment: a file under its own name is always whole
//! ([`replace()`], [`Part`]), and nothing of ours is left behind ([`Scratch`]).

mod part;
mod replace;
mod scratch;
mod secret;
mod spool;

pub use part::{Overwrite, PartFile};
pub use replace::{check_writable, replace};
pub use scratch::ScratchDir;
pub use secret::read_secret;
pub use spool::Spool;

/// Four random octets as text, for names nobody else has.
fn random_suffix() -> String {
    format!("{:08x}", rand::random::<u32>())
}
