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
pub(crate) mod explain;
mod extensions;
mod mailbox;
mod provider;
mod reply;
mod scram;
pub(crate) mod server;
mod stage;

pub(crate) use auth::Mechanism;
pub(crate) use client::{
    ClientConfig, ClientEvent, ClientSession, Credentials, DeliveryOutcome, Envelope, RecipientStatus,
    RequestedExtensions, Security, SessionResult, StageTiming, exit_for_recipients, first_rejection,
};
pub(crate) use dot_stuffing::{canonical_size, canonicalize, count_bare_line_ends};
pub(crate) use dsn::{MAX_ENVID_LENGTH, is_valid_notify};
pub(crate) use mailbox::{Mailbox, domain_or_address_literal, is_domain_or_address_literal};
pub(crate) use reply::Reply;
pub(crate) use stage::Stage;
