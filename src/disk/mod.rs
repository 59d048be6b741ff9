//! Local files: durable writes, temporary files, and reading of input files and secrets.
//!
//! Owns what must hold when a run is interrupted at any moment: a file under its own name is always complete
//! ([`replace()`], [`PartFile`], [`Spool`]), and no temporary file stays behind ([`ScratchDir`]).

mod in_place;
mod input;
mod part_file;
mod ready_file;
mod replace;
mod scratch_dir;
mod secret_file;
mod spool;

pub(crate) use input::{read_file, read_input};
pub(crate) use part_file::{Overwrite, PartFile};
pub(crate) use ready_file::ReadyFile;
pub(crate) use replace::{check_writable, replace, replace_within};
pub(crate) use scratch_dir::ScratchDir;
pub(crate) use secret_file::read_secret;
pub(crate) use spool::Spool;

/// Random suffix for temporary names: four bytes in hexadecimal.
fn random_suffix() -> String {
    format!("{:08x}", rand::random::<u32>())
}
