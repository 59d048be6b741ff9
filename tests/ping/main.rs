//! The ping pair: the binary against itself, through a bad network, and against silence.

#[path = "../support/mod.rs"]
mod support;

mod pair;
mod server;
mod weather;
