//! netlab: both ends of the classic socket labs in one executable.
pub mod cli;
mod commands;
mod conversation;
mod disk;
pub mod error;
pub mod exit;
mod host;
mod http;
mod net;
mod output;
mod site;
mod stats;
mod time;
