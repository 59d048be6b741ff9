//! TLS that begins within a conversation (STARTTLS).
//!
//! Owns what is kept for it until then: most connections of a server never ask.

use std::time::Duration;

use rustls::Connection;

use super::tls::ServerTls;

/// What is kept.
#[derive(Debug)]
pub struct PendingStartTls {
    /// The session, or what makes one.
    pub tls: StartTls,
    /// How long its handshake may take.
    pub handshake_timeout: Duration,
}

/// A session, or what makes one when it is needed.
#[derive(Debug)]
pub enum StartTls {
    /// A client's.
    Client(Box<Connection>),
    /// A server's.
    Server(ServerTls),
}

impl StartTls {
    /// The session.
    pub fn into_connection(self) -> Box<Connection> {
        match self {
            Self::Client(session) => session,
            Self::Server(side) => Box::new(side.connection()),
        }
    }
}
