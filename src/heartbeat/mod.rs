//! The heartbeat's rules: beats, a sender's history, the failure detector. No socket, no clock.
//!
//! Owns both ends of the third lab. [`Beater`] says to one watcher that somebody lives; [`Watcher`]
//! hears everybody and says who does not. Both are carried by a datagram loop through
//! [`crate::conversation::Exchange`].
//!
//! ```text
//!   beater                  watcher
//!     └─ beat  the line ─▶    ├─ crowd    everybody, and their timers
//!                             ├─ record   one sender: which run of it, which state
//!                             │    ├─ gaps     what got lost
//!                             │    ├─ delay    how long beats take
//!                             │    ├─ detect   how long silence is borne
//!                             │    └─ flap     who comes and goes
//!                             ├─ report   figures; kept: what outlives a watcher
//!                             ├─ rules    how it judges
//!                             └─ fact     events; histogram: all delays
//! ```

mod beat;
mod beater;
mod crowd;
mod delay;
mod detect;
mod fact;
mod flap;
mod gaps;
mod histogram;
mod kept;
mod record;
mod report;
mod rules;
mod watcher;

#[cfg(test)]
mod weather;

pub use beat::{LARGEST, LONGEST_INTERVAL, is_name};
pub use beater::{BeatFact, BeatReport, Beater, Lifetime, Promise};
pub use detect::{Detect, Patience};
pub use fact::{Fact, Refusal, State};
pub use kept::{Kept, KeptMissed, KeptSender, VERSION};
pub use report::{Heads, SenderReport};
pub use rules::Rules;
pub use watcher::{Tally, Watcher};
