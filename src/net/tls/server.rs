//! TLS on the server side (certificate chain and private key), and STARTTLS upgrades on both sides.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::{Connection, ServerConfig, ServerConnection};

use super::{certificates, private_key};
use crate::failure::Result;

/// TLS configuration of a server.
#[derive(Clone, Debug)]
pub(crate) struct ServerTls(Arc<ServerConfig>);

impl ServerTls {
    /// Reads a certificate chain and its private key from PEM files.
    pub(crate) fn from_files(chain: &Path, key: &Path) -> Result<Self> {
        let certificates = certificates(chain)?;
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(certificates, private_key(key)?)
            .map_err(|error| super::key_mismatch_error(chain, key, error))?;
        Ok(Self(Arc::new(config)))
    }

    /// Sets the application protocols of ALPN (RFC 7301): a client that offers only others is rejected, so that it cannot
    /// be led to a server of another protocol (ALPACA).
    #[must_use]
    pub(crate) fn with_protocol(&self, name: &str) -> Self {
        let mut config = ServerConfig::clone(&self.0);
        config.alpn_protocols = vec![name.as_bytes().to_vec()];
        Self(Arc::new(config))
    }

    pub(super) fn new(config: Arc<ServerConfig>) -> Self {
        Self(config)
    }

    /// Creates the session of one connection.
    pub(crate) fn connection(&self) -> Connection {
        let session = ServerConnection::new(Arc::clone(&self.0)).expect("a config that was built can be used");
        Connection::Server(session)
    }
}

/// Session for a STARTTLS upgrade: a client has it ready; a server creates it only when the client asks for TLS.
#[derive(Debug)]
pub(crate) enum StartTls {
    Client(Box<Connection>),
    Server(ServerTls),
}

impl StartTls {
    pub(crate) fn into_connection(self) -> Box<Connection> {
        match self {
            Self::Client(session) => session,
            Self::Server(tls) => Box::new(tls.connection()),
        }
    }
}

/// STARTTLS upgrade that is available but has not been requested by the protocol yet.
#[derive(Debug)]
pub(crate) struct PendingStartTls {
    pub tls: StartTls,
    pub handshake_timeout: Duration,
}
