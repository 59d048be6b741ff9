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
mod dot_stuffing;
mod dsn;
pub mod explain;
mod extensions;
pub mod fault;
mod mailbox;
mod plan;
mod provider;
mod reply;
mod scram;
mod secret;
pub mod server;

pub use auth::Mechanism;
pub use client::{ClientSession, first_rejection};
pub use dot_stuffing::{canonical_size, canonicalize, count_bare_line_ends};
pub use dsn::{MAX_ENVID_LENGTH, is_valid_notify};
pub use mailbox::{Mailbox, domain_or_address_literal, is_domain_or_address_literal};
pub use plan::{
    ClientConfig, ClientEvent, Credentials, DeliveryOutcome, Envelope, RecipientStatus, RequestedExtensions, Security,
    SessionResult, Stage, StageTiming, exit_for_recipients,
};
pub use reply::Reply;
pub use secret::Secret;
