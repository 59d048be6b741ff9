//! netlab: both ends of the classic socket labs in one executable.
//!
//! This is the table of contents. The promise to users is the command line, the exit codes and the
//! JSON events; the library is there for the binary, the tests and the man pages.
//!
//! ```text
//! 4  main  cli
//! 3  commands                            one room per subcommand, its flags and the wording of its events
//! 2  net  output  site  disk  host       the outside world
//! 1  http  probe  heartbeat              the rules: bytes and moments in, bytes and facts out
//! 0  stats  impair  seal  strangers  conversation  time  error  exit
//! ```
//!
//! Imports go down only, and rooms on one floor do not know one another (floor 0 may);
//! `tests/floors.rs` holds that. Three walks through the house, each down once and up once:
//!
//! - a request: `commands` → the loop of `net` → the session hands octets to `http` → a request →
//!   `site` opens what its path names → `http` writes the head → `net` sends head and file → an
//!   event for `output`;
//! - a fetch: `commands` → `net` resolves, connects, carries → `http` reads the response → the body
//!   goes to `disk` or `output` → phases into `stats` → an exit code;
//! - a ping: `commands` → the datagram loop of `net` → the sender in `probe` says "send this now" →
//!   `net` stamps and sends → reply and stamp → the sender's ledger → an event for `output` → a
//!   summary from `stats` → an exit code.

pub mod cli;
mod commands;
mod disk;
pub mod error;
pub mod exit;
mod heartbeat;
mod host;
mod http;
mod impair;
mod mac;
mod net;
mod output;
mod probe;
mod protocol;
mod rate_limit;
mod site;
mod smtp;
mod stats;
mod time;
