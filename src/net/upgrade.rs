//! TLS that begins within a conversation (STARTTLS).
//!
//! Owns what is kept for it until then: most connections of a server never ask.

use std::time::Duration;

use rustls::Connection;

use super::tls::ServerSide;

/// What is kept.
#[derive(Debug)]
pub struct Upgrade {
    /// The session, or what makes one.
    pub tls: Later,
    /// How long its handshake may take.
    pub handshake: Duration,
}

/// A session, or what makes one when it is needed.
#[derive(Debug)]
pub enum Later {
    /// A client's.
    Session(Box<Connection>),
    /// A server's.
    Side(ServerSide),
}

impl Later {
    /// The session.
    pub fn session(self) -> Box<Connection> {
        match self {
            Self::Session(session) => session,
            Self::Side(side) => Box::new(side.connection()),
        }
    }
}
