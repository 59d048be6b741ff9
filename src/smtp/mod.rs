//! SMTP client and server sessions without sockets (RFC 5321 and extensions).
//!
//! Owns the protocol on the byte level. Must not know sockets or TLS (`net`), nor how a message is composed or a
//! result is formatted (`commands`).
//!
//! ```text
//!   ClientConfig ──▶ client ──▶ commands, dot_stuffing ──▶ bytes
//!                      │  ◀──── reply ◀─────────────────── bytes
//!                      ├─ extensions  EHLO reply
//!                      ├─ auth        PLAIN, LOGIN, XOAUTH2; scram
//!                      ├─ provider    login advice for known providers
//!                      ├─ mailbox     addresses
//!                      ├─ dsn         parameters of delivery reports
//!                      ├─ explain     a sentence for each step
//!                      └─▶ ClientEvent, SessionResult: an outcome for each recipient
//! ```

mod auth;
mod client;
mod dot_stuffing;
mod dsn;
pub(crate) mod explain;
mod extensions;
mod mailbox;
#[cfg(test)]
mod properties;
mod reply;
mod scram;
pub(crate) mod server;
mod stage;

pub(crate) use auth::Mechanism;
pub(crate) use client::{
    ClientConfig, ClientEvent, ClientSession, Credentials, DeliveryOutcome, Envelope, RecipientStatus,
    RequestedExtensions, Security, SessionResult, StageTiming, first_rejection,
};
pub(crate) use dot_stuffing::{canonical_size, canonicalize, count_bare_line_ends};
pub(crate) use dsn::{MAX_ENVID_LENGTH, is_valid_notify};
pub(crate) use extensions::Extension;
pub(crate) use mailbox::{Mailbox, domain_or_address_literal, is_domain_or_address_literal};
pub(crate) use reply::Reply;
pub(crate) use stage::Stage;
