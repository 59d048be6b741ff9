//! The files we write.
//!
//! Owns what must hold when a run is cut at any moment: a file under its own name is always whole
//! ([`replace()`], [`Part`]), and nothing of ours is left behind ([`Scratch`]).

mod part;
mod replace;
mod scratch;
mod secret;
mod spool;

pub use part::{Part, Replace};
pub use replace::{check_target, replace};
pub use scratch::Scratch;
pub use secret::secret;
pub use spool::Spool;

/// Four random octets as text, for names nobody else has.
fn suffix() -> String {
    format!("{:08x}", rand::random::<u32>())
}
