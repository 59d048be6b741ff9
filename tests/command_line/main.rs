//! Rules that hold for every subcommand: exit codes with a reason, verbosity, ready files, signals.

#[path = "../support/mod.rs"]
mod support;

mod mistakes;
mod operator;
mod rules;
mod service;
mod suggestions;
mod waiting;
mod wrong;
