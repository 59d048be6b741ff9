//! SMTP: replies, the dialogue, logging in, the body of DATA. No socket.
//!
//! Owns what RFC 5321 and its extensions say about octets. It must not know sockets or TLS (`net`),
//! nor how a message is composed or a result worded (`commands`).
//!
//! ```text
//!   Plan ──▶ client ──▶ commands, the stuffed message ──▶ octets
//!              │  ◀── reply ◀──────────────────────────── octets
//!              ├─ offers    what EHLO says
//!              ├─ auth      PLAIN, LOGIN, XOAUTH2; scram
//!              ├─ provider  what well-known ones want of a login
//!              ├─ mailbox   addresses
//!              ├─ dsn       what is to be reported, and of what
//!              ├─ explain   a sentence for each step
//!              └─▶ facts, Done: an outcome for each recipient
//! ```

mod auth;
mod client;
mod dsn;
pub mod explain;
pub mod fault;
mod mailbox;
mod offers;
mod plan;
mod provider;
mod reply;
mod scram;
mod secret;
pub mod server;
mod stuff;

pub use auth::Mechanism;
pub use client::{Client, refusal};
pub use dsn::{LONGEST_ENVID, is_notify};
pub use mailbox::{Mailbox, host_name, is_host_name};
pub use plan::{Credentials, Done, Envelope, Fact, Outcome, Plan, Recipient, Security, Stage, Timed, Wishes, verdict};
pub use reply::Reply;
pub use secret::Secret;
pub use stuff::{bare_ends, canonical, size};
