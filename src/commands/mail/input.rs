//! What is read for a message: files and standard input.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use crate::error::{Error, Result, io_error_text};
use crate::exit::Exit;

/// The octets of a file.
pub fn read_file(path: &Path) -> Result<Vec<u8>> {
    let shown = path.display();
    let failed = |error: std::io::Error| {
        Error::new(Exit::InputMissing, format!("cannot read {shown}: {}", io_error_text(&error))).with_source(error)
    };
    if fs::metadata(path).map_err(failed)?.is_dir() {
        return Err(Error::new(Exit::InputMissing, format!("cannot read {shown}: it is a directory")));
    }
    fs::read(path).map_err(failed)
}

/// All of standard input.
pub fn read_stdin() -> Result<Vec<u8>> {
    let mut octets = Vec::new();
    std::io::stdin().read_to_end(&mut octets).map_err(|error| {
        Error::new(Exit::Io, format!("cannot read standard input: {}", io_error_text(&error))).with_source(error)
    })?;
    Ok(octets)
}
