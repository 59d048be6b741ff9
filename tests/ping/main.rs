//! `ping` and `ping-serve`: against each other, through a lossy network, and without a reply.

#[path = "../support/mod.rs"]
mod support;

mod pair;
mod server;
mod simulation;
